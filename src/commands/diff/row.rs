//! One key of the configuration outside the policies: its value, and what a change of it means.
//!
//! Not here: which keys there are ([`super::settings`]).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::change::{Change, Details, Effect, Opens, Part};
use super::clients::compare_networks;

/// A value, by what a change of it means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// A part that is there, or a file that is named: what it means that it comes, goes, or is another one.
    There { comes: Opens, goes: Opens, other: Opens, shown: String, exact: Vec<u8> },
    /// Neither way lets more out or in.
    Either(String),
    /// Nobody can tell which way a change goes.
    Unclear(String),
    /// The more, the more gets out or in. `None`: no limit.
    AtMost(Option<u64>, String),
    /// Each item lets more out or in.
    Opens(BTreeSet<String>),
    /// Each item keeps something back.
    Closes(BTreeSet<String>),
    /// Each network lets more in; `fewer` says what it means that one goes.
    Networks(Vec<IpNet>, Opens),
    /// Where it can be reached.
    Socket(SocketAddr),
}

impl Value {
    /// Its value, for a part of the configuration that comes or goes with it; `None` if that tells nothing.
    fn shown(&self) -> Option<String> {
        let joined = |items: &BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(" ");
        let shown = match self {
            Value::There { shown, .. }
            | Value::Either(shown)
            | Value::Unclear(shown)
            | Value::AtMost(_, shown) => shown.clone(),
            Value::Opens(items) | Value::Closes(items) => joined(items),
            Value::Networks(networks, _) => {
                networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            Value::Socket(address) => address.to_string(),
        };
        (!shown.is_empty()).then_some(shown)
    }
}

/// A key, as `listeners[proxy].tls.key`, and its value.
pub(super) type Row = (String, Value);

/// Compares two lists of rows.
pub(super) fn compare(old: &[Row], new: &[Row], tell: &mut impl FnMut(Change)) {
    let by_key = |rows: &'_ [Row]| -> HashMap<String, Value> { rows.iter().cloned().collect() };
    let (before, after) = (by_key(old), by_key(new));
    let gone = old.iter().filter(|(key, _)| !after.contains_key(key));
    let mut whole: HashSet<&str> = HashSet::new();
    for (key, value) in new.iter().chain(gone) {
        // A part that comes or goes is told whole.
        if key.match_indices('.').any(|(dot, _)| key.get(..dot).is_some_and(|part| whole.contains(part))) {
            continue;
        }
        let change = match (before.get(key), after.get(key)) {
            (Some(before), Some(after)) => between(key, before.clone(), after.clone()),
            (Some(_), None) => Some(one_sided(key, value, Effect::Gone, inside(key, old))),
            (None, _) => Some(one_sided(key, value, Effect::Added, inside(key, new))),
        };
        if before.contains_key(key) != after.contains_key(key) {
            whole.insert(key);
        }
        change.into_iter().for_each(&mut *tell);
    }
}

/// What is in a part that comes or goes.
fn inside(key: &str, rows: &[Row]) -> Vec<String> {
    let inside = rows.iter().filter_map(|(other, value)| {
        let rest = other.strip_prefix(key)?.strip_prefix('.')?;
        Some(format!("{rest} {}", value.shown()?))
    });
    inside.collect()
}

fn one_sided(key: &str, value: &Value, effect: Effect, inside: Vec<String>) -> Change {
    let opens = match (value, effect) {
        (Value::There { comes, .. }, Effect::Added) => *comes,
        (Value::There { goes, .. }, _) => *goes,
        // A key that is there on one side alone, without a part of the configuration that would tell: nothing is assumed.
        _ => Opens::Perhaps,
    };
    let details = value.shown().into_iter().chain(inside).collect();
    Change { part: Part::Settings, of: key.into(), effect, opens, what: String::new(), details }
}

fn between(key: &str, old: Value, new: Value) -> Option<Change> {
    let mut details = Details::default();
    match (old, new) {
        (old, new) if old == new => {}
        (
            Value::There { shown: before, exact: content, .. },
            Value::There { shown: after, exact: other_content, other, .. },
        ) => {
            let (opens, line) = match (content == other_content, before == after) {
                (true, _) => (Opens::No, format!("{before} → {after}, with the same content")),
                (false, true) => (other, format!("{after}: another content")),
                (false, false) => (other, format!("{before} → {after}")),
            };
            let effect = if content == other_content { Effect::Noted } else { Effect::Changed };
            details.add(effect, opens, line);
        }
        (Value::Either(before), Value::Either(after)) => {
            details.add(Effect::Changed, Opens::No, format!("{before} → {after}"));
        }
        (Value::AtMost(before, shown), Value::AtMost(after, new_shown)) => {
            let (effect, opens) = match (before, after) {
                (Some(before), Some(after)) if after < before => (Effect::Narrowed, Opens::No),
                (None, Some(_)) => (Effect::Narrowed, Opens::No),
                _ => (Effect::Widened, Opens::Yes),
            };
            details.add(effect, opens, format!("{shown} → {new_shown}"));
        }
        (Value::Opens(before), Value::Opens(after)) => {
            items((&before, &after), (Opens::Yes, Opens::No), &mut details);
        }
        (Value::Closes(before), Value::Closes(after)) => {
            items((&before, &after), (Opens::No, Opens::Yes), &mut details);
        }
        (Value::Networks(before, _), Value::Networks(after, fewer)) => {
            let mut inner = Details::default();
            compare_networks("", (&before, &after), (Opens::Yes, &|_| fewer), &mut inner);
            let Details { effect, opens, lines } = inner;
            let lines: Vec<String> = lines.iter().map(|line| line.trim_start().to_owned()).collect();
            details = Details { effect, opens, lines };
        }
        (Value::Socket(before), Value::Socket(after)) => {
            let (effect, opens) = socket(before, after);
            details.add(effect, opens, format!("{before} → {after}"));
        }
        // Another kind of value, too.
        (before, after) => {
            let none = || "none".to_owned();
            let (before, after) = (before.shown().unwrap_or_else(none), after.shown().unwrap_or_else(none));
            details.add(Effect::Changed, Opens::Perhaps, format!("{before} → {after}"));
        }
    }
    details.change(Part::Settings, key, String::new())
}

/// Items that are new and gone, with what the ones and the others mean.
fn items(
    (old, new): (&BTreeSet<String>, &BTreeSet<String>),
    (comes, goes): (Opens, Opens),
    details: &mut Details,
) {
    // A word for what is let through: an item that keeps something back narrows.
    let (more, less) = match comes {
        Opens::No => (Effect::Narrowed, Effect::Widened),
        Opens::Perhaps | Opens::Yes => (Effect::Widened, Effect::Narrowed),
    };
    for item in new.difference(old) {
        details.add(more, comes, format!("+{item}"));
    }
    for item in old.difference(new) {
        details.add(less, goes, format!("-{item}"));
    }
}

/// Whether more hosts reach the new address.
fn socket(old: SocketAddr, new: SocketAddr) -> (Effect, Opens) {
    let wide = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => 2,
        // Of both families, unless the kernel is told otherwise.
        IpAddr::V6(ip) if ip.is_unspecified() => 3,
        ip if ip.is_loopback() => 0,
        _ => 1,
    };
    match wide(new).cmp(&wide(old)) {
        std::cmp::Ordering::Less if new.port() == old.port() => (Effect::Narrowed, Opens::No),
        std::cmp::Ordering::Greater => (Effect::Widened, Opens::Yes),
        // Other hosts, or those that a firewall let through to another port.
        _ => (Effect::Changed, Opens::Perhaps),
    }
}
