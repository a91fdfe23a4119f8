//! The second stage of a decision: one HTTP request on a connection that is already permitted.
//!
//! The first stage, [`Policies::decide`], knows host, port and scheme. The method and path of a request are known only
//! once its head is read: immediately for plain HTTP, and after the `200` for a request inside a tunnel. No rule is
//! about them yet, so every request on a permitted connection passes. A reload judges an open exchange by its target alone
//! ([`rejudge`](crate::state::live::rejudge)): a rule about requests needs method and path there too.

use super::Policies;
use super::decide::{Denial, Permit};

/// One HTTP request, as far as rules may judge it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpRequest<'r> {
    /// As it was sent: methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'r str,
    /// The path as it was sent, never decoded, without the query.
    pub path: &'r str,
}

impl Policies {
    /// Whether `request` may pass on the connection that `permit` allows.
    ///
    /// # Errors
    /// [`Denial`], as for [`Policies::decide`].
    pub fn decide_request(&self, permit: &Permit, request: &HttpRequest<'_>) -> Result<(), Denial> {
        // No option of a rule is about requests, so there is nothing to check.
        let _ = (permit, request);
        Ok(())
    }
}
