//! The count of places in the log's queue: a request that will write later takes one now.
//!
//! A place is taken from its reservation until its line is on the output, so that the queue is bounded by
//! construction. One counter, no lock: every request makes a reservation. `tests/loom_places.rs` checks it with every
//! interleaving, which is why the atomics come from [`super::sync`].

use super::sync::{AtomicUsize, Ordering};

pub(super) struct Reservations {
    taken: AtomicUsize,
    limit: AtomicUsize,
}

impl Reservations {
    pub(super) fn new(limit: usize) -> Self {
        Reservations { taken: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Takes `count` places, all or none, if `spare` are still free after that.
    ///
    /// Never exceeds the limit, not even for a moment: an increment that is taken back would make others fail
    /// meanwhile. Relaxed is enough: the counter orders nothing else, and lines are handed over under the queue's
    /// lock.
    pub(super) fn take(&self, count: usize, spare: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            if taken.saturating_add(count).saturating_add(spare) > limit {
                return false;
            }
            match self.taken.compare_exchange_weak(taken, taken + count, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => taken = now,
            }
        }
    }

    /// Gives `count` taken places back.
    pub(super) fn give_back(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// A lower limit takes no places back: it is reached as places are given back.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}
