//! A tunnel of requests: one after the other, each read, judged and forwarded as on the proxy's own port ([`exchange`]), with
//! the tunnel's target as the only host. Either an `http` rule carries it, and they are plain; or it is inspected, and they come over
//! TLS with egressd and go on over TLS to the target ([`inspected`](super::inspected)).
//!
//! [`begins`] looks at the first byte, and lets no TLS pass. [`RequestsTunnel`] then reads the heads.
//! The first that goes on goes over the connection that was dialled before the `200`; later ones over the connection that the
//! request before left open, or over a new one, as on the proxy's own port. So a target that closes between two requests
//! costs the client nothing. A request that becomes a WebSocket is the last one: what follows is relayed. The client's stream may be any
//! [`Transport`].
//!
//! In report mode what the rule does not carry flows as through a `tcp` rule: TLS, and everything after the head of a
//! first request that asks for an upgrade.

mod begins;
mod ends;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::UPGRADE;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::session::admit;
use crate::session::decide;
use crate::session::http::after::After;
use crate::session::http::exchange;
use crate::session::http::forward::{Connection, Kept, Switched};
use crate::session::http::lent::{Lent, Own, Within};
use crate::session::http::wanted::wanted;
use crate::session::refuse::{self, Refused, refuse};
use crate::session::request::{Asks, Opened, Request};
use crate::state::limits::Slot;
use crate::state::listener::Listener;
use crate::state::live::{LiveExchange, LiveTunnel, rejudge};
use crate::state::proof::Lost;
use crate::state::shared::{Shared, Snapshot};
use crate::transport::close;
use crate::transport::heads::{HeadError, HeadLimits, read_head_at};
use crate::transport::held::read::Buffered;
use crate::transport::held::{Kind, Lease};
use crate::transport::keep_alive::KeepAlive;
use crate::transport::meter::Meter;
use crate::transport::relay::{self, Early, Relay, RelayLimits, ending_of};
use crate::transport::stream::Transport;
use crate::transport::target_stream::UpstreamStream;
use crate::wire::head::{Head, Place, cut_short};
use crate::words::outcome::{Class, Decision, Ending, Reason};
use crate::words::target::Target;
pub(super) use begins::Begins;
use ends::{as_it_came, goodbye, pass_anything, with_progress};

/// A tunnel of requests, from its first byte to its end.
#[derive(Debug)]
pub(crate) struct RequestsTunnel<'s, S> {
    pub(super) client: S,
    pub(super) buffer: Buffered,
    pub(super) opened: Opened<'s>,
    pub(super) parts: Parts<'s>,
}

/// What a tunnel has whatever its client speaks.
#[derive(Debug)]
pub(crate) struct Parts<'s> {
    pub(super) target: Target,
    pub(super) own: Own,
    pub(super) limits: RelayLimits,
    pub(super) live: LiveTunnel,
    pub(super) slot: Slot,
    /// Of what it costs by being open.
    pub(super) open: Lease,
    pub(super) accepted_by: &'s Arc<Listener>,
    pub(super) shared: &'s Arc<Shared>,
}

impl<'s, S: Transport + Send + 's> RequestsTunnel<'s, S> {
    /// Serves requests until the tunnel ends, and writes its last record.
    pub(super) fn run(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send + 's>> {
        Box::pin(async move {
            let RequestsTunnel { client, buffer, opened, parts } = *self;
            let Parts { target, own, limits, live, slot, open, accepted_by, shared } = parts;
            let RelayLimits { idle_timeout, deadline, upload } = limits;
            let mut served = Served {
                client,
                buffer,
                own: Some(own),
                kept: Kept::default(),
                within: Within { target: &target, live: &live, deadline },
                keep: KeepAlive::new(shared.current.load().http.keepalive_timeout),
                limits: RelayLimits { idle_timeout, deadline, upload },
                opened: &opened,
                accepted_by,
                shared,
            };
            let end = with_progress(Box::pin(served.serve()).as_mut(), &opened).await;
            let mut revoked = None;
            // The goodbye may take a second.
            let Served { client, limits, buffer, own, kept, .. } = served;
            drop((buffer, own, kept));
            let (ending, opened) = match end {
                End::Ended(ending) => {
                    if live.tunnel().facts.inspected {
                        goodbye(client, ending).await;
                    } else {
                        relay::part_client(client, ending);
                    }
                    (ending, opened)
                }
                End::Idle(ending) => {
                    close_idle(client, ending, &opened, (&target, &live), accepted_by, shared).await;
                    (ending, opened)
                }
                End::Answered(ending) => {
                    close::linger(client).await;
                    (ending, opened)
                }
                End::Cut(ending) => {
                    // If that cannot be set, the connection is gone already.
                    let _ = client.socket().set_zero_linger();
                    (ending, opened)
                }
                End::Refused { request, refused, body } => {
                    let ending = ending_by(&refused, &live, shared);
                    tell(client, *request, refused, body).await;
                    (ending, opened)
                }
                End::Anything { early, upstream, reason } => {
                    let mut opened = opened;
                    opened.would_deny(reason);
                    open.holder().stays_open();
                    let relay = Relay::copying(early, limits, open.holder());
                    let ending = pass_anything(client, upstream, relay, &opened, &live).await;
                    (ending, opened)
                }
                End::Switched { to_upstream, switched, exchange } => {
                    let Switched { stream, early: to_client, lease } = *switched;
                    open.holder().stays_open();
                    let early = Early { to_upstream, to_client };
                    let relay = Relay::copying(early, limits, open.holder());
                    let ending = tokio::select! {
                        biased;
                        ending = exchange.cancelled() => ending,
                        ending = pass_anything(client, stream, relay, &opened, &live) => ending,
                    };
                    drop(lease);
                    revoked = exchange.exchange().revoked();
                    (ending, opened)
                }
            };
            opened.close(ending, revoked.or(live.tunnel().revoked()));
            drop((slot, open));
        })
    }
}

/// What ends the tunnel if one of its requests is refused.
fn ending_by(refused: &Refused, live: &LiveTunnel, shared: &Shared) -> Ending {
    // The request may have been ended for it before the tunnel was.
    let _ = identity(live, &shared.current.load());
    if let Some(ending) = live.tunnel().ending() {
        return ending;
    }
    match refused.reason {
        Reason::Draining => Ending::Drained,
        Reason::SharedStateUnavailable => Ending::SharedStateUnavailable,
        reason if reason.class() == Class::Upload => Ending::UploadLimit,
        _ => Ending::Refused,
    }
}

/// Whether its listener still accepts what proved the client's identity. If not, the tunnel ends.
fn identity(live: &LiveTunnel, config: &Config) -> Result<(), Lost> {
    let tunnel = live.tunnel();
    let judged = tunnel.facts.proof.still_accepted(config, Timestamp::now());
    judged.inspect_err(|lost| tunnel.revoke(lost))
}

/// Where the requests of the tunnel come in.
fn place(target: &Target, live: &LiveTunnel) -> Place {
    match live.tunnel().facts.inspected {
        true => Place::Inspected(target.clone()),
        false => Place::Tunnel(target.clone()),
    }
}

/// Records why a request was refused, and tells the client. The end of its identity is not told: a `407` inside a tunnel
/// would be taken for the target's.
async fn tell<S: Transport>(client: S, request: Request<'_>, refused: Refused, body: bool) {
    match refused.reason.class() {
        Class::Connection | Class::Challenge | Class::Credentials => {
            refuse::unanswered(request, refused.reason);
            close::linger(client).await;
        }
        _ => refuse(client, request, refused, body).await,
    }
}

/// Closes a tunnel in which no further request came, as a kept connection is closed: a request that crosses the close is
/// not run, and is recorded.
async fn close_idle<'s, S: Transport>(
    client: S,
    ending: Ending,
    opened: &Opened<'_>,
    (target, live): (&Target, &LiveTunnel),
    accepted_by: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
) {
    let crossed = close::linger_reading(client, close::MOST_CROSSED).await;
    if crossed.is_empty() {
        return;
    }
    let reason = if ending == Ending::Drained { Reason::Draining } else { Reason::HeadTimeout };
    let detail = "the request came while its tunnel, which had been idle, was being closed: it was not run";
    let asks = Asks::of_refused(&cut_short(reason, detail, &crossed, &place(target, live)));
    let of = (opened, live.tunnel());
    let request = Request::within(of, &shared.current.load(), accepted_by, shared, asks);
    log_refusal(&request, reason, detail);
    request.refuse(reason);
}

fn log_refusal(request: &Request<'_>, reason: Reason, why: &str) {
    let (id, listener, peer) = (request.id(), request.listener(), request.client().peer);
    tracing::info!(%id, "listener {listener}: {peer} refused inside a tunnel, {reason}: {why}");
}

/// How the requests of a tunnel ended.
enum End<'s> {
    /// The tunnel ended between two requests, or within one.
    Ended(Ending),
    /// No further request came for as long as a connection is kept, or before the drain.
    Idle(Ending),
    /// The last response says that no request follows: the target's, or egressd's own.
    Answered(Ending),
    /// A response was broken off.
    Cut(Ending),
    /// A request was refused; the client is to be told.
    Refused { request: Box<Request<'s>>, refused: Refused, body: bool },
    /// A request became a WebSocket. `exchange` keeps it in the registry.
    Switched { to_upstream: BytesMut, switched: Box<Switched>, exchange: Box<LiveExchange> },
    /// What follows is no longer requests, and report mode lets it pass although enforce mode would not, for `reason`.
    Anything { early: Early, upstream: UpstreamStream, reason: Reason },
}

/// A tunnel while it is served.
struct Served<'t, 's, S> {
    client: S,
    buffer: Buffered,
    own: Option<Own>,
    kept: Kept,
    /// How long the client was told that it may wait with its next request.
    keep: KeepAlive,
    within: Within<'t>,
    limits: RelayLimits,
    opened: &'t Opened<'s>,
    accepted_by: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
}

impl<'s, S: Transport> Served<'_, 's, S> {
    async fn serve(&mut self) -> End<'s> {
        loop {
            if let Err(end) = self.begun().await {
                return end;
            }
            if let Some(end) = self.next().await {
                return end;
            }
        }
    }

    /// Waits for the next request to begin.
    async fn begun(&mut self) -> Result<(), End<'s>> {
        let holder = Arc::clone(self.buffer.lease.holder());
        self.buffer.lease.set(self.buffer.bytes.capacity());
        if !self.buffer.bytes.is_empty() {
            // What it holds is a head that may never become whole.
            holder.waits();
            return Ok(());
        }
        self.buffer.tidy();
        // Between two requests it is open as a tunnel is through which nothing flows.
        holder.stays_open();
        let idle = Instant::now() + self.keep.held();
        let Served { client, buffer, kept, within, shared, .. } = self;
        let begun = pin!(async {
            tokio::select! {
            biased;
            ending = within.ended() => Err(End::Ended(ending)),
            read = buffer.read_from(client) => match read {
                Ok(1..) => Ok(()),
                Ok(0) => Err(End::Ended(Ending::ClientClosed)),
                // It left its TLS without a goodbye, as many clients do.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(End::Ended(Ending::ClientClosed))
                }
                Err(error) => Err(End::Ended(ending_of(true, &error))),
            },
            () = sleep_until(idle) => Err(End::Idle(Ending::IdleTimeout)),
            // A request that has begun is waited for; one that has not is not.
            () = shared.drain.closed_for(Duration::ZERO) => Err(End::Idle(Ending::Drained)),
            }
        });
        let begun = kept.during(begun).await;
        holder.moves();
        begun
    }

    /// Reads one head, and serves what it asks for. `None`: the next one may come.
    async fn next(&mut self) -> Option<End<'s>> {
        let shared = self.shared;
        let limits = {
            let limits = &shared.current.load().limits;
            HeadLimits { bytes: limits.head_bytes, timeout: limits.head_timeout }
        };
        let place = place(self.within.target, self.within.live);
        let Buffered { bytes, lease } = &mut self.buffer;
        let holder = Arc::clone(lease.holder());
        let read = tokio::select! {
            biased;
            ending = self.within.ended() => Err(ending),
            read = read_head_at(&place, &mut self.client, bytes, lease, &limits) => Ok(read),
        };
        let read = match read {
            Ok(read) => read,
            Err(Ending::MemoryLimit) => {
                Err(HeadError::cut_short(Reason::LimitReached, admit::SHORT_OF_MEMORY, bytes, &place))
            }
            Err(ending) => return Some(End::Ended(ending)),
        };
        // Taken after the head was read: the tunnel may have been open since before a reload.
        let snapshot = shared.snapshot();
        let asks = match &read {
            Ok(Some(head)) => Asks::of(head),
            Ok(None) => return Some(End::Ended(Ending::ClientClosed)),
            Err(HeadError::Refused(refused)) => Asks::of_refused(refused),
            Err(HeadError::Gone) => Asks::default(),
        };
        let of = (self.opened, self.within.live.tunnel());
        let request = Request::within(of, &snapshot.config, self.accepted_by, shared, asks);
        let counted = admit::within_rate(&request, &snapshot.config, shared);
        let head = match read {
            Ok(Some(head)) => head,
            Ok(None) | Err(HeadError::Gone) => {
                request.gone();
                return Some(End::Ended(Ending::ClientClosed));
            }
            Err(HeadError::Refused(refused)) => {
                let body = refused.method != Some(http::Method::HEAD);
                let refused = Refused::new(refused.reason, refused.detail);
                return Some(match counted.and_then(|()| admit::recordable(&request)) {
                    Ok(()) => {
                        log_refusal(&request, refused.reason, &refused.advice);
                        refusal(request, refused, body)
                    }
                    Err(reason) => refusal(request, reason.into(), body),
                });
            }
        };
        let of_head = Lease::of(&holder, Kind::Head, head.cost() + request.kept_bytes());
        self.buffer.lease.set(self.buffer.bytes.capacity());
        self.keep = KeepAlive::new(snapshot.config.http.keepalive_timeout);
        let body = head.method != http::Method::HEAD;
        if let Err(reason) = admit::able(&request, shared) {
            return Some(refusal(request, reason.into(), body));
        }
        // It was proven for the CONNECT, before the last reload, or before the certificate expired.
        if let Err(lost) = identity(self.within.live, &snapshot.config) {
            log_refusal(&request, lost.reason, &lost.why);
            return Some(refusal(request, lost.into(), body));
        }
        if let Err(reason) = counted {
            return Some(refusal(request, reason.into(), body));
        }
        if admit::memory(&holder).await.is_err() {
            return Some(refusal(request, admit::short_of_memory(), body));
        }
        let request = match self.unless_upgraded(&head, request, &snapshot) {
            Ok(request) => request,
            Err(end) => return Some(end),
        };
        let Buffered { bytes, lease } = &mut self.buffer;
        let connection =
            Connection { stream: &mut self.client, buffer: bytes, lease, of_head, kept: &mut self.kept };
        let lent = Lent { within: self.within, allowance: &mut self.limits.upload, own: &mut self.own };
        let serving = exchange::serve(connection, head, request, snapshot, shared, self.keep, Some(lent));
        let after = Box::pin(serving).await;
        match after {
            After::NextHead => None,
            After::Refuse(request, refused) => Some(refusal(request, refused, body)),
            After::Close => Some(End::Answered(Ending::UpstreamClosed)),
            After::Told => Some(End::Answered(Ending::Refused)),
            After::Cut(ending) => Some(End::Cut(ending)),
            After::Gone(ending) => Some(End::Ended(ending)),
            After::Switched(exchange) => Some(match self.kept.switched() {
                Some(switched) => {
                    End::Switched { to_upstream: self.buffer.take(), switched: Box::new(switched), exchange }
                }
                None => End::Cut(Ending::InternalError),
            }),
        }
    }

    /// The request, unless it asks for an upgrade that report mode lets pass: only the first one may, over a connection
    /// that nothing was sent over. Any other is refused, or in report mode goes on without the upgrade, as it would
    /// outside a tunnel.
    fn unless_upgraded(
        &mut self,
        head: &Head,
        mut request: Request<'s>,
        snapshot: &Snapshot,
    ) -> Result<Request<'s>, End<'s>> {
        if !head.headers.contains_key(UPGRADE) || !self.own.as_ref().is_some_and(Own::carries_anything) {
            return Ok(request);
        }
        let wanted = wanted(head, Some(self.within));
        let decided = match decide::decide(wanted, &mut request, snapshot.clone()) {
            Ok(decided) => decided,
            Err(refused) => return Err(refusal(request, refused, head.method != http::Method::HEAD)),
        };
        // A WebSocket that a rule allows is served as one.
        let is_served = decided.permit.websocket && decided.permit.decision == Decision::Allow;
        let Some(own) = self.own.take_if(|_| !is_served) else { return Ok(request) };
        let reason = decided.permit.reason.unwrap_or(Reason::UpgradeNotAllowed);
        // As for a ClientHello that report mode lets pass: a newer policy must see it, or has seen it.
        let live = self.within.live;
        live.object(Reason::UpgradeNotAllowed);
        let judged = rejudge::still_allowed(live.tunnel(), &self.shared.current.load(), Timestamp::now());
        if let Err(objection) = judged {
            live.tunnel().revoke(&objection);
        }
        request.exchanged(None, None, None, &Meter::default());
        let mut to_upstream = as_it_came(head);
        to_upstream.unsplit(self.buffer.take());
        let early = Early { to_upstream, to_client: BytesMut::new() };
        Err(End::Anything { early, upstream: own.stream, reason })
    }
}

fn refusal<'s>(request: Request<'s>, refused: Refused, body: bool) -> End<'s> {
    End::Refused { request: Box::new(request), refused, body }
}
