//! What one tunnel or request may still send: `upload_limit` for itself, and `upload_budget` for a client and a rule over a
//! sliding window.
//!
//! A budget has an [`Account`], which several tunnels share. A tunnel that is about to send takes bytes from the account
//! first and puts back those that did not move, so that all tunnels of an account together never send more than the budget
//! within any window. A tunnel that wants more than is left is cut. Sent bytes stop counting in steps of a sixtieth of the
//! window: at the earliest when the window is over, at the latest one step later. Not here: which client and rule have which
//! account, and when bytes move ([`crate::transport::relay`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::words::outcome::Reason;

/// The number of steps in which a window is counted.
const STEPS: u32 = 60;

/// What one tunnel or request may still send. Bytes are taken from it before they are read from the client, so that what
/// was read may always be sent. The default is no bound.
#[derive(Default, Debug)]
pub struct Allowance {
    limit: Option<u64>,
    /// Boxed: most tunnels have none, and ten thousand tunnels may wait at a time.
    share: Option<Box<Share>>,
}

impl Allowance {
    /// Bounded only by `upload_limit`; `None`: not at all.
    pub fn limited(limit: Option<u64>) -> Self {
        Allowance { limit, share: None }
    }

    /// Bounded by `limit`, and by what is left of `budget` bytes on an account. `None`: nothing is left.
    pub fn on(account: Arc<Account>, budget: u64, limit: Option<u64>) -> Option<Self> {
        let share = Box::new(Share { account, budget });
        (share.left() > 0).then_some(Allowance { limit, share: Some(share) })
    }

    /// Bytes that may still be sent; `None`: no bound. Other tunnels of the account may take some of them.
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

    /// Takes up to `want` bytes. The result is how many were granted.
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

    /// Why this many more bytes are not granted; `None` where they are.
    pub fn refuses(&self, bytes: u64) -> Option<Reason> {
        if self.limit.is_some_and(|limit| limit < bytes) {
            return Some(Reason::UploadLimit);
        }
        let share = self.share.as_ref()?;
        (share.left() < bytes).then_some(Reason::UploadBudget)
    }
}

/// The part of one tunnel or request in an account. The budget is the one that was in force when it began.
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

/// What was sent of one budget within its window.
#[derive(Debug)]
pub struct Account {
    epoch: Instant,
    spent: Mutex<Spent>,
}

#[derive(Default, Debug)]
struct Spent {
    /// As it was last set.
    window: Duration,
    /// In order of time. At most one begins in a step, so there are at most 61, or twice that after a change of the window.
    steps: VecDeque<Step>,
    /// The sum over all steps.
    bytes: u64,
}

#[derive(Debug)]
struct Step {
    /// Milliseconds since the epoch.
    begin: u64,
    bytes: u64,
}

impl Account {
    /// An account from which nothing was sent. `epoch`: the time from which it counts.
    pub fn new(epoch: Instant) -> Self {
        Account { epoch, spent: Mutex::default() }
    }

    /// Sets for how long sent bytes count from now on.
    pub fn count_over(&self, window: Duration) {
        self.spent().window = window;
    }

    /// Whether nothing that was sent counts any more.
    pub fn is_empty(&self) -> bool {
        self.spent().after(self.now()).bytes == 0
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        // Plain numbers: a panic elsewhere does not make them wrong.
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
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
            // Two threads may read the clock in one order and get here in the other.
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_account_stays_small_however_often_it_is_used() {
        const BUDGET: u64 = 100 << 30;
        let windows = [Duration::from_secs(60), Duration::from_secs(31 * 24 * 3600)];
        let account = Arc::new(Account::new(Instant::now()));
        for round in 0..10_000 {
            account.count_over(windows[round % 2]);
            let mut allowance = Allowance::on(Arc::clone(&account), BUDGET, None).unwrap();
            assert_eq!(allowance.take(5), 5);
            advance(Duration::from_millis(777)).await;
        }
        let steps = account.spent().steps.len();
        assert!(steps <= 2 * (STEPS as usize + 1), "{steps} steps");
    }
}
