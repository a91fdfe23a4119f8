//! What the kernel holds for an exchange whose client or target does not read: looked at while that is so, and less and less
//! often.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::halves::Halves;
use super::outcome::Break;
use super::track::Track;
use crate::transport::held::{FIRST_LOOK, Flowing, Kind, LAST_LOOK, Lease, first_look, queued};
use crate::transport::socket::is_gone;
use crate::transport::stream::Transport;
use crate::words::outcome::Ending;

/// Ready only if the client has reset its connection while its bytes were not read, which shows nowhere else. An exchange that flows
/// pays one look a second.
pub(super) async fn look<S: Transport>(client: &Halves<'_, S>, track: &Track<'_>) -> Break {
    let mut looks = Looks {
        timer: None,
        pause: FIRST_LOOK,
        lease: Lease::new(track.holder(), Kind::Socket),
        seen: 0,
        queued: 0,
        flowing: None,
    };
    poll_fn(|cx| looks.poll(cx, client, track)).await;
    Break::Ended(Ending::ClientReset)
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
    fn poll<S: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        client: &Halves<'_, S>,
        track: &Track<'_>,
    ) -> Poll<()> {
        // What was delivered may wait in a socket, too, without anything being blocked.
        if self.timer.is_none() && (track.is_blocked() || track.bytes() >= self.seen + BULK) {
            self.pause = FIRST_LOOK;
            self.flowing = Some(Flowing::new(track.holder()));
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
