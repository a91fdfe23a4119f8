//! Which policies were in report mode: they let out what their lists deny, which nobody must overlook.

use std::collections::BTreeMap;

use crate::commands::logs::{Entry, Text};
use crate::rules::Mode;
use crate::words::outcome::Decision;
use crate::words::small_sort::SmallSort as _;

/// Distinct policies that are kept.
const MOST: usize = 1_000;

/// By policy.
#[derive(Clone, Default, Debug)]
pub struct Modes(BTreeMap<Box<str>, InReport>);

/// One policy.
#[derive(Clone, Default, Debug)]
struct InReport {
    /// Whether its latest record says report mode.
    now: bool,
    /// When that was, in seconds since 1970.
    latest: Option<i64>,
    /// The latest record in report mode.
    until: Option<i64>,
    /// Requests that enforce mode would have denied.
    would_deny: u64,
}

impl Modes {
    pub(super) fn add(&mut self, entry: &Entry<'_>, would_deny: bool) {
        let is = |mode: Mode| entry.mode.is_some_and(|word| word.is(mode.as_str()));
        let report = is(Mode::Report) || entry.decided(Decision::WouldDeny);
        let enforce = is(Mode::Enforce);
        if !report && !enforce {
            return;
        }
        let policy = entry.policy.map(Text::decoded).unwrap_or_default();
        if !self.0.contains_key(&*policy) && self.0.len() >= MOST {
            return;
        }
        let of = self.0.entry(policy.into()).or_default();
        // Logs may be read in any order.
        if entry.time >= of.latest {
            (of.now, of.latest) = (report, entry.time);
        }
        if report {
            of.until = of.until.max(entry.time);
            of.would_deny += u64::from(would_deny);
        }
    }

    /// A line for each policy that was in report mode, those first that still are at the end of the log. Without escapes.
    /// `moment` and `number` write times and numbers.
    pub fn told(&self, moment: impl Fn(i64) -> String, number: impl Fn(u64) -> String) -> Vec<String> {
        let mut all: Vec<_> = self.0.iter().filter(|(_, of)| of.now || of.would_deny > 0).collect();
        all.small_sort_by_key(|(policy, of)| (!of.now, (*policy).clone()));
        let told = all.into_iter().map(|(policy, of)| {
            let word = if of.would_deny == 1 { "request was" } else { "requests were" };
            let until = of.until.filter(|_| !of.now).map(|until| format!(", until {}", moment(until)));
            format!(
                "policy {policy}{}: {} {word} let through that enforce mode would have denied",
                until.unwrap_or_default(),
                number(of.would_deny)
            )
        });
        told.collect()
    }

    /// Whether a policy is in report mode at the end of the log.
    pub fn is_report(&self) -> bool {
        self.0.values().any(|of| of.now)
    }
}
