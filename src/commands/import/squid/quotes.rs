//! The words of a line, and quotation marks that do not do what they seem to: to Squid a word in quotes is the name of a file, and a
//! mark elsewhere is a letter of the word.

use crate::words::quote::quoted;

/// A word of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    /// It stood in double quotes, and is no value: Squid takes it for the name of a file.
    pub(super) quoted: bool,
}

/// Words, of which some are in double quotes; `#` begins a comment where a word begins.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(inner) => {
                let (word, after) = inner.split_once('"').unwrap_or((inner, ""));
                (Word { text: word.to_owned(), quoted: true }, after)
            }
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                (Word { text: word.to_owned(), quoted: false }, after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// Marks that a word processor writes.
const TYPOGRAPHIC: [char; 6] = ['“', '”', '„', '‘', '’', '«'];

/// The first of them in the words of a line: where it is, in bytes, and what Squid makes of it. `values`: what stands in quotes is
/// a value, as `configuration_includes_quoted_values on` has it.
pub(super) fn stray(name: &str, rest: &str, values: bool) -> Option<(usize, String)> {
    let lists = name.ends_with("_access") || name == "ssl_bump";
    if !lists && name != "acl" && name != "include" {
        return None;
    }
    let pattern = name == "acl" && rest.split_whitespace().nth(1).is_some_and(|kind| kind.ends_with("regex"));
    let mut at = 0;
    loop {
        let text = rest.get(at..)?;
        at += text.len() - text.trim_start().len();
        let text = text.trim_start();
        let first = text.chars().next().filter(|first| *first != '#')?;
        let closing: &[char] = match first {
            '"' => &['"'],
            // An apostrophe begins the name of a file in a list alone; either mark ends it.
            '\'' if name == "acl" && !values => &['\'', '"'],
            _ => &[],
        };
        if closing.is_empty() {
            let word = text.split(char::is_whitespace).next().unwrap_or_default();
            let mark = word.char_indices().find(|(_, c)| *c == '"' || TYPOGRAPHIC.contains(c));
            let meant = pattern || (values && word.starts_with("parameters("));
            if let Some((inside, mark)) = mark.filter(|_| !meant) {
                let text = format!(
                    "the quotation mark {} is part of {} to Squid: take it out",
                    quoted(&mark.to_string()),
                    quoted(word)
                );
                return Some((at + inside, text));
            }
            at += word.len();
            continue;
        }
        let inside = text.get(1..)?;
        let Some(end) = inside.find(closing) else {
            let what = if values { "a value" } else { "the name of a file" };
            return Some((
                at,
                format!(
                    "nothing closes this quotation mark, so to Squid the rest of the line is {what}: close it, or take it out"
                ),
            ));
        };
        at += 1 + end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_stands_alone_or_inside_a_word_is_found() {
        let rows: &[(&str, &str, Option<usize>)] = &[
            ("acl", r#"a dstdomain "/etc/list""#, None),
            ("acl", r#"a dstdomain '/etc/list'"#, None),
            ("acl", r#"a dstdomain '/etc/list""#, None),
            ("acl", r#"a dstdomain "/etc/list"#, Some(12)),
            ("acl", r"a dstdomain '/etc/list", Some(12)),
            ("acl", r#"a dstdomain  /etc/list""#, Some(22)),
            ("acl", r#"a dstdomain a"b.test"#, Some(13)),
            ("acl", "a dstdomain “x.test”", Some(12)),
            ("acl", r#"a dstdomain x.test # "why"#, None),
            ("acl", r#"a url_regex ["']x"#, None),
            ("acl", r#"a url_regex -i "/etc/list"#, Some(15)),
            ("http_access", r#"allow "a"#, Some(6)),
            ("http_access", r#"allow a""#, Some(7)),
            ("http_access", r#"allow "a""#, None),
            ("include", r#""/etc/a.conf"#, Some(0)),
            ("logformat", r#"a "%rm"#, None),
        ];
        for (name, rest, want) in rows {
            let found = stray(name, rest, false).map(|(at, _)| at);
            assert_eq!(found, *want, "{name} {rest}");
        }
    }
}
