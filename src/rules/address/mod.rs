//! Which addresses may be dialled at all: the check for every DNS answer, literal target and hosts entry.
//!
//! Only globally reachable unicast addresses pass, according to the IANA special-purpose registries ([`registry`]).
//! `private` opens non-public networks. IPv4 inside IPv6 is unwrapped and judged as IPv4, by what a packet would reach:
//!
//! | form | judged |
//! |---|---|
//! | mapped `::ffff:a.b.c.d`, NAT64 `64:ff9b::/96` | as `a.b.c.d`, and nothing else: an IPv4 entry in `private` opens them too |
//! | local NAT64 `64:ff9b:1::/48` | not public (RFC 8215); every reading of its IPv4 must pass, and `private` must open the address or one of the readings |
//! | 6to4, Teredo (server and client), compatible `::a.b.c.d`, translated `::ffff:0:a.b.c.d` | the IPv4 must pass, *and* the block itself, which the registry does not call globally reachable (6to4, Teredo: N/A), must be opened |
//! | ISATAP (`…:5efe:a.b.c.d` in any prefix) | the IPv4 must pass, and the address must |
//!
//! Credential endpoints are never opened, in any of these forms. Not here: `deny` networks (the policy adds them) and
//! egressd's own listeners ([`crate::outbound::dial`]).

mod registry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use registry::{CREDENTIAL_ENDPOINTS, IPV4, IPV6, Reach};

/// An address that passed the check, or the address of the parent proxy, which the operator named. Only this room makes one, and
/// [`crate::outbound::dial`] accepts nothing else, so no code can dial an unchecked address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Admitted(IpAddr);

impl Admitted {
    /// Mapped addresses become the IPv4 address that the kernel would dial, so that the address that was judged is the
    /// one that is dialled and logged.
    pub(in crate::rules) fn new(address: IpAddr) -> Self {
        Admitted(address.to_canonical())
    }

    /// The parent proxy's address: the operator sets it, and no rule applies. Never used for a target.
    pub(crate) fn next_hop(address: IpAddr) -> Self {
        Admitted::new(address)
    }

    /// The address to dial; never IPv4-mapped.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

/// An address that may not be dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressDenial {
    /// The address from DNS, the hosts file or the target.
    pub address: IpAddr,
    /// The name in the registry, the credential endpoint, or that a rule denies it.
    pub why: &'static str,
}

impl fmt::Display for AddressDenial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.why)
    }
}

/// Judges one address by only the registries and `private`; code that serves must not do this.
#[cfg(test)]
pub(crate) fn admit(address: IpAddr, private: &[IpNet]) -> Result<Admitted, AddressDenial> {
    match prohibited(address, private) {
        None => Ok(Admitted::new(address)),
        Some(why) => Err(AddressDenial { address, why }),
    }
}

/// Why `address` may not be dialled; None if it may.
pub fn prohibited(address: IpAddr, private: &[IpNet]) -> Option<&'static str> {
    never(address).or_else(|| match address.to_canonical() {
        IpAddr::V4(address) => prohibited_v4(address, private),
        IpAddr::V6(address) => prohibited_v6(address, private),
    })
}

/// The endpoint that `address` reaches, if no rule can open it: a credential or metadata endpoint, in any IPv6 form.
pub fn never(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    endpoint(address).or_else(|| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => embedded_v4(address).find_map(|inner| endpoint(IpAddr::V4(inner))),
    })
}

/// The endpoints inside `network` that stay closed even if `private` lists it; each is a configuration warning.
pub fn never_in(network: &IpNet) -> impl Iterator<Item = (IpAddr, &'static str)> {
    CREDENTIAL_ENDPOINTS.iter().filter(|(address, _)| network.contains(address)).copied()
}

/// Why no address of `network` may be dialled; None if some may. For IPv6 that contains IPv4 addresses it may say None
/// by mistake.
pub fn all_prohibited(network: &IpNet, private: &[IpNet]) -> Option<&'static str> {
    let meets = |opened: &IpNet| opened.contains(network) || network.contains(opened);
    if private.iter().any(meets) {
        return None;
    }
    match network {
        IpNet::V4(network) => {
            let around = IPV4.iter().filter(|row| row.block.contains(network));
            let row = around.max_by_key(|row| row.block.prefix_len())?;
            let inside = IPV4.iter().any(|row| network.contains(&row.block) && row.reach == Reach::Global);
            (row.reach != Reach::Global && !inside).then_some(row.name)
        }
        IpNet::V6(network) => {
            let around = IPV6.iter().filter(|row| row.block.contains(network));
            let row = around.max_by_key(|row| row.block.prefix_len())?;
            let inside = IPV6.iter().any(|row| network.contains(&row.block) && row.reach == Reach::Global);
            let embeds = embedding(network.addr()).is_some();
            (row.reach != Reach::Global && !inside && !embeds).then_some(row.name)
        }
    }
}

/// Whether `network` contains an address that only `private` opens.
pub fn holds_private(network: &IpNet) -> bool {
    // Between two beginnings of the registries' blocks nothing changes but at the end of a block, and what holds there begins
    // before it.
    let v4 = IPV4.iter().map(|row| IpAddr::V4(row.block.network()));
    let v6 = IPV6.iter().map(|row| IpAddr::V6(row.block.network()));
    let inside = v4.chain(v6).filter(|address| network.contains(address));
    [network.network(), network.broadcast()].into_iter().chain(inside).any(|address| {
        never(address).is_none()
            && prohibited(address, &[]).is_some()
            && prohibited(address, &[*network]).is_none()
    })
}

/// Every IPv4 address that a translator, tunnel or dual-stack kernel may extract from `address`.
pub fn embedded_v4(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    embedding(address).map(|found| found.readings).unwrap_or_default().into_iter().flatten()
}

fn endpoint(address: IpAddr) -> Option<&'static str> {
    CREDENTIAL_ENDPOINTS.iter().find(|(known, _)| *known == address).map(|(_, name)| *name)
}

fn opened(address: IpAddr, private: &[IpNet]) -> bool {
    private.iter().any(|network| network.contains(&address))
}

fn verdict(name: &'static str, reach: Reach, is_open: impl FnOnce() -> bool) -> Option<&'static str> {
    match reach {
        Reach::Global => None,
        Reach::Local if is_open() => None,
        Reach::Local | Reach::Nowhere => Some(name),
    }
}

fn prohibited_v4(address: Ipv4Addr, private: &[IpNet]) -> Option<&'static str> {
    let row =
        IPV4.iter().filter(|row| row.block.contains(&address)).max_by_key(|row| row.block.prefix_len())?;
    verdict(row.name, row.reach, || opened(IpAddr::V4(address), private))
}

fn prohibited_v6(address: Ipv6Addr, private: &[IpNet]) -> Option<&'static str> {
    let is_open = || opened(IpAddr::V6(address), private);
    let inner_prohibited =
        |found: &Embedding| found.readings().find_map(|inner| prohibited_v4(inner, private));
    match embedding(address) {
        None => outer_prohibited(address, is_open()),
        Some(found) => match found.form {
            Form::Translated if is_open() => None,
            Form::Translated => inner_prohibited(&found),
            Form::LocalTranslated => {
                let opened_inside = found.readings().any(|inner| opened(IpAddr::V4(inner), private));
                inner_prohibited(&found).or_else(|| outer_prohibited(address, is_open() || opened_inside))
            }
            Form::Tunnelled => inner_prohibited(&found).or_else(|| outer_prohibited(address, is_open())),
        },
    }
}

fn outer_prohibited(address: Ipv6Addr, is_open: bool) -> Option<&'static str> {
    match IPV6.iter().filter(|row| row.block.contains(&address)).max_by_key(|row| row.block.prefix_len()) {
        Some(row) => verdict(row.name, row.reach, || is_open),
        None => Some("not in any registry"),
    }
}

/// How an IPv6 address contains an IPv4 address.
enum Form {
    /// The packet arrives at the IPv4 address.
    Translated,
    /// The same in the operator's own network, where the operator chooses the prefix length.
    LocalTranslated,
    /// The IPv6 packet travels inside IPv4 to that address.
    Tunnelled,
}

struct Embedding {
    form: Form,
    readings: [Option<Ipv4Addr>; 4],
}

impl Embedding {
    fn one(form: Form, address: Ipv4Addr) -> Option<Self> {
        Some(Embedding { form, readings: [Some(address), None, None, None] })
    }

    fn readings(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.readings.iter().flatten().copied()
    }
}

fn embedding(address: Ipv6Addr) -> Option<Embedding> {
    let octets = address.octets();
    let at = |[a, b, c, d]: [usize; 4]| Ipv4Addr::new(octets[a], octets[b], octets[c], octets[d]);
    let last = at([12, 13, 14, 15]);
    match address.segments() {
        // The unspecified and the loopback address are in the compatible block and contain no IPv4 address.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => Embedding::one(Form::Tunnelled, last),
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            Embedding::one(Form::Translated, last)
        }
        [0x64, 0xff9b, 1, ..] => {
            // RFC 6052 §2.2 for prefixes of 48, 56, 64 and 96 bits; octet 8 is never part of the address. A reading in
            // 0.0.0.0/8 is the zero padding of another prefix length.
            let readings = [at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12]), last]
                .map(|inner| (inner.octets()[0] != 0).then_some(inner));
            Some(Embedding { form: Form::LocalTranslated, readings })
        }
        [0x2001, 0, ..] => {
            // RFC 4380 §4: the server, and the client's address with every bit inverted.
            let client = Ipv4Addr::from_bits(!last.to_bits());
            Some(Embedding {
                form: Form::Tunnelled,
                readings: [Some(at([4, 5, 6, 7])), Some(client), None, None],
            })
        }
        [0x2002, ..] => Embedding::one(Form::Tunnelled, at([2, 3, 4, 5])),
        // RFC 5214 §6.1: 00-00-5E-FE, with the universal bit where the IPv4 address is public.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => Embedding::one(Form::Tunnelled, last),
        _ => None,
    }
}
