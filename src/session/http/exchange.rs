//! Serves one plain HTTP request, from its head to its record: decide, register, dial, forward, record.
//!
//! Decides, as [`crate::session::tunnel`] does for CONNECT, and hands permitted requests to
//! [`crate::session::http::forward`]. The connection to the client may go on afterwards: each request on it is judged
//! separately, and while one is in progress a reload judges it again, as it does with a tunnel.

use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use http::HeaderValue;
use http::uri::PathAndQuery;
use jiff::Timestamp;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until};

use crate::outbound::dial::DialLimits;
use crate::outbound::route::{Dialling, Route};
use crate::rules::{HttpRequest, Mode, Upgrade};
use crate::session::admit;
use crate::session::decide::{self, Decided, Wanted};
use crate::session::http::changes::Changes;
use crate::session::http::forward::{self, Addresses, Connection, Finish, Outcome, Terms};
use crate::session::refuse::Refused;
use crate::session::request::Request;
use crate::state::limits::kept::KeptPlace;
use crate::state::live::{Asked, ExchangeFacts, Generation, LiveExchange, LiveTunnel, rejudge};
use crate::state::shared::{Shared, Snapshot};
use crate::transport::allowance::Allowance;
use crate::transport::held::{Kind, Lease};
use crate::transport::keep_alive::KeepAlive;
use crate::transport::meter::Meter;
use crate::transport::socket;
use crate::transport::stream::Transport;
use crate::transport::target_stream::UpstreamStream;
use crate::wire::head::{Head, RequestTarget};
use crate::words::outcome::{Ending, Reason};
use crate::words::target::Target;

/// What an exchange costs while it is under way, in addition to its connections and its head; and what its record will say, which is
/// kept longer than the head.
const EXCHANGE: usize = 12 * 1024;

/// What happens to the client's connection after an exchange. The code that reads heads owns the connection, and does
/// it.
pub(crate) enum After<'s> {
    /// The next head may be read.
    NextHead,
    /// Close it so that the response arrives.
    Close,
    /// Cut it: a response that was broken off must not look complete.
    Cut(Ending),
    /// It is useless now: the client left.
    Gone(Ending),
    /// Refuse the client.
    Refuse(Request<'s>, Refused),
    /// What follows is a WebSocket, over the connection that [`Kept::switched`](forward::Kept::switched) gives. The exchange stays
    /// in the registry as long as it lasts.
    Switched(Box<LiveExchange>),
}

/// The tunnel that requests come in: what they have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within<'t> {
    /// The target of the CONNECT. Each request is decided as the CONNECT was, by what is in force now.
    pub(crate) target: &'t Target,
    /// The tunnel in the registry: what ends it ends the request that is under way.
    pub(crate) live: &'t LiveTunnel,
    /// When the tunnel ends at the latest.
    pub(crate) deadline: Option<Instant>,
}

/// What a request gets from its tunnel.
#[derive(Debug)]
pub(crate) struct Lent<'t> {
    pub(crate) within: Within<'t>,
    /// What the tunnel may still send.
    pub(crate) allowance: &'t mut Allowance,
    /// The connection that was dialled before the `200`; only for the first request.
    pub(crate) own: Option<Own>,
}

/// A connection to the target for the first request in a tunnel.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) stream: UpstreamStream,
    /// Its other end.
    pub(crate) upstream: SocketAddr,
    /// The way that it was made.
    pub(crate) route: Arc<Route>,
    /// What it was made for.
    pub(crate) carries: Carries,
    /// The configuration that admitted its address: as for [`Kept`](forward::Kept), it serves under no other.
    pub(crate) generation: Generation,
}

/// What a connection to a tunnel's target is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carries {
    /// Whatever the client sends.
    Anything,
    /// Plain requests and nothing else: to a parent, that is another connection.
    Requests,
    /// Requests inside TLS, which is open.
    Tls,
}

impl Own {
    fn may_serve(&self, decided: &Decided, route: &Arc<Route>) -> bool {
        let fits = self.route.parent().is_none() || self.carries != Carries::Anything;
        fits && self.generation == decided.snapshot.generation && Arc::ptr_eq(&self.route, route)
    }

    /// Whether the target has not ended it since: it may have waited long for the first request. Of a connection whose bytes are
    /// not read here, that shows when it is used.
    async fn is_open(&mut self) -> bool {
        if self.carries != Carries::Tls {
            return true;
        }
        // A target that speaks before it is asked is not waited for either.
        let mut byte = [0];
        poll_fn(|cx| {
            Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending())
        })
        .await
    }

    /// Whether it leads to the target whatever is sent over it.
    pub(crate) fn carries_anything(&self) -> bool {
        match self.carries {
            Carries::Anything => true,
            Carries::Requests => self.route.parent().is_none(),
            Carries::Tls => false,
        }
    }
}

impl Within<'_> {
    /// Waits for the end of the tunnel.
    pub(crate) async fn ended(&self) -> Ending {
        let too_old = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            ending = self.live.cancel().cancelled() => ending,
            () = too_old => Ending::MaxLifetime,
        }
    }
}

/// Serves one exchange over `connection`, whatever that is and whatever reads its heads. Everything is recorded except
/// a refusal. `keep`: how long the connection is kept for the next request. `lent`: by the tunnel that the request comes
/// in, if it comes in one.
pub(crate) async fn serve<'s, S>(
    connection: Connection<'_, S>,
    mut head: Head,
    mut request: Request<'s>,
    snapshot: Snapshot,
    shared: &Shared,
    keep: KeepAlive,
    lent: Option<Lent<'_>>,
) -> After<'s>
where
    S: Transport,
{
    let within = lent.as_ref().map(|lent| lent.within);
    let inspected = within.is_some_and(|within| within.live.tunnel().facts.inspected);
    let wanted = wanted(&head, within);
    let upgrade = wanted.http.map(|http| http.upgrade).unwrap_or_default();
    let meter = Arc::new(Meter::default());
    let holder = Arc::clone(connection.lease.holder());
    let _of_exchange = Lease::of(&holder, Kind::Body, EXCHANGE + request.kept_bytes());
    // The bytes of a tunnel are counted once, in the tunnel's entry of the registry.
    let counted = if within.is_some() { Arc::default() } else { Arc::clone(&meter) };
    let (route, resolver) = (shared.route(), shared.resolver());
    let enter = |decided: &Decided, request: &Request<'_>| {
        let Decided { permit, snapshot } = decided;
        let permitted_by = (Arc::clone(&permit.policy), snapshot.generation);
        let kept = connection.kept.for_target(head.target.target(), &permitted_by);
        let facts = ExchangeFacts {
            client: Arc::clone(request.client()),
            proof: Arc::clone(request.proof()),
            target: wanted.target.clone(),
            policy: Arc::clone(&permit.policy),
            by_parent: route.parent().is_some(),
            asks: asked(&head, wanted.http.as_ref()),
        };
        let address = kept.map(|kept| kept.ip());
        shared.live.register_exchange(facts, Arc::clone(&counted), address, snapshot.generation)
    };
    // A kept connection serves only under the configuration that opened it, so its address need not be admitted again.
    let registered = decide::decide(wanted, &mut request, snapshot)
        .and_then(|decided| decide::register(decided, wanted, &mut request, shared, enter, |_| None));
    let (Decided { permit, snapshot }, live) = match registered {
        Ok(registered) => registered,
        Err(refused) => return After::Refuse(request, refused),
    };
    let client = request.account(&snapshot.config);
    let mut alone;
    let (allowance, own) = match lent {
        // The limits are those of the whole tunnel.
        Some(lent) => (lent.allowance, lent.own),
        None => match shared.budgets.open(client, &permit) {
            Ok(opened) => {
                alone = opened;
                (&mut alone, None)
            }
            Err(reason) => return After::Refuse(request, reason.into()),
        },
    };
    if let Some(reason) = forward::unaffordable(&head, allowance) {
        return After::Refuse(request, reason.into());
    }
    let mut changes = Changes::by(&permit, &head, inspected);
    if let Some(advice) = changes.refuse(&head) {
        if permit.mode != Mode::Report {
            return After::Refuse(request, Refused { reason: Reason::RequestNotAllowed, advice });
        }
        request.would_deny(Reason::RequestNotAllowed);
        changes.lend_nothing();
    }
    request.metered(&meter);
    // They leave with the request.
    let headers = std::mem::take(&mut head.headers);
    let wanted = wanted_with(&head, upgrade, within);
    let has_content = head.framing.may_have_content();
    let mut begun = false;
    if let Some(Addresses { upstream, local }) =
        connection.kept.for_body().filter(|_| inspected && has_content)
    {
        // As below: the body may be about to pass.
        request.reached(upstream, local);
        if request.begin().is_err() {
            return After::Refuse(request, Reason::LogUnavailable.into());
        }
        begun = true;
    }
    // Copied, so that an exchange of hours does not keep an old policy in memory.
    let Snapshot { generation, config } = snapshot;
    let settings = config.http.clone();
    let limits =
        DialLimits { dns_timeout: config.dns.timeout, connect_timeout: config.tunnel.connect_timeout };
    drop(config);
    let mut dialled = false;
    let mut overtaken = None;
    let keep_upstream = || match within {
        Some(_) => Some(KeptPlace::of_a_tunnel()),
        None => shared.kept.keep(client),
    };
    let outcome = {
        let id = request.id().to_string();
        // While egressd drains no connection is kept.
        let keep = || (!shared.drain.is_closed()).then_some(keep);
        let terms = Terms {
            permitted_by: (Arc::clone(&permit.policy), generation),
            keep_upstream: &keep_upstream,
            // Inside TLS there is nobody but the target.
            parent: route.parent().filter(|_| !inspected),
            remove_request_headers: if inspected { &[] } else { &settings.remove_request_headers },
            changes: &changes,
            response_timeout: settings.response_timeout,
            stall_timeout: settings.stall_timeout,
            keep: &keep,
            request_id: &id,
            meter: &meter,
            tunnel: within.map(|within| within.live.meter()),
        };
        let tunnel_ended = async {
            match within {
                Some(within) => within.ended().await,
                None => pending().await,
            }
        };
        let stop = async {
            tokio::select! {
                () = shared.drain.ended() => Ending::Drained,
                ending = live.cancelled() => ending,
                ending = tunnel_ended => ending,
                () = holder.given_up() => Ending::MemoryLimit,
            }
        };
        let open = async || {
            let dialling = Dialling { resolver: &resolver, client, own: &shared.own, limits };
            // A reload may have come since the decision: the newer rules have to permit it too.
            let decided = match decide::confirm(wanted, &mut request, shared) {
                Ok(decided) => decided,
                Err(refused) => return Err(overtaken.insert(refused).reason),
            };
            let mut own = own.filter(|own| own.may_serve(&decided, &route));
            if let Some(waiting) = &mut own
                && !waiting.is_open().await
            {
                own = None;
            }
            let opened = match own {
                Some(own) => {
                    reached(own.upstream, &decided, &live, shared)?;
                    ready(&own.stream);
                    own.stream
                }
                None => {
                    dialled = true;
                    let over = if inspected { Carries::Tls } else { Carries::Requests };
                    dial(dialling, &route, (wanted, over), &decided, &live, &mut request, shared).await?
                }
            };
            if has_content && !begun {
                // The body is about to pass: its record comes first.
                request.begin().map_err(|_| Reason::LogUnavailable)?;
            }
            Ok(opened)
        };
        Box::pin(forward::exchange(connection, &head, headers, &terms, allowance, open, stop)).await
    };
    let of_tunnel = within.and_then(|within| within.live.tunnel().revoked());
    let revoked = live.exchange().revoked().or(of_tunnel);
    let Outcome { status, finish, keep_alive, addresses, content_type } = outcome;
    request.typed(content_type);
    if let (false, Some(Addresses { upstream, local })) = (dialled, addresses) {
        request.reached(upstream, local);
    }
    match finish {
        Finish::Complete => {
            request.exchanged(status, None, None, &meter);
            if keep_alive { After::NextHead } else { After::Close }
        }
        Finish::Switched => {
            request.exchanged(status, None, None, &meter);
            After::Switched(Box::new(live))
        }
        Finish::Refused { reason, detail } => {
            if let Some(refused) = overtaken {
                return After::Refuse(request, refused);
            }
            let mut refused = Refused::on_the_way(reason, &route, wanted.target);
            if !detail.is_empty() {
                refused.advice = detail.into_owned();
            }
            After::Refuse(request, refused)
        }
        // Nothing was answered yet.
        Finish::Broken { ending: Ending::Drained, .. } if status.is_none() => {
            After::Refuse(request, Reason::Draining.into())
        }
        Finish::Broken { ending: Ending::MemoryLimit, .. } if status.is_none() => {
            After::Refuse(request, admit::short_of_memory())
        }
        Finish::Broken { ending: Ending::PolicyRevoked | Ending::IdentityRevoked, .. }
            if status.is_none() =>
        {
            let refused = decide::refuse_revoked(wanted, &mut request, revoked, shared);
            After::Refuse(request, refused)
        }
        Finish::Broken {
            ending: ending @ (Ending::ClientClosed | Ending::ClientReset | Ending::ClientLost),
            ..
        } if status.is_none() => {
            request.gone();
            After::Gone(ending)
        }
        Finish::Broken { ending, reason } => {
            let is_revoked = matches!(ending, Ending::PolicyRevoked | Ending::IdentityRevoked);
            let reason = reason.or(revoked.filter(|_| is_revoked));
            request.exchanged(status, Some(ending), reason, &meter);
            After::Cut(ending)
        }
    }
}

/// What the head asks for.
pub(crate) fn wanted<'w>(head: &'w Head, within: Option<Within<'w>>) -> Wanted<'w> {
    let upgrades = head.headers.get_all(http::header::UPGRADE).iter();
    wanted_with(head, Upgrade::of(upgrades.map(HeaderValue::as_bytes)), within)
}

/// The same once the fields have left the head.
fn wanted_with<'w>(head: &'w Head, upgrade: Upgrade, within: Option<Within<'w>>) -> Wanted<'w> {
    let (path, query) = match &head.target {
        RequestTarget::Absolute { path_and_query, .. } => (path_and_query.path(), path_and_query.query()),
        RequestTarget::Authority(_) => ("", None),
    };
    let inspected = within.is_some_and(|within| within.live.tunnel().facts.inspected);
    let http =
        HttpRequest { method: head.method.as_str(), path, query, upgrade, inspected, recognised: None };
    let target = within.map_or(head.target.target(), |within| within.target);
    Wanted { target, http: Some(http) }
}

/// The same, as long as the exchange lasts.
fn asked(head: &Head, http: Option<&HttpRequest<'_>>) -> Asked {
    let path = match &head.target {
        RequestTarget::Absolute { path_and_query, .. } => path_and_query.clone(),
        RequestTarget::Authority(_) => PathAndQuery::from_static("/"),
    };
    Asked {
        method: head.method.clone(),
        path,
        upgrade: http.map(|http| http.upgrade).unwrap_or_default(),
        inspected: http.is_some_and(|http| http.inspected),
        recognised: None,
    }
}

/// A connection for the exchange, to an address that `decided`, which is by the configuration in force now, admits.
async fn dial(
    dialling: Dialling<'_>,
    route: &Route,
    (wanted, over): (Wanted<'_>, Carries),
    decided: &Decided,
    live: &LiveExchange,
    request: &mut Request<'_>,
    shared: &Shared,
) -> Result<UpstreamStream, Reason> {
    let admit = |address| decided.admit(address);
    let (client, timeout) = (dialling.client, dialling.limits.connect_timeout);
    let dialled = match over {
        Carries::Requests => route.plain(dialling, wanted.target, admit).await,
        Carries::Anything | Carries::Tls => route.tunnel(dialling, wanted.target, admit).await,
    };
    let dialled = request.dialled(dialled)?;
    reached(dialled.upstream, decided, live, shared)?;
    ready(&dialled.stream);
    if over != Carries::Tls {
        return Ok(dialled.stream);
    }
    // Verified again: the name may be at another address now.
    let opening = route.inspect(wanted.target, dialled.stream, dialled.address, client, timeout);
    Box::pin(opening).await.map_err(|unverified| {
        let (id, reason) = (request.id(), unverified.reason);
        tracing::info!(%id, "{reason}: {}: {}", wanted.target, unverified.detail);
        reason
    })
}

/// Sets what a connection to a target needs. It may be kept, and then be idle. This fails only if the connection is gone
/// already: the exchange will notice.
fn ready(stream: &UpstreamStream) {
    let _ = socket::keep_alive(stream.socket());
    let _ = socket::bound_unsent(stream.socket());
}

/// The exchange uses a connection to `upstream`, which `decided` admits: a newer policy has to admit it too.
fn reached(
    upstream: SocketAddr,
    decided: &Decided,
    live: &LiveExchange,
    shared: &Shared,
) -> Result<(), Reason> {
    if live.reached(upstream.ip()) != decided.snapshot.generation {
        rejudge::exchange_still_allowed(live.exchange(), &shared.snapshot().config, Timestamp::now())
            .map_err(|objection| objection.reason())?;
    }
    Ok(())
}
