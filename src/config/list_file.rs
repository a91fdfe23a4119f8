//! Allow files: one rule string per line.
//!
//! `#` begins a comment, on a line of its own or after a rule (no rule contains a `#`). Blank lines and the CR of CRLF
//! are skipped; a byte-order mark at the very start is removed. Squid's dstdomain files work without changes. Lines are
//! slices of the content, so a million lines need no allocation here. Not here: what a rule string means
//! ([`crate::rules::rule`]).

use super::finding::{Position, Report};
use super::text::text;

/// Calls `rule` with the text of every rule and its position. A byte that is not UTF-8, or NUL, is reported, and then
/// no rule is read. Returns the number of rules.
pub(super) fn read(content: &[u8], report: &Report<'_>, mut rule: impl FnMut(Position, &str)) -> usize {
    let Some(text) = text(content, report) else { return 0 };
    let mut rules = 0;
    for (line, number) in text.split('\n').zip(1_u32..) {
        let uncommented = line.split_once('#').map_or(line, |(rule, _)| rule);
        let trimmed = uncommented.trim_matches([' ', '\t', '\r']);
        if trimmed.is_empty() {
            continue;
        }
        rules += 1;
        let indent = uncommented.len() - uncommented.trim_start_matches([' ', '\t', '\r']).len();
        let position = Position { line: number, column: 1 }.right(indent);
        if let Some(blank) = trimmed.find([' ', '\t']) {
            let characters = trimmed.get(..blank).map_or(0, |before| before.chars().count());
            report.error(
                position.right(characters),
                "a space inside a rule: write one rule per line, and put a comment after `#`",
            );
            continue;
        }
        rule(position, trimmed);
    }
    if rules == 0 && !report.has_errors() {
        report.warning(Position::START, "the file contains only comments: it allows nothing");
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::super::finding::Findings;
    use super::*;

    fn lines(content: &[u8]) -> (Vec<String>, Vec<String>) {
        let findings = Findings::default();
        let mut rules = Vec::new();
        read(content, &findings.of("f"), |position, text| {
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
            ("\u{feff}a.example\n", &["1:1 a.example"]),
            ("http://a.example:8080#x\n", &["1:1 http://a.example:8080"]),
        ];
        for (content, want) in rows {
            let (rules, findings) = lines(content.as_bytes());
            assert_eq!(rules, *want, "{content:?}");
            assert!(findings.is_empty(), "{content:?}: {findings:?}");
        }
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
