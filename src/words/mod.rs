//! The words that all other modules use: target, client, outcome, sizes, durations and counts.

pub mod aws;
pub mod client;
pub mod counted;
pub mod git;
pub(crate) mod io_error;
pub mod logformat;
pub mod outcome;
pub(crate) mod pasted;
pub(crate) mod quote;
pub(crate) mod small_sort;
pub mod store_url;
pub mod target;
#[cfg(test)]
pub(crate) mod test_rows;
pub mod units;
