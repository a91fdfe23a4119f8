//! The admin listener: probes for the kubelet and the load balancer, metrics for Prometheus, the status page for
//! people.
//!
//! It is read-only. The probes answer every client, because an NLB and a kubelet may come from anywhere in the
//! network. Everything else answers only `admin.networks`, and the page and its JSON only under a name that an
//! outsider cannot have ([`site`]). A PROXY header is read if one comes from a trusted peer, but not required: an NLB
//! that speaks PROXY protocol sends it with its health checks, the kubelet and Prometheus do not.

mod api;
mod page;
mod places;
mod ready;
mod reply;
mod site;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::places::{Place, Places};
use self::ready::not_ready;
use self::reply::{html, json, text};
use crate::config::ProxyProtocol;
use crate::state::shared::Shared;
use crate::telemetry::metrics;
use crate::transport::prefixed::Prefixed;
use crate::transport::proxy_header::read_header;
use crate::words::client::{ClientAddr, PeerAddr};

/// The paths that probes ask for, and that every client may.
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/healthz"];
/// A prober sends its head at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From the accept to the last byte of the reply; a scrape of a large policy is some MB.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause after an accept that failed for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers of `/api` that may be made or sent at the same time: each may be some MB.
const ANSWERS: usize = 4;
/// The longest request head, in bytes: no prober and no browser needs more, and hyper accepts at least half of it.
const HEAD_BYTES: usize = 16 * 1024;

/// Serves until the task is dropped: probes are answered to the very end of a drain.
pub async fn serve(socket: TcpListener, shared: Arc<Shared>) {
    let places = Places::default();
    let answers = Arc::new(Semaphore::new(ANSWERS));
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("admin: accept failed: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let config = shared.current.load();
        let address = PeerAddr::new(peer).ip();
        let inside = config.admin.networks.iter().any(|network| network.contains(&address));
        let address = config.limits.client(ClientAddr::new(peer));
        drop(config);
        // Closed if there are too many: in the queue, the client would learn it no sooner.
        let Some(place) = places.enter(address, inside) else { continue };
        let (shared, answers) = (Arc::clone(&shared), Arc::clone(&answers));
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = place.ended() => {}
                () = serve_connection(stream, peer, shared, answers, &place) => {}
            }
        });
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    answers: Arc<Semaphore>,
    place: &Place,
) {
    let mut early = BytesMut::new();
    let Some(client) = client(&mut stream, &mut early, PeerAddr::new(peer), &shared).await else { return };
    // Kept until the last byte of the answer is sent.
    let permit: Mutex<Option<OwnedSemaphorePermit>> = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, answers, permit) = (&shared, &answers, &permit);
        async move {
            place.asks();
            if HEALTH.contains(&request.uri().path()) {
                place.probed();
            }
            Ok::<_, Infallible>(answer(&request, client, shared, answers, permit).await)
        }
    });
    // One request per connection, with a deadline: no client can keep a place that a probe needs.
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_headers(64)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Prefixed::new(stream, early)), service);
    // A prober that goes away in the middle is normal.
    let _ = tokio::time::timeout(EXCHANGE_TIMEOUT, serving).await;
}

/// The client's address, taken from the PROXY header that a trusted peer may send. `None`: the peer sent a malformed
/// header, or nothing in time.
async fn client(
    stream: &mut TcpStream,
    early: &mut BytesMut,
    peer: PeerAddr,
    shared: &Shared,
) -> Option<IpAddr> {
    let trusts = |proxies: &ProxyProtocol| proxies.trusts(peer.ip());
    let is_trusted = shared.current.load().admin.proxy_protocol.as_ref().is_some_and(trusts);
    if !is_trusted {
        return Some(peer.ip());
    }
    match read_header(stream, early, HEAD_TIMEOUT, false).await {
        Ok(header) => {
            let source = header.and_then(|header| header.source);
            Some(source.map_or(peer.ip(), |source| ClientAddr::new(source).ip()))
        }
        Err(error) => {
            tracing::debug!("admin: {peer} closed: {error}");
            None
        }
    }
}

async fn answer(
    request: &Request<Incoming>,
    client: IpAddr,
    shared: &Arc<Shared>,
    answers: &Arc<Semaphore>,
    place: &Mutex<Option<OwnedSemaphorePermit>>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are supported\n");
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    let path = request.uri().path();
    match path {
        "/livez" | "/healthz" => return text(StatusCode::OK, "ok\n"),
        "/readyz" => {
            return match not_ready(shared) {
                None => text(StatusCode::OK, "ok\n"),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            };
        }
        _ => {}
    }
    let admin = &shared.current.load().admin;
    if !admin.networks.iter().any(|network| network.contains(&client)) {
        return text(StatusCode::FORBIDDEN, "this address is not in admin.networks\n");
    }
    if path == "/metrics" {
        return scrape(shared);
    }
    let Some(asked) = api::Endpoint::of(path) else {
        if path == "/" {
            return site::refusal(request.headers().get(HOST), &admin.hosts)
                .unwrap_or_else(|| html(page::document()));
        }
        return text(
            StatusCode::NOT_FOUND,
            "not found. The paths are / (the status page), /api/status, /api/tunnels, /api/decisions, /api/allowed, \
             /api/policy, /metrics, /livez, /readyz and /healthz\n",
        );
    };
    if let Some(refusal) = site::refusal(request.headers().get(HOST), &admin.hosts) {
        return refusal;
    }
    let query = match api::Query::parse(request.uri().query().unwrap_or_default(), asked) {
        Ok(query) => query,
        Err(wrong) => return text(StatusCode::BAD_REQUEST, format!("{wrong}\n")),
    };
    let Ok(permit) = Arc::clone(answers).acquire_owned().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
    };
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    let shared = Arc::clone(shared);
    // Not on the workers: ten thousand tunnels or a million rules take so long that every tunnel on that worker would
    // notice.
    match tokio::task::spawn_blocking(move || api::answer(asked, &query, &shared)).await {
        Ok(body) => json(body),
        Err(error) => {
            tracing::error!("admin: {error}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "a bug in egressd: please report the error on stderr\n")
        }
    }
}

fn scrape(shared: &Shared) -> Response<Full<Bytes>> {
    shared.metrics.ready(not_ready(shared).is_none());
    match shared.metrics.render() {
        Ok(scrape) => {
            let mut reply = text(StatusCode::OK, scrape);
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            reply.headers_mut().insert(CONTENT_TYPE, kind);
            reply
        }
        Err(error) => {
            tracing::error!("metrics: {error}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "a bug in egressd: the metrics contradict each other\n")
        }
    }
}
