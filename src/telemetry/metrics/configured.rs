//! What changes in the series when a configuration is put in force.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use prometheus::IntCounterVec;
use prometheus::core::Collector;

use super::rule_use::MOST_UNUSED;
use crate::config::Config;

/// What [`super::Metrics::in_force`] must know about a configuration.
pub(super) struct Configured<'a> {
    /// The hash of the configuration.
    pub(super) sha256: String,
    /// When it was loaded.
    pub(super) loaded_at: Timestamp,
    /// The names of its policies.
    pub(super) policies: Vec<Arc<str>>,
    /// Policy and label of each of its rules. There may be a million: they are iterated, never collected.
    pub(super) rules: Box<dyn Iterator<Item = (&'a str, &'a str)> + 'a>,
    /// Policy and label of the first of them, each label once: these have series before they are used.
    pub(super) labels: Vec<(Arc<str>, Arc<str>)>,
    /// Policy, rule label and expiry in seconds since the epoch, of the rules that expire; each label once.
    pub(super) rule_expiries: Vec<(Arc<str>, Arc<str>, f64)>,
}

impl<'a> Configured<'a> {
    /// `config` was loaded at `now`.
    pub(super) fn of(config: &'a Config, now: Timestamp) -> Self {
        let mut expiries: BTreeMap<(&str, &str), Timestamp> = BTreeMap::new();
        let mut labels: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut last = ("", "");
        for rule in config.policies.rules() {
            let label: (&str, &str) = (rule.policy().name(), rule.label());
            // The lines of a file share a label, and stand together.
            if label != last && labels.len() < MOST_UNUSED {
                labels.insert(label);
                last = label;
            }
            if let Some(moment) = rule.expires() {
                let first = expiries.entry((rule.policy().name(), rule.label())).or_insert(moment);
                *first = moment.min(*first);
            }
        }
        let seconds = |moment: Timestamp| moment.as_second() as f64;
        Configured {
            sha256: config.hash.to_string(),
            loaded_at: now,
            policies: config.policies.iter().map(|policy| Arc::clone(policy.name())).collect(),
            rules: Box::new(config.policies.rules().map(|rule| (&**rule.policy().name(), rule.label()))),
            labels: labels.into_iter().map(|(policy, rule)| (policy.into(), rule.into())).collect(),
            rule_expiries: expiries
                .into_iter()
                .map(|((policy, rule), moment)| (policy.into(), rule.into(), seconds(moment)))
                .collect(),
        }
    }
}

/// The policies that have series here.
pub(super) fn policies_of(counters: &IntCounterVec) -> HashSet<String> {
    let mut found = HashSet::new();
    for family in counters.collect() {
        for metric in family.get_metric() {
            let policy = metric.get_label().iter().find(|label| label.name() == "policy");
            found.extend(policy.map(|label| label.value().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::{metrics, value};
    use super::*;
    use crate::config;

    #[test]
    fn of_rules_that_share_a_label_the_first_to_expire_counts() {
        let (metrics, ..) = metrics();
        let text = "\
policies:
  - name: p
    allow:
      - {to: a.example, name: shared, expires: 2031-01-01}
      - {to: b.example, name: shared, expires: 2030-01-01}
      - {to: c.example, name: shared, expires: 2032-01-01}
      - forever.example
    allow_files: [{file: list, expires: 2033-01-01}]
";
        let list = |_: &std::path::Path| Ok(b"d.example\ne.example\n".to_vec());
        let config = config::load_str("egressd.yaml", text, list).expect("a configuration").config;
        metrics.in_force(&config, Timestamp::from_second(1_772_366_400).expect("a moment"));
        let text = metrics.render().expect("rendered");
        for (series, want) in [
            (r#"egressd_rule_expires_timestamp_seconds{policy="p",rule="shared"}"#, Some(1_893_456_000.0)),
            (r#"egressd_rule_expires_timestamp_seconds{policy="p",rule="list"}"#, Some(1_988_150_400.0)),
            (r#"egressd_rule_expires_timestamp_seconds{policy="p",rule="forever.example"}"#, None),
            ("egressd_config_last_reload_success_timestamp_seconds", Some(1_772_366_400.0)),
            (&format!(r#"egressd_config_info{{sha256="{}"}}"#, config.hash), Some(1.0)),
        ] {
            assert_eq!(value(&text, series), want, "{series} in\n{text}");
        }
    }
}
