//! How many connections may be open at once, whatever they are used for: as many as the descriptors allow. Each takes a
//! place in [`crate::inbound::accept`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Open connections of all listeners, and the number that the descriptors allow.
#[derive(Debug)]
pub struct OpenConnections {
    count: AtomicUsize,
    cap: AtomicUsize,
}

impl OpenConnections {
    /// None open.
    pub fn new(cap: usize) -> Arc<Self> {
        Arc::new(OpenConnections { count: AtomicUsize::new(0), cap: AtomicUsize::new(cap) })
    }

    /// Follows `limits.tunnels`, and returns whether the cap changed. Open connections stay.
    pub fn set_cap(&self, cap: usize) -> bool {
        self.cap.swap(cap, Ordering::Relaxed) != cap
    }

    /// A place for one more; `None` if there are too many.
    pub fn enter(self: &Arc<Self>) -> Option<OpenConnection> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.cap.load(Ordering::Relaxed) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(OpenConnection(Arc::clone(self)))
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
        let first = open.enter().unwrap();
        let _second = open.enter().unwrap();
        assert!(open.enter().is_none());
        drop(first);
        let _third = open.enter().unwrap();
        open.set_cap(3);
        assert!(open.enter().is_some());
    }
}
