//! Which addresses may be dialled. Stand-in of the address module: only what the policy needs to compile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An address that passed the check; only `policy` makes one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Admitted(IpAddr);

impl Admitted {
    /// Only `policy` admits.
    pub(in crate::policy) fn new(address: IpAddr) -> Self {
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

/// Every IPv4 address that a translator, tunnel or dual-stack kernel may read out of `address`: here NAT64 (RFC 6052),
/// 6to4 (RFC 3056), Teredo (RFC 4380, the client) and IPv4-compatible (RFC 4291 §2.5.5.1).
pub fn embedded_v4(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let found = match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => Some(join(g, h)),
        (0x2002, _) => Some(join(b, c)),
        (0x2001, 0) => Some(join(!g, !h)),
        (0, 0) if [c, d, e, f] == [0; 4] && g != 0 => Some(join(g, h)),
        _ => None,
    };
    found.into_iter()
}
