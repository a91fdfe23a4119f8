//! `egressd env`: prints what makes each kind of client use the proxy, and trust the root of inspection.
//!
//! [`exceptions`] holds what clients reach without the proxy, [`variables`] the names and values that clients read, [`formats`]
//! how they are written into the file of each kind. Not here: which clients read which variable; docs/clients.md has the table.

mod arguments;
mod exceptions;
mod formats;
#[cfg(test)]
mod tests;
mod variables;

pub(crate) use arguments::Env;
pub(crate) use exceptions::Exceptions;
pub(crate) use formats::ruby;
pub(crate) use variables::{ProxyUrl, Settings, Variable};
