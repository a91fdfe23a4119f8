//! What the registry tells the metrics: bytes and live tunnels by policy.

use super::{Live, PolicyUsage};
use crate::telemetry::metrics::UsageSource;

impl UsageSource for Live {
    fn usage(&self) -> Vec<PolicyUsage> {
        Live::usage(self)
    }

    fn retain_policies(&self, keep: &dyn Fn(&str) -> bool) {
        Live::retain_policies(self, keep);
    }
}
