//! Finds the end of a head, and refuses early what is wrong already: line endings are checked as they arrive, so that a
//! client that speaks another protocol is refused at once.

use super::fields::is_token_byte;
use super::grammar::{RequestLine, describe};
use super::request::{Fault, MAX_FIELDS, Place, RefusedHead};
use crate::words::outcome::Reason;

/// Watches the line endings as bytes arrive. Every byte is looked at once, so the verdict on a head does not depend on its
/// segments.
#[derive(Default, Debug)]
pub struct HeadLines {
    place: Place,
    /// How many bytes were looked at.
    position: usize,
    /// Where the current line begins.
    start: usize,
    /// How many lines have ended.
    count: usize,
    /// The byte before `position`.
    previous: u8,
}

impl HeadLines {
    /// For a head that comes in at `place`; [`Default`] is for the proxy's own port.
    pub fn at(place: Place) -> Self {
        HeadLines { place, ..HeadLines::default() }
    }

    /// The end of the head, once its empty line has arrived. `bytes` are all bytes of the connection since the last head,
    /// including those of earlier calls; `limit` is the most that a head may have.
    ///
    /// # Errors
    /// What can be refused before the head is complete: a line ending, a control character, the request line, a size.
    pub fn scan(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, Box<RefusedHead>> {
        self.end(bytes, limit).map_err(|fault| describe(fault, bytes, &self.place))
    }

    fn end(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
        let within = bytes.get(..limit).unwrap_or(bytes);
        for &byte in within.get(self.position..).unwrap_or_default() {
            if self.position == 0 {
                first_byte(byte, &self.place)?;
            }
            self.position += 1;
            match (self.previous, byte) {
                (b'\r', b'\n') => {
                    let line = within.get(self.start..self.position.saturating_sub(2)).unwrap_or_default();
                    if line.is_empty() {
                        return Ok(Some(self.position));
                    }
                    self.line(line)?;
                    self.start = self.position;
                }
                (b'\r', _) => {
                    return Err(Fault::bad_request("a CR without LF: every line ends with CRLF"));
                }
                (_, b'\n') => {
                    return Err(Fault::bad_request("an LF without CR: every line ends with CRLF"));
                }
                (_, b'\t' | b'\r') => {}
                (_, 0..=0x1f | 0x7f) => {
                    return Err(Fault::bad_request("a control character in the request head"));
                }
                _ => {}
            }
            self.previous = byte;
        }
        if bytes.len() >= limit {
            return Err(Fault::new(
                Reason::HeadTooLarge,
                "the request head is larger than limits.head_bytes",
            ));
        }
        Ok(None)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.count += 1;
        if self.count == 1 {
            // Refused at once: a client of another protocol need not wait for the deadline.
            return RequestLine::parse(line).map(drop);
        }
        if self.count > MAX_FIELDS + 1 {
            return Err(Fault::new(Reason::HeadTooLarge, "the request head has more than 100 fields"));
        }
        Ok(())
    }
}

/// RFC 8446 §5.1: the first byte of a handshake record, which is the first of every TLS client.
pub const TLS_HANDSHAKE: u8 = 0x16;

fn first_byte(byte: u8, place: &Place) -> Result<(), Fault> {
    match byte {
        TLS_HANDSHAKE if *place != Place::Proxy => {
            Err(Fault::bad_request("a request must follow in the tunnel, and the client spoke TLS"))
        }
        TLS_HANDSHAKE => Err(Fault::bad_request(
            "this is a plain HTTP proxy port, and the client spoke TLS: use http:// in the proxy URL",
        )),
        4 | 5 => Err(Fault::bad_request(
            "this is an HTTP proxy port, and the client spoke SOCKS: use http:// in the proxy URL",
        )),
        b'\r' | b'\n' => Err(Fault::bad_request("an empty line before the request line")),
        _ if is_token_byte(byte) => Ok(()),
        _ => Err(Fault::bad_request("the first byte cannot begin an HTTP request")),
    }
}
