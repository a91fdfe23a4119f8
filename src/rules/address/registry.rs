//! The IANA special-purpose registries as tables, and the credential endpoints that no rule opens.
//!
//! IPv4: *IANA IPv4 Special-Purpose Address Registry*; IPv6: *IANA IPv6 Special-Purpose Address Registry* (both RFC
//! 6890 as updated by RFC 8190, as of 2026-07-18) and *Internet Protocol Version 6 Address Space* for blocks that are
//! not unicast or not allocated. The names are from the registry, with the RFC that requested the block. The longest
//! prefix decides. Not here: how a row is used ([`address`](super)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What the registry's column "Globally Reachable" means to a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// True: passes.
    Global,
    /// False or N/A: passes only if `private` opens it.
    Local,
    /// Not the address of one host (multicast, broadcast, unspecified): nothing opens it.
    Nowhere,
}

/// One row of a registry.
pub(super) struct Row<N> {
    pub(super) block: N,
    pub(super) name: &'static str,
    pub(super) reach: Reach,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8, reach: Reach, name: &'static str) -> Row<Ipv4Net> {
    Row { block: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length), name, reach }
}

const fn v6(segments: [u16; 8], length: u8, reach: Reach, name: &'static str) -> Row<Ipv6Net> {
    let [a, b, c, d, e, f, g, h] = segments;
    Row { block: Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length), name, reach }
}

use Reach::{Global, Local, Nowhere};

/// IPv4. An address that is in no row is global unicast.
#[rustfmt::skip]
pub(super) const IPV4: &[Row<Ipv4Net>] = &[
    v4(0, 0, 0, 0, 8, Local, "\"This network\" (RFC 791)"),
    v4(0, 0, 0, 0, 32, Nowhere, "\"This host on this network\" (RFC 1122)"),
    v4(10, 0, 0, 0, 8, Local, "Private-Use (RFC 1918)"),
    v4(100, 64, 0, 0, 10, Local, "Shared Address Space (RFC 6598)"),
    v4(127, 0, 0, 0, 8, Local, "Loopback (RFC 1122)"),
    v4(169, 254, 0, 0, 16, Local, "Link Local (RFC 3927)"),
    v4(172, 16, 0, 0, 12, Local, "Private-Use (RFC 1918)"),
    v4(192, 0, 0, 0, 24, Local, "IETF Protocol Assignments (RFC 6890)"),
    v4(192, 0, 0, 0, 29, Local, "IPv4 Service Continuity Prefix (RFC 7335)"),
    v4(192, 0, 0, 8, 32, Local, "IPv4 dummy address (RFC 7600)"),
    v4(192, 0, 0, 9, 32, Global, "Port Control Protocol Anycast (RFC 7723)"),
    v4(192, 0, 0, 10, 32, Global, "Traversal Using Relays around NAT Anycast (RFC 8155)"),
    v4(192, 0, 0, 170, 31, Local, "NAT64/DNS64 Discovery (RFC 7050)"),
    v4(192, 0, 2, 0, 24, Local, "Documentation (TEST-NET-1) (RFC 5737)"),
    v4(192, 31, 196, 0, 24, Global, "AS112-v4 (RFC 7535)"),
    v4(192, 52, 193, 0, 24, Global, "AMT (RFC 7450)"),
    v4(192, 88, 99, 0, 24, Local, "Deprecated (6to4 Relay Anycast) (RFC 7526)"),
    v4(192, 88, 99, 2, 32, Local, "6a44-relay anycast address (RFC 6751)"),
    v4(192, 168, 0, 0, 16, Local, "Private-Use (RFC 1918)"),
    v4(192, 175, 48, 0, 24, Global, "Direct Delegation AS112 Service (RFC 7534)"),
    v4(198, 18, 0, 0, 15, Local, "Benchmarking (RFC 2544)"),
    v4(198, 51, 100, 0, 24, Local, "Documentation (TEST-NET-2) (RFC 5737)"),
    v4(203, 0, 113, 0, 24, Local, "Documentation (TEST-NET-3) (RFC 5737)"),
    v4(224, 0, 0, 0, 4, Nowhere, "Multicast (RFC 5771)"),
    v4(240, 0, 0, 0, 4, Local, "Reserved (RFC 1112)"),
    v4(255, 255, 255, 255, 32, Nowhere, "Limited Broadcast (RFC 8190)"),
];

/// IPv6. IANA assigns addresses only from 2000::/3, so everything outside it is prohibited unless a row says otherwise.
#[rustfmt::skip]
pub(super) const IPV6: &[Row<Ipv6Net>] = &[
    v6([0; 8], 0, Local, "Reserved by IETF (RFC 4291)"),
    v6([0; 8], 96, Local, "IPv4-Compatible Address, deprecated (RFC 4291)"),
    v6([0; 8], 128, Nowhere, "Unspecified Address (RFC 4291)"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Local, "Loopback Address (RFC 4291)"),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, Local, "IPv4-mapped Address (RFC 4291)"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, Local, "IPv4-translated Address, historic (RFC 2765)"),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, Global, "IPv4-IPv6 Translat. (RFC 6052)"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Local, "IPv4-IPv6 Translat. (RFC 8215)"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Local, "Discard-Only Address Block (RFC 6666)"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, Local, "Dummy IPv6 Prefix (RFC 9780)"),
    v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, Global, "Global Unicast (RFC 4291)"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Local, "IETF Protocol Assignments (RFC 2928)"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Local, "TEREDO (RFC 4380)"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, Global, "Port Control Protocol Anycast (RFC 7723)"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, Global, "Traversal Using Relays around NAT Anycast (RFC 8155)"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, Global, "DNS-SD Service Registration Protocol Anycast (RFC 9665)"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, Local, "Benchmarking (RFC 5180)"),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, Global, "AMT (RFC 7450)"),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, Global, "AS112-v6 (RFC 7535)"),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, Local, "Deprecated (previously ORCHID) (RFC 4843)"),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, Global, "ORCHIDv2 (RFC 7343)"),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, Global, "Drone Remote ID Protocol Entity Tags (DETs) Prefix (RFC 9374)"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Local, "Documentation (RFC 3849)"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Local, "6to4 (RFC 3056)"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, Global, "Direct Delegation AS112 Service (RFC 7534)"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Local, "Documentation (RFC 9637)"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Local, "Segment Routing (SRv6) SIDs (RFC 9602)"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Local, "Unique-Local (RFC 4193)"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Local, "Link-Local Unicast (RFC 4291)"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Local, "Site-Local, deprecated (RFC 3879)"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Nowhere, "Multicast (RFC 4291)"),
];

const fn at4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn at6(segments: [u16; 8]) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = segments;
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

/// Cloud endpoints that give credentials or configuration to every client inside, and the cloud resolvers (a DNS server
/// that answers over TCP is a way around the allowlist). Nothing can open them. Azure's is a *public* address, so the
/// registries alone would let it pass.
#[rustfmt::skip]
pub(super) const CREDENTIAL_ENDPOINTS: &[(IpAddr, &str)] = &[
    (at4(169, 254, 169, 254), "credential endpoint: instance metadata (AWS, Azure, Google Cloud, Oracle, OpenStack and others)"),
    (at4(169, 254, 170, 2), "credential endpoint: Amazon ECS task credentials"),
    (at4(169, 254, 170, 23), "credential endpoint: Amazon EKS Pod Identity"),
    (at4(169, 254, 169, 253), "cloud resolver: Amazon VPC"),
    (at4(169, 254, 169, 252), "credential endpoint: GKE metadata server"),
    (at4(168, 63, 129, 16), "credential endpoint: Azure WireServer"),
    (at4(100, 100, 100, 200), "credential endpoint: Alibaba Cloud metadata"),
    (at4(192, 0, 0, 192), "credential endpoint: Oracle Cloud Classic metadata"),
    (at4(169, 254, 0, 23), "credential endpoint: Tencent Cloud metadata"),
    (at4(169, 254, 42, 42), "credential endpoint: Scaleway metadata"),
    (at6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]), "credential endpoint: Amazon EC2 metadata"),
    (at6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]), "credential endpoint: Amazon EKS Pod Identity"),
    (at6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253]), "cloud resolver: Amazon VPC"),
    (at6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]), "credential endpoint: Google Cloud metadata"),
    (at6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200]), "credential endpoint: Alibaba Cloud metadata"),
    (at6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), "credential endpoint: Oracle Cloud metadata"),
    (at6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]), "credential endpoint: Scaleway metadata"),
    (at6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1]), "credential endpoint: Linode metadata"),
    (at6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), "credential endpoint: OpenStack metadata"),
];
