//! What a header of either version says.

use std::net::SocketAddr;

/// What the header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of the header, including its end.
    pub len: usize,
    /// The address that connected to the balancer. `None` where the connection is the balancer's own (LOCAL: its health
    /// checks) or the balancer cannot say (UNKNOWN, UNSPEC, AF_UNIX): then the peer of the connection is the client.
    pub source: Option<SocketAddr>,
    /// The address that it connected to. Present when `source` is.
    pub destination: Option<SocketAddr>,
    /// The AWS VPC endpoint that the connection came through (PP2_TYPE_AWS 0xEA, subtype 0x01).
    pub vpc_endpoint: Option<Box<str>>,
}

/// What the first bytes of a connection are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// The beginning of a header. It cannot be complete before the buffer holds this many bytes in all.
    NeedMore(usize),
    /// A whole header; other bytes may follow it.
    Header(Header),
    /// Not a header, or a malformed one. The text quotes nothing from it.
    Invalid(&'static str),
}
