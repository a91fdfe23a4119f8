//! The rule that a request of a log needed, or why no rule would have helped.

use ipnet::IpNet;

use super::help::{Help, help};
use super::kind::{Kind, Why, reason, why};
use super::seen::Wanted;
use crate::commands::logs::{Entry, Stands, Text};
use crate::rules::no_proxy::{NoProxy, Why as NoProxyWhy, itself, no_proxy, unknown_to_dns};
use crate::rules::offer::{Inside, NoOffer, Offer, clear_at_first, offer};
use crate::rules::{RuleText, Scheme, address};
use crate::telemetry::record::Event;
use crate::words::outcome::{Class, Decision, Reason};
use crate::words::target::{Host, Method, Port, Target};

/// Why no rule is written for a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoRule {
    /// It is left out.
    Left(Why),
    /// The client should have reached the target without a proxy.
    NoProxy(NoProxy),
}

impl From<Why> for NoRule {
    fn from(why: Why) -> Self {
        NoRule::Left(why)
    }
}

/// The rule that a request needed, with the networks that it opens, or why no rule would have helped.
pub(super) fn wanted(
    entry: &Entry<'_>,
    stands: Stands,
    target: &Target,
) -> Result<(Kind, Wanted, Vec<IpNet>), NoRule> {
    let reason = reason(entry);
    let kind = match (stands, entry.event) {
        (Stands::Passed, _) if entry.decided(Decision::WouldDeny) => Kind::WouldDeny,
        (Stands::Passed, _) => Kind::Passed,
        (Stands::Refused, Some(Event::Deny)) => Kind::Denied,
        _ => return Err(failed(entry, reason, target)),
    };
    let helps = match (kind, reason.map(|reason| help(reason, target))) {
        (Kind::Passed, _) => true,
        (Kind::WouldDeny, help) => help != Some(Help::NoRule),
        (Kind::Denied, help) => help == Some(Help::Rule),
    };
    if !helps {
        return Err(failed(entry, reason, target));
    }
    if let (Kind::Passed, Some((scheme, unsure))) = (kind, rule_scheme(entry, target))
        && no_proxy(&target.host).is_none_or(|found| !matches!(found.why, NoProxyWhy::Endpoint(_)))
    {
        // A rule of the operator opened it, whatever it is.
        let private = match &target.host {
            Host::Address(address) if address::prohibited(*address, &[]).is_some() => {
                let needed = offer(target, Inside::Unknown, true, &[]).map(|offer| offer.private);
                needed.unwrap_or_else(|_| vec![IpNet::from(*address)])
            }
            _ => Vec::new(),
        };
        let wanted = Wanted { scheme, host: target.host.clone(), port: target.port, unsure };
        return Ok((kind, wanted, private));
    }
    if let (Method::Connect, Host::Address(_), Some(_)) = (target.method, &target.host, entry.sni) {
        // The client looked the name up itself: it has to send the name, and no rule for the address is the answer.
        return Err(Why::Failed(Reason::SniMismatch.into()).into());
    }
    let no_tls = reason.is_some_and(|reason| reason.class() == Class::NoTls);
    let inside = match kind {
        _ if no_tls => Some(Inside::Other),
        // The rule that allows it says what it wanted: only its address was refused.
        Kind::Denied => match written_scheme(entry) {
            Some(Scheme::Https) if reason == Some(Reason::AddressProhibited) => Some(Inside::Tls),
            Some(Scheme::Tcp) if reason == Some(Reason::AddressProhibited) => Some(Inside::Other),
            _ => Some(Inside::Unknown),
        },
        Kind::Passed | Kind::WouldDeny => {
            let sni = entry.sni.map(Text::decoded);
            match (kind, sni) {
                (Kind::Passed, None) => Some(Inside::Unknown),
                (_, sni) => Inside::in_report_mode(target, sni.as_deref()),
            }
        }
    };
    let Some(inside) = inside else { return Err(Why::Failed(Reason::SniMismatch.into()).into()) };
    let listed = kind == Kind::Passed || reason.is_some_and(|reason| reason != Reason::HostNotAllowed);
    match offer(target, inside, listed, &[]) {
        Ok(Offer { scheme, host, port, private, .. }) => Ok((kind, Wanted::new(scheme, host, port), private)),
        Err(NoOffer::NoProxy(found)) => Err(NoRule::NoProxy(found)),
        Err(NoOffer::Closed(..)) => Err(Why::Failed(Reason::AddressProhibited.into()).into()),
        Err(NoOffer::Unwritable(_)) => Err(Why::Other.into()),
        Err(NoOffer::Probe) => Err(Why::Doctor.into()),
    }
}

/// Why no rule would have helped a request that failed.
fn failed(entry: &Entry<'_>, reason: Option<Reason>, target: &Target) -> NoRule {
    let found = match reason {
        Some(Reason::DnsNoSuchName) => unknown_to_dns(target),
        Some(Reason::Loop) => Some(itself(target)),
        Some(reason) => match reason.class() {
            Class::Lookup => no_proxy(&target.host),
            Class::Address => no_proxy(&target.host).filter(|found| found.why.is_certain()),
            _ => None,
        },
        None => None,
    };
    found.map_or_else(|| why(entry).unwrap_or(Why::Other).into(), NoRule::NoProxy)
}

/// The scheme of the rule that decided, and whether it is `http` instead if plain requests were seen inside the tunnels. A
/// rule whose text names none is of `https`, unless it is a line of a file with other `schemes`. A tunnel to a name by `https`
/// has shown a server name.
fn rule_scheme(entry: &Entry<'_>, target: &Target) -> Option<(Scheme, bool)> {
    let text = entry.rule?.decoded();
    if target.method == Method::Http {
        return Some((Scheme::Http, false));
    }
    if let Some(scheme) = written_scheme(entry) {
        return Some((scheme, false));
    }
    let is_name = matches!(target.host, Host::Name(_));
    if is_name && entry.sni.is_some() {
        return Some((Scheme::Https, false));
    }
    // A rule of `tcp` has its port in its text.
    if RuleText::parse(&text).is_ok_and(|rule| rule.ports.is_none()) {
        let plain = target.port == Port::HTTP;
        return Some((if plain { Scheme::Http } else { Scheme::Https }, false));
    }
    // What is not known is not opened further than it may have been: an address shows no server name.
    let opaque = is_name || clear_at_first(target.port).is_some();
    Some((if opaque { Scheme::Tcp } else { Scheme::Https }, true))
}

/// The scheme that the rule's text names.
fn written_scheme(entry: &Entry<'_>) -> Option<Scheme> {
    let rule = entry.rule?.decoded();
    rule.split_once("://").and_then(|(scheme, _)| Scheme::parse(scheme))
}
