//! Verifies passwords, on one thread, so that nobody can overload the proxy with them.
//!
//! A password hash is expensive on purpose, so a client that may ask for its verification can make the proxy work.
//! Therefore [`PasswordVerifier`] is one thread of low priority behind a short queue, of which one client gets a part.
//! A pair of user and password is verified once, however often and from however many connections it comes. An unknown
//! user costs as much as a known one.
//!
//! Not here: the users file ([`crate::config::users`]), the header ([`crate::wire::basic_auth`]), when to ask (the
//! 407), and the meaning of `user:NAME` in policies.

mod cache;
mod verifier;

pub use verifier::{Busy, PasswordCheck, PasswordLimits, PasswordVerifier};
