//! The few sums that [`crate::state::history`] samples: verdicts over all policies and rules, and the setup histogram
//! as numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::Histogram;
use prometheus::core::Collector;

use super::super::record::Cause;
use crate::words::outcome::Decision;

/// From a warm cache nearby to the longest `tunnel.connect_timeout` that makes sense.
pub(super) const SETUP_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Requests by their verdict.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct VerdictCounts {
    /// Allowed by a rule, and served.
    pub allowed: u64,
    /// Refused by policy, form or identity.
    pub denied: u64,
    /// Let through only by report mode.
    pub would_deny: u64,
    /// Failed for another reason: DNS, the target, a limit. Clients that left do not count.
    pub failed: u64,
}

impl VerdictCounts {
    /// What was added since.
    pub fn since(self, before: VerdictCounts) -> VerdictCounts {
        VerdictCounts {
            allowed: self.allowed.saturating_sub(before.allowed),
            denied: self.denied.saturating_sub(before.denied),
            would_deny: self.would_deny.saturating_sub(before.would_deny),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

/// [`VerdictCounts`] while they are counted.
#[derive(Default)]
pub(super) struct Counted {
    allowed: AtomicU64,
    denied: AtomicU64,
    would_deny: AtomicU64,
    failed: AtomicU64,
}

impl Counted {
    pub(super) fn count(&self, decision: Option<Decision>, cause: Option<Cause>) {
        let counter = match (decision, cause) {
            (Some(Decision::Deny), _) => &self.denied,
            (Some(Decision::WouldDeny), _) => &self.would_deny,
            (_, Some(Cause::ClientGone)) => return,
            (_, Some(Cause::Refused(_))) => &self.failed,
            (_, None) => &self.allowed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> VerdictCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        VerdictCounts {
            allowed: read(&self.allowed),
            denied: read(&self.denied),
            would_deny: read(&self.would_deny),
            failed: read(&self.failed),
        }
    }
}

/// The buckets of `egressd_setup_duration_seconds`, each including those below it, and finally all.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SetupCounts(Vec<u64>);

impl SetupCounts {
    /// The content of the histogram.
    pub(super) fn of(setup_duration: &Histogram) -> Self {
        let families = setup_duration.collect();
        let histogram = families.first().and_then(|family| family.get_metric().first());
        let Some(histogram) = histogram.map(|metric| metric.get_histogram()) else {
            return SetupCounts::default();
        };
        let mut counts: Vec<u64> =
            histogram.get_bucket().iter().map(prometheus::proto::Bucket::cumulative_count).collect();
        counts.push(histogram.get_sample_count());
        SetupCounts(counts)
    }

    /// What was added since.
    pub fn since(&self, before: &SetupCounts) -> SetupCounts {
        let before = before.0.iter().copied().chain(std::iter::repeat(0));
        SetupCounts(self.0.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect())
    }

    /// All setups.
    pub fn count(&self) -> u64 {
        self.0.last().copied().unwrap_or_default()
    }

    /// In seconds, interpolated linearly between two bounds as Prometheus' `histogram_quantile` does; beyond the last
    /// bound it is that bound. None without a setup.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = self.count() as f64 * quantile;
        if self.count() == 0 {
            return None;
        }
        let (mut lower, mut below) = (0.0, 0);
        for (upper, upto) in SETUP_SECONDS.iter().zip(&self.0) {
            if *upto as f64 >= rank && *upto > below {
                return Some(lower + (upper - lower) * (rank - below as f64) / (upto - below) as f64);
            }
            (lower, below) = (*upper, *upto);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::metrics;

    #[test]
    fn a_quantile_lies_in_the_bucket_that_holds_it() {
        let (metrics, ..) = metrics();
        assert_eq!(metrics.setup_counts().quantile(0.5), None);
        for _ in 0..98 {
            metrics.setup(Duration::from_micros(700));
        }
        for _ in 0..2 {
            metrics.setup(Duration::from_millis(400));
        }
        let counts = metrics.setup_counts();
        let (p50, p99) = (counts.quantile(0.5).unwrap_or(0.0), counts.quantile(0.99).unwrap_or(0.0));
        assert!((0.0005..=0.001).contains(&p50), "{p50}");
        assert!((0.25..=0.5).contains(&p99), "{p99}");
        metrics.setup(Duration::from_secs(60));
        let later = metrics.setup_counts().since(&counts);
        assert_eq!((later.count(), later.quantile(0.99)), (1, Some(10.0)));
    }
}
