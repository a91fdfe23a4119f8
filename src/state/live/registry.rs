//! The shards: the live entries in them, the bytes of those that left, and the generation of the policies.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::exchange::Exchange;
use super::revoked::Revoked;
use super::tunnel::Tunnel;
use crate::state::proof::Proof;
use crate::telemetry::metrics::PolicyUsage;
use crate::transport::meter::Meter;
use crate::words::outcome::Ending;

/// A scrape over 10,000 tunnels then holds one lock for some 600 of them, a few microseconds.
pub(super) const SHARDS: usize = 16;
/// Tunnels that [`Live::for_each`] takes out of a shard at a time: the lock is held only to copy their `Arc`s.
const CHUNK: usize = 64;

/// Which policies decided: changes with every reload and every expiry of a rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Generation(u64);

/// The registry.
pub struct Live {
    pub(super) shards: [Mutex<Shard>; SHARDS],
    /// Spreads registrations evenly over the shards.
    next_shard: AtomicUsize,
    generation: AtomicU64,
    /// Seconds since 1970: when the verdict on the identity of an entry may next change by itself.
    changes_at: AtomicI64,
    pub(super) tunnels: AtomicUsize,
    pub(super) exchanges: AtomicUsize,
}

#[derive(Default)]
pub(super) struct Shard {
    pub(super) slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Bytes of entries that left, by policy. Only a few: a list is faster than a hash.
    closed: Vec<Closed>,
}

struct Closed {
    policy: Arc<str>,
    sent: u64,
    received: u64,
}

pub(super) enum Entry {
    Tunnel(Arc<Tunnel>),
    Exchange(Arc<Exchange>),
}

impl Entry {
    fn policy(&self) -> &Arc<str> {
        match self {
            Entry::Tunnel(tunnel) => &tunnel.facts.policy,
            Entry::Exchange(exchange) => &exchange.facts.policy,
        }
    }

    fn proof(&self) -> &Arc<Proof> {
        match self {
            Entry::Tunnel(tunnel) => &tunnel.facts.proof,
            Entry::Exchange(exchange) => &exchange.facts.proof,
        }
    }

    fn meter(&self) -> &Meter {
        match self {
            Entry::Tunnel(tunnel) => &tunnel.meter,
            Entry::Exchange(exchange) => &exchange.meter,
        }
    }
}

impl Live {
    /// Empty.
    pub fn new() -> Arc<Self> {
        Arc::new(Live {
            shards: std::array::from_fn(|_| Mutex::default()),
            next_shard: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            changes_at: AtomicI64::new(i64::MAX),
            tunnels: AtomicUsize::new(0),
            exchanges: AtomicUsize::new(0),
        })
    }

    /// The generation to pass to [`Live::register`]. Read it before the policy is taken, never after.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::SeqCst))
    }

    /// A newer policy has been published: from here on, registrations that were decided before must be judged again.
    /// Sweep after this.
    pub fn advance(&self) -> Generation {
        // The sweep notes it again for each entry that it leaves open; an entry that it cannot see notes it later.
        self.changes_at.store(i64::MAX, Ordering::SeqCst);
        Generation(self.generation.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Puts an entry into some shard, and returns the generation at that moment.
    pub(super) fn enter(&self, entry: Entry, count: &AtomicUsize) -> (Seat, Generation) {
        // Counted before it is visible, so that no uncounted tunnel is ever seen.
        count.fetch_add(1, Ordering::SeqCst);
        let index = self.pick_shard();
        let proof = Arc::clone(entry.proof());
        let mut shard = self.shard(index);
        let slot = shard.insert(entry);
        // After it can be seen: a sweep in between has seen it, and notes it itself.
        self.expect_change(&proof);
        // Under the lock: a sweep that takes it later sees the entry, one that took it before has advanced.
        (Seat::new(index, slot), self.generation())
    }

    /// When the verdict on the identity of an entry may next change although the configuration does not: its certificate or a
    /// revocation list expires. `None`: never.
    pub fn changes_at(&self) -> Option<Timestamp> {
        let at = self.changes_at.load(Ordering::SeqCst);
        (at != i64::MAX).then(|| Timestamp::from_second(at).unwrap_or(Timestamp::MAX))
    }

    fn expect_change(&self, proof: &Proof) {
        if let Some(at) = proof.changes_at() {
            // All such moments are whole seconds.
            self.changes_at.fetch_min(at.as_second(), Ordering::SeqCst);
        }
    }

    /// Live tunnels.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::SeqCst)
    }

    /// Live plain HTTP exchanges.
    pub fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    /// Calls `visit` for every tunnel that is live throughout, and for some of those that come or go meanwhile. No
    /// lock is held during the call, so `visit` may be slow.
    pub fn for_each(&self, visit: impl FnMut(&Arc<Tunnel>)) {
        let tunnels = |entry: &Entry| match entry {
            Entry::Tunnel(tunnel) => Some(Arc::clone(tunnel)),
            Entry::Exchange(_) => None,
        };
        self.visit(tunnels, visit);
    }

    /// The same for all entries that `pick` accepts.
    fn visit<T>(&self, pick: impl Fn(&Entry) -> Option<Arc<T>>, mut visit: impl FnMut(&Arc<T>)) {
        let mut chunk = Vec::with_capacity(CHUNK);
        for index in 0..SHARDS {
            let mut from = 0;
            loop {
                {
                    let shard = self.shard(index);
                    let rest = shard.slots.get(from..).unwrap_or_default();
                    if rest.is_empty() {
                        break;
                    }
                    chunk.extend(rest.iter().take(CHUNK).flatten().filter_map(&pick));
                }
                from += CHUNK;
                for entry in chunk.drain(..) {
                    visit(&entry);
                }
            }
        }
    }

    /// Ends with `ending` every tunnel for which `which` is true; the rest never notice. Returns how many.
    pub fn cancel_where(&self, ending: Ending, mut which: impl FnMut(&Tunnel) -> bool) -> usize {
        let mut cancelled = 0;
        self.for_each(|tunnel| {
            if tunnel.ending().is_none() && which(tunnel) {
                tunnel.cancel(ending);
                cancelled += 1;
            }
        });
        cancelled
    }

    /// Ends every tunnel for which `judge` says why it is revoked; the rest never notice. Returns how many.
    pub fn revoke_where<R: Into<Revoked>>(&self, mut judge: impl FnMut(&Tunnel) -> Option<R>) -> usize {
        let mut revoked = 0;
        self.for_each(|tunnel| {
            if tunnel.ending().is_some() {
                return;
            }
            match judge(tunnel) {
                Some(why) => {
                    tunnel.revoke(why);
                    revoked += 1;
                }
                None => self.expect_change(&tunnel.facts.proof),
            }
        });
        revoked
    }

    /// Ends every exchange for which `judge` says why it is revoked; the rest never notice. Returns how many.
    pub fn revoke_exchanges_where<R: Into<Revoked>>(
        &self,
        mut judge: impl FnMut(&Exchange) -> Option<R>,
    ) -> usize {
        let mut revoked = 0;
        let exchanges = |entry: &Entry| match entry {
            Entry::Exchange(exchange) => Some(Arc::clone(exchange)),
            Entry::Tunnel(_) => None,
        };
        self.visit(exchanges, |exchange| {
            if exchange.cancel.ending().is_some() {
                return;
            }
            match judge(exchange) {
                Some(why) => {
                    exchange.revoke(why);
                    revoked += 1;
                }
                None => self.expect_change(&exchange.facts.proof),
            }
        });
        revoked
    }

    /// Bytes and live tunnels by policy, closed and live together.
    pub fn usage(&self) -> Vec<PolicyUsage> {
        let mut usage: Vec<PolicyUsage> = Vec::new();
        for index in 0..SHARDS {
            let shard = self.shard(index);
            for closed in &shard.closed {
                let total = usage_of(&mut usage, &closed.policy);
                total.sent += closed.sent;
                total.received += closed.received;
            }
            for entry in shard.slots.iter().flatten() {
                let total = usage_of(&mut usage, entry.policy());
                total.sent += entry.meter().sent();
                total.received += entry.meter().received();
                total.tunnels += usize::from(matches!(entry, Entry::Tunnel(_)));
            }
        }
        usage
    }

    /// Forgets the closed bytes of policies that a reload removed. Their live tunnels are still counted.
    pub fn retain_policies(&self, keep: impl Fn(&str) -> bool) {
        for index in 0..SHARDS {
            self.shard(index).closed.retain(|closed| keep(&closed.policy));
        }
    }

    fn pick_shard(&self) -> usize {
        self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS
    }

    /// A panic under the lock is only possible after a bug in this file; the data is still complete then.
    pub(super) fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn leave(&self, place: Seat, count: &AtomicUsize) {
        let entry = self.shard(usize::from(place.shard)).remove(place.slot);
        // Freed outside the lock.
        drop(entry);
        count.fetch_sub(1, Ordering::SeqCst);
    }
}

fn usage_of<'u>(usage: &'u mut Vec<PolicyUsage>, policy: &Arc<str>) -> &'u mut PolicyUsage {
    let index = usage.iter().position(|known| known.policy == *policy).unwrap_or_else(|| {
        usage.push(PolicyUsage { policy: Arc::clone(policy), tunnels: 0, sent: 0, received: 0 });
        usage.len() - 1
    });
    &mut usage[index]
}

impl Shard {
    fn insert(&mut self, entry: Entry) -> u32 {
        if let Some(slot) = self.free.pop()
            && let Some(empty) = self.slots.get_mut(slot as usize)
        {
            *empty = Some(entry);
            return slot;
        }
        self.slots.push(Some(entry));
        u32::try_from(self.slots.len() - 1).expect("fewer than 4 billion tunnels fit a machine's descriptors")
    }

    /// Takes the entry out and adds its bytes to the closed ones, in one step for any reader of both.
    fn remove(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        let (sent, received) = (entry.meter().sent(), entry.meter().received());
        match self.closed.iter_mut().find(|closed| closed.policy == *entry.policy()) {
            Some(closed) => {
                closed.sent += sent;
                closed.received += received;
            }
            None => self.closed.push(Closed { policy: Arc::clone(entry.policy()), sent, received }),
        }
        if self.free.len() == self.slots.len() {
            // The memory of a burst is freed with its last tunnel.
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        Some(entry)
    }
}

/// The position of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) shard: u8,
    slot: u32,
}

impl Seat {
    fn new(shard: usize, slot: u32) -> Self {
        // SHARDS fits.
        Seat { shard: (shard % SHARDS) as u8, slot }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}
