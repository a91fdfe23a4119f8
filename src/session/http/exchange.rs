//! Serves one plain HTTP request, from its head to its record: decide, register, dial, forward, record.
//!
//! Decides, as [`crate::session::tunnel`] does for CONNECT, and hands permitted requests to
//! [`crate::session::http::forward`]. Where the body of a request to Git decides what it is, that is read in between
//! ([`crate::session::http::git`]). The connection to the client may go on afterwards: each request on it is judged
//! separately, and while one is in progress a reload judges it again, as it does with a tunnel.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::outbound::dial::DialLimits;
use crate::outbound::route::{Dialling, Route};
use crate::rules::{Mode, Permit, Recognised, Requests};
use crate::session::decide::{self, Decided, Wanted};
use crate::session::http::after::After;
use crate::session::http::changes::Changes;
use crate::session::http::forward::{self, Addresses, Connection, Finish, Outcome, Terms};
use crate::session::http::git::ahead::{self, Ahead};
use crate::session::http::git::answer;
use crate::session::http::git_fields::FixedFields;
use crate::session::http::lent::{Carries, Lent};
use crate::session::http::recognise;
use crate::session::http::under_way::UnderWay;
use crate::session::http::wanted::{upgrade_of, wanted_with};
use crate::session::refuse::Refused;
use crate::session::request::Request;
use crate::state::limits::kept::KeptPlace;
use crate::state::live::{LiveExchange, rejudge};
use crate::state::shared::{Shared, Snapshot};
use crate::transport::held::{Kind, Lease};
use crate::transport::keep_alive::KeepAlive;
use crate::transport::meter::Meter;
use crate::transport::socket;
use crate::transport::stream::Transport;
use crate::transport::target_stream::UpstreamStream;
use crate::wire::head::{Framing, Head};
use crate::words::git::Asks;
use crate::words::outcome::{Class, Reason};

/// What an exchange costs while it is under way, in addition to its connections and its head; and what its record will say, which is
/// kept longer than the head.
const EXCHANGE: usize = 12 * 1024;
/// What a body under way costs beside the bytes that wait: the two ends of its channel, and the piece that is being passed.
const CONTENT: usize = 4 * 1024;
/// What is recognised in a request costs so much, beside what it copies of the head.
const RECOGNISED: usize = 1024;

/// Serves one exchange over `connection`, whatever that is and whatever reads its heads. Everything is recorded except
/// a refusal. `keep`: how long the connection is kept for the next request. `lent`: by the tunnel that the request comes
/// in, if it comes in one.
pub(crate) async fn serve<'s, S>(
    mut connection: Connection<'_, S>,
    mut head: Head,
    mut request: Request<'s>,
    mut snapshot: Snapshot,
    shared: &Shared,
    keep: KeepAlive,
    lent: Option<Lent<'_>>,
) -> After<'s>
where
    S: Transport,
{
    let within = lent.as_ref().map(|lent| lent.within);
    let inspected = within.is_some_and(|within| within.is_inspected());
    let upgrade = upgrade_of(&head);
    let meter = Arc::new(Meter::default());
    let holder = Arc::clone(connection.lease.holder());
    let content = if head.framing.may_have_content() { CONTENT } else { 0 };
    let mut of_exchange = Lease::of(&holder, Kind::Body, EXCHANGE + content + request.kept_bytes());
    // The bytes of a tunnel are counted once, in the tunnel's entry of the registry.
    let counted = if within.is_some() { Arc::default() } else { Arc::clone(&meter) };
    let (route, resolver) = (shared.route(), shared.resolver());
    let on = UnderWay { shared, within, holder: &holder, route: &route, meter: &meter, counted: &counted };
    let mut said = Said { asks_for_credentials: false, recognised: None, ahead: None, keep };
    let target = wanted_with(&head, upgrade, None, within).target;
    if let Some(requests) = decide::requests_of(target, &request, &snapshot)
        .filter(|requests| requests.asks_git() || requests.asks_aws())
    {
        of_exchange.set(of_exchange.bytes() + RECOGNISED + 2 * head.bytes);
        let by_head = recognise::recognise(&head, target);
        request.recognised(recognise::seen(&by_head, &by_head, None, &requests));
        if let Some(asks) = ahead::decides(&by_head).filter(|_| requests.asks_git()) {
            let of = (&by_head, &*requests);
            let read =
                Box::pin(body_first(&mut connection, &mut head, request, &snapshot, (of, asks), &on)).await;
            let (ahead, refused);
            (request, ahead, refused) = match read {
                Ok(read) => read,
                Err(after) => return after,
            };
            let with_body = Arc::new(ahead.recognised(&by_head));
            request.recognised(recognise::seen(&by_head, &with_body, Some(&ahead), &requests));
            said = Said { recognised: Some(with_body), ahead: Some(ahead), ..said };
            if let Some(refused) = refused {
                return turn_away(connection, &head, request, refused, &said, &on).await;
            }
            // It may have taken as long as a body may.
            snapshot = shared.snapshot();
        } else {
            let asks_for_credentials = recognise::asks_for_credentials(&by_head, &requests);
            said = Said { asks_for_credentials, recognised: Some(recognise::body_unread(by_head)), ..said };
        }
    }
    let wanted = wanted_with(&head, upgrade, said.recognised.as_deref(), within);
    let enter = |decided: &Decided, request: &Request<'_>| {
        let permitted_by = (Arc::clone(&decided.permit.policy), decided.snapshot.generation);
        let kept = connection.kept.for_target(head.target.target(), &permitted_by);
        let address = kept.map(|kept| kept.ip());
        on.enter(decided, request, (&head, wanted), said.recognised.as_ref(), address)
    };
    // A kept connection serves only under the configuration that opened it, so its address need not be admitted again.
    let registered = decide::decide(wanted, &mut request, snapshot)
        .and_then(|decided| decide::register(decided, wanted, &mut request, shared, enter, |_| None));
    let (Decided { permit, snapshot }, live) = match registered {
        Ok(registered) => registered,
        Err(refused) => return turn_away(connection, &head, request, refused, &said, &on).await,
    };
    if let Some(aws) = permit.entry.as_ref().and_then(|entry| recognise::lent(entry, &wanted.target.host)) {
        request.lent(aws);
    }
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
            Err(reason) => return turn_away(connection, &head, request, reason.into(), &said, &on).await,
        },
    };
    if let Some(reason) = forward::unaffordable(&head, allowance) {
        return turn_away(connection, &head, request, reason.into(), &said, &on).await;
    }
    let changes = match changes(&permit, &mut head, &mut connection, &mut said, &mut request, inspected) {
        Ok(changes) => changes,
        Err(refused) => return turn_away(connection, &head, request, refused, &said, &on).await,
    };
    request.metered(&meter);
    // They leave with the request.
    let headers = std::mem::take(&mut head.headers);
    let wanted = wanted_with(&head, upgrade, said.recognised.as_deref(), within);
    if let Some(ahead) = &mut said.ahead {
        ahead.forget();
    }
    let has_content = changes.has_content(&head);
    let mut begun = false;
    if inspected
        && has_content
        && let Some(Addresses { upstream, local }) = connection.kept.for_body().await
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
        let stop = on.stopped(Some(&live));
        Box::pin(forward::exchange(connection, &head, headers, &terms, allowance, open, stop)).await
    };
    let revoked = on.revoked(Some(&live));
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
        finish => on.broken((finish, status), request, wanted, overtaken, revoked),
    }
}

/// What a request says of itself, where the rule asks for it.
struct Said {
    /// It is git's first request, and has no credentials where an entry wants the client's.
    asks_for_credentials: bool,
    recognised: Option<Arc<Recognised>>,
    ahead: Option<Ahead>,
    keep: KeepAlive,
}

/// Reads as much of the body as decides what the request is, if its head may be let through. A push that may not is read too: git
/// prints why, and the record says which refs were meant.
async fn body_first<'s, S: Transport>(
    connection: &mut Connection<'_, S>,
    head: &mut Head,
    mut request: Request<'s>,
    snapshot: &Snapshot,
    ((by_head, requests), asks): ((&Arc<Recognised>, &Requests), Asks),
    on: &UnderWay<'_>,
) -> Result<(Request<'s>, Ahead, Option<Refused>), After<'s>> {
    let wanted = wanted_with(head, upgrade_of(head), Some(by_head), on.within);
    // While it reads, nothing goes either way: what is counted is in the entry that follows.
    let (nothing, place) = (Arc::default(), *on);
    let reading = UnderWay { counted: &nothing, ..place };
    let enter = |decided: &Decided, request: &Request<'_>| {
        reading.enter(decided, request, (head, wanted), Some(by_head), None)
    };
    let judged = decide::decide(wanted, &mut request, snapshot.clone())
        .and_then(|decided| decide::register(decided, wanted, &mut request, on.shared, enter, |_| None));
    let (live, refused) = match judged {
        Ok((_, live)) => (Some(live), None),
        Err(refused) if refused.reason.class() == Class::Request && matches!(asks, Asks::Rpc(_)) => {
            (None, Some(refused))
        }
        Err(refused) => return Err(After::Refuse(request, refused)),
    };
    if head.expect_continue && connection.buffer.is_empty() {
        on.told(ahead::CONTINUE.len());
    }
    let patience = snapshot.config.http.stall_timeout;
    let read = tokio::select! {
        biased;
        ending = on.stopped(live.as_ref()) => Err(Finish::Broken { ending, reason: None }),
        read = ahead::read(connection, head, asks, ahead::negotiation_limit(requests), patience) => read,
    };
    match read {
        Ok(ahead) => {
            head.expect_continue = false;
            Ok((request, ahead, refused))
        }
        Err(finish) => {
            let revoked = on.revoked(live.as_ref());
            Err(on.unread(finish, request, wanted, refused, revoked))
        }
    }
}

/// What the rule changes in the request. A body that was read whole is taken from the client's bytes.
fn changes<S>(
    permit: &Permit,
    head: &mut Head,
    connection: &mut Connection<'_, S>,
    said: &mut Said,
    request: &mut Request<'_>,
    inspected: bool,
) -> Result<Changes, Refused> {
    let mut changes = Changes::by(permit, head, inspected);
    let git = permit.entry.as_ref().and_then(|entry| entry.git.as_ref());
    let asks = said.recognised.as_ref().and_then(|said| said.git.as_ref().ok()).map(|ask| ask.request.asks);
    let is_report = permit.mode == Mode::Report;
    if let (Some(rule), Some(asks)) = (git, asks) {
        changes.fix(FixedFields::new(asks, rule.fixes_reads()));
    }
    if let Some(advice) = changes.refuse(head) {
        if !is_report {
            return Err(Refused::new(Reason::RequestNotAllowed, advice));
        }
        request.would_deny(Reason::RequestNotAllowed);
        changes.lend_nothing();
    }
    if let (Some(rule), Some(ahead)) = (git, &mut said.ahead) {
        let (anew, most) = (rule.fixes_reads(), rule.negotiation_limit);
        match ahead.take_content(connection.buffer, connection.lease, anew, most) {
            Ok(None) => {}
            Ok(Some((content, wire))) => {
                // It was read with the head. What goes on may be longer than what came, and is what counts.
                head.framing = Framing::None;
                head.bytes += wire.max(content.len());
                changes.send(content);
            }
            Err(_) if is_report => {
                request.would_deny(Reason::GitNotAllowed);
                changes.lend_nothing();
                // It goes on as it came, compressed perhaps.
                changes.unfix();
            }
            Err(advice) => return Err(Refused::new(Reason::GitNotAllowed, advice)),
        }
    }
    Ok(changes)
}

/// A request is refused before anything of it has gone on. Git is answered in a way that it prints.
async fn turn_away<'s, S: Transport>(
    connection: Connection<'_, S>,
    head: &Head,
    request: Request<'s>,
    refused: Refused,
    said: &Said,
    on: &UnderWay<'_>,
) -> After<'s> {
    if let Some(ahead) = &said.ahead
        && refused.reason.is_denial()
    {
        let patience = on.shared.current.load().http.stall_timeout;
        let telling = answer::refuse(connection, head, request, refused, ahead, patience, on.stopped(None));
        return Box::pin(telling).await;
    }
    // Whatever it asks for: its record shall say by whose credentials. Those of a request that is refused with them do.
    let may_ask = said.asks_for_credentials && refused.reason.class() == Class::Request;
    if may_ask && !head.framing.has_body() && connection.kept.may_ask() {
        let keep = Some(said.keep).filter(|_| head.keep_alive && !on.shared.drain.is_closed());
        let host = &head.target.target().host;
        return Box::pin(answer::ask_for_credentials(connection, request, host, keep, on)).await;
    }
    After::Refuse(request, refused)
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
