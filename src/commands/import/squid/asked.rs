//! The hosts that lists are asked about, and what it is that asks for one.

use ipnet::IpNet;

/// The host of a request: one, or all of a kind that no list tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum AskedHost<'a> {
    /// This name.
    Name(&'a str),
    /// The names under it that no list mentions.
    Below(&'a str),
    /// The names that no list mentions.
    OtherNames,
    /// The addresses of this network that no list mentions.
    Network(IpNet),
}

/// What clients say to a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Takes {
    /// Requests to a proxy.
    Requests,
    /// Plain HTTP that was redirected there.
    RedirectedHttp,
    /// TLS that was redirected there.
    RedirectedTls,
}
