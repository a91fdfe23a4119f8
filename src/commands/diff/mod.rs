//! What an edit of the configuration changes: its policies and rules, every other key, and the decisions on recorded requests.
//!
//! [`rules`] and [`settings`] compare what is written, and say what lets more out or in; [`replay`] compares what it decides.
//! All take two whole configurations, loaded as the server loads them. Not here: files (the caller opens them).

mod arguments;
mod both;
mod change;
mod clients;
pub mod replay;
mod row;
pub mod rules;
pub mod settings;
mod strict;

pub(crate) use arguments::Diff;
pub use change::{Change, Effect, Opens, Part};
