//! The budget, its holders and their leases.

mod drawn;
mod pace;
mod reserve;
mod search;
mod turns;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::transport::cancel::Cancel;
use crate::transport::held::budget::drawn::Drawn;
use crate::transport::held::budget::pace::Pace;
use crate::transport::held::choose::{Account, Accounts, FLOWS, Holding, Want};
use crate::transport::held::flows::Flows;
use crate::transport::held::kind::Kind;
use crate::transport::held::ledger::Ledger;
use crate::transport::held::seats::{Shard, lock};
use crate::transport::held::waiting::Waiting;
use crate::words::outcome::Ending;

const KINDS: usize = Kind::ALL.len();
/// A connection that holds no more than this may grow up to the limit, others only up to [`HeldBytes::HIGH`]: itself, a
/// head, a hello of a usual size, a connection to a target of plain requests.
pub const SMALL: usize = 60 * 1024;
/// Holders are in so many lists, so that workers rarely wait for the same lock.
const SHARDS: usize = 16;
/// A waiter looks again after this long, even if nobody gave anything back.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// No bytes are left, and none came back in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// The budget of the whole program.
pub struct HeldBytes {
    ledger: Ledger<KINDS>,
    /// `limits.memory`, or what stands for it. The ledger's is less if the process needs more than what is held.
    limit: AtomicUsize,
    /// What the process leaves of the memory that there is, when it was looked at last.
    spare: AtomicUsize,
    shards: [Mutex<Shard<Holder>>; SHARDS],
    next_shard: AtomicUsize,
    hasher: RandomState,
    epoch: Instant,
    /// Whose holders wait for bytes; each as often as it waits.
    waiting: Waiting,
    room: Notify,
    /// Memory has become short.
    short: Notify,
    /// Locked by the one that searches. When the last search was, in milliseconds since `epoch`.
    search: Mutex<Option<u64>>,
    pace: Pace,
    /// Who had how much when it was last searched.
    accounts: Mutex<Accounts>,
    ended: AtomicU64,
    /// Of what is set aside for clients that hold little.
    drawn: Mutex<Drawn>,
    pub(in crate::transport::held) flows: Flows,
}

impl HeldBytes {
    /// The part of what connections may hold from which nothing large grows, and connections are ended.
    pub const HIGH: (usize, usize) = (7, 8);
    /// The part down to which they are ended.
    pub const CALM: (usize, usize) = (3, 4);
    /// The part of the limit from which the kernel's buffers are looked at at once.
    pub const PRESSED: (usize, usize) = (1, 2);
    /// However much the process needs beside it, and is held by no connection, connections may hold so much of the limit.
    const LEAST: (usize, usize) = (1, 4);
    /// The part of the limit that is set aside, beyond it, for clients that hold little.
    const LIGHT: (usize, usize) = (1, 16);

    /// Nothing held, at most `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(HeldBytes {
            ledger: Ledger::new(limit),
            limit: AtomicUsize::new(limit),
            spare: AtomicUsize::new(usize::MAX),
            shards: std::array::from_fn(|_| Mutex::default()),
            next_shard: AtomicUsize::new(0),
            hasher: RandomState::new(),
            epoch: Instant::now(),
            waiting: Waiting::default(),
            room: Notify::new(),
            short: Notify::new(),
            search: Mutex::default(),
            pace: Pace::default(),
            accounts: Mutex::default(),
            ended: AtomicU64::new(0),
            drawn: Mutex::default(),
            flows: Flows::default(),
        })
    }

    /// Without a limit, as in tests and programs that serve nobody.
    pub fn unlimited() -> Arc<Self> {
        HeldBytes::new(usize::MAX)
    }

    /// Follows `limits.memory`. What is held stays held, and what the process needs beside it is still needed.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.bound();
    }

    fn bound(&self) {
        let (limit, room) = (self.limit(), self.spare.load(Ordering::Relaxed));
        self.ledger.set_limit(room.clamp(part(limit, Self::LEAST), limit));
    }

    /// The limit that is configured.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The limit in force: less, if the process needs memory that it has to take from what may be held.
    pub fn in_force(&self) -> usize {
        self.mark((1, 1))
    }

    /// What connections may hold of it.
    pub(super) fn for_connections(&self) -> usize {
        self.ledger.limit().saturating_sub(self.apart()).max(part(self.limit(), Self::LEAST))
    }

    /// What is held by none that could be ended for it.
    fn apart(&self) -> usize {
        Kind::APART.iter().map(|kind| self.of(*kind)).sum()
    }

    /// The sum of all that is held when connections hold this part of what they may.
    fn mark(&self, of: (usize, usize)) -> usize {
        self.apart().saturating_add(part(self.for_connections(), of))
    }

    /// No more than `room` bytes may be held, whatever the limit says, because the rest is in use: by a heap that keeps what was
    /// freed, by what the kernel took in and nobody has looked at yet. Connections end for it, as they do at the limit.
    pub fn fits(&self, room: usize) {
        self.spare.store(room, Ordering::Relaxed);
        self.bound();
        if self.is_short() {
            self.make_room();
            self.short.notify_one();
        }
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
            address: AtomicU64::new(0),
            flowed: AtomicU64::new(0),
            is_heavy: AtomicBool::new(false),
            has_turn: AtomicBool::new(false),
            cancel: Cancel::new(),
        })
    }

    /// Whether what is large may not grow.
    pub fn is_short(&self) -> bool {
        self.sum() >= self.mark(Self::HIGH)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wake(&self) {
        if !self.waiting.is_empty() {
            self.room.notify_one();
        }
    }

    /// Waits until `holder` may have `bytes` more, and makes room meanwhile.
    async fn room_for(&self, holder: &Holder, kind: Kind, bytes: usize) {
        let _waits =
            self.waiting.enter(Want { account: holder.account(), bytes, is_light: !holder.is_heavy() });
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
    /// The account of its client without an identity.
    address: AtomicU64,
    /// When it last flowed: as `moved`; 0 is never.
    flowed: AtomicU64,
    /// Its account has much of its share, or more, by the last search.
    is_heavy: AtomicBool,
    /// It has waited for its turn, and has not begun what it waited for.
    has_turn: AtomicBool,
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
        let hash = |identity: Option<&str>| self.budget.hasher.hash_one((client, identity));
        self.belongs_to(Account(hash(identity)));
        self.address.store(hash(None), Ordering::Relaxed);
        let is_short = self.budget.is_short();
        if is_short {
            self.budget.make_room();
        }
        if is_short || self.budget.is_ending() {
            let is_light = lock(&self.budget.accounts).is_light(self.account());
            self.is_heavy.store(!is_light, Ordering::Relaxed);
        }
    }

    /// Whether its client holds so much already that it must wait for its own connections at the limit, by the last search.
    pub fn is_heavy(&self) -> bool {
        self.is_heavy.load(Ordering::Relaxed)
    }

    /// For whom it holds, for what is shared out by client.
    pub fn shares_with(&self) -> u64 {
        self.account.load(Ordering::Relaxed)
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

    /// Whether a new request may begin at once: memory is not short, and it need not wait for its turn.
    pub fn may_begin(&self) -> bool {
        let is_short = self.budget.is_short();
        if (is_short || self.budget.is_ending()) && !self.is_heavy() {
            self.budget.pace.sees_another(self.budget.now());
        }
        !is_short && !self.takes_turns()
    }

    /// Whether a new request may begin. If memory is short, room is made for it first, and it waits for up to `patience`.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub async fn admitted(&self, patience: Duration) -> Result<(), NoRoom> {
        let until = Instant::now() + patience;
        if !self.has_turn.swap(false, Ordering::Relaxed)
            && let Some(due) = self.turn(patience)?
        {
            sleep_until(due).await;
            self.has_turn.store(false, Ordering::Relaxed);
        }
        if !self.budget.is_short() {
            return Ok(());
        }
        // Taken only to see that it can be: what it needs is leased where it is read.
        let wanted = SMALL.saturating_sub(self.bytes());
        timeout_at(until, self.budget.room_for(self, Kind::Head, wanted)).await.map_err(|_| NoRoom)?;
        self.put_back(Kind::Head, wanted);
        Ok(())
    }

    /// Waits until it may have `bytes` more, which it then has.
    pub(in crate::transport::held) async fn wait_for(&self, kind: Kind, bytes: usize) {
        self.budget.room_for(self, kind, bytes).await;
    }

    fn holding(&self, now: u64) -> Holding {
        Holding {
            account: self.account(),
            address: Account(self.address.load(Ordering::Relaxed)),
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

    pub(in crate::transport::held) fn take(&self, kind: Kind, bytes: usize) -> bool {
        let is_small = self.bytes().saturating_add(bytes) <= SMALL;
        let is_light = is_small && !self.is_heavy();
        let ceiling = if is_small { self.budget.in_force() } else { self.budget.mark(HeldBytes::HIGH) };
        let taken =
            self.budget.ledger.take(kind.place(), bytes, ceiling) || (is_light && self.overdraw(kind, bytes));
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    fn charge(&self, kind: Kind, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.budget.ledger.charge(kind.place(), bytes) >= self.budget.mark(HeldBytes::HIGH) {
            self.budget.make_room();
            self.budget.short.notify_one();
        }
    }

    fn put_back(&self, kind: Kind, bytes: usize) {
        self.repays(bytes);
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
mod tests;
