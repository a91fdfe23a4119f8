//! `egressd import`: the configuration of another proxy, as an egressd one that is never wider.
//!
//! A reader ([`squid`]) fills a draft ([`draft`]). The draft is written, checked by egressd's own reader and printed ([`arguments`]),
//! with notes on what is lost or different ([`notes`]).

mod arguments;
mod draft;
mod notes;
pub mod squid;

pub(crate) use arguments::Import;
