//! Files with one entry per line: allow files, deny files, and networks of clients.
//!
//! `#` begins a comment, on a line of its own or after an entry (no entry contains a `#`). Blank lines and the CR of CRLF
//! are skipped; a byte-order mark at the very start is removed. Squid's dstdomain files work without changes; what Squid
//! reads differently there gets a warning. Lines are slices of the content, so a million lines need no allocation here.
//! Not here: what an entry means ([`crate::rules::rule`], [`super::languages`]).

use super::finding::{Position, Report};
use super::text::text;
use crate::rules::lint::TOLD_OF_A_KIND;
use crate::words::quote::quoted;

/// What the lines of a file are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ListKind {
    /// Rules that allow.
    Allow,
    /// Rules that deny.
    Deny,
    /// Networks of clients.
    Networks,
}

impl ListKind {
    /// One entry, with its article.
    fn entry(self) -> &'static str {
        match self {
            ListKind::Allow | ListKind::Deny => "a rule",
            ListKind::Networks => "a network",
        }
    }

    /// What a file without entries does.
    fn nothing(self) -> &'static str {
        match self {
            ListKind::Allow => "it allows nothing",
            ListKind::Deny => "it denies nothing",
            ListKind::Networks => "it matches no client",
        }
    }
}

/// Calls `entry` with the text of every entry and its position. A byte that is not UTF-8, or NUL, is reported, and then
/// no entry is read. Returns the number of entries.
pub(super) fn read(
    content: &[u8],
    kind: ListKind,
    report: &Report<'_>,
    mut entry: impl FnMut(Position, &str),
) -> usize {
    let Some(text) = text(content, report) else { return 0 };
    let mut otherwise = ReadOtherwise { report, kind, told: [0; 2], rest: [Position::START; 2] };
    let marked = content.starts_with(b"\xef\xbb\xbf");
    let mut entries = 0;
    for (line, number) in text.split('\n').zip(1_u32..) {
        let (uncommented, comment) = line.split_once('#').map_or((line, false), |(entry, _)| (entry, true));
        let trimmed = uncommented.trim_matches(BLANK);
        if trimmed.is_empty() {
            continue;
        }
        entries += 1;
        let indent = uncommented.len() - uncommented.trim_start_matches(BLANK).len();
        let position = Position { line: number, column: 1 }.right(indent);
        if let Some(blank) = trimmed.find([' ', '\t']) {
            let one = kind.entry();
            let characters = trimmed.get(..blank).map_or(0, |before| before.chars().count());
            report.error(
                position.right(characters),
                format!(
                    "a space inside {one}: write one {} per line, and put a comment after `#`",
                    one.trim_start_matches("a ")
                ),
            );
            continue;
        }
        if kind != ListKind::Networks {
            if marked && number == 1 {
                otherwise.byte_order_mark(position, trimmed);
            }
            if comment && !uncommented.ends_with(BLANK) {
                otherwise.hash_in_a_word(position, trimmed, line);
            }
            if trimmed.ends_with('.') {
                otherwise.dot_at_the_end(position, trimmed);
            }
        }
        entry(position, trimmed);
    }
    otherwise.finish();
    if entries == 0 && !report.has_error_within(Position::START, Position::END) {
        report.warning(Position::START, format!("the file contains only comments: {}", kind.nothing()));
    }
    entries
}

/// What is cut off at both ends of a line; another blank is part of an entry.
const BLANK: [char; 3] = [' ', '\t', '\r'];

/// Lines of a list of Squid's that match nothing there and are rules here.
struct ReadOtherwise<'r, 'a> {
    report: &'r Report<'a>,
    kind: ListKind,
    /// Of each kind, how many lines there are.
    told: [usize; 2],
    /// Of each kind, the first line that is not reported by itself.
    rest: [Position; 2],
}

impl ReadOtherwise<'_, '_> {
    fn byte_order_mark(&self, position: Position, entry: &str) {
        let (entry, does) = (quoted(entry), self.does());
        self.report.warning(
            position,
            format!(
                "the file begins with a byte-order mark, which is no part of {entry} here, so the line {does}; in a \
                 dstdomain file, Squid took the mark as part of the name, which matched nothing: save the file \
                 without the mark, or remove the line"
            ),
        );
    }

    fn hash_in_a_word(&mut self, position: Position, entry: &str, line: &str) {
        let (entry, line) = (quoted(entry), quoted(line.trim_matches(BLANK)));
        self.tell(0, position, |does| {
            format!(
                "a comment begins in the middle of {line}, so the line {does} {entry}; in a dstdomain file, Squid took \
                 all of it as one name, which matched nothing: write a space before the `#`, or remove the line"
            )
        });
    }

    fn dot_at_the_end(&mut self, position: Position, entry: &str) {
        let entry = quoted(entry);
        self.tell(1, position, |does| {
            format!(
                "the dot at the end of {entry} is taken off, so the line {does} that name; in a dstdomain file, Squid \
                 kept the dot, and the line matched nothing: write the name without the dot, or remove the line"
            )
        });
    }

    fn does(&self) -> &'static str {
        if self.kind == ListKind::Deny { "denies" } else { "allows" }
    }

    fn tell(&mut self, kind: usize, position: Position, text: impl FnOnce(&str) -> String) {
        let (Some(told), Some(rest)) = (self.told.get_mut(kind), self.rest.get_mut(kind)) else { return };
        *told += 1;
        if *told <= TOLD_OF_A_KIND {
            self.report.warning(position, text(self.does()));
        } else if *told == TOLD_OF_A_KIND + 1 {
            *rest = position;
        }
    }

    /// Counts what is not reported line by line.
    fn finish(self) {
        let what = ["have a comment that begins in a word", "end in a dot"];
        for ((told, position), what) in self.told.into_iter().zip(self.rest).zip(what) {
            if let Some(more) = told.checked_sub(TOLD_OF_A_KIND).filter(|more| *more > 0) {
                let lines = if more == 1 { "line" } else { "lines" };
                self.report.warning(position, format!("from here on: {more} more {lines} {what}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Findings;
    use super::*;

    fn lines(content: &[u8]) -> (Vec<String>, Vec<String>) {
        let findings = Findings::default();
        let mut rules = Vec::new();
        read(content, ListKind::Allow, &findings.of("f"), |position, text| {
            rules.push(format!("{}:{} {text}", position.line, position.column));
        });
        (rules, findings.finish().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_line_is_a_rule_a_comment_or_blank() {
        let rows: &[(&str, &[&str])] = &[
            ("a.example\n", &["1:1 a.example"]),
            ("a.example", &["1:1 a.example"]),
            ("# note\n\n  .amazonaws.com\t# AWS\n\tb.example\n", &["3:3 .amazonaws.com", "4:2 b.example"]),
            ("a.example\r\nb.example\r\n", &["1:1 a.example", "2:1 b.example"]),
            ("\u{feff}# note\na.example\n", &["2:1 a.example"]),
            ("http://a.example:8080 #x\n", &["1:1 http://a.example:8080"]),
        ];
        for (content, want) in rows {
            let (rules, findings) = lines(content.as_bytes());
            assert_eq!(rules, *want, "{content:?}");
            assert!(findings.is_empty(), "{content:?}: {findings:?}");
        }
    }

    /// Squid 5.7 takes each of these lines as a name that matches nothing; `tests/e2e` asks it.
    #[test]
    fn a_line_that_squid_never_matched_is_told() {
        let rows: &[(&str, &str, &[&str])] = &[
            (
                "http://a.example:8080#x\n",
                "1:1 http://a.example:8080",
                &[
                    "f:1:1: warning: a comment begins in the middle of `http://a.example:8080#x`, so the line allows",
                ],
            ),
            (
                "# c\n  .a.example.\t# c\n",
                "2:3 .a.example.",
                &["f:2:3: warning: the dot at the end of `.a.example.` is taken off, so the line allows"],
            ),
            (
                "\u{feff}a.example.#\n",
                "1:1 a.example.",
                &[
                    "f:1:1: warning: a comment begins in the middle of `a.example.#`",
                    "f:1:1: warning: the dot at the end of `a.example.`",
                    "f:1:1: warning: the file begins with a byte-order mark, which is no part of `a.example.` here",
                ],
            ),
        ];
        for (content, rule, want) in rows {
            let (rules, findings) = lines(content.as_bytes());
            assert_eq!(rules, [*rule], "{content:?}");
            assert_eq!(findings.len(), want.len(), "{content:?}: {findings:?}");
            for (finding, want) in findings.iter().zip(*want) {
                assert!(finding.starts_with(want), "{content:?}: {findings:?}");
            }
        }
    }

    #[test]
    fn a_long_list_of_such_lines_is_counted() {
        let (rules, findings) = lines("a.example.\n".repeat(1000).as_bytes());
        assert_eq!((rules.len(), findings.len()), (1000, TOLD_OF_A_KIND + 1));
        assert_eq!(findings[TOLD_OF_A_KIND], "f:21:1: warning: from here on: 980 more lines end in a dot");
    }

    #[test]
    fn what_cannot_be_a_list_is_told_with_its_position() {
        let rows: &[(&[u8], &str)] = &[
            (b"# only\n#comments\n", "f:1:1: warning: the file contains only comments: it allows nothing"),
            (b"a.example\n b.example c.example\n", "f:2:11: error: a space inside a rule"),
            (b"a.example\nx\xffy\n", "f:2:2: error: this byte is not UTF-8"),
            (b"a.example\nevil\0.example\n", "f:2:5: error: the file contains a NUL byte"),
            (b"\xff\xfea\0.\0", "f:1:1: error: this is UTF-16"),
        ];
        for (content, want) in rows {
            let (_, findings) = lines(content);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].starts_with(want), "{findings:?}");
        }
    }
}
