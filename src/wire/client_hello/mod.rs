//! Reads a TLS ClientHello as it arrives and says which server it names.
//!
//! Pure: bytes in, a verdict out; no socket and no clock. [`ClientHelloReader`] is shown the client's bytes as they come, follows
//! the TLS records (RFC 8446 §5.1) of the hello, and passes the whole message to [`body`], which reads it strictly.
//! What two implementations could read in two ways is refused, so that the name seen here is the name that the target
//! sees.
//!
//! Not here: comparing the name with the CONNECT host, deadlines ([`crate::session::tunnel`]), and everything after the
//! ClientHello. Of ECH (RFC 9849) only the extension's presence is told: the outer name decides, and because of GREASE the
//! presence proves nothing.

mod body;
mod refused;
#[cfg(test)]
mod test_oracle;
#[cfg(test)]
pub(crate) mod test_samples;
#[cfg(test)]
mod tests;

pub use refused::RefusedHello;

use std::borrow::Cow;

use body::Body;

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
    /// Whether it has the extension encrypted_client_hello, or an older one for the same (ESNI), whatever is in it: the inner hello
    /// of ECH, or GREASE.
    pub ech: bool,
    /// Whether it may be answered by a server that speaks HTTP/1.1 alone: it offers that, or negotiates no protocol (RFC 7301).
    pub http1: bool,
    /// Where the hello ends: bytes from the first one, including record headers. What comes after it (0-RTT
    /// data, for example) is not part of it and was not read.
    pub length: usize,
}

/// Follows the records of a ClientHello while it arrives. It holds nothing of the hello, which the caller has: only where it is
/// in it, and what the message promises.
#[derive(Debug, Default)]
pub struct ClientHelloReader {
    /// The handshake message's own header.
    message_header: [u8; HANDSHAKE_HEADER],
    /// How many bytes of the message were seen, without record headers.
    message: usize,
    /// The current record's header.
    header: [u8; HEADER],
    /// How many bytes of `header` are there.
    header_len: usize,
    /// Bytes of the current record that are still to come.
    left: usize,
    /// How many records have begun.
    records: usize,
    /// How many bytes were seen, including record headers.
    taken: usize,
}

impl ClientHelloReader {
    /// A reader that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on in the bytes of the stream: `all` has everything since the first one, and each time perhaps more. After anything
    /// but [`Progress::NeedMore`] the reader cannot be used again.
    pub fn read(&mut self, all: &[u8]) -> Progress {
        let read = self.take(all.get(self.taken..).unwrap_or_default()).and_then(|whole| match whole {
            false => Ok(Progress::NeedMore),
            true => {
                let message = self.joined(all.get(..self.taken).unwrap_or_default());
                let body = message.get(HANDSHAKE_HEADER..).unwrap_or_default();
                let Body { sni, ech, http1 } = body::read(body)?;
                Ok(Progress::Hello(Hello { sni, ech, http1, length: self.taken }))
            }
        });
        read.unwrap_or_else(Progress::Refuse)
    }

    /// Whether the hello ends with these bytes, or with some of them.
    fn take(&mut self, mut bytes: &[u8]) -> Result<bool, RefusedHello> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left == 0 {
                self.header_byte(first)?;
                self.taken += 1;
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
            for (place, byte) in self.message_header.iter_mut().skip(self.message).zip(part) {
                *place = *byte;
            }
            self.message += part.len();
            self.left -= part.len();
            self.taken += part.len();
            bytes = rest;
            if self.whole()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The message in `hello`, without record headers: in place where it is one record, as nearly always.
    fn joined<'a>(&self, hello: &'a [u8]) -> Cow<'a, [u8]> {
        if self.records == 1 {
            return Cow::Borrowed(hello.get(HEADER..).unwrap_or_default());
        }
        let mut message = Vec::with_capacity(self.message);
        let mut rest = hello;
        while let Some((&[_, _, _, high, low], after)) = rest.split_first_chunk::<HEADER>() {
            let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
            let (part, after) = after.split_at(length);
            message.extend_from_slice(part);
            rest = after;
        }
        Cow::Owned(message)
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
        let [kind, high, middle, low] = self.message_header;
        if self.message > 0 && kind != CLIENT_HELLO {
            return Err(RefusedHello::malformed());
        }
        if self.message < HANDSHAKE_HEADER {
            return Ok(false);
        }
        let promised = u32::from_be_bytes([0, high, middle, low]) as usize;
        if promised > MAX_HELLO {
            return Err(RefusedHello::malformed());
        }
        let end = HANDSHAKE_HEADER + promised;
        // The record that ends the hello must hold nothing else: the client has nothing to send before the answer.
        let beyond = self.message > end || (self.message == end && self.left > 0);
        if beyond { Err(RefusedHello::malformed()) } else { Ok(self.message == end) }
    }
}
