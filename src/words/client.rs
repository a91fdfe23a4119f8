//! The client of a connection, and the peer that the connection comes from.
//!
//! Behind a load balancer that uses the PROXY protocol the two differ; otherwise they are the same address. They have
//! two types, so that they cannot be swapped.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The client's address, from the PROXY header if the listener uses that protocol. Policies, limits and the log's
/// `client` use this one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientAddr {
    /// An address. IPv4-mapped IPv6 addresses are unwrapped, so that a dual-stack listener changes no verdict.
    Address(SocketAddr),
    /// A user of this machine, who has the address of this machine.
    User(u32),
}

/// Who is at the other end of the connection: the log's `peer`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PeerAddr {
    /// An address. IPv4-mapped IPv6 addresses are unwrapped.
    Address(SocketAddr),
    /// A user of this machine, by a unix socket.
    User(u32),
}

/// The address of a client that has none: it is on this machine.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl ClientAddr {
    /// Unwraps an IPv4-mapped address.
    pub fn new(address: SocketAddr) -> Self {
        ClientAddr::Address(unmapped(address))
    }

    /// Of a client that connected directly.
    pub fn of_peer(peer: PeerAddr) -> Self {
        match peer {
            PeerAddr::Address(address) => ClientAddr::Address(address),
            PeerAddr::User(number) => ClientAddr::User(number),
        }
    }

    /// The address without the port.
    pub fn ip(self) -> IpAddr {
        SocketAddr::from(self).ip()
    }

    /// What tells the users of this machine apart wherever clients are counted: an address that no client can have, because it is one
    /// of multicast. `None`: its own address does.
    pub fn of_user(self) -> Option<IpAddr> {
        match self {
            ClientAddr::Address(_) => None,
            ClientAddr::User(number) => Some(Ipv6Addr::from_bits((0xff << 120) | u128::from(number)).into()),
        }
    }
}

impl From<ClientAddr> for SocketAddr {
    fn from(address: ClientAddr) -> Self {
        match address {
            ClientAddr::Address(address) => address,
            ClientAddr::User(_) => HERE,
        }
    }
}

impl PeerAddr {
    /// Unwraps an IPv4-mapped address.
    pub fn new(address: SocketAddr) -> Self {
        PeerAddr::Address(unmapped(address))
    }

    /// The user of this number, by a unix socket.
    pub fn user(number: u32) -> Self {
        PeerAddr::User(number)
    }

    /// The address without the port; that of this machine for one of its users.
    pub fn ip(self) -> IpAddr {
        ClientAddr::of_peer(self).ip()
    }
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddr::Address(address) => address.fmt(f),
            PeerAddr::User(number) => write!(f, "uid:{number}"),
        }
    }
}

/// What a client speaks to egressd.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// HTTP/1, with CONNECT or with plain requests.
    Http,
    /// SOCKS5.
    Socks5,
    /// Nothing: it was redirected here, or DNS led it here, and its first bytes are for its target.
    Transparent,
}

impl Protocol {
    /// Every one of them.
    pub const ALL: &'static [Protocol] = &[Protocol::Http, Protocol::Socks5, Protocol::Transparent];

    /// The protocol of this word.
    pub fn named(word: &str) -> Option<Self> {
        Protocol::ALL.iter().copied().find(|protocol| protocol.as_str() == word)
    }

    /// The word in configuration and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Socks5 => "socks5",
            Protocol::Transparent => "transparent",
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
        Client::of_peer(PeerAddr::new(address))
    }

    /// The same for a peer that may have no address: it counts as one of this machine.
    pub fn of_peer(peer: PeerAddr) -> Self {
        Client {
            address: ClientAddr::of_peer(peer),
            peer,
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
