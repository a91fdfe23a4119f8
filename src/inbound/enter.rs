//! What a connection must pass before its first request: the PROXY header if the listener uses one, and the TLS
//! handshake if it has TLS. The result is the client's address and proven identities, and a stream for its requests.
//!
//! Each step has its deadline. A client that sends nothing is counted as a probe and never logged. A client that sends
//! something wrong is counted, recorded at a bounded rate ([`bounded`]) and closed without an HTTP reply, because it
//! would not read one; except a client that speaks plain HTTP to TLS, which is told so in clear. Not here: passwords, which are part of requests ([`crate::session::authenticate`]).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::config::Protocols;
use crate::inbound::place::{Full, Place, Standing};
use crate::session::refuse::bounded::{self, RefusedConnection};
use crate::session::refuse::reply;
use crate::session::request::Asks;
use crate::state::listener::Listener;
use crate::state::listener::flood::Who;
use crate::state::proof::Proof;
use crate::state::shared::Shared;
use crate::telemetry::metrics::ConnectionResult;
use crate::telemetry::record::new_id;
use crate::transport::client_stream::ClientStream;
use crate::transport::close::close_with;
use crate::transport::held::{Holder, Kind, Lease};
use crate::transport::proxy_header::{HeaderError, read_header};
use crate::transport::tls::{self, Accepted, Failure, HandshakeError};
use crate::wire::head::RefusedHead;
use crate::words::client::{Client, ClientAddr, PeerAddr};
use crate::words::outcome::Reason;

/// A connection on which requests may come.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) stream: ClientStream,
    /// What came after the PROXY header.
    pub(crate) early: BytesMut,
    pub(crate) client: Client,
    /// What proved who it is.
    pub(crate) proof: Arc<Proof>,
    /// Of `early`, and of what is read after it.
    pub(crate) lease: Lease,
    pub(crate) standing: Standing,
    /// What may be spoken on it.
    pub(crate) protocols: Protocols,
    /// Where the client connected to, if a PROXY header says so.
    pub(crate) destination: Option<SocketAddr>,
}

/// How long handshakes in progress have when the listeners close. The handshake is then completed and its request gets
/// 503, which explains more than a broken connection.
pub(crate) const UNDER_WAY: Duration = Duration::from_secs(2);

/// A connection that got no further.
struct Closed {
    result: ConnectionResult,
    /// None: a probe, or one connection too many.
    reason: Option<Reason>,
    why: Box<dyn fmt::Display + Send>,
    /// None if only a PROXY header would have named it.
    client: Option<ClientAddr>,
    /// What a client that speaks plain HTTP asks for, at a listener with TLS.
    in_clear: Option<Box<RefusedHead>>,
    /// The stream on which an alert was written, or on which that client is answered.
    stream: Option<TcpStream>,
}

impl Closed {
    fn not_trusted() -> Self {
        Closed {
            result: ConnectionResult::PeerNotTrusted,
            reason: Some(Reason::PeerNotTrusted),
            why: Box::new("the peer is not among proxy_protocol.trusted"),
            client: None,
            in_clear: None,
            stream: None,
        }
    }

    /// Memory ran short, and it held most without moving.
    fn given_up(client: ClientAddr) -> Self {
        Closed {
            result: ConnectionResult::Limit,
            reason: Some(Reason::LimitReached),
            why: Box::new("memory ran short, and its handshake was not complete"),
            client: Some(client),
            in_clear: None,
            stream: None,
        }
    }

    /// There is no place for it; the client is known if its header has named it.
    fn full(full: Full, client: Option<ClientAddr>) -> Self {
        let why = full.why();
        Closed {
            result: ConnectionResult::Limit,
            reason: why.map(|_| Reason::LimitReached),
            why: Box::new(why.unwrap_or_default()),
            client,
            in_clear: None,
            stream: None,
        }
    }
}

impl From<HeaderError> for Closed {
    fn from(error: HeaderError) -> Self {
        let reason = error.reason();
        let result = counted(reason, ConnectionResult::ProxyHeaderInvalid);
        Closed { result, reason, why: Box::new(error), client: None, in_clear: None, stream: None }
    }
}

/// Lets a connection in. `None`: it is closed, counted and, unless it is a probe, recorded.
pub(crate) async fn enter(
    stream: TcpStream,
    peer: PeerAddr,
    place: &mut Place,
    listener: &Arc<Listener>,
    shared: &Arc<Shared>,
    holder: &Arc<Holder>,
) -> Option<Entered> {
    let client = Client { listener: Some(Arc::clone(&listener.name)), ..Client::of_peer(peer) };
    let (peer, address) = (client.peer, client.address);
    let closed = tokio::select! {
        biased;
        passed = pass(stream, client, place, listener, shared, holder) => match passed {
            Ok(entered) => return Some(entered),
            Err(closed) => closed,
        },
        () = holder.given_up() => Closed::given_up(address),
        () = shared.drain.closed_for(UNDER_WAY) => {
            listener.connections.count(ConnectionResult::Probe);
            return None;
        }
    };
    let Closed { result, reason, why, client, in_clear, stream } = closed;
    listener.connections.count(result);
    let id = new_id();
    let in_clear = in_clear.map(|head| Asks::of_refused(&head));
    if let Some(reason) = reason {
        let (who, in_clear) = (Who { peer, client }, in_clear.as_ref());
        bounded::record(listener, shared, &RefusedConnection { id, reason, who, why: &why, in_clear });
    }
    drop(why);
    let last = in_clear.map(|asks| reply::in_clear(id, asks.method != Some(http::Method::HEAD)));
    if let Some(stream) = stream {
        close_with(stream, &last.unwrap_or_default()).await;
    }
    None
}

async fn pass(
    mut stream: TcpStream,
    mut client: Client,
    place: &mut Place,
    listener: &Listener,
    shared: &Shared,
    holder: &Arc<Holder>,
) -> Result<Entered, Closed> {
    let config = shared.current.load();
    let settings = listener.settings(&config);
    let proxied = settings.proxy_protocol.as_ref().map(|proxies| proxies.trusts(client.peer.ip()));
    let limits = config.limits.clone();
    let tls = settings.tls.clone();
    let protocols = settings.protocols;
    // A slow client must not keep an old policy in memory.
    drop(config);

    let mut early = BytesMut::new();
    let mut destination = None;
    if proxied == Some(false) {
        return Err(Closed::not_trusted());
    }
    if proxied == Some(true) {
        let header = tokio::select! {
            biased;
            header = read_header(&mut stream, &mut early, limits.head_timeout, true) => header?,
            () = place.ended() => return Err(Closed::full(Full::Unnamed, None)),
        };
        let header = header.ok_or(HeaderError::Invalid("no PROXY header"))?;
        if let Some(source) = header.source {
            client.address = ClientAddr::new(source);
        }
        client.vpc_endpoint = header.vpc_endpoint;
        destination = header.destination;
    }
    let standing = place.named(client.address, listener, shared);
    let standing = standing.map_err(|full| Closed::full(full, Some(client.address)))?;
    let address = limits.client(client.address);
    holder.is_for(address, None);
    let mut lease = Lease::of(holder, Kind::Head, early.capacity());
    let Some(settings) = tls else {
        let (stream, proof) = (ClientStream::Bare(stream), listener.proof(None));
        return Ok(Entered { stream, early, client, proof, lease, standing, protocols, destination });
    };
    lease.set(0);
    let of_tls = Lease::of(holder, Kind::Tls, tls::STATE + early.capacity());
    let accepting =
        Box::pin(settings.server.accept(stream, early, standing.within(settings.handshake_timeout), of_tls));
    match shared.handshakes.take(holder.shares_with(), accepting).await {
        Ok(Accepted { stream, identities, chain }) => {
            client.identities = identities;
            holder.is_for(address, client.identity());
            let (stream, early, proof) = (ClientStream::tls(stream), BytesMut::new(), listener.proof(chain));
            Ok(Entered { stream, early, client, proof, lease, standing, protocols, destination })
        }
        Err(Failure { error, stream }) => {
            let reason = error.reason();
            let result = counted(reason, ConnectionResult::TlsFailed);
            let why = error.to_string();
            let in_clear = match error {
                HandshakeError::PlainHttp(head) => Some(head),
                _ => None,
            };
            let client = Some(client.address);
            Err(Closed { result, reason, why: Box::new(why), client, in_clear, stream })
        }
    }
}

/// How a connection is counted that ended in a step: as `failed`, or as a probe if there is no reason to record.
fn counted(reason: Option<Reason>, failed: ConnectionResult) -> ConnectionResult {
    match reason {
        None => ConnectionResult::Probe,
        Some(_) => failed,
    }
}
