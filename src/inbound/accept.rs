//! Accepting: one task per listener, one task per connection.
//!
//! A failure of one connection happens in that connection's task, including the PROXY header and the TLS handshake
//! ([`enter`]); a failure that affects all (no descriptors) makes the listener pause and go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::inbound::enter::{self, Entered};
use crate::inbound::http1;
use crate::session::tunnel::Established;
use crate::state::limits::Presence;
use crate::state::limits::connections::OpenConnection;
use crate::state::listener::Listener;
use crate::state::shared::Shared;
use crate::telemetry::metrics::ConnectionResult;

/// After an accept that failed for lack of descriptors: they become free when tunnels end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    let Some(mut place) = enter::place(peer, listener, shared) else {
        // Closed without a reply: a reply would need the resources that are missing.
        return listener.connections.count(ConnectionResult::Limit);
    };
    let (listener, shared) = (Arc::clone(listener), Arc::clone(shared));
    let tasks = shared.drain.connections().clone();
    tasks.spawn(async move {
        // Boxed and dropped: an idle tunnel keeps nothing of the steps before it.
        let served = Box::pin(serve_one(stream, peer, &mut place, &listener, &shared)).await;
        if let Some((tunnel, _presence)) = served {
            tunnel.run().await;
        }
        // Freed when everything above is gone.
        drop(place);
    });
}

/// Everything up to the tunnel, if the connection becomes one.
async fn serve_one<'s>(
    stream: TcpStream,
    peer: SocketAddr,
    place: &mut OpenConnection,
    listener: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
) -> Option<(Box<Established<'s>>, Presence)> {
    let entered = Box::pin(enter::enter(stream, peer, place, listener, shared)).await;
    let Entered { stream, early, client, presence, standing } = entered?;
    let tunnel = http1::serve(stream, early, client, standing, listener, shared).await?;
    Some((tunnel, presence))
}
