//! The budget, its holders and their leases.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::choose::{Account, Accounts, FLOWS, Holding, Need, STALLED, Want, choose};
use super::kernel::FIRST_LOOK;
use super::kind::Kind;
use super::ledger::Ledger;
use crate::transport::cancel::Cancel;
use crate::words::outcome::Ending;

const KINDS: usize = Kind::ALL.len();
/// A connection that holds no more than this may grow up to the limit, others only up to [`HeldBytes::HIGH`]: itself, a
/// head, a hello of a usual size, a connection to a target of plain requests.
pub const SMALL: usize = 60 * 1024;
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
    /// `limits.memory`, or what stands for it. The ledger's is less if the process needs more than what is held.
    limit: AtomicUsize,
    shards: [Mutex<Shard>; SHARDS],
    next_shard: AtomicUsize,
    hasher: RandomState,
    epoch: Instant,
    /// Whose holders wait for bytes; each as often as it waits.
    waiting: Mutex<Vec<Want>>,
    waiters: AtomicUsize,
    room: Notify,
    /// Memory has become short.
    short: Notify,
    /// Locked by the one that searches.
    search: Mutex<Option<Search>>,
    /// Who had how much when it was last searched.
    accounts: Mutex<Accounts>,
    ended: AtomicU64,
    /// Bytes of what is set aside for clients that hold little.
    overdrawn: AtomicUsize,
}

/// The last search for what to end.
#[derive(Clone, Copy)]
struct Search {
    /// Milliseconds since the budget's epoch.
    at: u64,
    /// It chose nothing.
    in_vain: bool,
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
    /// The part of the limit from which the kernel's buffers are looked at at once.
    pub const PRESSED: (usize, usize) = (1, 2);
    /// However much the process needs beside it, so much of the limit may be held.
    const LEAST: (usize, usize) = (1, 4);
    /// The part of the limit that is set aside, beyond it, for clients that hold little.
    const LIGHT: (usize, usize) = (1, 16);

    /// Nothing held, at most `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(HeldBytes {
            ledger: Ledger::new(limit),
            limit: AtomicUsize::new(limit),
            shards: std::array::from_fn(|_| Mutex::default()),
            next_shard: AtomicUsize::new(0),
            hasher: RandomState::new(),
            epoch: Instant::now(),
            waiting: Mutex::default(),
            waiters: AtomicUsize::new(0),
            room: Notify::new(),
            short: Notify::new(),
            search: Mutex::default(),
            accounts: Mutex::default(),
            ended: AtomicU64::new(0),
            overdrawn: AtomicUsize::new(0),
        })
    }

    /// Without a limit, as in tests and programs that serve nobody.
    pub fn unlimited() -> Arc<Self> {
        HeldBytes::new(usize::MAX)
    }

    /// Follows `limits.memory`. What is held stays held.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.ledger.set_limit(limit);
    }

    /// The limit that is configured.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The limit in force: less, if the process needs memory that it has to take from what may be held.
    pub fn in_force(&self) -> usize {
        self.ledger.limit()
    }

    /// No more than `room` bytes may be held, whatever the limit says, because the rest is in use: by a heap that keeps what was
    /// freed, by what the kernel took in and nobody has looked at yet. Connections end for it, as they do at the limit.
    pub fn fits(&self, room: usize) {
        let limit = self.limit();
        self.ledger.set_limit(room.clamp(part(limit, Self::LEAST), limit));
        if self.is_short() {
            self.make_room();
            self.short.notify_one();
        }
    }

    /// When to look at a socket for the first time.
    pub fn first_look(&self) -> Duration {
        if self.is_pressed() { Duration::ZERO } else { FIRST_LOOK }
    }

    /// Whether so much is held that what the kernel takes in between two looks could be too much.
    pub fn is_pressed(&self) -> bool {
        self.sum() >= part(self.in_force(), Self::PRESSED)
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
            overdrawn: AtomicUsize::new(0),
            moved: AtomicU64::new(self.now()),
            account: AtomicU64::new(0),
            flowed: AtomicU64::new(0),
            is_heavy: AtomicBool::new(false),
            cancel: Cancel::new(),
        })
    }

    /// Whether what is large may not grow.
    pub fn is_short(&self) -> bool {
        self.sum() >= part(self.in_force(), Self::HIGH)
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
        let (limit, sum) = (self.in_force(), self.sum());
        if sum < part(limit, Self::HIGH) {
            return;
        }
        // At the limit there is no time to wait for who moves.
        let (patience, pause) = match sum < limit {
            true => (STALLED, SEARCH_PAUSE),
            false => (Duration::ZERO, SEARCH_PAUSE_AT_LIMIT),
        };
        let Ok(mut last) = self.search.try_lock() else { return };
        let now = self.now();
        if last.is_some_and(|last| {
            // Those that were chosen need a moment to give back what they hold.
            let pause = if last.in_vain { pause } else { SEARCH_PAUSE_AT_LIMIT };
            now < last.at + pause
        }) {
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
        let need = Need { limit: part(limit, Self::CALM), bytes: needed, patience };
        let mut accounts = Accounts::new(&holdings, &waiting, need.limit);
        for (holder, holding) in endable.iter().zip(&holdings) {
            holder.is_heavy.store(!accounts.is_light(holding.account), Ordering::Relaxed);
        }
        let chosen = choose(&holdings, &waiting, &mut accounts, need);
        *lock(&self.accounts) = accounts;
        *last = Some(Search { at: now, in_vain: chosen.is_empty() });
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
        let _waiting = Waiting::new(self, Want { account: holder.account(), bytes });
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
    want: Want,
}

impl<'b> Waiting<'b> {
    fn new(budget: &'b HeldBytes, want: Want) -> Self {
        lock(&budget.waiting).push(want);
        budget.waiters.fetch_add(1, Ordering::Relaxed);
        Waiting { budget, want }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.budget.waiters.fetch_sub(1, Ordering::Relaxed);
        let mut waiting = lock(&self.budget.waiting);
        if let Some(place) = waiting.iter().position(|want| *want == self.want) {
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
    /// Of its bytes, those of what is set aside.
    overdrawn: AtomicUsize,
    /// Milliseconds since the budget's epoch.
    moved: AtomicU64,
    account: AtomicU64,
    /// When it last flowed: as `moved`; 0 is never.
    flowed: AtomicU64,
    /// Its account has much of its share, or more, by the last search.
    is_heavy: AtomicBool,
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
        if self.budget.is_short() {
            self.budget.make_room();
            let is_light = lock(&self.budget.accounts).is_light(self.account());
            self.is_heavy.store(!is_light, Ordering::Relaxed);
        }
    }

    /// Whether its client holds so much already that it must wait for its own connections at the limit, by the last search.
    pub fn is_heavy(&self) -> bool {
        self.is_heavy.load(Ordering::Relaxed)
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

    /// It has moved a good part of what it holds ([`super::is_flow`]).
    pub fn flows(&self) {
        self.flowed.store(self.budget.now().max(1), Ordering::Relaxed);
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
            flows: match self.flowed.load(Ordering::Relaxed) {
                0 => false,
                flowed => u128::from(now.saturating_sub(flowed)) < FLOWS.as_millis(),
            },
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
        let limit = self.budget.in_force();
        let is_small = self.bytes().saturating_add(bytes) <= SMALL;
        let is_light = is_small && !self.is_heavy();
        let ceiling = if is_small { limit } else { part(limit, HeldBytes::HIGH) };
        let taken =
            self.budget.ledger.take(kind.place(), bytes, ceiling) || (is_light && self.overdraw(kind, bytes));
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Takes from what is set aside for clients that hold little: others cannot keep them out by being over the limit, which what
    /// the kernel takes in makes them from time to time.
    fn overdraw(&self, kind: Kind, bytes: usize) -> bool {
        let most = part(self.budget.limit(), HeldBytes::LIGHT);
        let more = |drawn: usize| drawn.checked_add(bytes).filter(|drawn| *drawn <= most);
        let drawn = self.budget.overdrawn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if drawn {
            self.overdrawn.fetch_add(bytes, Ordering::Relaxed);
            self.budget.ledger.charge(kind.place(), bytes);
        }
        drawn
    }

    fn charge(&self, kind: Kind, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.budget.ledger.charge(kind.place(), bytes) >= part(self.budget.in_force(), HeldBytes::HIGH) {
            self.budget.make_room();
            self.budget.short.notify_one();
        }
    }

    fn put_back(&self, kind: Kind, bytes: usize) {
        // What was set aside comes back first. One task has the leases of a holder, or few do.
        let mut back = 0;
        let less = |drawn: usize| {
            back = drawn.min(bytes);
            (back > 0).then_some(drawn - back)
        };
        if self.overdrawn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            self.budget.overdrawn.fetch_sub(back, Ordering::Relaxed);
        }
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

    /// Two clients: one holds nearly all, the other one comes.
    fn pressed(limit: usize) -> (Arc<HeldBytes>, Vec<(Arc<Holder>, Lease)>) {
        let budget = HeldBytes::new(limit);
        let held = (0..limit / 50_000)
            .map(|_| {
                let holder = budget.enter();
                holder.is_for([127, 0, 0, 1].into(), None);
                let lease = Lease::of(&holder, Kind::Body, 50_000);
                (holder, lease)
            })
            .collect();
        (budget, held)
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_little_is_admitted_at_once_and_who_holds_much_waits() {
        let limit = 10_000_000;
        let (budget, held) = pressed(limit);
        let over = Lease::of(&held[0].0, Kind::Socket, limit / 2);
        assert!(budget.is_short() && budget.sum() > limit * 5 / 4, "{budget:?}");
        let (new, more) = (budget.enter(), budget.enter());
        tokio::time::advance(Duration::from_millis(SEARCH_PAUSE)).await;
        new.is_for([127, 0, 0, 2].into(), None);
        more.is_for([127, 0, 0, 1].into(), None);
        assert!(!new.is_heavy() && more.is_heavy());
        let begun = Instant::now();
        assert_eq!(new.admitted(Duration::from_secs(3)).await, Ok(()));
        let mut lease = Lease::new(&new, Kind::Hello);
        assert!(lease.try_grow(SMALL));
        // No more than what is set aside.
        let many: Vec<Lease> = std::iter::repeat_with(|| Lease::new(&budget.enter(), Kind::Hello))
            .map_while(|mut lease| lease.try_grow(SMALL).then_some(lease))
            .take(limit / SMALL)
            .collect();
        assert_eq!(many.len() + 1, limit / 16 / SMALL);
        drop((many, over));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(more.admitted(Duration::from_millis(100)).await, Err(NoRoom));
        // Its own connections end for it.
        let mut ending = tokio::task::JoinSet::new();
        for (holder, lease) in held {
            ending.spawn(async move {
                holder.given_up().await;
                drop(lease);
            });
        }
        assert_eq!(more.admitted(Duration::from_secs(3)).await, Ok(()));
        assert!(budget.ended() < 200, "{budget:?}");
        ending.shutdown().await;
        assert_eq!(budget.overdrawn.load(Ordering::Relaxed), SMALL);
        drop(lease);
        assert_eq!((budget.sum(), budget.overdrawn.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_process_needs_beside_it_is_taken_from_the_limit() {
        let limit = 10_000_000;
        let (budget, held) = pressed(limit * 3 / 4);
        budget.set_limit(limit);
        assert!(!budget.is_short());
        budget.fits(limit * 2);
        assert_eq!((budget.in_force(), budget.ended()), (limit, 0));
        tokio::time::advance(STALLED).await;
        budget.fits(limit / 2);
        assert_eq!((budget.in_force(), budget.limit()), (limit / 2, limit));
        let left = held.iter().filter(|(holder, _)| holder.cancel().ending().is_none()).count();
        assert!(left * 50_000 <= limit * 3 / 8 && budget.ended() > 0, "{left}");
        budget.fits(0);
        assert_eq!(budget.in_force(), limit / 4, "it never goes to nothing");
        budget.fits(limit);
        assert_eq!(budget.in_force(), limit);
    }
}
