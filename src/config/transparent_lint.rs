//! What is probably not meant of a listener with `mode: transparent`: what its clients reach without a name, and what may lead
//! egressd's own connections back to it.
//!
//! Not here: what cannot stand beside the mode at all ([`super::listeners`]), and names in `dns.hosts` that lead back
//! ([`super::hosts_lint`]).

use std::net::SocketAddr;

use ipnet::IpNet;

use super::finding::{Place, Position, Report};
use super::settings::{Dns, Listener};
use crate::rules::{HostPattern, Policies, RuleView, Scheme};
use crate::words::quote::quoted;

/// Ports by which clients know proxies.
const OF_PROXIES: [u16; 5] = [1080, 3128, 8080, 8118, 8888];
/// Ports where clients are led by DNS: those that they ask by themselves.
pub(super) const OF_TARGETS: [u16; 2] = [80, 443];

/// Of a network that is wide, more addresses than these many bits can count are in it.
const WIDE: [u8; 2] = [8, 64];

/// What the lint looks at besides the listeners.
pub(super) struct Beside<'c> {
    pub(super) policies: &'c Policies,
    /// Of the rules in the files of policies, in the order of [`Policies::rules`].
    pub(super) places: &'c [Place],
    pub(super) dns: &'c Dns,
    pub(super) has_parent: bool,
}

/// Warns. Each listener has the position of its address.
pub(super) fn lint(listeners: &[(Listener, Position)], beside: &Beside<'_>, report: &Report<'_>) {
    let transparent = || listeners.iter().filter(|(listener, _)| listener.protocols.transparent);
    for (listener, position) in transparent() {
        let Some(address) = listener.address.ip() else { continue };
        of_listener(listener, address, *position, beside, report);
    }
    if transparent().next().is_some() {
        wide_rules(|| transparent().map(|(listener, _)| listener), beside, report);
    }
}

fn of_listener(
    listener: &Listener,
    address: SocketAddr,
    position: Position,
    beside: &Beside<'_>,
    report: &Report<'_>,
) {
    let (name, port) = (quoted(&listener.name), address.port());
    if OF_PROXIES.contains(&port) {
        report.warning(
            position,
            format!(
                "clients know port {port} as that of a proxy, and the listener {name} is transparent: it answers no CONNECT. Write another \
                 port, such as 3129, and a listener without `mode` for clients that name the proxy"
            ),
        );
    }
    if OF_TARGETS.contains(&port) && beside.dns.servers.is_empty() {
        report.warning(
            position,
            format!(
                "where DNS leads clients to the listener {name}, the same DNS leads egressd's own connections back to it: write under \
                 `dns.servers` a resolver that knows the real addresses"
            ),
        );
    }
    if beside.has_parent {
        report.warning(
            position,
            format!(
                "with `upstream_proxy` the parent looks up the names that clients of the listener {name} show, forged ones too, and reaches \
                 what it finds: make the parent refuse internal addresses, or put the names under `except`"
            ),
        );
    }
}

/// Rules by which a client reaches many addresses without a name.
fn wide_rules<'l, L: Iterator<Item = &'l Listener>>(
    transparent: impl Fn() -> L,
    beside: &Beside<'_>,
    report: &Report<'_>,
) {
    let mut inline = beside.places.iter();
    for rule in beside.policies.rules() {
        // Taken for every rule: the order is all that tells whose it is.
        let place = rule.is_inline().then(|| inline.next()).flatten();
        // Nearly every rule ends here: only networks have a slash.
        if rule.is_deny() || !rule.canonical_host().contains('/') || !is_wide(&rule) {
            continue;
        }
        let clients = rule.policy().clients();
        let may_come = |listener: &&Listener| {
            clients.listeners.is_empty() || clients.listeners.iter().any(|one| **one == *listener.name)
        };
        let Some(listener) = transparent().find(may_come) else { continue };
        let (file, position) = match place {
            Some(place) => (&*place.file, place.position),
            None => (rule.file(), Position { line: rule.line(), column: 1 }),
        };
        let (text, name) = (quoted(rule.text()), quoted(&listener.name));
        report.of(file).warning(
            position,
            format!(
                "{text} lets every client of the transparent listener {name} that speaks neither TLS nor HTTP to all of these addresses, by \
                 whatever name it found them: write the addresses that are meant"
            ),
        );
    }
}

fn is_wide(rule: &RuleView<'_>) -> bool {
    let Some(HostPattern::Network(network)) = rule.host() else { return false };
    let [v4, v6] = WIDE;
    let most = if let IpNet::V4(_) = network { v4 } else { v6 };
    rule.schemes().contains(Scheme::Tcp) && network.max_prefix_len() - network.prefix_len() > most
}
