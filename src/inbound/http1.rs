//! The loop over the request heads of one client's connection: each head passes [`admit`] and [`authenticate`]; then CONNECT
//! goes to [`tunnel`], every other method to [`exchange`], after which the next head is read.
//!
//! The order of the checks decides the reason that a client sees: the form of the head; the shutdown and the log's health; the
//! certificate of the connection, which may have been revoked or have expired; the password ([`authenticate`]); limits; then the target, in [`tunnel`] or [`exchange`]. CONNECT is served from the
//! head that the gate parsed and never reaches an HTTP server library. A library would read the same bytes a second
//! time: 10 to 14 us more CPU for a tunnel (measured against hyper's server behind the same gate) and three times the
//! code. hyper talks to the targets of plain HTTP, and serves the admin listener.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::config;
use crate::inbound::enter::UNDER_WAY;
use crate::inbound::place::Standing;
use crate::session::admit;
use crate::session::authenticate::{self, Unproven};
use crate::session::http::after::After;
use crate::session::http::exchange;
use crate::session::http::forward::{Connection, Kept};
use crate::session::refuse::unanswered::{Unanswered, answered_here};
use crate::session::refuse::{Refused, challenge, refuse, reply};
use crate::session::request::{Asks, Request};
use crate::session::tunnel::{self, Established};
use crate::state::listener::Listener;
use crate::state::proof::Proof;
use crate::state::shared::Shared;
use crate::telemetry::metrics::ConnectionResult;
use crate::transport::client_stream::ClientStream;
use crate::transport::close;
use crate::transport::heads::{HeadError, HeadLimits, read_head_at};
use crate::transport::held::read::{Buffered, read};
use crate::transport::held::{Holder, Kind, Lease};
use crate::transport::keep_alive::KeepAlive;
use crate::transport::stream::Transport;
use crate::wire::auth_scheme::AuthScheme;
use crate::wire::head::{Head, Place, RequestTarget, cut_short};
use crate::words::client::{Client, Protocol};
use crate::words::outcome::Reason;

/// 407s on one connection: git asks without credentials, then with them; a person may mistype once.
const CHALLENGES: u8 = 3;

/// What is known of a connection before its first head.
#[derive(Clone, Copy, Default)]
pub(crate) struct Begun {
    /// Of the first head, of which the beginning has been read.
    pub(crate) deadline: Option<Instant>,
    /// Its client does not know of the proxy.
    pub(crate) transparent: bool,
    /// The address that such a client asked for, if it was redirected.
    pub(crate) original: Option<SocketAddr>,
}

impl Begun {
    fn place(&self) -> &'static Place {
        if self.transparent { &Place::Transparent } else { &Place::Proxy }
    }

    fn tell(&self, request: &mut Request<'_>) {
        if self.transparent {
            request.comes_by(Protocol::Transparent);
            self.original.into_iter().for_each(|original| request.meant(original));
        }
    }
}

/// Serves one connection until it ends, or until it becomes a tunnel, which the caller then runs: everything that is
/// needed only before the tunnel is freed by then.
pub(crate) async fn serve<'s>(
    mut stream: ClientStream,
    mut buffer: BytesMut,
    mut lease: Lease,
    (client, connected_by, standing): (Client, Arc<Proof>, Standing),
    begun: Begun,
    listener: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
) -> Option<Established<'s>> {
    // What the connection proves; the password of a request adds to it.
    let connected = Arc::new(client);
    let mut client = Arc::clone(&connected);
    let mut proof = Arc::clone(&connected_by);
    let mut kept = Kept::default();
    let mut first = true;
    // After the first request: how long its connection was said to be kept.
    let mut keep = None;
    let mut challenges = 0;
    let mut unanswered: Option<Unanswered> = None;
    let holder = Arc::clone(lease.holder());
    let mut of_unanswered = Lease::new(&holder, Kind::Head);
    loop {
        let mut limits = head_limits(&shared.current.load().limits, standing);
        if let Some(deadline) = begun.deadline.filter(|_| first) {
            limits.timeout = deadline.saturating_duration_since(Instant::now());
        }
        if buffer.is_empty() {
            // A connection that waits for its next request holds no buffer.
            buffer = BytesMut::new();
        }
        lease.set(buffer.capacity());
        of_unanswered.set(unanswered.as_ref().map_or(0, Unanswered::kept_bytes));
        holder.waits();
        let read = {
            let reading = next_head(
                &mut stream,
                &mut buffer,
                &mut lease,
                &holder,
                (begun.place(), limits),
                keep,
                shared,
            );
            kept.during(pin!(reading)).await
        };
        let read = match read {
            Ok(Next::Head(head)) => Ok(*head),
            Ok(Next::Left) => {
                if first {
                    let is_ended = holder.cancel().ending().is_some();
                    let result = if is_ended { ConnectionResult::Limit } else { ConnectionResult::Probe };
                    listener.connections.count(result);
                }
                return None;
            }
            Ok(Next::Idle(reason)) => {
                close_idle(stream, reason, (&connected, &connected_by), begun, listener, shared).await;
                return None;
            }
            Err(error) => Err(error),
        };
        // Taken after the head was read: a connection may have been open since before a reload.
        let snapshot = shared.snapshot();
        let asks = match &read {
            Ok(head) => Asks::of(head),
            Err(HeadError::Refused(refused)) => Asks::of_refused(refused),
            Err(HeadError::Gone) => Asks::default(),
        };
        if first {
            listener.accepted(connected.peer);
            first = false;
        }
        let mut request = Request::new(shared, &snapshot.config, listener, (&connected, &connected_by), asks);
        begun.tell(&mut request);
        let head = match read {
            Ok(head) => head,
            Err(HeadError::Gone) => {
                request.gone();
                return None;
            }
            Err(HeadError::Refused(refused)) => {
                // The goodbye may take a second.
                drop((buffer, lease));
                let body = refused.method != Some(http::Method::HEAD);
                let mut refused = Refused::new(refused.reason, refused.detail);
                // Otherwise a client that sends malformed requests could fill the log at any rate.
                let counted = admit::within_rate(&request, &snapshot.config, shared);
                match counted.and_then(|()| admit::recordable(&request)) {
                    // No client shows the body of the reply, and one that speaks TLS or SOCKS cannot even read it.
                    Ok(()) => tracing::info!(
                        id = %request.id(), "listener {}: {} refused, {}: {}",
                        listener.name, connected.peer, refused.reason, refused.advice
                    ),
                    Err(reason) => refused = reason.into(),
                }
                refuse(stream, request, refused, body).await;
                return None;
            }
        };
        let mut of_head = Lease::of(&holder, Kind::Head, head.cost() + request.kept_bytes());
        lease.set(buffer.capacity());
        let kept_for = KeepAlive::new(snapshot.config.http.keepalive_timeout);
        keep = Some(kept_for);
        let body = head.method != http::Method::HEAD;
        if let Err(reason) = admit::able(&request, shared) {
            refuse(stream, request, reason.into(), body).await;
            return None;
        }
        // The handshake was before the last reload, or before the certificate expired. The client is closed without a reply, so
        // that it connects again: with a newer certificate, or to be told by TLS.
        if let Err(lost) = connected_by.certificate_still_accepted(&snapshot.config, Timestamp::now()) {
            tracing::info!(id = %request.id(), "listener {}: {} refused, {}: {lost}", listener.name, connected.peer, lost.reason);
            refuse(stream, request, lost.into(), body).await;
            return None;
        }
        let basic_auth = listener.settings(&snapshot.config).basic_auth.clone();
        if let Some(basic_auth) = basic_auth {
            if unanswered.is_none() && authenticate::scheme(&head) == Some(AuthScheme::Basic) {
                answered_here(&request);
            }
            let proven = authenticate::prove(
                &head,
                &basic_auth,
                (&connected, &connected_by),
                &mut stream,
                (&mut buffer, &mut lease),
                shared,
            );
            let proven = match Box::pin(proven).await {
                Ok(proven) => proven,
                Err(Unproven::Gone) => {
                    answered(&mut unanswered);
                    request.gone();
                    return None;
                }
                Err(Unproven::Refused(refused)) => {
                    challenges += 1;
                    // One record for all of its connection: that of the last 407.
                    if reply::status(refused.reason) == Some(407) {
                        let tried = unanswered.as_ref().and_then(Unanswered::scheme);
                        request.tried(authenticate::scheme(&head).or(tried));
                    }
                    answered(&mut unanswered);
                    let may_go_on = standing == Standing::Expected && challenges < CHALLENGES;
                    if may_go_on && may_ask_again(&head, &buffer, refused.reason) {
                        challenge(&mut stream, request, refused, body, kept_for, &mut unanswered).await?;
                        continue;
                    }
                    refuse(stream, request, refused, body).await;
                    return None;
                }
            };
            answered(&mut unanswered);
            if proven.client.identities != client.identities {
                // A connection to a target that one user's requests left open must not serve another user.
                kept = Kept::default();
                client = Arc::new(proven.client);
            }
            if !proof.has_same_user(&proven.proof) {
                proof = Arc::new(proven.proof);
            }
            request.known(Arc::clone(&client), Arc::clone(&proof));
            holder.is_for(snapshot.config.limits.client(client.address), client.identity());
        } else {
            // A reload may have taken the passwords away.
            answered(&mut unanswered);
            if client.identities != connected.identities {
                kept = Kept::default();
                let address = snapshot.config.limits.client(connected.address);
                holder.is_for(address, connected.identity());
            }
            client = Arc::clone(&connected);
            proof = Arc::clone(&connected_by);
        }
        if admit::memory(&holder).await.is_err() {
            refuse(stream, request, admit::short_of_memory(), body).await;
            return None;
        }
        let slot = match admit::take_slot(&request, &snapshot.config, shared) {
            Ok(slot) => slot,
            Err(reason) => {
                refuse(stream, request, reason.into(), body).await;
                return None;
            }
        };
        if let RequestTarget::Authority(target) = head.target {
            // The dial may take long.
            drop(head.headers);
            of_head.set(request.kept_bytes());
            return Box::pin(tunnel::establish(
                stream,
                Buffered { bytes: buffer, lease },
                target,
                request,
                slot,
                shared,
            ))
            .await;
        }
        let connection = Connection {
            stream: &mut stream,
            buffer: &mut buffer,
            lease: &mut lease,
            of_head,
            kept: &mut kept,
        };
        let after =
            Box::pin(exchange::serve(connection, head, request, snapshot, shared, kept_for, None)).await;
        match after {
            After::NextHead => drop(slot),
            After::Refuse(request, refused) => {
                drop((buffer, lease, kept));
                refuse(stream, request, refused, body).await;
                return None;
            }
            After::Close | After::Told | After::Switched(_) => {
                drop((buffer, lease, kept));
                close::linger(stream).await;
                return None;
            }
            After::Cut(_) => {
                // If that cannot be set, the connection is gone already.
                let _ = stream.socket().set_zero_linger();
                return None;
            }
            After::Gone(_) => return None,
        }
    }
}

/// What a connection brings next.
enum Next {
    /// Boxed: most of the time a connection waits for it.
    Head(Box<Head>),
    /// The client left, or sent nothing on a new connection: it gets no answer.
    Left,
    /// It sent no further request for as long as its connection is kept, or before the drain.
    Idle(Reason),
}

/// Waits for a client's request, and reads its head. `keep` is `None` on a new connection.
async fn next_head(
    stream: &mut ClientStream,
    buffer: &mut BytesMut,
    lease: &mut Lease,
    holder: &Holder,
    (place, limits): (&Place, HeadLimits),
    keep: Option<KeepAlive>,
    shared: &Shared,
) -> Result<Next, HeadError> {
    let mut deadline = tokio::time::Instant::now() + limits.timeout;
    if buffer.is_empty() {
        let idle_until = keep.map_or(deadline, |keep| tokio::time::Instant::now() + keep.held());
        let begun = tokio::select! {
            biased;
            begun = timeout_at(idle_until, read(stream, buffer, lease)) => begun,
            () = holder.given_up() => return Ok(Next::Left),
            // A request that has begun is waited for; one that has not is not. On a new connection it may be on its
            // way.
            () = shared.drain.closed_for(if keep.is_none() { UNDER_WAY } else { Duration::ZERO }) => {
                return Ok(if keep.is_none() { Next::Left } else { Next::Idle(Reason::Draining) });
            }
        };
        match begun {
            Ok(Ok(1..)) => {}
            Err(_) if keep.is_some() => return Ok(Next::Idle(Reason::HeadTimeout)),
            Ok(Ok(0) | Err(_)) | Err(_) => return Ok(Next::Left),
        }
        if keep.is_some() {
            // The time that a kept connection was idle does not count for the next request.
            deadline = tokio::time::Instant::now() + limits.timeout;
        }
    }
    holder.moves();
    let left = HeadLimits { timeout: deadline.duration_since(tokio::time::Instant::now()), ..limits };
    let read = tokio::select! {
        biased;
        read = read_head_at(place, stream, buffer, lease, &left) => Ok(read),
        () = shared.drain.ended() => Err((Reason::Draining, reply::advice(Reason::Draining))),
        () = holder.given_up() => Err((Reason::LimitReached, admit::SHORT_OF_MEMORY)),
    };
    let read =
        read.unwrap_or_else(|(reason, advice)| Err(HeadError::cut_short(reason, advice, buffer, place)))?;
    Ok(read.map_or(Next::Left, |head| Next::Head(Box::new(head))))
}

/// Closes a kept connection on which no request came. One that is on its way just now crosses the close: its client cannot be
/// answered any more, but it sees our FIN without a byte of a response, and never a reset. Such a request is not run, and is
/// recorded without a status.
///
/// No 408 is sent before the close, which would tell the same in words: many clients take an answer that they find on a
/// kept connection for that to their next request, and would fail where they now try again.
async fn close_idle(
    stream: ClientStream,
    reason: Reason,
    (client, proof): (&Arc<Client>, &Arc<Proof>),
    begun: Begun,
    listener: &Arc<Listener>,
    shared: &Arc<Shared>,
) {
    let crossed = close::linger_reading(stream, close::MOST_CROSSED).await;
    if crossed.is_empty() {
        return;
    }
    let detail =
        "the request came while its connection, which had been idle, was being closed: it was not run";
    let asks = Asks::of_refused(&cut_short(reason, detail, &crossed, begun.place()));
    let mut request = Request::new(shared, &shared.current.load(), listener, (client, proof), asks);
    begun.tell(&mut request);
    tracing::info!(id = %request.id(), "listener {}: {} refused, {reason}: {detail}", listener.name, client.peer);
    request.refuse(reason);
}

fn head_limits(limits: &config::Limits, standing: Standing) -> HeadLimits {
    HeadLimits { bytes: limits.head_bytes, timeout: standing.within(limits.head_timeout) }
}

/// The last 407 needs no record any more.
fn answered(unanswered: &mut Option<Unanswered>) {
    if let Some(unanswered) = unanswered.take() {
        unanswered.answered();
    }
}

/// Whether the next head on the connection begins where this one ends, so that it can be read.
fn may_ask_again(head: &Head, buffer: &BytesMut, reason: Reason) -> bool {
    // A client that did not wait for the 200 has sent the tunnel's bytes: no head follows.
    let is_in_order = head.method != http::Method::CONNECT || buffer.is_empty();
    reply::status(reason) == Some(407) && head.keep_alive && !head.framing.has_body() && is_in_order
}
