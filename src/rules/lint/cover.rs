//! Whether a rule has an effect together with the other rules of its policy.
//!
//! The rules that match all of a rule's hosts are found with the same indexes that decide, in the same order, so "comes
//! before" has the same meaning here and there. A rule is compared with one other rule at a time: two rules that only
//! together cover a third are not found. At most [`COMPARED`] rules for one host are compared: a list that has one host
//! on a thousand ports must not cost a million comparisons.

use std::collections::HashSet;

use jiff::Timestamp;

use super::super::label_pattern::literal_suffix;
use super::super::labels::Hit;
use super::super::names::suffixes;
use super::super::pattern::{HostPattern, network_of};
use super::super::policy::Policy;
use super::super::rule::Scheme;
use super::super::search::ports_for;
use super::super::store::{Kind, NONE, Rule, RuleId};
use super::shared_names::may_meet;
use crate::words::target::Method;

/// The number of rules for one host that a rule is compared with.
const COMPARED: usize = 32;

/// What a rule does together with the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// It decides something, as far as a comparison with one other rule can show.
    Decides,
    /// A `deny` rule matches everything that it allows.
    Denied { by: RuleId },
    /// An equal rule, with equal options, comes first.
    Duplicate { of: RuleId },
    /// A rule for the same host comes first for all of it.
    NeverDecides { before: RuleId, other_options: bool },
    /// A rule that looks at each request matches all that it would let through unseen: it never decides. `equal`: that rule
    /// is for the same host.
    Unseen { by: RuleId, equal: bool },
    /// Without it a wider rule would decide in the same way.
    AddsNothing { to: RuleId },
    /// It has expired; a wider rule may decide instead.
    Expired { taken_over_by: Option<RuleId> },
    /// It will expire, and a wider rule will decide then.
    Outlived { by: RuleId },
}

/// The rules around one rule. One value is used for a whole policy, to reuse its memory.
#[derive(Default)]
pub(super) struct Neighbours<'p> {
    /// The rules that match all hosts of the rule, the rule itself included, in the order of precedence.
    ids: Vec<RuleId>,
    /// The rule's own index in `ids`: rules before it come first in a decision.
    own: usize,
    starts: Vec<(usize, u64)>,
    hits: Vec<Hit>,
    /// The literal suffixes of patterns that have other rules for suffixes under them; computed when first needed.
    split: Option<HashSet<&'p str>>,
}

impl<'p> Neighbours<'p> {
    pub(super) fn effect(&mut self, policy: &'p Policy, id: RuleId, now: Timestamp) -> Effect {
        self.find(policy, id);
        let rule = policy.store.rule(id);
        if let [only] = self.ids.as_slice()
            && *only == id
            && policy.expires(rule).is_none()
        {
            return Effect::Decides; // nearly every rule
        }
        if rule.is_deny() {
            self.effect_of_deny(policy, id, rule)
        } else {
            self.effect_of_allow(policy, id, rule, now)
        }
    }

    /// How many rules the last one was compared with.
    #[cfg(test)]
    pub(super) fn compared(&self) -> usize {
        self.ids.len()
    }

    fn effect_of_deny(&self, policy: &Policy, id: RuleId, rule: &Rule) -> Effect {
        for (place, &other) in self.ids.iter().enumerate().filter(|(_, other)| **other != id) {
            let wider = policy.store.rule(other);
            if !wider.is_deny() || !covers(wider, rule) {
                continue;
            }
            let equal = policy.store.host(other) == policy.store.host(id) && covers(rule, wider);
            match (equal, place < self.own) {
                (true, true) => return Effect::Duplicate { of: other },
                (true, false) => {} // the other rule is reported
                (false, _) => return Effect::AddsNothing { to: other },
            }
        }
        Effect::Decides
    }

    fn effect_of_allow(&mut self, policy: &'p Policy, id: RuleId, rule: &Rule, now: Timestamp) -> Effect {
        let others = || self.ids.iter().copied().filter(|other| *other != id);
        let expires = policy.expires(rule);
        let expired = expires.is_some_and(|moment| moment <= now);
        let denied = others().find(|&other| {
            let deny = policy.store.rule(other);
            deny.is_deny() && covers(deny, rule)
        });
        if let Some(by) = denied {
            return Effect::Denied { by };
        }
        // Whether a rule is in force after `rule` expires.
        let outlives = |other: &Rule| match (policy.expires(other), expires) {
            (None, _) => true,
            (Some(other), _) if other <= now => false,
            (Some(other), Some(own)) => other > own,
            (Some(_), None) => false,
        };
        // A rule that does not look takes nothing over from one that does.
        let passes_over =
            |other: &Rule| policy.looks && has_unseen(policy, other) && !has_unseen(policy, rule);
        let allows_on = |other: RuleId| {
            let wider = policy.store.rule(other);
            !wider.is_deny()
                && !passes_over(wider)
                && outlives(wider)
                && (overlaps(wider, rule) || carries_after(wider, rule))
        };
        if expired {
            return Effect::Expired { taken_over_by: others().find(|&other| allows_on(other)) };
        }
        let same_host = |other: RuleId| policy.store.host(other) == policy.store.host(id);
        // For the same host, part of it is enough to refuse it: the rest is easily taken for all of it.
        let looks = others()
            .find(|&other| policy.looks && sees(policy, policy.store.rule(other), rule, !same_host(other)));
        if let Some(by) = looks {
            return Effect::Unseen { by, equal: same_host(by) };
        }
        // Whether a rule is in force as long as `rule` is.
        let holds = |other: &Rule| policy.expires(other) == expires || outlives(other);
        let earlier = self.ids.iter().take(self.own).copied().find(|&other| {
            let first = policy.store.rule(other);
            !first.is_deny() && !passes_over(first) && holds(first) && covers(first, rule)
        });
        if let Some(before) = earlier {
            let first = policy.store.rule(before);
            let same = same_options(policy, before, id);
            if same && first.schemes() == rule.schemes() {
                return Effect::Duplicate { of: before };
            }
            return Effect::NeverDecides { before, other_options: !same };
        }
        if expires.is_some() {
            return match others().find(|&other| allows_on(other)) {
                Some(by) => Effect::Outlived { by },
                None => Effect::Decides,
            };
        }
        // The rule that would decide next; it must do so permanently.
        let in_force = |other: &Rule| policy.expires(other).is_none_or(|moment| moment > now);
        let next = self.ids.get(self.own + 1..).into_iter().flatten().copied().find(|&other| {
            let wider = policy.store.rule(other);
            !wider.is_deny() && in_force(wider) && overlaps(wider, rule)
        });
        // Of two equal rules, the later one is reported.
        let equal = |other: RuleId| {
            policy.store.host(other) == policy.store.host(id) && covers(rule, policy.store.rule(other))
        };
        match next {
            Some(to)
                if holds(policy.store.rule(to))
                    && covers(policy.store.rule(to), rule)
                    && !equal(to)
                    && same_tunnel(policy.store.rule(to), rule)
                    && same_options(policy, to, id)
                    && !self.is_split(policy, id, rule.kind()) =>
            {
                Effect::AddsNothing { to }
            }
            _ => Effect::Decides,
        }
    }

    /// The rules that match all hosts of a rule that looks at each request, and let requests to some of its ports through
    /// unseen where they match more hosts. Call it after [`Neighbours::effect`], for the same rule.
    pub(super) fn beside(&self, policy: &Policy, id: RuleId) -> Option<RuleId> {
        let rule = policy.store.rule(id);
        if has_unseen(policy, rule) {
            return None;
        }
        self.ids.iter().copied().find(|&other| {
            let wider = policy.store.rule(other);
            other != id
                && !wider.is_deny()
                && policy.store.host(other) != policy.store.host(id)
                && has_unseen(policy, wider)
                && overlaps(wider, rule)
        })
    }

    /// Whether a rule for the same host wants TLS, on whatever port. Call it after [`Neighbours::effect`], for the same rule.
    pub(super) fn has_tls(&self, policy: &Policy, id: RuleId) -> bool {
        self.ids.iter().any(|&other| {
            let rule = policy.store.rule(other);
            !rule.is_deny()
                && policy.store.host(other) == policy.store.host(id)
                && rule.schemes().contains(Scheme::Https)
        })
    }

    /// Whether another rule may match some of the rule's hosts, but not all, and would decide for them without this
    /// rule: `*.x` next to `.x`, and any rule that overlaps a pattern. This may return true too often, but never false
    /// by mistake.
    fn is_split(&mut self, policy: &'p Policy, id: RuleId, kind: Kind) -> bool {
        match kind {
            Kind::Exact | Kind::Under | Kind::Address => false,
            Kind::UnderOrSelf => {
                let whole = self.starts.last().map_or(0, |(_, hash)| *hash);
                let mut chain = policy.store.chain(head(policy, policy.store.name(id), whole)).enumerate();
                // A chain that is too long to search is assumed to contain one.
                chain.any(|(at, (_, rule))| rule.kind() == Kind::Under || at == COMPARED)
            }
            Kind::Labels => {
                let pattern = policy.store.host(id);
                let meets = |other: RuleId| other != id && may_meet(policy.store.host(other), pattern);
                let split = self.split.get_or_insert_with(|| split_suffixes(policy));
                policy.labels.rules().any(meets) || split.contains(literal_suffix(pattern))
            }
        }
    }

    /// Fills `ids` and `own`.
    fn find(&mut self, policy: &Policy, id: RuleId) {
        self.ids.clear();
        self.own = 0;
        let rule = policy.store.rule(id);
        match rule.kind() {
            Kind::Exact | Kind::Under | Kind::UnderOrSelf => {
                let name = policy.store.name(id);
                self.starts(name);
                let whole = self.starts.last().map_or(0, |(_, hash)| *hash);
                let head = head(policy, name, whole);
                match rule.kind() {
                    Kind::Exact => {
                        self.chain(policy, head, |kind| kind == Kind::Exact);
                        self.own_is_known(id);
                        self.patterns(policy, name);
                        self.chain(policy, head, |kind| kind == Kind::UnderOrSelf);
                    }
                    Kind::Under => {
                        self.chain(policy, head, |kind| matches!(kind, Kind::Under | Kind::UnderOrSelf));
                        self.own_is_known(id);
                    }
                    _ => {
                        self.chain(policy, head, |kind| kind == Kind::UnderOrSelf);
                        self.own_is_known(id);
                    }
                }
                self.suffixes_above(policy, name);
            }
            Kind::Labels => {
                let pattern = policy.store.host(id);
                self.starts(pattern);
                self.patterns(policy, pattern);
                self.own_is_known(id);
                self.suffixes_above(policy, pattern);
            }
            Kind::Address => {
                let network =
                    HostPattern::parse(policy.store.host(id)).ok().and_then(|host| network_of(&host));
                let Some(network) = network else { return };
                for (level, head) in policy.networks.around(network).enumerate() {
                    self.ids.extend(policy.store.chain(head).map(|(other, _)| other).take(COMPARED));
                    if level == 0 {
                        self.own_is_known(id); // the smallest network around it is the network itself
                    }
                }
            }
        }
    }

    /// Call this when all equally specific rules are listed, and no less specific ones.
    fn own_is_known(&mut self, id: RuleId) {
        self.own = self.ids.iter().position(|other| *other == id).unwrap_or(self.ids.len());
    }

    fn starts(&mut self, name: &str) {
        self.starts.clear();
        self.starts.extend(suffixes(name));
    }

    /// Adds the rules of a chain that have a certain kind.
    fn chain(&mut self, policy: &Policy, head: RuleId, fits: impl Fn(Kind) -> bool) {
        let chain = policy.store.chain(head).take(COMPARED);
        self.ids.extend(chain.filter(|(_, rule)| fits(rule.kind())).map(|(other, _)| other));
    }

    /// Adds the patterns that match `name`, or that match everything the pattern `name` matches: their `*` accepts a
    /// `*` in `name` like any other character.
    fn patterns(&mut self, policy: &Policy, name: &str) {
        if policy.labels.is_empty() {
            return;
        }
        self.hits.clear();
        for &(start, hash) in &self.starts {
            policy.labels.find(name, start, hash, &policy.store, &mut self.hits);
        }
        self.hits.sort_unstable();
        self.ids.extend(self.hits.iter().map(|hit| hit.rule).take(COMPARED));
    }

    /// Adds the rules for all names under the suffixes of `name`, the longest suffix first.
    fn suffixes_above(&mut self, policy: &Policy, name: &str) {
        for at in (0..self.starts.len()).rev() {
            let Some(&(start, hash)) = self.starts.get(at) else { continue };
            if let Some(suffix) = name.get(start..)
                && start > 0
            {
                self.chain(policy, head(policy, suffix, hash), |kind| {
                    matches!(kind, Kind::Under | Kind::UnderOrSelf)
                });
            }
        }
    }
}

/// The literal suffixes of patterns that have rules for longer suffixes under them: `x.test` of `b.*.x.test`, if there
/// is `*.a.x.test`.
fn split_suffixes(policy: &Policy) -> HashSet<&str> {
    let patterns: HashSet<&str> =
        policy.labels.rules().map(|id| literal_suffix(policy.store.host(id))).collect();
    let wide = |id: &RuleId| matches!(policy.store.rule(*id).kind(), Kind::Under | Kind::UnderOrSelf);
    let below = policy.store.ids().filter(wide).flat_map(|id| {
        let name = policy.store.name(id);
        name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..))
    });
    below.filter(|suffix| patterns.contains(suffix)).collect()
}

/// The first rule for a name, or for everything under it.
fn head(policy: &Policy, name: &str, hash: u64) -> RuleId {
    policy.names.find(hash, |other| policy.store.name(other) == name).unwrap_or(NONE)
}

/// Whether the rule lets requests through that nobody looks at.
pub(super) fn has_unseen(policy: &Policy, rule: &Rule) -> bool {
    rule.schemes().iter().any(|scheme| !policy.looks(rule, scheme))
}

/// Whether `looks` looks at requests that `rule` would let through unseen, for a host that both match: at `all` of them, or at
/// some.
fn sees(policy: &Policy, looks: &Rule, rule: &Rule, all: bool) -> bool {
    if looks.is_deny() || !has_unseen(policy, rule) {
        return false;
    }
    let span = |rule: &Rule, scheme| ports_for(rule, scheme).map(|ports| (ports.low.get(), ports.high.get()));
    let seen = |scheme: Scheme| {
        let Some((low, high)) = span(rule, scheme) else { return false };
        let mut seeing = looks.schemes().iter().filter(|by| policy.looks(looks, *by));
        seeing.any(|by| {
            // An `http` rule that looks carries a CONNECT too.
            let same_way = by.method() == scheme.method() || by == Scheme::Http;
            let fits = |(from, to): (u16, u16)| match all {
                true => from <= low && high <= to,
                false => from <= high && low <= to,
            };
            same_way && span(looks, by).is_some_and(fits)
        })
    };
    let mut unseen = rule.schemes().iter().filter(|scheme| !policy.looks(rule, *scheme));
    if all { unseen.all(seen) } else { unseen.any(seen) }
}

const METHODS: [Method; 2] = [Method::Connect, Method::Http];

/// The port ranges, first and last port, on which a rule matches one method. An `http` rule carries a CONNECT on the
/// ports of its plain requests, where no rule for CONNECT allows it: whatever comes before it for the ones comes before
/// it for the other.
fn spans(rule: &Rule, method: Method) -> impl Iterator<Item = (u16, u16)> {
    let schemes = rule.schemes().iter().filter(move |scheme| scheme.method() == method);
    schemes.filter_map(|scheme| {
        let ports = if rule.is_deny() { rule.ports() } else { ports_for(rule, scheme) };
        match ports {
            Some(ports) => Some((ports.low.get(), ports.high.get())),
            None if rule.is_deny() => Some((1, u16::MAX)),
            None => None,
        }
    })
}

/// Whether `wide` matches every request that `narrow` matches, for a host that both match.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let holds = |outer: (u16, u16), inner: (u16, u16)| outer.0 <= inner.0 && inner.1 <= outer.1;
    METHODS
        .into_iter()
        .all(|method| spans(narrow, method).all(|inner| spans(wide, method).any(|outer| holds(outer, inner))))
}

/// Whether some request matches both, for a host that both match.
pub(super) fn overlaps(one: &Rule, other: &Rule) -> bool {
    let meet = |a: (u16, u16), b: (u16, u16)| a.0 <= b.1 && b.0 <= a.1;
    METHODS.into_iter().any(|method| spans(one, method).any(|a| spans(other, method).any(|b| meet(a, b))))
}

/// Whether the `http` rule `other` carries a CONNECT that `rule` no longer allows: it is asked only then.
fn carries_after(other: &Rule, rule: &Rule) -> bool {
    let meet = |a: (u16, u16), b: (u16, u16)| a.0 <= b.1 && b.0 <= a.1;
    spans(other, Method::Http).any(|a| spans(rule, Method::Connect).any(|b| meet(a, b)))
}

/// Whether `one` inspects each CONNECT in the same way as `other`.
fn same_tunnel(one: &Rule, other: &Rule) -> bool {
    [Scheme::Https, Scheme::Tcp]
        .into_iter()
        .all(|scheme| one.schemes().contains(scheme) == other.schemes().contains(scheme))
        || spans(other, Method::Connect).next().is_none()
}

fn same_options(policy: &Policy, one: RuleId, other: RuleId) -> bool {
    let given = |id| policy.options_of(id).map(|options| &options.given);
    policy.store.rule(one).options == policy.store.rule(other).options || given(one) == given(other)
}
