//! What may still be sent: `upload_limit` of one tunnel or request, and `upload_budget` of a client and a rule over a
//! sliding window.
//!
//! A budget has one [`Account`] for each client address and rule (the policy's name and the rule's text), in this replica
//! alone. It outlives tunnels and reloads: what was sent before an edit still counts after it. Whoever is about to
//! send takes from the account first and puts back what did not move, so that all tunnels of an account together
//! never send more than the budget within any window; a tunnel that wants more than is left is cut. Bytes leave the
//! account in steps of a sixtieth of the window: at the earliest when the window is over, at the latest one step later.
//!
//! The table is bounded, and so is every account in it. A client for whom there is no place is refused, because what
//! cannot be counted cannot be limited. Not here: when bytes move (`relay`, `forward`).

#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rules::{Permit, UploadBudget};
use crate::words::outcome::Reason;

/// A window is counted in so many steps.
const STEPS: u32 = 60;
/// The table is split so that workers rarely meet on one lock.
const SHARDS: usize = 16;
/// Accounts at most. One has some 300 bytes, and 1 KiB more where its client sent in every step of the window.
const MAX_ACCOUNTS: usize = 65_536;
/// A shard is swept for accounts that are empty again when it has grown to this many, and at each doubling.
const FIRST_SWEEP: usize = 64;
/// A full shard is swept at most so often: under a flood of clients the sweep must not become the work.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// All accounts.
pub struct Budgets {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Of one shard.
    cap: usize,
    epoch: Instant,
}

#[derive(Default)]
struct Shard {
    accounts: HashMap<Key, Arc<Account>>,
    sweep_at: usize,
    swept: Duration,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    client: IpAddr,
    policy: Arc<str>,
    rule: Box<str>,
}

/// What one client sent by one rule.
#[derive(Debug)]
struct Account {
    epoch: Instant,
    spent: Mutex<Spent>,
}

#[derive(Default, Debug)]
struct Spent {
    /// As the rule said at the latest opening.
    window: Duration,
    /// In the order of time. At most one begins in a step, so there are 61, or twice that after a change of the window.
    steps: VecDeque<Step>,
    /// Of all steps.
    bytes: u64,
}

#[derive(Debug)]
struct Step {
    /// Milliseconds since the epoch.
    begin: u64,
    bytes: u64,
}

impl Budgets {
    /// No accounts.
    pub fn new() -> Self {
        Budgets::with_capacity(MAX_ACCOUNTS)
    }

    fn with_capacity(accounts: usize) -> Self {
        Budgets {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            cap: accounts.div_ceil(SHARDS),
            epoch: Instant::now(),
        }
    }

    /// What `client` may send by `permit`, in one tunnel or request.
    ///
    /// # Errors
    /// [`Reason::UploadBudget`] where nothing is left; [`Reason::LocalResources`] where the table is full.
    pub fn open(&self, client: IpAddr, permit: &Permit) -> Result<Allowance, Reason> {
        let share = match permit.upload_budget {
            None => None,
            Some(UploadBudget { bytes, window }) => {
                let account = self.account(client, permit)?;
                account.spent().window = window;
                let share = Share { account, budget: bytes };
                if share.left() == 0 {
                    return Err(Reason::UploadBudget);
                }
                Some(Box::new(share))
            }
        };
        Ok(Allowance { limit: permit.upload_limit, share })
    }

    fn account(&self, client: IpAddr, permit: &Permit) -> Result<Arc<Account>, Reason> {
        // In report mode the rule that a permit names may be the `deny` rule that enforce mode goes by: one account for
        // what it would have denied.
        let rule = permit.rule.as_ref().map_or("", |rule| &rule.text);
        let key = Key { client, policy: Arc::clone(&permit.policy), rule: rule.into() };
        let shard = usize::try_from(self.hasher.hash_one(&key)).unwrap_or(usize::MAX) % SHARDS;
        let mut shard = lock(&self.shards[shard]);
        if let Some(account) = shard.accounts.get(&key) {
            return Ok(Arc::clone(account));
        }
        shard.sweep(self.epoch.elapsed(), self.cap);
        if shard.accounts.len() >= self.cap {
            return Err(Reason::LocalResources);
        }
        let account = Arc::new(Account { epoch: self.epoch, spent: Mutex::default() });
        shard.accounts.insert(key, Arc::clone(&account));
        Ok(account)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).accounts.len()).sum()
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Budgets::new()
    }
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").finish_non_exhaustive()
    }
}

impl Shard {
    /// Forgets the accounts that nobody draws on and that hold nothing any more, where it is time to look.
    fn sweep(&mut self, now: Duration, cap: usize) {
        let is_time = self.accounts.len() >= self.sweep_at.max(FIRST_SWEEP.min(cap));
        let rested = self.accounts.len() < cap || now.saturating_sub(self.swept) >= SWEEP_PAUSE;
        if !is_time || !rested {
            return;
        }
        self.accounts.retain(|_, account| {
            // Nobody can get another hand on it while the shard is locked.
            Arc::strong_count(account) > 1 || account.spent().after(account.now()).bytes > 0
        });
        self.swept = now;
        self.sweep_at = (self.accounts.len() * 2).min(cap);
        self.accounts.shrink_to(self.sweep_at);
    }
}

/// Plain numbers: a panic elsewhere leaves them as true as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Account {
    fn spent(&self) -> MutexGuard<'_, Spent> {
        lock(&self.spent)
    }

    /// Milliseconds since the epoch.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Spent {
    /// Without what has left the window by `now`.
    fn after(&mut self, now: u64) -> &mut Self {
        // The last byte of a step may have come at its end.
        let kept = millis(self.window).saturating_add(self.step());
        while let Some(oldest) = self.steps.front()
            && oldest.begin.saturating_add(kept) <= now
        {
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.steps.pop_front();
        }
        self
    }

    fn take(&mut self, bytes: u64, now: u64) {
        let step = self.step();
        self.bytes = self.bytes.saturating_add(bytes);
        match self.steps.back_mut() {
            // Two threads may read the clock in one order and come here in the other.
            Some(last) if now < last.begin.saturating_add(step) => {
                last.bytes = last.bytes.saturating_add(bytes)
            }
            _ => self.steps.push_back(Step { begin: now, bytes }),
        }
    }

    /// Undoes a `take` of just now.
    fn put_back(&mut self, mut bytes: u64) {
        while bytes > 0
            && let Some(last) = self.steps.back_mut()
        {
            let undone = bytes.min(last.bytes);
            last.bytes -= undone;
            self.bytes = self.bytes.saturating_sub(undone);
            bytes -= undone;
            if last.bytes == 0 {
                self.steps.pop_back();
            }
        }
    }

    fn step(&self) -> u64 {
        millis(self.window / STEPS).max(1)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One tunnel's or request's hand on an account. The budget is that of its opening.
#[derive(Debug)]
struct Share {
    account: Arc<Account>,
    budget: u64,
}

impl Share {
    fn left(&self) -> u64 {
        let now = self.account.now();
        self.budget.saturating_sub(self.account.spent().after(now).bytes)
    }

    fn take(&self, want: u64) -> u64 {
        let now = self.account.now();
        let mut spent = self.account.spent();
        let granted = want.min(self.budget.saturating_sub(spent.after(now).bytes));
        if granted > 0 {
            spent.take(granted, now);
        }
        granted
    }

    fn put_back(&self, unused: u64) {
        self.account.spent().put_back(unused);
    }
}

/// What one tunnel or request may still send. Taken from before bytes are read from the client, so that what was read
/// may always be sent. The default is no bound.
#[derive(Default, Debug)]
pub struct Allowance {
    limit: Option<u64>,
    /// Boxed: most tunnels have none, and ten thousand wait at a time.
    share: Option<Box<Share>>,
}

impl Allowance {
    /// Bounded by `upload_limit` alone.
    #[cfg(test)]
    pub(crate) fn limited(limit: Option<u64>) -> Self {
        Allowance { limit, share: None }
    }

    /// Bytes that may still be sent; `None`: no bound. Other tunnels of the account may take of them.
    #[cfg(test)]
    pub(crate) fn left(&self) -> Option<u64> {
        let share = self.share.as_ref().map(|share| share.left());
        match (self.limit, share) {
            (Some(limit), Some(share)) => Some(limit.min(share)),
            (limit, share) => limit.or(share),
        }
    }

    /// Whether other tunnels take from it too.
    pub fn is_shared(&self) -> bool {
        self.share.is_some()
    }

    /// Takes up to `want` bytes: how many were granted.
    pub fn take(&mut self, want: usize) -> usize {
        let mut granted = want as u64;
        if let Some(limit) = self.limit {
            granted = granted.min(limit);
        }
        if let Some(share) = &self.share {
            granted = share.take(granted);
        }
        if let Some(limit) = &mut self.limit {
            *limit -= granted;
        }
        // Never more than `want`, which is a usize.
        usize::try_from(granted).unwrap_or(want)
    }

    /// Puts back what was granted and not used.
    pub fn put_back(&mut self, unused: usize) {
        if unused == 0 {
            return;
        }
        if let Some(limit) = &mut self.limit {
            *limit = limit.saturating_add(unused as u64);
        }
        if let Some(share) = &self.share {
            share.put_back(unused as u64);
        }
    }

    /// Why so many bytes more are not granted; `None` where they are.
    pub fn refuses(&self, bytes: u64) -> Option<Reason> {
        if self.limit.is_some_and(|limit| limit < bytes) {
            return Some(Reason::UploadLimit);
        }
        let share = self.share.as_ref()?;
        (share.left() < bytes).then_some(Reason::UploadBudget)
    }
}
