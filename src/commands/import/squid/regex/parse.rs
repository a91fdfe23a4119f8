//! POSIX extended regular expressions, as the C library reads them for Squid: from text to a tree.
//!
//! What the C library reads in a way of its own, or not at all, is refused. Not here: what a tree fits ([`super::automaton`]).

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, Look, Repetition};

/// Groups within groups.
const MAX_DEPTH: usize = 32;
/// The most that a count may be.
const MAX_COUNT: u32 = 255;

/// A part of a pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// One of these bytes.
    Bytes(ByteSet),
    /// The beginning, the end, the border of a word.
    At(Look),
    /// One after the other.
    All(Vec<Part>),
    /// One of them.
    One(Vec<Part>),
    /// So many times; without a most, any number.
    Times(Box<Part>, u32, Option<u32>),
}

/// A set of bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ByteSet(Vec<bool>);

impl ByteSet {
    fn of(wanted: impl Fn(u8) -> bool) -> Self {
        ByteSet((0..=u8::MAX).map(wanted).collect())
    }

    fn any() -> Self {
        ByteSet::of(|_| true)
    }

    /// Whether it is what `.` stands for.
    pub(super) fn is_any(&self) -> bool {
        !self.0.contains(&false)
    }

    /// Those of a host that are in it: no capital letter is.
    pub(super) fn of_hosts(&self) -> impl Iterator<Item = u8> {
        let wanted = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        self.bytes().filter(wanted)
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|byte| self.has(*byte))
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)) == Some(&true)
    }

    /// With both cases of each letter.
    fn folded(&self) -> Self {
        ByteSet::of(|byte| self.has(byte.to_ascii_lowercase()) || self.has(byte.to_ascii_uppercase()))
    }
}

impl Part {
    /// As the library for automata takes it.
    pub(super) fn hir(&self) -> Hir {
        match self {
            Part::Bytes(set) => {
                let ranges = set.bytes().map(|byte| ClassBytesRange::new(byte, byte));
                Hir::class(Class::Bytes(ClassBytes::new(ranges)))
            }
            Part::At(look) => Hir::look(*look),
            Part::All(parts) => Hir::concat(parts.iter().map(Part::hir).collect()),
            Part::One(parts) => Hir::alternation(parts.iter().map(Part::hir).collect()),
            Part::Times(part, min, max) => {
                Hir::repetition(Repetition { min: *min, max: *max, greedy: true, sub: Box::new(part.hir()) })
            }
        }
    }
}

/// Reads a pattern; with `folded`, both cases of a letter are one.
pub(super) fn parse(pattern: &str, folded: bool) -> Option<Part> {
    if !pattern.is_ascii() || pattern.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let mut reader = Reader { rest: pattern.as_bytes(), folded };
    let part = reader.alternatives(0)?;
    reader.rest.is_empty().then_some(part)
}

struct Reader<'a> {
    rest: &'a [u8],
    folded: bool,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        if is {
            self.next();
        }
        is
    }

    fn alternatives(&mut self, depth: usize) -> Option<Part> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut branches = vec![self.branch(depth)?];
        while self.takes(b'|') {
            branches.push(self.branch(depth)?);
        }
        match branches.len() {
            1 => branches.pop(),
            _ => Some(Part::One(branches)),
        }
    }

    fn branch(&mut self, depth: usize) -> Option<Part> {
        let mut parts = Vec::new();
        while !matches!(self.peek(), None | Some(b'|' | b')')) {
            let part = self.atom(depth)?;
            parts.push(self.counted(part)?);
        }
        Some(Part::All(parts))
    }

    fn atom(&mut self, depth: usize) -> Option<Part> {
        match self.next()? {
            b'(' => {
                let group = self.alternatives(depth + 1)?;
                self.takes(b')').then_some(group)
            }
            b'[' => self.bracket(),
            b'.' => Some(Part::Bytes(ByteSet::any())),
            b'^' => Some(Part::At(Look::Start)),
            b'$' => Some(Part::At(Look::End)),
            b'\\' => self.escaped(),
            // A count of nothing.
            b'*' | b'+' | b'?' | b'{' => None,
            byte => Some(self.literal(byte)),
        }
    }

    fn literal(&self, byte: u8) -> Part {
        self.bytes(ByteSet::of(|other| other == byte))
    }

    fn bytes(&self, set: ByteSet) -> Part {
        Part::Bytes(if self.folded { set.folded() } else { set })
    }

    /// What GNU's C library knows behind a backslash; what it does not know stands for itself.
    fn escaped(&mut self) -> Option<Part> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
        Some(match self.next()? {
            b'w' => Part::Bytes(ByteSet::of(word)),
            b'W' => Part::Bytes(ByteSet::of(|byte| !word(byte))),
            b's' => Part::Bytes(ByteSet::of(space)),
            b'S' => Part::Bytes(ByteSet::of(|byte| !space(byte))),
            b'b' => Part::At(Look::WordAscii),
            b'B' => Part::At(Look::WordAsciiNegate),
            b'<' => Part::At(Look::WordStartAscii),
            b'>' => Part::At(Look::WordEndAscii),
            // Back references, and the ends of the buffer.
            b'0'..=b'9' | b'`' | b'\'' => return None,
            byte => self.literal(byte),
        })
    }

    fn bracket(&mut self) -> Option<Part> {
        let negated = self.takes(b'^');
        let mut members = vec![false; 256];
        let mut first = true;
        loop {
            let low = self.next()?;
            if low == b']' && !first {
                break;
            }
            first = false;
            if low == b'[' && matches!(self.peek(), Some(b':' | b'.' | b'=')) {
                let class = self.class()?;
                for (member, byte) in members.iter_mut().zip(0..=u8::MAX) {
                    *member |= class(byte);
                }
                continue;
            }
            let high = match self.rest {
                [b'-', high, ..] if *high != b']' => {
                    let high = *high;
                    self.rest = self.rest.get(2..)?;
                    if high == b'[' && matches!(self.peek(), Some(b':' | b'.' | b'=')) {
                        return None;
                    }
                    high
                }
                _ => low,
            };
            if high < low {
                return None;
            }
            for byte in low..=high {
                *members.get_mut(usize::from(byte))? = true;
            }
        }
        let set = ByteSet(members);
        let set = if self.folded { set.folded() } else { set };
        Some(Part::Bytes(if negated { ByteSet::of(|byte| !set.has(byte)) } else { set }))
    }

    /// `[:alpha:]` and its like, behind the first bracket.
    fn class(&mut self) -> Option<fn(u8) -> bool> {
        let rest = self.rest.strip_prefix(b":")?;
        let end = rest.windows(2).position(|two| two == b":]")?;
        let (name, after) = rest.split_at_checked(end)?;
        self.rest = after.get(2..)?;
        Some(match name {
            b"alpha" => |byte| byte.is_ascii_alphabetic(),
            b"digit" => |byte| byte.is_ascii_digit(),
            b"alnum" => |byte| byte.is_ascii_alphanumeric(),
            b"lower" => |byte| byte.is_ascii_lowercase(),
            b"upper" => |byte| byte.is_ascii_uppercase(),
            b"punct" => |byte| byte.is_ascii_punctuation(),
            b"xdigit" => |byte| byte.is_ascii_hexdigit(),
            _ => return None,
        })
    }

    fn counted(&mut self, part: Part) -> Option<Part> {
        let mut part = part;
        loop {
            let (min, max) = match self.peek() {
                Some(b'*') => (0, None),
                Some(b'+') => (1, None),
                Some(b'?') => (0, Some(1)),
                Some(b'{') => {
                    self.next();
                    let counts = self.counts()?;
                    part = times(part, counts)?;
                    continue;
                }
                _ => return Some(part),
            };
            self.next();
            part = times(part, (min, max))?;
        }
    }

    /// `2}`, `2,}`, `2,3}`.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let end = self.rest.iter().position(|byte| *byte == b'}')?;
        let (inside, after) = self.rest.split_at_checked(end)?;
        self.rest = after.get(1..)?;
        let inside = std::str::from_utf8(inside).ok()?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|number| digits && *number <= MAX_COUNT)
        };
        match inside.split_once(',') {
            None => number(inside).map(|count| (count, Some(count))),
            Some((min, "")) => Some((number(min)?, None)),
            Some((min, max)) => {
                Some((number(min)?, Some(number(max)?))).filter(|(min, max)| Some(*min) <= *max)
            }
        }
    }
}

/// A place has no number of times.
fn times(part: Part, (min, max): (u32, Option<u32>)) -> Option<Part> {
    match part {
        Part::At(_) => None,
        part => Some(Part::Times(Box::new(part), min, max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_c_library_reads_otherwise_is_refused() {
        let refused = [
            "*example",
            "(",
            ")",
            "a)|(b",
            "(?:zoom)",
            "(?i)zoom",
            r"(o)\1",
            "a{1",
            "a{x}",
            "{2}",
            "a{2,1}",
            "^*",
            r"\b+",
            "[z-a]",
            "[",
            "[a",
            "[[.a.]]",
            "[[=a=]]",
            "[[:word:]]",
            r"a\",
            "caf\u{e9}",
            r"\`a",
            "a{1,999}",
            "|*",
        ];
        for pattern in refused {
            assert_eq!(parse(pattern, false), None, "{pattern}");
        }
        let deep = "(".repeat(40) + &")".repeat(40);
        assert_eq!(parse(&deep, false), None);
        for pattern in
            ["", "()", "|zoom", "a**", "a+?", "[]z]", "[^]]", "[a-]", r"\d", r"\zoom", r"[\.]", "}"]
        {
            assert!(parse(pattern, false).is_some(), "{pattern}");
        }
    }
}
