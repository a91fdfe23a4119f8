//! The words that every room uses: what was asked for, who asks, how it ended, sizes and durations.

pub mod client;
pub mod logformat;
pub mod outcome;
pub(crate) mod quote;
pub mod target;
pub mod units;
