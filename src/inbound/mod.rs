//! Where clients come in: a connection is accepted, its client becomes known, and its requests are read one by one.
//!
//! Not here: what happens to a request ([`crate::session`]).

pub mod accept;
pub mod door;
mod either;
pub mod enter;
pub mod http1;
pub(crate) mod place;
pub(crate) mod socks5;
pub(crate) mod transparent;
