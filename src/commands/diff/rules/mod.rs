//! Compares policies and rules: those that are added, gone, widened or narrowed, and which of these changes let more out.
//!
//! Policies are matched by name, or where only the name is another one ([`super::both`]). The rules of one policy are matched by host, and among those by schemes and ports; the
//! spelling and the place of a rule do not count, but where another order lets another rule decide, that is told. Which change
//! lets more out is judged on the safe side ([`super::strict`]).

use std::cmp::Ordering;
use std::collections::HashMap;

use super::both::Both;
use super::change::{Change, Details, Effect, Opens, Part};
use super::clients::{self, allows_something, compare_networks, left_to_others};
use super::strict::{Side, lets_more};
use crate::rules::{Mode, Policies, Policy, Ports, RuleOptions, RuleView, Scheme, Shift};
use crate::words::counted::counted;
use crate::words::small_sort::SmallSort as _;

/// So many rules for one host are held against each other when their order changes, and so many changes of it are told.
const COMPARED: usize = 500;
const TOLD: usize = 20;

/// Passes every change to `tell`: policy by policy in the new order, and within a policy sorted by host.
pub fn compare(old: &Policies, new: &Policies, mut tell: impl FnMut(Change)) {
    let both = Both::new(old, new);
    for policy in old.iter().filter(|policy| both.now(policy).is_none()) {
        let opens = left_to_others(policy, policy.addresses(), &both);
        tell(whole(policy, Effect::Gone, opens));
        policy.rules().for_each(|rule| tell(single(&rule, Effect::Gone, Opens::No)));
    }
    for policy in new.iter() {
        match both.before(policy) {
            Some(before) => {
                compare_policy(before, policy, &both, &mut tell);
                compare_rules(before, policy, &mut tell);
            }
            None => {
                let opens = if allows_something(policy) { Opens::Yes } else { Opens::No };
                tell(whole(policy, Effect::Added, opens));
                for rule in policy.rules() {
                    let opens = if rule.is_deny() { Opens::No } else { Opens::Yes };
                    tell(single(&rule, Effect::Added, opens));
                }
            }
        }
    }
    // By the new names.
    let before: Vec<&str> = old.iter().filter_map(|policy| Some(&**both.now(policy)?.name())).collect();
    let after: Vec<&str> =
        new.iter().filter(|policy| both.before(policy).is_some()).map(|policy| &**policy.name()).collect();
    if before != after {
        tell(Change {
            part: Part::Rules,
            of: "policies".into(),
            effect: Effect::Changed,
            opens: clients::reordered(&both),
            what: "their order (the first policy that matches a client decides)".to_owned(),
            details: vec![format!("{} → {}", before.join(", "), after.join(", "))],
        });
    }
}

fn whole(policy: &Policy, effect: Effect, opens: Opens) -> Change {
    let rules = counted(policy.rule_count(), "rule", "rules");
    let what = format!("the policy ({}, {rules})", policy.mode().as_str());
    Change { part: Part::Rules, of: (**policy.name()).into(), effect, opens, what, details: Vec::new() }
}

fn single(rule: &RuleView<'_>, effect: Effect, opens: Opens) -> Change {
    let of = (**rule.policy().name()).into();
    Change { part: Part::Rules, of, effect, opens, what: shown(rule), details: Vec::new() }
}

fn shown(rule: &RuleView<'_>) -> String {
    let kind = if rule.is_deny() { "deny" } else { "allow" };
    format!("{kind} `{}` ({}:{})", rule.text(), rule.file(), rule.line())
}

fn compare_policy(old: &Policy, new: &Policy, both: &Both<'_>, tell: &mut impl FnMut(Change)) {
    let mut details = Details::default();
    if old.name() != new.name() {
        let name = format!("name {} → {}", old.name(), new.name());
        let is_budget =
            |rule: RuleView<'_>| rule.options().is_some_and(|options| options.upload_budget.is_some());
        // What a client has sent is counted by the policy's name and the rule.
        match old.rules().any(is_budget) && new.rules().any(is_budget) {
            true => {
                let line = format!("{name}, so each `upload_budget` begins anew");
                details.add(Effect::Changed, Opens::Perhaps, line);
            }
            false => details.add(Effect::Noted, Opens::No, name),
        }
    }
    match (old.mode(), new.mode()) {
        (Mode::Enforce, Mode::Report) => {
            details.add(Effect::Widened, Opens::Yes, "mode enforce → report".to_owned());
        }
        (Mode::Report, Mode::Enforce) => {
            details.add(Effect::Narrowed, Opens::No, "mode report → enforce".to_owned());
        }
        (Mode::Enforce, Mode::Enforce) | (Mode::Report, Mode::Report) => {}
    }
    clients::compare(old, new, both, &mut details);
    match (old.addresses_by_sni(), new.addresses_by_sni()) {
        (false, true) => details.add(Effect::Widened, Opens::Yes, "addresses_by_sni false → true".to_owned()),
        (true, false) => details.add(Effect::Narrowed, Opens::No, "addresses_by_sni true → false".to_owned()),
        _ => {}
    }
    let networks = (old.private(), new.private());
    compare_networks("private", networks, (Opens::Yes, &|_| Opens::No), &mut details);
    details.change(Part::Rules, new.name(), "the policy".to_owned()).into_iter().for_each(tell);
}

/// What distinguishes two rules for one host: schemes, and ports that are not the default of the scheme.
type Shape = (u8, Option<(u16, u16)>);

fn shape(rule: &RuleView<'_>) -> Shape {
    let schemes = rule.schemes().iter().fold(0, |bits, scheme| bits | 1 << scheme as u8);
    let only = Scheme::ALL.into_iter().find(|scheme| 1 << *scheme as u8 == schemes);
    let own = only.and_then(Scheme::default_port).filter(|_| !rule.is_deny()).map(Ports::from);
    let ports = rule.ports().filter(|ports| Some(*ports) != own);
    (schemes, ports.map(|ports| (ports.low.get(), ports.high.get())))
}

/// A rule with its number in the policy: the order in which rules were written.
#[derive(Clone, Copy)]
struct Placed<'p> {
    rule: RuleView<'p>,
    place: usize,
}

impl<'p> Placed<'p> {
    /// What two rules must have in common to be one rule before and after an edit.
    fn host(&self) -> (bool, &'p str) {
        (self.rule.is_deny(), self.rule.canonical_host())
    }

    /// The order of rules that are equally specific.
    fn rank(&self) -> (bool, usize) {
        (!self.rule.is_inline(), self.place)
    }
}

fn sorted<'p>(policy: &'p Policy) -> Vec<Placed<'p>> {
    let mut rules: Vec<Placed<'p>> =
        policy.rules().enumerate().map(|(place, rule)| Placed { rule, place }).collect();
    rules.sort_by(|a, b| {
        a.host()
            .cmp(&b.host())
            .then_with(|| shape(&a.rule).cmp(&shape(&b.rule)))
            .then_with(|| a.rank().cmp(&b.rank()))
    });
    rules
}

/// What rules have in common of which neither is more specific: the name, or how many characters of a pattern are literal; and the
/// width of the ports.
type Tie<'p> = (&'p str, usize, u16);

/// One policy, before and after.
struct Comparison<'p, F> {
    old: Side<'p>,
    new: Side<'p>,
    /// The `allow` rules that match as before.
    kept: Vec<(Placed<'p>, Placed<'p>)>,
    tell: F,
}

/// Walks through two sorted lists side by side: a few bytes per rule, however many rules there are.
fn compare_rules<'p>(old: &'p Policy, new: &'p Policy, tell: &mut impl FnMut(Change)) {
    let (before, after) = (sorted(old), sorted(new));
    let mut comparison = Comparison { old: Side::new(old), new: Side::new(new), kept: Vec::new(), tell };
    let mut before = before.chunk_by(|a, b| a.host() == b.host()).peekable();
    let mut after = after.chunk_by(|a, b| a.host() == b.host()).peekable();
    loop {
        let first = |group: Option<&&[Placed<'_>]>| {
            group.and_then(|group| group.first()).map(|placed| {
                let (deny, host) = placed.host();
                (deny, host.to_owned())
            })
        };
        let order = match (first(before.peek()), first(after.peek())) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(&new),
        };
        let old_group = before.next_if(|_| order.is_le()).unwrap_or_default();
        let new_group = after.next_if(|_| order.is_ge()).unwrap_or_default();
        comparison.group(old_group, new_group);
    }
    comparison.order(new.name());
}

impl<'p, F: FnMut(Change)> Comparison<'p, F> {
    /// The rules for one host, sorted by shape: those with the same shape are pairs; of the rest, pairs are made in order.
    fn group(&mut self, old: &[Placed<'p>], new: &[Placed<'p>]) {
        let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
        let (mut gone, mut added) = (Vec::new(), Vec::new());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => shape(&old.rule).cmp(&shape(&new.rule)),
            };
            match (left.next_if(|_| order.is_le()), right.next_if(|_| order.is_ge())) {
                (Some(old), Some(new)) => self.pair(old, new),
                (old, new) => {
                    gone.extend(old);
                    added.extend(new);
                }
            }
        }
        let pairs = gone.len().min(added.len());
        for (old, new) in gone.iter().zip(&added) {
            self.pair(old, new);
        }
        for Placed { rule, .. } in gone.into_iter().skip(pairs) {
            let opens = match rule.is_deny() {
                true => self.new.denies_less(&rule),
                false => self.new.takes_over(&rule),
            };
            (self.tell)(single(&rule, Effect::Gone, opens));
        }
        for Placed { rule, .. } in added.into_iter().skip(pairs) {
            let opens = match rule.is_deny() {
                true => Opens::No,
                false => self.old.displaced_by(&rule),
            };
            (self.tell)(single(&rule, Effect::Added, opens));
        }
    }

    fn pair(&mut self, before: &Placed<'p>, after: &Placed<'p>) {
        let (old, new) = (&before.rule, &after.rule);
        let mut details = Details::default();
        let set = |rule: &RuleView<'_>| rule.schemes().iter().collect::<Vec<Scheme>>();
        let (schemes, new_schemes) = (set(old), set(new));
        for one in new_schemes.iter().filter(|one| !schemes.contains(one)) {
            details.add(Effect::Widened, Opens::No, format!("scheme +{one}"));
        }
        for one in schemes.iter().filter(|one| !new_schemes.contains(one)) {
            details.add(Effect::Narrowed, Opens::No, format!("scheme -{one}"));
        }
        let (ports, new_ports) = (spans(old), spans(new));
        if ports != new_ports {
            let line = format!("ports {} → {}", shown_ports(old), shown_ports(new));
            details.add(ports_effect(&ports, &new_ports), Opens::No, line);
        }
        let matches_otherwise = details.effect.is_some();
        if let (Some(old), Some(new)) = (old.options(), new.options()) {
            compare_options(old, new, &mut details);
        }
        let looks = |rule: &RuleView<'_>| rule.options().map(RuleOptions::looks).unwrap_or_default();
        match old.is_deny() {
            true if matches_otherwise => details.opens = self.new.denies_less(old),
            true => {}
            // Which rule decides may change with these; with all else, the same rule decides in another way.
            false if matches_otherwise || old.expires() != new.expires() || looks(old) != looks(new) => {
                let opens = self.new.takes_over(old).max(self.old.displaced_by(new));
                details.opens = details.opens.max(opens);
            }
            false => self.kept.push((*before, *after)),
        }
        let change = details.change(Part::Rules, new.policy().name(), shown(new));
        change.into_iter().for_each(&mut self.tell);
    }

    /// Tells where another order of rules that are equally specific lets another one decide, which allows more.
    fn order(&mut self, policy: &str) {
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_unstable_by_key(|(before, _)| before.rank());
        if kept.is_sorted_by_key(|(_, after)| after.rank()) {
            return; // nearly every edit
        }
        let mut ties: HashMap<Tie<'p>, Vec<(Placed<'p>, Placed<'p>)>> = HashMap::new();
        for (before, after) in kept {
            let host = before.rule.canonical_host();
            // `*.x` and `.x` are equally specific, and so are patterns with as many literal characters.
            let name = host.strip_prefix("*.").or_else(|| host.strip_prefix('.')).unwrap_or(host);
            let tie = match name.contains('*') {
                true => ("*", host.bytes().filter(|byte| *byte != b'*').count()),
                false => (name, 0),
            };
            let width = before.rule.ports().map_or(0, |ports| ports.high.get() - ports.low.get());
            ties.entry((tie.0, tie.1, width)).or_default().push((before, after));
        }
        let mut overtaken = Vec::new();
        for tied in ties.into_values().filter(|tied| tied.len() > 1) {
            for (at, (before, after)) in tied.iter().enumerate() {
                let later = tied.iter().skip(at + 1).filter(|(_, now)| now.rank() < after.rank());
                let first = match tied.len() > COMPARED {
                    true => later.map(|(_, now)| now).next(),
                    false => later.map(|(_, now)| now).find(|now| lets_more(&before.rule, &now.rule)),
                };
                overtaken.extend(first.map(|now| (after.place, after.rule, now.rule)));
            }
        }
        overtaken.small_sort_by_key(|(place, ..)| *place);
        for (_, rule, first) in overtaken.iter().take(TOLD) {
            let what = format!("{} comes before {} now", shown(first), shown(rule));
            (self.tell)(order_change(policy, what));
        }
        if let Some(more) = overtaken.len().checked_sub(TOLD).filter(|more| *more > 0) {
            (self.tell)(order_change(policy, format!("the order of {more} more rules")));
        }
    }
}

fn order_change(policy: &str, what: String) -> Change {
    let (effect, opens) = (Effect::Changed, Opens::Perhaps);
    Change { part: Part::Rules, of: policy.into(), effect, opens, what, details: Vec::new() }
}

fn shown_ports(rule: &RuleView<'_>) -> String {
    match (rule.ports(), rule.is_deny()) {
        (Some(ports), _) => ports.to_string(),
        (None, true) => "any".to_owned(),
        (None, false) => {
            let own = rule.schemes().iter().filter_map(Scheme::default_port);
            own.map(|port| port.to_string()).collect::<Vec<_>>().join(" and ")
        }
    }
}

fn spans(rule: &RuleView<'_>) -> Vec<(u16, u16)> {
    let span = |ports: Ports| (ports.low.get(), ports.high.get());
    match rule.ports() {
        Some(ports) => vec![span(ports)],
        None if rule.is_deny() => vec![(1, u16::MAX)],
        None => rule
            .schemes()
            .iter()
            .filter_map(Scheme::default_port)
            .map(|port| (port.get(), port.get()))
            .collect(),
    }
}

fn ports_effect(old: &[(u16, u16)], new: &[(u16, u16)]) -> Effect {
    let holds = |outer: &[(u16, u16)], inner: &[(u16, u16)]| {
        inner.iter().all(|inner| outer.iter().any(|outer| outer.0 <= inner.0 && inner.1 <= outer.1))
    };
    match (holds(new, old), holds(old, new)) {
        (true, false) => Effect::Widened,
        (false, true) => Effect::Narrowed,
        _ => Effect::Changed,
    }
}

fn compare_options(old: &RuleOptions, new: &RuleOptions, details: &mut Details) {
    let (mut effects, mut notes) = (Vec::new(), Vec::new());
    for ((key, old), (_, new)) in old.entries().zip(new.entries()) {
        for (shift, text) in old.changes(&new) {
            let line = format!("{key} {text}");
            match shift {
                Shift::Wider => effects.push((Effect::Widened, Opens::Yes, line)),
                Shift::Narrower => effects.push((Effect::Narrowed, Opens::No, line)),
                Shift::Unclear => effects.push((Effect::Changed, Opens::Perhaps, line)),
                Shift::Noted => notes.push((Effect::Noted, Opens::No, line)),
            }
        }
    }
    // What changes decisions comes first.
    effects.into_iter().chain(notes).for_each(|(effect, opens, line)| details.add(effect, opens, line));
}

#[cfg(test)]
mod tests;
