//! One JSON object on one line, in printable ASCII only, with every value escaped and of bounded length.
//!
//! Everything outside U+0020…U+007E is written as `\u` and four digits: C0, DEL, C1, bidirectional controls, line separators,
//! invisible and look-alike characters alike. So nothing that a client sends can end the line, move a terminal's
//! cursor or look like something else, and this needs no Unicode table to be kept up to date; a JSON reader gets the
//! same characters back. Bytes that are not UTF-8 are shown as the text `\xNN`. Not here: which fields there are
//! ([`super::record`]).

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::Duration;

use super::plain::{Plain, digits};

/// The end of a value that was cut: U+2026 in JSON's spelling.
pub(super) const CUT_MARK: &str = "\\u2026";

/// Writes members in the order of the calls, and remembers which values it cut.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    /// Where it begins in `out`.
    start: usize,
    /// Where the line begins in `out`.
    line: usize,
    empty: bool,
    /// Whether a member without a value is left out.
    sparse: bool,
    cut: Vec<&'static str>,
}

/// Milliseconds with three decimals, so that a connect inside one availability zone is not 0.
pub(super) struct Milliseconds(pub(super) Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

impl<'o> Object<'o> {
    /// Opens the object at the end of `out`.
    pub(super) fn open(out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        out.push(b'{');
        Object { out, start, line: start, empty: true, sparse: false, cut: Vec::new() }
    }

    /// Opens an object that leaves out what has no value.
    pub(super) fn open_sparse(out: &'o mut Vec<u8>) -> Self {
        Object { sparse: true, ..Object::open(out) }
    }

    fn inner(&mut self) -> Object<'_> {
        let start = self.out.len();
        self.out.push(b'{');
        Object { out: self.out, start, line: self.line, empty: true, sparse: self.sparse, cut: Vec::new() }
    }

    fn length(&self) -> usize {
        self.out.len() - self.start
    }

    /// How many bytes the line has so far.
    pub(super) fn line_length(&self) -> usize {
        self.out.len() - self.line
    }

    /// Members that a schema puts under one name; nothing, where none has a value. What is cut in it keeps its own name.
    pub(super) fn group(&mut self, name: &'static str, write: impl FnOnce(&mut Object<'_>)) {
        let (before, was_empty) = (self.out.len(), self.empty);
        self.name(name);
        let mut inner = self.inner();
        write(&mut inner);
        let (is_empty, cut) = (inner.empty, std::mem::take(&mut inner.cut));
        if is_empty {
            self.out.truncate(before);
            self.empty = was_empty;
            return;
        }
        self.out.push(b'}');
        self.cut.extend(cut);
    }

    /// The last group of a line, which says what was cut in all of it.
    pub(super) fn rest(&mut self, name: &'static str, write: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let cut = std::mem::take(&mut self.cut);
        let mut inner = self.inner();
        inner.cut = cut;
        write(&mut inner);
        self.out.push(b'}');
    }

    /// Begins the last group of a line that is left open, as the line itself is.
    pub(super) fn begin(mut self, name: &'static str) -> Object<'o> {
        self.name(name);
        Object::open_sparse(self.out)
    }

    /// What `write` writes has another name here than in the record: if it is cut, `cut` has the record's name, `field`.
    pub(super) fn of(&mut self, field: &'static str, write: impl FnOnce(&mut Self)) {
        let before = self.cut.len();
        write(self);
        if self.cut.len() > before {
            self.cut.truncate(before);
            self.cut.push(field);
        }
    }

    /// What is written elsewhere too: it is left out if it would be cut.
    pub(super) fn whole(&mut self, write: impl FnOnce(&mut Self)) {
        let (before, was_empty, cut) = (self.out.len(), self.empty, self.cut.len());
        write(self);
        if self.cut.len() > cut {
            self.out.truncate(before);
            self.empty = was_empty;
            self.cut.truncate(cut);
        }
    }

    /// A member that is an object itself. If something in it is cut, the member is.
    pub(super) fn object(&mut self, name: &'static str, write: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut inner = self.inner();
        write(&mut inner);
        let is_cut = !inner.cut.is_empty();
        self.out.push(b'}');
        if is_cut {
            self.cut.push(name);
        }
    }

    /// A list of objects, of which so many are written that this object, with the brackets that end both, is no longer than
    /// `longest`. If that is not all of them, or something in one is cut, the member is.
    pub(super) fn objects<T>(
        &mut self,
        name: &'static str,
        longest: usize,
        items: &[T],
        mut write: impl FnMut(&mut Object<'_>, &T),
    ) {
        self.name(name);
        self.out.push(b'[');
        let mut is_cut = false;
        for (at, item) in items.iter().enumerate() {
            let before = self.out.len();
            if at > 0 {
                self.out.push(b',');
            }
            let mut inner = self.inner();
            write(&mut inner, item);
            let inner_is_cut = !inner.cut.is_empty();
            self.out.push(b'}');
            if self.length() + "]}".len() > longest {
                self.out.truncate(before);
                is_cut = true;
                break;
            }
            is_cut |= inner_is_cut;
        }
        self.out.push(b']');
        if is_cut {
            self.cut.push(name);
        }
    }

    /// Closes the object and ends the line.
    pub(super) fn close(self) {
        self.out.extend_from_slice(b"}\n");
    }

    fn name(&mut self, name: &'static str) {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// `null`: the field is there, without a value. In a sparse object it is not there.
    pub(super) fn null(&mut self, name: &'static str) {
        if self.sparse {
            return;
        }
        self.name(name);
        self.out.extend_from_slice(b"null");
    }

    /// A whole number, or null.
    pub(super) fn number(&mut self, name: &'static str, value: Option<u64>) {
        let Some(value) = value else { return self.null(name) };
        self.name(name);
        digits(self.out, value);
    }

    /// Milliseconds, or null.
    pub(super) fn milliseconds(&mut self, name: &'static str, value: Option<Duration>) {
        let Some(value) = value else { return self.null(name) };
        self.name(name);
        // Half a million years of microseconds.
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        digits(self.out, micros / 1000);
        self.out.push(b'.');
        for part in [micros / 100 % 10, micros / 10 % 10, micros % 10] {
            digits(self.out, part);
        }
    }

    /// One of our own words, which needs no escaping; or null.
    pub(super) fn word(&mut self, name: &'static str, value: Option<&'static str>) {
        let Some(value) = value else { return self.null(name) };
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    /// A list of our own words.
    pub(super) fn words(&mut self, name: &'static str, words: &[&'static str]) {
        self.name(name);
        let words = words.join("\",\"");
        let _ = write!(self.out, "[\"{words}\"]");
    }

    /// A text that is ASCII without quotes and backslashes, as a canonical name; or null.
    pub(super) fn plain_text(&mut self, name: &'static str, value: Option<&str>) {
        let Some(value) = value else { return self.null(name) };
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    /// A short value that needs no escaping; or null.
    pub(super) fn plain(&mut self, name: &'static str, value: Option<impl Plain>) {
        let Some(value) = value else { return self.null(name) };
        self.name(name);
        self.out.push(b'"');
        value.write(self.out);
        self.out.push(b'"');
    }

    /// Any value that can be displayed, at most `longest` bytes as written; or null.
    pub(super) fn shown(&mut self, name: &'static str, value: Option<impl fmt::Display>, longest: usize) {
        let Some(value) = value else { return self.null(name) };
        self.text(name, longest, |text| {
            // Writing into a Vec cannot fail; the same holds for every `let _` below.
            let _ = write!(text, "{value}");
        });
    }

    /// An untrusted peer's bytes, at most `longest` bytes as written; or null.
    pub(super) fn bytes(&mut self, name: &'static str, value: Option<&[u8]>, longest: usize) {
        let Some(value) = value else { return self.null(name) };
        self.text(name, longest, |text| text.push_bytes(value));
    }

    /// A value in pieces, at most `longest` bytes as written (the quotes not counted).
    pub(super) fn text(&mut self, name: &'static str, longest: usize, pieces: impl FnOnce(&mut Text<'_>)) {
        self.name(name);
        self.out.push(b'"');
        let start = self.out.len();
        let mut text = Text { start, mark_at: start, longest, cut: false, out: self.out };
        pieces(&mut text);
        let cut = text.cut;
        self.out.push(b'"');
        if cut {
            self.cut.push(name);
        }
    }

    /// The names of the values cut so far, or null: unlike the mark, a client cannot forge it.
    pub(super) fn cut_names(&mut self, name: &'static str) {
        if self.cut.is_empty() {
            return self.null(name);
        }
        self.name(name);
        let names = std::mem::take(&mut self.cut).join("\",\"");
        let _ = write!(self.out, "[\"{names}\"]");
    }
}

/// A JSON string being written: escapes, and stops at its longest length.
pub(super) struct Text<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    /// Where the mark goes if the value turns out to be too long: the end of the last whole unit that leaves room for
    /// it.
    mark_at: usize,
    longest: usize,
    cut: bool,
}

impl Text<'_> {
    /// Bytes that should be UTF-8, but may not be.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        if self.push_plain(bytes) {
            return;
        }
        for chunk in bytes.utf8_chunks() {
            self.push(chunk.valid());
            for byte in chunk.invalid() {
                self.unit(format_args!("\\\\x{byte:02x}"));
            }
        }
    }

    fn push(&mut self, text: &str) {
        if self.push_plain(text.as_bytes()) {
            return;
        }
        for character in text.chars() {
            if self.cut {
                return;
            }
            match character {
                '"' => self.unit(format_args!("\\\"")),
                '\\' => self.unit(format_args!("\\\\")),
                ' '..='~' => self.unit(format_args!("{character}")),
                _ => {
                    let mut pair = [0; 2];
                    match character.encode_utf16(&mut pair) {
                        [high, low] => self.unit(format_args!("\\u{high:04x}\\u{low:04x}")),
                        units => {
                            self.unit(format_args!("\\u{:04x}", units.first().copied().unwrap_or(0xfffd)))
                        }
                    }
                }
            }
        }
    }

    /// Writes what needs no escape and has room, as nearly every value: one check, one copy. Returns whether it did.
    fn push_plain(&mut self, bytes: &[u8]) -> bool {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'"' && *byte != b'\\';
        let fits = !self.cut && self.used() + bytes.len() + CUT_MARK.len() <= self.longest;
        // Without a branch for each byte, many are compared at once.
        let written = fits && bytes.iter().fold(true, |all, byte| all & is_plain(byte));
        if written {
            self.out.extend_from_slice(bytes);
            self.mark_at = self.out.len();
        }
        written
    }

    /// Writes one character's escape whole, or cuts before it.
    fn unit(&mut self, escape: fmt::Arguments<'_>) {
        if self.cut {
            return;
        }
        let _ = self.out.write_fmt(escape);
        if self.used() > self.longest {
            self.out.truncate(self.mark_at);
            self.out.extend_from_slice(CUT_MARK.as_bytes());
            self.cut = true;
        } else if self.used() + CUT_MARK.len() <= self.longest {
            self.mark_at = self.out.len();
        }
    }

    fn used(&self) -> usize {
        self.out.len() - self.start
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: &[u8], longest: usize) -> String {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.bytes("v", Some(value), longest);
        object.cut_names("cut");
        object.close();
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn hostile_values_are_escaped() {
        let rows: &[(&[u8], &str)] = &[
            (b"plain ~", r"plain ~"),
            (b"say \"x\"", r#"say \"x\""#),
            (b"back\\slash", r"back\\slash"),
            (b"line\r\nfeed", r"line\u000d\u000afeed"),
            (b"nul\0", r"nul\u0000"),
            (b"\x1b[31mred", r"\u001b[31mred"),
            (b"del\x7f", r"del\u007f"),
            ("c1\u{9b}2J".as_bytes(), r"c1\u009b2J"),
            ("\u{202e}gro".as_bytes(), r"\u202egro"),
            ("\u{2066}\u{2069}\u{200f}\u{61c}".as_bytes(), r"\u2066\u2069\u200f\u061c"),
            ("\u{2028}\u{2029}\u{85}".as_bytes(), r"\u2028\u2029\u0085"),
            ("\u{feff}\u{200b}".as_bytes(), r"\ufeff\u200b"),
            ("\u{430}mazon".as_bytes(), r"\u0430mazon"),
            ("\u{1f600}\u{e0041}".as_bytes(), r"\ud83d\ude00\udb40\udc41"),
            (b"a\xff\xc3", r"a\\xff\\xc3"),
            // An overlong NUL and a surrogate are not UTF-8.
            (b"\xc0\x80 \xed\xa0\x80", r"\\xc0\\x80 \\xed\\xa0\\x80"),
            (b"", ""),
        ];
        for (value, want) in rows {
            assert_eq!(written(value, 1000), format!("{{\"v\":\"{want}\",\"cut\":null}}\n"), "{value:?}");
        }
    }

    #[test]
    fn a_long_value_is_cut_and_named() {
        assert_eq!(written(b"0123456789", 10), "{\"v\":\"0123456789\",\"cut\":null}\n");
        assert_eq!(written(b"0123456789a", 10), "{\"v\":\"0123\\u2026\",\"cut\":[\"v\"]}\n");
        // Never in the middle of an escape.
        assert_eq!(
            written("01\u{9b}\u{9b}\u{9b}".as_bytes(), 16),
            "{\"v\":\"01\\u009b\\u2026\",\"cut\":[\"v\"]}\n"
        );
        assert_eq!(written(b"\xff\xff\xff", 11), "{\"v\":\"\\\\xff\\u2026\",\"cut\":[\"v\"]}\n");
    }

    #[test]
    fn milliseconds_keep_three_decimals() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.milliseconds("a", Some(Duration::from_micros(12_034)));
        object.milliseconds("b", Some(Duration::ZERO));
        object.milliseconds("c", None);
        object.close();
        assert_eq!(out, b"{\"a\":12.034,\"b\":0.000,\"c\":null}\n");
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_line_of_ascii_within_the_length(
            value in proptest::collection::vec(any::<u8>(), 0..200), longest in 6usize..300
        ) {
            let line = written(&value, longest);
            let body = line.strip_suffix('\n').expect("a line");
            prop_assert!(body.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let parsed: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let shown = &body[6..body.rfind("\",\"cut\"").expect("cut")];
            prop_assert!(shown.len() <= longest);
            prop_assert!(parsed["cut"].is_null() || shown.ends_with(CUT_MARK));
        }

        #[test]
        fn a_json_reader_gets_the_same_characters_back(value in "\\PC{0,60}|[\u{0}-\u{ff}]{0,60}") {
            let parsed: serde_json::Value = serde_json::from_str(&written(value.as_bytes(), 10_000)).expect("JSON");
            prop_assert_eq!(parsed["v"].as_str(), Some(value.as_str()));
        }
    }
}
