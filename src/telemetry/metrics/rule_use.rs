//! `egressd_rule_last_used_timestamp_seconds{policy,rule}`: which rules are still needed.
//!
//! A rule is used when it lets a request through, also when that fails later on its way, and a `deny` rule when it denies
//! one. A rule under which everything is refused (it expired, or the tunnels carry something else) is not used: to remove it
//! breaks nothing. A tunnel uses its rule until it ends.
//!
//! The times begin with the program. Rules that were not used since then have the value 0, so that a query finds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::requests::{Tables, Uses};

/// Most labels of rules that were not used which are shown. Rules of one file share a label, so only a configuration with as
/// many rules in itself has more.
pub(super) const MOST_UNUSED: usize = 1_000;

/// How one rule was used, by its label: rules that share a label are one.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct RuleUse {
    /// Its policy.
    #[serde(serialize_with = "super::requests::as_text")]
    pub policy: Arc<str>,
    /// Its metric label.
    #[serde(serialize_with = "super::requests::as_text")]
    pub rule: Arc<str>,
    /// Requests that it let through, or denied if it is a `deny` rule.
    pub requests: u64,
    /// The same of requests inside tunnels.
    pub inside: u64,
    /// When it was last used, in whole seconds. None: not since the start of the program.
    pub last_used: Option<Timestamp>,
}

/// The rules that have uses, and those of `configured` that have none, by policy and label.
pub(super) fn rule_uses(tables: &Tables, configured: &[(Arc<str>, Arc<str>)]) -> Vec<RuleUse> {
    let mut both: BTreeMap<(Arc<str>, Arc<str>), [Uses; 2]> = BTreeMap::new();
    for (policy, rule) in configured {
        both.entry((Arc::clone(policy), Arc::clone(rule))).or_default();
    }
    for (index, table) in [&tables.all, &tables.inside].into_iter().enumerate() {
        table.uses(|policy, rule, uses| {
            let of_both = both.entry((Arc::clone(policy), Arc::clone(rule))).or_default();
            if let Some(place) = of_both.get_mut(index) {
                *place = uses;
            }
        });
    }
    let row = |((policy, rule), [requests, inside]): ((Arc<str>, Arc<str>), [Uses; 2])| RuleUse {
        policy,
        rule,
        requests: requests.count,
        inside: inside.count,
        last_used: requests.last.max(inside.last).and_then(|last| Timestamp::from_second(last).ok()),
    };
    both.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{metrics, value};
    use super::*;
    use crate::config::{self, Config};
    use crate::telemetry::record::Cause;
    use crate::words::outcome::{Decision, Reason};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a moment")
    }

    fn configuration(rules: &str) -> Config {
        let text =
            format!("policies: [{{name: p, allow: [{rules}], deny: [evil.example], deny_files: [blocked]}}]");
        let list = |_: &std::path::Path| Ok(b"a.example\nb.example\n".to_vec());
        config::load_str("egressd.yaml", &text, list).expect("a configuration").config
    }

    #[test]
    fn a_rule_is_used_when_it_lets_something_through_or_denies_as_a_deny_rule() {
        let (metrics, ..) = metrics();
        let shown = |rule: &str| {
            let text = metrics.render().expect("rendered");
            value(&text, &format!(r#"egressd_rule_last_used_timestamp_seconds{{policy="p",rule="{rule}"}}"#))
        };
        metrics.in_force(&configuration("a.example, b.example, c.example"), at(1));
        for rule in ["a.example", "b.example", "c.example", "evil.example", "blocked"] {
            assert_eq!(shown(rule), Some(0.0), "{rule}: not since the start");
        }
        let (policy, none) = (Arc::from("p"), None);
        let tables = &metrics.requests;
        let count = |rule: &str, decision, reason: Option<Reason>, second| {
            let reason = reason.map(Cause::Refused);
            tables.all.count(Some(&policy), Some(&rule.into()), Some(decision), reason, at(second));
        };
        count("a.example", Decision::Allow, None, 100);
        count("a.example", Decision::Allow, Some(Reason::DnsTimeout), 200);
        count("a.example", Decision::Deny, Some(Reason::NotTls), 300);
        count("a.example", Decision::Allow, None, 150);
        count("b.example", Decision::Deny, Some(Reason::SniMismatch), 100);
        count("evil.example", Decision::Deny, Some(Reason::HostDenied), 400);
        count("blocked", Decision::WouldDeny, Some(Reason::HostDenied), 500);
        tables.all.count(Some(&policy), none, Some(Decision::Deny), None, at(600));
        let inside = Some(Decision::Allow);
        tables.inside.count(Some(&policy), Some(&"c.example".into()), inside, None, at(700));
        let want = [("a.example", 200.0), ("b.example", 0.0), ("c.example", 700.0), ("evil.example", 400.0)];
        for (rule, last) in want.into_iter().chain([("blocked", 500.0)]) {
            assert_eq!(shown(rule), Some(last), "{rule}");
        }
        assert_eq!(shown(""), None, "requests that no rule decided are no rule's");
        let rows = metrics.rules_used();
        let of = |rule: &str| rows.iter().find(|row| *row.rule == *rule).expect("a row");
        assert_eq!((of("a.example").requests, of("a.example").inside), (3, 0));
        assert_eq!((of("b.example").requests, of("b.example").last_used), (0, None));
        assert_eq!((of("c.example").inside, of("c.example").last_used), (1, Some(at(700))));

        metrics.rule_in_use(&policy, &"a.example".into(), at(800));
        assert_eq!(shown("a.example"), Some(800.0), "a tunnel uses its rule until it ends");
        metrics.in_force(&configuration("a.example"), at(900));
        assert_eq!((shown("a.example"), shown("c.example")), (Some(800.0), None));
        metrics.rule_in_use(&policy, &"c.example".into(), at(950));
        assert_eq!(shown("c.example"), None, "what ends after a reload brings no series back");
    }

    #[test]
    fn rules_that_are_not_used_have_a_bounded_number_of_series() {
        let (metrics, ..) = metrics();
        let rules: Vec<String> = (0..=MOST_UNUSED).map(|number| format!("n{number:04}.example")).collect();
        metrics.in_force(&configuration(&rules.join(", ")), at(1));
        assert_eq!(metrics.rules_used().len(), MOST_UNUSED);
        let last = rules.last().expect("one").as_str();
        assert!(metrics.rules_used().iter().all(|row| *row.rule != *last));
        let decision = Some(Decision::Allow);
        metrics.requests.all.count(Some(&"p".into()), Some(&last.into()), decision, None, at(5));
        assert_eq!(metrics.rules_used().len(), MOST_UNUSED + 1, "one that is used is always shown");
    }
}
