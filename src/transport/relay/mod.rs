//! Moves bytes both ways between a client and an upstream until the tunnel ends, and says how it ended.
//!
//! [`Relay::run`] works on two bare sockets: small reads go through one buffer per thread, bulk goes through `splice(2)`
//! and a pipe on loan; an idle tunnel holds neither. [`Relay::run_streams`] does the same for streams that must be copied,
//! such as those of TLS listeners. Both pass on what TCP says: a FIN stays a FIN for its direction, a reset stays a reset.
//!
//! Not here: what the bytes are, user timeouts (set where a tunnel is opened: they arrive here as errors), and what ends a
//! tunnel from outside ([`Cancel`]).

mod direction;
mod end;
mod holding;
mod pipe;
#[cfg(test)]
mod test_generated;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::transport::allowance::Allowance;
use crate::transport::cancel::Cancel;
use crate::transport::close::linger;
use crate::transport::held::{Holder, LAST_LOOK};
use crate::transport::meter::Meter;
use crate::transport::relay::pipe::Pool;
use crate::transport::socket::{bound_unsent, is_gone, keep_alive};
use crate::transport::stream::Transport;
use crate::words::outcome::Ending;
use direction::{Direction, Fault};
use end::{Bare, Copied, End, Watch};
use holding::Holding;

/// How often a long tunnel reports its progress: if the process is killed, no more than that is lost.
pub const PROGRESS: Duration = Duration::from_secs(5 * 60);

/// The age at which the upstream socket of a tunnel gets keepalive and a bound of what it holds unsent. That takes five system calls, and most tunnels of a
/// mirror end before they would need it: the first probe is due after a minute.
const LASTS: Duration = Duration::from_secs(1);

/// What bounds a tunnel.
#[derive(Debug)]
pub struct RelayLimits {
    /// Longest time in which no byte moves in either direction.
    pub idle_timeout: Duration,
    /// When the tunnel ends at the latest (`tunnel.max_lifetime`).
    pub deadline: Option<Instant>,
    /// What may still go from the client to the upstream. What the gate sent is already subtracted.
    pub upload: Allowance,
}

/// Bytes that were read before the relay ran, and that it sends first.
#[derive(Default, Debug)]
pub struct Early {
    /// From the client.
    pub to_upstream: BytesMut,
    /// From the upstream.
    pub to_client: BytesMut,
}

/// One side of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Client,
    Upstream,
}

/// The bytes of one tunnel, moved by one call of [`Relay::run`] or [`Relay::run_streams`]. The caller then closes both sides
/// with [`part`]. It is kept small, and borrows its ends: ten thousand of these may wait at a time.
pub struct Relay<'p> {
    holding: Holding,
    up: Direction<'p>,
    down: Direction<'p>,
    idle_timeout: Duration,
    deadline: Option<Instant>,
    first_fin: Option<Side>,
    /// When a byte last moved.
    moved: Instant,
    /// When it gets keepalive; after that, when its progress is reported next.
    due: Instant,
    /// Whether it is older than [`LASTS`].
    lasts: bool,
    /// Of streams, while one of them is not read: when to look next whether its peer is still there.
    check: Option<Instant>,
}

impl Relay<'static> {
    /// For two bare sockets.
    pub fn splicing(early: Early, limits: RelayLimits, holder: &Arc<Holder>) -> Self {
        Relay::new(early, limits, holder, Some(Pool::shared()))
    }

    /// For streams that must be copied.
    pub fn copying(early: Early, limits: RelayLimits, holder: &Arc<Holder>) -> Self {
        Relay::new(early, limits, holder, None)
    }
}

impl<'p> Relay<'p> {
    fn new(early: Early, limits: RelayLimits, holder: &Arc<Holder>, pool: Option<&'p Pool>) -> Self {
        let RelayLimits { idle_timeout, deadline, upload } = limits;
        let now = Instant::now();
        let mut relay = Relay {
            holding: Holding::new(holder),
            up: Direction::new(early.to_upstream, upload, pool),
            down: Direction::new(early.to_client, Allowance::default(), pool),
            idle_timeout,
            deadline,
            first_fin: None,
            moved: now,
            due: now + LASTS,
            lasts: false,
            check: None,
        };
        relay.count();
        relay
    }

    /// Leases what both directions hold now.
    fn count(&mut self) {
        let Relay { up, down, holding, .. } = self;
        holding.set(up.spilled() + down.spilled(), up.piped() + down.piped());
    }

    fn is_blocked(&self) -> bool {
        self.up.waits() || self.down.waits()
    }

    fn delivered(&self) -> u64 {
        self.up.delivered() + self.down.delivered()
    }

    /// Relays between two bare sockets until the tunnel ends. `sent` in `meter` is what the upstream's socket took,
    /// `received` what the client's took; both move while bytes flow. `progress` is called every [`PROGRESS`].
    ///
    /// Not an `async fn`: the future would hold its arguments twice.
    pub fn run<'a>(
        &'a mut self,
        client: &'a TcpStream,
        upstream: &'a TcpStream,
        meter: &'a Meter,
        cancel: &'a Cancel,
        progress: &'a (impl Fn() + Sync),
    ) -> impl Future<Output = Ending> + Send + 'a {
        let watches = [Watch::new(Some(client)), Watch::new(Some(upstream))];
        let (client, upstream) = (Bare(client), Bare(upstream));
        let mut flow = Flow { client, upstream, watches, relay: self, meter, progress };
        async move { flow.run(cancel).await }
    }

    /// Relays between any two streams, by copying. A reset of a stream that is neither read nor written is noticed within
    /// [`LAST_LOOK`].
    pub fn run_streams<'a, C: Transport + Send, U: Transport + Send>(
        &'a mut self,
        client: &'a mut C,
        upstream: &'a mut U,
        meter: &'a Meter,
        cancel: &'a Cancel,
        progress: &'a (impl Fn() + Sync),
    ) -> impl Future<Output = Ending> + Send + 'a {
        let watches = [Watch::new(None), Watch::new(None)];
        let (client, upstream) = (Copied(client), Copied(upstream));
        let mut flow = Flow { client, upstream, watches, relay: self, meter, progress };
        async move { flow.run(cancel).await }
    }

    fn wake_at(&self) -> Instant {
        // tokio's timers reach about two years ahead. A longer timeout is treated as a year.
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let idle = self.moved + self.idle_timeout.min(FAR);
        let wake = self.deadline.map_or(idle, |deadline| deadline.min(idle)).min(self.due);
        let wake = self.check.map_or(wake, |check| check.min(wake));
        self.holding.due().map_or(wake, |look| look.min(wake))
    }
}

/// Closes both sides as `ending` requires: the side that is still open sees the end that it would have seen without us. Waits
/// only where it may not send more, and then at most a second.
pub fn part<C: Transport, U: Transport>(client: C, upstream: U, ending: Ending) -> impl Future<Output = ()> {
    let mut lingering = None;
    match ending {
        Ending::ClientReset | Ending::ClientLost => reset(&upstream),
        Ending::UpstreamReset | Ending::UpstreamLost => reset(&client),
        // An orderly close would leave what the peers do not read with the kernel, for minutes.
        Ending::InternalError | Ending::MemoryLimit => {
            reset(&client);
            reset(&upstream);
        }
        // What the limit allows must arrive: a reset on that side would destroy what is still under way.
        Ending::UploadLimit | Ending::SharedStateUnavailable => {
            reset(&client);
            lingering = Some(Box::pin(linger(upstream)));
        }
        Ending::ClientClosed
        | Ending::UpstreamClosed
        | Ending::IdleTimeout
        | Ending::MaxLifetime
        | Ending::PolicyRevoked
        | Ending::IdentityRevoked
        | Ending::Refused
        | Ending::Drained => {}
    }
    async {
        if let Some(lingering) = lingering {
            lingering.await;
        }
    }
}

/// Closes the side of a client as [`part`] does, where it has no upstream of its own.
pub fn part_client<C: Transport>(client: C, ending: Ending) {
    if matches!(ending, Ending::InternalError | Ending::MemoryLimit) {
        reset(&client);
    }
}

/// Makes the close of `stream` a reset.
fn reset<S: Transport>(stream: &S) {
    // It fails only where the socket is already gone.
    let _ = stream.socket().set_zero_linger();
}

/// The ending for an error of one side. Linux reports a reset that comes after the peer's FIN as EPIPE.
pub(crate) fn ending_of(client: bool, error: &io::Error) -> Ending {
    use io::ErrorKind::*;
    match (error.kind(), client) {
        (
            ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected | WriteZero | UnexpectedEof,
            true,
        ) => Ending::ClientReset,
        (
            ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected | WriteZero | UnexpectedEof,
            false,
        ) => Ending::UpstreamReset,
        (TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown, true) => Ending::ClientLost,
        (TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown, false) => Ending::UpstreamLost,
        // An error of TLS about its peer: it broke the connection.
        (InvalidData, true) => Ending::ClientReset,
        (InvalidData, false) => Ending::UpstreamReset,
        _ => Ending::InternalError,
    }
}

/// A running relay with its two ends.
struct Flow<'f, 'p, C, U, P> {
    client: C,
    upstream: U,
    /// For the client, and for the upstream.
    watches: [Watch<'f>; 2],
    relay: &'f mut Relay<'p>,
    meter: &'f Meter,
    progress: &'f P,
}

impl<C: End, U: End, P: Fn()> Flow<'_, '_, C, U, P> {
    /// Everything that waits is pinned where it is made: a future that is passed by value is held twice.
    async fn run(&mut self, cancel: &Cancel) -> Ending {
        let mut cancelled = pin!(cancel.cancelled());
        let mut timer = pin!(sleep_until(self.relay.wake_at()));
        let ending = poll_fn(|cx| {
            if let Poll::Ready(ending) = cancelled.as_mut().poll(cx) {
                return Poll::Ready(ending);
            }
            while self.relay.holding.poll_turn(cx).is_pending() {
                let ended = self.poll_timer(cx, timer.as_mut());
                // The last look gives the place in line up, and what has woken this task is still to be done.
                if ended.is_ready() || self.relay.holding.takes_turns() {
                    return ended;
                }
            }
            let before = self.relay.delivered();
            if let Poll::Ready(ending) = self.poll_directions(cx) {
                return Poll::Ready(ending);
            }
            let moved = self.relay.delivered() != before;
            self.relay.holding.had_turn(cx, moved);
            self.relay.count();
            let (blocked, delivered) = (self.relay.is_blocked(), self.relay.delivered());
            if self.must_check() | self.relay.holding.blocked(blocked, delivered) {
                timer.as_mut().reset(self.relay.wake_at());
            }
            if let Poll::Ready(ending) = self.poll_watches(cx) {
                return Poll::Ready(ending);
            }
            self.poll_timer(cx, timer.as_mut())
        })
        .await;
        self.relay.holding.leave_line();
        ending
    }

    /// A stream that is not read does not report its reset, and cannot be watched as a socket can. True if the timer has to be set for
    /// the first look at it.
    fn must_check(&mut self) -> bool {
        let [client, upstream] = &self.watches;
        let relay = &mut *self.relay;
        let is_unseen =
            (!relay.up.reads() && !client.can_watch()) || (!relay.down.reads() && !upstream.can_watch());
        if !is_unseen {
            relay.check = None;
        }
        let is_new = is_unseen && relay.check.is_none();
        if is_new {
            relay.check = Some(Instant::now() + LAST_LOOK);
        }
        is_new
    }

    /// The side whose connection is gone: a socket that was reset has no peer any more.
    fn gone(&self) -> Option<Ending> {
        if is_gone(self.client.socket()) {
            return Some(Ending::ClientReset);
        }
        is_gone(self.upstream.socket()).then_some(Ending::UpstreamReset)
    }

    /// A side that is being read reports its reset by itself. A side that is not must be watched.
    fn poll_watches(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let [client, upstream] = &mut self.watches;
        if !self.relay.up.reads()
            && let Poll::Ready(error) = client.poll(cx)
        {
            return Poll::Ready(ending_of(true, &error));
        }
        if !self.relay.down.reads()
            && let Poll::Ready(error) = upstream.poll(cx)
        {
            return Poll::Ready(ending_of(false, &error));
        }
        Poll::Pending
    }

    fn poll_directions(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let Relay { up, down, first_fin, moved, holding, .. } = &mut *self.relay;
        let before = up.delivered() + down.delivered();
        // The upstream first, so that what it sent before its reset reaches the client.
        let may = holding.may();
        let downward =
            down.poll(cx, may, &mut self.upstream, &mut self.client, |n| self.meter.add_received(n));
        if down.at_end() {
            first_fin.get_or_insert(Side::Upstream);
        }
        if let Poll::Ready(Err(fault)) = downward {
            return Poll::Ready(fault.ending(Side::Upstream));
        }
        let upward = up.poll(cx, may, &mut self.client, &mut self.upstream, |n| self.meter.add_sent(n));
        if up.at_end() {
            first_fin.get_or_insert(Side::Client);
        }
        if let Poll::Ready(Err(fault)) = upward {
            return Poll::Ready(fault.ending(Side::Client));
        }
        if up.delivered() + down.delivered() != before {
            *moved = Instant::now();
        }
        match (downward, upward, first_fin) {
            (Poll::Ready(_), Poll::Ready(_), Some(Side::Upstream)) => Poll::Ready(Ending::UpstreamClosed),
            (Poll::Ready(_), Poll::Ready(_), _) => Poll::Ready(Ending::ClientClosed),
            _ => Poll::Pending,
        }
    }

    /// What the kernel holds for directions that wait for their receivers: what came and is not read, and what is not sent.
    fn look(&mut self, now: Instant) {
        let (client, upstream) = (self.client.socket(), self.upstream.socket());
        let delivered = self.relay.delivered();
        let Relay { up, down, holding, .. } = &mut *self.relay;
        let blocked = up.waits() || down.waits();
        holding.look(now, blocked, delivered, [client, upstream]);
    }

    /// The timer is not moved while bytes move. It fires, sees that they did, and is set to the right time.
    fn poll_timer(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Ending> {
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.relay.deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(Ending::MaxLifetime);
            }
            if now.duration_since(self.relay.moved) >= self.relay.idle_timeout {
                return Poll::Ready(Ending::IdleTimeout);
            }
            if self.relay.check.is_some_and(|check| check <= now) {
                if let Some(ending) = self.gone() {
                    return Poll::Ready(ending);
                }
                self.relay.check = Some(now + LAST_LOOK);
            }
            if self.relay.due <= now {
                if self.relay.lasts {
                    (self.progress)();
                } else {
                    self.relay.lasts = true;
                    // It fails only where the connection is already gone: the next read or write reports that.
                    let _ = keep_alive(self.upstream.socket());
                    if !self.relay.up.is_loose() {
                        let _ = bound_unsent(self.upstream.socket());
                    }
                }
                self.relay.due = now + PROGRESS;
            }
            self.look(now);
            timer.as_mut().reset(self.relay.wake_at());
        }
        Poll::Pending
    }
}

impl Fault {
    /// `from`: the side that the failed direction reads.
    fn ending(&self, from: Side) -> Ending {
        match self {
            Fault::Read(error) => ending_of(from == Side::Client, error),
            Fault::Write(error) => ending_of(from != Side::Client, error),
            Fault::Spent(ending) => *ending,
        }
    }
}
