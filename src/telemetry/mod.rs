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
pub mod squid;
mod writer;

use access_log::{Format, Json};
use squid::Squid;

use crate::config::LogFormat;

/// How records look. `parent`: whether targets are reached by a parent proxy, which Squid's formats name.
pub fn format(format: &LogFormat, parent: bool) -> Box<dyn Format> {
    match format {
        LogFormat::Json => Box::new(Json),
        LogFormat::Squid => Box::new(Squid::native(parent)),
        LogFormat::Custom(format) => Box::new(Squid::new(format.as_ref().clone(), parent)),
    }
}

/// The atomics of `places`, by a name of their own: its loom test puts loom's in their place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}
