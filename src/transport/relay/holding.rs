//! What one tunnel holds, and when it is looked at: what the relay could not deliver, and what the kernel has for its sockets.
//!
//! A tunnel that is idle, or moves little, pays some comparisons in a turn. One that is blocked, or has moved much, is looked at, and
//! less and less often if it does not move.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::transport::held::{
    FIRST_LOOK, Flowing, Holder, Kind, LAST_LOOK, Told, first_look, is_flow, queued,
};
use crate::transport::relay::direction::{LONG_TURN, LONGEST_TURN, May, SHORT_TURN, TURN};
use crate::transport::turns::has_quota;

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
    flowing: Flowing,
}

impl Holding {
    pub(super) fn new(holder: &Arc<Holder>) -> Self {
        Holding { holder: Arc::clone(holder), relay: 0, pipe: 0, socket: 0, looks: None, seen: 0 }
    }

    /// What memory, the processor and others that flow allow it in this turn. Without a pipe, 16 KiB are copied at a time.
    pub(super) fn may(&self) -> May {
        let budget = self.holder.budget();
        let unsent = self.holder.may_wait_unsent();
        let take_pipe = unsent.is_some() && !budget.is_short();
        let move_bytes = match has_quota() {
            _ if budget.has_few_flows() => LONGEST_TURN,
            false => LONG_TURN,
            true if budget.is_crowded() => SHORT_TURN,
            true => TURN,
        };
        May { take_pipe, unsent, move_bytes }
    }

    /// Where many flow, this one waits for its turn to move bytes.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.looks.as_mut().map_or(Poll::Ready(()), |looks| looks.flowing.poll_turn(cx))
    }

    /// Whether it takes turns: it does while it is looked at.
    pub(super) fn takes_turns(&self) -> bool {
        self.looks.is_some()
    }

    /// It had its turn, and bytes `moved`, or there was nothing to do.
    pub(super) fn had_turn(&mut self, cx: &mut Context<'_>, moved: bool) {
        if let Some(looks) = &mut self.looks {
            looks.flowing.had_turn(cx, moved);
        }
    }

    /// It moves no more. To close it may take a second, and a turn too.
    pub(super) fn leave_line(&mut self) {
        if let Some(looks) = &mut self.looks {
            looks.flowing.leave_line();
        }
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
        let flowing = Flowing::new(&self.holder, Told::default());
        let pause = FIRST_LOOK;
        self.looks = Some(Box::new(Looks { next, pause, delivered, flowed: delivered, queued: 0, flowing }));
        true
    }

    /// When to look next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.looks.as_ref().map(|looks| looks.next)
    }

    /// Looks, if it is time, at what the kernel has for both sockets. It is the last look if that is little, and nothing is `blocked`.
    pub(super) fn look(&mut self, now: Instant, blocked: bool, delivered: u64, sockets: [&TcpStream; 2]) {
        let Some(looks) = self.looks.as_mut().filter(|looks| looks.next <= now) else { return };
        let [client, upstream] = sockets;
        let queued = queued(client).and(queued(upstream));
        if !blocked && (queued.bytes as u64) < BULK {
            self.looks = None;
            self.seen = delivered;
            return self.set_socket(0);
        }
        looks.flowing.bound(|bound| sockets.into_iter().for_each(bound));
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
