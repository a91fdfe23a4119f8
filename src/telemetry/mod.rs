//! What egressd tells: the access log, the metrics, and its own diagnostics.
//!
//! Not here: who serves them (`admin`), and what is read back from a log (`suggest`, `summary`).

pub mod access_log;
pub mod diagnostics;
mod json;
pub mod metrics;
mod output;
mod places;
mod queue;
pub mod record;
mod writer;

/// The atomics of `places`, by a name of their own: its loom test puts loom's in their place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}
