//! A copy of the access log for an OpenTelemetry collector: OTLP over HTTP, in protobuf.
//!
//! It is beside the log and never in its way: a record that finds no room here is dropped and counted, and no request waits for
//! it or is refused because of it. [`Outbox`] takes the records, [`Exporter`] sends them, in batches, one request at a time, and
//! again as long as the receiver says that it may take them later ([`answer`]).
//!
//! The receiver is named by the operator, as a parent proxy is. So its address is dialled whatever network it is in; no rule
//! applies, and no client can change it. Only egressd's own listeners are not dialled. It is reached directly, also where targets are
//! reached through a parent.
//!
//! Memory: at most [`Outbox`]'s bound, and the batch that is being sent, encoded; both count as held. Not here: metrics, which
//! stay Prometheus', and traces, of which there are none.

mod answer;
mod environment;
mod export;
mod message;
mod outbox;
mod receiver;
mod send;

pub use environment::{Environment, SettingsError};
pub use export::{Exporter, Exporting, InForce, Pace};
pub use message::Resource;
pub use outbox::{OtlpCounts, Outbox};
