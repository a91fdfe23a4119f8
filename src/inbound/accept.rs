//! Accepting: one task per listener, one task per connection.
//!
//! A failure of one connection happens in that connection's task, including the PROXY header and the TLS handshake
//! ([`enter`]); a failure that affects all (no descriptors) makes the listener pause and go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::inbound::enter::{self, Entered, Standing};
use crate::inbound::http1;
use crate::session::tunnel::Established;
use crate::state::limits::Presence;
use crate::state::limits::connections::OpenConnection;
use crate::state::listener::Listener;
use crate::state::shared::Shared;
use crate::telemetry::metrics::ConnectionResult;
use crate::transport::held::{Holder, Kind, Lease};
use crate::words::client::PeerAddr;

/// The memory of a connection: its task, its socket, and what the kernel has for it. `tests/long/side_by_side` prints the first,
/// and the second is 4 KiB (of a cgroup, for each accepted socket).
pub const CONNECTION: usize = 6 * 1024;

/// How long a connection may wait for memory before it is closed.
const ROOM_PAUSE: Duration = Duration::from_millis(500);

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
            Ok((stream, peer)) => match hold(peer, &listener, &shared).await {
                Some(held) => spawn(stream, peer, held, &listener, &shared),
                // Closed without a reply: a reply would need the resources that are missing.
                None => listener.connections.count(ConnectionResult::Limit),
            },
            Err(error) => {
                tracing::warn!("listener {}: accept failed, trying again: {error}", listener.name);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a connection holds by being open: its place, and memory. Without memory, connections are ended that do not move;
/// meanwhile, nobody is accepted. Nothing is ended for a client that no policy can match.
async fn hold(peer: SocketAddr, listener: &Listener, shared: &Shared) -> Option<(OpenConnection, Lease)> {
    let (place, standing) = enter::place(peer, listener, shared)?;
    let mut lease = Lease::new(&shared.held.enter(), Kind::Connection);
    if !lease.try_grow(CONNECTION) {
        if standing == Standing::Stranger {
            return None;
        }
        let client = shared.current.load().limits.client(PeerAddr::new(peer).ip());
        lease.holder().is_for(client, None);
        tokio::time::timeout(ROOM_PAUSE, lease.grow(CONNECTION)).await.ok()?;
    }
    Some((place, lease))
}

fn spawn(
    stream: TcpStream,
    peer: SocketAddr,
    (mut place, lease): (OpenConnection, Lease),
    listener: &Arc<Listener>,
    shared: &Arc<Shared>,
) {
    let (listener, shared) = (Arc::clone(listener), Arc::clone(shared));
    let tasks = shared.drain.connections().clone();
    tasks.spawn(async move {
        let lease = lease;
        // Boxed and dropped: an idle tunnel keeps nothing of the steps before it.
        let served = Box::pin(serve_one(stream, peer, &mut place, lease.holder(), &listener, &shared)).await;
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
    holder: &Arc<Holder>,
    listener: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
) -> Option<(Established<'s>, Presence)> {
    let entered = Box::pin(enter::enter(stream, peer, place, listener, shared, holder)).await;
    let Entered { stream, early, client, proof, presence, lease, standing } = entered?;
    let who = (client, proof, standing);
    let tunnel = Box::pin(http1::serve(stream, early, lease, who, listener, shared)).await?;
    Some((tunnel, presence))
}
