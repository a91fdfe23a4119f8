//! The table of accounts: one for each client address and rule (the policy's name and the rule's text) with an
//! `upload_budget`, in this replica alone.
//!
//! An [`Account`] outlives tunnels and reloads: what was sent before an edit still counts after it. The table is
//! bounded, and so is every account in it. If there is no place for a client, it is refused, because what cannot be
//! counted cannot be limited. Not here: what an account contains, and how a tunnel uses it
//! ([`crate::transport::allowance`]).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rules::{Permit, UploadBudget};
use crate::transport::allowance::{Account, Allowance};
use crate::words::outcome::Reason;

/// The table is split so that workers rarely wait for the same lock.
const SHARDS: usize = 16;
/// Most accounts. One has some 300 bytes, and 1 KiB more if its client sent in every step of the window.
const MAX_ACCOUNTS: usize = 65_536;
/// When a shard has grown to this many accounts, and at each doubling, empty ones are removed.
const FIRST_SWEEP: usize = 64;
/// A full shard is swept at most this often: under a flood of clients the sweep must not become the main work.
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

    /// What `client` may send under `permit`, in one tunnel or request.
    ///
    /// # Errors
    /// [`Reason::UploadBudget`] if nothing is left; [`Reason::LocalResources`] if the table is full.
    pub fn open(&self, client: IpAddr, permit: &Permit) -> Result<Allowance, Reason> {
        let Some(UploadBudget { bytes, window }) = permit.upload_budget else {
            return Ok(Allowance::limited(permit.upload_limit));
        };
        let account = self.account(client, permit)?;
        account.count_over(window);
        Allowance::on(account, bytes, permit.upload_limit).ok_or(Reason::UploadBudget)
    }

    fn account(&self, client: IpAddr, permit: &Permit) -> Result<Arc<Account>, Reason> {
        // In report mode the rule of a permit may be the `deny` rule that enforce mode applies: one account for
        // everything it would have denied.
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
        let account = Arc::new(Account::new(self.epoch));
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
    /// Forgets accounts that are unused and empty, if it is time to look.
    fn sweep(&mut self, now: Duration, cap: usize) {
        let is_time = self.accounts.len() >= self.sweep_at.max(FIRST_SWEEP.min(cap));
        let rested = self.accounts.len() < cap || now.saturating_sub(self.swept) >= SWEEP_PAUSE;
        if !is_time || !rested {
            return;
        }
        self.accounts.retain(|_, account| {
            // Nothing else can get a reference to it while the shard is locked.
            Arc::strong_count(account) > 1 || !account.is_empty()
        });
        self.swept = now;
        self.sweep_at = (self.accounts.len() * 2).min(cap);
        self.accounts.shrink_to(self.sweep_at);
    }
}

/// Plain numbers: a panic elsewhere leaves them correct.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
