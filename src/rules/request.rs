//! The second stage of a decision: one HTTP request by a way that is permitted already.
//!
//! The first stage, [`Policies::decide`], knows host, port and scheme. What a request asks for there, its method and its
//! path, is known only once its head is read: at once for plain HTTP, and after the `200` for what is inside a tunnel. No
//! rule says anything of it yet, so every request of a permitted way passes.

use super::Policies;
use super::decide::{Denial, Permit};

/// One HTTP request, as far as rules may judge it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpRequest<'r> {
    /// As it was sent: methods are compared with their case (RFC 9110 §9.1).
    pub method: &'r str,
    /// The path as it was sent, never decoded, without the query.
    pub path: &'r str,
}

impl Policies {
    /// Whether `request` may pass by the way that `permit` allows.
    ///
    /// # Errors
    /// [`Denial`], as of [`Policies::decide`].
    pub fn decide_request(&self, permit: &Permit, request: &HttpRequest<'_>) -> Result<(), Denial> {
        // A rule has no option that speaks of requests, so there is nothing to hold this one against.
        let _ = (permit, request);
        Ok(())
    }
}
