//! Warnings about rules that are valid but unwise: rules that reach more than was meant, and rules without effect.
//!
//! Each rule is compared with the few others that the index finds for its host, so a million rules cost one lookup each
//! and no extra memory. Of each kind, only the first [`TOLD_OF_A_KIND`] warnings are reported; the rest are counted.
//! Not here: what makes a rule an error ([`pattern`](super::pattern), [`rule`](super::rule)). Whether a policy can be
//! reached at all is answered by [`unreachable()`], which [`crate::config`] calls while it still knows the policy's
//! position.

mod alone;
mod buckets;
mod clients;
mod confusable;
mod cover;
mod networks;
mod requests;
mod shared_names;
#[cfg(test)]
mod tests;
mod told;

use ipnet::IpNet;
use jiff::Timestamp;

use self::alone::Opaque;
pub use self::clients::{Entrance, Proofs, Rival, let_out, may_come, reached, unreachable};
pub use self::confusable::{Confusable, confusable};
use self::cover::{Effect, Neighbours};
pub use self::networks::{open_to_strangers, whole_private};
pub(in crate::rules) use self::shared_names::may_meet;
use self::told::{At, Told};
pub use self::told::{Lint, LintKind, TOLD_OF_A_KIND, Within};
use super::Policies;
use super::address::never_in;
use super::options::{Ech, RuleOptions};
use super::rule::Scheme;
use super::store::{Kind, Rule};

/// All warnings about all rules, in the order of the rules; `now` decides which rules have expired.
pub fn lint(policies: &Policies, now: Timestamp) -> Vec<Lint> {
    let mut told = Told::default();
    let mut inline = 0;
    for (number, policy) in policies.iter().enumerate() {
        let (mut neighbours, mut doors) = (Neighbours::default(), requests::Doors::default());
        for id in policy.store.ids() {
            let rule = policy.store.rule(id);
            let at = At { policy, number, id, inline: rule.is_inline().then_some(inline) };
            inline += usize::from(rule.is_inline());
            tell_confusable(&at, rule, &mut told);
            let has_effect = tell_effect(&at, rule, now, &mut neighbours, &mut told);
            if has_effect && !rule.is_deny() {
                requests::tell(&at, &neighbours, &mut doors, now, &mut told);
                tell_alone(&at, rule, &neighbours, &mut told);
                reach(&at, rule, &mut told);
            }
        }
    }
    told.finish()
}

/// Whether the rule has an effect of its own; otherwise it is reported why not.
fn tell_effect<'p>(
    at: &At<'p>,
    rule: &Rule,
    now: Timestamp,
    neighbours: &mut Neighbours<'p>,
    told: &mut Told,
) -> bool {
    let text = at.text();
    let effect = neighbours.effect(at.policy, at.id, now);
    let kind = match effect {
        Effect::Decides => return true,
        Effect::Denied { .. } => LintKind::Denied,
        Effect::Unseen { equal: true, .. } => LintKind::Unseen,
        Effect::Duplicate { .. } | Effect::NeverDecides { .. } | Effect::Unseen { equal: false, .. } => {
            LintKind::NeverDecides
        }
        Effect::AddsNothing { .. } => LintKind::AddsNothing,
        Effect::Expired { .. } => LintKind::Expired,
        Effect::Outlived { .. } => LintKind::Outlived,
    };
    told.tell(kind, at, || match effect {
        Effect::Decides => String::new(),
        Effect::Denied { by } => format!(
            "`{text}` allows nothing: {} under `deny` matches all of it; remove one of the two",
            at.other(by)
        ),
        Effect::Duplicate { of } => {
            format!("`{text}` repeats {}: remove one of the two", at.other(of))
        }
        Effect::NeverDecides { before, other_options } => {
            let options = if other_options { ", with other options" } else { "" };
            format!(
                "`{text}` never decides: {} comes first and matches all of it{options}; remove one of the two",
                at.other(before)
            )
        }
        Effect::Unseen { by, equal: true } => format!(
            "`{text}` lets requests pass unseen that {} looks at, which decides in its place wherever both match: remove one of \
             the two, or write other ports",
            at.other(by)
        ),
        Effect::Unseen { by, equal: false } => format!(
            "`{text}` never decides: {} looks at each request and matches all of it, and what it looks at never passes \
             unseen; remove one of the two, or make the other narrower",
            at.other(by)
        ),
        Effect::AddsNothing { to } => {
            let does = if rule.is_deny() { "denies" } else { "allows" };
            format!(
                "`{text}` adds nothing: {} {does} all of it in the same way; remove one of the two",
                at.other(to)
            )
        }
        Effect::Expired { taken_over_by } => {
            let moment = at.policy.expires(rule).unwrap_or(Timestamp::MIN);
            match taken_over_by {
                None => format!("`{text}` expired at {moment} and allows nothing: renew it, or remove it"),
                Some(wider) => format!(
                    "`{text}` expired at {moment}, but {} still allows all or part of it{}: renew it, or remove what \
                     should not be allowed",
                    at.other(wider),
                    without(at.given(at.id), at.given(wider))
                ),
            }
        }
        Effect::Outlived { by } => {
            let moment = at.policy.expires(rule).unwrap_or(Timestamp::MAX);
            format!(
                "`{text}` expires at {moment}, but {} will still allow all or part of it{}: let that rule expire \
                 too, or make it narrower",
                at.other(by),
                without(at.given(at.id), at.given(by))
            )
        }
    });
    matches!(effect, Effect::AddsNothing { .. } | Effect::Outlived { .. })
}

/// ` without its upload_limit`: the restrictions of a rule that the next rule does not have.
fn without(given: Option<&RuleOptions>, after: Option<&RuleOptions>) -> String {
    let (Some(given), Some(after)) = (given, after) else { return String::new() };
    let both = given.entries().zip(after.entries());
    let lost = both.filter(|((_, given), (_, after))| given.restricts() && given != after);
    let lost: Vec<String> = lost.map(|((key, _), _)| format!("`{key}`")).collect();
    if lost.is_empty() { String::new() } else { format!(", without its {}", lost.join(" and ")) }
}

/// Warns of a host that is taken for another one. A `deny` rule may well be for a name in A-labels that looks like one's own.
fn tell_confusable(at: &At<'_>, rule: &Rule, told: &mut Told) {
    let host = at.policy.store.host(at.id);
    if host.contains("xn--")
        && !(rule.is_deny() && at.text().is_ascii())
        && let Some(found) = confusable(host)
    {
        told.tell(LintKind::Confusable, at, || format!("`{}` {found}", at.text()));
    }
}

/// Warns of what an `allow` rule means by itself, whatever its host is.
fn tell_alone(at: &At<'_>, rule: &Rule, neighbours: &Neighbours<'_>, told: &mut Told) {
    let (store, options) = (&at.policy.store, at.policy.options_of(at.id));
    let name = match rule.kind() {
        Kind::Exact | Kind::Under | Kind::UnderOrSelf => store.name(at.id),
        Kind::Labels | Kind::Address => "",
    };
    let alone = alone::Rule {
        kind: rule.kind(),
        host: store.host(at.id),
        name,
        schemes: rule.schemes(),
        ports: rule.ports(),
        private: options.map_or(&at.policy.private, |options| &options.private),
        no_ech: options.is_some_and(|options| options.given.ech == Ech::Deny),
        opaque: opaque(at, rule, neighbours),
    };
    let found = [
        (LintKind::NeverWorks, alone::never_works(&alone)),
        (LintKind::OtherProtocol, alone::other_protocol(&alone)),
        (LintKind::OpensEverything, alone::opens_everything(&alone)),
    ];
    for (kind, doubt) in found {
        if let Some(doubt) = doubt {
            told.tell(kind, at, || format!("`{}` {doubt}", at.text()));
        }
    }
}

/// Whether the rule may be meant for opaque tunnels where TLS is usual: for one host that is nobody else's too, and that no other rule
/// has TLS for. A description of a whole file says nothing of one of its lines.
fn opaque(at: &At<'_>, rule: &Rule, neighbours: &Neighbours<'_>) -> Opaque {
    let (policy, host) = (at.policy, at.policy.store.host(at.id));
    if rule.kind() != Kind::Exact || rule.schemes() != Scheme::Tcp.into() || !rule.is_inline() {
        return Opaque::Never;
    }
    let is_shared = shared_names::is_of_a_customer(host) || buckets::of_everybody(host, None).is_some();
    if is_shared || neighbours.has_tls(policy, at.id) {
        return Opaque::Never;
    }
    let is_said = at.given(at.id).is_some_and(|given| given.description.is_some());
    if is_said { Opaque::Said } else { Opaque::IfSaid }
}

/// Warns of what an `allow` rule for more than one host reaches, and how.
fn reach(at: &At<'_>, rule: &Rule, told: &mut Told) {
    let host = at.policy.store.host(at.id);
    let given = at.given(at.id);
    let bucket = match rule.kind() {
        Kind::Exact => buckets::of_everybody(host, given),
        Kind::Labels if shared_names::labels(host).is_none() => buckets::of_everybody(host, given),
        Kind::Under | Kind::UnderOrSelf | Kind::Labels | Kind::Address => None,
    };
    if let Some(found) = bucket {
        told.tell(LintKind::Shared, at, || format!("`{}` {found}", at.text()));
    }
    let wide = match rule.kind() {
        Kind::Exact => false,
        Kind::Under | Kind::UnderOrSelf | Kind::Labels => true,
        Kind::Address => host.contains('/'),
    };
    if !wide {
        return;
    }
    let found = match rule.kind() {
        Kind::Under | Kind::UnderOrSelf => shared_names::under(at.policy.store.name(at.id)),
        Kind::Labels => shared_names::labels(host),
        Kind::Exact | Kind::Address => None,
    };
    if let Some(found) = found {
        told.tell(LintKind::Strangers, at, || format!("`{}` {found}", at.text()));
    }
    if rule.kind() == Kind::Address && is_wide_network(host) {
        told.tell(LintKind::WideNetwork, at, || {
            format!(
                "`{}` reaches anyone who has an address in it, and a tunnel to an address has no server name to \
                 check: write the names, or the networks of one owner",
                at.text()
            )
        });
    }
    let http = rule.schemes().contains(Scheme::Http).then_some(
        "allows plain HTTP, which can be read and changed in transit; list the hosts, or use https",
    );
    let tcp = rule
        .schemes()
        .contains(Scheme::Tcp)
        .then_some("allows opaque tunnels, whose content is not inspected; list the hosts, or use https");
    for doubt in [http, tcp].into_iter().flatten() {
        told.tell(LintKind::Unguarded, at, || format!("`{}` covers many hosts and {doubt}", at.text()));
    }
}

/// Whether a network is public and larger than what most owners have.
fn is_wide_network(host: &str) -> bool {
    host.replace(['[', ']'], "").parse::<IpNet>().is_ok_and(|network| networks::is_wide(&network))
}

/// The warning about a network under `private` that contains credential endpoints.
pub fn private_network(network: &IpNet) -> Option<String> {
    let held: Vec<String> = never_in(network).map(|(address, what)| format!("{address} ({what})")).collect();
    (!held.is_empty()).then(|| {
        format!(
            "`{network}` contains {}, which no rule can open: write only the networks that you need",
            held.join(", ")
        )
    })
}
