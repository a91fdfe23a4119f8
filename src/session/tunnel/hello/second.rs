//! Finds the second ClientHello in what a client sends after a HelloRetryRequest (RFC 8446 §4.1.2, appendix D.4).
//!
//! Two things may come before it: one change_cipher_spec, for middleboxes, and 0-RTT data that the client sent before
//! it knew. The server skips both. Apart from the client's alert, nothing else may come.

use crate::wire::client_hello::{ClientHelloReader, Progress, RefusedHello};
use crate::wire::tls_record::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER};
use crate::words::outcome::Reason;
use crate::words::target::Name;

/// Most bytes up to the end of the second hello: 0-RTT data and the hello.
pub(super) const MAX_SECOND: usize = 128 * 1024;
/// Longest encrypted record (RFC 8446 §5.2).
const MAX_CIPHERTEXT: usize = (1 << 14) + 256;

pub(super) enum Found {
    NeedMore,
    /// A whole hello, which ends after `length` bytes of the held bytes.
    Hello {
        sni: Option<Name>,
        /// Whether it has encrypted_client_hello.
        ech: bool,
        length: usize,
    },
    /// The client's alert, which ends after `length` bytes.
    Alert {
        length: usize,
    },
    Refused(RefusedHello),
}

/// Reads the held bytes, as they grow.
#[derive(Default)]
pub(super) struct SecondHello {
    /// Where the first record begins that must not be skipped.
    begin: usize,
    ccs: bool,
    reader: ClientHelloReader,
}

impl SecondHello {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// `held`: everything since the first hello; each time the same bytes, and perhaps more.
    pub(super) fn read(&mut self, held: &[u8]) -> Found {
        let malformed = Found::Refused(RefusedHello { reason: Reason::ClientHelloMalformed, offered: None });
        loop {
            if held.get(self.begin) == Some(&HANDSHAKE) {
                return match self.reader.read(held.get(self.begin..).unwrap_or_default()) {
                    Progress::NeedMore if held.len() > MAX_SECOND => malformed,
                    Progress::NeedMore => Found::NeedMore,
                    Progress::Hello(hello) => {
                        Found::Hello { sni: hello.sni, ech: hello.ech, length: self.begin + hello.length }
                    }
                    // Its first bytes were TLS, so the tunnel is TLS: what follows is a bad hello.
                    Progress::Refuse(refused) => {
                        Found::Refused(RefusedHello { reason: Reason::ClientHelloMalformed, ..refused })
                    }
                };
            }
            if held.len() > MAX_SECOND {
                return malformed;
            }
            let Some(&[kind, major, _, high, low]) =
                held.get(self.begin..).and_then(|rest| rest.first_chunk::<HEADER>())
            else {
                return Found::NeedMore;
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let fits = match kind {
                CHANGE_CIPHER_SPEC => length == 1 && !self.ccs,
                APPLICATION_DATA => (1..=MAX_CIPHERTEXT).contains(&length),
                ALERT => length == 2,
                _ => false,
            };
            if major != 3 || !fits {
                return malformed;
            }
            let end = self.begin + HEADER + length;
            if held.len() < end {
                return Found::NeedMore;
            }
            if kind == ALERT {
                return Found::Alert { length: end };
            }
            self.ccs |= kind == CHANGE_CIPHER_SPEC;
            self.begin = end;
        }
    }
}
