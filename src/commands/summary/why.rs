//! Why requests to a target were, or would be, refused: the reasons, the clients and the policies.

use std::collections::HashMap;

use super::cause::cause;
use super::count::MOST;
use crate::commands::logs::{Entry, Text};
use crate::words::small_sort::SmallSort as _;

/// Reasons, clients and policies of one target that are shown.
const SHOWN: usize = 3;

/// By target.
#[derive(Clone, Default, Debug)]
pub struct Refusals(HashMap<Box<str>, Why>);

/// Of one target.
#[derive(Clone, Default, Debug)]
pub struct Why {
    reasons: Vec<(&'static str, u64)>,
    clients: Few,
    policies: Few,
}

/// The first few of some names.
#[derive(Clone, Default, Debug)]
struct Few {
    names: Vec<Box<str>>,
    more: bool,
}

impl Few {
    fn add(&mut self, name: &str) {
        if self.names.iter().any(|known| **known == *name) {
            return;
        }
        match self.names.len() < SHOWN {
            true => self.names.push(name.into()),
            false => self.more = true,
        }
    }

    fn shown(&self) -> String {
        self.names.join(", ") + if self.more { ", …" } else { "" }
    }
}

impl Refusals {
    /// Adds a request that was, or would be, refused. `is_reached`: the target was reached too. Their number is bounded already,
    /// so those that never were cannot displace it.
    pub(super) fn add(&mut self, target: &str, entry: &Entry<'_>, is_reached: bool) {
        if !is_reached && self.0.len() >= 2 * MOST && !self.0.contains_key(target) {
            return;
        }
        let why = self.0.entry(target.into()).or_default();
        if let Some(cause) = cause(entry) {
            match why.reasons.iter_mut().find(|(reason, _)| *reason == cause) {
                Some((_, count)) => *count += 1,
                None => why.reasons.push((cause, 1)),
            }
        }
        if let Some(client) = entry.client_ip() {
            why.clients.add(&client.to_string());
        }
        if let Some(policy) = entry.policy {
            why.policies.add(&policy.decoded());
        }
        if let Some(identity) = entry.identity.map(Text::decoded) {
            why.clients.add(&identity);
        }
    }

    /// What is known of a target.
    pub fn of(&self, target: &str) -> Option<&Why> {
        self.0.get(target)
    }
}

impl Why {
    /// The most frequent reasons: `host_not_allowed 12x, port_not_allowed`.
    pub fn reasons(&self) -> String {
        let mut reasons = self.reasons.clone();
        reasons.small_sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
        let is_one = reasons.len() == 1;
        let shown = reasons.iter().take(SHOWN).map(|(reason, count)| match is_one {
            true => (*reason).to_owned(),
            false => format!("{reason} {count}x"),
        });
        let more = if reasons.len() > SHOWN { ", …" } else { "" };
        shown.collect::<Vec<_>>().join(", ") + more
    }

    /// Who asked.
    pub fn clients(&self) -> String {
        self.clients.shown()
    }

    /// By whose rules.
    pub fn policies(&self) -> String {
        self.policies.shown()
    }

    /// All of it in one line: `host_not_allowed; from 10.0.0.9; policy ci`. Without escapes.
    pub fn told(&self) -> String {
        let parts = [("", self.reasons()), ("from ", self.clients()), ("policy ", self.policies())];
        let parts = parts.into_iter().filter(|(_, text)| !text.is_empty());
        parts.map(|(word, text)| format!("{word}{text}")).collect::<Vec<_>>().join("; ")
    }
}
