//! Accepting: one task a listener, one task a connection.
//!
//! What can fail for one connection happens in that connection's task; what can fail for all (no descriptors) makes
//! the listener pause and go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::client::Client;
use crate::proxy;
use crate::shared::Shared;
use crate::telemetry::metrics::Connection;

/// After an accept that failed for want of descriptors: they come back when tunnels end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of all listeners, against the number that the descriptors carry.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    cap: usize,
}

impl Connections {
    /// None open.
    pub fn new(cap: usize) -> Self {
        Connections { open: AtomicUsize::new(0), cap }
    }

    fn enter(shared: &Arc<Shared>) -> Option<Place> {
        let connections = &shared.connections;
        if connections.open.fetch_add(1, Ordering::Relaxed) >= connections.cap {
            connections.open.fetch_sub(1, Ordering::Relaxed);
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
        self.shared.connections.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until the drain closes the listener.
pub async fn serve(socket: TcpListener, name: Arc<str>, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.drain.closed() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => spawn(stream, peer, &name, &shared),
            Err(error) => {
                tracing::warn!("listener {name}: accept failed, trying again: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn spawn(stream: TcpStream, peer: SocketAddr, name: &Arc<str>, shared: &Arc<Shared>) {
    let Some(place) = Connections::enter(shared) else {
        // Closed without a word: an answer would need the resources that are gone.
        shared.metrics.connection(name, Connection::Limit);
        return;
    };
    shared.metrics.connection(name, Connection::Accepted);
    let name = Arc::clone(name);
    let shared = Arc::clone(shared);
    let tasks = shared.drain.connections().clone();
    tasks.spawn(async move {
        proxy::serve(stream, Client::direct(peer), name, &shared).await;
        drop(place);
    });
}
