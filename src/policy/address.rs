//! Which addresses may be dialled. Stand-in of the address module: only what the policy needs to compile.

use std::net::IpAddr;

use ipnet::IpNet;

/// An address that passed the check; only `policy` makes one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Admitted(IpAddr);

impl Admitted {
    /// Only `policy` admits.
    pub(super) fn new(address: IpAddr) -> Self {
        Admitted(address)
    }

    /// The address to dial.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

/// An address that may not be dialled, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressDenial {
    /// The address that was judged.
    pub address: IpAddr,
    /// A registry row, "credential endpoint", "denied by rule".
    pub why: &'static str,
}

/// Why `ip` may not be dialled, unless one of the `private` networks opens it.
pub fn prohibited(ip: IpAddr, private: &[IpNet]) -> Option<&'static str> {
    if ip == IpAddr::from([169, 254, 169, 254]) {
        return Some("credential endpoint");
    }
    let local = match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    };
    (local && !private.iter().any(|net| net.contains(&ip))).then_some("private use")
}
