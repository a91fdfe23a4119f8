//! Names with a `*` inside: `git-codecommit.*.amazonaws.com`, `ec2-*.amazonaws.com`.
//!
//! Each `*` stands for one or more characters of exactly one label. This is the definition; the index in
//! [`super::labels`] only finds candidates faster, and checks them here.

use std::fmt;

use crate::words::target::{MAX_LABEL, MAX_NAME, TargetError};

/// A canonical pattern with at least one `*` in it: lower case, no trailing dot, no `**`, and at least one label
/// without `*` at the end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LabelPattern(Box<str>);

impl LabelPattern {
    /// Makes a pattern from `text` after it checks the labels. The caller must check the characters and `**`.
    ///
    /// # Errors
    /// The offset of the label that is wrong, and why. A `*` counts as one character, the least that it stands for.
    pub(super) fn new(text: &str) -> Result<Self, (usize, TargetError)> {
        debug_assert!(text.contains('*') && !text.contains("**"));
        if text.len() > MAX_NAME {
            return Err((0, TargetError::NameTooLong));
        }
        let mut offset = 0;
        for label in text.split('.') {
            if label.is_empty() {
                return Err((offset, TargetError::EmptyLabel));
            }
            if label.len() > MAX_LABEL {
                return Err((offset, TargetError::LabelTooLong));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err((offset, TargetError::Hyphen));
            }
            offset += label.len() + 1;
        }
        Ok(LabelPattern(text.into()))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches the canonical `name`.
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.0, name)
    }
}

impl fmt::Display for LabelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LabelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The labels after the last label with a `*`, without the dot before them; empty if the last label has a `*`.
pub(crate) fn literal_suffix(pattern: &str) -> &str {
    let after_star = pattern.rfind('*').map_or(0, |star| star + 1);
    let rest = pattern.get(after_star..).unwrap_or_default();
    rest.find('.').and_then(|dot| rest.get(dot + 1..)).unwrap_or_default()
}

/// The number of characters that are not `*`: the more, the more specific.
pub(super) fn literal_characters(pattern: &str) -> usize {
    pattern.bytes().filter(|&byte| byte != b'*').count()
}

/// Whether `name` matches `pattern`, label by label.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut labels = name.split('.');
    pattern
        .split('.')
        .all(|pattern| labels.next().is_some_and(|label| fits(pattern.as_bytes(), label.as_bytes())))
        && labels.next().is_none()
}

/// Whether `pattern` would match if its `*` also stood for dots. This is the usual mistake, so a denial mentions it.
pub(super) fn matches_across_labels(pattern: &str, name: &str) -> bool {
    fits(pattern.as_bytes(), name.as_bytes())
}

/// `*` is one or more bytes. Greedy matching with one backtracking point, so at most |pattern| · |text| steps.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut taken) = (0, 0);
    let mut back: Option<(usize, usize)> = None; // the index after the last `*`, and how far that `*` reaches
    while taken < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                taken += 1;
                back = Some((at, taken));
            }
            Some(byte) if text.get(taken) == Some(byte) => {
                at += 1;
                taken += 1;
            }
            _ => match back {
                Some((star, reach)) => {
                    at = star;
                    taken = reach + 1;
                    back = Some((star, taken));
                }
                None => return false,
            },
        }
    }
    at == pattern.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_or_more_characters_of_one_label() {
        let rows = [
            ("git.*.aws.com", "git.us.aws.com", true),
            ("git.*.aws.com", "git.a.b.aws.com", false),
            ("git.*.aws.com", "git.aws.com", false),
            ("git.*.aws.com", "xgit.us.aws.com", false),
            ("git.*.aws.com", "git.us.aws.com.evil.com", false),
            ("ec2-*.aws.com", "ec2-1.aws.com", true),
            ("ec2-*.aws.com", "ec2-.aws.com", false),
            ("ec2-*.aws.com", "ec2-1.x.aws.com", false),
            ("a*b*c.test", "axbyc.test", true),
            ("a*b*c.test", "abbbc.test", true),
            ("a*b*c.test", "abc.test", false),
            ("a*b*c.test", "axbc.test", false),
            ("*-*.test", "a-b.test", true),
            ("*-*.test", "a--b.test", true),
            ("*-*.test", "-b.test", false),
            ("*.*.test", "a.b.test", true),
            ("*.*.test", "a.test", false),
            ("*aab.test", "aaab.test", true),
            ("*ab.test", "abxab.test", true),
            ("*ab.test", "ab.test", false),
        ];
        for (pattern, name, want) in rows {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn the_literal_suffix_is_of_whole_labels() {
        let rows = [
            ("git.*.aws.com", "aws.com"),
            ("ec2-*.aws.com", "aws.com"),
            ("*x.aws.com", "aws.com"),
            ("a.*", ""),
            ("a.b*c", ""),
            ("*.*.com", "com"),
        ];
        for (pattern, want) in rows {
            assert_eq!(literal_suffix(pattern), want, "{pattern}");
        }
    }
}
