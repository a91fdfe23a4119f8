//! Which connections the admin listener holds, and which one makes room when there are too many.
//!
//! A probe that finds no place makes the kubelet restart a healthy pod, so no number of silent or slow peers may keep it
//! out. Some places are only for addresses that are expected here: those of `admin.networks`, and those whose
//! health checks were answered recently, such as the node's. When the places of a newcomer's kind are taken, the peer
//! that has been silent for the longest time is closed: first one from outside `admin.networks`, then one of the address
//! with the most connections. Not here: what is answered ([`super`]), and the deadlines that end a silent connection anyway.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Enough for all probers and scrapers; a flood from inside cannot take all descriptors.
pub(super) const PLACES: usize = 64;
/// Those that only expected addresses get.
const RESERVED: usize = 16;
/// The part that one address may hold.
const PER_ADDRESS: usize = 16;
/// Addresses whose health checks were answered, of which the latest are remembered. A cluster's balancers and nodes are
/// fewer; if there are more, the oldest is forgotten, and loses only its reserved places.
const PROBERS: usize = 64;

/// The open connections of the admin listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// In the order in which they came: the first has waited for the longest time.
    open: Vec<Entry>,
    /// The most recent last.
    probers: Vec<IpAddr>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    address: IpAddr,
    /// It belongs to `admin.networks`.
    inside: bool,
    /// It does, or its health checks were answered.
    expected: bool,
    /// It has sent a whole request head.
    asked: bool,
    end: Arc<Notify>,
}

/// One open connection; dropping it frees its place.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    id: u64,
    address: IpAddr,
    end: Arc<Notify>,
}

impl Places {
    /// A place for a connection from `address`, which stands for a client as everywhere; `inside` says that it belongs to `admin.networks`. Another connection
    /// may have to end for it. `None`: every place is taken by one that has the better right to it.
    pub(super) fn enter(&self, address: IpAddr, inside: bool) -> Option<Place> {
        let mut table = self.lock();
        let expected = inside || table.probers.contains(&address);
        table.make_room(address, inside, expected)?;
        let id = table.next;
        table.next += 1;
        let end = Arc::new(Notify::new());
        table.open.push(Entry { id, address, inside, expected, asked: false, end: Arc::clone(&end) });
        Some(Place { places: self.clone(), id, address, end })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change is whole: a panic elsewhere leaves the table correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Ends connections until one more of this kind may be held.
    fn make_room(&mut self, address: IpAddr, inside: bool, expected: bool) -> Option<()> {
        if self.of(address) >= PER_ADDRESS {
            self.end(|entry| entry.address == address && !entry.asked)?;
        }
        if !expected && self.open.iter().filter(|entry| !entry.expected).count() >= PLACES - RESERVED {
            self.end(|entry| !entry.expected && !entry.asked)
                .or_else(|| self.end_of_largest(address, false))?;
        }
        if self.open.len() >= PLACES {
            // Any address can ask once for its health, and be silent then: only how long it is silent counts.
            self.end(|entry| !entry.inside && !entry.asked)
                .or_else(|| self.end_of_largest(address, expected))
                .or_else(|| self.end(|entry| inside && !entry.asked))?;
        }
        Some(())
    }

    fn of(&self, address: IpAddr) -> usize {
        self.open.iter().filter(|entry| entry.address == address).count()
    }

    /// Ends the oldest connection of the address that holds the most, a silent one first, if that address holds more
    /// than `address` will hold. An address that is not expected never takes the place of one that is.
    fn end_of_largest(&mut self, address: IpAddr, expected: bool) -> Option<()> {
        let candidates = self.open.iter().filter(|entry| expected || !entry.expected);
        let largest =
            candidates.map(|entry| (self.of(entry.address), entry.address)).max_by_key(|(held, _)| *held)?;
        let (held, largest) = largest;
        if held <= self.of(address) + 1 {
            return None;
        }
        self.end(|entry| entry.address == largest && !entry.asked)
            .or_else(|| self.end(|entry| entry.address == largest))
    }

    /// Ends the oldest connection that `which` selects.
    fn end(&mut self, which: impl Fn(&Entry) -> bool) -> Option<()> {
        let index = self.open.iter().position(which)?;
        let entry = self.open.remove(index);
        entry.end.notify_one();
        Some(())
    }
}

impl Place {
    /// Resolves when another connection needs the place more.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    /// The peer has sent a whole request head: it is not silent.
    pub(super) fn asks(&self) {
        let mut table = self.places.lock();
        if let Some(entry) = table.open.iter_mut().find(|entry| entry.id == self.id) {
            entry.asked = true;
        }
    }

    /// The peer's health check was answered: it is expected from now on.
    pub(super) fn probed(&self) {
        let mut table = self.places.lock();
        let address = self.address;
        table.probers.retain(|known| *known != address);
        if table.probers.len() >= PROBERS {
            table.probers.remove(0);
        }
        table.probers.push(address);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let id = self.id;
        self.places.lock().open.retain(|entry| entry.id != id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn silent(places: &Places, last: u8, number: usize) -> Vec<Place> {
        (0..number).filter_map(|_| places.enter(address(last), false)).collect()
    }

    fn ended(place: &Place) -> bool {
        !place.places.lock().open.iter().any(|entry| entry.id == place.id)
    }

    #[test]
    fn silent_strangers_make_room_for_a_probe_and_the_longest_silent_one_goes_first() {
        let places = Places::default();
        let strangers: Vec<Place> = (1..=4).flat_map(|last| silent(&places, last, 16)).collect();
        assert_eq!(places.lock().open.len(), PLACES - RESERVED, "the rest is for expected addresses");
        assert!(ended(&strangers[0]), "the newer ones took its place");
        let open = strangers.iter().position(|place| !ended(place)).unwrap();
        let probe = places.enter(address(9), false).expect("a stranger too");
        assert!(ended(&strangers[open]) && !ended(&strangers[open + 1]));
        probe.asks();
        probe.probed();
        drop(probe);
        let before = places.lock().open.len();
        let _again = places.enter(address(9), false).expect("known by now");
        assert_eq!(places.lock().open.len(), before + 1, "a reserved place: no other had to go");
    }

    #[test]
    fn slow_readers_from_inside_cannot_hold_every_place() {
        let places = Places::default();
        let slow: Vec<Place> = (1..=5)
            .flat_map(|last| (0..16).map(move |_| last))
            .filter_map(|last| places.enter(address(last), true))
            .collect();
        slow.iter().for_each(Place::asks);
        assert_eq!(places.lock().open.len(), PLACES);
        let _prometheus = places.enter(address(9), true).expect("a place of the address with the most");
        assert!(
            places.enter(address(200), false).is_none(),
            "a stranger takes no place of an expected address"
        );
    }

    #[test]
    fn peers_that_asked_once_and_are_silent_now_keep_out_neither_the_node_nor_prometheus() {
        let places = Places::default();
        for last in 1..=64 {
            let place = places.enter(address(last), false).expect("room");
            place.asks();
            place.probed();
        }
        let held: Vec<Place> = (1..=64).filter_map(|last| places.enter(address(last), false)).collect();
        assert_eq!(held.len(), PLACES);
        let _node = places.enter(address(200), false).expect("a place of one that is silent");
        let _prometheus = places.enter(address(201), true).expect("a place of one that is silent");
        assert!(ended(&held[0]) && ended(&held[1]));
    }

    #[test]
    fn one_address_holds_its_part_and_replaces_its_own_silent_ones() {
        let places = Places::default();
        let mut held = silent(&places, 1, PER_ADDRESS + 1);
        assert!(ended(&held[0]) && !ended(&held[1]));
        held.remove(0);
        held.iter().for_each(Place::asks);
        assert!(places.enter(address(1), false).is_none());
        held.pop();
        assert!(places.enter(address(1), false).is_some());
    }

    proptest! {
        /// Whatever others do, an expected address that holds nothing gets a place, and the number is bounded.
        #[test]
        fn an_expected_newcomer_always_gets_in(
            steps in prop::collection::vec((0..24u8, any::<bool>(), any::<bool>(), 0..4usize), 0..300)
        ) {
            let places = Places::default();
            let mut held: Vec<Place> = Vec::new();
            for (last, inside, asks, leave) in steps {
                if let Some(place) = places.enter(address(last), inside) {
                    if asks {
                        place.asks();
                    }
                    held.push(place);
                }
                if leave == 0 && !held.is_empty() {
                    held.remove(held.len() / 2);
                }
                let open = places.lock().open.len();
                prop_assert!(open <= PLACES);
                let newcomer = places.enter(address(100), true);
                prop_assert!(newcomer.is_some());
            }
            held.clear();
            prop_assert_eq!(places.lock().open.len(), 0);
        }
    }
}
