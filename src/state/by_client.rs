//! What clients cause to be remembered: bounded in bytes, with a share for each client.
//!
//! When the bytes are used up, the client that holds the most of them loses the entry that came least often. So a client
//! that asks for a thousand invented names pushes out its own entries, and not those of others. Which client that is, is
//! for the caller to say: the addresses of one network may be one client. Entries are found by a hash with a random key.
//! If two entries have the same hash, the later one stays: among 10,000 entries that happens by chance once in 10^11
//! times, and nobody can cause it. Not here: what is remembered ([`super::recent`], [`super::allowed`]).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

/// How often something came, and when it came last.
pub(super) type Rank = (u64, Timestamp);

/// The client that an entry belongs to; none if it is not known.
pub(super) type Owner = Option<IpAddr>;

/// Bytes of an entry in the maps here, about.
const PER_ENTRY: usize = 128;

/// An entry.
pub(super) trait Remembered: Clone {
    /// The entry with the lowest rank goes first. It only grows.
    fn rank(&self) -> Rank;

    /// Bytes that it holds, its own included.
    fn bytes(&self) -> usize;
}

/// Entries by hash.
#[derive(Debug)]
pub(super) struct ByClient<T> {
    /// Bytes that all entries may hold.
    most: usize,
    held: usize,
    entries: HashMap<u64, Entry<T>>,
    owners: HashMap<Owner, Owned>,
    /// The bytes of each owner, in order.
    largest: BTreeSet<(usize, Owner)>,
}

#[derive(Debug)]
struct Entry<T> {
    /// Shared with snapshots: an answer of the status page is made without the lock.
    item: Arc<T>,
    owner: Owner,
    /// As in the owner's order: it may be behind the item's, and is brought up to date when the order is asked for.
    rank: Rank,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Owned {
    bytes: usize,
    order: BTreeSet<(Rank, u64)>,
}

impl<T: Remembered> ByClient<T> {
    pub(super) fn new(most: usize) -> Self {
        ByClient { most, held: 0, entries: HashMap::new(), owners: HashMap::new(), largest: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, hash: u64) -> Option<&T> {
        self.entries.get(&hash).map(|entry| &*entry.item)
    }

    /// Changes an entry, if there is one.
    pub(super) fn change(&mut self, hash: u64, change: impl FnOnce(&mut T)) {
        let Some(entry) = self.entries.get_mut(&hash) else { return };
        change(Arc::make_mut(&mut entry.item));
        let (owner, before, after) = (entry.owner, entry.bytes, entry.item.bytes() + PER_ENTRY);
        if before != after {
            entry.bytes = after;
            self.weigh(owner, before, after);
            self.make_room(0);
        }
    }

    /// Whether another entry like `item` would push one out.
    pub(super) fn is_full_for(&self, item: &T) -> bool {
        self.held + item.bytes() + PER_ENTRY > self.most
    }

    /// Adds an entry of `owner`, after it made room for it.
    pub(super) fn insert(&mut self, hash: u64, owner: Owner, item: T) {
        self.remove(hash);
        let (rank, bytes) = (item.rank(), item.bytes() + PER_ENTRY);
        self.make_room(bytes);
        self.entries.insert(hash, Entry { item: Arc::new(item), owner, rank, bytes });
        self.owners.entry(owner).or_default().order.insert((rank, hash));
        self.weigh(owner, 0, bytes);
    }

    /// Removes what did not come since `moment`. It looks at every entry.
    pub(super) fn forget_before(&mut self, moment: Timestamp) {
        let old = self.entries.iter().filter(|(_, entry)| entry.item.rank().1 < moment);
        let old: Vec<u64> = old.map(|(hash, _)| *hash).collect();
        for hash in old {
            self.remove(hash);
        }
    }

    /// Every entry with its hash, in no order: pointers, so that it takes a moment.
    pub(super) fn snapshot(&self) -> Vec<(u64, Arc<T>)> {
        self.entries.iter().map(|(hash, entry)| (*hash, Arc::clone(&entry.item))).collect()
    }

    fn make_room(&mut self, bytes: usize) {
        while self.held + bytes > self.most {
            let Some((_, owner)) = self.largest.last().copied() else { return };
            let Some(hash) = self.rarest(owner) else { return };
            self.remove(hash);
        }
    }

    /// The entry of `owner` that came least often. What came again since the order was last asked for is put where it
    /// belongs: a request does not pay for that, and an entry is moved at most once for all that came meanwhile.
    fn rarest(&mut self, owner: Owner) -> Option<u64> {
        let owned = self.owners.get_mut(&owner)?;
        loop {
            let (known, hash) = *owned.order.first()?;
            let Some(entry) = self.entries.get_mut(&hash) else { return Some(hash) };
            let rank = entry.item.rank();
            if rank == known {
                return Some(hash);
            }
            owned.order.pop_first();
            owned.order.insert((rank, hash));
            entry.rank = rank;
        }
    }

    fn remove(&mut self, hash: u64) {
        let Some(entry) = self.entries.remove(&hash) else { return };
        if let Some(owned) = self.owners.get_mut(&entry.owner) {
            owned.order.remove(&(entry.rank, hash));
        }
        self.weigh(entry.owner, entry.bytes, 0);
    }

    /// An entry of `owner` held `before` bytes, and now holds `after`.
    fn weigh(&mut self, owner: Owner, before: usize, after: usize) {
        self.held = self.held.saturating_sub(before) + after;
        let Some(owned) = self.owners.get_mut(&owner) else { return };
        self.largest.remove(&(owned.bytes, owner));
        owned.bytes = owned.bytes.saturating_sub(before) + after;
        if owned.order.is_empty() {
            self.owners.remove(&owner);
        } else {
            self.largest.insert((owned.bytes, owner));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Item {
        count: u64,
        last: Timestamp,
        bytes: usize,
    }

    impl Remembered for Item {
        fn rank(&self) -> Rank {
            (self.count, self.last)
        }

        fn bytes(&self) -> usize {
            self.bytes
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a moment")
    }

    fn owner(number: u8) -> Owner {
        Some(IpAddr::from([10, 0, 0, number]))
    }

    fn hashes(kept: &ByClient<Item>) -> BTreeSet<u64> {
        kept.snapshot().into_iter().map(|(hash, _)| hash).collect()
    }

    #[test]
    fn the_largest_client_loses_what_came_least_often() {
        let mut kept = ByClient::new(10 * (100 + PER_ENTRY));
        let item = |second| Item { count: 1, last: at(second), bytes: 100 };
        kept.insert(1, owner(1), item(1));
        kept.insert(2, owner(1), item(2));
        for hash in 10..18 {
            kept.insert(hash, owner(2), item(3));
        }
        // 10 and 11 came again, and 1 did not; 1 is not of the largest client.
        for hash in [10, 11] {
            kept.change(hash, |item| item.count = 5);
        }
        kept.insert(18, owner(2), item(4));
        kept.insert(19, owner(3), item(4));
        assert_eq!(hashes(&kept), BTreeSet::from([1, 2, 10, 11, 14, 15, 16, 17, 18, 19]));
        // A client that holds one large thing holds more than one that holds many small ones.
        kept.change(19, |item| item.bytes = 800);
        assert!(!hashes(&kept).contains(&19));
    }

    proptest! {
        /// Whatever comes: the bound holds, the sums are right, and a client within an equal share loses nothing.
        #[test]
        fn no_client_is_pushed_below_its_share(
            steps in prop::collection::vec((0_u64..60, 0_u8..4, 1_usize..300, 0_u8..4), 1..400),
        ) {
            const MOST: usize = 8_000;
            let mut kept: ByClient<Item> = ByClient::new(MOST);
            for (second, (hash, who, bytes, what)) in steps.into_iter().enumerate() {
                let last = at(i64::try_from(second).expect("small"));
                let before: Vec<(u64, usize, Owner)> =
                    kept.entries.iter().map(|(hash, entry)| (*hash, entry.bytes, entry.owner)).collect();
                let of = |who: Owner| before.iter().filter(|(_, _, owner)| *owner == who).map(|(_, bytes, _)| bytes).sum::<usize>();
                let known = kept.get(hash).is_some();
                match what {
                    0 if known => kept.change(hash, |item| { item.count += 1; item.last = last; }),
                    1 if known => kept.change(hash, |item| { item.count += 1; item.last = last; item.bytes = bytes; }),
                    2 => kept.forget_before(at(i64::try_from(second).expect("small") - 100)),
                    _ if known => {}
                    _ => {
                        kept.insert(hash, owner(who), Item { count: 1, last, bytes });
                        for (gone, _, owner) in before.iter().filter(|(hash, ..)| kept.get(*hash).is_none()) {
                            prop_assert!(of(*owner) * 4 + 4 * (300 + PER_ENTRY) >= MOST - (300 + PER_ENTRY), "{gone} of {owner:?}");
                        }
                    }
                }
                prop_assert!(kept.held <= MOST);
                prop_assert_eq!(kept.held, kept.entries.values().map(|entry| entry.bytes).sum::<usize>());
                prop_assert_eq!(kept.entries.len(), kept.owners.values().map(|owned| owned.order.len()).sum::<usize>());
                let sums: BTreeSet<(usize, Owner)> = kept.owners.iter().map(|(owner, owned)| (owned.bytes, *owner)).collect();
                prop_assert_eq!(&sums, &kept.largest);
            }
        }
    }
}
