//! Moves bytes both ways between a client and an upstream until the tunnel ends, and says how it ended.
//!
//! [`relay`] works on two bare sockets: small reads go through one buffer per thread, bulk through `splice(2)` and a
//! pipe on loan; a tunnel at rest holds neither. [`relay_streams`] does the same for streams that must be copied,
//! such as TLS listeners. Both pass on what TCP says: a FIN stays a FIN for its direction, a reset stays a reset.
//!
//! Left out: what the bytes are (`hello_gate`), keepalive and user timeouts (set where sockets are made: they come
//! here as errors), and what ends a tunnel from outside ([`Cancel`]).

mod direction;
mod end;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::budget::Allowance;
use crate::cancel::Cancel;
use crate::linger::linger;
use crate::meter::Meter;
use crate::outcome::Ending;
use crate::pipe::Pool;
use direction::{Direction, Fault};
use end::{Bare, Copied, End, Watch};

/// What bounds a tunnel.
#[derive(Debug)]
pub struct RelayLimits {
    /// Longest time in which no byte moves in either direction.
    pub idle_timeout: Duration,
    /// When the tunnel ends in any case (`tunnel.max_lifetime`).
    pub deadline: Option<Instant>,
    /// What may still go from the client to the upstream. The gate has taken off what it sent.
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

/// A byte stream over one TCP connection: what [`relay_streams`] takes.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// The connection underneath, so that a reset can be passed on.
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Client,
    Upstream,
}

/// Relays between two bare sockets, and closes both; takes the allowance out of `limits`. `sent` in `meter` is what the
/// upstream's socket took, `received` what the client's took; both move while bytes flow.
pub fn relay<'a>(
    client: TcpStream,
    upstream: TcpStream,
    early: Early,
    limits: &'a mut RelayLimits,
    meter: &'a Meter,
    cancel: &'a Cancel,
) -> impl Future<Output = Ending> + Send + 'a {
    relay_through(Pool::shared(), client, upstream, early, limits, meter, cancel)
}

/// Not an `async fn`, and everything that waits is pinned where it is made: an argument or a future that is handed on
/// by value stands in the future twice.
fn relay_through<'a>(
    pool: &'a Pool,
    client: TcpStream,
    upstream: TcpStream,
    early: Early,
    limits: &'a mut RelayLimits,
    meter: &'a Meter,
    cancel: &'a Cancel,
) -> impl Future<Output = Ending> + Send + 'a {
    let mut directions = directions(early, limits, Some(pool));
    let limits = &*limits;
    async move {
        let ending = {
            let mut flow = Flow::new(Bare(&client), Bare(&upstream), &mut directions, limits, meter);
            let watches = [Watch::new(Some(&client)), Watch::new(Some(&upstream))];
            let timer = pin!(sleep_until(flow.wake_at()));
            flow.run(watches, pin!(cancel.cancelled()), timer).await
        };
        part(client, upstream, ending).await;
        ending
    }
}

/// Relays between any two streams, by copying. A reset that a stream only shows to a reader is noticed while it is
/// read or written: after its half-close, at the next write.
pub async fn relay_streams<C: Transport, U: Transport>(
    mut client: C,
    mut upstream: U,
    early: Early,
    limits: &mut RelayLimits,
    meter: &Meter,
    cancel: &Cancel,
) -> Ending {
    let ending = {
        let mut directions = directions(early, limits, None);
        let mut flow = Flow::new(Copied(&mut client), Copied(&mut upstream), &mut directions, limits, meter);
        let watches = [Watch::new(None), Watch::new(None)];
        let timer = pin!(sleep_until(flow.wake_at()));
        flow.run(watches, pin!(cancel.cancelled()), timer).await
    };
    part(client, upstream, ending).await;
    ending
}

/// Closes both sides as `ending` asks: the side that still stands sees of the other's end what it would have seen
/// without us. Waits only after [`Ending::UploadLimit`], and then at most a second.
pub fn part<C: Transport, U: Transport>(client: C, upstream: U, ending: Ending) -> impl Future<Output = ()> {
    let mut lingering = None;
    match ending {
        Ending::ClientReset | Ending::ClientLost => reset(&upstream),
        Ending::UpstreamReset | Ending::UpstreamLost => reset(&client),
        Ending::InternalError => {
            reset(&client);
            reset(&upstream);
        }
        // Exactly what the limit allows arrives: a reset on that side would take back what is still under way.
        Ending::UploadLimit => {
            reset(&client);
            lingering = Some(Box::pin(linger(upstream)));
        }
        Ending::ClientClosed
        | Ending::UpstreamClosed
        | Ending::IdleTimeout
        | Ending::MaxLifetime
        | Ending::PolicyRevoked
        | Ending::Drained => {}
    }
    async {
        if let Some(lingering) = lingering {
            lingering.await;
        }
    }
}

/// Makes the close of `stream` a reset.
fn reset<S: Transport>(stream: &S) {
    // It fails only where the socket is gone already.
    let _ = stream.socket().set_zero_linger();
}

/// How the end of a side is told in the log. Linux reports a reset that comes after the peer's FIN as EPIPE.
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
        // A TLS layer's complaint about its peer: it broke off.
        (InvalidData, true) => Ending::ClientReset,
        (InvalidData, false) => Ending::UpstreamReset,
        _ => Ending::InternalError,
    }
}

/// Both directions of one tunnel. Kept small: ten thousand of them wait at a time.
struct Flow<'f, 'a, C, U> {
    client: C,
    upstream: U,
    up: &'f mut Direction<'a>,
    down: &'f mut Direction<'a>,
    meter: &'f Meter,
    limits: &'f RelayLimits,
    first_fin: Option<Side>,
    /// When a byte last moved.
    moved: Instant,
}

/// Towards the upstream, and towards the client.
fn directions<'a>(early: Early, limits: &mut RelayLimits, pool: Option<&'a Pool>) -> [Direction<'a>; 2] {
    [
        Direction::new(early.to_upstream, std::mem::take(&mut limits.upload), pool),
        Direction::new(early.to_client, Allowance::default(), pool),
    ]
}

impl<'f, 'a, C: End, U: End> Flow<'f, 'a, C, U> {
    fn new(
        client: C,
        upstream: U,
        [up, down]: &'f mut [Direction<'a>; 2],
        limits: &'f RelayLimits,
        meter: &'f Meter,
    ) -> Self {
        Flow { client, upstream, up, down, meter, limits, first_fin: None, moved: Instant::now() }
    }

    fn run(
        &mut self,
        [mut client_watch, mut upstream_watch]: [Watch<'f>; 2],
        mut cancelled: Pin<&mut impl Future<Output = Ending>>,
        mut timer: Pin<&mut Sleep>,
    ) -> impl Future<Output = Ending> {
        poll_fn(move |cx| {
            if let Poll::Ready(ending) = cancelled.as_mut().poll(cx) {
                return Poll::Ready(ending);
            }
            if let Poll::Ready(ending) = self.poll_directions(cx) {
                return Poll::Ready(ending);
            }
            // Who is being read tells of its reset by itself. Who is not must be watched.
            if !self.up.reads()
                && let Poll::Ready(error) = client_watch.poll(cx)
            {
                return Poll::Ready(ending_of(true, &error));
            }
            if !self.down.reads()
                && let Poll::Ready(error) = upstream_watch.poll(cx)
            {
                return Poll::Ready(ending_of(false, &error));
            }
            self.poll_timer(cx, timer.as_mut())
        })
    }

    fn poll_directions(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let before = self.up.delivered() + self.down.delivered();
        // The upstream first: what it said before it reset reaches the client.
        let down = self.down.poll(cx, &mut self.upstream, &mut self.client, |n| self.meter.add_received(n));
        if self.down.at_end() {
            self.first_fin.get_or_insert(Side::Upstream);
        }
        if let Poll::Ready(Err(fault)) = down {
            return Poll::Ready(fault.ending(Side::Upstream));
        }
        let up = self.up.poll(cx, &mut self.client, &mut self.upstream, |n| self.meter.add_sent(n));
        if self.up.at_end() {
            self.first_fin.get_or_insert(Side::Client);
        }
        if let Poll::Ready(Err(fault)) = up {
            return Poll::Ready(fault.ending(Side::Client));
        }
        if self.up.delivered() + self.down.delivered() != before {
            self.moved = Instant::now();
        }
        match (down, up, self.first_fin) {
            (Poll::Ready(_), Poll::Ready(_), Some(Side::Upstream)) => Poll::Ready(Ending::UpstreamClosed),
            (Poll::Ready(_), Poll::Ready(_), _) => Poll::Ready(Ending::ClientClosed),
            _ => Poll::Pending,
        }
    }

    /// The timer is not touched while bytes move: it fires, sees that they did, and is set to where it should be.
    fn poll_timer(&self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Ending> {
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.limits.deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(Ending::MaxLifetime);
            }
            if now.duration_since(self.moved) >= self.limits.idle_timeout {
                return Poll::Ready(Ending::IdleTimeout);
            }
            timer.as_mut().reset(self.wake_at());
        }
        Poll::Pending
    }

    fn wake_at(&self) -> Instant {
        // A timeout beyond what the clock can tell is none; the deadline of tokio's timers lies at about two years.
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let idle = self.moved + self.limits.idle_timeout.min(FAR);
        self.limits.deadline.map_or(idle, |deadline| deadline.min(idle))
    }
}

impl Fault {
    /// `from`: where the direction that failed reads.
    fn ending(&self, from: Side) -> Ending {
        match self {
            Fault::Read(error) => ending_of(from == Side::Client, error),
            Fault::Write(error) => ending_of(from != Side::Client, error),
            Fault::Limit => Ending::UploadLimit,
        }
    }
}
