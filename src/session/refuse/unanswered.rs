//! A 407 that its client has not answered yet.
//!
//! git asks without credentials first, and again with them on the same connection: no record then. A client that never answers
//! leaves one record for its connection, when that ends: `auth_required`, with the scheme that it tried. Such clients come as
//! often as they like, so the rate is bounded. Until then a connection holds nothing of the log's queue.

use std::sync::Arc;

use super::bounded;
use crate::session::request::{Challenged, Request};
use crate::state::listener::Listener;
use crate::state::listener::flood::Who;
use crate::state::shared::Shared;
use crate::wire::auth_scheme::AuthScheme;
use crate::words::outcome::Reason;

/// Recorded when it is dropped, unless it was answered.
#[derive(Debug)]
pub(crate) struct Unanswered<'s> {
    shared: &'s Arc<Shared>,
    listener: &'s Arc<Listener>,
    request: Option<Challenged>,
}

impl<'s> Unanswered<'s> {
    pub(super) fn new(request: Request<'s>) -> Self {
        let (shared, listener) = (request.shared(), request.accepted_by());
        Unanswered { shared, listener, request: request.challenged() }
    }

    /// The scheme that the client tried, if any.
    pub(crate) fn scheme(&self) -> Option<AuthScheme> {
        self.request.as_ref().and_then(Challenged::scheme)
    }

    /// The client sent credentials that were verified, or another 407 takes its place.
    pub(crate) fn answered(mut self) {
        self.request = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        let who = Who { peer: request.client().peer, client: Some(request.client().address) };
        let write = bounded::has_place(self.listener, self.shared, Reason::AuthRequired, who);
        request.never_answered(self.shared, Reason::AuthRequired, write);
    }
}
