//! How many connections flow, in all and of each client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The connections whose bytes flow.
#[derive(Debug, Default)]
pub(super) struct Flows {
    all: AtomicUsize,
    /// How many each client has, by [`super::Holder::shares_with`]; none of none.
    clients: Mutex<HashMap<u64, usize>>,
}

impl Flows {
    /// How many flow.
    pub(super) fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all() == 0 && self.clients().is_empty()
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, client: u64) {
        self.all.fetch_add(1, Ordering::Relaxed);
        *self.clients().entry(client).or_default() += 1;
    }

    pub(super) fn leave(&self, client: u64) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut own) = self.clients().entry(client) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    /// Of how many clients some flow, and how many of this one. A connection that is about to flow is one of them.
    pub(super) fn of(&self, client: u64) -> (usize, usize) {
        let clients = self.clients();
        let own = clients.get(&client).copied();
        (clients.len() + usize::from(own.is_none()), own.unwrap_or(1))
    }
}
