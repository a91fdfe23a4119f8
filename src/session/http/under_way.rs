//! What an exchange has to do with the rest of the program while it is under way: its entry in the registry, what ends it from
//! outside, and what becomes of it if it is broken off.

use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;

use crate::outbound::route::Route;
use crate::rules::Recognised;
use crate::session::admit;
use crate::session::decide::{self, Decided, Wanted};
use crate::session::http::after::After;
use crate::session::http::forward::Finish;
use crate::session::http::lent::Within;
use crate::session::http::wanted::asked;
use crate::session::refuse::{self, Refused};
use crate::session::request::Request;
use crate::state::live::{ExchangeFacts, LiveExchange, Registration};
use crate::state::shared::Shared;
use crate::transport::held::Holder;
use crate::transport::meter::Meter;
use crate::wire::head::Head;
use crate::words::outcome::{Ending, Reason};

/// What does not change while a request is served.
#[derive(Clone, Copy)]
pub(super) struct UnderWay<'u> {
    pub(super) shared: &'u Shared,
    pub(super) within: Option<Within<'u>>,
    pub(super) holder: &'u Arc<Holder>,
    pub(super) route: &'u Arc<Route>,
    /// Of the request.
    pub(super) meter: &'u Arc<Meter>,
    /// In the registry: the bytes of a tunnel are counted once, in the tunnel's entry.
    pub(super) counted: &'u Arc<Meter>,
}

impl UnderWay<'_> {
    /// Registers what was decided. `address`: of the connection that it will use, if that is known.
    pub(super) fn enter(
        &self,
        decided: &Decided,
        request: &Request<'_>,
        (head, wanted): (&Head, Wanted<'_>),
        recognised: Option<&Arc<Recognised>>,
        address: Option<IpAddr>,
    ) -> Registration<LiveExchange> {
        let Decided { permit, snapshot } = decided;
        let facts = ExchangeFacts {
            client: Arc::clone(request.client()),
            proof: Arc::clone(request.proof()),
            target: wanted.target.clone(),
            policy: Arc::clone(&permit.policy),
            by_parent: self.route.parent(wanted.target).is_some(),
            asks: asked(head, wanted.http.as_ref(), recognised),
        };
        self.shared.live.register_exchange(facts, Arc::clone(self.counted), address, snapshot.generation)
    }

    /// Returns when it is to end. `live` is its entry in the registry, if it has one.
    pub(super) async fn stopped(&self, live: Option<&LiveExchange>) -> Ending {
        let revoked = async {
            match live {
                Some(live) => live.cancelled().await,
                None => pending().await,
            }
        };
        let tunnel_ended = async {
            match self.within {
                Some(within) => within.ended().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.shared.drain.ended() => Ending::Drained,
            ending = revoked => ending,
            ending = tunnel_ended => ending,
            () = self.holder.given_up() => Ending::MemoryLimit,
        }
    }

    /// Why it was revoked, if it was.
    pub(super) fn revoked(&self, live: Option<&LiveExchange>) -> Option<Reason> {
        let of_tunnel = self.within.and_then(|within| within.live.tunnel().revoked());
        live.and_then(|live| live.exchange().revoked()).or(of_tunnel)
    }

    /// Bytes that egressd itself sent to the client.
    pub(super) fn told(&self, bytes: usize) {
        let of_tunnel = self.within.map(|within| within.live.meter());
        for meter in std::iter::once(&**self.meter).chain(of_tunnel) {
            meter.add_received(bytes as u64);
        }
    }

    /// The body that decides what it is could not be read, so that nothing of it went on. `refused`: by its head. That verdict stands.
    pub(super) fn unread<'s>(
        &self,
        finish: Finish,
        mut request: Request<'s>,
        wanted: Wanted<'_>,
        refused: Option<Refused>,
        revoked: Option<Reason>,
    ) -> After<'s> {
        let ending = match &finish {
            Finish::Broken { ending, .. } => Some(*ending),
            _ => None,
        };
        match (refused, ending) {
            (
                Some(refused),
                Some(ending @ (Ending::ClientClosed | Ending::ClientReset | Ending::ClientLost)),
            ) => {
                request.told_why(&refused.advice, refused.denial.as_deref());
                refuse::unanswered(request, refused.reason);
                After::Gone(ending)
            }
            (Some(refused), _) => After::Refuse(request, refused),
            (None, Some(Ending::IdleTimeout)) => {
                let advice =
                    "the body that decides what the request is did not come in time: `http.stall_timeout`";
                After::Refuse(request, Refused::new(Reason::HeadTimeout, advice))
            }
            (None, _) => {
                request.undecided();
                self.broken((finish, None), request, wanted, None, revoked)
            }
        }
    }

    /// It was not complete. `status`: what was answered. `overtaken`: the refusal by a newer policy.
    pub(super) fn broken<'s>(
        &self,
        (finish, status): (Finish, Option<u16>),
        mut request: Request<'s>,
        wanted: Wanted<'_>,
        overtaken: Option<Refused>,
        revoked: Option<Reason>,
    ) -> After<'s> {
        let (ending, reason) = match finish {
            Finish::Refused { reason, detail } => {
                if let Some(refused) = overtaken {
                    return After::Refuse(request, refused);
                }
                let mut refused = Refused::on_the_way(reason, self.route, wanted.target);
                if !detail.is_empty() {
                    refused.advice = detail.into_owned();
                }
                return After::Refuse(request, refused);
            }
            Finish::Broken { ending, reason } => (ending, reason),
            // Not broken.
            Finish::Complete | Finish::Switched => (Ending::InternalError, None),
        };
        match ending {
            // Nothing was answered yet.
            Ending::Drained if status.is_none() => After::Refuse(request, Reason::Draining.into()),
            Ending::MemoryLimit if status.is_none() => After::Refuse(request, admit::short_of_memory()),
            Ending::PolicyRevoked | Ending::IdentityRevoked if status.is_none() => {
                let refused = decide::refuse_revoked(wanted, &mut request, revoked, self.shared);
                After::Refuse(request, refused)
            }
            Ending::ClientClosed | Ending::ClientReset | Ending::ClientLost if status.is_none() => {
                request.gone();
                After::Gone(ending)
            }
            _ => {
                let is_revoked = matches!(ending, Ending::PolicyRevoked | Ending::IdentityRevoked);
                let reason = reason.or(revoked.filter(|_| is_revoked));
                request.exchanged(status, Some(ending), reason, self.meter);
                After::Cut(ending)
            }
        }
    }
}
