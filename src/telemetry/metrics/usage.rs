//! The numbers of tunnels and their bytes in the metrics, which other code counts.
//!
//! Not here: the counting ([`crate::state::live`] does it, and passes itself in).

use std::sync::Arc;

/// Bytes and live tunnels of one policy since start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyUsage {
    /// The policy's name.
    pub policy: Arc<str>,
    /// Tunnels live now; exchanges do not count.
    pub tunnels: usize,
    /// Bytes from clients, closed and live.
    pub sent: u64,
    /// Bytes to clients, closed and live.
    pub received: u64,
}

/// The source of the usage at each scrape.
pub trait UsageSource: Send + Sync {
    /// Bytes and live tunnels by policy, closed and live together. No byte counts twice, and no sum goes backwards.
    fn usage(&self) -> Vec<PolicyUsage>;

    /// Forgets the closed bytes of policies for which `keep` is false: a reload removed them.
    fn retain_policies(&self, keep: &dyn Fn(&str) -> bool);
}
