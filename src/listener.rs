//! Accepting: one task a listener, one task a connection.
//!
//! What can fail for one connection happens in that connection's task, the PROXY header and the TLS handshake included
//! (`entrance`); what can fail for all (no descriptors) makes the listener pause and go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::client::PeerAddr;
use crate::config::{self, Config};
use crate::entrance::{self, Entered};
use crate::peers::Peers;
use crate::refusals::Refusals;
use crate::shared::Shared;
use crate::telemetry::metrics::{ConnectionResult, Connections, Metrics};
use crate::{proxy, socket};

/// After an accept that failed for want of descriptors: they come back when tunnels end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One listener, as its connections see it.
#[derive(Debug)]
pub struct Listener {
    /// From the configuration.
    pub name: Arc<str>,
    /// Its place in [`Config::listeners`].
    index: usize,
    /// Its counters.
    pub(crate) connections: Connections,
    /// Its log of connections that came to no request.
    pub(crate) refusals: Refusals,
    /// Whether a balancer hides the clients; None where one that does not is spoken to.
    peers: Option<Peers>,
}

impl Listener {
    /// The listener at `index` of [`Config::listeners`].
    pub fn new(index: usize, settings: &config::Listener, metrics: &Metrics) -> Self {
        Listener {
            name: Arc::clone(&settings.name),
            index,
            connections: metrics.connections(&settings.name),
            refusals: Refusals::default(),
            peers: settings.proxy_protocol.is_none().then(Peers::default),
        }
    }

    /// What `config` says of it.
    pub(crate) fn settings<'c>(&self, config: &'c Config) -> &'c config::Listener {
        config.listeners.get(self.index).expect("a reload that changes the listeners is refused")
    }

    /// A connection came to its first request.
    pub(crate) fn accepted(&self, peer: PeerAddr) {
        self.connections.count(ConnectionResult::Accepted);
        if let Some(few) = self.peers.as_ref().and_then(|peers| peers.saw(peer.ip())) {
            tracing::warn!("listener {}: {few}", self.name);
        }
    }
}

/// Tells the metrics of the certificates that the listeners show from now on.
pub(crate) fn count_certificates(metrics: &Metrics, config: &Config) {
    for listener in &config.listeners {
        if let Some(tls) = &listener.tls {
            metrics.certificate_expires(&listener.name, tls.server.expires().as_second() as f64);
        }
    }
}

/// Open connections of all listeners, against the number that the descriptors carry.
#[derive(Debug)]
pub struct Open {
    count: AtomicUsize,
    cap: AtomicUsize,
}

impl Open {
    /// None open.
    pub fn new(cap: usize) -> Self {
        Open { count: AtomicUsize::new(0), cap: AtomicUsize::new(cap) }
    }

    /// Follows a reload of `limits.tunnels`. Connections that are open stay.
    pub fn set_cap(&self, cap: usize) {
        self.cap.store(cap, Ordering::Relaxed);
    }

    fn enter(shared: &Arc<Shared>) -> Option<Place> {
        let open = &shared.connections;
        if open.count.fetch_add(1, Ordering::Relaxed) >= open.cap.load(Ordering::Relaxed) {
            open.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { shared: Arc::clone(shared) })
    }
}

/// One open connection; dropping it gives the place back.
struct Place {
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until the drain closes the listener.
pub async fn serve(socket: TcpListener, listener: Arc<Listener>, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.drain.closed() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => spawn(stream, peer, &listener, &shared),
            Err(error) => {
                tracing::warn!("listener {}: accept failed, trying again: {error}", listener.name);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn spawn(stream: TcpStream, peer: SocketAddr, listener: &Arc<Listener>, shared: &Arc<Shared>) {
    let Some(place) = Open::enter(shared) else {
        // Closed without a word: an answer would need the resources that are gone.
        return listener.connections.count(ConnectionResult::Limit);
    };
    // A socket that cannot be tuned is one that is already gone: the first read says so.
    let _ = socket::tune(&stream);
    let listener = Arc::clone(listener);
    shared.drain.connections().spawn(async move {
        // Given back when all below is gone.
        let place = place;
        let entered = Box::pin(entrance::enter(stream, peer, &listener, &place.shared)).await;
        let Some(Entered { stream, early, client }) = entered else { return };
        // Boxed and dropped: a tunnel at rest holds nothing of what brought it about.
        let served = Box::pin(proxy::serve(stream, early, client, &listener, &place.shared)).await;
        if let Some(tunnel) = served {
            tunnel.run().await;
        }
    });
}
