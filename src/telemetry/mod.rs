//! What egressd reports: the access log, the metrics, and its own diagnostics.
//!
//! Not here: serving them ([`crate::operate::admin`]), and reading a log back ([`crate::commands::logs`]).

pub mod access_log;
pub mod diagnostics;
mod format;
mod json;
mod line;
pub mod metrics;
pub mod otlp;
mod output;
mod plain;
mod queue;
pub mod record;
mod reservations;
mod seal;
pub mod squid;
mod sync;
mod writer;

pub use format::format;
