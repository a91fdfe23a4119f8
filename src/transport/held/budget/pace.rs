//! Turns of clients that hold much, while connections end to make room.
//!
//! Room for such a client is made by ending what it holds itself. Who is ended comes again at once, and an exchange costs far
//! more of the processor than a connection that is turned away: a client that fills the budget, and all of whose requests begin as
//! soon as there is room, takes the whole processor from the others. So these begin one after the other, at a bounded rate for all such
//! clients together. Who holds little has no turn to wait for, and nobody has while nothing must end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{HeldBytes, Holder, NoRoom};

/// Milliseconds between two turns: 50 in a second.
const TURN: u64 = 20;
/// For so many milliseconds after something was ended, there are turns.
const ENDING: u64 = 1_000;

/// When the next turn is, in milliseconds since the budget's epoch.
#[derive(Default)]
pub(super) struct Pace {
    next: AtomicU64,
    /// When something was ended last; 0 is never.
    ended: AtomicU64,
}

impl Pace {
    /// Connections were ended.
    pub(super) fn ends(&self, now: u64) {
        self.ended.store(now.max(1), Ordering::Relaxed);
    }

    fn is_ending(&self, now: u64) -> bool {
        match self.ended.load(Ordering::Relaxed) {
            0 => false,
            ended => now.saturating_sub(ended) < ENDING,
        }
    }

    /// The next turn, if it is within so many milliseconds.
    fn turn(&self, now: u64, within: u64) -> Option<u64> {
        let due = |next: u64| next.max(now);
        let taken = |next: u64| (due(next) - now <= within).then(|| due(next) + TURN);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok().map(due)
    }
}

impl HeldBytes {
    /// Whether connections end to make room.
    pub(super) fn is_ending(&self) -> bool {
        self.pace.is_ending(self.now())
    }
}

impl Holder {
    /// Whether what it begins must wait for its turn.
    pub(super) fn takes_turns(&self) -> bool {
        self.is_heavy() && self.budget.is_ending()
    }

    /// When it may begin, which then is its turn; `None` is at once.
    ///
    /// # Errors
    /// [`NoRoom`]: all turns within this time are taken.
    pub fn turn(&self, within: Duration) -> Result<Option<Instant>, NoRoom> {
        if !self.takes_turns() {
            return Ok(None);
        }
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let due = self.budget.pace.turn(self.budget.now(), within).ok_or(NoRoom)?;
        self.has_turn.store(true, Ordering::Relaxed);
        Ok(Some(self.budget.epoch + Duration::from_millis(due)))
    }
}
