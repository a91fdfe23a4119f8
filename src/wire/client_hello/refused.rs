//! Why bytes are no ClientHello, and what of them may stand in a log.

use crate::words::outcome::Reason;

/// Longest text that is kept of a server name that was refused, in characters of the escaped form.
pub(super) const MAX_OFFERED: usize = 300;

/// Why the bytes are no ClientHello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedHello {
    /// [`Reason::NotTls`] or [`Reason::ClientHelloMalformed`].
    pub reason: Reason,
    /// What stood as the server name, where it could be found: escaped, cut, for the log alone.
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

/// A server name as it may stand in a log: printable ASCII, everything else as `\xNN`, cut with `…`.
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
