//! What an allowed name resolves to.

use std::net::IpAddr;

use super::super::case::{Case, Expect, Harm, case, connect, get};
use super::super::hello::naming;
use super::super::world::name_of;

pub(super) fn cases() -> Vec<Case> {
    let prohibited = |row, what: &str, host: &str| {
        case(row, what).send(connect(host)).refused(403, "address_prohibited").harm(Harm::Elsewhere)
    };
    let mut cases = vec![
        case(36, "first the right address")
            .tunnel("rebind.amazonaws.com", naming(b"rebind.amazonaws.com"))
            .expect(Expect::Flows)
            .harm(Harm::Elsewhere),
        prohibited(36, "then a private one", "rebind.amazonaws.com"),
        prohibited(36, "and again", "rebind.amazonaws.com"),
        case(37, "a right address among private ones")
            .tunnel("mixed.amazonaws.com", naming(b"mixed.amazonaws.com"))
            .expect(Expect::Flows)
            .harm(Harm::Elsewhere),
        prohibited(38, "a private address", "private.amazonaws.com"),
        prohibited(38, "an internal load balancer", "internal-x.elb.amazonaws.com"),
        case(38, "a private address, plain HTTP")
            .send(get("http://private.amazonaws.com:{WEB}/", ""))
            .refused(403, "address_prohibited")
            .harm(Harm::Elsewhere),
    ];
    for (row, address) in ADDRESSES {
        let ip: IpAddr = address.parse().expect("an address");
        cases.push(prohibited(*row, &format!("a name that leads to {address}"), &name_of(ip)));
    }
    for (row, host) in [
        (39, "169.254.169.254"),
        (39, "[fd00:ec2::254]"),
        (40, "169.254.170.2"),
        (40, "169.254.170.23"),
        (40, "[fd00:ec2::23]"),
        (41, "[::ffff:169.254.169.254]"),
        (41, "[::169.254.169.254]"),
        (41, "[::ffff:0:169.254.169.254]"),
        (42, "[64:ff9b::a9fe:a9fe]"),
        (42, "[64:ff9b:1::a9fe:a9fe]"),
        (42, "[2002:a9fe:a9fe::1]"),
        (43, "0.0.0.0"),
        (43, "100.64.0.1"),
        (43, "198.18.0.1"),
        (43, "224.0.0.1"),
        (43, "[fec0::1]"),
        (43, "[::]"),
    ] {
        cases.push(
            case(row, format!("CONNECT to {host}"))
                .send(connect(host))
                .refused(403, "host_not_allowed")
                .harm(Harm::Elsewhere),
        );
    }
    for host in ["169.254.169.254", "127.0.0.1", "[::1]"] {
        cases.push(
            case(39, format!("GET of http://{host}/"))
                .send(get(format!("http://{host}:{{WEB}}/latest/meta-data/"), ""))
                .refused(403, "host_not_allowed")
                .harm(Harm::Elsewhere),
        );
    }
    cases
}

/// By row: every kind of address to which no name may resolve.
const ADDRESSES: &[(u8, &str)] = &[
    (39, "169.254.169.254"),
    (39, "fd00:ec2::254"),
    (40, "169.254.170.2"),
    (40, "169.254.170.23"),
    (40, "fd00:ec2::23"),
    (40, "168.63.129.16"),
    (40, "100.100.100.200"),
    (41, "::ffff:169.254.169.254"),
    (41, "::ffff:10.0.0.1"),
    (41, "::ffff:127.0.0.1"),
    (41, "::127.0.0.1"),
    (41, "::ffff:0:169.254.169.254"),
    (42, "64:ff9b::a9fe:a9fe"),
    (42, "64:ff9b::10.0.0.1"),
    (42, "64:ff9b:1::a9fe:a9fe"),
    (42, "64:ff9b:1:a9fe:a9:fe00::"),
    (42, "2002:a9fe:a9fe::1"),
    (42, "2002:7f00:1::1"),
    (42, "2001:0:a9fe:a9fe::5601:5601"),
    (42, "fe80::5efe:a9fe:a9fe"),
    (42, "2001:db8::5efe:a9fe:a9fe"),
    (43, "0.0.0.0"),
    (43, "0.0.0.1"),
    (43, "100.64.0.1"),
    (43, "127.0.0.1"),
    (43, "127.255.255.254"),
    (43, "169.254.0.1"),
    (43, "172.16.0.1"),
    (43, "192.0.0.1"),
    (43, "192.0.2.1"),
    (43, "192.168.0.1"),
    (43, "198.18.0.1"),
    (43, "198.51.100.1"),
    (43, "203.0.113.1"),
    (43, "224.0.0.1"),
    (43, "240.0.0.1"),
    (43, "255.255.255.255"),
    (43, "::"),
    (43, "::1"),
    (43, "100::1"),
    (43, "2001::1"),
    (43, "2001:2::1"),
    (43, "2001:db8::1"),
    (43, "3fff::1"),
    (43, "4000::1"),
    (43, "5f00::1"),
    (43, "fc00::1"),
    (43, "fe80::1"),
    (43, "fec0::1"),
    (43, "ff02::1"),
];
