//! The client of a connection, and the peer that the connection comes from.
//!
//! Behind a load balancer that uses the PROXY protocol the two differ; otherwise they are the same address. They have
//! two types, so that they cannot be swapped.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The client's address, from the PROXY header if the listener uses that protocol. Policies, limits and the log's
/// `client` use this one. IPv4-mapped IPv6 addresses are unwrapped, so that a dual-stack listener changes no verdict.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientAddr(SocketAddr);

/// The address at the other end of the TCP connection: the log's `peer`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerAddr(SocketAddr);

impl ClientAddr {
    /// Unwraps an IPv4-mapped address.
    pub fn new(address: SocketAddr) -> Self {
        ClientAddr(unmapped(address))
    }

    /// The address without the port.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

impl From<ClientAddr> for SocketAddr {
    fn from(address: ClientAddr) -> Self {
        address.0
    }
}

impl From<PeerAddr> for SocketAddr {
    fn from(address: PeerAddr) -> Self {
        address.0
    }
}

impl PeerAddr {
    /// Unwraps an IPv4-mapped address.
    pub fn new(address: SocketAddr) -> Self {
        PeerAddr(unmapped(address))
    }

    /// The address without the port.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a client speaks to egressd.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// HTTP/1, with CONNECT or with plain requests.
    Http,
    /// SOCKS5.
    Socks5,
}

impl Protocol {
    /// Every one of them.
    pub const ALL: &'static [Protocol] = &[Protocol::Http, Protocol::Socks5];

    /// The word in configuration and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Socks5 => "socks5",
        }
    }
}

/// What is known about the client before any HTTP is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// The client's address.
    pub address: ClientAddr,
    /// The address of the TCP connection.
    pub peer: PeerAddr,
    /// The identities that it has proven: `spiffe://…`, `dns:…`, `cn:…` of its certificate, `user:…` of its password.
    /// Each has its kind in front, so that a user with the name `cn:x` is not taken for a certificate.
    pub identities: Vec<Box<str>>,
    /// The AWS VPC endpoint of a PROXY v2 header.
    pub vpc_endpoint: Option<Box<str>>,
    /// The name of the listener that it came by; None: not known.
    pub listener: Option<Arc<str>>,
}

impl Client {
    /// A client that connected directly: no PROXY header, no identity, no known listener.
    pub fn direct(address: SocketAddr) -> Self {
        Client {
            address: ClientAddr::new(address),
            peer: PeerAddr::new(address),
            identities: Vec::new(),
            vpc_endpoint: None,
            listener: None,
        }
    }

    /// The identity that the log shows: the first one proven.
    pub fn identity(&self) -> Option<&str> {
        self.identities.first().map(AsRef::as_ref)
    }
}
