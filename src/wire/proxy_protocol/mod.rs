//! The PROXY protocol, versions 1 and 2: who really asks, where a load balancer stands in front.
//!
//! [`parse`] is pure and looks at bytes; [`read_header`] reads them from a connection under a deadline. Both follow
//! HAProxy's `proxy-protocol.txt` (2020/03/05) and are stricter where it leaves a choice: numbers have one spelling,
//! a field that does not fit closes the connection, and there is exactly one header.
//!
//! Left out: who may send a header (the listener compares the peer with `trusted` before it calls), writing headers,
//! and every TLV but the checksum and the AWS VPC endpoint id.
#![warn(clippy::indexing_slicing)]

mod v1;
mod v2;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::words::outcome::Reason;

/// The longest header that is read: the fixed part of version 2 and its greatest accepted length, in bytes.
pub const MAX_HEADER: usize = v2::FIXED + v2::MAX_BODY;

/// What is read from the socket at a time, in bytes: a v2 header of an NLB with all its TLVs fits twice.
const READ: usize = 256;

/// What the header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of the header, its end included.
    pub len: usize,
    /// Who connected to the balancer. `None` where the balancer speaks for itself (LOCAL: its health checks) or
    /// cannot say (UNKNOWN, UNSPEC, AF_UNIX): then the peer of the connection is the client.
    pub source: Option<SocketAddr>,
    /// Where that connection went to. Present when `source` is.
    pub destination: Option<SocketAddr>,
    /// The AWS VPC endpoint that the connection came through (PP2_TYPE_AWS 0xEA, subtype 0x01).
    pub vpc_endpoint: Option<Box<str>>,
}

/// What the first bytes of a connection are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// The beginning of a header. No header is whole before the buffer holds this many bytes in all.
    NeedMore(usize),
    /// A whole header; other bytes may follow it.
    Header(Header),
    /// No header, or a malformed one; in words that repeat nothing of it.
    Invalid(&'static str),
}

/// Why there is no header.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// The peer left without a byte, as a probe does: to be counted, not logged.
    #[error("closed without a byte")]
    Silent,
    /// The bytes are no header.
    #[error("{0}")]
    Invalid(&'static str),
    /// The peer left in the middle of the header.
    #[error("closed in the middle of the PROXY header")]
    Truncated,
    /// The header was not whole in time.
    #[error("no whole PROXY header in time")]
    Timeout,
    /// The connection failed in the middle of the header.
    #[error("the connection failed in the middle of the PROXY header: {0}")]
    Io(io::Error),
}

impl HeaderError {
    /// The reason for log and metric; `None` for a probe, which is no refusal.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            HeaderError::Silent => None,
            HeaderError::Invalid(_) | HeaderError::Truncated | HeaderError::Timeout | HeaderError::Io(_) => {
                Some(Reason::ProxyHeaderInvalid)
            }
        }
    }
}

/// Reads the header at the beginning of `bytes`. Every call starts from the beginning; while a header is not whole
/// that costs at most a look at 107 bytes, so that a peer that sends single bytes gains nothing.
pub fn parse(bytes: &[u8]) -> Parsed {
    // Version 1 first: its shortest header is the shorter one, which matters where there is no byte yet.
    let parsed = if shares_start(bytes, v1::SIGNATURE) {
        v1::parse(bytes)
    } else if shares_start(bytes, v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Parsed::Invalid("no PROXY header")
    };
    match parsed {
        Parsed::Header(header) if bytes.get(header.len..).is_some_and(announces_header) => {
            Parsed::Invalid("more than one PROXY header")
        }
        parsed => parsed,
    }
}

/// Reads a header from the beginning of a connection and takes it out of `buffer`; what came behind it stays there.
/// `buffer` may already hold bytes of the connection. `timeout` is for the whole header, however it is cut.
///
/// With `required` anything else than a header is an error. Without, as on the admin listener, a connection that does
/// not begin with the signature gives `None` and its bytes stay untouched; one that does must keep its word.
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
            // A reset of a connection that said nothing is how some probes leave.
            Ok(0) | Err(_) if buffer.is_empty() && required => return Err(HeaderError::Silent),
            Ok(0) if required || announces_header(buffer) => return Err(HeaderError::Truncated),
            // The reader of HTTP heads sees the same end, and knows what to call it.
            Ok(0) => return Ok(None),
            Err(error) => return Err(HeaderError::Io(error)),
        }
    }
}

/// Whether the whole signature of either version stands at the beginning.
fn announces_header(bytes: &[u8]) -> bool {
    bytes.starts_with(v1::SIGNATURE) || bytes.starts_with(v2::SIGNATURE)
}

/// Whether one is the beginning of the other.
fn shares_start(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests;
