//! Verification of passwords that is no lever.
//!
//! A password hash is expensive on purpose, so a client that may ask for its verification can make the proxy work. Therefore
//! [`PasswordVerifier`] is one thread of low priority behind a short queue, of which one client gets a part; a pair of user
//! and password is verified once, however often and from however many connections it comes; and an unknown user
//! costs what a known one does.
//!
//! Not here: the users file ([`crate::config::users`]), the header ([`crate::wire::basic_auth`]), when to ask (the 407),
//! and what policies make of `user:NAME`.

mod cache;
mod verifier;

pub use verifier::{Busy, PasswordCheck, PasswordLimits, PasswordVerifier};
