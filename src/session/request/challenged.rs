//! A request whose client was asked for a password.

use super::facts::Facts;
use crate::state::shared::Shared;
use crate::telemetry::record::{Cause, Event};
use crate::wire::auth_scheme::AuthScheme;
use crate::words::client::Client;
use crate::words::outcome::{Decision, Reason};

/// A request whose client was asked for credentials. It holds no place in the log.
#[derive(Debug)]
pub(crate) struct Challenged(Box<Facts>);

impl Challenged {
    pub(super) fn of(facts: Box<Facts>) -> Self {
        Challenged(facts)
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// The scheme that it tried.
    pub(crate) fn scheme(&self) -> Option<AuthScheme> {
        self.0.auth_scheme
    }

    /// Bytes that it keeps of the head.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.0.asks.own_bytes() + self.0.asks.path().map_or(0, str::len)
    }

    /// The client sent no credentials: the verdict is a refusal. `write`: whether it has a record.
    pub(crate) fn never_answered(mut self, shared: &Shared, reason: Reason, write: bool) {
        self.0.decision = Some(Decision::Deny);
        self.0.reason = Some(Cause::Refused(reason));
        self.0.count(shared);
        if write {
            shared.log.spare().write(&self.0.record(shared, Event::of(reason.into())));
        }
    }
}
