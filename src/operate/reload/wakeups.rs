//! What wakes the reloader: a changed file, a request from outside, the end of the program.
//!
//! They are combined, not queued: however many come while the reloader works, they count as one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Any thread wakes it, one thread waits for it.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    wakeup: Mutex<Wakeup>,
    wake: Condvar,
}

/// Why it rang since the last wait; all false: the wait timed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Wakeup {
    /// The kernel said that a file may have changed.
    pub(super) changed: bool,
    /// HUP.
    pub(super) requested: bool,
    /// The reloader must end.
    pub(super) stop: bool,
}

impl Wakeup {
    fn any(self) -> bool {
        self != Wakeup::default()
    }
}

impl Wakeups {
    pub(super) fn changed(&self) {
        self.lock().changed = true;
        self.wake.notify_one();
    }

    pub(super) fn request(&self) {
        self.lock().requested = true;
        self.wake.notify_one();
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    /// Waits for a ring, at most for `timeout`, and takes all there are; `stop` stays set.
    pub(super) fn wait(&self, timeout: Duration) -> Wakeup {
        let wakeup = self.lock();
        let (mut wakeup, _) = self
            .wake
            .wait_timeout_while(wakeup, timeout, |wakeup| !wakeup.any())
            .unwrap_or_else(PoisonError::into_inner);
        let taken = *wakeup;
        *wakeup = Wakeup { stop: taken.stop, ..Wakeup::default() };
        taken
    }

    /// Nothing panics under the lock, and the three flags are never half-changed.
    fn lock(&self) -> MutexGuard<'_, Wakeup> {
        self.wakeup.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn rings_are_gathered_and_taken_once() {
        let wakeups = Wakeups::default();
        wakeups.changed();
        wakeups.changed();
        wakeups.request();
        assert_eq!(wakeups.wait(LONG), Wakeup { changed: true, requested: true, stop: false });
        assert_eq!(wakeups.wait(Duration::ZERO), Wakeup::default());
    }

    #[test]
    fn a_ring_ends_a_wait_and_the_end_is_never_forgotten() {
        let wakeups = Wakeups::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| wakeups.wait(LONG));
            wakeups.stop();
            assert!(waiting.join().expect("no panic").stop);
        });
        assert!(wakeups.wait(LONG).stop);
    }
}
