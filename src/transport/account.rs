//! What was sent of one `upload_budget` within its window: the account of a client and a rule.
//!
//! Several tunnels take bytes from one account. Sent bytes stop counting in steps of a sixtieth of the window: at the
//! earliest when the window is over, at the latest one step later. An account stays small: where it would have too many
//! steps, they are made coarser, and then bytes count for longer, never for less.
//!
//! Accounts of one client can be merged. What was sent by either then counts for both, so that each of them can send less
//! than its budget and none more. Not here: which client and rule have which account, and which are merged
//! (`state/budgets`); what one tunnel may send ([`crate::transport::allowance`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// The number of steps in which a window is counted.
const STEPS: u64 = 60;
/// Most steps of an account: twice what one window needs, because windows change and accounts are merged.
const MAX_STEPS: usize = 2 * (STEPS as usize + 1);

/// What was sent of one budget within its window.
#[derive(Debug)]
pub struct Account {
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spent: Spent,
    /// The account with which this one was merged: it counts for both from then on.
    merged_into: Option<Arc<Account>>,
    /// Whether others were merged into this one.
    holds_others: bool,
    /// An account with which an earlier one of this client and rule may have been merged: what was sent there counts
    /// here too. Once it is dropped, nothing counts there, and no tunnel can send from it.
    beside: Weak<Account>,
    /// What it began with, in place of an account of this client that may have been given up.
    assumed: Step,
}

/// The most that was sent from any of the accounts that were given up. Whose they were nobody knows any more, so each newcomer begins
/// with it: it may have sent as much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GivenUp {
    most: Step,
    kept_for: u64,
}

impl GivenUp {
    /// Whether anything of it counts at `now`, in milliseconds since the accounts' epoch.
    pub fn counts(&self, now: u64) -> bool {
        self.most.bytes > 0 && self.most.end.saturating_add(self.kept_for) > now
    }
}

/// What an account says of a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// Bytes that may still be sent.
    pub bytes: u64,
    /// The same if nothing was merged or given up.
    pub unmerged: u64,
}

impl Account {
    /// An account from which nothing was sent. `epoch`: the time from which it counts. `beside`: the account into which
    /// earlier ones of the same client were merged. Who made it drops it when nothing counts there and nobody uses it.
    pub fn new(epoch: Instant, beside: Option<&Arc<Account>>) -> Self {
        let beside = beside.map(Arc::downgrade).unwrap_or_default();
        Account { epoch, state: Mutex::new(State { beside, ..State::default() }) }
    }

    /// An account that begins with what was given up.
    pub fn after(epoch: Instant, beside: Option<&Arc<Account>>, given_up: GivenUp) -> Self {
        let account = Account::new(epoch, beside);
        if given_up.counts(account.now()) {
            let mut state = account.lock();
            state.assumed = given_up.most;
            state.spent = Spent { kept_for: given_up.kept_for, steps: VecDeque::from([given_up.most]) };
        }
        account
    }

    /// What was sent from it, whatever window asks.
    pub fn sent(&self) -> u64 {
        let now = self.now();
        self.with(|spent, _| spent.within(spent.kept_for, now))
    }

    /// Counts this account, which nobody has any more, among those that were given up.
    pub fn give_up(&self, among: &mut GivenUp) {
        let now = self.now();
        if !among.counts(now) {
            *among = GivenUp::default();
        }
        self.with(|spent, _| {
            let bytes = spent.within(spent.kept_for, now);
            let Some(last) = spent.steps.back() else { return };
            among.most = Step { end: among.most.end.max(last.end), bytes: among.most.bytes.max(bytes) };
            among.kept_for = among.kept_for.max(spent.kept_for);
        });
    }

    /// Keeps what was sent for at least so long. `unused`: no tunnel has it, so nobody needs a longer time of before.
    pub fn keep_for(&self, window: Duration, unused: bool) {
        let now = self.now();
        self.with(|spent, _| {
            if unused && spent.counts_until().is_none_or(|until| until <= now) {
                spent.kept_for = 0;
            }
            spent.kept_for = spent.kept_for.max(millis(window));
        });
    }

    /// What is left of `budget` bytes in `window`.
    pub fn left(&self, budget: u64, window: Duration) -> Left {
        let now = self.now();
        self.with(|spent, other| left(spent, other, budget, millis(window), now))
    }

    /// Takes up to `want` bytes, as far as `budget` and `window` grant them.
    pub fn take(&self, want: u64, budget: u64, window: Duration) -> u64 {
        let (now, window) = (self.now(), millis(window));
        self.with(|spent, other| {
            let granted = want.min(left(spent, other, budget, window, now).bytes);
            if granted > 0 {
                spent.take(granted, window, now);
            }
            granted
        })
    }

    /// Undoes a `take` of just now.
    pub fn put_back(&self, unused: u64) {
        self.with(|spent, _| spent.put_back(unused));
    }

    /// Until when anything that was sent from it counts, in milliseconds since the epoch; `None`: nothing counts now.
    pub fn counts_until(&self) -> Option<u64> {
        let now = self.now();
        self.lock().spent.counts_until().filter(|until| *until > now)
    }

    /// From now on, what was sent from this account counts in `into`, and so does what its tunnels still send. `into` is
    /// never merged itself.
    pub fn merge_into(&self, into: &Arc<Account>) {
        let now = self.now();
        let mut state = self.lock();
        let spent = std::mem::take(&mut state.spent);
        let mut other = into.lock();
        other.spent.add(spent, now);
        other.holds_others = true;
        drop(other);
        state.beside = Weak::new();
        state.merged_into = Some(Arc::clone(into));
    }

    /// Milliseconds since the epoch.
    pub fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Calls `f` with what counts, and with the account that counts too.
    fn with<T>(&self, f: impl FnOnce(&mut Spent, Other) -> T) -> T {
        let mut state = self.lock();
        let State { spent, merged_into, holds_others, beside, assumed } = &mut *state;
        match merged_into {
            None if *holds_others => f(spent, Other::Merged),
            None => f(
                spent,
                beside.upgrade().map_or(Other::None(*assumed), |account| Other::Beside(account, *assumed)),
            ),
            Some(into) => {
                let into = Arc::clone(into);
                drop(state);
                f(&mut into.lock().spent, Other::Merged)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain numbers: a panic elsewhere does not make them wrong. An account's lock is taken before that of the one
        // it is merged into or stands beside, which has no such account itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts in addition to an account's own bytes.
enum Other {
    /// With what the account began with, which is among its own bytes.
    None(Step),
    Beside(Arc<Account>, Step),
    /// The bytes of several accounts are one sum already.
    Merged,
}

fn left(spent: &mut Spent, other: Other, budget: u64, window: u64, now: u64) -> Left {
    let own = spent.within(window, now);
    let all = match &other {
        Other::None(_) | Other::Merged => own,
        Other::Beside(account, _) => own.saturating_add(account.lock().spent.within(window, now)),
    };
    let unmerged = match other {
        Other::None(assumed) | Other::Beside(_, assumed) => {
            let assumed = if assumed.end.saturating_add(window) > now { assumed.bytes } else { 0 };
            budget.saturating_sub(own.saturating_sub(assumed))
        }
        // Nobody knows any more which bytes were whose.
        Other::Merged => budget,
    };
    Left { bytes: budget.saturating_sub(all), unmerged }
}

#[derive(Default, Debug)]
struct Spent {
    /// Milliseconds: the longest window that counts these bytes.
    kept_for: u64,
    /// By their ends; at most [`MAX_STEPS`].
    steps: VecDeque<Step>,
}

/// Bytes that were sent before `end`, in milliseconds since the epoch. They count as if they were sent then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Step {
    end: u64,
    bytes: u64,
}

impl Spent {
    /// The bytes that count for a window which ends now.
    fn within(&mut self, window: u64, now: u64) -> u64 {
        while self.steps.front().is_some_and(|oldest| oldest.end.saturating_add(self.kept_for) <= now) {
            self.steps.pop_front();
        }
        let newest = self.steps.iter().rev().take_while(|step| step.end.saturating_add(window) > now);
        newest.fold(0, |sum: u64, step| sum.saturating_add(step.bytes))
    }

    fn take(&mut self, bytes: u64, window: u64, now: u64) {
        let end = now.saturating_add((window / STEPS).max(1));
        // A step that has begun and ends in time. It may have begun for a longer window, which is why others can end later.
        let at = self.steps.partition_point(|step| step.end <= end);
        match at.checked_sub(1).and_then(|at| self.steps.get_mut(at)) {
            Some(step) if step.end > now => step.bytes = step.bytes.saturating_add(bytes),
            _ => {
                self.steps.insert(at, Step { end, bytes });
                self.stay_small(now);
            }
        }
    }

    /// Undoes a `take` of just now. Whose bytes these were does not matter: all that remain were sent before now, and the
    /// step that was taken from has not ended.
    fn put_back(&mut self, mut bytes: u64) {
        while bytes > 0
            && let Some(last) = self.steps.back_mut()
        {
            let undone = bytes.min(last.bytes);
            last.bytes -= undone;
            bytes -= undone;
            if last.bytes == 0 {
                self.steps.pop_back();
            }
        }
    }

    /// Until when any of it counts.
    fn counts_until(&self) -> Option<u64> {
        self.steps.back().map(|last| last.end.saturating_add(self.kept_for))
    }

    fn add(&mut self, other: Spent, now: u64) {
        self.kept_for = self.kept_for.max(other.kept_for);
        self.steps.extend(other.steps);
        self.steps.make_contiguous().sort_by_key(|step| step.end);
        self.stay_small(now);
    }

    /// Where there are too many steps, those that end in the same sixtieth of the longest window become one, which ends
    /// with it. Doing this again changes no end.
    fn stay_small(&mut self, now: u64) {
        if self.steps.len() <= MAX_STEPS {
            return;
        }
        let grid = (self.kept_for / STEPS).max(1);
        let mut coarse: VecDeque<Step> = VecDeque::with_capacity(MAX_STEPS);
        for Step { end, bytes } in std::mem::take(&mut self.steps) {
            if end.saturating_add(self.kept_for) <= now {
                continue;
            }
            let end = end.div_ceil(grid).saturating_mul(grid);
            match coarse.back_mut() {
                Some(last) if last.end == end => last.bytes = last.bytes.saturating_add(bytes),
                _ => coarse.push_back(Step { end, bytes }),
            }
        }
        self.steps = coarse;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const BUDGET: u64 = 100 << 30;
    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[tokio::test(start_paused = true)]
    async fn an_account_stays_small_however_often_it_is_used() {
        let windows = [Duration::from_secs(60), 31 * DAY];
        let account = Account::new(Instant::now(), None);
        for round in 0..10_000 {
            let window = windows[round % 2];
            account.keep_for(window, true);
            assert_eq!(account.take(5, BUDGET, window), 5);
            advance(Duration::from_millis(777)).await;
            let steps = account.lock().spent.steps.len();
            assert!(steps <= MAX_STEPS, "{steps} steps");
        }
        assert_eq!(account.left(BUDGET, 31 * DAY).bytes, BUDGET - 50_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_merged_counts_for_both_and_for_no_longer_than_a_step_more() {
        let epoch = Instant::now();
        let rest = Arc::new(Account::new(epoch, None));
        for round in 0..1000 {
            let account = Account::new(epoch, Some(&rest));
            account.keep_for(DAY, true);
            assert_eq!(account.take(1, BUDGET, DAY), 1);
            account.merge_into(&rest);
            assert_eq!(account.left(BUDGET, DAY).bytes, BUDGET - round - 1);
            assert_eq!(account.take(1, 0, DAY), 0);
            advance(Duration::from_secs(60)).await;
        }
        let steps = rest.lock().spent.steps.len();
        assert!(steps <= MAX_STEPS, "{steps} steps");
        // The first was sent 1,000 minutes ago. A step is 24 minutes, and a coarse one ends at most one later.
        advance(DAY - Duration::from_secs(1000 * 60 + 1)).await;
        assert_eq!(rest.left(BUDGET, DAY).bytes, BUDGET - 1000, "not before the window is over");
        advance(2 * DAY / 60).await;
        assert!(rest.left(BUDGET, DAY).bytes > BUDGET - 1000);
        advance(Duration::from_secs(1000 * 60)).await;
        assert_eq!(rest.counts_until(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_merged_counts_beside_a_new_account_until_it_is_over() {
        let epoch = Instant::now();
        let rest = Arc::new(Account::new(epoch, None));
        let before = Account::new(epoch, None);
        before.keep_for(DAY, true);
        assert_eq!(before.take(60, 100, DAY), 60);
        before.merge_into(&rest);
        let account = Account::new(epoch, Some(&rest));
        account.keep_for(DAY, true);
        assert_eq!(account.left(100, DAY), Left { bytes: 40, unmerged: 100 });
        assert_eq!(account.take(100, 100, DAY), 40);
        assert_eq!(account.left(100, DAY), Left { bytes: 0, unmerged: 60 });
        assert_eq!(rest.left(100, DAY).bytes, 40, "what is sent from the new one is its own");
        account.put_back(40);
        advance(DAY + DAY / 60).await;
        assert_eq!(account.left(100, DAY), Left { bytes: 100, unmerged: 100 });
        assert_eq!(account.counts_until(), None);
    }
}
