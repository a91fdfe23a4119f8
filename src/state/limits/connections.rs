//! How many connections may be open at once, whatever they are used for: as many as the descriptors allow. Each takes a
//! place in [`crate::inbound::place`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Open connections of all listeners, and the number that the descriptors allow.
#[derive(Debug)]
pub struct OpenConnections {
    count: AtomicUsize,
    cap: AtomicUsize,
    /// Beyond it, for clients that have few: others cannot keep them out by having all the rest.
    last: AtomicUsize,
}

impl OpenConnections {
    /// None open.
    pub fn new(cap: usize) -> Arc<Self> {
        Arc::new(OpenConnections {
            count: AtomicUsize::new(0),
            cap: AtomicUsize::new(cap),
            last: AtomicUsize::new(0),
        })
    }

    /// Follows `limits.tunnels`, and returns whether the cap changed. `last` is the number of places beyond it. Open connections
    /// stay.
    pub fn set_cap(&self, cap: usize, last: usize) -> bool {
        self.last.store(last, Ordering::Relaxed);
        self.cap.swap(cap, Ordering::Relaxed) != cap
    }

    /// Places beyond the cap, for clients that have few.
    pub fn last(&self) -> usize {
        self.last.load(Ordering::Relaxed)
    }

    /// A place for one more of a client that has `others` open; `None` if there are too many.
    pub fn enter(self: &Arc<Self>, others: usize) -> Option<OpenConnection> {
        let (cap, last) = (self.cap.load(Ordering::Relaxed), self.last.load(Ordering::Relaxed));
        let more = |count: usize| super::has_place(count, cap, last, others).then_some(count + 1);
        let entered = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.is_ok().then(|| OpenConnection(Arc::clone(self)))
    }
}

/// One open connection; dropping it frees its place.
#[derive(Debug)]
#[must_use = "the place goes back when this is dropped"]
pub struct OpenConnection(Arc<OpenConnections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_up_to_the_cap_and_given_back() {
        let open = OpenConnections::new(2);
        let first = open.enter(0).unwrap();
        let _second = open.enter(0).unwrap();
        assert!(open.enter(0).is_none());
        drop(first);
        let _third = open.enter(5).unwrap();
        open.set_cap(3, 0);
        assert!(open.enter(5).is_some());
    }

    #[test]
    fn the_last_places_are_for_clients_that_have_few() {
        let open = OpenConnections::new(0);
        assert!(open.set_cap(100, 64));
        let many: Vec<_> = (0..200).map_while(|others| open.enter(others)).collect();
        assert_eq!(many.len(), 100, "one client");
        let mut few = Vec::new();
        let shares: Vec<usize> = (0..200)
            .map(|_| {
                let before = few.len();
                few.extend((0..200).map_while(|others| open.enter(others)));
                few.len() - before
            })
            .take_while(|share| *share > 0)
            .collect();
        assert!(shares.is_sorted_by(|one, next| one >= next) && shares[0] == 7, "{shares:?}");
        assert!(shares.len() > 20 && few.len() == 64, "{shares:?}");
        drop(many);
        assert!(open.enter(1000).is_some());
    }
}
