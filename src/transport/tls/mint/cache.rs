//! Keeps what was made for each name, at most so many, shared out by client: when it is full, the client that has most gives up
//! what it has not used for longest. So a client that asks for many names, which one pattern may allow, pushes out its own.
//!
//! What is kept is charged to the client that first asked for it. The lock is held for a look-up, never while something is
//! made: there is one [`Slot`] for each name, and all that want the same name wait at it. Not here: what is kept.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::words::target::Name;

/// Where one thing is made once; all others wait for it.
pub(super) type Slot<T> = OnceCell<T>;

pub(super) struct Cache<T> {
    most: usize,
    table: Mutex<Table<T>>,
}

struct Table<T> {
    entries: HashMap<Name, Entry<T>>,
    clients: HashMap<IpAddr, Uses>,
    /// How many entries each client has.
    largest: BTreeSet<(usize, IpAddr)>,
    /// Counts uses, instead of a clock: the order is all that matters.
    now: u64,
}

struct Entry<T> {
    slot: Arc<Slot<T>>,
    client: IpAddr,
    used: u64,
}

/// The entries of one client, by their last use.
type Uses = BTreeSet<(u64, Name)>;

impl<T> Cache<T> {
    pub(super) fn new(most: usize) -> Self {
        let table =
            Table { entries: HashMap::new(), clients: HashMap::new(), largest: BTreeSet::new(), now: 0 };
        Cache { most, table: Mutex::new(table) }
    }

    /// The slot of `name`, if there is one that is still good; this counts as a use of it. A slot in which something is being
    /// made is good.
    pub(super) fn get(&self, name: &Name, is_good: impl Fn(&T) -> bool) -> Option<Arc<Slot<T>>> {
        self.lock().get(name, is_good)
    }

    /// The slot of `name`, as [`Cache::get`] gives it; otherwise a new one, which is charged to `client`.
    pub(super) fn get_or_insert(
        &self,
        name: &Name,
        client: IpAddr,
        is_good: impl Fn(&T) -> bool,
    ) -> Arc<Slot<T>> {
        let mut table = self.lock();
        if let Some(slot) = table.get(name, is_good) {
            return slot;
        }
        table.remove(name);
        let slot = Arc::new(Slot::new());
        table.insert(name.clone(), client, Arc::clone(&slot));
        while table.entries.len() > self.most && table.evict() {}
        slot
    }

    #[cfg(test)]
    pub(super) fn names_of(&self, client: IpAddr) -> Vec<Name> {
        let table = self.lock();
        table.clients.get(&client).into_iter().flatten().map(|(_, name)| name.clone()).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table<T>> {
        // The table is complete between any two steps.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Table<T> {
    fn get(&mut self, name: &Name, is_good: impl Fn(&T) -> bool) -> Option<Arc<Slot<T>>> {
        self.now += 1;
        let now = self.now;
        let entry = self.entries.get_mut(name)?;
        if entry.slot.get().is_some_and(|kept| !is_good(kept)) {
            return None;
        }
        let before = std::mem::replace(&mut entry.used, now);
        let uses = self.clients.get_mut(&entry.client)?;
        // The name that is there already is kept, not another copy of it.
        if let Some((_, name)) = uses.take(&(before, name.clone())) {
            uses.insert((now, name));
        }
        Some(Arc::clone(&entry.slot))
    }

    fn insert(&mut self, name: Name, client: IpAddr, slot: Arc<Slot<T>>) {
        self.now += 1;
        let used = self.now;
        self.change(client, |uses| uses.insert((used, name.clone())));
        self.entries.insert(name, Entry { slot, client, used });
    }

    fn remove(&mut self, name: &Name) {
        if let Some(Entry { client, used, .. }) = self.entries.remove(name) {
            self.change(client, |uses| uses.remove(&(used, name.clone())));
        }
    }

    /// Takes one entry out. Whether there was one.
    fn evict(&mut self) -> bool {
        let client = self.largest.last().map(|(_, client)| client);
        let oldest = client.and_then(|client| self.clients.get(client)?.first());
        let Some(name) = oldest.map(|(_, name)| name.clone()) else { return false };
        self.remove(&name);
        true
    }

    /// Changes the entries of a client, and its place among the clients.
    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Uses) -> bool) {
        let uses = self.clients.entry(address).or_default();
        self.largest.remove(&(uses.len(), address));
        change(uses);
        match uses.len() {
            0 => drop(self.clients.remove(&address)),
            count => drop(self.largest.insert((count, address))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn name(number: u32) -> Name {
        Name::parse(&format!("n{number}.example.com")).unwrap()
    }

    fn ask(cache: &Cache<u32>, asker: u8, number: u32) {
        let slot = cache.get_or_insert(&name(number), client(asker), |_| true);
        let _ = slot.set(number);
    }

    #[test]
    fn a_client_that_asks_for_many_names_pushes_out_its_own() {
        let cache = Cache::new(100);
        for number in 0..20 {
            ask(&cache, 1, number);
        }
        for number in 1_000..3_000 {
            ask(&cache, 2, number);
        }
        assert_eq!(cache.len(), 100);
        assert_eq!(cache.names_of(client(1)), (0..20).map(name).collect::<Vec<_>>());
        assert_eq!(cache.names_of(client(2)), (2_920..3_000).map(name).collect::<Vec<_>>());
        // One that comes later gets its part, too, as it asks for it.
        for number in 5_000..5_100 {
            ask(&cache, 3, number);
        }
        assert_eq!(cache.names_of(client(1)).len(), 20);
        assert_eq!(cache.names_of(client(2)).len(), 40);
        assert_eq!(cache.names_of(client(3)).len(), 40);
    }

    #[test]
    fn what_is_no_longer_good_is_made_anew_and_charged_to_the_client_that_asks() {
        let cache = Cache::new(10);
        ask(&cache, 1, 7);
        let kept = cache.get(&name(7), |kept| *kept == 7).expect("kept");
        assert_eq!(kept.get(), Some(&7));
        assert!(cache.get(&name(7), |_| false).is_none());
        let new = cache.get_or_insert(&name(7), client(2), |_| false);
        assert!(new.get().is_none());
        // It is being made: good, however old others would be.
        assert!(Arc::ptr_eq(&new, &cache.get_or_insert(&name(7), client(3), |_| false)));
        assert_eq!(
            (cache.len(), cache.names_of(client(1)), cache.names_of(client(2))),
            (1, vec![], vec![name(7)])
        );
    }

    /// The same rule, written so that it can be read at once: a queue for each client, the oldest use first.
    fn model(most: usize, asked: &[(u8, u32)]) -> Vec<(u8, Vec<u32>)> {
        let mut queues: Vec<(u8, VecDeque<u32>)> = (0..4).map(|number| (number, VecDeque::new())).collect();
        for (asker, number) in asked {
            let holder = queues.iter().position(|(_, queue)| queue.contains(number));
            let to = holder.unwrap_or(usize::from(*asker));
            queues[to].1.retain(|other| other != number);
            queues[to].1.push_back(*number);
            if queues.iter().map(|(_, queue)| queue.len()).sum::<usize>() > most {
                let largest = queues.iter_mut().max_by_key(|(number, queue)| (queue.len(), *number)).unwrap();
                largest.1.pop_front();
            }
        }
        queues.into_iter().map(|(number, queue)| (number, queue.into())).collect()
    }

    proptest! {
        #[test]
        fn it_keeps_what_the_model_keeps(
            most in 1_usize..12,
            asked in proptest::collection::vec((0_u8..4, 0_u32..20), 0..200),
        ) {
            let cache = Cache::new(most);
            for (asker, number) in &asked {
                ask(&cache, *asker, *number);
                prop_assert!(cache.len() <= most);
            }
            for (asker, numbers) in model(most, &asked) {
                prop_assert_eq!(cache.names_of(client(asker)), numbers.into_iter().map(name).collect::<Vec<_>>());
            }
        }
    }
}
