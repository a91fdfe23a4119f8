//! What one rule means by itself: a rule that can never work, and a rule for one host that opens far more than that host.
//!
//! Not here: a rule beside others ([`cover`](super::cover)), and patterns under which anyone can get names
//! ([`shared_names`](super::shared_names)).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::address::{all_prohibited, prohibited};
use super::super::no_proxy::{self, NoProxy, no_proxy};
use super::super::offer::{PLAIN_HTTP, all_tls_at_first, clear_at_first, is_of_ssh, to_open};
use super::super::options::RuleOptions;
use super::super::rule::{Ports, Scheme, Schemes};
use super::super::store::Kind;
use crate::words::target::{Host, Port};

/// One rule.
pub(super) struct Rule<'a> {
    pub(super) kind: Kind,
    /// As the rule's text has it, canonical.
    pub(super) host: &'a str,
    /// The name alone, without `*.` or `.`.
    pub(super) name: &'a str,
    pub(super) schemes: Schemes,
    pub(super) ports: Option<Ports>,
    /// Networks that it may reach, its policy's too.
    pub(super) private: &'a [IpNet],
    /// Whether it refuses Encrypted ClientHello.
    pub(super) no_ech: bool,
    /// Whether it may be meant that nobody looks at its tunnels, though TLS is usual on its port.
    pub(super) opaque: Opaque,
}

/// Whether a rule may be meant for opaque tunnels where TLS is usual.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opaque {
    /// No: it is for many hosts, for one that others share, or for one that an `https` rule shows to speak TLS.
    Never,
    /// If it says why.
    IfSaid,
    /// It says why.
    Said,
}

/// Names that stand for every name, sorted, each with what it is.
#[rustfmt::skip]
const EVERYTHING: &[(&str, What)] = &[
    ("1dot1dot1dot1.cloudflare-dns.com", What::Resolver),
    ("basic.rethinkdns.com", What::Resolver),
    ("chrome.cloudflare-dns.com", What::Resolver),
    ("cloudflare-dns.com", What::Resolver),
    ("cloudflare-ech.com", What::Front),
    ("dns.aa.net.uk", What::Resolver),
    ("dns.adguard-dns.com", What::Resolver),
    ("dns.adguard.com", What::Resolver),
    ("dns.alidns.com", What::Resolver),
    ("dns.digitale-gesellschaft.ch", What::Resolver),
    ("dns.google", What::Resolver),
    ("dns.google.com", What::Resolver),
    ("dns.mullvad.net", What::Resolver),
    ("dns.nextdns.io", What::Resolver),
    ("dns.njal.la", What::Resolver),
    ("dns.opendns.com", What::Resolver),
    ("dns.pub", What::Resolver),
    ("dns.quad9.net", What::Resolver),
    ("dns.sb", What::Resolver),
    ("dns.switch.ch", What::Resolver),
    ("dns.twnic.tw", What::Resolver),
    ("dns.umbrella.com", What::Resolver),
    ("dns0.eu", What::Resolver),
    ("dns10.quad9.net", What::Resolver),
    ("dns11.quad9.net", What::Resolver),
    ("dns64.dns.google", What::Resolver),
    ("dns9.quad9.net", What::Resolver),
    ("doh.360.cn", What::Resolver),
    ("doh.applied-privacy.net", What::Resolver),
    ("doh.cleanbrowsing.org", What::Resolver),
    ("doh.cox.net", What::Resolver),
    ("doh.dns.apple.com", What::Resolver),
    ("doh.dns.sb", What::Resolver),
    ("doh.li", What::Resolver),
    ("doh.libredns.gr", What::Resolver),
    ("doh.mullvad.net", What::Resolver),
    ("doh.opendns.com", What::Resolver),
    ("doh.pub", What::Resolver),
    ("doh.sb", What::Resolver),
    ("doh.umbrella.com", What::Resolver),
    ("doh.xfinity.com", What::Resolver),
    ("family.adguard-dns.com", What::Resolver),
    ("family.cloudflare-dns.com", What::Resolver),
    ("firefox.dns.nextdns.io", What::Resolver),
    ("freedns.controld.com", What::Resolver),
    ("mask-api.icloud.com", What::Relay),
    ("mask-h2.icloud.com", What::Relay),
    ("mask.icloud.com", What::Relay),
    ("mozilla.cloudflare-dns.com", What::Resolver),
    ("odoh.cloudflare-dns.com", What::Resolver),
    ("one.one.one.one", What::Resolver),
    ("ordns.he.net", What::Resolver),
    ("public.dns.iij.jp", What::Resolver),
    ("security.cloudflare-dns.com", What::Resolver),
    ("sky.rethinkdns.com", What::Resolver),
    ("unfiltered.adguard-dns.com", What::Resolver),
    ("wikimedia-dns.org", What::Resolver),
    ("zero.dns0.eu", What::Resolver),
];

/// Addresses of public resolvers.
const RESOLVERS: &[&str] = &[
    "1.1.1.1",
    "1.0.0.1",
    "1.1.1.2",
    "1.1.1.3",
    "8.8.8.8",
    "8.8.4.4",
    "9.9.9.9",
    "149.112.112.112",
    "208.67.222.222",
    "208.67.220.220",
    "94.140.14.14",
    "94.140.15.15",
    "76.76.2.0",
    "223.5.5.5",
    "223.6.6.6",
    "119.29.29.29",
    "2606:4700:4700::1111",
    "2606:4700:4700::1001",
    "2001:4860:4860::8888",
    "2001:4860:4860::8844",
    "2620:fe::fe",
    "2620:fe::9",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// It answers DNS for any name.
    Resolver,
    /// It is the outer name of Encrypted ClientHello for every site of one company's network.
    Front,
    /// It is a proxy to anywhere.
    Relay,
}

/// A doubt about one rule. Its text is the end of a sentence that begins with the rule; it is written only if it is told.
pub(super) enum Doubt<'a> {
    /// The client should reach the host without a proxy.
    NoProxy(NoProxy),
    /// Everything under `localhost`.
    UnderLocalhost,
    /// The address is not public, and `private` could open it.
    NotOpened(IpAddr, &'static str, Vec<IpNet>),
    /// Nothing opens the address.
    NeverDialled(IpAddr, &'static str),
    /// No address of the network is public.
    NetworkNotOpened(IpNet, &'static str),
    /// Something else than TLS speaks first on these ports.
    OtherProtocol { host: &'a str, ports: Ports, protocol: &'static str },
    /// Plain HTTP on ports where TLS comes first.
    HttpForTls { host: &'a str, ports: Ports },
    /// Plain HTTP on ports where something else is usual.
    HttpForOther { host: &'a str, ports: Ports, protocol: &'static str },
    /// A tunnel that nobody looks into, on ports where TLS comes first and would show the server name.
    TcpForTls { host: &'a str, ports: Ports, opaque: Opaque },
    /// The host stands for every host.
    Opens(&'static str, What),
}

/// Why no request is ever served by the rule.
pub(super) fn never_works<'a>(rule: &Rule<'a>) -> Option<Doubt<'a>> {
    match rule.kind {
        Kind::Address => closed(rule),
        Kind::Exact if no_proxy::is_certain_name(rule.name) => {
            let found = no_proxy(&Host::parse(rule.name).ok()?)?;
            let opened = found.why == no_proxy::Why::Loopback && opens_loopback(rule.private);
            (!opened).then_some(Doubt::NoProxy(found))
        }
        Kind::Under | Kind::UnderOrSelf => {
            (rule.name == "localhost" && !opens_loopback(rule.private)).then_some(Doubt::UnderLocalhost)
        }
        Kind::Exact | Kind::Labels => None,
    }
}

fn opens_loopback(private: &[IpNet]) -> bool {
    ["127.0.0.1", "::1"]
        .iter()
        .filter_map(|address| address.parse().ok())
        .any(|address: IpAddr| prohibited(address, private).is_none())
}

/// Addresses that the rule names and does not open.
fn closed<'a>(rule: &Rule<'a>) -> Option<Doubt<'a>> {
    let text = rule.host.replace(['[', ']'], "");
    let Ok(address) = text.parse::<IpAddr>() else {
        let network: IpNet = text.parse().ok()?;
        return all_prohibited(&network, rule.private).map(|why| Doubt::NetworkNotOpened(network, why));
    };
    let why = prohibited(address, rule.private)?;
    Some(match no_proxy(&Host::Address(address)) {
        Some(found) => Doubt::NoProxy(found),
        None => match to_open(address, rule.private) {
            Ok(networks) => Doubt::NotOpened(address, why, networks),
            Err(why) => Doubt::NeverDialled(address, why),
        },
    })
}

/// Whether its scheme says another protocol than its ports.
pub(super) fn other_protocol<'a>(rule: &Rule<'a>) -> Option<Doubt<'a>> {
    let ports = rule.ports?;
    let mut schemes = rule.schemes.iter();
    let (Some(scheme), None) = (schemes.next(), schemes.next()) else { return None };
    let is_tls = || all_tls_at_first(ports);
    // A range is meant for many protocols, unless all of it is of this kind.
    let clear = || {
        let all = (ports.low.get()..=ports.high.get()).map(Port::new);
        let mut all = all.map(|port| port.and_then(clear_at_first));
        let first = all.next()??;
        all.all(|protocol| protocol.is_some()).then_some(first)
    };
    let host = rule.host;
    match scheme {
        Scheme::Https => clear().map(|protocol| Doubt::OtherProtocol { host, ports, protocol }),
        Scheme::Http if is_tls() => Some(Doubt::HttpForTls { host, ports }),
        Scheme::Http if PLAIN_HTTP.contains(&ports.low.get()) => None,
        Scheme::Http => clear().map(|protocol| Doubt::HttpForOther { host, ports, protocol }),
        // As [`needs_description`](super::super::offer::needs_description) has it: TLS to an address shows a name that an `https` rule
        // would not accept.
        Scheme::Tcp if rule.kind == Kind::Address => None,
        Scheme::Tcp if rule.kind == Kind::Exact && is_of_ssh(rule.host) => None,
        Scheme::Tcp if rule.opaque == Opaque::Said => None,
        Scheme::Tcp => is_tls().then_some(Doubt::TcpForTls { host, ports, opaque: rule.opaque }),
    }
}

/// `:8443`, and nothing for the scheme's own port.
fn port_of(scheme: Scheme, ports: Ports) -> String {
    let own = scheme.default_port().map(Ports::from);
    if own == Some(ports) { String::new() } else { format!(":{ports}") }
}

/// What the rule opens beside its host.
pub(super) fn opens_everything<'a>(rule: &Rule<'a>) -> Option<Doubt<'a>> {
    let (found, what) = match rule.kind {
        Kind::Exact => {
            let at = EVERYTHING.binary_search_by_key(&rule.name, |(name, _)| name).ok()?;
            EVERYTHING.get(at).copied()?
        }
        Kind::Address => {
            let address: IpAddr = rule.host.replace(['[', ']'], "").parse().ok()?;
            let known = RESOLVERS.iter().find(|known| known.parse() == Ok(address))?;
            (*known, What::Resolver)
        }
        Kind::Under | Kind::UnderOrSelf => {
            let under = |name: &str| name.strip_suffix(rule.name).is_some_and(|head| head.ends_with('.'));
            let itself = |name: &str| rule.kind == Kind::UnderOrSelf && name == rule.name;
            EVERYTHING.iter().find(|(name, _)| itself(name) || under(name)).copied()?
        }
        Kind::Labels => return None,
    };
    (what != What::Front || !rule.no_ech).then_some(Doubt::Opens(found, what))
}

impl fmt::Display for Doubt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::NoProxy(found) => write!(f, "allows nothing: {found}"),
            Doubt::UnderLocalhost => f.write_str(
                "allows nothing: names under localhost are the client's own host: the client's no_proxy must name \
                 .localhost",
            ),
            Doubt::NotOpened(address, why, networks) => {
                let options = RuleOptions { private: networks.clone(), ..RuleOptions::default() };
                let options = options.to_yaml();
                write!(
                    f,
                    "allows nothing: {address} is not public ({why}), and no `private` opens it: add `{options}`"
                )
            }
            Doubt::NeverDialled(address, why) => {
                write!(f, "allows nothing: {address} may never be dialled ({why})")
            }
            Doubt::NetworkNotOpened(network, why) => write!(
                f,
                "allows nothing: no address in {network} is public ({why}), and no `private` opens one: add \
                 `private: [\"{network}\"]`"
            ),
            Doubt::OtherProtocol { host, ports, protocol } => {
                let low = ports.low;
                write!(f, "wants TLS from the first byte, but port {low} is {protocol} nearly everywhere")?;
                if ports.low == ports.high && PLAIN_HTTP.contains(&low.get()) {
                    let port = if low == Port::HTTP { String::new() } else { format!(":{low}") };
                    write!(f, ": write `http://{host}{port}`; for a tunnel `tcp://{host}:{low}`")
                } else {
                    write!(f, ", which begins in cleartext: write `tcp://{host}:{ports}`")
                }
            }
            Doubt::HttpForTls { host, ports } => write!(
                f,
                "sends plain HTTP to port {}, where a server wants TLS from the first byte: write `https://{host}{}`",
                ports.low,
                port_of(Scheme::Https, *ports)
            ),
            Doubt::HttpForOther { host, ports, protocol } => write!(
                f,
                "sends plain HTTP to port {}, which is {protocol} nearly everywhere: write `tcp://{host}:{ports}`",
                ports.low
            ),
            Doubt::TcpForTls { host, ports, opaque } => {
                write!(
                    f,
                    "looks at nothing that passes, and port {} is for TLS nearly everywhere, whose server name can be checked: \
                     write `https://{host}{}`",
                    ports.low,
                    port_of(Scheme::Https, *ports)
                )?;
                if *opaque == Opaque::IfSaid {
                    f.write_str("; if something else than TLS is meant, say what in its `description`")?;
                }
                Ok(())
            }
            Doubt::Opens(found, What::Resolver) => write!(
                f,
                "opens {found}, which answers DNS for any name: data can leave in the questions, and it hands out the \
                 keys of Encrypted ClientHello; clients of a proxy need no resolver of their own: remove it"
            ),
            Doubt::Opens(found, What::Front) => write!(
                f,
                "opens {found}, the outer server name of Encrypted ClientHello for every site behind Cloudflare: a \
                 client can reach any of them without showing its name; remove it, or add `ech: deny`"
            ),
            Doubt::Opens(found, What::Relay) => {
                write!(f, "opens {found}, a proxy that leads anywhere: remove it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted_and_the_addresses_are_addresses() {
        assert!(EVERYTHING.is_sorted_by_key(|(name, _)| name));
        assert!(EVERYTHING.iter().all(|(name, _)| Host::parse(name).is_ok_and(|host| host.name().is_some())));
        assert!(RESOLVERS.iter().all(|text| text.parse::<IpAddr>().is_ok()));
    }
}
