//! Rules for addresses where egressd itself listens: a tunnel to it would be a loop, which is never dialled.
//!
//! Only addresses that the configuration names are known here; a listener on every address has more.

use std::net::{IpAddr, SocketAddr};

use super::finding::{Place, Position, Report};
use super::settings::{Admin, Listener};
use crate::rules::{HostPattern, Policies, RuleView, Scheme};
use crate::words::quote::quoted;

/// Where egressd itself listens.
pub(super) struct Own {
    pub(super) address: SocketAddr,
    /// The listener, as a person is told of it.
    pub(super) whose: String,
    pub(super) transparent: bool,
}

/// All that the configuration names.
pub(super) fn own(listeners: &[Listener], admin: &Admin) -> Vec<Own> {
    let of_listeners = listeners.iter().filter_map(|listener| {
        Some(Own {
            address: listener.address.ip()?,
            whose: format!("the listener {}", quoted(&listener.name)),
            transparent: listener.protocols.transparent,
        })
    });
    let admin = Own { address: admin.address, whose: "`admin`".to_owned(), transparent: false };
    of_listeners.chain([admin]).collect()
}

/// Warns of each `allow` rule that names nothing but such addresses. `places` are those of the rules in the files of policies, in the
/// order of [`Policies::rules`].
pub(super) fn lint(policies: &Policies, places: &[Place], own: &[Own], report: &Report<'_>) {
    let mut inline = places.iter();
    for rule in policies.rules() {
        // Taken for every rule: the order is all that tells whose it is.
        let place = rule.is_inline().then(|| inline.next()).flatten();
        // Nearly every rule ends here: only addresses end in a digit or a bracket.
        let host = rule.canonical_host();
        if rule.is_deny() || !host.ends_with(|last: char| last.is_ascii_digit() || last == ']') {
            continue;
        }
        let Some(HostPattern::Address(address)) = rule.host() else { continue };
        let met =
            own.iter().find(|own| arrives(own.address, address) && is_only_port(&rule, own.address.port()));
        if let Some(Own { whose, .. }) = met {
            let (file, position) = match place {
                Some(place) => (&*place.file, place.position),
                None => (rule.file(), Position { line: rule.line(), column: 1 }),
            };
            let text = quoted(rule.text());
            report.of(file).warning(
                position,
                format!("{text} allows nothing: it is {whose} of this proxy, and a tunnel to it would be a loop; remove it"),
            );
        }
    }
}

/// Whether what is dialled at `address` arrives at `own`, if the port is the same.
pub(super) fn arrives(own: SocketAddr, address: IpAddr) -> bool {
    let address = address.to_canonical();
    match own.ip().to_canonical() {
        ip if ip.is_unspecified() => address.is_loopback(),
        ip => ip == address,
    }
}

/// Whether the rule is for this port and no other.
pub(super) fn is_only_port(rule: &RuleView<'_>, port: u16) -> bool {
    match rule.ports() {
        Some(ports) => ports.low == ports.high && ports.low.get() == port,
        None => rule.schemes().iter().filter_map(Scheme::default_port).all(|own| own.get() == port),
    }
}
