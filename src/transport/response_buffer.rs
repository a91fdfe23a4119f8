//! The buffer in which hyper collects the head of a response: it grows with the head and stays as large, for as long as the
//! connection to the target is open.
//!
//! Not here: the pieces of bodies, which are leased where they wait for the client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::held::{Holder, Kind, Lease};

/// hyper's first buffer, which is part of what a connection costs.
const FIRST: usize = 8 * 1024;

/// What the buffer takes beyond its first size, under a lease.
#[derive(Debug)]
pub struct ResponseBuffer(Mutex<State>);

#[derive(Debug)]
struct State {
    lease: Lease,
    /// Bytes that came of a head that is not whole. `None`: the head has come, and a body follows.
    head: Option<usize>,
    /// The largest head so far.
    largest: usize,
    /// The largest head that may come.
    most: usize,
}

impl ResponseBuffer {
    /// Of a new connection, where a head has `most` bytes at most.
    pub fn new(holder: &Arc<Holder>, most: usize) -> Arc<Self> {
        let lease = Lease::new(holder, Kind::Body);
        Arc::new(ResponseBuffer(Mutex::new(State { lease, head: None, largest: 0, most })))
    }

    /// A request is sent, and its response begins with the next byte.
    pub fn awaits_head(&self) {
        self.state().head = Some(0);
    }

    /// So many bytes came from the target.
    pub(super) fn came(&self, bytes: usize) {
        let mut state = self.state();
        if let Some(head) = state.head {
            // Behind a head, the rest of what was read is already the next one or a body.
            let head = head.saturating_add(bytes).min(state.most);
            state.head = Some(head);
            state.counts(head);
        }
    }

    /// A 1xx of so many bytes was whole, and another head follows.
    pub fn informational(&self, bytes: usize) {
        let mut state = self.state();
        state.largest = state.largest.max(bytes.min(state.most));
        state.head = state.head.map(|head| head.saturating_sub(bytes));
    }

    /// The final head of so many bytes was whole.
    pub fn answered(&self, bytes: usize) {
        let mut state = self.state();
        state.largest = state.largest.max(bytes.min(state.most));
        state.head = None;
        state.counts(0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn counts(&mut self, head: usize) {
        let head = head.max(self.largest);
        // A buffer that is full grows to twice its size, and a piece more.
        self.lease.set(if head > FIRST { 2 * head } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::held::HeldBytes;

    #[test]
    fn heads_count_while_they_come_and_as_long_as_their_buffer_is_there() {
        let budget = HeldBytes::new(1 << 20);
        let buffer = ResponseBuffer::new(&budget.enter(), 64 << 10);
        buffer.awaits_head();
        for (bytes, counted) in [(FIRST, 0), (1, 2 * (FIRST + 1)), (100_000, 128 << 10)] {
            buffer.came(bytes);
            assert_eq!(budget.of(Kind::Body), counted, "{bytes}");
        }
        // A part of it was a body.
        buffer.answered(10_000);
        assert_eq!(budget.of(Kind::Body), 20_000);
        buffer.came(1 << 20);
        assert_eq!(budget.of(Kind::Body), 20_000);
        buffer.awaits_head();
        buffer.came(100);
        assert_eq!(budget.of(Kind::Body), 20_000);
        buffer.informational(100);
        buffer.came(12_000);
        assert_eq!(budget.of(Kind::Body), 24_000);
        drop(buffer);
        assert_eq!(budget.sum(), 0);
    }
}
