//! The regular expressions of `dstdom_regex` that are plain suffixes. Every other one is unsupported, and told.

use crate::words::target::Name;

/// What a pattern fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PlainSuffix {
    pub(super) name: String,
    /// The name itself.
    pub(super) itself: bool,
    /// Every name under it.
    pub(super) below: bool,
    /// Nothing else.
    pub(super) exactly: bool,
}

/// Reads `^a\.example$`, `\.example\.com$`, `(^|\.)example\.com$`, `^(.*\.)?example\.com$` and their like. A pattern that
/// fits these and more (`example\.com$` fits evilexample.com too) is not `exactly` that. None: not understood.
pub(super) fn read(pattern: &str) -> Option<PlainSuffix> {
    let body = pattern.strip_suffix('$')?;
    let (itself, below, bounded, name) = before(body)?;
    let mut exactly = bounded;
    let mut text = String::new();
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                '.' => text.push('.'),
                '-' => text.push('-'),
                _ => return None,
            },
            '.' => {
                // Any character: the name as it was meant, and others.
                exactly = false;
                text.push('.');
            }
            'a'..='z' | '0'..='9' | '-' | '_' => text.push(character),
            _ => return None,
        }
    }
    Name::parse(&text).ok()?;
    Some(PlainSuffix { name: text, itself, below, exactly })
}

/// Itself, below, whether nothing else can stand before it, and the rest.
fn before(body: &str) -> Option<(bool, bool, bool, &str)> {
    let both = ["(^|\\.)", "(\\.|^)", "^(.*\\.)?", "^(.+\\.)?", "^([^.]+\\.)*"];
    if let Some(rest) = both.iter().find_map(|start| body.strip_prefix(start)) {
        return Some((true, true, true, rest));
    }
    let under = ["^.*\\.", "^.+\\.", ".*\\.", ".+\\.", "\\."];
    if let Some(rest) = under.iter().find_map(|start| body.strip_prefix(start)) {
        return Some((false, true, true, rest));
    }
    if let Some(rest) = body.strip_prefix('^') {
        return Some((true, false, true, rest));
    }
    if let Some(rest) = body.strip_prefix('.') {
        return Some((false, true, false, rest));
    }
    // `example\.com$`: what stands before it is not bounded by a dot.
    Some((true, true, false, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_suffixes_are_read_and_nothing_else_is() {
        let fits = |name: &str, itself, below, exactly| {
            Some(PlainSuffix { name: name.to_owned(), itself, below, exactly })
        };
        let rows = [
            (r"\.example\.com$", fits("example.com", false, true, true)),
            (r"(^|\.)example\.com$", fits("example.com", true, true, true)),
            (r"^(.*\.)?example\.com$", fits("example.com", true, true, true)),
            (r"^www\.example\.com$", fits("www.example.com", true, false, true)),
            (r"^.*\.example\.com$", fits("example.com", false, true, true)),
            (r"example\.com$", fits("example.com", true, true, false)),
            (r".example\.com$", fits("example.com", false, true, false)),
            (r"\.example.com$", fits("example.com", false, true, false)),
            (r"\.example\.com", None),
            (r"^ec2-.*\.amazonaws\.com$", None),
            (r"\.(com|net)$", None),
            (r"a|b$", None),
            (r"\.Example\.com$", None),
            (r"\d\.example\.com$", None),
            (r"$", None),
            (r"", None),
        ];
        for (pattern, want) in rows {
            assert_eq!(read(pattern), want, "{pattern}");
        }
    }
}
