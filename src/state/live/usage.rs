//! What the registry reports to the metrics: bytes and live tunnels by policy.

use super::registry::Live;
use crate::telemetry::metrics::{PolicyUsage, UsageSource};

impl UsageSource for Live {
    fn usage(&self) -> Vec<PolicyUsage> {
        Live::usage(self)
    }

    fn retain_policies(&self, keep: &dyn Fn(&str) -> bool) {
        Live::retain_policies(self, keep);
    }
}
