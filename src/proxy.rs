//! One client's connection: read a head, judge it, serve it, and again.
//!
//! The order is the specification's: the head's form, draining and the log's health, limits, then the target's own
//! story in `tunnel` or `forward`. Every refusal that is an HTTP reply is written here, in [`refuse`].

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::client::Client;
use crate::config::{self, Config};
use crate::forward::Kept;
use crate::head::{self, HeadError, HeadLimits, RequestTarget};
use crate::limits::{Caps, Slot};
use crate::linger;
use crate::listener::Listener;
use crate::live::Generation;
use crate::outcome::Reason;
use crate::reply::{self, Reply};
use crate::request::{Asks, Request};
use crate::route::Route;
use crate::shared::Shared;
use crate::stream::ClientStream;
use crate::telemetry::metrics::ConnectionResult;
use crate::tunnel::Tunnel;
use crate::{exchange, tunnel};

/// A verdict of no, on its way to the client.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// One line that a person can act on.
    pub(crate) advice: String,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Refused { reason, advice: reply::advice(reason).to_owned() }
    }
}

impl Refused {
    /// What came of the way to the target: with a parent in between, most of it is not the target's doing.
    pub(crate) fn on_the_way(reason: Reason, route: &Route) -> Self {
        let advice = route.parent().and_then(|_| reply::advice_for_parent(reason));
        Refused { reason, advice: advice.unwrap_or_else(|| reply::advice(reason)).to_owned() }
    }
}

/// What a request is judged by, taken together.
pub(crate) struct Judge {
    /// Read before `config`, so that a reload between the two is noticed.
    pub(crate) generation: Generation,
    pub(crate) config: Arc<Config>,
}

impl Judge {
    fn now(shared: &Shared) -> Self {
        let generation = shared.live.generation();
        Judge { generation, config: shared.current.load() }
    }
}

/// Serves one connection until it ends, or until a tunnel comes of it, which is then the caller's to run: all that
/// is needed only before is gone by then.
pub(crate) async fn serve<'s>(
    mut stream: ClientStream,
    mut buffer: BytesMut,
    client: Client,
    listener: &Listener,
    shared: &'s Shared,
) -> Option<Tunnel<'s>> {
    let client = Arc::new(client);
    let mut kept = Kept::default();
    let mut first = true;
    loop {
        let limits = head_limits(&shared.current.load().limits);
        let read = tokio::select! {
            biased;
            read = head::read_head(&mut stream, &mut buffer, &limits, first) => read,
            // Whoever has not begun to ask is not waited for.
            () = shared.drain.closed(), if buffer.is_empty() => Ok(None),
        };
        // Taken after the head was read: a connection may have been open since before a reload.
        let judge = Judge::now(shared);
        let asks = match &read {
            Ok(Some(head)) => Asks::of(head),
            Ok(None) => {
                if first {
                    listener.connections.count(ConnectionResult::Probe);
                }
                return None;
            }
            Err(HeadError::Refused(refused)) => Asks::of_refused(refused),
            Err(HeadError::Gone) => Asks::default(),
        };
        if first {
            listener.connections.count(ConnectionResult::Accepted);
            first = false;
        }
        let request = Request::new(shared, &judge.config, &listener.name, &client, asks);
        let head = match read {
            Ok(Some(head)) => head,
            Ok(None) | Err(HeadError::Gone) => {
                request.gone();
                return None;
            }
            Err(HeadError::Refused(refused)) => {
                let body = refused.method != Some(http::Method::HEAD);
                let refused = Refused { reason: refused.reason, advice: refused.detail.into_owned() };
                refuse(stream, request, refused, body).await;
                return None;
            }
        };
        let slot = match admit(&request, &judge.config, shared) {
            Ok(slot) => slot,
            Err(reason) => {
                refuse(stream, request, reason.into(), head.method != http::Method::HEAD).await;
                return None;
            }
        };
        if let RequestTarget::Authority(target) = head.target {
            return Box::pin(tunnel::establish(stream, buffer, target, request, judge, slot, shared)).await;
        }
        let next = exchange::Next { client: stream, buffer, kept };
        match Box::pin(exchange::serve(next, head, request, judge, shared)).await {
            Some(next) => exchange::Next { client: stream, buffer, kept } = next,
            None => return None,
        }
        drop(slot);
    }
}

/// What comes between a well-formed head and its target.
fn admit(request: &Request<'_>, config: &Config, shared: &Shared) -> Result<Slot, Reason> {
    if shared.drain.is_closed() {
        return Err(Reason::Draining);
    }
    if !request.can_be_recorded() {
        return Err(Reason::LogUnavailable);
    }
    let caps = Caps {
        total: config.limits.tunnels.min(shared.tunnels_carried),
        per_client: config.limits.tunnels_per_client,
        per_second: config.limits.requests_per_second_per_client,
    };
    shared.limits.take(request.client().address.ip(), caps, Instant::now())
}

fn head_limits(limits: &config::Limits) -> HeadLimits {
    HeadLimits { bytes: limits.head_bytes, timeout: limits.head_timeout }
}

/// Records the verdict, tells the client, and closes so that the words arrive.
pub(crate) async fn refuse(stream: ClientStream, request: Request<'_>, refused: Refused, body: bool) {
    let id = request.id();
    let reason = refused.reason;
    request.refuse(reason);
    let reply = Reply { reason, id, advice: &refused.advice, body, keep_alive: false };
    match reply.to_bytes() {
        Some(bytes) => linger::close_with(stream, &bytes).await,
        None => linger::linger(stream).await,
    }
}
