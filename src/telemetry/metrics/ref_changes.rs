//! `egressd_git_ref_changes_total{policy,rule,change,decision}`: what pushes changed, or would have changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::words::git::Change;
use crate::words::outcome::Decision;

/// The words of both labels, in the order of the counts.
const CHANGES: [Change; 3] = Change::ALL;
const DECISIONS: [Decision; 3] = [Decision::Allow, Decision::Deny, Decision::WouldDeny];

/// By policy and rule. A push is rare, and its changes are counted at once: one lock is enough.
#[derive(Default)]
pub(super) struct RefChanges(Mutex<Policies>);

type Policies = HashMap<Arc<str>, Rules>;
type Rules = HashMap<Arc<str>, Counts>;

#[derive(Clone, Copy, Default)]
struct Counts([[u64; CHANGES.len()]; DECISIONS.len()]);

/// One series.
pub(super) struct ChangeCount {
    pub(super) policy: Arc<str>,
    pub(super) rule: Arc<str>,
    pub(super) change: &'static str,
    pub(super) decision: &'static str,
    pub(super) count: u64,
}

impl RefChanges {
    fn lock(&self) -> MutexGuard<'_, Policies> {
        // Plain numbers: a panic elsewhere leaves them correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the changes of one push.
    pub(super) fn count(
        &self,
        policy: &Arc<str>,
        rule: &Arc<str>,
        decision: Decision,
        changes: impl Iterator<Item = Change>,
    ) {
        let mut more = [0; CHANGES.len()];
        for change in changes {
            let at = CHANGES.iter().position(|known| *known == change);
            if let Some(count) = at.and_then(|at| more.get_mut(at)) {
                *count += 1;
            }
        }
        let mut policies = self.lock();
        let counts = policies.entry(Arc::clone(policy)).or_default().entry(Arc::clone(rule)).or_default();
        let at = DECISIONS.iter().position(|known| *known == decision);
        for (count, more) in at.and_then(|at| counts.0.get_mut(at)).into_iter().flatten().zip(more) {
            *count += more;
        }
    }

    /// The rules that have series, by policy.
    pub(super) fn labels(&self) -> HashMap<Arc<str>, HashSet<Arc<str>>> {
        let of_rules = |rules: &Rules| rules.keys().filter(|rule| !rule.is_empty()).cloned().collect();
        self.lock().iter().map(|(policy, rules)| (Arc::clone(policy), of_rules(rules))).collect()
    }

    /// Removes the series of policies that `keep` is false for, and of the rules that are `gone`.
    pub(super) fn remove(&self, keep: impl Fn(&str) -> bool, gone: &HashMap<Arc<str>, HashSet<Arc<str>>>) {
        self.lock().retain(|policy, rules| {
            if let Some(gone) = gone.get(policy) {
                rules.retain(|rule, _| !gone.contains(rule));
            }
            keep(policy) && !rules.is_empty()
        });
    }

    /// Every series: all nine of a rule that a push was counted for, so that `rate()` sees the first of each.
    pub(super) fn rows(&self) -> Vec<ChangeCount> {
        let mut rows = Vec::new();
        for (policy, rules) in &*self.lock() {
            for (rule, Counts(counts)) in rules {
                for (decision, counts) in DECISIONS.into_iter().zip(counts) {
                    rows.extend(CHANGES.into_iter().zip(counts).map(|(change, count)| ChangeCount {
                        policy: Arc::clone(policy),
                        rule: Arc::clone(rule),
                        change: change.as_str(),
                        decision: decision.as_str(),
                        count: *count,
                    }));
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_by_rule_and_decision_and_leave_with_their_rule() {
        let table = RefChanges::default();
        let (policy, rule): (Arc<str>, Arc<str>) = ("p".into(), "r".into());
        let changes = [Change::Create, Change::Update, Change::Update];
        table.count(&policy, &rule, Decision::Deny, changes.into_iter());
        table.count(&policy, &rule, Decision::Allow, [Change::Delete].into_iter());
        table.count(&policy, &"other".into(), Decision::Allow, [Change::Delete].into_iter());
        let value = |change: &str, decision: &str| {
            let rows = table.rows();
            let mut rows = rows.iter().filter(|row| &*row.rule == "r");
            rows.find(|row| (row.change, row.decision) == (change, decision)).map(|row| row.count)
        };
        assert_eq!((value("create", "deny"), value("update", "deny")), (Some(1), Some(2)));
        assert_eq!((value("delete", "allow"), value("delete", "would_deny")), (Some(1), Some(0)));
        let mut gone = table.labels();
        gone.get_mut("p").unwrap().remove("other");
        table.remove(|_| true, &gone);
        assert_eq!(value("create", "deny"), None);
        assert_eq!(table.rows().len(), 9);
        table.remove(|_| false, &HashMap::new());
        assert_eq!(table.rows().len(), 0);
    }
}
