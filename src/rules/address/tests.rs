//! The address check as a table: address, what is opened, and the row that refuses it (none: it passes).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{admit, holds_private, never, never_in, prohibited};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|net| net.parse().unwrap()).collect()
}

/// Address and the start of the row that refuses it; "" if it passes. `private` opens nothing here.
#[rustfmt::skip]
const BY_REGISTRY: &[(&str, &str)] = &[
    // IPv4 special-purpose registry, row by row: first and last address, and the neighbours outside.
    ("0.0.0.0", "\"This host on this network\""),
    ("0.0.0.1", "\"This network\""),
    ("0.255.255.255", "\"This network\""),
    ("1.0.0.0", ""),
    ("9.255.255.255", ""),
    ("10.0.0.0", "Private-Use"),
    ("10.255.255.255", "Private-Use"),
    ("11.0.0.0", ""),
    ("100.63.255.255", ""),
    ("100.64.0.0", "Shared Address Space"),
    ("100.127.255.255", "Shared Address Space"),
    ("100.128.0.0", ""),
    ("126.255.255.255", ""),
    ("127.0.0.1", "Loopback"),
    ("127.255.255.255", "Loopback"),
    ("128.0.0.0", ""),
    ("169.253.255.255", ""),
    ("169.254.0.0", "Link Local"),
    ("169.254.255.255", "Link Local"),
    ("169.255.0.0", ""),
    ("172.15.255.255", ""),
    ("172.16.0.0", "Private-Use"),
    ("172.31.255.255", "Private-Use"),
    ("172.32.0.0", ""),
    ("192.0.0.0", "IPv4 Service Continuity Prefix"),
    ("192.0.0.7", "IPv4 Service Continuity Prefix"),
    ("192.0.0.8", "IPv4 dummy address"),
    ("192.0.0.9", ""),
    ("192.0.0.10", ""),
    ("192.0.0.11", "IETF Protocol Assignments"),
    ("192.0.0.170", "NAT64/DNS64 Discovery"),
    ("192.0.0.171", "NAT64/DNS64 Discovery"),
    ("192.0.0.255", "IETF Protocol Assignments"),
    ("192.0.1.0", ""),
    ("192.0.2.1", "Documentation (TEST-NET-1)"),
    ("192.31.196.1", ""),
    ("192.52.193.1", ""),
    ("192.88.99.1", "Deprecated (6to4 Relay Anycast)"),
    ("192.88.99.2", "6a44-relay anycast address"),
    ("192.167.255.255", ""),
    ("192.168.0.0", "Private-Use"),
    ("192.168.255.255", "Private-Use"),
    ("192.175.48.1", ""),
    ("198.17.255.255", ""),
    ("198.18.0.0", "Benchmarking"),
    ("198.19.255.255", "Benchmarking"),
    ("198.20.0.0", ""),
    ("198.51.100.7", "Documentation (TEST-NET-2)"),
    ("203.0.113.9", "Documentation (TEST-NET-3)"),
    ("203.0.114.0", ""),
    ("223.255.255.255", ""),
    ("224.0.0.1", "Multicast"),
    ("239.255.255.255", "Multicast"),
    ("240.0.0.1", "Reserved"),
    ("255.255.255.254", "Reserved"),
    ("255.255.255.255", "Limited Broadcast"),
    ("52.94.133.131", ""),
    ("8.8.8.8", ""),
    // IPv6 special-purpose registry and the address space registry.
    ("::", "Unspecified Address"),
    ("::1", "Loopback Address"),
    ("100::1", "Discard-Only Address Block"),
    ("100:0:0:1::1", "Dummy IPv6 Prefix"),
    ("100:0:0:2::1", "Reserved by IETF"),
    ("200::1", "Reserved by IETF"),
    ("1fff:ffff::1", "Reserved by IETF"),
    ("2001:1::1", ""),
    ("2001:1::2", ""),
    ("2001:1::3", ""),
    ("2001:1::4", "IETF Protocol Assignments"),
    ("2001:2::1", "Benchmarking"),
    ("2001:3::1", ""),
    ("2001:4:112::1", ""),
    ("2001:4:113::1", "IETF Protocol Assignments"),
    ("2001:10::1", "Deprecated (previously ORCHID)"),
    ("2001:20::1", ""),
    ("2001:2f:ffff::1", ""),
    ("2001:30::1", ""),
    ("2001:1ff:ffff::1", "IETF Protocol Assignments"),
    ("2001:200::1", ""),
    ("2001:db8::1", "Documentation (RFC 3849)"),
    ("2001:db9::1", ""),
    ("2606:4700:4700::1111", ""),
    ("2620:4f:8000::1", ""),
    ("2a05:d018::1", ""),
    ("3fff::1", "Documentation (RFC 9637)"),
    ("3fff:fff::1", "Documentation (RFC 9637)"),
    ("3fff:1000::1", ""),
    ("4000::1", "Reserved by IETF"),
    ("5f00::1", "Segment Routing (SRv6) SIDs"),
    ("5f01::1", "Reserved by IETF"),
    ("fbff::1", "Reserved by IETF"),
    ("fc00::1", "Unique-Local"),
    ("fdff::1", "Unique-Local"),
    ("fe00::1", "Reserved by IETF"),
    ("fe80::1", "Link-Local Unicast"),
    ("febf::1", "Link-Local Unicast"),
    ("fec0::1", "Site-Local"),
    ("feff::1", "Site-Local"),
    ("ff02::1", "Multicast"),
    ("ff0e::1", "Multicast"),
    // IPv4 inside IPv6.
    ("::ffff:8.8.8.8", ""),
    ("::ffff:127.0.0.1", "Loopback (RFC 1122)"),
    ("::ffff:10.0.0.1", "Private-Use"),
    ("::127.0.0.1", "Loopback (RFC 1122)"),
    ("::8.8.8.8", "IPv4-Compatible Address"),
    ("::ffff:0:10.0.0.1", "Private-Use"),
    ("::ffff:0:8.8.8.8", "IPv4-translated Address"),
    ("64:ff9b::8.8.8.8", ""),
    ("64:ff9b::10.0.0.1", "Private-Use"),
    ("64:ff9b::127.0.0.1", "Loopback (RFC 1122)"),
    ("64:ff9b::224.0.0.1", "Multicast"),
    ("64:ff9b:1::10.0.0.1", "Private-Use"),
    ("64:ff9b:1::8.8.8.8", "IPv4-IPv6 Translat. (RFC 8215)"),
    ("64:ff9b:1:a00:0:100::", "Private-Use"),
    ("64:ff9b:2::8.8.8.8", "Reserved by IETF"),
    ("2002:a00:1::1", "Private-Use"),
    ("2002:808:808::1", "6to4"),
    ("2001:0:a00:1:0:0:f7f7:f7f7", "Private-Use"),
    ("2001:0:808:808:0:0:f5ff:fffe", "Private-Use"),
    ("2001:0:808:808:0:0:f7f7:f7f7", "TEREDO"),
    ("2a05:d018::5efe:10.0.0.1", "Private-Use"),
    ("2a05:d018::200:5efe:10.0.0.1", "Private-Use"),
    ("2a05:d018::200:5efe:8.8.8.8", ""),
    ("fe80::5efe:8.8.8.8", "Link-Local Unicast"),
];

#[test]
fn t43_only_globally_reachable_unicast_passes() {
    assert!(BY_REGISTRY.len() >= 90);
    let distinct: BTreeSet<_> = BY_REGISTRY.iter().map(|(address, _)| address).collect();
    assert_eq!(distinct.len(), BY_REGISTRY.len(), "no address is listed twice");
    for (address, want) in BY_REGISTRY {
        match prohibited(ip(address), &[]) {
            None => assert_eq!(*want, "", "{address} passed"),
            Some(why) => assert!(!want.is_empty() && why.starts_with(want), "{address}: {why}, not {want:?}"),
        }
    }
}

/// Address, `private`, and whether it then passes.
#[rustfmt::skip]
const OPENED: &[(&str, &str, bool)] = &[
    ("10.1.2.3", "10.0.0.0/8", true),
    ("11.1.2.3", "10.0.0.0/8", true),
    ("192.168.0.1", "10.0.0.0/8", false),
    ("127.0.0.1", "127.0.0.0/8", true),
    ("240.0.0.1", "240.0.0.0/4", true),
    ("fd12::1", "fd00::/8", true),
    ("fd12::1", "10.0.0.0/8", false),
    // Not the address of one host: nothing opens it.
    ("0.0.0.0", "0.0.0.0/0", false),
    ("224.0.0.1", "0.0.0.0/0", false),
    ("255.255.255.255", "0.0.0.0/0", false),
    ("::", "::/0", false),
    ("ff02::1", "::/0", false),
    // An IPv4 entry opens the forms that arrive at the IPv4 address.
    ("::ffff:10.1.2.3", "10.0.0.0/8", true),
    ("::ffff:10.1.2.3", "::/0", false),
    ("64:ff9b::10.1.2.3", "10.0.0.0/8", true),
    ("64:ff9b::192.168.0.1", "10.0.0.0/8", false),
    ("64:ff9b::10.1.2.3", "64:ff9b::/96", true),
    ("64:ff9b:1::10.1.2.3", "10.0.0.0/8", true),
    ("64:ff9b:1:a00:0:100::", "10.0.0.0/8", true),
    ("64:ff9b:1::8.8.8.8", "64:ff9b:1::/48", true),
    ("64:ff9b:1::10.1.2.3", "64:ff9b:1::/48", false),
    // One reading is opened, another is not: it depends on the translator, so no.
    ("64:ff9b:1:c0a8:0:100:a00:1", "10.0.0.0/8", false),
    // A tunnel needs both: the IPv4 address and the block itself.
    ("2002:a01:203::1", "10.0.0.0/8", false),
    ("2002:a01:203::1", "2002::/16", false),
    ("2002:a01:203::1", "2002::/16 10.0.0.0/8", true),
    ("2002:808:808::1", "2002::/16", true),
    ("2001:0:808:808:0:0:f7f7:f7f7", "2001::/32", true),
    ("2001:0:808:808:0:0:f5ff:fffe", "2001::/32", false),
    ("2a05:d018::5efe:10.1.2.3", "10.0.0.0/8", true),
    ("::10.1.2.3", "10.0.0.0/8", false),
];

#[test]
fn private_opens_what_is_listed_and_no_more() {
    for (address, private, want) in OPENED {
        let got = prohibited(ip(address), &nets(private));
        assert_eq!(got.is_none(), *want, "{address} with {private}: {got:?}");
    }
}

/// Addresses that stay closed though everything is opened.
#[rustfmt::skip]
const NEVER: &[&str] = &[
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.169.253", "169.254.169.252", "168.63.129.16",
    "100.100.100.200", "192.0.0.192", "169.254.0.23", "169.254.42.42",
    "fd00:ec2::254", "fd00:ec2::23", "fd00:ec2::253", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:100::100:200",
    "fd00:a9fe:a9fe::1", "fe80::a9fe:a9fe",
    // The first of them in every clothing.
    "::ffff:169.254.169.254", "::169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:0:a9:fea9:fe00:0",
    "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1", "2001:0:808:808:0:0:5601:5601",
    "2a05:d018::5efe:169.254.169.254", "2a05:d018::200:5efe:a9fe:a9fe", "::ffff:168.63.129.16",
];

#[test]
fn t39_t40_t41_t42_credential_endpoints_are_never_opened() {
    let everything = nets("0.0.0.0/0 ::/0 169.254.0.0/16 fd00::/8");
    for address in NEVER {
        let why = prohibited(ip(address), &everything).unwrap_or_default();
        assert!(
            why.starts_with("credential endpoint") || why.starts_with("cloud resolver"),
            "{address}: {why:?}"
        );
        assert_eq!(never(ip(address)), Some(why), "{address}");
    }
    for address in ["169.254.169.255", "8.8.8.8", "fd00:ec2::255", "2a05:d018::1", "64:ff9b::8.8.8.8"] {
        assert_eq!(never(ip(address)), None, "{address}");
    }
}

#[test]
fn a_private_network_that_holds_an_endpoint_can_be_warned_of() {
    let held = |net: &str| never_in(&net.parse().unwrap()).count();
    assert_eq!(held("10.0.0.0/8"), 0);
    assert_eq!(held("169.254.170.0/24"), 2);
    assert_eq!(held("fd00:ec2::/32"), 3);
    assert_eq!(held("100.64.0.0/10"), 1);
    assert_eq!(held("0.0.0.0/0"), 10);
}

#[test]
fn what_was_judged_is_what_is_dialled() {
    assert_eq!(admit(ip("::ffff:8.8.8.8"), &[]).unwrap().ip(), ip("8.8.8.8"));
    let denial = admit(ip("::ffff:10.0.0.1"), &[]).unwrap_err();
    assert_eq!(denial.to_string(), "::ffff:10.0.0.1: Private-Use (RFC 1918)");
}

#[test]
fn a_network_holds_private_addresses_if_one_of_them_needs_private() {
    let rows = [
        ("10.16.0.0/16", true),
        ("10.17.0.9/32", true),
        ("8.0.0.0/7", false),
        ("8.0.0.0/5", true),
        ("0.0.0.0/0", true),
        ("52.1.0.0/16", false),
        ("192.0.0.9/32", false),
        ("192.0.0.8/31", true),
        ("198.16.0.0/13", true),
        ("224.0.0.0/4", false),
        ("169.254.169.254/32", false),
        ("2600::/16", false),
        ("2001:db8::/48", true),
        ("2000::/3", true),
        ("fd00::/8", true),
        ("ff00::/8", false),
    ];
    for (network, holds) in rows {
        assert_eq!(holds_private(&network.parse().unwrap()), holds, "{network}");
    }
}
