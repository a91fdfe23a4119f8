//! What one tunnel holds, and when it is looked at: what the relay could not deliver, and what the kernel has for its sockets.
//!
//! A tunnel that is idle, or moves little, pays some comparisons in a turn. One that is blocked, or has moved much, is looked at, and
//! less and less often if it does not move.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::transport::held::{FIRST_LOOK, Holder, Kind, LAST_LOOK, Queued, first_look, is_flow};

/// So much may be in its sockets without being looked at.
const BULK: u64 = 64 * 1024;

/// The leases of one tunnel, in one place: ten thousand of these wait at a time.
#[derive(Debug)]
pub(super) struct Holding {
    holder: Arc<Holder>,
    relay: u32,
    pipe: u32,
    socket: u32,
    /// Made when it is blocked, or has delivered [`BULK`].
    looks: Option<Box<Looks>>,
    /// Bytes that were delivered at the last look.
    seen: u64,
}

/// When the sockets of a blocked tunnel are looked at.
#[derive(Debug)]
struct Looks {
    next: Instant,
    /// From the next look to the one after it.
    pause: Duration,
    /// Bytes that were delivered when it last moved.
    delivered: u64,
    /// The same when it last flowed.
    flowed: u64,
    /// What its sockets held at the last look.
    queued: usize,
}

impl Holding {
    pub(super) fn new(holder: &Arc<Holder>) -> Self {
        Holding { holder: Arc::clone(holder), relay: 0, pipe: 0, socket: 0, looks: None, seen: 0 }
    }

    /// Whether a pipe may be taken: with less memory, 16 KiB are copied at a time.
    pub(super) fn may_take_pipe(&self) -> bool {
        !self.holder.budget().is_short()
    }

    /// After a turn: what was read and not delivered, and what is in pipes.
    pub(super) fn set(&mut self, relay: usize, pipe: usize) {
        self.holder.holds_instead(Kind::Relay, &mut self.relay, relay);
        self.holder.holds_instead(Kind::Pipe, &mut self.pipe, pipe);
    }

    /// After a turn: whether a direction waits for its receiver. True if the timer has to be set anew.
    pub(super) fn blocked(&mut self, blocked: bool, delivered: u64) -> bool {
        // What is delivered may wait in a socket, too, without anything being blocked.
        if self.looks.is_some() || !(blocked || delivered >= self.seen + BULK) {
            return false;
        }
        self.holder.moves();
        let next = Instant::now() + first_look(self.holder.budget());
        self.looks =
            Some(Box::new(Looks { next, pause: FIRST_LOOK, delivered, flowed: delivered, queued: 0 }));
        true
    }

    /// When to look next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.looks.as_ref().map(|looks| looks.next)
    }

    /// Looks, if it is time: `queued` says what the kernel has. It is the last look if that is little, and nothing is `blocked`.
    pub(super) fn look(
        &mut self,
        now: Instant,
        blocked: bool,
        delivered: u64,
        queued: impl FnOnce() -> Queued,
    ) {
        let Some(looks) = self.looks.as_mut().filter(|looks| looks.next <= now) else { return };
        let queued = queued();
        if !blocked && (queued.bytes as u64) < BULK {
            self.looks = None;
            self.seen = delivered;
            return self.set_socket(0);
        }
        // A peer that takes a byte from time to time does not move: it has to take what is held for it.
        let held = u64::from(self.relay) + u64::from(self.pipe) + u64::from(self.socket);
        let moved = delivered - looks.delivered;
        if moved > 0 && moved >= held {
            self.holder.moves();
            looks.delivered = delivered;
        }
        let flows = is_flow(delivered, delivered - looks.flowed, held);
        if flows {
            self.holder.flows();
            looks.flowed = delivered;
        }
        // One that moves is looked at often enough not to be taken for one that does not.
        let grows = queued.bytes > looks.queued;
        looks.pause = if flows || grows { FIRST_LOOK * 2 } else { (looks.pause * 2).min(LAST_LOOK) };
        looks.next = now + looks.pause;
        let counted = if blocked { queued.counted(looks.queued, self.holder.budget()) } else { queued.bytes };
        looks.queued = queued.bytes;
        self.set_socket(counted);
    }

    fn set_socket(&mut self, socket: usize) {
        self.holder.holds_instead(Kind::Socket, &mut self.socket, socket);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(0, 0);
        self.set_socket(0);
    }
}
