//! The strict gate: reads one request head from a stranger and says whether it is a well-formed, unambiguous request
//! that a forward proxy can serve.
//!
//! It is stricter than RFC 9112 asks and than any HTTP library is, because what two programs read differently is how
//! requests are smuggled: CRLF alone ends a line, nothing is folded, nothing is repaired, the framing is one
//! `Content-Length` or one `chunked`, and the host is asked for in one way. [`grammar`] judges the bytes of a head,
//! [`framing`] how much body follows and what `Connection` nominates, [`body`] follows that body so that the next
//! head on the connection begins where it should. Here is what has to do with time and the socket: the byte bound, the
//! absolute deadline, and the line endings, which are judged as they arrive so that a client that speaks something else
//! is told at once.
//!
//! Not here: whether the target is allowed (`policy`), what the reply looks like (`reply`), passwords.

mod body;
mod framing;
mod grammar;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use http::uri::PathAndQuery;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use crate::words::outcome::Reason;
use crate::words::target::Target;

pub use body::{BodyError, BodyFollower, Piece};
pub use framing::{Framing, connection_options};

/// Most fields in one head; one more is [`Reason::HeadTooLarge`].
pub const MAX_FIELDS: usize = 100;
/// Most bytes of a `User-Agent` that are kept for the log.
pub const MAX_USER_AGENT: usize = 256;
/// Read at once; a head with early data (a ClientHello of 1.7 kB) fits.
const READ_SIZE: usize = 4 * 1024;

/// How much a client may send and how long it may take before its request is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Most bytes of one head, its last empty line included: `limits.head_bytes`.
    pub bytes: usize,
    /// From the call of [`read_head`] to the last byte of the head: `limits.head_timeout`.
    pub timeout: Duration,
}

/// HTTP/1.0 or HTTP/1.1; nothing else passes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// No `Host` needed, no chunked coding either way, one request a connection (RFC 9112 §9.3).
    Http10,
    /// RFC 9112.
    Http11,
}

/// What the request line asks for, in the two forms that a forward proxy serves (RFC 9112 §3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestTarget {
    /// CONNECT's authority-form.
    Authority(Target),
    /// An absolute `http://` URI.
    Absolute {
        /// The URI's authority.
        target: Target,
        /// What goes into the origin-form upstream; begins with `/`. Has the query: for the log use its `path()`.
        path_and_query: PathAndQuery,
    },
}

impl RequestTarget {
    /// Host and port, whatever the form.
    pub fn target(&self) -> &Target {
        match self {
            RequestTarget::Authority(target) | RequestTarget::Absolute { target, .. } => target,
        }
    }
}

/// A judged request head. All that a decision needs is in the fields; `headers` is for forwarding and credentials.
#[derive(Clone, Debug)]
pub struct Head {
    /// CONNECT exactly if `target` is [`RequestTarget::Authority`].
    pub method: http::Method,
    /// Canonical.
    pub target: RequestTarget,
    /// As the client said it.
    pub version: Version,
    /// Every field, copied (nothing here pins the read buffer). Credentials are marked sensitive, so that `Debug`
    /// does not print them. Values may hold `obs-text` (0x80 to 0xff), save in the fields judged here.
    pub headers: HeaderMap,
    /// The body that follows.
    pub framing: Framing,
    /// Whether another head may follow on this connection once this request is done.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// The length of the head on the wire.
    pub bytes: usize,
}

/// A refusal at the gate, with what can be said of the request for the record.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct RefusedHead {
    /// `bad_request`, `bad_target`, `head_too_large`, `head_timeout`, `method_not_allowed` or `scheme_not_allowed`.
    pub reason: Reason,
    /// One line that says what is wrong. Holds no byte that the client sent, so it is safe in a reply and a log.
    pub detail: Cow<'static, str>,
    /// The method, where the request line has one.
    pub method: Option<http::Method>,
    /// The target, where it is canonical.
    pub target: Option<RequestTarget>,
    /// The target as it was sent, where it is not: any bytes but a space, escaped and cut by the log.
    pub malformed: Option<Box<[u8]>>,
    /// At most [`MAX_USER_AGENT`] bytes; not escaped: the log does that.
    pub user_agent: Option<Box<str>>,
}

/// What a check found wrong, before anything is known of the rest of the head.
#[derive(Debug)]
struct Fault {
    reason: Reason,
    detail: Cow<'static, str>,
}

impl Fault {
    fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Fault { reason, detail: detail.into() }
    }

    fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Fault::new(Reason::BadRequest, detail)
    }
}

/// Why there is no head to serve.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum HeadError {
    /// The client is to be answered, and the connection closed.
    #[error(transparent)]
    Refused(Box<RefusedHead>),
    /// The client left, or reset the connection, in the middle of a head: there is nobody to answer.
    #[error("the client left in the middle of a request head")]
    Gone,
}

impl HeadError {
    /// For a head that is waited for no longer, of which `buffer` has come.
    pub fn cut_short(reason: Reason, detail: &'static str, buffer: &[u8]) -> Self {
        refuse(Fault::new(reason, detail), buffer)
    }
}

/// Reads and judges one request head. What follows it (early data, the body, a pipelined head) stays in `buffer`;
/// the head itself is taken out. `buffer` may hold bytes of an earlier read. Dropping the future loses nothing.
///
/// `None`: closed, or reset, without a byte, which is what a load balancer's probe does.
///
/// # Errors
/// [`HeadError`]. After a refusal the position in the stream is lost: the connection can only be closed.
pub async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    limits: &HeadLimits,
) -> Result<Option<Head>, HeadError> {
    let deadline = Instant::now() + limits.timeout;
    let mut lines = Lines::default();
    loop {
        match lines.scan(buffer, limits.bytes) {
            Ok(None) => {}
            Ok(Some(end)) => {
                let head = buffer.split_to(end);
                return grammar::judge(&head).map(Some).map_err(|fault| refuse(fault, &head));
            }
            Err(fault) => return Err(refuse(fault, buffer)),
        }
        buffer.reserve(READ_SIZE);
        match timeout_at(deadline, stream.read_buf(buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) if buffer.is_empty() => return Ok(None),
            Ok(Ok(0) | Err(_)) => return Err(HeadError::Gone),
            Err(_) => {
                let fault = Fault::new(Reason::HeadTimeout, "the request head did not arrive in time");
                return Err(refuse(fault, buffer));
            }
        }
    }
}

/// Adds what can be told for the record. Done only on refusals, so a good head does not pay for it.
fn refuse(fault: Fault, bytes: &[u8]) -> HeadError {
    HeadError::Refused(Box::new(grammar::describe(fault, bytes)))
}

/// Watches the line endings as bytes arrive. Every byte is looked at once, whatever the cut, so the verdict does not
/// depend on how the head was cut into segments.
#[derive(Default)]
struct Lines {
    /// Bytes looked at.
    position: usize,
    /// Where the current line begins.
    start: usize,
    /// Lines ended so far.
    count: usize,
    /// The byte before `position`.
    previous: u8,
}

impl Lines {
    /// The end of the head, once its empty line is there.
    fn scan(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
        let within = bytes.get(..limit).unwrap_or(bytes);
        for &byte in within.get(self.position..).unwrap_or_default() {
            if self.position == 0 {
                first_byte(byte)?;
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
            // Judged at once: a client of another protocol need not wait for the deadline to be told.
            return grammar::RequestLine::parse(line).map(drop);
        }
        if self.count > MAX_FIELDS + 1 {
            return Err(Fault::new(Reason::HeadTooLarge, "the request head has more than 100 fields"));
        }
        Ok(())
    }
}

fn first_byte(byte: u8) -> Result<(), Fault> {
    match byte {
        // RFC 8446 §5.1: a handshake record.
        0x16 => Err(Fault::bad_request(
            "this is a plain HTTP proxy port, and the client spoke TLS: use http:// in the proxy URL",
        )),
        b'\r' | b'\n' => Err(Fault::bad_request("an empty line before the request line")),
        _ if grammar::is_token_byte(byte) => Ok(()),
        _ => Err(Fault::bad_request("the first byte is none of an HTTP request")),
    }
}
