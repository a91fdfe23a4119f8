//! What an exchange is given, and the two addresses of its connection to the target.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::outbound::parent::Parent;
use crate::outbound::route::Route;
use crate::session::http::changes::Changes;
use crate::state::limits::kept::KeptPlace;
use crate::state::live::Generation;
use crate::transport::keep_alive::KeepAlive;
use crate::transport::meter::Meter;

/// What permitted an exchange, and the way to its target. A connection to the target serves another request of the same client only if
/// all of it is the same, host and port included.
#[derive(Clone, Debug)]
pub struct PermittedBy {
    /// The policy.
    pub policy: Arc<str>,
    /// The generation of the configuration.
    pub generation: Generation,
    /// By which the connection is dialled. A reload swaps it and the configuration one after the other, and a request may see one of both:
    /// what a parent proxy is told must never go to a target.
    pub route: Arc<Route>,
}

impl PartialEq for PermittedBy {
    fn eq(&self, other: &Self) -> bool {
        let same_route = Arc::ptr_eq(&self.route, &other.route);
        same_route && self.policy == other.policy && self.generation == other.generation
    }
}

/// What one exchange may do, and where it is counted.
#[derive(Clone)]
pub struct Terms<'a> {
    /// What permitted it.
    pub permitted_by: PermittedBy,
    /// A place for the connection to the target, if it is to be kept for the next request.
    pub keep_upstream: &'a (dyn Fn() -> Option<KeptPlace> + Sync),
    /// The parent proxy that gets the request instead of the target, in absolute-form.
    pub parent: Option<&'a Parent>,
    /// `http.remove_request_headers`.
    pub remove_request_headers: &'a [HeaderName],
    /// What the rule changes in the request and its response.
    pub(crate) changes: &'a Changes,
    /// From the last byte of the request to the head of the response.
    pub response_timeout: Duration,
    /// How long both sides may be silent while a body is in progress.
    pub stall_timeout: Duration,
    /// How long the client's connection is kept for its next request, asked when the response begins. `None`: it is not.
    pub keep: &'a (dyn Fn() -> Option<KeepAlive> + Sync),
    /// Sent as `X-Request-Id` in the response.
    pub request_id: &'a str,
    /// For this exchange alone. Counts heads and bodies as they are on the client's wire; `sent` is what hyper was
    /// given, at most one piece (32 KiB) and its write buffer ahead of what the target's socket took.
    pub meter: &'a Meter,
    /// For all exchanges of the tunnel that this one is inside of. Counts the same bytes.
    pub tunnel: Option<&'a Meter>,
}

/// Both ends of the connection to the target, for the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// The dialled address.
    pub upstream: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}
