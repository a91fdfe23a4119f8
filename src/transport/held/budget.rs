//! The budget, its holders and their leases.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::choose::{Account, Holding, Need, STALLED, choose};
use super::kind::Kind;
use super::ledger::Ledger;
use crate::transport::cancel::Cancel;
use crate::words::outcome::Ending;

const KINDS: usize = Kind::ALL.len();
/// A connection that holds no more than this may grow up to the limit, others only up to [`HeldBytes::HIGH`]: itself, a
/// head, a hello of a usual size.
pub const SMALL: usize = 32 * 1024;
/// Holders are in so many lists, so that workers rarely wait for the same lock.
const SHARDS: usize = 16;
/// A waiter looks again after this long, even if nobody gave anything back.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// If nothing could be ended, nothing is searched for so many milliseconds: it would be searched for with every read.
const SEARCH_PAUSE: u64 = 50;
/// The same at the limit, where more may be ended.
const SEARCH_PAUSE_AT_LIMIT: u64 = 5;

/// No bytes are left, and none came back in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// The budget of the whole program.
pub struct HeldBytes {
    ledger: Ledger<KINDS>,
    shards: [Mutex<Shard>; SHARDS],
    next_shard: AtomicUsize,
    hasher: RandomState,
    epoch: Instant,
    /// Whose holders wait for bytes; each as often as it waits.
    waiting: Mutex<Vec<Account>>,
    waiters: AtomicUsize,
    room: Notify,
    /// Memory has become short.
    short: Notify,
    /// Locked by the one that searches. When the last search was, if it chose nothing: milliseconds since `epoch`.
    search: Mutex<Option<u64>>,
    ended: AtomicU64,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Weak<Holder>>,
    free: Vec<u32>,
}

impl HeldBytes {
    /// The part of the limit from which nothing large grows, and connections are ended.
    pub const HIGH: (usize, usize) = (7, 8);
    /// The part of the limit down to which they are ended.
    pub const CALM: (usize, usize) = (3, 4);

    /// Nothing held, at most `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(HeldBytes {
            ledger: Ledger::new(limit),
            shards: std::array::from_fn(|_| Mutex::default()),
            next_shard: AtomicUsize::new(0),
            hasher: RandomState::new(),
            epoch: Instant::now(),
            waiting: Mutex::default(),
            waiters: AtomicUsize::new(0),
            room: Notify::new(),
            short: Notify::new(),
            search: Mutex::default(),
            ended: AtomicU64::new(0),
        })
    }

    /// Without a limit, as in tests and programs that serve nobody.
    pub fn unlimited() -> Arc<Self> {
        HeldBytes::new(usize::MAX)
    }

    /// Follows `limits.memory`. What is held stays held.
    pub fn set_limit(&self, limit: usize) {
        self.ledger.set_limit(limit);
    }

    /// The limit in force.
    pub fn limit(&self) -> usize {
        self.ledger.limit()
    }

    /// Bytes held of one kind.
    pub fn of(&self, kind: Kind) -> usize {
        self.ledger.of(kind.place())
    }

    /// Bytes held in all.
    pub fn sum(&self) -> usize {
        self.ledger.sum()
    }

    /// How many connections were ended for want of memory so far.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Adds bytes that no connection holds, such as those of the log.
    pub fn charge(&self, kind: Kind, bytes: usize) {
        self.ledger.charge(kind.place(), bytes);
    }

    /// Takes off what [`HeldBytes::charge`] added.
    pub fn give_back(&self, kind: Kind, bytes: usize) {
        self.ledger.give_back(kind.place(), bytes);
        self.wake();
    }

    /// A new connection, which holds nothing yet.
    pub fn enter(self: &Arc<Self>) -> Arc<Holder> {
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        Arc::new_cyclic(|holder| Holder {
            budget: Arc::clone(self),
            seat: (shard, lock(&self.shards[shard]).insert(Weak::clone(holder))),
            bytes: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            moved: AtomicU64::new(self.now()),
            account: AtomicU64::new(0),
            cancel: Cancel::new(),
        })
    }

    /// Whether what is large may not grow.
    pub fn is_short(&self) -> bool {
        self.sum() >= part(self.limit(), Self::HIGH)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wake(&self) {
        if self.waiters.load(Ordering::Relaxed) > 0 {
            self.room.notify_one();
        }
    }

    /// Ends connections until no more than [`HeldBytes::CALM`] will be held, if more than [`HeldBytes::HIGH`] is. One at a
    /// time searches; the others need not wait for it.
    fn make_room(&self) {
        let (limit, sum) = (self.limit(), self.sum());
        if sum < part(limit, Self::HIGH) {
            return;
        }
        // At the limit there is no time to wait for who moves.
        let (patience, pause) = match sum < limit {
            true => (STALLED, SEARCH_PAUSE),
            false => (Duration::ZERO, SEARCH_PAUSE_AT_LIMIT),
        };
        let Ok(mut in_vain) = self.search.try_lock() else { return };
        let now = self.now();
        if in_vain.is_some_and(|searched| now < searched + pause) {
            return;
        }
        let holders = self.holders();
        let mut needed = self.sum().saturating_sub(part(limit, Self::CALM));
        let mut holdings = Vec::with_capacity(holders.len());
        let mut endable = Vec::with_capacity(holders.len());
        for holder in &holders {
            let holding = holder.holding(now);
            if holder.cancel.ending().is_some() {
                // It is on its way out.
                needed = needed.saturating_sub(holding.bytes);
            } else {
                holdings.push(holding);
                endable.push(holder);
            }
        }
        let waiting = lock(&self.waiting).clone();
        let chosen = choose(&holdings, &waiting, Need { limit, bytes: needed, patience });
        *in_vain = chosen.is_empty().then_some(now);
        for place in chosen {
            if let Some(holder) = endable.get(place) {
                holder.cancel.cancel(Ending::MemoryLimit);
                self.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Goes on making room while memory is short: what is held may have come before it could be ended. Never ready, and asleep
    /// while there is room.
    pub async fn keep(&self) {
        loop {
            self.short.notified().await;
            while self.is_short() {
                self.make_room();
                sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// All that there are. They are dropped by the caller without a lock: the last reference leaves its list.
    fn holders(&self) -> Vec<Arc<Holder>> {
        let mut holders = Vec::new();
        for shard in &self.shards {
            holders.extend(lock(shard).slots.iter().filter_map(Weak::upgrade));
        }
        holders
    }

    /// Waits until `holder` may have `bytes` more, and makes room meanwhile.
    async fn room_for(&self, holder: &Holder, kind: Kind, bytes: usize) {
        let account = holder.account();
        let _waiting = Waiting::new(self, account);
        loop {
            let notified = self.room.notified();
            self.make_room();
            if holder.take(kind, bytes) {
                // There may be room for the next one, too.
                self.room.notify_one();
                return;
            }
            let _ = timeout(LOOK_AGAIN, notified).await;
        }
    }
}

/// Keeps an account among those that wait.
struct Waiting<'b> {
    budget: &'b HeldBytes,
    account: Account,
}

impl<'b> Waiting<'b> {
    fn new(budget: &'b HeldBytes, account: Account) -> Self {
        lock(&budget.waiting).push(account);
        budget.waiters.fetch_add(1, Ordering::Relaxed);
        Waiting { budget, account }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.budget.waiters.fetch_sub(1, Ordering::Relaxed);
        let mut waiting = lock(&self.budget.waiting);
        if let Some(place) = waiting.iter().position(|account| *account == self.account) {
            waiting.swap_remove(place);
        }
    }
}

impl Shard {
    fn insert(&mut self, holder: Weak<Holder>) -> u32 {
        if let Some(place) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(place as usize)
        {
            *slot = holder;
            return place;
        }
        self.slots.push(holder);
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    fn remove(&mut self, place: u32) {
        if let Some(slot) = self.slots.get_mut(place as usize) {
            *slot = Weak::new();
            self.free.push(place);
        }
        if self.free.len() == self.slots.len() {
            // The memory of a burst is freed with its last connection.
            *self = Shard::default();
        }
    }
}

/// Plain numbers and lists: a panic elsewhere leaves them correct.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn part(limit: usize, (of, parts): (usize, usize)) -> usize {
    (limit / parts).saturating_mul(of)
}

/// One connection, as far as it holds memory.
pub struct Holder {
    budget: Arc<HeldBytes>,
    /// Its place among the holders.
    seat: (usize, u32),
    bytes: AtomicUsize,
    kept: AtomicUsize,
    /// Milliseconds since the budget's epoch.
    moved: AtomicU64,
    account: AtomicU64,
    cancel: Arc<Cancel>,
}

impl Holder {
    /// Alone in a budget without a limit, for code that is used without one.
    pub fn alone() -> Arc<Self> {
        HeldBytes::unlimited().enter()
    }

    /// The budget.
    pub fn budget(&self) -> &Arc<HeldBytes> {
        &self.budget
    }

    /// Says for whom it holds: shares are by client, and where it proved an identity by that, too.
    pub fn is_for(&self, client: IpAddr, identity: Option<&str>) {
        self.account.store(self.budget.hasher.hash_one((client, identity)), Ordering::Relaxed);
    }

    fn account(&self) -> Account {
        Account(self.account.load(Ordering::Relaxed))
    }

    /// What ends it from outside; [`Ending::MemoryLimit`] if memory runs short.
    pub fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    /// Ready once it has to give up what it holds.
    pub async fn given_up(&self) {
        while self.cancel.cancelled().await != Ending::MemoryLimit {
            std::future::pending::<()>().await;
        }
    }

    /// Something that it held has left, or it begins something new.
    pub fn moves(&self) {
        self.moved.store(self.budget.now(), Ordering::Relaxed);
    }

    /// It is an open tunnel or exchange from here on: what it holds now is its cost, and no reason to end it.
    pub fn stays_open(&self) {
        self.kept.store(self.bytes(), Ordering::Relaxed);
        self.moves();
    }

    /// The exchange is over: a connection that only waits may be ended for its cost.
    pub fn waits(&self) {
        self.kept.store(0, Ordering::Relaxed);
    }

    /// Bytes that it holds beyond its cost.
    pub fn excess(&self) -> usize {
        self.bytes().saturating_sub(self.kept.load(Ordering::Relaxed))
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether a new request may begin. If memory is short, room is made for it first, and it waits for up to `patience`.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub async fn admitted(&self, patience: Duration) -> Result<(), NoRoom> {
        if !self.budget.is_short() {
            return Ok(());
        }
        // Taken only to see that it can be: what it needs is leased where it is read.
        let wanted = SMALL.saturating_sub(self.bytes());
        timeout(patience, self.budget.room_for(self, Kind::Head, wanted)).await.map_err(|_| NoRoom)?;
        self.put_back(Kind::Head, wanted);
        Ok(())
    }

    /// Waits until it may have `bytes` more, which it then has.
    pub(super) async fn wait_for(&self, kind: Kind, bytes: usize) {
        self.budget.room_for(self, kind, bytes).await;
    }

    fn holding(&self, now: u64) -> Holding {
        Holding {
            account: self.account(),
            bytes: self.bytes(),
            kept: self.kept.load(Ordering::Relaxed),
            stalled: Duration::from_millis(now.saturating_sub(self.moved.load(Ordering::Relaxed))),
        }
    }

    /// It holds `after` bytes of a kind instead of `before`, for code that has several leases in one place and gives all of them
    /// back when it is dropped.
    pub fn holds(&self, kind: Kind, before: usize, after: usize) {
        if after > before {
            self.charge(kind, after - before);
        } else if after < before {
            self.put_back(kind, before - after);
        }
    }

    /// The same with the number of before in a small place.
    pub fn holds_instead(&self, kind: Kind, held: &mut u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes != *held {
            self.holds(kind, *held as usize, bytes as usize);
            *held = bytes;
        }
    }

    pub(super) fn take(&self, kind: Kind, bytes: usize) -> bool {
        let limit = self.budget.limit();
        let is_small = self.bytes().saturating_add(bytes) <= SMALL;
        let ceiling = if is_small { limit } else { part(limit, HeldBytes::HIGH) };
        let taken = self.budget.ledger.take(kind.place(), bytes, ceiling);
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    fn charge(&self, kind: Kind, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.budget.ledger.charge(kind.place(), bytes) >= part(self.budget.limit(), HeldBytes::HIGH) {
            self.budget.make_room();
            self.budget.short.notify_one();
        }
    }

    fn put_back(&self, kind: Kind, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.give_back(kind, bytes);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let (shard, place) = self.seat;
        if let Some(shard) = self.budget.shards.get(shard) {
            lock(shard).remove(place);
        }
    }
}

impl fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldBytes")
            .field("sum", &self.sum())
            .field("limit", &self.limit())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::Lease;
    use super::*;

    /// With a smaller limit, tunnels at their cost may be all that there is: then no byte that moves searches them anew.
    #[tokio::test(start_paused = true)]
    async fn at_the_limit_nothing_is_searched_for_a_moment_after_nothing_could_be_ended() {
        let budget = HeldBytes::new(1 << 20);
        let (moving, waiting) = (budget.enter(), budget.enter());
        let mut leases = [&moving, &waiting].map(|holder| Lease::of(holder, Kind::Relay, 50_000));
        moving.stays_open();
        waiting.stays_open();
        leases[0].set(40_000);
        budget.set_limit(60_000);
        leases[0].set(40_001);
        // From here on one could be ended.
        waiting.waits();
        tokio::time::advance(Duration::from_millis(SEARCH_PAUSE_AT_LIMIT - 1)).await;
        leases[0].set(40_002);
        assert_eq!(budget.ended(), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        leases[0].set(40_003);
        assert_eq!((budget.ended(), waiting.cancel().ending()), (1, Some(Ending::MemoryLimit)));
    }
}
