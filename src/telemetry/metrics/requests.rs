//! `egressd_requests_total{policy,rule,decision,reason}`, and `egressd_inspected_requests_total` with the same labels.
//!
//! This is not a vector of the prometheus crate, for two reasons. That one distinguishes children by a hash over their
//! label values, one after the other without a separator, so that policy `a` with rule `bc` and policy `ab` with rule
//! `c` would be one series. And an allowed request, which is nearly every request, here costs only two look-ups and
//! one addition.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;

use super::ref_changes::RefChanges;
use super::totals::{Counted, VerdictCounts};
use crate::telemetry::record::Cause;
use crate::words::outcome::{Decision, Reason};

/// Requests to the proxy, those inside tunnels, and what pushes among them change.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) all: Requests,
    pub(super) inside: Requests,
    pub(super) ref_changes: RefChanges,
}

#[derive(Default)]
pub(super) struct Requests {
    policies: RwLock<HashMap<Arc<str>, Rules>>,
    totals: Counted,
}

type Rules = HashMap<Arc<str>, RuleCounts>;

#[derive(Default)]
struct RuleCounts {
    allowed: AtomicU64,
    /// When the rule was last used, in seconds since the epoch; 0: not since the start.
    last_used: AtomicI64,
    /// Sparse: with many rules most are only ever allowed.
    others: Mutex<BTreeMap<(&'static str, Option<Cause>), u64>>,
}

/// One series.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RequestCount {
    /// Empty if no policy matches the client.
    #[serde(serialize_with = "as_text")]
    pub policy: Arc<str>,
    /// The metric label of the rule that decided; empty if none did.
    #[serde(serialize_with = "as_text")]
    pub rule: Arc<str>,
    /// Empty if it failed before the rules were applied.
    pub decision: &'static str,
    /// Empty if nothing was wrong.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// The uses of a rule, of one kind of request.
#[derive(Clone, Copy, Default)]
pub(super) struct Uses {
    pub(super) count: u64,
    /// Seconds since the epoch.
    pub(super) last: Option<i64>,
}

/// Whether a verdict, whose decision may be empty, is a use of the rule that decided.
pub(super) fn is_use(decision: &str, reason: Option<Cause>) -> bool {
    decision == Decision::Allow.as_str() || reason == Some(Cause::Refused(Reason::HostDenied))
}

impl RuleCounts {
    fn count(&self, decision: Option<Decision>, reason: Option<Cause>, now: Timestamp) {
        if is_use(decision.map_or("", Decision::as_str), reason) {
            self.used(now);
        }
        if decision == Some(Decision::Allow) && reason.is_none() {
            self.allowed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        *others.entry((decision.map_or("", Decision::as_str), reason)).or_default() += 1;
    }

    fn uses(&self) -> Uses {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let used = others.iter().filter(|((decision, reason), _)| is_use(decision, *reason));
        let last = self.last_used.load(Ordering::Relaxed);
        Uses {
            count: used.map(|(_, count)| count).sum::<u64>() + self.allowed.load(Ordering::Relaxed),
            last: (last > 0).then_some(last),
        }
    }

    fn used(&self, now: Timestamp) {
        // Mostly it is this second already, which costs a load alone.
        if self.last_used.load(Ordering::Relaxed) < now.as_second() {
            self.last_used.fetch_max(now.as_second(), Ordering::Relaxed);
        }
    }
}

impl Tables {
    /// Removes the series of the policies for which `keep` is false, and of rules that are not among `rules`, by policy
    /// and label; series without a rule are removed only with their policy. The rules are looked at once: there may be
    /// a million.
    pub(super) fn retain<'r>(
        &self,
        keep: impl Fn(&str) -> bool,
        rules: impl Iterator<Item = (&'r str, &'r str)>,
    ) {
        let tables = [&self.all, &self.inside];
        let mut gone = tables.map(Requests::labels);
        let mut gone_changes = self.ref_changes.labels();
        for (policy, rule) in rules {
            for gone in gone.iter_mut().chain([&mut gone_changes]) {
                if let Some(labels) = gone.get_mut(policy) {
                    labels.remove(rule);
                }
            }
        }
        self.ref_changes.remove(&keep, &gone_changes);
        for (table, gone) in tables.into_iter().zip(gone) {
            let mut policies = table.policies.write().unwrap_or_else(PoisonError::into_inner);
            policies.retain(|policy, rules| {
                if let Some(gone) = gone.get(policy) {
                    rules.retain(|rule, _| !gone.contains(rule));
                }
                keep(policy) && !rules.is_empty()
            });
        }
    }
}

impl Requests {
    pub(super) fn count(
        &self,
        policy: Option<&Arc<str>>,
        rule: Option<&Arc<str>>,
        decision: Option<Decision>,
        reason: Option<Cause>,
        now: Timestamp,
    ) {
        self.totals.count(decision, reason);
        {
            let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
            let rules = policies.get(policy.map_or("", AsRef::as_ref));
            if let Some(verdicts) = rules.and_then(|rules| rules.get(rule.map_or("", AsRef::as_ref))) {
                return verdicts.count(decision, reason, now);
            }
        }
        let label = |label: Option<&Arc<str>>| label.map_or_else(|| Arc::from(""), Arc::clone);
        let mut policies = self.policies.write().unwrap_or_else(PoisonError::into_inner);
        let rules = policies.entry(label(policy)).or_default();
        rules.entry(label(rule)).or_default().count(decision, reason, now);
    }

    /// What a rule let through is still in use. A rule that a reload removed gets no series by this.
    pub(super) fn still_used(&self, policy: &str, rule: &str, now: Timestamp) {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = policies.get(policy).and_then(|rules| rules.get(rule)) {
            counts.used(now);
        }
    }

    /// Calls `each` with policy, label and uses of each rule that decided a request.
    pub(super) fn uses(&self, mut each: impl FnMut(&Arc<str>, &Arc<str>, Uses)) {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        for (policy, rules) in &*policies {
            for (rule, counts) in rules.iter().filter(|(rule, _)| !rule.is_empty()) {
                each(policy, rule, counts.uses());
            }
        }
    }

    /// The labels of rules that have series, by policy. They are few even with a million rules. Series that are added later
    /// stay until the next time.
    fn labels(&self) -> HashMap<Arc<str>, HashSet<Arc<str>>> {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        let of_rules = |rules: &Rules| rules.keys().filter(|rule| !rule.is_empty()).cloned().collect();
        policies.iter().map(|(policy, rules)| (Arc::clone(policy), of_rules(rules))).collect()
    }

    pub(super) fn verdicts(&self) -> VerdictCounts {
        self.totals.read()
    }

    pub(super) fn rows(&self) -> Vec<RequestCount> {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for (policy, rules) in &*policies {
            for (rule, verdicts) in rules {
                let mut row = |decision, reason, count| {
                    rows.push(RequestCount {
                        policy: Arc::clone(policy),
                        rule: Arc::clone(rule),
                        decision,
                        reason,
                        count,
                    });
                };
                let allowed = verdicts.allowed.load(Ordering::Relaxed);
                if allowed > 0 {
                    row(Decision::Allow.as_str(), "", allowed);
                }
                let others = verdicts.others.lock().unwrap_or_else(PoisonError::into_inner);
                for ((decision, reason), count) in &*others {
                    row(decision, reason.map_or("", Cause::as_str), *count);
                }
            }
        }
        rows
    }
}

pub(super) fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
