//! JSON in its canonical form (RFC 8785): members by name, numbers and escapes in one spelling, no space between them.
//!
//! An [`Object`] is read from a line and written again, whole or without some of its members. What the form cannot say
//! is refused: two members of one name, half a surrogate pair, a number that is no double (RFC 7493). Lines of one log
//! have their members in one order, so the order by name is kept from line to line and only looked at again: of a record
//! with 37 members, sorting would cost more than all the rest. Not here: what is hashed and signed ([`super::seal`]).

mod number;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use memchr::memchr2;

/// Objects and lists inside of each other: more than any record has, and little stack.
const DEEPEST: usize = 64;

/// Not JSON, or JSON that has no canonical form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a JSON object with a canonical form")]
pub struct NotCanonical;

/// One object, member by member. Made to be used again: it keeps its memory.
#[derive(Default, Debug)]
pub struct Object {
    /// Its members with commas between them, each in canonical form, in the order of the text.
    text: Vec<u8>,
    members: Vec<Member>,
    /// The members by name; of the object before, until that proves wrong.
    order: Vec<usize>,
    spare: Vec<u8>,
}

/// Where a member is in the text: `"name":value`.
#[derive(Clone, Copy, Debug)]
struct Member {
    start: usize,
    colon: usize,
    end: usize,
    /// The first bytes of the name, so that most comparisons need no more.
    prefix: u64,
    /// The name has no escape and nothing beyond ASCII: its bytes have the order of its UTF-16.
    is_plain: bool,
}

impl Object {
    /// Nothing read yet.
    pub fn new() -> Self {
        Object::default()
    }

    /// Reads an object that is all of `text`, but for space around it.
    ///
    /// # Errors
    /// [`NotCanonical`]; then it has no members.
    pub fn read(&mut self, text: &[u8]) -> Result<(), NotCanonical> {
        self.text.clear();
        self.members.clear();
        let read = self.members_of(text).and_then(|()| self.sort());
        if read.is_err() {
            self.members.clear();
            self.order.clear();
        }
        read
    }

    fn members_of(&mut self, text: &[u8]) -> Result<(), NotCanonical> {
        // The strings are copied as they are.
        std::str::from_utf8(text).map_err(|_| NotCanonical)?;
        let mut parser =
            Parser { text, at: 0, out: &mut self.text, members: &mut self.members, spare: &mut self.spare };
        parser.space();
        parser.expect(b'{')?;
        parser.members(0)?;
        parser.space();
        if parser.at == text.len() { Ok(()) } else { Err(NotCanonical) }
    }

    fn sort(&mut self) -> Result<(), NotCanonical> {
        let (members, text) = (&self.members, &self.text);
        // As many as there are members: each is one of them.
        let ascends = |order: &[usize]| ascend(order.iter().filter_map(|at| members.get(*at)), text);
        if self.order.len() != members.len() || !ascends(&self.order) {
            self.order.clear();
            self.order.extend(0..members.len());
            self.order.sort_unstable_by(|a, b| match (members.get(*a), members.get(*b)) {
                (Some(a), Some(b)) => compare(a, b, text),
                _ => Ordering::Equal,
            });
            if !ascends(&self.order) {
                return Err(NotCanonical);
            }
        }
        Ok(())
    }

    /// The canonical form of the value of this member. The name is plain.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let member = self.members.iter().find(|member| self.name(member) == name.as_bytes())?;
        self.text.get(member.colon + 1..member.end)
    }

    /// A number that is the same for members of the same names in the same order, and else most likely another one.
    pub fn shape(&self) -> u64 {
        self.members.iter().fold(0, |shape: u64, member| {
            let name = member.prefix ^ (member.colon - member.start) as u64;
            (shape.rotate_left(5) ^ name).wrapping_mul(0x517c_c1b7_2722_0a95)
        })
    }

    fn name(&self, member: &Member) -> &[u8] {
        name(member, &self.text)
    }

    /// Appends the canonical form of the object with those members alone whose name is wanted.
    pub fn write(&self, out: &mut Vec<u8>, wanted: impl Fn(&[u8]) -> bool) {
        self.write_with(out, |name, _| wanted(name), None);
    }

    /// The same, where it depends on the canonical form of a value too whether its member is wanted. With `other`, the member of
    /// that name has that value instead of its own.
    pub fn write_with(
        &self,
        out: &mut Vec<u8>,
        wanted: impl Fn(&[u8], &[u8]) -> bool,
        other: Option<(&str, &[u8])>,
    ) {
        out.reserve(self.text.len() + 2);
        out.push(b'{');
        let mut is_first = true;
        for member in self.order.iter().filter_map(|at| self.members.get(*at)) {
            let name = self.name(member);
            if !wanted(name, self.text.get(member.colon + 1..member.end).unwrap_or_default()) {
                continue;
            }
            if !std::mem::replace(&mut is_first, false) {
                out.push(b',');
            }
            match other {
                Some((other, value)) if other.as_bytes() == name => {
                    out.extend_from_slice(self.text.get(member.start..=member.colon).unwrap_or_default());
                    out.extend_from_slice(value);
                }
                _ => out.extend_from_slice(self.text.get(member.start..member.end).unwrap_or_default()),
            }
        }
        out.push(b'}');
    }

    /// The canonical forms of its members' names, without quotes, and values.
    pub fn members(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.members.iter().map(|member| {
            (self.name(member), self.text.get(member.colon + 1..member.end).unwrap_or_default())
        })
    }
}

fn name<'t>(member: &Member, text: &'t [u8]) -> &'t [u8] {
    text.get(member.start + 1..member.colon - 1).unwrap_or_default()
}

/// Whether the members come in the order of their names, none twice.
fn ascend<'m>(members: impl IntoIterator<Item = &'m Member>, text: &[u8]) -> bool {
    let mut before: Option<&Member> = None;
    members.into_iter().all(|member| {
        let larger = before.is_none_or(|before| compare(before, member, text) == Ordering::Less);
        before = Some(member);
        larger
    })
}

/// By the UTF-16 of the names (RFC 8785 §3.2.3).
fn compare(a: &Member, b: &Member, text: &[u8]) -> Ordering {
    if a.is_plain && b.is_plain {
        return a.prefix.cmp(&b.prefix).then_with(|| name(a, text).cmp(name(b, text)));
    }
    let units = |member: &Member| -> Vec<u16> {
        let quoted = text.get(member.start..member.colon).unwrap_or_default();
        serde_json::from_slice::<String>(quoted).unwrap_or_default().encode_utf16().collect()
    };
    units(a).cmp(&units(b))
}

/// Reads JSON, and appends its canonical form to `out`.
struct Parser<'t, 'o> {
    text: &'t [u8],
    at: usize,
    out: &'o mut Vec<u8>,
    /// Of the object that is read and, in front of it, of those around it.
    members: &'o mut Vec<Member>,
    spare: &'o mut Vec<u8>,
}

impl Parser<'_, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotCanonical> {
        if self.peek() != Some(byte) {
            return Err(NotCanonical);
        }
        self.at += 1;
        Ok(())
    }

    /// The members of an object and the brace that ends it; they are left in `members`. No brace is written, but for those of values.
    fn members(&mut self, depth: usize) -> Result<(), NotCanonical> {
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut comma: &[u8] = b"";
        loop {
            self.space();
            self.out.extend_from_slice(std::mem::replace(&mut comma, b","));
            let start = self.out.len();
            let is_plain = self.string()?;
            let colon = self.out.len();
            self.space();
            self.expect(b':')?;
            self.out.push(b':');
            self.value(depth + 1)?;
            let name = self.out.get(start + 1..colon - 1).unwrap_or_default();
            let mut first = [0; 8];
            for (to, from) in first.iter_mut().zip(name) {
                *to = *from;
            }
            let prefix = u64::from_be_bytes(first);
            self.members.push(Member { start, colon, end: self.out.len(), prefix, is_plain });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(NotCanonical),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), NotCanonical> {
        self.space();
        match self.peek().ok_or(NotCanonical)? {
            b'"' => self.string().map(|_| ()),
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                self.at += number::write(rest, self.out).ok_or(NotCanonical)?;
                Ok(())
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotCanonical> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(NotCanonical);
        }
        self.at += word.len();
        self.out.extend_from_slice(word);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), NotCanonical> {
        if depth > DEEPEST {
            return Err(NotCanonical);
        }
        self.expect(b'{')?;
        self.out.push(b'{');
        let (begin, outer) = (self.out.len(), self.members.len());
        self.members(depth)?;
        let inner = self.members.get_mut(outer..).unwrap_or_default();
        // As egressd writes them, they have their order already.
        if !ascend(inner.iter(), self.out) {
            inner.sort_unstable_by(|a, b| compare(a, b, self.out));
            if !ascend(inner.iter(), self.out) {
                return Err(NotCanonical);
            }
            self.spare.clear();
            for member in inner {
                if !self.spare.is_empty() {
                    self.spare.push(b',');
                }
                self.spare.extend_from_slice(self.out.get(member.start..member.end).unwrap_or_default());
            }
            self.out.truncate(begin);
            self.out.extend_from_slice(self.spare);
        }
        self.members.truncate(outer);
        self.out.push(b'}');
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(), NotCanonical> {
        if depth > DEEPEST {
            return Err(NotCanonical);
        }
        self.expect(b'[')?;
        self.out.push(b'[');
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.out.push(b']');
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.out.push(b',');
                }
                Some(b']') => {
                    self.at += 1;
                    self.out.push(b']');
                    return Ok(());
                }
                _ => return Err(NotCanonical),
            }
        }
    }

    /// Returns whether it has neither an escape nor anything beyond ASCII.
    fn string(&mut self) -> Result<bool, NotCanonical> {
        self.expect(b'"')?;
        let from = self.out.len();
        self.out.push(b'"');
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let length = memchr2(b'"', b'\\', rest).ok_or(NotCanonical)?;
            let (plain, rest) = rest.split_at(length);
            // Without a branch for each byte, many are looked at at once.
            if plain.iter().fold(false, |any, byte| any | (*byte < b' ')) {
                return Err(NotCanonical);
            }
            self.out.extend_from_slice(plain);
            self.at += length + 1;
            if rest.first() == Some(&b'"') {
                self.out.push(b'"');
                return Ok(!escaped && self.out.get(from..).is_some_and(<[u8]>::is_ascii));
            }
            escaped = true;
            self.escape()?;
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), NotCanonical> {
        let letter = self.peek().ok_or(NotCanonical)?;
        self.at += 1;
        let character = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b't' => '\t',
            b'n' => '\n',
            b'f' => '\u{c}',
            b'r' => '\r',
            b'u' => self.code_point()?,
            _ => return Err(NotCanonical),
        };
        let short = match character {
            '"' | '\\' => Some(character),
            '\u{8}' => Some('b'),
            '\t' => Some('t'),
            '\n' => Some('n'),
            '\u{c}' => Some('f'),
            '\r' => Some('r'),
            _ => None,
        };
        if let Some(short) = short {
            self.out.extend_from_slice(&[b'\\', short as u8]);
        } else if character < ' ' {
            let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
            let code = character as u8;
            self.out.extend_from_slice(b"\\u00");
            self.out.extend_from_slice(&[digit(code >> 4), digit(code & 0xf)]);
        } else {
            self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }

    /// One or two escapes of four digits each; the first `\u` is read.
    fn code_point(&mut self) -> Result<char, NotCanonical> {
        let first = self.unit()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first.into()).ok_or(NotCanonical);
        }
        self.expect(b'\\')?;
        self.expect(b'u')?;
        let units = [first, self.unit()?];
        let mut decoded = char::decode_utf16(units);
        match (decoded.next(), decoded.next()) {
            (Some(Ok(character)), None) => Ok(character),
            _ => Err(NotCanonical),
        }
    }

    fn unit(&mut self) -> Result<u16, NotCanonical> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(NotCanonical)?;
        self.at += 4;
        digits.iter().try_fold(0, |sum, digit| {
            let value = char::from(*digit).to_digit(16).and_then(|value| u16::try_from(value).ok());
            Ok(sum << 4 | value.ok_or(NotCanonical)?)
        })
    }
}
