//! The name of a ref: `refs/heads/main`.

use std::fmt;

use thiserror::Error;

/// The longest name, in bytes. Git's server keeps a ref as a file, whose path is no longer than this (Linux: `PATH_MAX`).
pub const MAX_REF_NAME: usize = 4096;

/// A name that begins with `refs/` and that `git check-ref-format` accepts, in UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefName(Box<str>);

/// Why a text is no name of a ref.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct RefNameError(pub(crate) &'static str);

impl RefName {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it, by the rules of `git check-ref-format`.
    pub fn new(name: &[u8]) -> Result<Self, RefNameError> {
        let name = std::str::from_utf8(name).map_err(|_| RefNameError("a name that is not UTF-8"))?;
        if !name.starts_with("refs/") {
            return Err(RefNameError("a name that does not begin with `refs/`"));
        }
        check(name)?;
        Ok(RefName(name.into()))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The rules of `git check-ref-format`, in the order of its manual. `*` is never part of a name.
pub(crate) fn check(name: &str) -> Result<(), RefNameError> {
    if name.len() > MAX_REF_NAME {
        return Err(RefNameError("a name of more than 4,096 bytes"));
    }
    for segment in name.split('/') {
        if segment.is_empty() {
            return Err(RefNameError("a `/` too many"));
        }
        if segment.starts_with('.') {
            return Err(RefNameError("a part that begins with `.`"));
        }
        if segment.ends_with(".lock") {
            return Err(RefNameError("a part that ends with `.lock`"));
        }
    }
    let bytes = name.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        match (byte, bytes.get(at + 1)) {
            (0..=b' ' | 0x7f, _) => return Err(RefNameError("a space or a control character")),
            (b'~' | b'^' | b':' | b'?' | b'*' | b'[' | b'\\', _) => {
                return Err(RefNameError("one of the characters `~^:?*[\\`"));
            }
            (b'.', Some(b'.')) => return Err(RefNameError("two dots in a row")),
            (b'@', Some(b'{')) => return Err(RefNameError("`@{`")),
            _ => {}
        }
    }
    if name.ends_with('.') {
        return Err(RefNameError("a `.` at the end"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_git_check_ref_format_accepts() {
        let good = [
            "refs/heads/main",
            "refs/heads/a/b",
            "refs/heads/@",
            "refs/tags/v1.0",
            "refs/x",
            "refs/heads/日本",
        ];
        for name in good {
            assert_eq!(RefName::new(name.as_bytes()).map(|name| name.to_string()).as_deref(), Ok(name));
        }
        let bad: &[(&[u8], &str)] = &[
            (b"HEAD", "a name that does not begin with `refs/`"),
            (b"", "a name that does not begin with `refs/`"),
            (b"Refs/heads/a", "a name that does not begin with `refs/`"),
            (b"/refs/heads/a", "a name that does not begin with `refs/`"),
            (b"refs/", "a `/` too many"),
            (b"refs//heads/a", "a `/` too many"),
            (b"refs/heads/a/", "a `/` too many"),
            (b"refs/heads/.a", "a part that begins with `.`"),
            (b"refs/heads/..", "a part that begins with `.`"),
            (b"refs/heads/a.lock", "a part that ends with `.lock`"),
            (b"refs/a.lock/b", "a part that ends with `.lock`"),
            (b"refs/heads/a..b", "two dots in a row"),
            (b"refs/heads/a b", "a space or a control character"),
            (b"refs/heads/a\n", "a space or a control character"),
            (b"refs/heads/a\x7f", "a space or a control character"),
            (b"refs/heads/a~1", "one of the characters `~^:?*[\\`"),
            (b"refs/heads/*", "one of the characters `~^:?*[\\`"),
            (b"refs/heads/a\\b", "one of the characters `~^:?*[\\`"),
            (b"refs/heads/a@{1}", "`@{`"),
            (b"refs/heads/a.", "a `.` at the end"),
            (b"refs/heads/\xe4", "a name that is not UTF-8"),
        ];
        for (name, why) in bad {
            assert_eq!(RefName::new(name), Err(RefNameError(why)), "{}", String::from_utf8_lossy(name));
        }
        assert!(RefName::new(&[b"refs/heads/", &[b'a'; 4085][..]].concat()).is_ok());
        assert!(RefName::new(&[b"refs/heads/", &[b'a'; 4086][..]].concat()).is_err());
    }
}
