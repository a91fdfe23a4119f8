//! The sum of all bytes that are held, the limit of that sum, and how much of it each kind is.
//!
//! Counters, no lock: each lease changes three of them, and a read of the sum is one load. `tests/loom_leases.rs` checks it
//! with every interleaving, which is why the atomics come from [`super::sync`]. Relaxed is enough everywhere: the counters
//! order nothing else.

use super::sync::{AtomicUsize, Ordering};

/// Bytes held, in all and by kind.
pub(super) struct Ledger<const KINDS: usize> {
    sum: AtomicUsize,
    limit: AtomicUsize,
    kinds: [AtomicUsize; KINDS],
}

impl<const KINDS: usize> Ledger<KINDS> {
    pub(super) fn new(limit: usize) -> Self {
        Ledger {
            sum: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            kinds: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }

    /// Adds `bytes` of `kind`, if the sum stays at or under `ceiling`, which is the limit or a part of it.
    ///
    /// The sum never exceeds the ceiling by this, not even for a moment: an addition that is taken back would make others
    /// fail meanwhile.
    pub(super) fn take(&self, kind: usize, bytes: usize, ceiling: usize) -> bool {
        let mut sum = self.sum.load(Ordering::Relaxed);
        loop {
            let Some(next) = sum.checked_add(bytes).filter(|next| *next <= ceiling) else { return false };
            match self.sum.compare_exchange_weak(sum, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => sum = now,
            }
        }
        if let Some(of_kind) = self.kinds.get(kind) {
            of_kind.fetch_add(bytes, Ordering::Relaxed);
        }
        true
    }

    /// Adds `bytes` of `kind` that are held already, whatever the limit says. Returns the sum after that.
    pub(super) fn charge(&self, kind: usize, bytes: usize) -> usize {
        if let Some(of_kind) = self.kinds.get(kind) {
            of_kind.fetch_add(bytes, Ordering::Relaxed);
        }
        self.sum.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
    }

    /// Takes off what was added.
    pub(super) fn give_back(&self, kind: usize, bytes: usize) {
        if let Some(of_kind) = self.kinds.get(kind) {
            of_kind.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.sum.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> usize {
        self.sum.load(Ordering::Relaxed)
    }

    pub(super) fn of(&self, kind: usize) -> usize {
        self.kinds.get(kind).map_or(0, |of_kind| of_kind.load(Ordering::Relaxed))
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// A lower limit takes nothing back: it is reached as bytes are given back.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}
