//! Accepting: one task per listener, one task per connection.
//!
//! A failure of one connection happens in that connection's task, including the PROXY header and the TLS handshake
//! ([`enter`]); a failure that affects all (no descriptors) makes the listener pause and go on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Protocols;
use crate::inbound::door::Door;
use crate::inbound::enter::{self, Entered};
use crate::inbound::http1::Begun;
use crate::inbound::place::{Full, Place, Standing};
use crate::inbound::{either, http1, transparent};
use crate::session::refuse::bounded::{self, RefusedConnection};
use crate::session::tunnel::Established;
use crate::state::listener::Listener;
use crate::state::listener::flood::Who;
use crate::state::shared::Shared;
use crate::telemetry::metrics::ConnectionResult;
use crate::telemetry::record::new_id;
use crate::transport::held::{Kind, Lease, queued};
use crate::words::client::{Client, ClientAddr, PeerAddr};
use crate::words::outcome::Reason;

/// The memory of a connection: its task, its socket, and what the kernel has for it. `tests/long/side_by_side` prints the first,
/// and the second is 4 KiB (of a cgroup, for each accepted socket).
pub const CONNECTION: usize = 6 * 1024;

/// How long a connection may wait for memory before it is closed: longer than the budget has patience with what does not move.
const ROOM_PAUSE: Duration = Duration::from_secs(3);
/// The same for a client that holds little: others end for it, which may take its time on a busy processor.
const ROOM_PAUSE_LITTLE: Duration = Duration::from_secs(10);

/// How many connections of a listener may wait for it: they hold what they have sent, in the kernel, and a burst of them must not be
/// turned away while what was ended for it is about to leave.
const MOST_WAITING: usize = 256;
/// Of clients that hold much, fewer: as many as have their turn soon. Who is turned away costs least at accept, before anything was
/// asked about it.
const MOST_WAITING_HEAVY: usize = 64;
/// How soon.
const TURN_WAIT: Duration = Duration::from_secs(1);

/// Places to wait in.
struct Waiting {
    /// For clients that hold much.
    much: Arc<Semaphore>,
    /// For the others.
    little: Arc<Semaphore>,
}

impl Default for Waiting {
    fn default() -> Self {
        let places = |most| Arc::new(Semaphore::new(most));
        Waiting { much: places(MOST_WAITING_HEAVY), little: places(MOST_WAITING) }
    }
}

/// After an accept that failed for lack of descriptors: they become free when tunnels end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the drain closes the listener.
pub async fn serve(socket: Door, listener: Arc<Listener>, shared: Arc<Shared>) {
    let waiting = Waiting::default();
    loop {
        let accepted: io::Result<_> = tokio::select! {
            biased;
            () = shared.drain.over() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Not given up for a drain: nobody else has this connection.
                let place = Place::accepted(peer, &listener, &shared).await;
                match place.and_then(|place| hold(&stream, peer, place, &shared, &waiting)) {
                    Ok(held) => spawn(stream, peer, held, &listener, &shared),
                    // Closed without a reply: a reply would need the resources that are missing.
                    Err(full) => turn_away(peer, full, &listener, &shared),
                }
            }
            Err(error) => {
                tracing::warn!("listener {}: accept failed, trying again: {error}", listener.name);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a connection holds by being open, beside its place: memory. While memory is short, a client that has much of its share must
/// wait until its own connections end that do not move, in its task: nobody else waits behind it.
///
/// # Errors
/// [`Full`]: too many wait already, or it is a client that no policy can match, for which nothing is ended.
fn hold(
    stream: &TcpStream,
    peer: PeerAddr,
    place: Place,
    shared: &Shared,
    waiting: &Waiting,
) -> Result<Held, Full> {
    let standing = place.standing();
    let mut lease = Lease::new(&shared.held.enter(), Kind::Connection);
    let holder = Arc::clone(lease.holder());
    if shared.held.is_pressed() {
        holder.is_for(shared.current.load().limits.client(ClientAddr::of_peer(peer)), None);
    }
    let turn = match standing {
        Standing::Stranger => None,
        Standing::Expected => holder.turn(TURN_WAIT).map_err(|_| Full::Memory)?,
    };
    // What it has sent is the kernel's until it is read. Nobody looks at it before there is a tunnel or an exchange.
    let mut unread = Lease::new(&holder, Kind::Socket);
    let mut waits = None;
    if turn.is_some() || !lease.try_grow(CONNECTION) {
        if standing == Standing::Stranger {
            return Err(Full::Strangers);
        }
        let places = if holder.is_heavy() { &waiting.much } else { &waiting.little };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| Full::Memory)?;
        waits = Some((place, turn.unwrap_or_else(Instant::now)));
        unread.set(queued(stream).bytes);
    }
    Ok(Held { place, lease, unread, waits })
}

/// Counts a connection that is closed at once, and records it at a bounded rate.
fn turn_away(peer: PeerAddr, full: Full, listener: &Arc<Listener>, shared: &Arc<Shared>) {
    listener.connections.count(ConnectionResult::Limit);
    let Some(why) = full.why() else { return };
    let client = listener.settings(&shared.current.load()).proxy_protocol.is_none();
    let client = client.then(|| Client::of_peer(peer).address);
    let who = Who { peer, client };
    let refused =
        RefusedConnection { id: new_id(), reason: Reason::LimitReached, who, why: &why, in_clear: None };
    bounded::record(listener, shared, &refused);
}

/// What a connection has when its task begins.
struct Held {
    place: Place,
    lease: Lease,
    /// Of what it had sent by then.
    unread: Lease,
    /// It has no memory yet, and must not have any before its turn.
    waits: Option<(OwnedSemaphorePermit, Instant)>,
}

/// What only the beginning of a connection needs.
struct Begin {
    stream: TcpStream,
    peer: PeerAddr,
    /// Of what it had sent when it was accepted.
    unread: Lease,
    /// Until it has memory.
    waits: Option<(OwnedSemaphorePermit, Instant)>,
}

fn spawn(stream: TcpStream, peer: PeerAddr, held: Held, listener: &Arc<Listener>, shared: &Arc<Shared>) {
    let (listener, shared) = (Arc::clone(listener), Arc::clone(shared));
    let tasks = shared.drain.connections().clone();
    // Taken apart here, and boxed: ten thousand of these tasks wait in their tunnels, and what a task is given it keeps to its end.
    let Held { mut place, mut lease, unread, waits } = held;
    let begin = Box::new(Begin { stream, peer, unread, waits });
    tasks.spawn(async move {
        let served = Box::pin(begin.serve(&mut place, &mut lease, &listener, &shared)).await;
        if let Some(tunnel) = served {
            tunnel.run().await;
        }
        // Freed when everything above is gone.
        drop(place);
    });
}

impl Begin {
    /// Everything up to the tunnel, if the connection becomes one.
    async fn serve<'s>(
        self: Box<Self>,
        place: &mut Place,
        lease: &mut Lease,
        listener: &'s Arc<Listener>,
        shared: &'s Arc<Shared>,
    ) -> Option<Established<'s>> {
        let Begin { stream, peer, unread, waits } = *self;
        if let Some((waits, turn)) = waits {
            if !Box::pin(has_room(turn, place, lease)).await {
                turn_away(peer, Full::Memory, listener, shared);
                return None;
            }
            drop(waits);
        }
        // From here on it is read.
        drop(unread);
        let holder = lease.holder();
        let entered = Box::pin(enter::enter(stream, peer, place, listener, shared, holder)).await;
        let Entered { stream, early, client, proof, lease, standing, protocols, destination } = entered?;
        let who = (client, proof, standing);
        if protocols.transparent {
            let serving = transparent::serve(stream, early, lease, who, destination, listener, shared);
            return Box::pin(serving).await;
        }
        if protocols != Protocols::HTTP {
            return Box::pin(either::serve(stream, early, lease, who, protocols, listener, shared)).await;
        }
        Box::pin(http1::serve(stream, early, lease, who, Begun::default(), listener, shared)).await
    }
}

/// Waits for the turn and for memory; false if there is none in time, or others need its place.
async fn has_room(turn: Instant, place: &Place, lease: &mut Lease) -> bool {
    let holder = Arc::clone(lease.holder());
    let room = async {
        sleep_until(turn).await;
        let pause = if holder.is_heavy() { ROOM_PAUSE } else { ROOM_PAUSE_LITTLE };
        timeout(pause, lease.grow(CONNECTION)).await.is_ok()
    };
    tokio::select! {
        biased;
        () = holder.given_up() => false,
        () = place.ended() => false,
        room = room => room,
    }
}
