//! Which holder waits for a turn, and when it has one. Not here: the pace of the turns ([`super::pace`]).

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{HeldBytes, Holder, NoRoom};

impl HeldBytes {
    /// Whether connections end to make room.
    pub(super) fn is_ending(&self) -> bool {
        self.pace.is_ending(self.now())
    }
}

impl Holder {
    /// Whether what it begins must wait for its turn.
    pub(super) fn takes_turns(&self) -> bool {
        self.is_heavy() && self.budget.is_ending() && self.budget.pace.has_others(self.budget.now())
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
