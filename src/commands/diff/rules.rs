//! Compares what is written: policies and rules that are added, gone, widened or narrowed.
//!
//! Policies are matched by name. The rules of one policy are matched by host, and among those by schemes and ports; the
//! spelling and the place of a rule do not count. Not here: whether a new rule allows what a removed one allowed;
//! replaying a log shows that.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use crate::rules::{Mode, Policies, Policy, Ports, RuleOptions, RuleView, Scheme, Shift};
use crate::words::counted::counted;

/// What kind of change it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Only the new configuration has it.
    Added,
    /// Only the old one has it.
    Gone,
    /// It matches more than before, or restricts less.
    Widened,
    /// It matches less than before, or restricts more.
    Narrowed,
    /// Both, or it is unclear which.
    Changed,
    /// Only a note for people changed.
    Noted,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Effect; 6] =
        [Effect::Added, Effect::Gone, Effect::Widened, Effect::Narrowed, Effect::Changed, Effect::Noted];

    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Added => "added",
            Effect::Gone => "gone",
            Effect::Widened => "widened",
            Effect::Narrowed => "narrowed",
            Effect::Changed => "changed",
            Effect::Noted => "noted",
        }
    }

    fn with(self, other: Effect) -> Effect {
        match (self, other) {
            (one, other) if one == other => one,
            (Effect::Noted, other) | (other, Effect::Noted) => other,
            _ => Effect::Changed,
        }
    }
}

/// One change. Shown as one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The policy's name.
    pub policy: Box<str>,
    /// What kind of change.
    pub effect: Effect,
    /// The policy, or the rule with its place.
    pub what: String,
    /// What changed in it, as `key old → new`.
    pub details: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.effect {
            Effect::Added => '+',
            Effect::Gone => '-',
            _ => '~',
        };
        write!(f, "{sign} {}: {}: {}", self.policy, self.effect.as_str(), self.what)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details.join("; "))?;
        }
        Ok(())
    }
}

/// Passes every change to `tell`: policy by policy in the new order, and within a policy sorted by host.
pub fn compare(old: &Policies, new: &Policies, mut tell: impl FnMut(Change)) {
    let counterpart = |all: &'_ Policies, name: &str| all.iter().any(|policy| **policy.name() == *name);
    for policy in old.iter().filter(|policy| !counterpart(new, policy.name())) {
        tell(whole(policy, Effect::Gone));
        policy.rules().for_each(|rule| tell(single(&rule, Effect::Gone)));
    }
    for policy in new.iter() {
        match old.iter().find(|before| before.name() == policy.name()) {
            Some(before) => {
                compare_policy(before, policy, &mut tell);
                compare_rules(before, policy, &mut tell);
            }
            None => {
                tell(whole(policy, Effect::Added));
                policy.rules().for_each(|rule| tell(single(&rule, Effect::Added)));
            }
        }
    }
    let order = |of: &Policies, other: &Policies| -> Vec<String> {
        of.iter().map(|policy| policy.name().to_string()).filter(|name| counterpart(other, name)).collect()
    };
    let (before, after) = (order(old, new), order(new, old));
    if before != after {
        tell(Change {
            policy: "policies".into(),
            effect: Effect::Changed,
            what: "their order (the first policy that matches a client decides)".to_owned(),
            details: vec![format!("{} → {}", before.join(", "), after.join(", "))],
        });
    }
}

fn whole(policy: &Policy, effect: Effect) -> Change {
    let rules = counted(policy.rule_count(), "rule", "rules");
    let what = format!("the policy ({}, {rules})", policy.mode().as_str());
    Change { policy: (**policy.name()).into(), effect, what, details: Vec::new() }
}

fn single(rule: &RuleView<'_>, effect: Effect) -> Change {
    let policy = (**rule.policy().name()).into();
    Change { policy, effect, what: shown(rule), details: Vec::new() }
}

fn shown(rule: &RuleView<'_>) -> String {
    let kind = if rule.is_deny() { "deny" } else { "allow" };
    format!("{kind} `{}` ({}:{})", rule.text(), rule.file(), rule.line())
}

/// What has changed in one policy or rule.
#[derive(Default)]
struct Details {
    effect: Option<Effect>,
    lines: Vec<String>,
}

impl Details {
    fn add(&mut self, effect: Effect, line: String) {
        self.effect = Some(self.effect.map_or(effect, |before| before.with(effect)));
        self.lines.push(line);
    }

    /// Compares two lists in which each entry lets more through.
    fn set<T: Eq + Hash + fmt::Display>(&mut self, key: &str, old: &[T], new: &[T]) {
        // A file may list a million networks.
        let (before, after): (HashSet<&T>, HashSet<&T>) = (old.iter().collect(), new.iter().collect());
        for one in new.iter().filter(|one| !before.contains(one)) {
            self.add(Effect::Widened, format!("{key} +{one}"));
        }
        for one in old.iter().filter(|one| !after.contains(one)) {
            self.add(Effect::Narrowed, format!("{key} -{one}"));
        }
    }

    /// The same for lists that match every client if they are empty.
    fn asked(&mut self, key: &str, old: &[Box<str>], new: &[Box<str>]) {
        match (old.is_empty(), new.is_empty()) {
            (true, false) => self.add(Effect::Narrowed, format!("{key} any → {}", new.join(" "))),
            (false, true) => self.add(Effect::Widened, format!("{key} {} → any", old.join(" "))),
            _ => self.set(key, old, new),
        }
    }
}

fn compare_policy(old: &Policy, new: &Policy, tell: &mut impl FnMut(Change)) {
    let mut details = Details::default();
    match (old.mode(), new.mode()) {
        (Mode::Enforce, Mode::Report) => details.add(Effect::Widened, "mode enforce → report".to_owned()),
        (Mode::Report, Mode::Enforce) => details.add(Effect::Narrowed, "mode report → enforce".to_owned()),
        _ => {}
    }
    let (before, after) = (old.clients(), new.clients());
    details.set("clients.networks", &before.networks, &after.networks);
    details.asked("clients.identities", &before.identities, &after.identities);
    details.asked("clients.vpc_endpoints", &before.vpc_endpoints, &after.vpc_endpoints);
    details.set("private", old.private(), new.private());
    if let Some(effect) = details.effect {
        let what = "the policy".to_owned();
        tell(Change { policy: (**new.name()).into(), effect, what, details: details.lines });
    }
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

/// What two rules must have in common to be one rule before and after an edit.
fn host<'p>(rule: &RuleView<'p>) -> (bool, &'p str) {
    (rule.is_deny(), rule.canonical_host())
}

fn sorted<'p>(policy: &'p Policy) -> Vec<RuleView<'p>> {
    let mut rules: Vec<RuleView<'p>> = policy.rules().collect();
    rules.sort_by(|a, b| host(a).cmp(&host(b)).then_with(|| shape(a).cmp(&shape(b))));
    rules
}

/// Walks through two sorted lists side by side: a few bytes per rule, however many rules there are.
fn compare_rules(old: &Policy, new: &Policy, tell: &mut impl FnMut(Change)) {
    let (before, after) = (sorted(old), sorted(new));
    let mut before = before.chunk_by(|a, b| host(a) == host(b)).peekable();
    let mut after = after.chunk_by(|a, b| host(a) == host(b)).peekable();
    loop {
        let first = |group: Option<&&[RuleView<'_>]>| {
            group.and_then(|group| group.first()).map(|rule| {
                let (deny, host) = host(rule);
                (deny, host.to_owned())
            })
        };
        let order = match (first(before.peek()), first(after.peek())) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(&new),
        };
        let old_group = before.next_if(|_| order.is_le()).unwrap_or_default();
        let new_group = after.next_if(|_| order.is_ge()).unwrap_or_default();
        compare_group(old_group, new_group, tell);
    }
}

/// The rules for one host, sorted by shape: those with the same shape are pairs; of the rest, pairs are made in order.
fn compare_group(old: &[RuleView<'_>], new: &[RuleView<'_>], tell: &mut impl FnMut(Change)) {
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    let (mut gone, mut added) = (Vec::new(), Vec::new());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => shape(old).cmp(&shape(new)),
        };
        match (left.next_if(|_| order.is_le()), right.next_if(|_| order.is_ge())) {
            (Some(old), Some(new)) => compare_pair(old, new, tell),
            (old, new) => {
                gone.extend(old);
                added.extend(new);
            }
        }
    }
    let pairs = gone.len().min(added.len());
    for (old, new) in gone.iter().zip(&added) {
        compare_pair(old, new, tell);
    }
    gone.iter().skip(pairs).for_each(|rule| tell(single(rule, Effect::Gone)));
    added.iter().skip(pairs).for_each(|rule| tell(single(rule, Effect::Added)));
}

fn compare_pair(old: &RuleView<'_>, new: &RuleView<'_>, tell: &mut impl FnMut(Change)) {
    let mut details = Details::default();
    let schemes = |rule: &RuleView<'_>| rule.schemes().iter().collect::<Vec<Scheme>>();
    details.set("scheme", &schemes(old), &schemes(new));
    let (before, after) = (spans(old), spans(new));
    if before != after {
        let show = |rule: &RuleView<'_>| match (rule.ports(), rule.is_deny()) {
            (Some(ports), _) => ports.to_string(),
            (None, true) => "any".to_owned(),
            (None, false) => {
                let own = rule.schemes().iter().filter_map(Scheme::default_port);
                own.map(|port| port.to_string()).collect::<Vec<_>>().join(" and ")
            }
        };
        details.add(ports_effect(&before, &after), format!("ports {} → {}", show(old), show(new)));
    }
    if let (Some(old), Some(new)) = (old.options(), new.options()) {
        compare_options(old, new, &mut details);
    }
    if let Some(effect) = details.effect {
        let policy = (**new.policy().name()).into();
        tell(Change { policy, effect, what: shown(new), details: details.lines });
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
                Shift::Wider => effects.push((Effect::Widened, line)),
                Shift::Narrower => effects.push((Effect::Narrowed, line)),
                Shift::Unclear => effects.push((Effect::Changed, line)),
                Shift::Noted => notes.push((Effect::Noted, line)),
            }
        }
    }
    // What changes decisions comes first.
    effects.into_iter().chain(notes).for_each(|(effect, line)| details.add(effect, line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn diff(old: &str, new: &str) -> Vec<String> {
        let load = |name: &str, text: &str| {
            config::load_str(name, text, |_| Ok(Vec::new()))
                .unwrap_or_else(|findings| panic!("{findings:?}"))
                .config
        };
        let (old, new) = (load("old", old), load("new", new));
        let mut told = Vec::new();
        compare(&old.policies, &new.policies, |change| told.push(change.to_string()));
        told
    }

    /// One policy with these rules under `allow`.
    fn rules(old: &str, new: &str) -> Vec<String> {
        let policy = |rules: &str| format!("policies: [{{name: p, allow: [{rules}]}}]\n");
        diff(&policy(old), &policy(new))
    }

    #[test]
    fn a_rule_is_the_same_in_any_spelling_and_place() {
        let rows = [
            ("a.example, b.example", "b.example, A.example."),
            ("a.example", "https://a.example:443"),
            ("http://a.example", "http://a.example:80"),
            ("a.example, a.example:8443", "a.example:8443, a.example"),
            ("{to: a.example}", "a.example"),
        ];
        for (old, new) in rows {
            assert_eq!(rules(old, new), Vec::<String>::new(), "{old} | {new}");
        }
    }

    #[test]
    fn each_change_of_a_rule_says_which_way_it_goes() {
        let rows = [
            ("a.example", "a.example, b.example", "+ p: added: allow `b.example` (new:1)"),
            ("a.example, b.example", "a.example", "- p: gone: allow `b.example` (old:1)"),
            (
                "a.example",
                "a.example:443-8443",
                "~ p: widened: allow `a.example:443-8443` (new:1): ports 443 → 443-8443",
            ),
            (
                "a.example:443-8443",
                "a.example",
                "~ p: narrowed: allow `a.example` (new:1): ports 443-8443 → 443",
            ),
            ("a.example", "a.example:8443", "~ p: changed: allow `a.example:8443` (new:1): ports 443 → 8443"),
            (
                "a.example",
                "{to: a.example, expires: 2099-01-01}",
                "~ p: narrowed: allow `a.example` (new:1): expires none → 2099-01-01T00:00:00Z",
            ),
            (
                "{to: a.example, expires: 2098-01-01}",
                "{to: a.example, expires: 2099-01-01}",
                "~ p: widened: allow `a.example` (new:1): expires 2098-01-01T00:00:00Z → 2099-01-01T00:00:00Z",
            ),
            (
                "{to: a.example, upload_limit: 1KiB}",
                "a.example",
                "~ p: widened: allow `a.example` (new:1): upload_limit 1KiB → none",
            ),
            (
                "a.example",
                "{to: a.example, private: [10.0.0.0/8]}",
                "~ p: widened: allow `a.example` (new:1): private +10.0.0.0/8",
            ),
            (
                "{to: a.example, expires: 2099-01-01}",
                "{to: a.example, upload_limit: 1KiB}",
                "~ p: changed: allow `a.example` (new:1): expires 2099-01-01T00:00:00Z → none; upload_limit none → 1KiB",
            ),
            (
                "a.example",
                "{to: a.example, owner: me}",
                "~ p: noted: allow `a.example` (new:1): owner none → me",
            ),
            (
                "tcp://a.example:443",
                "a.example",
                "~ p: changed: allow `a.example` (new:1): scheme +https; scheme -tcp",
            ),
        ];
        for (old, new, want) in rows {
            assert_eq!(rules(old, new), [want], "{old} | {new}");
        }
    }

    /// The files are compared by what they list: the same network in `networks` and in a file is no change.
    #[test]
    fn what_files_list_is_compared() {
        let diff = |old: (&str, &str), new: (&str, &str)| {
            let load = |(clients, list): (&str, &str)| {
                let text = format!(
                    "policies: [{{name: p, clients: {{{clients}}}, allow: [a.example], deny_files: [blocked]}}]"
                );
                let read = |path: &std::path::Path| match path.to_str() {
                    Some("offices") => Ok(list.as_bytes().to_vec()),
                    _ => Ok(format!("{}\n", if list.contains("192") { "x.example" } else { "y.example" })
                        .into_bytes()),
                };
                config::load_str("c.yaml", &text, read)
                    .unwrap_or_else(|findings| panic!("{findings:?}"))
                    .config
            };
            let (old, new) = (load(old), load(new));
            let mut told = Vec::new();
            compare(&old.policies, &new.policies, |change| told.push(change.to_string()));
            told
        };
        let files = "networks_files: [offices]";
        assert_eq!(diff((files, "10.0.0.0/8\n"), ("networks: [10.0.0.0/8]", "")), [""; 0]);
        assert_eq!(
            diff((files, "10.0.0.0/8\n"), (files, "# now\n10.0.0.0/9\n192.0.2.7\n")),
            [
                "~ p: changed: the policy: clients.networks +10.0.0.0/9; clients.networks +192.0.2.7/32; clients.networks \
                 -10.0.0.0/8",
                "+ p: added: deny `x.example` (blocked:1)",
                "- p: gone: deny `y.example` (blocked:1)",
            ]
        );
    }

    #[test]
    fn policies_are_compared_by_name_and_their_order_counts() {
        let old = "policies:\n  - {name: a, clients: {networks: [10.0.0.0/9]}, allow: [a.example], deny: [x.example]}\n  \
                   - {name: b, clients: {networks: [10.128.0.0/9]}, allow: [b.example]}\n  - {name: c, allow: [c.example]}\n";
        let new = "policies:\n  - {name: b, clients: {networks: [10.128.0.0/9]}, mode: report, allow: [b.example]}\n  - \
                   {name: a, clients: {networks: [10.0.0.0/10]}, private: [10.9.0.0/16], allow: [a.example]}\n  - {name: \
                   d, allow: []}\n";
        assert_eq!(
            diff(old, new),
            [
                "- c: gone: the policy (enforce, 1 rule)",
                "- c: gone: allow `c.example` (old:4)",
                "~ b: widened: the policy: mode enforce → report",
                "~ a: changed: the policy: clients.networks +10.0.0.0/10; clients.networks -10.0.0.0/9; private \
                 +10.9.0.0/16",
                "- a: gone: deny `x.example` (old:2)",
                "+ d: added: the policy (enforce, 0 rules)",
                "~ policies: changed: their order (the first policy that matches a client decides): a, b → b, a",
            ]
        );
    }
}
