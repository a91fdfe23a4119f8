//! `egressd verify`: checks sealed access logs against their seals.
//!
//! [`book`] reads the lines and sorts them by boot, [`claims`] knows what others read in a line, [`boot`] keeps what one start of the program wrote, [`judge`] says in the end
//! what is wrong with it, [`expect`] what a witness wrote down that is not there, [`cover`] when no boot was there, and [`tell`]
//! shows it all. Kept are the hashes of the records and seals, some 40 bytes for each record. Not here: how a line is read
//! ([`super::logs`]), and what a seal says ([`crate::wire::seal`]).

mod arguments;
mod book;
mod boot;
mod claims;
mod cover;
mod expect;
mod finding;
mod judge;
mod range;
mod tell;
#[cfg(test)]
mod tests;

pub(crate) use arguments::Verify;
pub use book::Book;
pub use expect::{Expected, expected};
pub use finding::{At, Finding, Findings, Kind};
pub use range::Range;
