//! What is probably not meant of `dns.hosts`: names that lead to where nothing may go. A connection there is refused when it is dialled;
//! here the person who reviews the entry is told.
//!
//! Not here: rules for such addresses ([`crate::rules::lint`], [`super::own_address`]).

use std::net::IpAddr;

use ipnet::IpNet;

use super::finding::{Position, Report};
use super::own_address::{Own, arrives, is_only_port};
use super::transparent_lint::OF_TARGETS;
use super::typed::At;
use super::values::{Addresses, HostName};
use crate::rules::address::{never, prohibited};
use crate::rules::{Policies, RuleView};
use crate::words::quote::quoted;
use crate::words::target::{Host, Name};

/// Warns. `own`: where egressd listens, as far as it is known. With a parent, that finds the targets.
pub(super) fn lint(
    written: &[(At<HostName>, At<Addresses>)],
    policies: &Policies,
    (own, has_parent): (&[Own], bool),
    report: &Report<'_>,
) {
    let names = written.iter().filter_map(|(name, addresses)| {
        Some((&name.value.as_ref()?.0, addresses.value.as_ref()?.0.as_slice()))
    });
    let each = names.flat_map(|(name, addresses)| {
        addresses.iter().filter_map(move |at| Some((name, at.value.as_ref()?.0, at.position)))
    });
    for (name, address, position) in each {
        let comes_back = || own.iter().find(|own| leads_back(name, address, own, policies));
        if let Some(what) = never(address) {
            let text = format!(
                "{} leads to {address}, which no rule opens ({what}): remove it",
                quoted(name.as_str())
            );
            report.warning(position, text);
        } else if let Some(Own { whose, .. }) = comes_back() {
            report.warning(
                position,
                format!(
                    "{} leads egressd's own connections to {whose}, where they are refused as a loop: write the real address",
                    quoted(name.as_str())
                ),
            );
        } else if !has_parent {
            tell_closed((name, address, position), policies, report);
        }
    }
}

/// Whether connections to the name arrive at a listener of egressd: those that DNS leads to it, and those of a rule for nothing else.
fn leads_back(name: &Name, address: IpAddr, own: &Own, policies: &Policies) -> bool {
    let port = own.address.port();
    arrives(own.address, address)
        && (own.transparent && OF_TARGETS.contains(&port)
            || rules_for(policies, name).any(|rule| is_only_port(&rule, port)))
}

/// Warns of an address that is not public, if rules name the host and none of them opens the address.
fn tell_closed(
    (name, address, position): (&Name, IpAddr, Position),
    policies: &Policies,
    report: &Report<'_>,
) {
    let Some(why) = prohibited(address, &[]) else { return };
    let mut rules = rules_for(policies, name).peekable();
    if rules.peek().is_none() || rules.any(|rule| opens(&rule, address)) {
        return;
    }
    let itself = IpNet::from(address);
    let is_here = address.to_canonical().is_loopback() || address.is_unspecified();
    let instead = if is_here || prohibited(address, &[itself]).is_some() {
        String::new()
    } else {
        format!(", or add `private: [\"{itself}\"]` to its rule")
    };
    report.warning(
        position,
        format!(
            "{} leads to {address}, which is not public ({why}), and no `private` of a rule for it opens it: write the real \
             address{instead}",
            quoted(name.as_str())
        ),
    );
}

fn opens(rule: &RuleView<'_>, address: IpAddr) -> bool {
    let own = rule.options().map(|options| options.private.as_slice()).unwrap_or_default();
    prohibited(address, &[own, rule.policy().private()].concat()).is_none()
}

/// The `allow` rules for a name, of all policies.
fn rules_for<'p>(policies: &'p Policies, name: &Name) -> impl Iterator<Item = RuleView<'p>> {
    let host = Host::Name(name.clone());
    policies.rules().filter(move |rule| {
        // A list may have a million: only patterns that end like the name are read again.
        let pattern = rule.canonical_host();
        let end = pattern.rsplit('*').next().unwrap_or(pattern).trim_start_matches('.');
        !rule.is_deny()
            && host.name().is_some_and(|name| name.as_str().ends_with(end))
            && rule.host().is_some_and(|pattern| pattern.matches(&host))
    })
}
