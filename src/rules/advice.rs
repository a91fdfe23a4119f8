//! The advice about a denial: which rule came nearest, and why it did not match.
//!
//! It is one line for a person, in the reply, the log and `explain`. It repeats only canonical text (the target) or the
//! operator's text (rules, names), never a client's spelling. The search for the nearest rule takes a limited time,
//! because a hostile client can cause as many denials as it likes.

use jiff::Timestamp;

use super::label_pattern::matches_across_labels;
use super::names::suffixes;
use super::no_proxy::no_proxy;
use super::offer::NoOffer;
use super::policy::Policy;
use super::rule::Ports;
use super::search::{Found, Wrong, ports_for};
use super::store::{Kind, Rule, RuleId};
use crate::words::client::Client;
use crate::words::target::{Host, Method, PROBE, Target};

/// For a client that sends an address in place of the name that it was given.
pub(super) const SEND_NAMES: &str = "make it send the name to the proxy (docs/clients.md, \"Clients that send addresses\"; for grpc-go the target \
     passthrough:///HOST:PORT)";

/// How many patterns with a `*` inside are compared with a host that none of them matches.
const PATTERNS_LOOKED_AT: usize = 16;

/// The nearest rule and the advice. `wrong` is the rule that explains the denial, with why it does not allow. If the
/// target is a matter of the client's `no_proxy`, the advice is that.
pub(super) fn of(
    policy: &Policy,
    target: &Target,
    wrong: Option<(Wrong, RuleId)>,
    found: &Found,
) -> (Option<RuleId>, String) {
    let listed = found.names_host();
    if !listed && target.host.name().is_some_and(|name| name.as_str() == PROBE) {
        return (None, NoOffer::Probe.to_string());
    }
    match no_proxy(&target.host).filter(|entry| entry.why.is_certain() || !listed) {
        None => nearest(policy, target, wrong, found),
        Some(entry) if listed => {
            let (rule, advice) = nearest(policy, target, wrong, found);
            (rule, format!("{advice}; {entry}"))
        }
        Some(entry) => (None, entry.to_string()),
    }
}

fn nearest(
    policy: &Policy,
    target: &Target,
    wrong: Option<(Wrong, RuleId)>,
    found: &Found,
) -> (Option<RuleId>, String) {
    let Some(id) = wrong.map(|(_, id)| id).or(found.gone) else { return unnamed(policy, target) };
    let text = policy.store.text(id);
    let rule = policy.store.rule(id);
    let advice = match wrong.map(|(wrong, _)| wrong) {
        Some(Wrong::Denies) => format!("`{text}` under `deny` matches {target}"),
        Some(Wrong::Expired) => format!("`{text}` would allow {target}, but {}", expiry(policy, rule)),
        Some(Wrong::OtherPort) => {
            format!("port {}: `{text}` allows {}", target.port, allowed_ports(rule, target.method))
        }
        Some(Wrong::OtherWay) => {
            let way = match target.method {
                Method::Connect => "CONNECT",
                Method::Http => "a plain HTTP request",
            };
            format!("{way}: `{text}` allows {}", allowed_ways(rule))
        }
        None => format!("`{text}` names {}, but {}", target.host, expiry(policy, rule)),
    };
    (Some(id), advice)
}

/// The advice if no policy matches the client.
pub(super) fn for_client<'a>(client: &Client, policies: impl Iterator<Item = &'a Policy>) -> String {
    let (address, by) = (client.address.ip(), client.listener.as_deref());
    let mut near: Option<&Policy> = None;
    for policy in policies.filter(|policy| policy.addresses.contains(address)) {
        // One that the listener is right for is nearer.
        if policy.clients.listener_fits(by) {
            near = Some(policy);
            break;
        }
        near = near.or(Some(policy));
    }
    match near {
        Some(Policy { name, clients, .. }) if !clients.listener_fits(by) => {
            let named: Vec<String> = clients.listeners.iter().take(3).map(|one| format!("`{one}`")).collect();
            let more = if clients.listeners.len() > named.len() { ", …" } else { "" };
            let came = by.map(|by| format!(", and this one came by `{by}`")).unwrap_or_default();
            format!(
                "the networks of policy `{name}` contain {address}, but its clients come by the listener {}{more}{came}",
                named.join(" or ")
            )
        }
        Some(Policy { name, clients, .. }) => {
            let missing = match (clients.identity_fits(client), client.identities.is_empty()) {
                (true, _) if client.vpc_endpoint.is_none() => {
                    "a VPC endpoint, and this one came through none"
                }
                (true, _) => "another VPC endpoint",
                (false, true) => "an identity, and this one has proven none",
                (false, false) => "another identity",
            };
            format!("the networks of policy `{name}` contain {address}, but its clients need {missing}")
        }
        None => format!("no policy matches clients at {address}"),
    }
}

fn expiry(policy: &Policy, rule: &Rule) -> String {
    let moment = policy.expires(rule).unwrap_or(Timestamp::MAX);
    format!("expired at {moment}")
}

/// `443`, `443 and 8000-8010`: the ports on which this method is allowed.
fn allowed_ports(rule: &Rule, method: Method) -> String {
    // Every scheme carries a CONNECT.
    let ports = rule.schemes().iter().filter(|scheme| method == Method::Connect || scheme.method() == method);
    let mut ports: Vec<Ports> = ports.filter_map(|scheme| ports_for(rule, scheme)).collect();
    ports.dedup();
    let ports: Vec<String> = ports.into_iter().map(|ports| ports.to_string()).collect();
    ports.join(" and ")
}

/// `https on 443 and http on 80`.
fn allowed_ways(rule: &Rule) -> String {
    let schemes = rule.schemes().iter();
    let ways = schemes.filter_map(|scheme| Some(format!("{scheme} on {}", ports_for(rule, scheme)?)));
    ways.collect::<Vec<String>>().join(" and ")
}

/// No rule matches the host; perhaps one nearly does.
fn unnamed(policy: &Policy, target: &Target) -> (Option<RuleId>, String) {
    let name = match &target.host {
        Host::Name(name) => name.as_str(),
        Host::Address(address) => {
            if policy.addresses_by_sni && target.method == Method::Connect {
                let advice = format!(
                    "no rule of policy `{}` lists the address {address}: the name in the ClientHello decides (`addresses_by_sni`), so ask with \
                     that name",
                    policy.name
                );
                return (None, advice);
            }
            let advice = format!(
                "no rule of policy `{}` lists the address {address}, and rules for names match only names: if the client \
                 was given a name, the client looked the name up itself; {SEND_NAMES}",
                policy.name
            );
            return (None, advice);
        }
    };
    if let Some((id, advice)) = nearly(policy, name) {
        return (Some(id), advice);
    }
    let advice = match policy.allows {
        0 => format!("policy `{}` has no `allow` rules", policy.name),
        _ => format!("no rule of policy `{}` names {name}", policy.name),
    };
    (None, advice)
}

/// The usual mistakes: the name itself under `*.name`, a name under an exact name, one label too many for a `*`.
fn nearly(policy: &Policy, name: &str) -> Option<(RuleId, String)> {
    let mut nearest = None;
    let mut looked_at = 0;
    for (start, hash) in suffixes(name) {
        let suffix = &name[start..];
        let head = policy.names.find(hash, |id| policy.store.name(id) == suffix);
        let first = head.and_then(|head| policy.store.chain(head).find(|(_, rule)| !rule.is_deny()));
        if let Some((id, rule)) = first {
            let text = policy.store.text(id);
            let advice = match rule.kind() {
                Kind::Under => format!(
                    "`{text}` is for names under {suffix}, not for {suffix} itself: `.{suffix}` matches both"
                ),
                _ => format!("`{text}` is for {suffix} only, not for names under it"),
            };
            nearest = Some((id, advice));
        }
        let room = PATTERNS_LOOKED_AT - looked_at;
        for id in policy.labels.near(name, start, hash).take(room) {
            looked_at += 1;
            let too_many = matches_across_labels(policy.store.host(id), name);
            if too_many && !policy.store.rule(id).is_deny() {
                let text = policy.store.text(id);
                nearest = Some((
                    id,
                    format!("`{text}`: each `*` stands for exactly one label, and {name} has more"),
                ));
                break;
            }
        }
    }
    nearest
}
