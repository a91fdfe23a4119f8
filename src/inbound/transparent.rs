//! A listener whose clients do not know of it: their connections were redirected here, or DNS led them here.
//!
//! The first bytes tell what a connection carries. TLS becomes a tunnel to the name in its ClientHello, HTTP goes request by request to
//! what each `Host` names ([`http1`]): decided, looked up and dialled as if a client had named them to a proxy, so that a forged name
//! gains nothing. Anything else becomes a tunnel to the address that the client asked for, which a rule has to name. Not here: how that
//! address is known ([`crate::transport::redirected`]), and the gate that follows ([`tunnel`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use tokio::time::{Instant, timeout_at};

use crate::inbound::enter::UNDER_WAY;
use crate::inbound::http1::{self, Begun};
use crate::inbound::place::Standing;
use crate::rules::Scheme;
use crate::session::admit;
use crate::session::refuse::{Refused, refuse};
use crate::session::request::{Answer, Asks, Request};
use crate::session::tunnel::by_sni::{self, Unnamed};
use crate::session::tunnel::{self, Established};
use crate::state::listener::Listener;
use crate::state::proof::Proof;
use crate::state::shared::{Shared, Snapshot};
use crate::telemetry::metrics::ConnectionResult;
use crate::transport::client_stream::ClientStream;
use crate::transport::held::Lease;
use crate::transport::held::read::Buffered;
use crate::transport::redirected::{self, Arrived};
use crate::transport::stream::Transport;
use crate::wire::first_bytes::{self, Carried, Spoken, spoken};
use crate::words::client::{Client, PeerAddr, Protocol};
use crate::words::outcome::Reason;
use crate::words::target::{self, Host, Port, Target};

/// So long a silent client is waited for where a `tcp` rule names the address that it asked for: the target may be the one that speaks
/// first. A first packet that was lost once comes in this time.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a connection was to go, as far as that is known.
#[derive(Clone, Copy)]
struct Meant {
    /// None: DNS led it here.
    original: Option<SocketAddr>,
    /// The port that was asked for.
    port: Port,
    /// It is one of egressd's own.
    comes_back: bool,
}

impl Meant {
    /// `told`: by a PROXY header. `None`: the connection is gone.
    fn of(stream: &ClientStream, peer: PeerAddr, told: Option<SocketAddr>, shared: &Shared) -> Option<Self> {
        let (original, port, comes_back) = match told {
            Some(told) => {
                let told = SocketAddr::new(told.ip().to_canonical(), told.port());
                (Some(told), told.port(), false)
            }
            None => {
                let Arrived { local, original } =
                    redirected::arrived(stream.socket(), |address| shared.own.holds(address))?;
                let comes_back = match (peer, original) {
                    (PeerAddr::Address(peer), Some(original)) => redirected::comes_back(peer, original),
                    _ => false,
                };
                (original, original.unwrap_or(local).port(), comes_back)
            }
        };
        Some(Meant { original, port: Port::new(port)?, comes_back })
    }

    /// The address as the target of a tunnel.
    fn target(&self) -> Option<Target> {
        let host = Host::Address(self.original?.ip());
        Some(Target { method: target::Method::Connect, host, port: self.port })
    }

    /// Whether anything may pass to that address.
    fn is_open(&self, client: &Client, shared: &Shared) -> bool {
        let Some(target) = self.target() else { return false };
        let decided = shared.current.load().policies.decide(&target, client, jiff::Timestamp::now());
        decided.is_ok_and(|permit| permit.scheme == Scheme::Tcp)
    }
}

/// Serves one connection until it ends or becomes a tunnel.
pub(crate) async fn serve<'s>(
    mut stream: ClientStream,
    early: BytesMut,
    lease: Lease,
    (client, proof, standing): (Client, Arc<Proof>, Standing),
    destination: Option<SocketAddr>,
    listener: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
) -> Option<Established<'s>> {
    let Some(meant) = Meant::of(&stream, client.peer, destination, shared) else {
        listener.connections.count(ConnectionResult::Probe);
        return None;
    };
    let (timeout, most) = {
        let limits = &shared.current.load().limits;
        (standing.within(limits.head_timeout), limits.head_bytes)
    };
    let mut held = Buffered { bytes: early, lease };
    let deadline = Instant::now() + timeout;
    let begun = begin(&mut stream, &mut held, (deadline, most), (&meant, &client), shared).await;
    let Some(carried) = begun else {
        let is_ended = held.lease.holder().cancel().ending().is_some();
        let result = if is_ended { ConnectionResult::Limit } else { ConnectionResult::Probe };
        listener.connections.count(result);
        return None;
    };
    if carried == Carried::Http && !meant.comes_back {
        let Buffered { bytes, lease } = held;
        let begun = Begun { deadline: Some(deadline), transparent: true, original: meant.original };
        let who = (client, proof, standing);
        return Box::pin(http1::serve(stream, bytes, lease, who, begun, listener, shared)).await;
    }
    listener.accepted(client.peer);
    let snapshot = shared.snapshot();
    let target = meant.target().map(|target| (target, None));
    let asks = Asks { method: Some(Method::CONNECT), target, ..Asks::default() };
    let mut request = Request::new(shared, &snapshot.config, listener, (&Arc::new(client), &proof), asks);
    request.comes_by(Protocol::Transparent);
    if let Some(original) = meant.original {
        request.meant(original);
    }
    request.reads(match carried {
        Carried::Http => Answer::Http,
        Carried::Tls => Answer::Alert,
        Carried::Other => Answer::Nothing,
    });
    let standing_timeout = standing.within(snapshot.config.tunnel.client_hello_timeout);
    let (meant, begun) = ((meant, carried), Instant::now() + standing_timeout);
    Box::pin(open(stream, held, request, snapshot, meant, begun, shared)).await
}

/// Reads what the connection begins with. `None`: nothing came.
async fn begin(
    stream: &mut ClientStream,
    held: &mut Buffered,
    (deadline, most): (Instant, usize),
    (meant, client): (&Meant, &Client),
    shared: &Shared,
) -> Option<Carried> {
    let holder = Arc::clone(held.lease.holder());
    let mut patience = meant.original.map(|_| Instant::now() + PATIENCE);
    let mut seen = 0;
    loop {
        if let Some(carried) = first_bytes::carried(&held.bytes, seen, most) {
            return Some(carried);
        }
        seen = held.bytes.len();
        if seen == 0 {
            holder.waits();
        }
        let until = patience.filter(|_| seen == 0).unwrap_or(deadline).min(deadline);
        let read = tokio::select! {
            biased;
            read = timeout_at(until, held.read_from(stream)) => read,
            () = holder.given_up() => Ok(Ok(0)),
            () = shared.drain.closed_for(UNDER_WAY) => Ok(Ok(0)),
        };
        match read {
            Ok(Ok(1..)) => continue,
            Err(_elapsed) if seen == 0 && patience.take().is_some() => {
                if meant.is_open(client, shared) {
                    return Some(Carried::Other);
                }
                continue;
            }
            Ok(Ok(0) | Err(_)) | Err(_) if seen == 0 => return None,
            // A request that does not become whole is answered as one.
            _ if spoken(&held.bytes) == Some(Spoken::Http) => return Some(Carried::Http),
            _ => return Some(Carried::Other),
        }
    }
}

/// Brings a tunnel to the point where its bytes may flow. The client has until `deadline` for its hello.
async fn open<'s>(
    mut stream: ClientStream,
    mut held: Buffered,
    mut request: Request<'s>,
    snapshot: Snapshot,
    (meant, carried): (Meant, Carried),
    deadline: Instant,
    shared: &'s Arc<Shared>,
) -> Option<Established<'s>> {
    let holder = Arc::clone(held.lease.holder());
    let able = admit::able(&request, shared).map_err(Refused::from);
    let able = able.and_then(|()| if meant.comes_back { Err(came_back()) } else { Ok(()) });
    let able = match able {
        Ok(()) => admit::memory(&holder).await.map_err(|_no_room| admit::short_of_memory()),
        Err(refused) => Err(refused),
    };
    let slot = able.and_then(|()| Ok(admit::take_slot(&request, &snapshot.config, shared)?));
    let slot = match slot {
        Ok(slot) => slot,
        Err(refused) => {
            drop(held);
            refuse(stream, request, refused, true).await;
            return None;
        }
    };
    let target = match (carried, meant.target()) {
        (Carried::Tls, original) => {
            let at = (original, meant.port);
            let showing = by_sni::shown(&mut stream, &mut held, at, &mut request, (deadline, shared));
            Box::pin(showing).await.map(|(target, under_way)| (target, Some(under_way)))
        }
        (_, Some(original)) => Ok((original, None)),
        (_, None) => Err(Unnamed::Refused(nameless(), None)),
    };
    match target {
        Ok((target, under_way)) => {
            let opened = Box::pin(tunnel::establish(stream, held, target, request, slot, shared)).await;
            drop(under_way);
            opened
        }
        Err(Unnamed::Gone) => {
            request.gone();
            None
        }
        Err(Unnamed::Refused(refused, offered)) => {
            drop(held);
            request.offered(offered.map(Arc::from));
            refuse(stream, request, refused, true).await;
            None
        }
    }
}

fn came_back() -> Refused {
    let why =
        "a connection of egressd itself was redirected to it: leave its user out of the rule that redirects";
    Refused::new(Reason::Loop, why)
}

fn nameless() -> Refused {
    let why = "the first bytes are neither TLS nor HTTP, and DNS led the connection here: nothing tells where it was to go";
    Refused::new(Reason::NotTls, why)
}
