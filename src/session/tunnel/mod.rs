//! One CONNECT: decide, dial, register, `200`, then [`gate`] for `https` rules or [`requests`] for `http` rules, then the
//! relay. Where a rule inspects, the target's TLS is opened before the `200` and the client's after it ([`inspected`]); then its
//! [`requests`] are read, too.
//!
//! [`establish`] decides, looks up, checks, dials and registers; only then does the client get its `200`. If the rule
//! requires TLS, the gate then reads the ClientHello; if it requires plain requests, each of them is judged. The result
//! is [`Established`], which runs until it ends. Each step consumes the result of the step before, and everything but
//! the last is freed before the first byte is relayed.

pub(crate) mod by_sni;
mod gate;
pub mod hello;
mod inspected;
mod reach;
mod requests;
mod tell;

use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::config;
use crate::outbound::route::Route;
use crate::rules::address::Admitted;
use crate::rules::{Mode, Permit, Scheme};
use crate::session::admit;
use crate::session::decide::{self, Decided, Wanted};
use crate::session::http::lent::{Carries, Own};
use crate::session::refuse::{self, Refused, refuse, reply, socks};
use crate::session::request::{Answer, Opened, Request};
use crate::state::limits::Slot;
use crate::state::live::{Generation, LiveTunnel, TunnelFacts};
use crate::state::shared::Shared;
use crate::telemetry::access_log::RecordPlace;
use crate::transport::allowance::Allowance;
use crate::transport::cancel::Cancel;
use crate::transport::client_stream::ClientStream;
use crate::transport::held::read::Buffered;
use crate::transport::held::{Holder, Kind, Lease, count_unread};
use crate::transport::inner_stream::InnerStream;
use crate::transport::meter::Meter;
use crate::transport::relay::{self, Early, Relay, RelayLimits};
use crate::transport::socket;
use crate::transport::stream::Transport;
use crate::transport::target_stream::UpstreamStream;
use crate::transport::tls;
use crate::transport::tls::mint::Minter;
use crate::words::outcome::{Ending, Reason};
use crate::words::target::Target;
use by_sni::{Named, Unnamed};
use gate::{ClientHelloGate, NotEntered, Verification};
use inspected::Inside;
use reach::{dial, minter, tls_layers};
use requests::{Begins, Parts, RequestsTunnel};
use tell::tell;

/// Most bytes that are read from a client before its `200`.
const MAX_EARLY: usize = 16 * 1024;
/// What a tunnel costs in addition to the client's connection: the relay, the registry, the log's place, and the upstream socket,
/// of which 4 KiB are the kernel's.
pub const OPEN: usize = 6 * 1024;

/// Dialled and registered; the client does not know it yet.
struct Ready {
    target: Target,
    /// Its hello was read and names nothing, and report mode lets it pass.
    although: Option<Reason>,
    permit: Permit,
    upstream: UpstreamStream,
    /// The dialled address, and the route to it: for another connection by the same route.
    address: Admitted,
    route: Arc<Route>,
    /// The account that such a connection is charged to.
    account: IpAddr,
    /// The configuration that admitted the address.
    generation: Generation,
    carries: Carries,
    /// Of a tunnel that is inspected.
    minter: Option<Arc<Minter>>,
    allowance: Allowance,
    live: LiveTunnel,
    meter: Arc<Meter>,
    cancel: Arc<Cancel>,
    /// The place for the last record.
    last: RecordPlace,
    settings: config::Tunnel,
}

/// A tunnel whose bytes may flow.
#[derive(Debug)]
pub(crate) enum Established<'s> {
    /// They are relayed as they are.
    Relayed(Box<Relayed<'s>>),
    /// They are plain requests, each of which is judged.
    Requests(Box<RequestsTunnel<'s, ClientStream>>),
    /// They are TLS with egressd, with requests in it.
    Inspected(Box<RequestsTunnel<'s, InnerStream>>),
}

/// A tunnel whose bytes are relayed.
#[derive(Debug)]
pub(crate) struct Relayed<'s> {
    client: ClientStream,
    upstream: UpstreamStream,
    early: Early,
    limits: RelayLimits,
    opened: Opened<'s>,
    live: LiveTunnel,
    slot: Slot,
    /// Of what it costs by being open.
    open: Lease,
}

/// Brings one CONNECT to the point where bytes may flow. `early` is what the client sent after the head. `None`: it
/// was refused or it ended, and is recorded.
pub(crate) async fn establish<'s>(
    mut client: ClientStream,
    mut early: Buffered,
    target: Target,
    mut request: Request<'s>,
    slot: Slot,
    shared: &'s Shared,
) -> Option<Established<'s>> {
    let holder = Arc::clone(early.lease.holder());
    let mut named = Named::from(target);
    if by_sni::applies(&named.target, &request, &shared.snapshot()) {
        let naming = by_sni::named(&mut client, &mut early, named.target, &mut request, shared);
        named = match Box::pin(naming).await {
            Ok(named) => named,
            Err(Unnamed::Gone) => {
                request.gone();
                return None;
            }
            Err(Unnamed::Refused(refused, offered)) => {
                drop(early);
                request.offered(offered.map(Arc::from));
                refuse(client, request, refused, true).await;
                return None;
            }
        };
    }
    let opened = tokio::select! {
        biased;
        opened = open(named, &mut request, shared, &holder) => Some(opened),
        // It is not in the registry yet, so the end of a drain must be noticed here.
        () = shared.drain.ended() => Some(Err(Reason::Draining.into())),
        () = holder.given_up() => Some(Err(admit::short_of_memory())),
        () = left(&mut client, &mut early) => None,
    };
    let ready = match opened {
        None => {
            request.gone();
            return None;
        }
        Some(Ok(ready)) => ready,
        Some(Err(refused)) => {
            drop(early);
            refuse(client, request, refused, true).await;
            return None;
        }
    };
    Box::pin(enter(client, early, request, ready, slot, shared)).await
}

/// Waits until the client leaves, and keeps what it sends meanwhile: if the target does not answer, ten seconds of
/// dialling for a client that is gone are a waste. A client that sent something and then closed its side may be
/// waiting for the answer.
async fn left(client: &mut ClientStream, early: &mut Buffered) {
    while early.bytes.len() < MAX_EARLY {
        match early.read_from(client).await {
            Ok(0) if !early.bytes.is_empty() => return pending().await,
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let mut unread = Lease::new(early.lease.holder(), Kind::Socket);
    count_unread(client.socket(), &mut unread).await;
}

/// Everything before the `200`.
async fn open(
    Named { target, although }: Named,
    request: &mut Request<'_>,
    shared: &Shared,
    holder: &Arc<Holder>,
) -> Result<Ready, Refused> {
    let wanted = Wanted { target: &target, http: None };
    // By what is in force now: a look at a password, a wait for memory or a ClientHello may have taken long.
    let mut decided = decide::decide_now(wanted, request, shared)?;
    let last = shared.log.reserve().map_err(|_| Reason::LogUnavailable)?;
    // Before the dial, so that a client without budget causes no connection.
    let mut allowance = afford(&decided, request, shared).await?;
    loop {
        let generation = decided.snapshot.generation;
        let carries = Carries::by(&decided.permit);
        let minter = if carries == Carries::Tls { Some(minter(&target, &decided)?) } else { None };
        let (route, dialled) = dial(wanted, &decided, carries, request, shared, holder).await?;
        // What ends the connection for want of memory ends the tunnel.
        let (meter, cancel) = (Arc::new(Meter::default()), Arc::clone(holder.cancel()));
        let add = |decided: &Decided, request: &Request<'_>| {
            let permit = &decided.permit;
            let facts = TunnelFacts {
                id: request.id(),
                client: Arc::clone(request.client()),
                proof: Arc::clone(request.proof()),
                target: target.clone(),
                policy: Arc::clone(&permit.policy),
                rule: permit.rule.as_ref().map(|rule| Arc::clone(&rule.label)),
                listener: Arc::clone(request.listener()),
                upstream: dialled.upstream,
                by_parent: route.parent(&target).is_some(),
                scheme: permit.scheme,
                inspected: permit.inspect,
                started: request.started_at(),
            };
            let generation = decided.snapshot.generation;
            shared.live.register(facts, Arc::clone(&meter), Arc::clone(&cancel), generation)
        };
        let reached = |live: &LiveTunnel| live.tunnel().facts.judged_address();
        let (now, live) = decide::register(decided, wanted, request, shared, add, reached)?;
        if now.snapshot.generation != generation {
            allowance = afford(&now, request, shared).await?;
        }
        if Carries::by(&now.permit) != carries {
            // The rules changed meanwhile, and another kind of connection is needed.
            decided = now;
            continue;
        }
        let Decided { permit, snapshot } = now;
        let settings = snapshot.config.tunnel.clone();
        let account = request.account(&snapshot.config);
        let (upstream, address, generation) = (dialled.stream, dialled.address, snapshot.generation);
        return Ok(Ready {
            target,
            although: although.filter(|_| permit.reason == Some(Reason::HostNotAllowed)),
            permit,
            upstream,
            address,
            route,
            account,
            generation,
            carries,
            minter,
            allowance,
            live,
            meter,
            cancel,
            last,
            settings,
        });
    }
}

/// What the client may send.
async fn afford(decided: &Decided, request: &Request<'_>, shared: &Shared) -> Result<Allowance, Reason> {
    let client = request.account(&decided.snapshot.config);
    shared.budgets.afford(client, &decided.permit).await
}

/// Sends the client its `200`, and passes it through the gate if the rule has one.
async fn enter<'s>(
    mut client: ClientStream,
    mut early: Buffered,
    mut request: Request<'s>,
    ready: Ready,
    slot: Slot,
    shared: &Shared,
) -> Option<Established<'s>> {
    let Ready {
        target,
        although,
        permit,
        upstream,
        address,
        route,
        account,
        generation,
        carries,
        minter,
        allowance,
        live,
        meter,
        cancel,
        last,
        settings,
    } = ready;
    if let Some(timeout) = settings.tcp_user_timeout {
        for socket in [client.socket(), upstream.socket()] {
            // This fails only if the connection is gone already: the relay will notice.
            let _ = socket::give_up_after(socket, timeout);
        }
    }
    let reply = match request.answer() {
        Answer::Http => reply::established(request.id()),
        Answer::Socks5 => socks::granted(),
        Answer::Alert | Answer::Nothing => Vec::new(),
    };
    if !reply.is_empty() && !tell(&mut client, &reply, settings.client_hello_timeout, &cancel).await {
        match cancel.ending() {
            Some(Ending::MemoryLimit) => refuse::unanswered(request, Reason::LimitReached),
            _ => request.gone(),
        }
        return None;
    }
    if !reply.is_empty() {
        request.told(reply.len());
    }
    if !reply.is_empty() || request.hears(Some(200), 0) {
        shared.metrics.setup(request.started().elapsed());
    }
    let limits = RelayLimits {
        idle_timeout: settings.idle_timeout,
        deadline: settings.max_lifetime.map(|lifetime| Instant::now() + lifetime),
        upload: allowance,
    };

    let holder = Arc::clone(early.lease.holder());
    let of_tls = tls_layers(&upstream) * tls::STATE;
    let open = Lease::of(&holder, Kind::Connection, OPEN + of_tls + request.kept_bytes());
    let dialled = live.tunnel().facts.upstream;
    let by_parent = live.tunnel().facts.by_parent;
    let own = Own {
        stream: upstream,
        upstream: dialled,
        route: Arc::clone(&route),
        by_parent,
        carries,
        generation,
    };
    let (accepted_by, of_requests) = (request.accepted_by(), request.shared());
    let mut parts = Parts { target, own, limits, live, slot, open, accepted_by, shared: of_requests };
    let gate = ClientHelloGate {
        target: &parts.target,
        verification: permit.verify_certificate.then_some(Verification {
            route: &route,
            address,
            client: account,
            timeout: settings.connect_timeout,
        }),
        ech: permit.ech,
        report: permit.mode == Mode::Report,
        hello_timeout: settings.client_hello_timeout,
        live: &parts.live,
        meter: &meter,
        cancel: &cancel,
        shared,
    };
    if let Some(reason) = although {
        gate.lets_pass(reason, None);
        request.would_deny_instead(reason);
    }
    let entered = match permit.scheme {
        Scheme::Https if carries == Carries::Tls => {
            let minter = minter?;
            let opening = gate.open_tls(client, early, request, last, (&minter, account));
            let Inside { client, mut opened, buffer } = Box::pin(opening).await?;
            opened.decided();
            let tunnel = RequestsTunnel { client, buffer, opened, parts };
            return Some(Established::Inspected(Box::new(tunnel)));
        }
        Scheme::Https if although.is_none() => {
            let (upstream, limits) = (&mut parts.own.stream, &mut parts.limits);
            Box::pin(gate.pass(&mut client, upstream, early, request, last, limits)).await
        }
        Scheme::Http if although.is_none() => {
            match gate.pass_requests(&mut client, early, request, last).await {
                Ok(Begins::Requests { mut opened, buffer }) => {
                    opened.decided();
                    let tunnel = RequestsTunnel { client, buffer, opened, parts };
                    return Some(Established::Requests(Box::new(tunnel)));
                }
                Ok(Begins::Anything { opened, early }) => Ok((opened, early)),
                Err(not_entered) => Err(not_entered),
            }
        }
        // A hello that was read already needs no second look.
        Scheme::Https | Scheme::Http | Scheme::Tcp => {
            let early = Early { to_upstream: early.take(), to_client: BytesMut::new() };
            Ok((request.open(last, Arc::clone(&meter)), early))
        }
    };
    let Parts { own: Own { stream: upstream, .. }, mut limits, live, slot, open, .. } = parts;
    match entered {
        Ok((mut opened, early)) => {
            opened.decided();
            // The relay takes it at once. Where it is not granted, what is there is sent, and the relay ends.
            tokio::select! {
                biased;
                _ = cancel.cancelled() => {}
                _ = limits.upload.secure(early.to_upstream.len()) => {}
            }
            // From here on it holds what a tunnel costs, and what the relay leases.
            holder.stays_open();
            let relayed = Relayed { client, upstream, early, limits, opened, live, slot, open };
            Some(Established::Relayed(Box::new(relayed)))
        }
        Err(NotEntered::Refused(reason)) => {
            refuse::in_tunnel(client, reason).await;
            None
        }
        Err(NotEntered::Ended(ending)) => {
            relay::part(client, upstream, ending).await;
            None
        }
    }
}

impl<'s> Established<'s> {
    /// Relays or serves until the tunnel ends, and writes its last record.
    pub(crate) fn run(self) -> Pin<Box<dyn Future<Output = ()> + Send + 's>> {
        match self {
            Established::Relayed(relayed) => relayed.run(),
            Established::Requests(requests) => requests.run(),
            Established::Inspected(requests) => requests.run(),
        }
    }
}

impl<'s> Relayed<'s> {
    fn run(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send + 's>> {
        // Taken apart before the future is made: what an `async fn` takes by value is stored twice in its future, and
        // ten thousand of these wait at a time.
        let Relayed { client, upstream, early, limits, opened, live, slot, open } = *self;
        match (client, upstream) {
            (ClientStream::Bare(client), UpstreamStream::Bare(upstream)) => {
                let mut relay = Relay::splicing(early, limits, open.holder());
                Box::pin(async move {
                    let progress = || opened.progress();
                    let ending = relay.run(&client, &upstream, live.meter(), live.cancel(), &progress).await;
                    relay::part(client, upstream, ending).await;
                    opened.close(ending, live.tunnel().revoked());
                    drop((slot, open));
                })
            }
            (mut client, mut upstream) => {
                let mut relay = Relay::copying(early, limits, open.holder());
                Box::pin(async move {
                    let progress = || opened.progress();
                    let (meter, cancel) = (live.meter(), live.cancel());
                    let ending =
                        relay.run_streams(&mut client, &mut upstream, meter, cancel, &progress).await;
                    relay::part(client, upstream, ending).await;
                    opened.close(ending, live.tunnel().revoked());
                    drop((slot, open));
                })
            }
        }
    }
}
