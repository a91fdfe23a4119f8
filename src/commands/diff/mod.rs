//! What an edit of the configuration changes: its policies and rules, and what becomes of recorded requests.
//!
//! [`rules`] compares what is written, [`replay`] what it decides. Both read two whole configurations that were loaded
//! as serving loads them. Not here: files (the caller opens them).

mod arguments;
pub mod replay;
pub mod rules;

pub(crate) use arguments::Diff;
