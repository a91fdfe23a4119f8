//! Ends one tunnel from outside: from a reload, a drain, or the clock.
//!
//! Not here: who decides (`reload`, `drain`), and what the relay does then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

use crate::outcome::Ending;

/// No ending yet; any other value is the ending's place in [`Ending::ALL`] plus one.
const NONE: u8 = 0;

/// Asks one tunnel to end, once. The first ending holds; later ones change nothing.
#[derive(Debug)]
pub struct Cancel {
    ending: AtomicU8,
    wake: Notify,
}

impl Cancel {
    /// Not cancelled.
    pub fn new() -> Arc<Self> {
        Arc::new(Cancel { ending: AtomicU8::new(NONE), wake: Notify::new() })
    }

    /// Ends the tunnel with `ending`, unless it was already cancelled.
    pub fn cancel(&self, ending: Ending) {
        let code = ending as u8 + 1;
        if self.ending.compare_exchange(NONE, code, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.wake.notify_waiters();
        }
    }

    /// The ending, once there is one.
    pub fn ending(&self) -> Option<Ending> {
        let index = self.ending.load(Ordering::Acquire).checked_sub(1)?;
        Ending::ALL.get(usize::from(index)).copied()
    }

    /// Waits for the ending. Cancel-safe; any number of tasks may wait.
    pub async fn cancelled(&self) -> Ending {
        loop {
            // Made before the check: a cancel between the two is then not missed.
            let woken = self.wake.notified();
            if let Some(ending) = self.ending() {
                return ending;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_ending_holds_for_every_waiter() {
        let cancel = Cancel::new();
        assert_eq!(cancel.ending(), None);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let cancel = Arc::clone(&cancel);
                tokio::spawn(async move { cancel.cancelled().await })
            })
            .collect();
        tokio::task::yield_now().await;
        cancel.cancel(Ending::PolicyRevoked);
        cancel.cancel(Ending::Drained);
        for waiter in waiters {
            assert_eq!(waiter.await.expect("no panic"), Ending::PolicyRevoked);
        }
        assert_eq!(cancel.cancelled().await, Ending::PolicyRevoked, "late waiters too");
    }

    #[test]
    fn every_ending_survives_its_code() {
        for ending in Ending::ALL {
            let cancel = Cancel::new();
            cancel.cancel(*ending);
            assert_eq!(cancel.ending(), Some(*ending));
        }
    }
}
