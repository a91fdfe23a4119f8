//! Basic authentication: the header, the users file, and verification that is no lever.
//!
//! A password hash is dear on purpose, so whoever may ask for its verification can make the proxy work. Therefore
//! [`Verifier`] is one thread of low priority behind a short queue, of which one client gets a part; a pair of user
//! and password is verified once, however often and from however many connections it comes; and an unknown user
//! costs what a known one does.
//!
//! Left out: when to ask (the 407), and what policies make of `user:NAME`.

mod cache;
mod verifier;

pub use verifier::{Busy, Limits, Verdict, Verifier};
