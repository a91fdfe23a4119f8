//! Whether a rule lets nothing through that another one did not, and what follows from that for a change among the rules of a
//! policy.
//!
//! Only one `allow` rule decides a request: the most specific one, or one that looks at requests. So a rule that is gone
//! leaves its requests to another, and a rule that is new takes some from others. Where the one that decides now is at least
//! as strict as the one that decided before, nothing more gets out; that is asked of every rule that has hosts and ports in
//! common with the changed one, whichever of them decides. Not here: which rules are pairs ([`super::rules`]).

use std::cell::{Cell, OnceCell};

use super::change::Opens;
use crate::rules::{HostPattern, Mode, Policy, RuleOptions, RuleView, Scheme, Schemes, Shift};

/// So many rules of a policy are looked at for all of its changes: a second or so. After that nothing is taken for granted.
const LOOKED_AT: usize = 4_000_000;

/// The rules of one policy, to find those that have hosts in common with a rule.
pub(super) struct Side<'p> {
    policy: &'p Policy,
    index: OnceCell<Index<'p>>,
    looked_at: Cell<usize>,
}

#[derive(Default)]
struct Index<'p> {
    /// By the name without `*.` or `.` before it, sorted.
    names: Vec<(&'p str, RuleView<'p>)>,
    /// Rules with a `*` inside.
    patterns: Vec<(HostPattern, RuleView<'p>)>,
    addresses: Vec<(HostPattern, RuleView<'p>)>,
}

impl<'p> Side<'p> {
    pub(super) fn new(policy: &'p Policy) -> Self {
        Side { policy, index: OnceCell::new(), looked_at: Cell::new(0) }
    }

    fn index(&self) -> &Index<'p> {
        self.index.get_or_init(|| {
            let mut index = Index::default();
            for rule in self.policy.rules() {
                let text = rule.canonical_host();
                match rule.host() {
                    Some(host @ HostPattern::Labels(_)) => index.patterns.push((host, rule)),
                    Some(host @ (HostPattern::Address(_) | HostPattern::Network(_))) => {
                        index.addresses.push((host, rule));
                    }
                    Some(_) => index.names.push((base(text), rule)),
                    None => {}
                }
            }
            index.names.sort_by_key(|(base, _)| *base);
            index
        })
    }

    /// Passes each rule whose host meets `host` to `see`. False: there are too many to look at.
    fn meeting(&self, host: &HostPattern, mut see: impl FnMut(&HostPattern, RuleView<'p>)) -> bool {
        let index = self.index();
        let among = |list: &[(HostPattern, RuleView<'p>)],
                     see: &mut dyn FnMut(&HostPattern, RuleView<'p>)| {
            list.iter().filter(|(other, _)| other.meets(host)).for_each(|(other, rule)| see(other, *rule));
        };
        let (names, cost) = match host {
            HostPattern::Address(_) | HostPattern::Network(_) => (Vec::new(), index.addresses.len()),
            HostPattern::Exact(name) => {
                let near = above(name.as_str()).flat_map(|name| named(&index.names, name)).collect();
                (near, index.patterns.len())
            }
            HostPattern::Under(_) | HostPattern::UnderOrSelf(_) | HostPattern::Labels(_) => {
                (index.names.iter().collect(), index.names.len() + index.patterns.len())
            }
        };
        let looked_at: usize = self.looked_at.get() + cost + names.len();
        if looked_at > LOOKED_AT {
            return false;
        }
        self.looked_at.set(looked_at);
        for (_, rule) in names {
            if let Some(other) = rule.host().filter(|other| other.meets(host)) {
                see(&other, *rule);
            }
        }
        match host {
            HostPattern::Address(_) | HostPattern::Network(_) => among(&index.addresses, &mut see),
            _ => among(&index.patterns, &mut see),
        }
        true
    }

    /// What it means that `before` is gone, or matches less: another rule may decide in its place.
    pub(super) fn takes_over(&self, before: &RuleView<'_>) -> Opens {
        let Some(host) = before.host() else { return Opens::Perhaps };
        // What no rule allows passes there, without what the rule asked for.
        if self.policy.mode() == Mode::Report && asks_for_something(before) {
            return Opens::Perhaps;
        }
        let mut looser = false;
        let seen = self.meeting(&host, |_, rule| {
            looser |= !rule.is_deny() && !is_as_strict(before, &rule);
        });
        if looser || !seen { Opens::Perhaps } else { Opens::No }
    }

    /// What it means that `after` is new, or matches more, or comes before others now; the side is the old one.
    pub(super) fn displaced_by(&self, after: &RuleView<'_>) -> Opens {
        let Some(host) = after.host() else { return Opens::Yes };
        let (mut held, mut looser) = (false, false);
        let seen = self.meeting(&host, |other, rule| {
            if !rule.is_deny() {
                held |= other.covers(&host) && has_all_ports(&rule, after);
                looser |= !is_as_strict(&rule, after);
            }
        });
        match (held && seen, looser) {
            (false, _) => Opens::Yes,
            (true, true) => Opens::Perhaps,
            (true, false) => Opens::No,
        }
    }

    /// What it means that the `deny` rule `before` is gone, or matches less.
    pub(super) fn denies_less(&self, before: &RuleView<'_>) -> Opens {
        let Some(host) = before.host() else { return Opens::Yes };
        let mut denied = false;
        let seen = self.meeting(&host, |other, rule| {
            denied |= rule.is_deny() && other.covers(&host) && has_all_ports(&rule, before);
        });
        if denied && seen { Opens::No } else { Opens::Yes }
    }
}

/// Whether a request that the rule decides passes in another way if report mode lets it through: without its options, and as
/// what it is taken for by its port.
fn asks_for_something(rule: &RuleView<'_>) -> bool {
    let restricts =
        rule.options().is_some_and(|options| options.entries().any(|(_, value)| value.restricts()));
    restricts
        || samples(rule, rule).any(|port| {
            let schemes = on_port(rule, port);
            schemes.contains(Scheme::Http) || (schemes.contains(Scheme::Https) && port != 443)
        })
}

/// The name of a rule, without `*.` or `.` before it.
fn base(canonical: &str) -> &str {
    canonical.strip_prefix("*.").or_else(|| canonical.strip_prefix('.')).unwrap_or(canonical)
}

/// A name, and every name that it is under.
fn above(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, rest)| rest))
}

fn named<'i, 'p>(
    names: &'i [(&'p str, RuleView<'p>)],
    name: &str,
) -> impl Iterator<Item = &'i (&'p str, RuleView<'p>)> {
    let from = names.partition_point(|(other, _)| *other < name);
    let rest = names.get(from..).unwrap_or_default();
    let count = rest.partition_point(|(other, _)| *other == name);
    rest.iter().take(count)
}

/// The ports, first and last, on which a rule matches one scheme.
fn span(rule: &RuleView<'_>, scheme: Scheme) -> Option<(u16, u16)> {
    let written = rule.ports().map(|ports| (ports.low.get(), ports.high.get()));
    if !rule.schemes().contains(scheme) {
        return None;
    }
    match rule.is_deny() {
        true => Some(written.unwrap_or((1, u16::MAX))),
        false => written.or_else(|| scheme.default_port().map(|port| (port.get(), port.get()))),
    }
}

/// The schemes by which a rule matches a port.
fn on_port(rule: &RuleView<'_>, port: u16) -> Schemes {
    let fits = |scheme: &Scheme| span(rule, *scheme).is_some_and(|(low, high)| low <= port && port <= high);
    Scheme::ALL.into_iter().filter(fits).collect()
}

/// Ports of which one stands for each range in which two rules do not change.
fn samples(one: &RuleView<'_>, other: &RuleView<'_>) -> impl Iterator<Item = u16> {
    let spans = Scheme::ALL.into_iter().flat_map(|scheme| [span(one, scheme), span(other, scheme)]);
    let ends: Vec<(u16, u16)> = spans.flatten().collect();
    ends.into_iter().flat_map(|(low, high)| [Some(low), high.checked_add(1)]).flatten()
}

/// Whether `wide` matches each port and scheme that `narrow` matches, in some way.
fn has_all_ports(wide: &RuleView<'_>, narrow: &RuleView<'_>) -> bool {
    samples(wide, narrow).all(|port| {
        let (has, wanted) = (on_port(wide, port), on_port(narrow, port));
        wanted.iter().all(|scheme| has.contains(scheme) || (!wide.is_deny() && !has.is_empty()))
    })
}

/// Whether `after`, where it decides requests that `before` decided until now, lets none through that `before` did not.
fn is_as_strict(before: &RuleView<'_>, after: &RuleView<'_>) -> bool {
    let mut meet = false;
    let same_ways = samples(before, after).all(|port| {
        let (old, new) = (on_port(before, port), on_port(after, port));
        if old.is_empty() || new.is_empty() {
            return true;
        }
        meet = true;
        // A CONNECT is looked into in the same way, and plain HTTP is no new way.
        let connects = [Scheme::Https, Scheme::Tcp];
        connects.into_iter().all(|scheme| old.contains(scheme) == new.contains(scheme))
            && (old.contains(Scheme::Http) || !new.contains(Scheme::Http))
    });
    if !meet {
        return true;
    }
    let none = RuleOptions::default();
    let (old, new) = (before.options().unwrap_or(&none), after.options().unwrap_or(&none));
    same_ways
        && old.entries().zip(new.entries()).all(|((_, old), (_, new))| {
            old.changes(&new).iter().all(|(shift, _)| matches!(shift, Shift::Narrower | Shift::Noted))
        })
}

/// Whether requests that `before` decided may now be decided by `after`, which lets some through that `before` did not.
pub(super) fn lets_more(before: &RuleView<'_>, after: &RuleView<'_>) -> bool {
    let meet = matches!((before.host(), after.host()), (Some(one), Some(other)) if one.meets(&other));
    meet && !is_as_strict(before, after)
}
