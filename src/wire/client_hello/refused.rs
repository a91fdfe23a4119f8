//! Why bytes are not a valid ClientHello, and which part of them may be logged.

use crate::words::outcome::Reason;

/// Longest text that is kept of a server name that was refused, in characters of the escaped form.
pub(super) const MAX_OFFERED: usize = 300;

/// Why the bytes are not a valid ClientHello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedHello {
    /// [`Reason::NotTls`] or [`Reason::ClientHelloMalformed`].
    pub reason: Reason,
    /// The server name as it was sent, where it could be found: escaped, cut, and only for the log.
    pub offered: Option<Box<str>>,
}

impl RefusedHello {
    pub(super) fn not_tls() -> Self {
        RefusedHello { reason: Reason::NotTls, offered: None }
    }

    pub(super) fn malformed() -> Self {
        RefusedHello { reason: Reason::ClientHelloMalformed, offered: None }
    }
}

/// A server name in a form that may be logged: printable ASCII, everything else as `\xNN`, cut with `…`.
pub(super) fn printable(bytes: &[u8]) -> Box<str> {
    let mut text = String::new();
    for piece in bytes.iter().map(|byte| byte.escape_ascii()) {
        if text.len() + piece.len() > MAX_OFFERED {
            text.push('…');
            break;
        }
        text.extend(piece.map(char::from));
    }
    text.into_boxed_str()
}
