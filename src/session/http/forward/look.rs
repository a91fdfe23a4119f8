//! What the kernel holds for an exchange whose client or target does not read: looked at while that is so, and less and less
//! often.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::halves::Halves;
use super::track::Track;
use crate::transport::held::{FIRST_LOOK, Kind, LAST_LOOK, Lease, queued};
use crate::transport::stream::Transport;

/// Never ready. An exchange that flows pays one look a second.
pub(super) async fn look<S: Transport>(client: &Halves<'_, S>, track: &Track<'_>) -> Infallible {
    let mut looks = Looks { timer: None, pause: FIRST_LOOK, lease: Lease::new(track.holder(), Kind::Socket) };
    poll_fn(|cx| {
        looks.poll(cx, client, track);
        Poll::Pending
    })
    .await
}

struct Looks {
    /// Made when something is blocked for the first time.
    timer: Option<Pin<Box<Sleep>>>,
    pause: Duration,
    lease: Lease,
}

impl Looks {
    fn poll<S: Transport>(&mut self, cx: &mut Context<'_>, client: &Halves<'_, S>, track: &Track<'_>) {
        if self.timer.is_none() && track.is_blocked() {
            self.pause = FIRST_LOOK;
            self.timer = Some(Box::pin(sleep(FIRST_LOOK)));
        }
        while let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            if !track.is_blocked() {
                self.lease.set(0);
                self.timer = None;
                return;
            }
            self.lease.set(client.socket(queued).saturating_add(track.target(queued)));
            self.timer = Some(Box::pin(sleep(self.pause)));
            self.pause = (self.pause * 2).min(LAST_LOOK);
        }
    }
}
