//! Paths of requests: which are read in one way by every program, and which of them a pattern of a rule stands for.
//!
//! A path is compared as it was sent, segment by segment and case by case: nothing is decoded, and nothing is brought to
//! another form. So a path that a server may read as another one than the one that was compared is refused: [`check`]. In a
//! pattern, `*` stands for one or more characters within one segment, and `**` as the last segment for everything that begins
//! with what is before it: `/v1/**` matches `/v1/` and `/v1/a/b`, not `/v1`. Comparing takes time linear in the path.

use std::fmt;

use crate::words::quote::quoted;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 4096;
/// Blanks to some programs although they are no white space: a space without width, and the mark of byte order.
const INVISIBLE: [char; 2] = ['\u{200b}', '\u{feff}'];

/// Why a path is refused: programs read it in more than one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// `//`.
    EmptySegment,
    /// `.` or `..` as a segment.
    DotSegment,
    /// A segment of blanks, or of dots and blanks: servers that trim blanks are left with `..` or nothing.
    BlankSegment,
    /// A byte that has no place in a path: `;`, `\`, `?`, `#`, a space, a control, not ASCII.
    Byte(u8),
    /// `%` without two hexadecimal digits after it.
    Percent,
    /// `%` and two digits for a byte that is to be written itself, or is refused in any form.
    Encoded(u8),
    /// `%25` and two digits: encoded twice.
    EncodedTwice,
    /// Encoded bytes that are not UTF-8.
    NotUtf8,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathError::NotAbsolute => f.write_str("it does not begin with `/`"),
            PathError::EmptySegment => f.write_str("it has `//`"),
            PathError::DotSegment => f.write_str("it has the segment `.` or `..`"),
            PathError::BlankSegment => {
                f.write_str("it has a segment of encoded blanks, or of dots and blanks")
            }
            PathError::Byte(byte) if byte.is_ascii_graphic() => write!(f, "it has `{}`", char::from(*byte)),
            PathError::Byte(b' ') => f.write_str("it has a space"),
            PathError::Byte(0x80..) => f.write_str("it has a character that is not ASCII"),
            PathError::Byte(_) => f.write_str("it has a control character"),
            PathError::Percent => f.write_str("it has `%` without two hexadecimal digits"),
            PathError::Encoded(byte) if byte.is_ascii_graphic() => {
                write!(f, "it has `{}` as %{byte:02X}", char::from(*byte))
            }
            PathError::Encoded(byte) => write!(f, "it has a control character as %{byte:02X}"),
            PathError::EncodedTwice => f.write_str("it has a percent sign as %25 before two digits"),
            PathError::NotUtf8 => f.write_str("it has encoded bytes that are not UTF-8"),
        }
    }
}

/// Whether every program reads `path`, which is without its query, in the same way.
///
/// # Errors
/// The first thing in it that is read in several ways.
pub fn check(path: &str) -> Result<(), PathError> {
    let Some(rest) = path.strip_prefix('/') else { return Err(PathError::NotAbsolute) };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        // The last one may be empty: the path ends with `/`.
        if segment.is_empty() && segments.peek().is_some() {
            return Err(PathError::EmptySegment);
        }
        if segment == "." || segment == ".." {
            return Err(PathError::DotSegment);
        }
        check_segment(segment.as_bytes())?;
        if is_blank(segment) {
            return Err(PathError::BlankSegment);
        }
    }
    Ok(())
}

fn check_segment(mut rest: &[u8]) -> Result<(), PathError> {
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            b'%' => encoded_character(rest)?,
            b'\\' | b';' | b'?' | b'#' => return Err(PathError::Byte(first)),
            _ if !first.is_ascii_graphic() => return Err(PathError::Byte(first)),
            _ => after,
        };
    }
    Ok(())
}

/// Whether a segment that passed [`check_segment`] is `..` or nothing for a server that trims blanks, or dots and blanks as
/// Windows does. Some servers take `+` for a blank; alone it stands in many paths (`/+/`).
fn is_blank(segment: &str) -> bool {
    if !segment.contains(['%', '+']) {
        return false;
    }
    let text = decoded(segment);
    let is_blank = |c: char| c.is_whitespace() || INVISIBLE.contains(&c);
    let has_dots = text.contains('.');
    let has_blanks = text.contains(is_blank) || has_dots && text.contains('+');
    has_blanks && text.chars().all(|c| c == '.' || is_blank(c) || c == '+' && has_dots)
}

/// Without encoding, of a segment that passed [`check_segment`].
fn decoded(segment: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), segment.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = encoded_byte(rest).unwrap_or((first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one encoded character, and returns what follows it.
fn encoded_character(at: &[u8]) -> Result<&[u8], PathError> {
    let (byte, rest) = encoded_byte(at).ok_or(PathError::Percent)?;
    let length = match byte {
        b'%' if rest.iter().take(2).filter(|byte| byte.is_ascii_hexdigit()).count() == 2 => {
            return Err(PathError::EncodedTwice);
        }
        b'/' | b'\\' | b';' | b'-' | b'.' | b'_' | b'~' => return Err(PathError::Encoded(byte)),
        _ if byte.is_ascii_alphanumeric() || byte.is_ascii_control() => {
            return Err(PathError::Encoded(byte));
        }
        0..0x80 => return Ok(rest),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Err(PathError::NotUtf8),
    };
    let mut character = [byte, 0, 0, 0];
    let mut rest = rest;
    for place in character.iter_mut().take(length).skip(1) {
        (*place, rest) = encoded_byte(rest).ok_or(PathError::NotUtf8)?;
    }
    match std::str::from_utf8(&character[..length]) {
        // U+0080 to U+009F are controls too.
        Ok(text) if !text.contains(char::is_control) => Ok(rest),
        Ok(_) => Err(PathError::Encoded(byte)),
        Err(_) => Err(PathError::NotUtf8),
    }
}

fn encoded_byte(at: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match at {
        [b'%', high, low, rest @ ..] => Some((digit(*high)? << 4 | digit(*low)?, rest)),
        _ => None,
    }
}

/// Why a text is no pattern; shown with what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathPatternError {
    /// The number of bytes before the fault.
    pub offset: usize,
    text: String,
}

impl fmt::Display for PathPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Paths that a rule allows, as written: `/status`, `/v1/*/items`, `/v1/**`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathPattern {
    text: Box<str>,
    form: Form,
}

/// How a pattern is compared.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Form {
    /// The path itself.
    Exact,
    /// Everything that begins with the text before `**`.
    Under,
    /// Segment by segment; `under`: more segments follow, at least one, which may be empty.
    Segments { segments: Box<[Segment]>, under: bool },
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Segment {
    Text(Box<str>),
    /// The pieces between the `*`, the first and the last possibly empty.
    Pieces(Box<[Box<str>]>),
}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`PathPatternError`]: it is not a pattern, or no request that passes [`check`] could match it.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let error = |offset: usize, text: String| Err(PathPatternError { offset, text });
        if text.len() > MAX_PATTERN {
            return error(0, format!("a path has at most {MAX_PATTERN} bytes"));
        }
        if !text.starts_with('/') {
            return error(
                0,
                "a path begins with `/`: write it from the host on, as in `/v1/status`".to_owned(),
            );
        }
        if let Some(at) = text.find(['?', '#']) {
            let before = text.get(..at).unwrap_or_default();
            return error(
                at,
                format!(
                    "`paths` says nothing of the query, and a fragment is never sent: write {}",
                    quoted(before)
                ),
            );
        }
        let body = text.strip_suffix("/**").unwrap_or(text);
        if let Some(at) = body.find("**") {
            return error(
                at,
                "`**` stands alone at the end, as in `/v1/**`; within a path write `*`, which is for one segment"
                    .to_owned(),
            );
        }
        // `**` is a segment like any other for what is ambiguous.
        if let Err(wrong) = check(text) {
            let (offset, advice) = advice(text, wrong);
            return error(offset, format!("{wrong}: {advice}"));
        }
        let under = body.len() < text.len();
        let form = if !body.contains('*') {
            if under { Form::Under } else { Form::Exact }
        } else {
            let segments = body.split('/').skip(1).map(|segment| match segment.contains('*') {
                true => Segment::Pieces(segment.split('*').map(Box::from).collect()),
                false => Segment::Text(segment.into()),
            });
            Form::Segments { segments: segments.collect(), under }
        };
        Ok(PathPattern { text: text.into(), form })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text before the first `*`.
    pub fn literal_start(&self) -> &str {
        self.text.split('*').next().unwrap_or_default()
    }

    /// Whether it stands for `path`, which passed [`check`].
    pub fn matches(&self, path: &str) -> bool {
        match &self.form {
            Form::Exact => *self.text == *path,
            Form::Under => path.starts_with(self.literal_start()),
            Form::Segments { segments, under } => {
                let Some(path) = path.strip_prefix('/') else { return false };
                let mut sent = path.split('/');
                let all =
                    segments.iter().all(|segment| sent.next().is_some_and(|sent| segment.matches(sent)));
                all && sent.next().is_some() == *under
            }
        }
    }
}

impl PathPattern {
    /// Whether every path that `other` stands for is one that `self` stands for. `false`: that is not certain.
    pub fn covers(&self, other: &PathPattern) -> bool {
        match &self.form {
            Form::Exact => self.text == other.text,
            Form::Under => other.literal_start().starts_with(self.literal_start()),
            Form::Segments { segments, under } => {
                // A `*` of `other` is one or more characters, so it is covered where a `*` of `self` takes it as a character.
                let (body, other_under) = match other.text.strip_suffix("/**") {
                    Some(body) => (body, true),
                    None => (&*other.text, false),
                };
                let mut rest = body.split('/').skip(1);
                let all =
                    segments.iter().all(|segment| rest.next().is_some_and(|rest| segment.matches(rest)));
                let more = rest.next().is_some() || other_under;
                all && if *under { more } else { !more }
            }
        }
    }

    /// A path that it stands for, and that no other pattern stands for by chance.
    pub fn example(&self) -> String {
        self.text.replace("/**", "/~example~/~example~").replace('*', "~example~")
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    fn matches(&self, sent: &str) -> bool {
        match self {
            Segment::Text(text) => **text == *sent,
            Segment::Pieces(pieces) => pieces_match(pieces, sent).is_some(),
        }
    }
}

/// The first place of each piece is as good as any later one: what follows has the more room.
fn pieces_match(pieces: &[Box<str>], sent: &str) -> Option<()> {
    let (first, rest) = pieces.split_first()?;
    let (last, between) = rest.split_last()?;
    let mut sent = sent.strip_prefix(&**first)?.strip_suffix(&**last)?;
    for piece in between {
        // Each `*` takes one character at least.
        let after = sent.get(1..)?;
        let at = after.find(&**piece)?;
        sent = after.get(at + piece.len()..)?;
    }
    (!sent.is_empty()).then_some(())
}

/// Where the fault is, and what to write instead.
fn advice(text: &str, wrong: PathError) -> (usize, String) {
    let find = |part: &str| text.find(part).unwrap_or(0);
    let refused = "a request with it is refused in any case (bad_target)".to_owned();
    let segment_at = |is_wrong: fn(&str) -> bool| {
        let mut at = 0;
        for segment in text.split('/') {
            if is_wrong(segment) {
                return at;
            }
            at += segment.len() + 1;
        }
        0
    };
    match wrong {
        PathError::NotAbsolute => (0, "begin with `/`".to_owned()),
        PathError::EmptySegment => {
            (find("//"), "write one `/`; a request with two is refused (bad_target)".to_owned())
        }
        PathError::DotSegment => {
            let offset = segment_at(|segment| matches!(segment, "." | ".."));
            (offset, format!("write the path that it leads to; {refused}"))
        }
        PathError::BlankSegment => (segment_at(is_blank), refused),
        PathError::Byte(b'\\' | b';') => (text.find(['\\', ';']).unwrap_or(0), refused),
        PathError::Byte(_) => {
            let wrong = text.char_indices().find(|(_, c)| !c.is_ascii_graphic());
            let (offset, wrong) = wrong.unwrap_or((0, ' '));
            let mut buffer = [0; 4];
            let encoded: String =
                wrong.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")).collect();
            let advice = match wrong.is_control() {
                true => refused,
                false => format!("write `{encoded}`, as it is sent"),
            };
            (offset, advice)
        }
        PathError::Percent => (find("%"), "write `%25` for the percent sign itself".to_owned()),
        PathError::Encoded(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
            let at = encoded_at(text, byte);
            (at, format!("write `{}` itself; {refused}", char::from(byte)))
        }
        PathError::Encoded(byte) => (encoded_at(text, byte), refused),
        PathError::EncodedTwice => (find("%25"), refused),
        PathError::NotUtf8 => (find("%"), format!("write the bytes of UTF-8; {refused}")),
    }
}

/// Where `byte` is encoded in `text`.
fn encoded_at(text: &str, byte: u8) -> usize {
    let places = text.match_indices('%').map(|(at, _)| at);
    let mut of_byte = places.filter(|&at| {
        let encoded = text.as_bytes().get(at..).and_then(encoded_byte);
        encoded.is_some_and(|(found, _)| found == byte)
    });
    of_byte.next().unwrap_or(0)
}

#[cfg(test)]
mod tests;
