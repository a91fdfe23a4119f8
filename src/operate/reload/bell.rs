//! What wakes the reloader: a changed file, a request from outside, the end of the program.
//!
//! Rings are combined, not queued: however many come while the reloader works, they count as one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Any thread rings it, one thread waits for it.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    wake: Condvar,
}

/// Why it rang since the last wait; all false: the wait timed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rung {
    /// The kernel said that a file may have changed.
    pub(super) changed: bool,
    /// HUP.
    pub(super) requested: bool,
    /// The reloader must end.
    pub(super) stop: bool,
}

impl Rung {
    fn any(self) -> bool {
        self != Rung::default()
    }
}

impl Bell {
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
    pub(super) fn wait(&self, timeout: Duration) -> Rung {
        let rung = self.lock();
        let (mut rung, _) = self
            .wake
            .wait_timeout_while(rung, timeout, |rung| !rung.any())
            .unwrap_or_else(PoisonError::into_inner);
        let taken = *rung;
        *rung = Rung { stop: taken.stop, ..Rung::default() };
        taken
    }

    /// Nothing panics under the lock, and the three flags are never half-changed.
    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn rings_are_gathered_and_taken_once() {
        let bell = Bell::default();
        bell.changed();
        bell.changed();
        bell.request();
        assert_eq!(bell.wait(LONG), Rung { changed: true, requested: true, stop: false });
        assert_eq!(bell.wait(Duration::ZERO), Rung::default());
    }

    #[test]
    fn a_ring_ends_a_wait_and_the_end_is_never_forgotten() {
        let bell = Bell::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| bell.wait(LONG));
            bell.stop();
            assert!(waiting.join().expect("no panic").stop);
        });
        assert!(bell.wait(LONG).stop);
    }
}
