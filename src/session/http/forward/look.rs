//! The turns of an exchange whose bytes flow, and what the kernel holds for one whose client or target does not read: looked at while
//! that is so, and less and less often.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::halves::Halves;
use super::outcome::{Break, Finish};
use super::track::Track;
use crate::transport::held::{FIRST_LOOK, Flowing, Kind, LAST_LOOK, Lease, first_look, queued};
use crate::transport::socket::is_gone;
use crate::transport::stream::Transport;
use crate::words::outcome::Ending;

/// Most bytes of a turn: copied both ways and in pieces, they cost as much as twice as many in a tunnel.
const TURN: u64 = 256 * 1024;

/// Goes on with `moving`, which moves the bytes of the exchange; where many flow, in turns ([`Flowing`]). What has moved no more than
/// [`BULK`] waits for nobody. An exchange that flows pays one look a second.
///
/// # Errors
/// How it was broken off, in line or not: nothing moved for too long, `stop`, or the client has reset its connection while its bytes were
/// not read, which shows nowhere else.
pub(super) async fn in_turns<S: Transport, T>(
    (client, track): (&Halves<'_, S>, &Track<'_>),
    mut moving: Pin<&mut impl Future<Output = T>>,
    mut stop: Pin<&mut impl Future<Output = Ending>>,
) -> Result<T, Finish> {
    let mut looks = Looks {
        timer: None,
        pause: FIRST_LOOK,
        lease: Lease::new(track.holder(), Kind::Socket),
        seen: 0,
        queued: 0,
        flowing: None,
    };
    let mut silence = pin!(track.silence());
    let broken = |end: Break| Poll::Ready(Err(end.finish(track.status().is_some())));
    poll_fn(|cx| {
        loop {
            let is_in_line = looks.poll_turn(cx, track).is_pending();
            track.is_in_line(is_in_line);
            if !is_in_line {
                let before = track.bytes();
                track.may_move(looks.may_move(track));
                let moved = moving.as_mut().poll(cx);
                looks.had_turn(cx, track.bytes() != before);
                if moved.is_ready() {
                    return moved.map(Ok);
                }
            }
            if let Poll::Ready(end) = silence.as_mut().poll(cx) {
                return broken(end);
            }
            if let Poll::Ready(ending) = stop.as_mut().poll(cx) {
                return broken(Break::Ended(ending));
            }
            if looks.poll(cx, client, track).is_ready() {
                return broken(Break::Ended(Ending::ClientReset));
            }
            // The last look gives the place in line up, and what has woken this task is still to be done.
            if !is_in_line || looks.flowing.is_some() {
                return Poll::Pending;
            }
        }
    })
    .await
}

struct Looks {
    /// Made when something is blocked for the first time.
    timer: Option<Pin<Box<Sleep>>>,
    pause: Duration,
    lease: Lease,
    /// Bytes that had moved at the last look.
    seen: u64,
    /// What the sockets held at the last look.
    queued: usize,
    /// While there is a timer.
    flowing: Option<Flowing>,
}

/// So much may be in its sockets without being looked at.
const BULK: u64 = 64 * 1024;

impl Looks {
    /// What flows, once it has moved more than a little.
    fn takes_turns(&mut self, track: &Track<'_>) -> Option<&mut Flowing> {
        self.flowing.as_mut().filter(|_| track.bytes() >= BULK)
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, track: &Track<'_>) -> Poll<()> {
        self.takes_turns(track).map_or(Poll::Ready(()), |flowing| flowing.poll_turn(cx))
    }

    fn had_turn(&mut self, cx: &mut Context<'_>, moved: bool) {
        if let Some(flowing) = &mut self.flowing {
            flowing.had_turn(cx, moved);
        }
    }

    /// Most bytes before others have their turn. One without turns has them once it has moved so much.
    fn may_move(&mut self, track: &Track<'_>) -> u64 {
        match (track.holder().budget().is_crowded(), self.takes_turns(track)) {
            (false, _) => u64::MAX,
            (true, Some(_)) => TURN,
            (true, None) => BULK,
        }
    }

    fn poll<S: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        client: &Halves<'_, S>,
        track: &Track<'_>,
    ) -> Poll<()> {
        // What was delivered may wait in a socket, too, without anything being blocked.
        if self.timer.is_none() && (track.is_blocked() || track.bytes() >= self.seen + BULK) {
            self.pause = FIRST_LOOK;
            self.flowing = Some(Flowing::new(track.holder(), track.told()));
            self.timer = Some(Box::pin(sleep(first_look(track.holder().budget()))));
        }
        while let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            // A socket that was reset has no peer any more.
            if client.socket(is_gone) {
                return Poll::Ready(());
            }
            let queued = client.socket(queued).and(track.target(queued));
            if !track.is_blocked() && (queued.bytes as u64) < BULK {
                self.lease.set(0);
                self.timer = None;
                self.seen = track.bytes();
                self.queued = 0;
                self.flowing = None;
                return Poll::Pending;
            }
            if let Some(flowing) = &mut self.flowing {
                flowing.bound(|bound| {
                    client.socket(bound);
                    track.target(bound);
                });
                track.was_told(flowing.told());
            }
            let counted = match track.is_blocked() {
                true => queued.counted(self.queued, track.holder().budget()),
                false => queued.bytes,
            };
            self.lease.set(counted);
            self.timer = Some(Box::pin(sleep(self.pause)));
            let grows = queued.bytes > self.queued;
            self.pause = if grows { FIRST_LOOK * 2 } else { (self.pause * 2).min(LAST_LOOK) };
            self.queued = queued.bytes;
        }
        Poll::Pending
    }
}
