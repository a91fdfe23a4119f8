//! Reads the beginning of a server's answer to a ClientHello: is it TLS, and does it ask for a second ClientHello?
//!
//! Pure and incremental, like [`client_hello`](super::client_hello). A server that speaks TLS begins with a ServerHello, with
//! a HelloRetryRequest (a ServerHello whose random is a constant, RFC 8446 §4.1.3), or with an alert. Not read: the rest of
//! these messages.

use super::tls_record::{ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER};

/// Longest HelloRetryRequest that is accepted, in bytes without its header. It holds a version, a group and perhaps a
/// cookie.
pub const MAX_RETRY: usize = 0x4000;
/// Most records until the answer is known.
const MAX_RECORDS: usize = 64;
/// Longest record: ciphertext, so that an answer in any TLS version fits (RFC 5246 §6.2.3).
const MAX_RECORD: usize = (1 << 14) + 2048;

const SERVER_HELLO: u8 = 2;
/// The level of alerts after which the handshake may go on (RFC 5246 §7.2), except after `close_notify`.
const WARNING: u8 = 1;
const CLOSE_NOTIFY: u8 = 0;

/// The SHA-256 of "HelloRetryRequest" (RFC 8446 §4.1.3).
pub const HELLO_RETRY_REQUEST: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Bytes of type, length, version and random: they show whether it is a ServerHello or a HelloRetryRequest.
const TO_RANDOM: usize = 4 + 2 + 32;

/// What the server's bytes so far are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A correct beginning that is not complete.
    NeedMore,
    /// A ServerHello: the handshake goes on, and is no longer read.
    ServerHello,
    /// A whole HelloRetryRequest: the client will send a second ClientHello. The reader then reads what follows it.
    Retry,
    /// An alert that ends the handshake. A warning is not an answer: the handshake goes on, perhaps with a
    /// HelloRetryRequest.
    Alert,
    /// Not TLS, or TLS that is not allowed here, such as a second HelloRetryRequest (RFC 8446 §4.1.4).
    NotTls,
}

/// Joins the records of the server's first messages, in any segments.
#[derive(Debug, Default)]
pub struct ServerHelloReader {
    header: [u8; HEADER],
    header_len: usize,
    /// Bytes of the current record that are still to come.
    left: usize,
    records: usize,
    /// The first [`TO_RANDOM`] bytes of the message.
    message: Vec<u8>,
    /// Bytes of the message so far.
    message_len: usize,
    /// A HelloRetryRequest was seen.
    retried: bool,
    /// The client has not answered it yet.
    waiting: bool,
    /// The level of an alert whose second byte is still to come.
    level: Option<u8>,
    /// The last whole record was a warning.
    warned: bool,
}

impl ServerHelloReader {
    /// A reader that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes. After [`Answer::Retry`] the reader goes on, and until [`Self::second_hello_sent`] it accepts
    /// only what a server may send there: a change_cipher_spec for middleboxes, an alert. After any other answer except
    /// [`Answer::NeedMore`] it cannot be used again.
    pub fn push(&mut self, mut bytes: &[u8]) -> Answer {
        let mut retry = false;
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left == 0 {
                bytes = rest;
                match self.header_byte(first) {
                    Answer::NeedMore => continue,
                    answer => return answer,
                }
            }
            let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= part.len();
            bytes = rest;
            let meaning = match self.header[0] {
                CHANGE_CIPHER_SPEC => Answer::NeedMore,
                ALERT => self.alert(part),
                _ => self.payload(part),
            };
            match meaning {
                Answer::NeedMore => {}
                // What follows may come in the same segment, and must be read as well.
                Answer::Retry => retry = true,
                answer => return answer,
            }
        }
        if retry { Answer::Retry } else { Answer::NeedMore }
    }

    /// The client's second ClientHello was sent to the server: its ServerHello may come.
    pub fn second_hello_sent(&mut self) {
        self.waiting = false;
    }

    /// The answer, if nothing more comes.
    pub fn end(&self) -> Answer {
        // Some servers refuse a ClientHello with warnings only.
        if self.warned && self.header_len == 0 { Answer::Alert } else { Answer::NotTls }
    }

    fn alert(&mut self, part: &[u8]) -> Answer {
        for &byte in part {
            match self.level.take() {
                None => self.level = Some(byte),
                Some(WARNING) if byte != CLOSE_NOTIFY => self.warned = true,
                Some(_) => return Answer::Alert,
            }
        }
        Answer::NeedMore
    }

    fn header_byte(&mut self, byte: u8) -> Answer {
        match self.header_len {
            0 => {
                let fits = match byte {
                    HANDSHAKE => !self.waiting,
                    ALERT => self.message_len == 0,
                    // For middleboxes, after the HelloRetryRequest (RFC 8446 appendix D.4).
                    CHANGE_CIPHER_SPEC => self.message_len == 0 && self.retried,
                    _ => false,
                };
                if !fits || self.records == MAX_RECORDS {
                    return Answer::NotTls;
                }
            }
            1 if byte != 3 => return Answer::NotTls,
            _ => {}
        }
        if let Some(place) = self.header.get_mut(self.header_len) {
            *place = byte;
        }
        self.header_len += 1;
        if self.header_len < HEADER {
            return Answer::NeedMore;
        }
        self.header_len = 0;
        self.records += 1;
        self.warned = false;
        let [kind, _, _, high, low] = self.header;
        self.left = usize::from(u16::from_be_bytes([high, low]));
        match kind {
            _ if self.left == 0 || self.left > MAX_RECORD => Answer::NotTls,
            ALERT if self.left != 2 => Answer::NotTls,
            CHANGE_CIPHER_SPEC if self.left != 1 => Answer::NotTls,
            _ => Answer::NeedMore,
        }
    }

    fn payload(&mut self, part: &[u8]) -> Answer {
        let room = TO_RANDOM.saturating_sub(self.message.len()).min(part.len());
        self.message.extend_from_slice(part.get(..room).unwrap_or_default());
        self.message_len += part.len();
        if self.message.first().is_some_and(|&kind| kind != SERVER_HELLO) {
            return Answer::NotTls;
        }
        let Some((&[_, high, middle, low, major, _], random)) = self.message.split_first_chunk::<6>() else {
            return Answer::NeedMore;
        };
        if major != 3 {
            return Answer::NotTls;
        }
        if random.len() < HELLO_RETRY_REQUEST.len() {
            return Answer::NeedMore;
        }
        if random != HELLO_RETRY_REQUEST {
            return Answer::ServerHello;
        }
        let promised = u32::from_be_bytes([0, high, middle, low]) as usize;
        let end = 4 + promised;
        // It must end with its record: the server may send nothing more until the client has answered.
        if self.retried || promised > MAX_RETRY || self.message_len > end || promised < TO_RANDOM - 4 {
            return Answer::NotTls;
        }
        if self.message_len < end {
            return Answer::NeedMore;
        }
        if self.left > 0 {
            return Answer::NotTls;
        }
        self.retried = true;
        self.waiting = true;
        self.message.clear();
        self.message_len = 0;
        Answer::Retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3], &length[..], payload].concat()
    }

    fn server_hello(random: [u8; 32]) -> Vec<u8> {
        let body = [&[3, 3], &random[..], &[0, 0x13, 1, 0, 0, 0]].concat();
        [&[SERVER_HELLO, 0, 0, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    }

    fn hello() -> Vec<u8> {
        record(HANDSHAKE, &server_hello([9; 32]))
    }

    fn retry() -> Vec<u8> {
        record(HANDSHAKE, &server_hello(HELLO_RETRY_REQUEST))
    }

    const CCS: &[u8] = &[20, 3, 3, 0, 1, 1];
    const BYE: &[u8] = &[21, 3, 1, 0, 2, 2, 40];
    const CLOSING: &[u8] = &[21, 3, 3, 0, 2, 1, 0];
    const UNRECOGNIZED: &[u8] = &[21, 3, 3, 0, 2, 1, 112];

    /// The last answer, however the bytes are cut.
    fn read(bytes: &[u8]) -> Answer {
        let whole = ServerHelloReader::new().push(bytes);
        for segment in [1, 2, 7, 30] {
            let mut reader = ServerHelloReader::new();
            let mut retried = false;
            let mut answer = Answer::NeedMore;
            for part in bytes.chunks(segment) {
                answer = reader.push(part);
                retried |= answer == Answer::Retry;
                if !matches!(answer, Answer::NeedMore | Answer::Retry) {
                    break;
                }
            }
            let answer = if answer == Answer::NeedMore && retried { Answer::Retry } else { answer };
            assert_eq!(answer, whole, "segments of {segment}: {bytes:?}");
        }
        whole
    }

    #[test]
    fn t15_a_server_begins_with_a_hello_a_retry_or_an_alert_and_nothing_else_is_tls() {
        let small =
            |size| server_hello([9; 32]).chunks(size).flat_map(|part| record(HANDSHAKE, part)).collect();
        let rows: &[(&str, Vec<u8>, Answer)] = &[
            ("a ServerHello", hello(), Answer::ServerHello),
            ("with more behind it", [hello(), vec![23, 3, 3, 9]].concat(), Answer::ServerHello),
            ("over many records", small(10), Answer::ServerHello),
            ("in one-byte records", small(1), Answer::ServerHello),
            ("an alert", BYE.to_vec(), Answer::Alert),
            ("an alert without its end", BYE[..6].to_vec(), Answer::NeedMore),
            ("a goodbye", CLOSING.to_vec(), Answer::Alert),
            ("an alert of a level that there is not", vec![21, 3, 3, 0, 2, 9, 112], Answer::Alert),
            ("a warning", UNRECOGNIZED.to_vec(), Answer::NeedMore),
            ("a hello after a warning", [UNRECOGNIZED, &hello()].concat(), Answer::ServerHello),
            ("a retry after a warning", [UNRECOGNIZED, &retry()].concat(), Answer::Retry),
            ("an alert after warnings", [UNRECOGNIZED, UNRECOGNIZED, BYE].concat(), Answer::Alert),
            ("HTTP after a warning", [UNRECOGNIZED, b"HTTP/1.1"].concat(), Answer::NotTls),
            ("warnings without end", UNRECOGNIZED.repeat(MAX_RECORDS + 1), Answer::NotTls),
            ("a HelloRetryRequest", retry(), Answer::Retry),
            ("nothing", vec![], Answer::NeedMore),
            ("half a header", hello()[..3].to_vec(), Answer::NeedMore),
            ("a header", hello()[..5].to_vec(), Answer::NeedMore),
            ("all but the random's last byte", hello()[..5 + TO_RANDOM - 1].to_vec(), Answer::NeedMore),
            ("all of the random", hello()[..5 + TO_RANDOM].to_vec(), Answer::ServerHello),
            ("a retry that is not whole", retry()[..5 + TO_RANDOM].to_vec(), Answer::NeedMore),
            ("SSH", b"SSH-2.0-OpenSSH".to_vec(), Answer::NotTls),
            ("HTTP", b"HTTP/1.1 400 Bad Request".to_vec(), Answer::NotTls),
            ("another major version", vec![22, 2, 0], Answer::NotTls),
            ("application data", vec![23, 3, 3, 0, 1, 0], Answer::NotTls),
            ("change_cipher_spec first", CCS.to_vec(), Answer::NotTls),
            ("an empty record", vec![22, 3, 3, 0, 0], Answer::NotTls),
            ("an alert of three bytes", vec![21, 3, 3, 0, 3], Answer::NotTls),
            ("a record that is too long", vec![22, 3, 3, 0x48, 1], Answer::NotTls),
            ("another handshake message", record(HANDSHAKE, &[11]), Answer::NotTls),
            ("a message of another major version", record(HANDSHAKE, &[2, 0, 0, 40, 2, 3]), Answer::NotTls),
            (
                "an alert inside the hello",
                [record(HANDSHAKE, &[2, 0]), BYE.to_vec()].concat(),
                Answer::NotTls,
            ),
        ];
        for (what, bytes, answer) in rows {
            assert_eq!(read(bytes), *answer, "{what}");
        }
    }

    #[test]
    fn after_warnings_alone_the_end_is_an_alert() {
        for (bytes, end) in [
            (UNRECOGNIZED.to_vec(), Answer::Alert),
            (UNRECOGNIZED.repeat(3), Answer::Alert),
            (vec![], Answer::NotTls),
            (UNRECOGNIZED[..6].to_vec(), Answer::NotTls),
            ([UNRECOGNIZED, &hello()[..3]].concat(), Answer::NotTls),
            ([UNRECOGNIZED, &hello()[..9]].concat(), Answer::NotTls),
        ] {
            let mut reader = ServerHelloReader::new();
            assert_eq!(reader.push(&bytes), Answer::NeedMore, "{bytes:?}");
            assert_eq!(reader.end(), end, "{bytes:?}");
        }
    }

    #[test]
    fn t11_between_a_retry_and_the_second_hello_only_an_alert_or_change_cipher_spec_may_come() {
        let after = |bytes: &[u8]| read(&[&retry(), bytes].concat());
        assert_eq!(after(CCS), Answer::Retry);
        assert_eq!(after(BYE), Answer::Alert);
        assert_eq!(after(&[CCS, BYE].concat()), Answer::Alert);
        assert_eq!(after(UNRECOGNIZED), Answer::Retry);
        assert_eq!(after(&[UNRECOGNIZED, &hello()].concat()), Answer::NotTls);
        assert_eq!(after(&hello()), Answer::NotTls);
        assert_eq!(after(&[CCS, &hello()].concat()), Answer::NotTls);
        assert_eq!(after(&[23, 3, 3, 0, 1, 0]), Answer::NotTls);
        let long = [&[2, 0, 0, 200, 3, 3], &HELLO_RETRY_REQUEST[..], &[0; 166], &hello()[5..]].concat();
        assert_eq!(read(&record(HANDSHAKE, &long)), Answer::NotTls, "a hello in the retry's own record");
        let endless = [&[2, 1, 0, 0, 3, 3], &HELLO_RETRY_REQUEST[..]].concat();
        assert_eq!(read(&record(HANDSHAKE, &endless)), Answer::NotTls);
    }

    #[test]
    fn t11_after_the_second_hello_a_real_server_hello_is_wanted() {
        for (next, answer) in [
            (hello(), Answer::ServerHello),
            ([CCS, &hello()].concat(), Answer::ServerHello),
            (BYE.to_vec(), Answer::Alert),
            (retry(), Answer::NotTls),
            (b"HTTP".to_vec(), Answer::NotTls),
        ] {
            let mut reader = ServerHelloReader::new();
            assert_eq!(reader.push(&retry()), Answer::Retry);
            reader.second_hello_sent();
            assert_eq!(reader.push(&next), answer, "{next:?}");
        }
    }
}
