//! `egressd import`: the configuration of another proxy, as an egressd one that is never wider.

mod arguments;
mod notes;
pub mod squid;

pub(crate) use arguments::Import;
