//! egressd: a forward proxy that lets out only what is listed.
//!
//! Floors, imports only downward: words (`target`, `client`, `outcome`, `meter`), rules, settings, mechanism, story,
//! assembly.

pub mod client;
pub mod dial;
pub mod meter;
pub mod outcome;
pub mod policy;
pub mod resolve;
pub mod socket;
pub mod target;
