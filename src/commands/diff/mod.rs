//! What an edit of the configuration changes: its policies and rules, and the decisions on recorded requests.
//!
//! [`rules`] compares what is written, [`replay`] what it decides. Both take two whole configurations, loaded as the
//! server loads them. Not here: files (the caller opens them).

mod arguments;
pub mod replay;
pub mod rules;

pub(crate) use arguments::Diff;
