//! The seats of holders: a list of weak references with places that are used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A list of seats.
pub(super) struct Shard<T> {
    slots: Vec<Weak<T>>,
    free: Vec<u32>,
}

impl<T> Default for Shard<T> {
    fn default() -> Self {
        Shard { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Shard<T> {
    /// All that there are.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<T>> {
        self.slots.iter().filter_map(Weak::upgrade)
    }

    /// The place of a new one.
    pub(super) fn insert(&mut self, holder: Weak<T>) -> u32 {
        if let Some(place) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(place as usize)
        {
            *slot = holder;
            return place;
        }
        self.slots.push(holder);
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    /// It is gone.
    pub(super) fn remove(&mut self, place: u32) {
        if let Some(slot) = self.slots.get_mut(place as usize) {
            *slot = Weak::new();
            self.free.push(place);
        }
        if self.free.len() == self.slots.len() {
            // The memory of a burst is freed with its last connection.
            *self = Shard::default();
        }
    }
}

/// Plain numbers and lists: a panic elsewhere leaves them correct.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
