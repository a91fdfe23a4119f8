//! A 407 that its client has not answered yet.
//!
//! git asks without credentials first, and again with them on the same connection: no record then. Java's HttpClient asks again on
//! a new connection: so, after the connection of a 407 ended, the same request with credentials is waited for a little, on any other
//! connection of that client. A client that never answers leaves one record for its connection: `auth_required`, with the scheme
//! that it tried. Such clients come as often as they like, so the rate is bounded. Until then a connection holds nothing of the
//! log's queue. Not here: which request is the same one again ([`crate::state::listener::challenges`]).

use std::sync::Arc;

use super::bounded;
use crate::session::request::{Challenged, Request};
use crate::state::listener::Listener;
use crate::state::listener::challenges::Asked;
use crate::state::listener::flood::Who;
use crate::state::shared::Shared;
use crate::wire::auth_scheme::AuthScheme;
use crate::words::outcome::Reason;

/// Recorded some time after it is dropped, unless it was answered.
#[derive(Debug)]
pub(crate) struct Unanswered(Option<Waiting>);

/// Recorded when it is dropped, unless it was answered: also where the task that waits for the answer is.
#[derive(Debug)]
struct Waiting {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    request: Option<Challenged>,
    asked: Asked,
}

impl Unanswered {
    pub(super) fn new(request: Request<'_>) -> Self {
        let (shared, listener) = (request.shared(), request.accepted_by());
        let account = request.account(&shared.current.load());
        let asked = listener.challenges.ask(account, request.same());
        let (shared, listener) = (Arc::clone(shared), Arc::clone(listener));
        Unanswered(Some(Waiting { shared, listener, request: request.challenged(), asked }))
    }

    /// The scheme that the client tried, if any.
    pub(crate) fn scheme(&self) -> Option<AuthScheme> {
        self.0.as_ref()?.request.as_ref()?.scheme()
    }

    /// Bytes that are kept of the request until then.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.0.as_ref().and_then(|waiting| waiting.request.as_ref()).map_or(0, Challenged::kept_bytes)
    }

    /// The client sent credentials on the same connection, or another 407 takes its place.
    pub(crate) fn answered(mut self) {
        if let Some(waiting) = &mut self.0 {
            waiting.request = None;
        }
    }
}

/// A request brings credentials, and on its own connection no 407 waits for them. Whatever becomes of it, it has a record of its own.
pub(crate) fn answered_here(request: &Request<'_>) {
    let account = request.account(&request.shared().current.load());
    request.accepted_by().challenges.answer(account, request.same());
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(waiting) = self.0.take() else { return };
        let is_open = waiting.request.is_some() && !waiting.asked.is_answered();
        // At the end of the program there is no time to wait.
        if !is_open || waiting.shared.drain.is_closed() || !waiting.asked.ends() {
            return;
        }
        let tracker = waiting.shared.drain.connections().clone();
        tracker.spawn(async move { waiting.asked.wait(waiting.shared.drain.closed()).await });
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(request) = self.request.take().filter(|_| !self.asked.is_answered()) else { return };
        let who = Who { peer: request.client().peer, client: Some(request.client().address) };
        let write = bounded::has_place(&self.listener, &self.shared, Reason::AuthRequired, who);
        request.never_answered(&self.shared, Reason::AuthRequired, write);
    }
}
