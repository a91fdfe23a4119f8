//! Connections of load balancers whose PROXY header was not read yet: their number has a bound, and the one that makes room is the one
//! that has been silent for longest.
//!
//! A balancer sends its header at once. Another peer that may connect there, because its network is trusted, can be silent: so nobody waits
//! for a place here, neither the listener nor a balancer behind silent peers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// No balancer takes so long; a busy processor may.
const SILENT: Duration = Duration::from_secs(1);

/// The connections that have not named their client.
#[derive(Debug)]
pub struct Unnamed {
    most: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// The first has waited for the longest time.
    open: VecDeque<Entry>,
    next: u64,
    /// Of those that had to make room, the ones that are not gone yet.
    leaving: usize,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    peer: IpAddr,
    since: Instant,
    end: Arc<Notify>,
}

/// One of them; dropping it frees its place.
#[derive(Debug)]
#[must_use = "the place goes back when this is dropped"]
pub struct UnnamedPlace {
    of: Arc<Unnamed>,
    id: u64,
    end: Arc<Notify>,
}

impl Unnamed {
    /// At most so many, and as many that are about to leave.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Unnamed { most, table: Mutex::default() })
    }

    /// Whether there is a place without ending anything.
    pub fn has_room(&self) -> bool {
        self.lock().open.len() < self.most
    }

    /// A place for one more. Another may have to end for it: the oldest that was silent for a second, or else the oldest of the peer
    /// that has most. `None`: too many are about to leave.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<UnnamedPlace> {
        let mut table = self.lock();
        if table.open.len() >= self.most {
            if table.leaving >= self.most {
                return None;
            }
            let entry = table.last_to_keep(now).and_then(|place| table.open.remove(place))?;
            table.leaving += 1;
            entry.end.notify_one();
        }
        let (id, end) = (table.next, Arc::new(Notify::new()));
        table.next += 1;
        table.open.push_back(Entry { id, peer, since: now, end: Arc::clone(&end) });
        Some(UnnamedPlace { of: Arc::clone(self), id, end })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change is whole: a panic elsewhere leaves the table correct.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn last_to_keep(&self, now: Instant) -> Option<usize> {
        let oldest = self.open.front()?;
        if now.saturating_duration_since(oldest.since) >= SILENT {
            return Some(0);
        }
        let of = |peer| self.open.iter().filter(|entry| entry.peer == peer).count();
        let (_, most) = self.open.iter().map(|entry| (of(entry.peer), entry.peer)).max()?;
        self.open.iter().position(|entry| entry.peer == most)
    }
}

impl UnnamedPlace {
    /// Resolves when another connection needs the place more.
    pub async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for UnnamedPlace {
    fn drop(&mut self) {
        let mut table = self.of.lock();
        match table.open.iter().position(|entry| entry.id == self.id) {
            Some(place) => drop(table.open.remove(place)),
            None => table.leaving -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Waker};

    use super::*;

    fn peer(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn ended(place: &UnnamedPlace) -> bool {
        std::pin::pin!(place.ended()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn silent_peers_keep_no_balancer_out() {
        let (unnamed, begun) = (Unnamed::new(8), Instant::now());
        let silent: Vec<_> = (0..8).map(|at| unnamed.enter(peer(1 + at % 2), begun).unwrap()).collect();
        assert!(!unnamed.has_room());
        let balancer = unnamed.enter(peer(9), begun).unwrap();
        assert_eq!(
            silent.iter().map(ended).position(|ended| ended),
            Some(1),
            "the oldest of one that has most"
        );
        // Those that have been silent for a second go first, whichever peer has most.
        let later = begun + SILENT;
        let second = unnamed.enter(peer(9), later).unwrap();
        assert!(ended(&silent[0]) && !ended(&balancer) && !ended(&second));
        drop((silent, balancer, second));
        assert!(unnamed.has_room());
        assert_eq!(unnamed.lock().leaving, 0);
    }

    #[test]
    fn those_that_leave_have_a_bound_too() {
        let (unnamed, now) = (Unnamed::new(2), Instant::now());
        let open: Vec<_> = (0..9).map_while(|_| unnamed.enter(peer(1), now)).collect();
        assert_eq!(open.len(), 4);
        drop(open);
        assert!(unnamed.enter(peer(1), now).is_some());
    }
}
