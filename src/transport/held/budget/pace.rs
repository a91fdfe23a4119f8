//! The pace of clients that hold much, while connections end to make room, and others are there.
//!
//! Room for such a client is made by ending what it holds itself. Whatever is ended comes again at once, and an exchange costs far
//! more of the processor than a connection that is turned away: a client that fills the budget, and all of whose requests begin as
//! soon as there is room, takes the whole processor from the others. So these begin one after the other, at a bounded rate for all such
//! clients together. A client that holds little has no turn to wait for, and nobody has while nothing must end, or while there is nobody
//! else who could wait for the processor. Not here: whose turn it is ([`super::turns`]).

use std::sync::atomic::{AtomicU64, Ordering};

/// Milliseconds between two turns: 50 in a second.
const TURN: u64 = 20;
/// For so many milliseconds after something was ended, there are turns.
const ENDING: u64 = 1_000;
/// For so many milliseconds after a client was there that held little, it may come again.
const OTHERS: u64 = 60_000;

/// When the next turn is, in milliseconds since the budget's epoch.
#[derive(Default)]
pub(super) struct Pace {
    next: AtomicU64,
    ended: Last,
    others: Last,
}

/// When something was the last time; 0 is never.
#[derive(Default)]
struct Last(AtomicU64);

impl Last {
    fn is(&self, now: u64) {
        self.0.store(now.max(1), Ordering::Relaxed);
    }

    fn within(&self, now: u64, time: u64) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            last => now.saturating_sub(last) < time,
        }
    }
}

impl Pace {
    /// Connections were ended.
    pub(super) fn ends(&self, now: u64) {
        self.ended.is(now);
    }

    /// A client is there that holds little.
    pub(super) fn sees_another(&self, now: u64) {
        self.others.is(now);
    }

    pub(super) fn is_ending(&self, now: u64) -> bool {
        self.ended.within(now, ENDING)
    }

    /// Whether a client that holds little was there in the last minute.
    pub(super) fn has_others(&self, now: u64) -> bool {
        self.others.within(now, OTHERS)
    }

    /// The next turn, if it is within so many milliseconds.
    pub(super) fn turn(&self, now: u64, within: u64) -> Option<u64> {
        let due = |next: u64| next.max(now);
        let taken = |next: u64| (due(next) - now <= within).then(|| due(next) + TURN);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok().map(due)
    }
}
