//! The registry of what is being served: live tunnels and plain HTTP exchanges.
//!
//! Admin shows it, a reload judges it again, a drain ends it, and a scrape counts its bytes, so that none of these
//! needs to know a tunnel. A tunnel is in the registry as long as its [`LiveTunnel`] is kept. Not here: who is
//! allowed (`policy`), what a reload does (`reload`), and the relay.
//!
//! # Bytes are counted once
//! Each shard holds its live meters and, per policy, the bytes of those that left. Leaving adds the meter to the
//! latter under the shard's lock, and a scrape reads both under the same lock: whatever the order, a byte is in one of
//! the two, so that the sum never goes backwards and never counts twice.
//!
//! # The race with a reload
//! A request decided by the old policy may register after the sweep of a reload has passed. So: a request reads
//! [`Live::generation`] *before* it takes the policy; a reload publishes the new policy, *then* calls
//! [`Live::advance`], then sweeps. A registration that comes before the sweep is seen by it; one that comes after it
//! sees that the generation moved, and is told to be judged again ([`Registration::JudgeAgain`]). A rule's expiry is the
//! same race with the clock, and goes the same way.

mod exchange;
pub mod rejudge;
#[cfg(test)]
mod tests;
mod usage;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::rules::Scheme;
use crate::telemetry::metrics::PolicyUsage;
use crate::transport::cancel::Cancel;
use crate::transport::meter::Meter;
use crate::words::client::Client;
use crate::words::outcome::{Ending, Reason};
use crate::words::target::{Host, Target};
pub use exchange::{Exchange, ExchangeFacts, LiveExchange};

/// A scrape over 10,000 tunnels then holds one lock for some 600 of them, a few microseconds.
const SHARDS: usize = 16;
/// Tunnels taken out of a shard at a time by [`Live::for_each`]: the lock is held for their `Arc`s alone.
const CHUNK: usize = 64;

/// What is known of a tunnel for its whole life: what to show, and what is needed to judge it again.
#[derive(Debug)]
pub struct TunnelFacts {
    /// The request's id, as in the log and `X-Request-Id`.
    pub id: Uuid,
    /// Who asks; shared with the connection.
    pub client: Arc<Client>,
    /// What was asked for.
    pub target: Target,
    /// The policy that decided, as in the metrics.
    pub policy: Arc<str>,
    /// The metric label of the rule that decided; none in report mode where none fit.
    pub rule: Option<Arc<str>>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The address that was dialled.
    pub upstream: SocketAddr,
    /// Whether that is a parent proxy's.
    pub by_parent: bool,
    /// What the rule made of it: whether it was looked into.
    pub scheme: Scheme,
    /// When the request was read.
    pub started: Timestamp,
}

impl TunnelFacts {
    /// The address that the policy has to admit: what was dialled; behind a parent, which no rule judges, the address
    /// that the client wrote, if it was one.
    pub fn judged_address(&self) -> Option<IpAddr> {
        match (self.by_parent, &self.target.host) {
            (false, _) => Some(self.upstream.ip()),
            (true, Host::Address(address)) => Some(*address),
            (true, Host::Name(_)) => None,
        }
    }
}

/// One live tunnel, as admin, reload and drain see it.
#[derive(Debug)]
pub struct Tunnel {
    /// What does not change.
    pub facts: TunnelFacts,
    /// Its bytes so far.
    pub meter: Arc<Meter>,
    cancel: Arc<Cancel>,
    since: Instant,
    sni: OnceLock<Arc<str>>,
    objection: OnceLock<Reason>,
    revoked: OnceLock<Reason>,
}

impl Tunnel {
    /// The host name that its ClientHello showed, escaped where it is none; none before that, and none for `tcp`.
    pub fn sni(&self) -> Option<&str> {
        self.sni.get().map(AsRef::as_ref)
    }

    /// What report mode let pass of what its first bytes showed; none before that, and none for `tcp`.
    pub fn objection(&self) -> Option<Reason> {
        self.objection.get().copied()
    }

    /// Ends it with `policy_revoked`, for this reason, unless something else ended it before.
    pub fn revoke(&self, reason: Reason) {
        // Before it is told to end: it records this.
        self.revoked.get_or_init(|| reason);
        self.cancel(Ending::PolicyRevoked);
    }

    /// Why it was revoked, if it was.
    pub fn revoked(&self) -> Option<Reason> {
        self.revoked.get().copied()
    }

    /// How long it has been registered, by the monotonic clock.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends it with `ending`, unless something else ended it before.
    pub fn cancel(&self, ending: Ending) {
        self.cancel.cancel(ending);
    }

    /// The ending it was told, if any: it may still be closing.
    pub fn ending(&self) -> Option<Ending> {
        self.cancel.ending()
    }
}

/// Which policies decided: moves with every reload and every expiry of a rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Generation(u64);

/// What came of [`Live::register`]. An enum, so that the second case cannot be overlooked.
#[derive(Debug)]
#[must_use = "it leaves the registry when its guard is dropped, and may have to be judged again"]
pub enum Registration<Guard = LiveTunnel> {
    /// The policy that decided is still the newest.
    Current(Guard),
    /// A newer policy stands: decide again, before the `200`, and drop the guard if the verdict is now no.
    JudgeAgain(Guard),
}

/// The registry.
pub struct Live {
    shards: [Mutex<Shard>; SHARDS],
    /// Spreads registrations evenly over the shards.
    next_shard: AtomicUsize,
    generation: AtomicU64,
    tunnels: AtomicUsize,
    exchanges: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Bytes of what has left, by policy. A handful: a list is quicker than a hash.
    closed: Vec<Closed>,
}

struct Closed {
    policy: Arc<str>,
    sent: u64,
    received: u64,
}

enum Entry {
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
            tunnels: AtomicUsize::new(0),
            exchanges: AtomicUsize::new(0),
        })
    }

    /// The generation to hand to [`Live::register`]. Read it before the policy is taken, never after.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::SeqCst))
    }

    /// A newer policy has been published: from here on registrations decided before are told so. Sweep after this.
    pub fn advance(&self) -> Generation {
        Generation(self.generation.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Puts a tunnel into the registry, where it stays until the guard is dropped. Keep the guard until the last byte
    /// was counted: what `meter` counts later is in no metric.
    pub fn register(
        self: &Arc<Self>,
        facts: TunnelFacts,
        meter: Arc<Meter>,
        cancel: Arc<Cancel>,
        decided: Generation,
    ) -> Registration {
        let (sni, objection, revoked) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let since = Instant::now();
        let tunnel = Arc::new(Tunnel { facts, meter, cancel, since, sni, objection, revoked });
        let (place, now) = self.enter(Entry::Tunnel(Arc::clone(&tunnel)), &self.tunnels);
        let guard = LiveTunnel { live: Arc::clone(self), tunnel, place };
        if now == decided { Registration::Current(guard) } else { Registration::JudgeAgain(guard) }
    }

    /// Puts an entry into some shard, and tells the generation at that moment.
    fn enter(&self, entry: Entry, count: &AtomicUsize) -> (Place, Generation) {
        // Counted before it can be seen, so that no tunnel is seen that is not counted.
        count.fetch_add(1, Ordering::SeqCst);
        let index = self.pick_shard();
        let mut shard = self.shard(index);
        let slot = shard.insert(entry);
        // Under the lock: a sweep that takes it later sees the entry, one that took it before has advanced.
        (Place::new(index, slot), self.generation())
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
    /// lock is held during the call, so `visit` may take its time.
    pub fn for_each(&self, visit: impl FnMut(&Arc<Tunnel>)) {
        let tunnels = |entry: &Entry| match entry {
            Entry::Tunnel(tunnel) => Some(Arc::clone(tunnel)),
            Entry::Exchange(_) => None,
        };
        self.visit(tunnels, visit);
    }

    /// The same for all entries that `pick` takes.
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

    /// Ends with `ending` every tunnel of which `which` says so; the rest never notice. Tells how many.
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

    /// Ends with `policy_revoked` every tunnel for which `judge` gives a reason; the rest never notice. Tells how many.
    pub fn revoke_where(&self, mut judge: impl FnMut(&Tunnel) -> Option<Reason>) -> usize {
        let mut revoked = 0;
        self.for_each(|tunnel| {
            if tunnel.ending().is_none()
                && let Some(reason) = judge(tunnel)
            {
                tunnel.revoke(reason);
                revoked += 1;
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

    /// Forgets the closed bytes of policies that a reload took away. Their live tunnels go on being counted.
    pub fn retain_policies(&self, keep: impl Fn(&str) -> bool) {
        for index in 0..SHARDS {
            self.shard(index).closed.retain(|closed| keep(&closed.policy));
        }
    }

    fn pick_shard(&self) -> usize {
        self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS
    }

    /// A panic under the lock can only come from a broken invariant of this file; the data is then still whole.
    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, place: Place, count: &AtomicUsize) {
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

    /// Takes the entry out and adds its bytes to the closed ones, in one step for whoever reads both.
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
            // The memory of a burst goes back with its last tunnel.
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        Some(entry)
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    shard: u8,
    slot: u32,
}

impl Place {
    fn new(shard: usize, slot: u32) -> Self {
        // SHARDS fits.
        Place { shard: (shard % SHARDS) as u8, slot }
    }
}

/// Keeps one tunnel in the registry; leaves it on drop.
#[must_use = "the tunnel leaves the registry when this is dropped"]
pub struct LiveTunnel {
    live: Arc<Live>,
    tunnel: Arc<Tunnel>,
    place: Place,
}

impl LiveTunnel {
    /// The tunnel as the others see it.
    pub fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// What ends it from outside.
    pub fn cancel(&self) -> &Cancel {
        &self.tunnel.cancel
    }

    /// Its bytes.
    pub fn meter(&self) -> &Meter {
        &self.tunnel.meter
    }

    /// Remembers what the ClientHello showed. Once: a second hello must show the same.
    pub fn show_sni(&self, sni: Arc<str>) {
        self.tunnel.sni.get_or_init(|| sni);
    }

    /// Remembers why only report mode lets it pass. A sweep that does not see this has passed: judge by the policy that is
    /// in force after this call, which is the one of that sweep or a newer one.
    pub fn object(&self, reason: Reason) {
        // The lock puts this before the sweep or behind it.
        let _shard = self.live.shard(usize::from(self.place.shard));
        self.tunnel.objection.get_or_init(|| reason);
    }
}

impl Drop for LiveTunnel {
    fn drop(&mut self) {
        self.live.leave(self.place, &self.live.tunnels);
    }
}

impl fmt::Debug for LiveTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveTunnel").field(&self.tunnel).finish()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}
