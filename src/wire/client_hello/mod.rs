//! Reads a TLS ClientHello as it arrives and says which server it names.
//!
//! Pure: bytes in, a verdict out; no socket and no clock. [`ClientHelloReader`] takes the client's bytes in any segments,
//! joins the TLS records (RFC 8446 §5.1) of the hello, and passes the whole message to [`body`], which reads it strictly.
//! What two implementations could read in two ways is refused, so that the name seen here is the name that the target
//! sees.
//!
//! Not here: comparing the name with the CONNECT host, deadlines ([`crate::session::tunnel`]), and everything after the
//! ClientHello. ECH (RFC 9849) is ignored: the outer name decides, and because of GREASE the extension's presence proves
//! nothing.

mod body;
mod refused;
#[cfg(test)]
mod test_oracle;
#[cfg(test)]
pub(crate) mod test_samples;
#[cfg(test)]
mod tests;

pub use refused::RefusedHello;

use super::tls_record::{HANDSHAKE, HEADER};
use crate::words::target::Name;

/// Longest ClientHello, in bytes, without its four-byte handshake header. A hello with two post-quantum key shares
/// stays under 4 KiB; one with many session tickets under 20 KiB. rustls has the same bound.
pub const MAX_HELLO: usize = 0xffff;
/// Most TLS records that one ClientHello may be spread over. At the smallest record size that a peer can ask for (64 bytes,
/// RFC 8449 §4) they hold 4 KiB. A hello in one-byte records is an evasion; no client sends that.
pub const MAX_RECORDS: usize = 64;
/// Longest plaintext of one record (RFC 8446 §5.1).
const MAX_RECORD: usize = 1 << 14;
const HANDSHAKE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;

/// What the bytes so far are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// A correct beginning that is not complete.
    NeedMore,
    /// A whole, well-formed ClientHello.
    Hello(Hello),
    /// Not a ClientHello, or not a well-formed one.
    Refuse(RefusedHello),
}

/// A whole, well-formed ClientHello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The canonical server name; `None` where the hello names none.
    pub sni: Option<Name>,
    /// Where the hello ends: bytes from the first one pushed, including record headers. What was pushed after it (0-RTT
    /// data, for example) is not part of it and was not read.
    pub length: usize,
}

/// Joins the records of a ClientHello, in any segments. Holds at most [`MAX_HELLO`] bytes and grows only with the bytes that
/// arrived, never by what a length field says.
#[derive(Debug, Default)]
pub struct ClientHelloReader {
    /// The handshake message so far, with its own header and without record headers.
    message: Vec<u8>,
    /// The current record's header.
    header: [u8; HEADER],
    /// How many bytes of `header` are there.
    header_len: usize,
    /// Bytes of the current record that are still to come.
    left: usize,
    /// How many records have begun.
    records: usize,
    /// How many bytes were taken, including record headers.
    taken: usize,
}

impl ClientHelloReader {
    /// A reader that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. After anything but [`Progress::NeedMore`] the reader cannot be used again.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        match self.take(bytes) {
            Ok(None) => Progress::NeedMore,
            Ok(Some(sni)) => Progress::Hello(Hello { sni, length: self.taken }),
            Err(refused) => Progress::Refuse(refused),
        }
    }

    /// `Some` at the end of a well-formed hello.
    fn take(&mut self, mut bytes: &[u8]) -> Result<Option<Option<Name>>, RefusedHello> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left == 0 {
                self.header_byte(first)?;
                self.taken += 1;
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.message.extend_from_slice(part);
            self.left -= part.len();
            self.taken += part.len();
            bytes = rest;
            if self.whole()? {
                let message = self.message.get(HANDSHAKE_HEADER..).unwrap_or_default();
                return body::server_name(message).map(Some);
            }
        }
        Ok(None)
    }

    /// One byte of a record header, checked when it comes, so that plain text is refused on its first byte.
    fn header_byte(&mut self, byte: u8) -> Result<(), RefusedHello> {
        let refused = || if self.records == 0 { RefusedHello::not_tls() } else { RefusedHello::malformed() };
        match self.header_len {
            0 if self.records == MAX_RECORDS => return Err(RefusedHello::malformed()),
            // SSLv2 begins with its length, so it is refused here as well.
            0 if byte != HANDSHAKE => return Err(refused()),
            // The minor number must be ignored (RFC 5246 appendix E.1, RFC 8446 §5.1).
            1 if byte != 3 => return Err(refused()),
            _ => {}
        }
        if let Some(place) = self.header.get_mut(self.header_len) {
            *place = byte;
        }
        self.header_len += 1;
        if self.header_len == HEADER {
            let [_, _, _, high, low] = self.header;
            self.left = usize::from(u16::from_be_bytes([high, low]));
            self.header_len = 0;
            self.records += 1;
            // An empty handshake record is forbidden, and would let a peer keep us busy for nothing.
            if self.left == 0 || self.left > MAX_RECORD {
                return Err(RefusedHello::malformed());
            }
        }
        Ok(())
    }

    /// Whether the message is complete; refuses a wrong type or length as soon as it can be seen.
    fn whole(&self) -> Result<bool, RefusedHello> {
        if self.message.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
            return Err(RefusedHello::malformed());
        }
        let Some(&[_, high, middle, low]) = self.message.first_chunk::<HANDSHAKE_HEADER>() else {
            return Ok(false);
        };
        let promised = u32::from_be_bytes([0, high, middle, low]) as usize;
        if promised > MAX_HELLO {
            return Err(RefusedHello::malformed());
        }
        let end = HANDSHAKE_HEADER + promised;
        // The record that ends the hello must hold nothing else: the client has nothing to send before the answer.
        let beyond = self.message.len() > end || (self.message.len() == end && self.left > 0);
        if beyond { Err(RefusedHello::malformed()) } else { Ok(self.message.len() == end) }
    }
}
