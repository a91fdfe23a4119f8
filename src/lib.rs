//! egressd: a forward proxy that lets out only what is listed.
//!
//! Floors, imports only downward: words (`target`, `client`, `outcome`, `meter`), rules, settings, mechanism, story,
//! assembly.

pub mod cancel;
pub mod client;
pub mod client_hello;
pub mod hello_gate;
pub mod linger;
pub mod meter;
pub mod outcome;
pub mod pipe;
pub mod relay;
pub mod server_hello;
pub mod target;
