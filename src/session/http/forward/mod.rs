//! Moves the bytes of one permitted HTTP exchange: the request goes to the target in origin-form, or unchanged to the
//! parent proxy; its response comes back; both bodies are streamed. A connection to the target is kept for the client's
//! next request ([`Kept`]).
//!
//! The client's side is written here and not by an HTTP server library. The strict grammar ([`crate::wire::head`]) has already
//! checked the head and follows the body, so a server would only read the same bytes a second time. It would also take
//! over what belongs to the two ends: `100 Continue` and `103 Early Hints` are the origin's to send (RFC 9110 §10.1.1,
//! RFC 8297), not ours. Towards the target we use hyper's client, which reads the responses of untrusted servers.
//!
//! - [`rewrite`] says what is removed from either head.
//! - [`upload`] moves the request body, then watches whether the client leaves.
//! - [`download`] writes the response.
//! - [`driven`] lets hyper's side of the connection to the target go on within the same task.
//!
//! Not here: whether the request is allowed, the lookup and the dial (`open` is an argument), the reply to a refusal
//! and the record ([`Outcome`] says what they contain). No cache, no upgrade, no second address after a connection
//! stands.
//!
//! A client that shuts down its side before the response has ended is treated as having left, as in Squid: otherwise
//! an interrupted `curl` would keep the target busy until the timeout.

mod download;
mod driven;
mod halves;
mod informational;
mod look;
mod outcome;
mod rewrite;
mod terms;
#[cfg(test)]
mod tests;
mod track;
mod upload;
mod written;

use std::borrow::Cow;
use std::future::{Future, poll_fn, ready};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::state::limits::kept::KeptPlace;
use crate::transport::allowance::Allowance;
use crate::transport::held::{Kind, Lease, Told};
use crate::transport::response_buffer::ResponseBuffer;
use crate::transport::stream::Transport;
use crate::transport::target_io::TargetIo;
use crate::transport::target_stream::UpstreamStream;
use crate::wire::head::{Framing, Head, slots};
use crate::words::outcome::{Ending, Reason};
use crate::words::target::Target;
use download::{Failure, Then};
use driven::Driven;
use halves::Halves;
use informational::Informing;
use outcome::Break;
pub use outcome::{Finish, Outcome};
use rewrite::Nominated;
pub use terms::{Addresses, PermittedBy, Terms};
use track::Track;
use upload::{Sending, Sent, UploadBody};
use written::RESPONSE_BUFFER;

/// What a connection to a target costs by being open: hyper's state with its queue of requests (8.5 KiB) and its two first buffers
/// (8 KiB each), the socket, and what the kernel has for it (4 KiB).
const UPSTREAM: usize = 32 * 1024;
/// hyper's first buffer for what it writes, which is part of [`UPSTREAM`].
const FIRST_WRITE: usize = 8 * 1024;

/// One client's connection, as far as an exchange uses it. Bytes after the request stay in `buffer`.
#[derive(Debug)]
pub struct Connection<'a, S> {
    /// After the head and the content of `buffer`.
    pub stream: &'a mut S,
    /// As [`read_head`](crate::transport::heads::read_head) left it.
    pub buffer: &'a mut BytesMut,
    /// Covers `buffer`.
    pub lease: &'a mut Lease,
    /// Covers the head; once that is sent, what is left of it.
    pub of_head: Lease,
    /// From earlier exchanges on this connection.
    pub kept: &'a mut Kept,
}

/// What earlier exchanges on a client's connection left: the connection to the target that the last one left open, above all. It
/// belongs to one client connection: no client ever uses another client's.
#[derive(Debug, Default)]
pub struct Kept {
    left: Left,
    /// How often the client was asked for credentials.
    asked: u8,
    /// What its socket was told that it may hold.
    told: Told,
}

/// So often a client is asked for credentials on one connection, as for those of egressd.
const MOST_ASKED: u8 = 3;

#[derive(Debug, Default)]
enum Left {
    #[default]
    Nothing,
    /// It may serve another request.
    Open {
        upstream: Box<Upstream>,
        _place: KeptPlace,
        /// When the last exchange ended.
        since: Instant,
    },
    /// It is no longer HTTP.
    Switched(Switched),
}

/// A connection to a target that is a WebSocket.
#[derive(Debug)]
pub struct Switched {
    /// The connection.
    pub stream: TargetIo,
    /// What the target sent after the head of its `101`.
    pub early: BytesMut,
    /// Of what it costs by being open.
    pub lease: Lease,
}

/// A request that must not be sent twice goes over a kept connection only if that was idle for less: servers close after five
/// seconds and more, and what crosses the close is lost.
const FRESH: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Upstream {
    permitted_by: PermittedBy,
    target: Target,
    sender: http1::SendRequest<UploadBody>,
    addresses: Addresses,
    socket: Option<Arc<TcpStream>>,
    buffer: Arc<ResponseBuffer>,
    /// Of what the connection costs while nothing moves: hyper's buffer for heads stays as large as the largest one made it.
    lease: Lease,
    /// What its socket was told that it may hold.
    told: Told,
    /// Dropping the upstream ends its connection in any state.
    connection: Driven,
}

/// Why a request is not begun: its head, plus its length if one is given, exceeds the allowance. If a request cannot
/// be sent whole, not one byte of it leaves.
pub fn unaffordable(head: &Head, allowance: &Allowance) -> Option<Reason> {
    allowance.refuses(length(head))
}

/// The bytes of the request, as far as its head tells.
pub fn length(head: &Head) -> u64 {
    let content = match head.framing {
        Framing::Length(length) => length,
        Framing::None | Framing::Chunked => 0,
    };
    content.saturating_add(head.bytes as u64)
}

/// Forwards the request that `head` begins; `headers` are its fields, taken out of it. `allowance` is for head and body as they
/// are on the wire. `open` returns a connection to the head's target, or to the parent proxy. It is called at most once, and not at
/// all if a kept connection serves. `stop` ends the exchange from outside (a drain, a revoked policy).
///
/// At most one piece of a body is buffered in each direction: a slow reader slows the sender. If the future is
/// dropped, both connections must be closed.
pub async fn exchange<S, O>(
    connection: Connection<'_, S>,
    head: &Head,
    headers: HeaderMap,
    terms: &Terms<'_>,
    allowance: &mut Allowance,
    open: O,
    stop: impl Future<Output = Ending>,
) -> Outcome
where
    S: Transport,
    O: AsyncFnOnce() -> Result<UpstreamStream, Reason>,
{
    let Connection { stream, buffer, lease, of_head, kept } = connection;
    let holder = Arc::clone(lease.holder());
    let track = Track::new(head, terms, &holder);
    // Where it is not granted, the next lines say so.
    let _ = allowance.secure(head.bytes).await;
    if let Some(reason) = unaffordable(head, allowance) {
        return outcome(&track, Break::Spent(reason).finish(false), false);
    }
    if allowance.take(head.bytes) < head.bytes {
        // Another request has just used the rest of the budget.
        let reason = allowance.refuses(1).unwrap_or(Reason::UploadBudget);
        return outcome(&track, Break::Spent(reason).finish(false), false);
    }

    track.told().tell(kept.told, stream.socket());
    let halves = Halves::new(stream);
    let mut writer = &halves;
    let (parts, body) = match terms.changes.content() {
        Some(content) => (None, UploadBody::whole(content.clone())),
        None => UploadBody::new(head.framing),
    };
    let nominated = Nominated::by(&headers);
    let sending = Sending { framing: head.framing, nominated: &nominated };
    let rewritten =
        rewrite::request(head, headers, terms.remove_request_headers, terms.parent, terms.changes);
    let (finish, keep_alive) = {
        let mut upload = Box::pin(upload::upload(
            &halves,
            Sent { buffer, lease, bulk: false },
            (&sending, terms.changes),
            parts,
            &track,
            allowance,
        ));
        let mut download =
            Box::pin(request((head, rewritten, of_head), body, kept, open, &mut writer, &track, terms));
        let both = pin!(async {
            tokio::select! {
                biased;
                done = &mut download => done,
                end = &mut upload => (end.finish(track.status().is_some()), false),
            }
        });
        let moving = pin!(driven::at_once(both, || track.may_go_on()));
        let done = look::in_turns((&halves, &track), moving, pin!(stop)).await;
        done.unwrap_or_else(|broken| (broken, false))
    };
    kept.told = track.told();
    if matches!(finish, Finish::Broken { ending: Ending::MemoryLimit, .. }) {
        // An orderly close would leave what the target does not read with the kernel.
        track.target(|socket| usize::from(socket.set_zero_linger().is_err()));
    }
    let finish = match finish {
        // A response head is on its way: no second reply may follow, whatever failed.
        Finish::Refused { reason, .. } if track.status().is_some() => {
            Finish::Broken { ending: Ending::ClientClosed, reason: Some(reason) }
        }
        finish => finish,
    };
    outcome(&track, finish, keep_alive)
}

fn outcome(track: &Track<'_>, finish: Finish, keep_alive: bool) -> Outcome {
    let (addresses, content_type) = (track.addresses(), track.content_type());
    Outcome { status: track.status(), finish, keep_alive, addresses, content_type }
}

/// Sends the request and writes the response, over a kept connection or a new one.
async fn request<W, O>(
    (head, mut rewritten, mut of_head): (&Head, Request<()>, Lease),
    body: UploadBody,
    kept: &mut Kept,
    open: O,
    client: &mut W,
    track: &Track<'_>,
    terms: &Terms<'_>,
) -> (Finish, bool)
where
    W: AsyncWrite + Unpin,
    O: AsyncFnOnce() -> Result<UpstreamStream, Reason>,
{
    // A kept connection may be closing just now, and then the request is sent twice: only requests for which that is
    // safe. Inside an inspected tunnel, where a new connection costs a handshake, others go over it, too, while it is fresh: if it
    // was closing, the client sees what it would have seen without us, a connection that closed before the answer.
    let is_repeatable = repeatable(head);
    let mut body = Some(body);
    kept.look().await;
    if (is_repeatable || terms.changes.inspected)
        && let Some(upstream) = kept.take(head, terms, is_repeatable)
    {
        track.reaches(upstream.socket.as_ref());
        track.target(|socket| track.told().tell(upstream.told, socket));
        track.opened(upstream.addresses);
        let content =
            if is_repeatable { UploadBody::empty() } else { body.take().unwrap_or_else(UploadBody::empty) };
        let sent = if is_repeatable { rewritten.clone() } else { std::mem::take(&mut rewritten) };
        let sent = sent.map(|()| content);
        let (result, upstream) = Box::pin(attempt(upstream, (head, sent), client, track, terms)).await;
        match result {
            Err(Failure::Upstream { stale: true, .. }) if is_repeatable => track.opening(),
            Err(Failure::Upstream { stale: true, .. }) => {
                return (Finish::Broken { ending: Ending::UpstreamClosed, reason: None }, false);
            }
            result => return kept.settle(result, upstream, terms),
        }
    }
    kept.left = Left::Nothing;
    let body = body.unwrap_or_else(UploadBody::empty);
    let stream = match open().await {
        Ok(stream) => stream,
        Err(reason) => return (Finish::Refused { reason, detail: Cow::Borrowed("") }, false),
    };
    let upstream = match Upstream::new(stream, head, track, terms).await {
        Ok(upstream) => Box::new(upstream),
        Err(failure) => return (failure.into(), false),
    };
    track.reaches(upstream.socket.as_ref());
    // From here on the request is hyper's, which writes it and frees it. What is left is the target, which is judged again after a
    // reload, and the places of the fields, which hyper keeps for those of the response.
    of_head.set(of_head.bytes().min(path_of(&rewritten).len() + slots(rewritten.headers())));
    track.opened(upstream.addresses);
    let sent = rewritten.map(|()| body);
    let (result, upstream) = Box::pin(attempt(upstream, (head, sent), client, track, terms)).await;
    kept.settle(result, upstream, terms)
}

/// Without a body and idempotent by definition (RFC 9110 §9.2.2).
fn repeatable(head: &Head) -> bool {
    use http::Method;
    head.framing == Framing::None && [Method::GET, Method::HEAD, Method::OPTIONS].contains(&head.method)
}

async fn attempt<W: AsyncWrite + Unpin>(
    mut upstream: Box<Upstream>,
    (head, mut request): (&Head, Request<UploadBody>),
    client: &mut W,
    track: &Track<'_>,
    terms: &Terms<'_>,
) -> (Result<Then, Failure>, Box<Upstream>) {
    let (informing, told) = Informing::new(&upstream.buffer, track.holder(), terms.changes.answers());
    hyper::ext::on_informational(&mut request, move |response| {
        informing.tell(response.status(), response.headers());
    });
    upstream.buffer.awaits_head();
    upstream.writes(path_of(&request).len() + written::size(request.headers()));
    let sending = upstream.sender.send_request(request);
    let downloading = download::download(sending, told, &upstream.buffer, head, client, track, terms);
    let result = upstream.connection.during(Box::pin(downloading).as_mut(), || track.may_go_on()).await;
    upstream.told = track.told();
    (result, upstream)
}

fn path_of<B>(request: &Request<B>) -> &str {
    request.uri().path_and_query().map_or("", PathAndQuery::as_str)
}

impl Kept {
    /// The address of the connection that may serve `target` under `permitted_by`; a connection that may not is
    /// closed.
    pub fn for_target(&mut self, target: &Target, permitted_by: &PermittedBy) -> Option<SocketAddr> {
        match &self.left {
            Left::Open { upstream, .. } if upstream.may_serve(target, permitted_by) => {
                Some(upstream.addresses.upstream)
            }
            _ => {
                self.left = Left::Nothing;
                None
            }
        }
    }

    /// Whether the client may be asked for the target's credentials once more; it is asked then.
    pub(crate) fn may_ask(&mut self) -> bool {
        self.asked = self.asked.saturating_add(1);
        self.asked <= MOST_ASKED
    }

    /// Waits for `future`, and meanwhile notices if the target closes: the connection is then closed here, too.
    pub(crate) async fn during<F: Future>(&mut self, mut future: Pin<&mut F>) -> F::Output {
        if !matches!(self.left, Left::Open { .. }) {
            return future.await;
        }
        poll_fn(|cx| {
            if let Left::Open { upstream, .. } = &mut self.left {
                upstream.connection.go_on(cx);
                if !upstream.connection.is_open() {
                    self.left = Left::Nothing;
                }
            }
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Notices what the target has done meanwhile.
    async fn look(&mut self) {
        self.during(pin!(ready(()))).await;
    }

    /// Both ends of the connection that may serve a request with a body.
    pub(crate) async fn for_body(&mut self) -> Option<Addresses> {
        self.look().await;
        match &self.left {
            Left::Open { upstream, since, .. } if since.elapsed() < FRESH && upstream.sender.is_ready() => {
                Some(upstream.addresses)
            }
            _ => None,
        }
    }

    /// The connection that became a WebSocket.
    pub(crate) fn switched(&mut self) -> Option<Switched> {
        match std::mem::take(&mut self.left) {
            Left::Switched(switched) => Some(switched),
            Left::Open { .. } | Left::Nothing => None,
        }
    }

    fn take(&mut self, head: &Head, terms: &Terms<'_>, is_repeatable: bool) -> Option<Box<Upstream>> {
        // Its place is free from here on: the request has one for its connection.
        let Left::Open { upstream, since, .. } = std::mem::take(&mut self.left) else { return None };
        let serves = upstream.may_serve(head.target.target(), &terms.permitted_by)
            && upstream.sender.is_ready()
            && (is_repeatable || since.elapsed() < FRESH);
        serves.then_some(upstream)
    }

    /// Keeps the connection to the target if the client's goes on, too: then both request and response were complete.
    /// Whether the target keeps it open shows when it is used again. Without a place for it, it is closed.
    fn settle(
        &mut self,
        result: Result<Then, Failure>,
        upstream: Box<Upstream>,
        terms: &Terms<'_>,
    ) -> (Finish, bool) {
        match result {
            Ok(Then::GoOn) => {
                if let Some(place) = (terms.keep_upstream)() {
                    let since = Instant::now();
                    self.left = Left::Open { upstream, _place: place, since };
                }
                (Finish::Complete, true)
            }
            Ok(Then::Close) => (Finish::Complete, false),
            Ok(Then::Switch(upgraded)) => match upgraded.downcast::<TokioIo<TargetIo>>() {
                Ok(parts) => {
                    let (stream, early) = (parts.io.into_inner(), BytesMut::from(parts.read_buf));
                    self.left = Left::Switched(Switched { stream, early, lease: upstream.lease });
                    (Finish::Switched, false)
                }
                // It is what was given to hyper.
                Err(_) => (Finish::Broken { ending: Ending::InternalError, reason: None }, false),
            },
            Err(failure) => (failure.into(), false),
        }
    }
}

impl Upstream {
    /// A head of about so many bytes is written: hyper's buffer grows to twice the size when it is full, and stays as large.
    fn writes(&mut self, bytes: usize) {
        if bytes > FIRST_WRITE {
            self.lease.set(self.lease.bytes().max(UPSTREAM + 2 * bytes - FIRST_WRITE));
        }
    }

    fn may_serve(&self, target: &Target, permitted_by: &PermittedBy) -> bool {
        self.permitted_by == *permitted_by && self.target == *target
    }

    async fn new(
        stream: UpstreamStream,
        head: &Head,
        track: &Track<'_>,
        terms: &Terms<'_>,
    ) -> Result<Self, Failure> {
        let socket = stream.socket();
        let addresses = socket
            .peer_addr()
            .and_then(|upstream| Ok(Addresses { upstream, local: socket.local_addr()? }))
            .map_err(|_| Failure::upstream("the target closed the connection before it was asked"))?;
        // Requests and small chunks are sent as they come; if this fails, it only costs time.
        let _ = socket.set_nodelay(true);
        track.told().tell(Told::default(), socket);
        let buffer = ResponseBuffer::new(track.holder(), RESPONSE_BUFFER);
        let (stream, socket) = TargetIo::new(stream, Arc::clone(&buffer));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_BUFFER)
            .max_header_size(RESPONSE_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Failure::upstream("the target closed the connection before it was asked"))?;
        Ok(Upstream {
            permitted_by: terms.permitted_by.clone(),
            target: head.target.target().clone(),
            sender,
            addresses,
            socket,
            buffer,
            lease: Lease::of(track.holder(), Kind::Body, UPSTREAM),
            told: track.told(),
            connection: Driven::new(connection.with_upgrades()),
        })
    }
}
