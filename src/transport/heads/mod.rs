//! Reads request heads from a client's connection: the buffer, the byte bound and the absolute deadline around
//! [`crate::wire::head`], which says what the bytes mean.
//!
//! Not here: the bodies between the heads, which are read where they are forwarded ([`crate::session::http::forward`]).

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout_at};

use crate::transport::held::Lease;
use crate::transport::held::read::read;
use crate::wire::head::{Head, HeadLines, Place, RefusedHead, cut_short, parse_at};
use crate::words::outcome::Reason;

/// How much a client may send, and how long it may take, before its request is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Most bytes of one head, including its last empty line: `limits.head_bytes`.
    pub bytes: usize,
    /// From the call of [`read_head`] to the last byte of the head: `limits.head_timeout`.
    pub timeout: Duration,
}

/// Why there is no head to serve.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum HeadError {
    /// The client gets an answer, and the connection is closed.
    #[error(transparent)]
    Refused(Box<RefusedHead>),
    /// The client left, or reset the connection, in the middle of a head: there is nobody to answer.
    #[error("the client left in the middle of a request head")]
    Gone,
}

impl HeadError {
    /// For a head that is no longer waited for. `buffer` is the part of it that arrived.
    pub fn cut_short(reason: Reason, detail: &'static str, buffer: &[u8], place: &Place) -> Self {
        HeadError::Refused(cut_short(reason, detail, buffer, place))
    }
}

/// Reads one request head and checks it. What follows it (early data, the body, a pipelined head) stays in `buffer`;
/// the head itself is removed from it. `buffer` may hold bytes of an earlier read. `lease` covers it, and the head until the caller
/// leases that: [`Head::cost`]. Dropping the future loses nothing.
///
/// `None`: the connection was closed or reset without a byte, as a load balancer's probe does.
///
/// # Errors
/// [`HeadError`]. After a refusal the position in the stream is lost: the connection can only be closed.
pub async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    lease: &mut Lease,
    limits: &HeadLimits,
) -> Result<Option<Head>, HeadError> {
    read_head_at(&Place::Proxy, stream, buffer, lease, limits).await
}

/// The same for a head that comes in at `place`.
///
/// # Errors
/// As [`read_head`].
pub async fn read_head_at<S: AsyncRead + Unpin>(
    place: &Place,
    stream: &mut S,
    buffer: &mut BytesMut,
    lease: &mut Lease,
    limits: &HeadLimits,
) -> Result<Option<Head>, HeadError> {
    let deadline = Instant::now() + limits.timeout;
    let mut lines = HeadLines::at(place.clone());
    loop {
        if let Some(end) = lines.scan(buffer, limits.bytes).map_err(HeadError::Refused)? {
            let (head, rest) = buffer.split_at(end);
            let parsed = parse_at(head, place).map_err(HeadError::Refused)?;
            // What is left of a buffer keeps the memory of all of it: the head would be held twice.
            *buffer = BytesMut::from(rest);
            lease.set(buffer.capacity() + parsed.cost());
            return Ok(Some(parsed));
        }
        match timeout_at(deadline, read(stream, buffer, lease)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) if buffer.is_empty() => return Ok(None),
            Ok(Ok(0) | Err(_)) => return Err(HeadError::Gone),
            Err(_) => {
                let detail = "the request head did not arrive in time";
                return Err(HeadError::cut_short(Reason::HeadTimeout, detail, buffer, place));
            }
        }
    }
}

#[cfg(test)]
mod tests;
