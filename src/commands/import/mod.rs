//! `egressd import`: the configuration of another proxy, as an egressd one that is never wider.
//!
//! A reader (`squid`) fills a `draft`; the draft is written, checked by egressd's own reader, and printed by `arguments`,
//! with the `notes` on what is lost or different.

mod arguments;
mod draft;
mod notes;
pub mod squid;

pub(crate) use arguments::Import;
