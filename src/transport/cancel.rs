//! Ends one tunnel from outside: reload, drain and expiry call [`Cancel::cancel`], and the tunnel waits for it.
//!
//! Each tunnel has its own, so that revoking one tunnel wakes one tunnel. Not here: which tunnels to end
//! ([`crate::state::live`]).

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::words::outcome::Ending;

/// Ends one tunnel with an [`Ending`], from any thread. The first ending stays.
#[derive(Debug, Default)]
pub struct Cancel {
    ending: OnceLock<Ending>,
    changed: Notify,
}

impl Cancel {
    /// Nothing is cancelled yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Ends the tunnel. A second call changes nothing.
    pub fn cancel(&self, ending: Ending) {
        if self.ending.set(ending).is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// The ending, once there is one.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.get().copied()
    }

    /// Waits until [`Cancel::cancel`] was called, before or after. Any number may wait; dropping the future is safe.
    pub async fn cancelled(&self) -> Ending {
        loop {
            // Made before the check: `notify_waiters` wakes every `Notified` that exists by then, polled or not.
            let changed = self.changed.notified();
            if let Some(ending) = self.ending() {
                return ending;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_ending_stays() {
        let cancel = Cancel::new();
        assert_eq!(cancel.ending(), None);
        cancel.cancel(Ending::PolicyRevoked);
        cancel.cancel(Ending::Drained);
        assert_eq!(cancel.cancelled().await, Ending::PolicyRevoked);
        assert_eq!(cancel.ending(), Some(Ending::PolicyRevoked));
    }

    #[tokio::test]
    async fn all_that_wait_are_woken() {
        let cancel = Cancel::new();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let cancel = cancel.clone();
                tokio::spawn(async move { cancel.cancelled().await })
            })
            .collect();
        tokio::task::yield_now().await;
        cancel.cancel(Ending::Drained);
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), Ending::Drained);
        }
    }
}
