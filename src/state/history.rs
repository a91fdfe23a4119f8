//! The last hour in samples of ten seconds, for the plots of the status page.
//!
//! One task reads counters that exist anyway and keeps the differences; the path of a request does not know of it.
//! Prometheus has more than an hour, and more than one replica. Not here: the counters ([`crate::telemetry::metrics`],
//! [`crate::state::live`]), and how they are drawn.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::state::live::Live;
use crate::telemetry::metrics::{Metrics, SetupCounts, VerdictCounts};

/// Time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// An hour of them: 48 KiB.
pub const SAMPLES: usize = 360;

/// What happened in one interval.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Sample {
    /// Its end, in seconds since the epoch.
    pub at: i64,
    /// Tunnels open then.
    pub tunnels: usize,
    /// Bytes from clients.
    pub sent: u64,
    /// Bytes to clients.
    pub received: u64,
    /// Requests by their final verdict.
    #[serde(flatten)]
    pub verdicts: VerdictCounts,
    /// Requests inside tunnels, by theirs.
    pub inside: VerdictCounts,
    /// Tunnels set up.
    pub setups: u64,
    /// The median of their setup, in seconds; none without a setup.
    pub setup_p50: Option<f64>,
    /// The 99th percentile.
    pub setup_p99: Option<f64>,
}

/// Counters at one moment.
#[derive(Clone, Default, Debug)]
struct Totals {
    sent: u64,
    received: u64,
    verdicts: VerdictCounts,
    inside: VerdictCounts,
    setup: SetupCounts,
}

/// The samples, the oldest first. One for the whole program.
#[derive(Debug, Default)]
pub struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    samples: VecDeque<Sample>,
    before: Totals,
}

impl History {
    /// Takes samples until the task is dropped.
    pub async fn keep(&self, live: &Live, metrics: &Metrics) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sample(live, metrics, Timestamp::now());
        }
    }

    /// All samples so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).samples.iter().copied().collect()
    }

    fn sample(&self, live: &Live, metrics: &Metrics, now: Timestamp) {
        let mut totals = Totals {
            verdicts: metrics.verdicts(),
            inside: metrics.verdicts_inside(),
            setup: metrics.setup_counts(),
            ..Totals::default()
        };
        for usage in live.usage() {
            totals.sent += usage.sent;
            totals.received += usage.received;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut kept.before, totals);
        let (after, setup) = (&kept.before, kept.before.setup.since(&before.setup));
        let sample = Sample {
            at: now.as_second(),
            tunnels: live.tunnels(),
            // A reload that removes a policy removes its bytes, too.
            sent: after.sent.saturating_sub(before.sent),
            received: after.received.saturating_sub(before.received),
            verdicts: after.verdicts.since(before.verdicts),
            inside: after.inside.since(before.inside),
            setups: setup.count(),
            setup_p50: setup.quantile(0.5),
            setup_p99: setup.quantile(0.99),
        };
        if kept.samples.len() == SAMPLES {
            kept.samples.pop_front();
        }
        kept.samples.push_back(sample);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::telemetry::metrics::tests::metrics;
    use crate::words::outcome::{Decision, Reason};

    #[test]
    fn a_sample_is_the_difference_and_an_hour_is_kept() {
        let (metrics, live, ..) = metrics();
        let history = History::default();
        let policy: Arc<str> = "p".into();
        let at = |second| Timestamp::from_second(second).expect("a moment");
        metrics.request(Some(&policy), None, Some(Decision::Allow), None);
        metrics.setup(Duration::from_millis(3));
        history.sample(&live, &metrics, at(10));
        metrics.request(Some(&policy), None, Some(Decision::Allow), None);
        metrics.request(Some(&policy), None, Some(Decision::Deny), Some(Reason::HostNotAllowed.into()));
        metrics.request(Some(&policy), None, Some(Decision::Allow), Some(Reason::DnsTimeout.into()));
        metrics.request(Some(&policy), None, Some(Decision::WouldDeny), Some(Reason::HostNotAllowed.into()));
        metrics.inspected_request(
            Timestamp::now(),
            Some(&policy),
            None,
            Some(Decision::Deny),
            Some(Reason::GitNotAllowed.into()),
        );
        history.sample(&live, &metrics, at(20));
        let samples = history.samples();
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[0].verdicts, VerdictCounts { allowed: 1, ..VerdictCounts::default() });
        assert_eq!(samples[0].setups, 1);
        let p50 = samples[0].setup_p50.expect("there was one");
        assert!((0.0025..=0.005).contains(&p50), "{p50}");
        assert_eq!(samples[1].verdicts, VerdictCounts { allowed: 1, denied: 1, would_deny: 1, failed: 1 });
        assert_eq!(samples[1].inside, VerdictCounts { denied: 1, ..VerdictCounts::default() });
        assert_eq!((samples[1].setups, samples[1].setup_p50), (0, None));
        for second in 3..1_000 {
            history.sample(&live, &metrics, at(second * 10));
        }
        let samples = history.samples();
        assert_eq!((samples.len(), samples[SAMPLES - 1].at), (SAMPLES, 9_990));
    }
}
