//! Squid's `logformat` language: `%` codes with their modifiers, if egressd has the value of the code.
//!
//! Pure code: text to pieces, or one sentence that says which code is wrong and what to write instead. The text comes
//! from the operator. Not here: the value of a code in a record ([`crate::telemetry::squid`]).
//!
//! A code is `%`, a quoting character, `-` for left, `0` for zeros, a width, `.` and a maximum length, `{argument}`,
//! the code's name, and `{argument}` if there was none before: <http://www.squid-cache.org/Doc/config/logformat/>. A
//! quote or a bracket in the text around a code quotes it too, as Squid does.

mod codes;
#[cfg(test)]
mod tests;

use std::fmt;

pub use codes::{Moment, Note, What};

/// The maximum length of a format, in bytes.
const LONGEST: usize = 4096;
/// The maximum width of a field.
const WIDEST: usize = 1024;

/// A format that can be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Logformat {
    /// In the order of the text.
    pub pieces: Vec<Piece>,
}

/// Literal text, or a code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// As it was written.
    Literal(Box<str>),
    /// A code that is replaced by its value.
    Code(Code),
}

/// One code with its modifiers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Code {
    /// What it stands for.
    pub what: What,
    /// How bytes from outside are escaped.
    pub quoting: Quoting,
    /// The value is padded on the right.
    pub left: bool,
    /// A number is padded with zeros.
    pub zero: bool,
    /// The minimum width, in bytes; 0 for none.
    pub width: usize,
    /// The maximum length of a text, in bytes.
    pub longest: Option<usize>,
}

/// How bytes from outside are escaped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quoting {
    /// The default: bytes that a URL cannot contain are written as `%XX`.
    None,
    /// `"`: with backslashes, for use between double quotes.
    Quotes,
    /// `[`: as in Squid's `log_mime_hdrs`, for use between brackets.
    Brackets,
    /// `#`: as [`Quoting::None`], and `%` itself is escaped too.
    Url,
    /// `'`: unchanged, except for characters that could end a line or control a terminal.
    Raw,
}

/// Why a format cannot be written, and what to write instead. One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormatError(pub String);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormatError {}

/// Squid's own format of this name, `squid`.
pub const NATIVE: &str = "%ts.%03tu %6tr %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt";

impl Logformat {
    /// Reads a format.
    ///
    /// # Errors
    /// The first code that does not exist, or whose value egressd does not have.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if text.len() > LONGEST {
            return Err(FormatError(format!("the format is longer than {LONGEST} bytes: shorten it")));
        }
        if text.contains(char::is_control) {
            return Err(FormatError(
                "the format contains a control character, which would break the line: remove it".to_owned(),
            ));
        }
        let mut pieces = Vec::new();
        // The quote or bracket that the text around the codes has opened.
        let mut around = Quoting::None;
        let mut rest = text;
        while !rest.is_empty() {
            let literal = rest.find('%').unwrap_or(rest.len());
            if literal > 0 {
                let (before, after) = rest.split_at(literal);
                around = before.chars().fold(around, open_or_close);
                pieces.push(Piece::Literal(before.into()));
                rest = after;
                continue;
            }
            let (code, after) = code(rest, around).map_err(|why| at(text, rest, &why))?;
            pieces.push(match code.what {
                What::Percent => Piece::Literal("%".into()),
                _ => Piece::Code(code),
            });
            rest = after;
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Code(_))) {
            return Err(FormatError(
                "the format has no % code, so every line would be the same: add one, such as %>a".to_owned(),
            ));
        }
        Ok(Logformat { pieces })
    }
}

fn open_or_close(around: Quoting, character: char) -> Quoting {
    match (around, character) {
        (Quoting::None, '"') => Quoting::Quotes,
        (Quoting::None, '[') => Quoting::Brackets,
        (Quoting::Quotes, '"') | (Quoting::Brackets, ']') => Quoting::None,
        _ => around,
    }
}

/// The error with the code and its position in the format.
fn at(text: &str, rest: &str, why: &str) -> FormatError {
    let column = text.len() - rest.len();
    let column = text.get(..column).unwrap_or_default().chars().count() + 1;
    let shown: String = rest.chars().take_while(|character| *character != ' ').take(24).collect();
    FormatError(format!("`{shown}`, character {column} of the format: {why}"))
}

/// The code that `text` begins with, and what follows it.
fn code(text: &str, around: Quoting) -> Result<(Code, &str), String> {
    let mut rest = text.strip_prefix('%').unwrap_or(text);
    let mut quoting = around;
    let quotes =
        [('"', Quoting::Quotes), ('[', Quoting::Brackets), ('#', Quoting::Url), ('\'', Quoting::Raw)];
    if let Some((after, chosen)) =
        quotes.iter().find_map(|(character, quoting)| Some((rest.strip_prefix(*character)?, *quoting)))
    {
        (rest, quoting) = (after, chosen);
    } else if rest.starts_with('/') {
        return Err("shell quoting is not supported: write %\" instead of %/".to_owned());
    }
    let left = take(&mut rest, '-');
    let zero = take(&mut rest, '0');
    let width = number(&mut rest)?.unwrap_or(0);
    let mut longest = None;
    if take(&mut rest, '.') {
        longest = Some(number(&mut rest)?.ok_or("a number must follow the dot, as in %.20ru")?);
    }
    let before = argument(&mut rest)?;
    let (name, mut rest) = codes::split(rest)?;
    let argument = match before {
        None => argument(&mut rest)?,
        before => before,
    };
    let what = codes::what(name, argument)?;
    if longest.is_some() && what.is_number() {
        return Err(format!(
            "a maximum length is for text, and %{name} is a number: remove the `.` and the length"
        ));
    }
    Ok((Code { what, quoting, left, zero, width, longest }, rest))
}

fn take(rest: &mut &str, character: char) -> bool {
    match rest.strip_prefix(character) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn number(rest: &mut &str) -> Result<Option<usize>, String> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    if number.is_empty() {
        return Ok(None);
    }
    match number.parse::<usize>() {
        Ok(number) if number <= WIDEST => Ok(Some(number)),
        _ => Err(format!("a width must be at most {WIDEST}")),
    }
}

fn argument<'t>(rest: &mut &'t str) -> Result<Option<&'t str>, String> {
    let Some(inside) = rest.strip_prefix('{') else { return Ok(None) };
    let (argument, after) = inside.split_once('}').ok_or("the `{` is not closed: write `}` after it")?;
    *rest = after;
    Ok(Some(argument))
}
