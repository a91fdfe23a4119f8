//! What either version of a header says.

use std::net::SocketAddr;

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
