//! The admin listener: probes for the kubelet and the load balancer, metrics for Prometheus.
//!
//! Nothing here changes anything. The probes answer everyone, because an NLB and a kubelet come from anywhere in the
//! network; everything else answers `admin.networks` alone. A PROXY header is read where one comes from a trusted peer, and
//! not required: an NLB that speaks it sends it with its health checks, the kubelet and Prometheus do not.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::client::{ClientAddr, PeerAddr};
use crate::config::{OnLogFailure, ProxyProtocol};
use crate::early::Early;
use crate::proxy_protocol::read_header;
use crate::shared::Shared;
use crate::telemetry::metrics;

/// Enough for every prober and scraper there is; a flood from inside cannot take the descriptors.
const CONNECTIONS: usize = 64;
/// A prober sends its head at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From the accept to the last byte of the reply; a scrape of a large policy is some MB.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the log must have failed before a balancer is told to send elsewhere.
const UNREADY_AFTER: Duration = Duration::from_secs(5);
/// After an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the task is dropped: probes are answered to the very end of a drain.
pub async fn serve(socket: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("admin: accept failed: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Closed when there are too many: whoever waits in the queue would find out no sooner.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            serve_connection(stream, peer, shared).await;
            drop(place);
        });
    }
}

async fn serve_connection(mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let mut early = BytesMut::new();
    let Some(client) = client(&mut stream, &mut early, PeerAddr::new(peer), &shared).await else { return };
    let service = service_fn(|request: Request<Incoming>| {
        let reply = answer(&request, client, &shared);
        async move { Ok::<_, Infallible>(reply) }
    });
    // One request a connection, and an end to it: nobody can keep a place that a probe needs.
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_headers(64)
        .serve_connection(TokioIo::new(Early::new(stream, early)), service);
    // A prober that goes away in the middle is no news.
    let _ = tokio::time::timeout(EXCHANGE_TIMEOUT, serving).await;
}

/// Who asks, by the PROXY header that a trusted peer may send. `None`: it sent a malformed one, or nothing in time.
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

fn answer(request: &Request<Incoming>, client: IpAddr, shared: &Shared) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    match request.uri().path() {
        "/livez" | "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match not_ready(shared) {
            None => text(StatusCode::OK, "ok\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        _ if !shared.current.load().admin.networks.iter().any(|network| network.contains(&client)) => {
            text(StatusCode::FORBIDDEN, "this address is not in admin.networks\n")
        }
        "/metrics" => {
            let scrape = match shared.metrics.render() {
                Ok(scrape) => scrape,
                Err(error) => {
                    tracing::error!("metrics: {error}");
                    return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics contradict each other\n");
                }
            };
            let mut reply = text(StatusCode::OK, scrape);
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            reply.headers_mut().insert(CONTENT_TYPE, kind);
            reply
        }
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /healthz and /metrics\n"),
    }
}

/// Why a load balancer should send new connections elsewhere.
fn not_ready(shared: &Shared) -> Option<&'static str> {
    if shared.drain.is_going() {
        Some("draining\n")
    } else if shared.current.load().access_log.on_failure == OnLogFailure::Deny
        && shared.log.unavailable_for().is_some_and(|lasts| lasts >= UNREADY_AFTER)
    {
        Some("log_unavailable\n")
    } else {
        None
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
