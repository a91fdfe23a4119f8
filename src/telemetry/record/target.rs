//! The target of a request in a record: never a query, never a password.

use super::super::json::Object;
use crate::words::target::Target;

/// Bytes as an untrusted peer sent them: any length, any value. They are escaped and cut only when written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raw<'a>(pub &'a [u8]);

impl AsRef<[u8]> for Raw<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl<'a> From<&'a str> for Raw<'a> {
    fn from(text: &'a str) -> Self {
        Raw(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Raw<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Raw(bytes)
    }
}

/// The target. In any form, a query and a fragment are never written: they contain tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoggedTarget<'a> {
    /// `CONNECT host:port`, canonical.
    Connect(&'a Target),
    /// Plain HTTP: the canonical authority, and the path as it was sent.
    Http {
        /// Host and port.
        target: &'a Target,
        /// From the first `/` on; everything from a `?` or `#` on is omitted.
        path: Raw<'a>,
        /// There was a query, which is not shown.
        query: bool,
        /// It came inside the TLS of an inspected tunnel.
        tls: bool,
    },
    /// The request target as it was sent, if it was refused for its form. If there is user information before an `@`,
    /// the password is masked.
    Malformed(Raw<'a>),
}

impl LoggedTarget<'_> {
    /// Writes it as the member of this name, at most `longest` bytes.
    pub(super) fn write_json(&self, line: &mut Object<'_>, name: &'static str, longest: usize) {
        match self {
            LoggedTarget::Connect(target) => line.shown(name, Some(target), longest),
            LoggedTarget::Http { target, path, query: _, tls } => line.text(name, longest, |text| {
                use std::fmt::Write as _;
                // `Text` never fails: it cuts.
                let _ = write!(text, "{}://{target}", scheme(*tls));
                text.push_bytes(without_query(path.0));
            }),
            LoggedTarget::Malformed(raw) => line.text(name, longest, |text| {
                let (before, masked, after) = without_password(without_query(raw.0));
                text.push_bytes(before);
                if masked {
                    text.push_bytes(b"***");
                }
                text.push_bytes(after);
            }),
        }
    }
}

pub(in crate::telemetry) fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// A target that was refused for its form, as it may be shown: without query and password.
pub fn without_secrets(raw: &[u8]) -> Vec<u8> {
    let (before, masked, after) = without_password(without_query(raw));
    [before, if masked { b"***" } else { b"" }, after].concat()
}

pub(in crate::telemetry) fn without_query(target: &[u8]) -> &[u8] {
    target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

/// Removes the password from `[scheme://]user:password@host…`: returns the part before it, whether there was one, and
/// the part from the `@` on. The user stays: `allowed.example@evil.example` is an attack that should be visible.
pub(in crate::telemetry) fn without_password(target: &[u8]) -> (&[u8], bool, &[u8]) {
    let none = (target, false, [].as_slice());
    let start = target.windows(3).position(|window| window == b"://").map_or(0, |at| at + 3);
    let (_, rest) = target.split_at(start);
    let authority = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
    let Some(at) = authority.iter().rposition(|byte| *byte == b'@') else { return none };
    let Some(colon) = authority.iter().take(at).position(|byte| *byte == b':') else { return none };
    let (before, _) = target.split_at(start + colon + 1);
    let (_, after) = target.split_at(start + at);
    (before, true, after)
}
