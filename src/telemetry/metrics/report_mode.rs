//! Which policies are in report mode, and let out every host.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use super::at_scrape::Family;
use crate::config::Config;
use crate::rules::Mode;

/// The gauge of all policies. Cheap to clone: the registry has one, and [`super::Metrics`] the other.
#[derive(Clone)]
pub(super) struct ReportMode(Arc<Shared>);

struct Shared {
    family: Family,
    /// Each policy in force, and whether it is in report mode. Replaced whole: a scrape sees the old or the new ones.
    policies: RwLock<Vec<(Arc<str>, bool)>>,
}

impl ReportMode {
    pub(super) fn new() -> prometheus::Result<Self> {
        let family = Family::new(
            "egressd_policy_report_mode",
            "Whether the policy is in report mode and lets out every host: 1, or 0 if it enforces its rules.",
            &["policy"],
            MetricType::GAUGE,
        )?;
        Ok(ReportMode(Arc::new(Shared { family, policies: RwLock::default() })))
    }

    /// `config` was put in force.
    pub(super) fn in_force(&self, config: &Config) {
        let policies = config.policies.iter();
        let policies =
            policies.map(|policy| (Arc::clone(policy.name()), policy.mode() == Mode::Report)).collect();
        *self.0.policies.write().unwrap_or_else(PoisonError::into_inner) = policies;
    }
}

impl Collector for ReportMode {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.0.family.desc()]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let policies = self.0.policies.read().unwrap_or_else(PoisonError::into_inner);
        let values = policies.iter().map(|(policy, report)| ([&**policy], f64::from(u8::from(*report))));
        vec![self.0.family.collect(values)]
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::tests::{metrics, value};
    use crate::config;

    #[test]
    fn a_reload_that_ends_report_mode_is_seen_and_one_that_takes_the_policy_away() {
        let (metrics, ..) = metrics();
        let of = |policy: &str| format!("egressd_policy_report_mode{{policy=\"{policy}\"}}");
        for (first, second, want) in [
            ("mode: report", "mode: enforce", [Some(1.0), Some(0.0), None]),
            ("allow: [a.example]", "mode: report", [Some(0.0), Some(1.0), None]),
        ] {
            let text = format!("policies:\n  - {{name: p, {first}}}\n  - {{name: q, {second}}}\n");
            let none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
            let config = config::load_str("egressd.yaml", &text, none).expect("a configuration").config;
            metrics.in_force(&config, Timestamp::UNIX_EPOCH);
            let text = metrics.render().expect("rendered");
            for (policy, want) in ["p", "q", "r"].iter().zip(want) {
                assert_eq!(value(&text, &of(policy)), want, "{policy} in\n{text}");
            }
        }
        let none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let only = config::load_str("egressd.yaml", "policies: [{name: r, mode: report}]\n", none);
        metrics.in_force(&only.expect("a configuration").config, Timestamp::UNIX_EPOCH);
        let text = metrics.render().expect("rendered");
        for (policy, want) in [("p", None), ("q", None), ("r", Some(1.0))] {
            assert_eq!(value(&text, &of(policy)), want, "{policy} in\n{text}");
        }
    }
}
