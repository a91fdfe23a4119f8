//! Counts requests and connections in progress against `limits` (handed in with each call): in total, for each client, and
//! how fast a client may ask.
//!
//! A connection is a [`Presence`] of its client as soon as its client is known, so that one client cannot take every
//! connection by sending nothing. Every request takes a [`Slot`] before its target is looked at. Both are freed when
//! they end, however they end. The numbers are arguments, because a reload may change them while slots are taken. Not
//! here: the number of connections in total ([`connections`]),
//! connections to targets that are kept ([`kept`]), and requests to Git that are read ([`readers`]).

pub mod connections;
pub mod kept;
pub mod readers;
pub mod unnamed;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::words::outcome::Reason;

/// For so many requests that a client may have in progress it may have one connection without a request; and the
/// minimum.
const WAITING_SHARE: usize = 8;
const WAITING_LEAST: usize = 16;
/// Maps are split so that workers rarely wait for the same lock.
const SHARDS: usize = 16;
/// When a shard has grown to this many clients, and at each doubling, clients that no longer matter are removed.
const FIRST_SWEEP: usize = 256;

/// The configured numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Requests and tunnels in progress at once.
    pub total: usize,
    /// Beyond it, for clients that have few: others cannot keep them out by having all the rest.
    pub last: usize,
    /// The same for one client address.
    pub per_client: usize,
    /// Requests per second of one client address; a burst of one second's worth is allowed.
    pub per_second: u32,
}

/// Of the places that are left for clients that have few, one client may have this part, and always one.
const PART_OF_LAST: usize = 8;

/// Whether there is one more place, where `count` are taken of `cap`, for a client that has `others`; `last` are beyond the cap.
fn has_place(count: usize, cap: usize, last: usize, others: usize) -> bool {
    let left = cap.saturating_add(last).saturating_sub(count);
    count < cap || (left > 0 && others < (left / PART_OF_LAST).max(1))
}

/// Counts what is in progress.
#[derive(Debug)]
pub struct Occupancy {
    total: AtomicUsize,
    shards: [Mutex<Shard>; SHARDS],
    epoch: Instant,
}

#[derive(Debug, Default)]
struct Shard {
    clients: HashMap<IpAddr, Usage>,
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Usage {
    connections: usize,
    /// Whether it was logged that there are too many; not again until half of them are gone.
    told: bool,
    under_way: usize,
    /// The generic cell rate algorithm's theoretical arrival time (ITU-T I.371), in nanoseconds since `epoch`.
    arrival: u64,
}

/// One request in progress. Dropping it frees its place.
#[derive(Debug)]
pub struct Slot {
    occupancy: Arc<Occupancy>,
    client: IpAddr,
}

/// One open connection of a client. Dropping it frees its place.
#[derive(Debug)]
pub struct Presence {
    occupancy: Arc<Occupancy>,
    client: IpAddr,
}

/// A client has as many connections open as it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crowded {
    /// How many that is.
    pub most: usize,
    /// Whether this is the first time.
    pub first: bool,
}

impl Occupancy {
    /// Nothing in progress.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Occupancy {
            total: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
            epoch: now,
        })
    }

    /// A place for one connection of `client`, which may have `per_client` requests in progress; and how many others it has
    /// open.
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn enter(
        self: &Arc<Self>,
        client: IpAddr,
        per_client: usize,
        now: Instant,
    ) -> Result<(Presence, usize), Crowded> {
        let most = per_client.saturating_add((per_client / WAITING_SHARE).max(WAITING_LEAST));
        let mut shard = self.shard(client);
        shard.sweep(self.since_epoch(now));
        let usage = shard.clients.entry(client).or_default();
        if usage.connections >= most {
            return Err(Crowded { most, first: !std::mem::replace(&mut usage.told, true) });
        }
        usage.told &= usage.connections >= most / 2;
        let others = usage.connections;
        usage.connections += 1;
        Ok((Presence { occupancy: Arc::clone(self), client }, others))
    }

    /// A place for one request of `client`.
    ///
    /// # Errors
    /// [`Reason::ClientRateLimited`], [`Reason::ClientLimitReached`] or [`Reason::LimitReached`]; a refused request
    /// uses up no place, but does count against the client's rate.
    pub fn take(self: &Arc<Self>, client: IpAddr, caps: Caps, now: Instant) -> Result<Slot, Reason> {
        {
            let mut shard = self.shard(client);
            shard.sweep(self.since_epoch(now));
            let usage = shard.clients.entry(client).or_default();
            usage.pass_rate(caps.per_second, self.since_epoch(now))?;
            if usage.under_way >= caps.per_client {
                return Err(Reason::ClientLimitReached);
            }
            let more =
                |count: usize| has_place(count, caps.total, caps.last, usage.under_way).then_some(count + 1);
            if self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
                return Err(Reason::LimitReached);
            }
            usage.under_way += 1;
        }
        Ok(Slot { occupancy: Arc::clone(self), client })
    }

    /// A request of `client` that needs no place, because it is refused anyway.
    ///
    /// # Errors
    /// [`Reason::ClientRateLimited`].
    pub fn count(&self, client: IpAddr, per_second: u32, now: Instant) -> Result<(), Reason> {
        let mut shard = self.shard(client);
        shard.sweep(self.since_epoch(now));
        let usage = shard.clients.entry(client).or_default();
        usage.pass_rate(per_second, self.since_epoch(now))
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, Shard> {
        let low = match client {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets().iter().fold(0, |all, octet| all ^ octet),
        };
        // Plain counters: a panic elsewhere leaves them correct.
        self.shards[usize::from(low) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Forgets clients that have nothing in progress and whose rate has recovered: a scan of addresses must not make
    /// the map grow forever.
    fn sweep(&mut self, now: u64) {
        if self.clients.len() < self.sweep_at.max(FIRST_SWEEP) {
            return;
        }
        self.clients.retain(|_, usage| usage.connections > 0 || usage.under_way > 0 || usage.arrival > now);
        self.sweep_at = self.clients.len() * 2;
    }
}

impl Usage {
    fn pass_rate(&mut self, per_second: u32, now: u64) -> Result<(), Reason> {
        const SECOND: u64 = 1_000_000_000;
        let interval = SECOND / u64::from(per_second.max(1));
        let arrival = self.arrival.max(now);
        if arrival + interval > now + SECOND {
            return Err(Reason::ClientRateLimited);
        }
        self.arrival = arrival + interval;
        Ok(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut shard = self.occupancy.shard(self.client);
        if let Some(usage) = shard.clients.get_mut(&self.client) {
            usage.connections -= 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.occupancy.total.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.occupancy.shard(self.client);
        if let Some(usage) = shard.clients.get_mut(&self.client) {
            usage.under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const CAPS: Caps = Caps { total: 3, last: 0, per_client: 2, per_second: 10 };

    fn client(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn a_client_has_its_cap_and_all_have_theirs() {
        let now = Instant::now();
        let occupancy = Occupancy::new(now);
        let first = occupancy.take(client(1), CAPS, now).unwrap();
        let _second = occupancy.take(client(1), CAPS, now).unwrap();
        assert_eq!(occupancy.take(client(1), CAPS, now).unwrap_err(), Reason::ClientLimitReached);
        let _third = occupancy.take(client(2), CAPS, now).unwrap();
        assert_eq!(occupancy.take(client(2), CAPS, now).unwrap_err(), Reason::LimitReached);
        drop(first);
        let _again = occupancy.take(client(2), CAPS, now).unwrap();
        assert_eq!(occupancy.take(client(17), CAPS, now).unwrap_err(), Reason::LimitReached, "same shard");
    }

    #[test]
    fn whoever_has_few_has_a_place_when_others_have_all() {
        let now = Instant::now();
        let occupancy = Occupancy::new(now);
        let caps = Caps { total: 100, last: 64, per_client: 1000, per_second: 1000 };
        let take = |last: u8| occupancy.take(client(last), caps, now);
        let mut many: Vec<_> = (0..200).map_while(|_| take(1).ok()).collect();
        assert_eq!(many.len(), 100);
        let few: Vec<_> = (2..=200).filter_map(|last| take(last).ok()).collect();
        assert_eq!(few.len(), 64, "each of so many others has one");
        assert_eq!(take(250).unwrap_err(), Reason::LimitReached, "there is an end");
        drop(few);
        many.pop();
        many.push(take(1).unwrap());
        assert!(take(1).is_err() && take(2).is_ok());
    }

    #[test]
    fn a_client_has_an_eighth_more_connections_and_it_is_told_once() {
        let now = Instant::now();
        let occupancy = Occupancy::new(now);
        let mut open: Vec<_> = (0..180).map(|_| occupancy.enter(client(1), 160, now).unwrap()).collect();
        assert_eq!(occupancy.enter(client(1), 160, now).unwrap_err(), Crowded { most: 180, first: true });
        assert_eq!(occupancy.enter(client(1), 160, now).unwrap_err(), Crowded { most: 180, first: false });
        assert!(occupancy.enter(client(2), 160, now).is_ok(), "another client is not held back");
        open.pop();
        open.push(occupancy.enter(client(1), 160, now).unwrap());
        assert!(!occupancy.enter(client(1), 160, now).unwrap_err().first, "nearly as many as before");
        open.truncate(80);
        open.extend((0..100).map(|_| occupancy.enter(client(1), 160, now).unwrap()));
        assert!(occupancy.enter(client(1), 160, now).unwrap_err().first);
        drop(open);
        assert_eq!(occupancy.enter(client(1), 1, now).map(drop), Ok(()));
        let few: Vec<_> = (0..17).map(|_| occupancy.enter(client(1), 1, now).unwrap()).collect();
        assert_eq!(occupancy.enter(client(1), 1, now).unwrap_err().most, few.len());
    }

    #[test]
    fn a_burst_of_one_second_passes_and_then_the_rate_holds() {
        let mut now = Instant::now();
        let occupancy = Occupancy::new(now);
        let caps = Caps { total: 1000, last: 0, per_client: 1000, per_second: 10 };
        for _ in 0..10 {
            occupancy.take(client(1), caps, now).unwrap();
        }
        assert_eq!(occupancy.take(client(1), caps, now).unwrap_err(), Reason::ClientRateLimited);
        assert!(occupancy.take(client(2), caps, now).is_ok(), "another client is not held back");
        now += Duration::from_millis(100);
        occupancy.count(client(1), caps.per_second, now).unwrap();
        assert_eq!(occupancy.take(client(1), caps, now).unwrap_err(), Reason::ClientRateLimited);
    }

    #[test]
    fn a_scan_of_addresses_does_not_grow_the_map() {
        let start = Instant::now();
        let occupancy = Occupancy::new(start);
        for n in 0..200_000u32 {
            let now = start + Duration::from_millis(u64::from(n));
            occupancy.take(IpAddr::V4(Ipv4Addr::from(n)), CAPS, now).unwrap();
        }
        let kept: usize = occupancy.shards.iter().map(|shard| shard.lock().unwrap().clients.len()).sum();
        assert!(kept <= SHARDS * FIRST_SWEEP * 2, "{kept} clients kept");
    }
}
