//! Reads the PROXY header at the beginning of a balancer's connection, under one deadline.
//!
//! Not here: what the bytes mean ([`crate::wire::proxy_protocol`]), and which peers may send a header. The listener compares
//! the peer with `trusted` before it calls.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wire::proxy_protocol::{Header, Parsed, announces_header, parse};
use crate::words::outcome::Reason;

/// Bytes of one read: twice as many as a v2 header of an NLB with all its TLVs has.
const READ: usize = 256;

/// Why there is no header.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// The peer left without a byte, as a probe does. It is counted, not logged.
    #[error("closed without a byte")]
    Silent,
    /// The bytes are not a valid header.
    #[error("{0}")]
    Invalid(&'static str),
    /// The peer left in the middle of the header.
    #[error("closed in the middle of the PROXY header")]
    Truncated,
    /// The header was not complete in time.
    #[error("the PROXY header did not arrive in time")]
    Timeout,
    /// The connection failed in the middle of the header.
    #[error("the connection failed in the middle of the PROXY header: {0}")]
    Io(io::Error),
}

impl HeaderError {
    /// The reason for log and metric; `None` for a probe, which is not a refusal.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            HeaderError::Silent => None,
            HeaderError::Invalid(_) | HeaderError::Truncated | HeaderError::Timeout | HeaderError::Io(_) => {
                Some(Reason::ProxyHeaderInvalid)
            }
        }
    }
}

/// Reads a header from the beginning of a connection and removes it from `buffer`; what came after it stays there.
/// `buffer` may already hold bytes of the connection. `timeout` is for the whole header, in however many segments.
///
/// With `required`, anything but a header is an error. Without it, as on the admin listener, a connection that does not
/// begin with the signature gives `None`, and its bytes stay untouched; one that does must go on with a valid header.
///
/// # Errors
/// See [`HeaderError`]. `buffer` then holds what was received.
pub async fn read_header<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    timeout: Duration,
    required: bool,
) -> Result<Option<Header>, HeaderError> {
    tokio::time::timeout(timeout, read(stream, buffer, required)).await.unwrap_or(Err(HeaderError::Timeout))
}

async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    required: bool,
) -> Result<Option<Header>, HeaderError> {
    loop {
        match parse(buffer) {
            Parsed::Header(header) => {
                buffer.advance(header.len);
                return Ok(Some(header));
            }
            Parsed::Invalid(why) if required || announces_header(buffer) => {
                return Err(HeaderError::Invalid(why));
            }
            Parsed::Invalid(_) => return Ok(None),
            Parsed::NeedMore(least) => buffer.reserve(least.saturating_sub(buffer.len()).max(READ)),
        }
        match stream.read_buf(buffer).await {
            Ok(1..) => {}
            // Some probes leave with a reset, without a byte.
            Ok(0) | Err(_) if buffer.is_empty() && required => return Err(HeaderError::Silent),
            Ok(0) if required || announces_header(buffer) => return Err(HeaderError::Truncated),
            // The reader of HTTP heads sees the same end, and reports it.
            Ok(0) => return Ok(None),
            Err(error) => return Err(HeaderError::Io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use tokio::io::AsyncWriteExt;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(5);

    /// A v2 header with this command, family and body.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &len, body].concat()
    }

    /// One of every kind.
    fn valid_headers() -> Vec<Vec<u8>> {
        vec![
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 3128\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::7 ::1 4711 3128\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN and more\r\n".to_vec(),
            v2(0x21, 0x11, &[7; 12]),
            v2(0x21, 0x21, &[7; 36]),
            v2(0x20, 0x00, b""),
            v2(0x21, 0x31, &[0; 216]),
            // With the AWS VPC endpoint id `vpce-0a`.
            v2(0x21, 0x11, &[&[7; 12], b"\xea\x00\x08\x01vpce-0a".as_slice()].concat()),
        ]
    }

    #[tokio::test]
    async fn a_header_may_come_a_byte_at_a_time_and_what_follows_it_stays() {
        for header in valid_headers() {
            for required in [true, false] {
                let (mut client, mut server) = tokio::io::duplex(1);
                let sent = [header.as_slice(), b"GET / HTTP/1.1"].concat();
                tokio::spawn(async move { client.write_all(&sent).await });
                let mut buffer = BytesMut::new();
                let read = read_header(&mut server, &mut buffer, DEADLINE, required).await.unwrap().unwrap();
                assert_eq!(read.len, header.len());
                while buffer.len() < 14 {
                    server.read_buf(&mut buffer).await.unwrap();
                }
                assert_eq!(&buffer[..], b"GET / HTTP/1.1");
            }
        }
    }

    #[tokio::test]
    async fn bytes_that_were_read_before_are_the_beginning() {
        let mut buffer = BytesMut::from("PROXY UNKNOWN\r\nCONNECT");
        let read = read_header(&mut tokio::io::empty(), &mut buffer, DEADLINE, true).await.unwrap();
        assert_eq!((read.map(|header| header.len), &buffer[..]), (Some(15), &b"CONNECT"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_never_ends_is_given_up_at_the_deadline() {
        let mut unfinished = v2(0x21, 0x21, &[0; 36]);
        unfinished.truncate(20);
        for start in [b"".to_vec(), b"PROXY TCP4 1".to_vec(), unfinished] {
            let (mut client, mut server) = tokio::io::duplex(4096);
            let pause = Duration::from_secs(if start.is_empty() { 3600 } else { 1 });
            let mut sent = start;
            // One byte each second changes nothing: the deadline is for the whole header.
            let trickle = tokio::spawn(async move {
                loop {
                    let _ = client.write_all(&sent).await;
                    sent = b"1".to_vec();
                    tokio::time::sleep(pause).await;
                }
            });
            let before = tokio::time::Instant::now();
            let error = read_header(&mut server, &mut BytesMut::new(), DEADLINE, true).await.unwrap_err();
            assert!(matches!(error, HeaderError::Timeout), "{error}");
            assert_eq!(before.elapsed(), DEADLINE);
            trickle.abort();
        }
    }

    #[tokio::test]
    async fn an_endless_line_is_refused_after_107_bytes() {
        let mut endless = &[b"PROXY ".as_slice(), &[b'x'; 100_000]].concat()[..];
        let mut buffer = BytesMut::new();
        let error = read_header(&mut endless, &mut buffer, DEADLINE, true).await.unwrap_err();
        assert!(matches!(error, HeaderError::Invalid("a PROXY v1 line of more than 107 bytes")), "{error}");
        assert!(buffer.len() <= 1024, "read {} bytes", buffer.len());
    }

    /// The result for these bytes, followed by an end or a reset; and what is left in the buffer.
    async fn ended(
        bytes: &[u8],
        reset: bool,
        required: bool,
    ) -> (Result<Option<Header>, HeaderError>, BytesMut) {
        let mut stream = ending_stream(bytes, reset);
        let mut buffer = BytesMut::new();
        (read_header(&mut stream, &mut buffer, DEADLINE, required).await, buffer)
    }

    fn ending_stream(bytes: &[u8], reset: bool) -> impl AsyncRead + Unpin {
        struct Reset;
        impl AsyncRead for Reset {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let end: Box<dyn AsyncRead + Unpin> =
            if reset { Box::new(Reset) } else { Box::new(tokio::io::empty()) };
        AsyncReadExt::chain(io::Cursor::new(bytes.to_vec()), end)
    }

    #[tokio::test]
    async fn a_probe_is_silent_and_half_a_header_is_an_error() {
        for reset in [false, true] {
            let (result, _) = ended(b"", reset, true).await;
            let error = result.unwrap_err();
            assert!(matches!(error, HeaderError::Silent), "{error}");
            assert_eq!(error.reason(), None);
        }
        for (bytes, reset) in [(&b"PROXY TCP4"[..], false), (b"PROXY TCP4", true), (b"\r\n\r\n", false)] {
            let error = ended(bytes, reset, true).await.0.unwrap_err();
            assert!(matches!(error, HeaderError::Truncated | HeaderError::Io(_)), "{error}");
            assert_eq!(error.reason(), Some(Reason::ProxyHeaderInvalid));
        }
        let error = ended(b"GET / HTTP/1.1\r\n\r\n", false, true).await.0.unwrap_err();
        assert!(matches!(error, HeaderError::Invalid("no PROXY header")), "{error}");
    }

    #[tokio::test]
    async fn where_it_is_not_required_other_bytes_stay_untouched() {
        for bytes in [
            &b"GET /healthz HTTP/1.1\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\n\r\n",
            b"PROPFIND / HTTP/1.1\r\n\r\n",
            b"\r\n\r\nGET / HTTP/1.1",
            b"PROX",
            b"\r\n",
            b"",
        ] {
            let (result, buffer) = ended(bytes, false, false).await;
            assert!(matches!(result, Ok(None)), "{result:?}");
            assert!(bytes.starts_with(&buffer), "{buffer:?}");
        }
        // A peer that begins with the signature must go on with a valid header.
        for bytes in [&b"PROXY nonsense\r\n"[..], b"PROXY TCP4 1.1.1.1", &v2(0x21, 0x55, &[7; 12])] {
            let error = ended(bytes, false, false).await.0.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::ProxyHeaderInvalid), "{bytes:?}");
        }
    }
}
