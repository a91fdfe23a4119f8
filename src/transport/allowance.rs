//! What one tunnel or request may still send: `upload_limit` for itself, and `upload_budget` for a client and a rule over a
//! sliding window.
//!
//! A budget has an [`Account`], which several tunnels share. A tunnel that is about to send takes bytes from the account
//! first and puts back those that did not move, so that all tunnels of an account together never send more than the budget
//! within any window. A tunnel that wants more than is left is cut. Where replicas share their budgets, an account has a
//! [`Purse`], too; then a tunnel may have to wait until the store was asked. Not here: what an account counts
//! ([`crate::transport::account`]), which client and rule have which account, and when bytes move
//! ([`crate::transport::relay`]).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::transport::account::Account;
use crate::transport::purse::Purse;
use crate::transport::purse::ledger::Taken;
use crate::words::outcome::{Ending, Reason};

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

    /// Bounded by `limit`, and by what is left on an account of `budget` bytes in `window`.
    ///
    /// # Errors
    /// Nothing is left: as [`refuses`](Self::refuses).
    pub fn on(
        account: Arc<Account>,
        budget: u64,
        window: Duration,
        limit: Option<u64>,
    ) -> Result<Self, Reason> {
        let share = Box::new(Share { account, budget, window, leased: None });
        match share.refuses(1) {
            Some(reason) => Err(reason),
            None => Ok(Allowance { limit, share: Some(share) }),
        }
    }

    /// The same, of a budget that replicas share: what is granted is leased by `purse`.
    pub fn leased(mut self, purse: Arc<Purse>) -> Self {
        if let Some(share) = &mut self.share {
            share.leased = Some(Leased { purse, kept: None, last: None, refused: None });
        }
        self
    }

    /// Waits until the next `bytes` are there for this tunnel alone, as far as they have to be leased.
    ///
    /// # Errors
    /// There are not so many: why. What there is can still be taken.
    pub async fn secure(&mut self, bytes: usize) -> Result<(), Reason> {
        let Some(leased) = self.share.as_mut().and_then(|share| share.leased.as_mut()) else { return Ok(()) };
        poll_fn(|cx| leased.poll_keep(cx, bytes as u64)).await
    }

    /// Waits until it is known whether there are `bytes` more, as far as they have to be leased.
    pub async fn learn(&self, bytes: u64) {
        if let Some(leased) = self.share.as_ref().and_then(|share| share.leased.as_ref())
            && leased.kept() < bytes
        {
            leased.purse.learn(bytes - leased.kept()).await;
        }
    }

    /// As [`take`](Self::take), but waits where bytes have to be leased first.
    pub fn poll_take(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<usize> {
        let may = self.limit.map_or(want as u64, |limit| limit.min(want as u64));
        if let Some(leased) = self.share.as_mut().and_then(|share| share.leased.as_mut())
            && may > 0
        {
            // Where nothing comes, `take` finds nothing.
            let _ = ready!(leased.poll_keep(cx, 1));
        }
        Poll::Ready(self.take(want))
    }

    /// How a tunnel ends that wants to send more than is granted.
    pub fn ending(&self) -> Ending {
        let leased = self.share.as_ref().and_then(|share| share.leased.as_ref());
        match leased.and_then(|leased| leased.refused) {
            Some(Reason::SharedStateUnavailable) if self.limit != Some(0) => Ending::SharedStateUnavailable,
            _ => Ending::UploadLimit,
        }
    }

    /// Bytes that may still be sent; `None`: no bound. Other tunnels of the account may take some of them.
    #[cfg(test)]
    pub(crate) fn left(&self) -> Option<u64> {
        let share = self.share.as_ref().map(|share| share.account.left(share.budget, share.window).bytes);
        match (self.limit, share) {
            (Some(limit), Some(share)) => Some(limit.min(share)),
            (limit, share) => limit.or(share),
        }
    }

    /// Whether other tunnels take from it too.
    pub fn is_shared(&self) -> bool {
        self.share.is_some()
    }

    /// Whether what it grants has to be leased.
    pub fn is_leased(&self) -> bool {
        self.share.as_ref().is_some_and(|share| share.leased.is_some())
    }

    /// Takes up to `want` bytes. The result is how many were granted.
    pub fn take(&mut self, want: usize) -> usize {
        let mut granted = want as u64;
        if let Some(limit) = self.limit {
            granted = granted.min(limit);
        }
        if let Some(share) = &mut self.share {
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
        if let Some(share) = &mut self.share {
            share.account.put_back(unused as u64);
            if let Some(leased) = &mut share.leased {
                leased.put_back(unused as u64);
            }
        }
    }

    /// Why this many more bytes are not granted; `None` where they are. [`Reason::BudgetTableFull`]: the budget would have
    /// granted them if the account had not been merged with others of the same client.
    pub fn refuses(&self, bytes: u64) -> Option<Reason> {
        if self.limit.is_some_and(|limit| limit < bytes) {
            return Some(Reason::UploadLimit);
        }
        self.share.as_ref()?.refuses(bytes)
    }
}

/// The part of one tunnel or request in an account. Budget and window are those that were in force when it began.
#[derive(Debug)]
struct Share {
    account: Arc<Account>,
    budget: u64,
    window: Duration,
    /// Where replicas share the budget.
    leased: Option<Leased>,
}

impl Share {
    fn take(&mut self, want: u64) -> u64 {
        let granted = self.account.take(want, self.budget, self.window);
        let Some(leased) = &mut self.leased else { return granted };
        let taken = leased.take(granted);
        self.account.put_back(granted - taken);
        taken
    }

    fn refuses(&self, bytes: u64) -> Option<Reason> {
        let left = self.account.left(self.budget, self.window);
        match () {
            () if left.bytes >= bytes => self.leased.as_ref()?.refuses(bytes),
            () if left.unmerged >= bytes => Some(Reason::BudgetTableFull),
            () => Some(Reason::UploadBudget),
        }
    }
}

/// What one tunnel has of a purse.
#[derive(Debug)]
struct Leased {
    purse: Arc<Purse>,
    /// Taken from the purse, for this tunnel alone.
    kept: Option<Taken>,
    /// From which lease it took last.
    last: Option<Taken>,
    /// Why it last got nothing.
    refused: Option<Reason>,
}

impl Leased {
    fn kept(&self) -> u64 {
        self.kept.filter(|kept| self.purse.holds(kept)).map_or(0, |kept| kept.bytes)
    }

    /// Keeps `bytes` for this tunnel.
    fn poll_keep(&mut self, cx: &mut Context<'_>, bytes: u64) -> Poll<Result<(), Reason>> {
        if self.kept() >= bytes {
            return Poll::Ready(Ok(()));
        }
        // One lease at a time: what is of another goes back.
        self.give_back();
        let taken = ready!(self.purse.poll_take(cx, (bytes, bytes)));
        self.refused = taken.err();
        self.kept = Some(taken?);
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, want: u64) -> u64 {
        let kept = self.kept();
        if kept == 0 {
            self.give_back();
            self.last = self.purse.take(want);
            return self.last.map_or(0, |last| last.bytes);
        }
        let mut taken = want.min(kept);
        if let Some(kept) = &mut self.kept {
            kept.bytes -= taken;
            self.last = Some(*kept);
        }
        // The rest from the same lease.
        if taken < want
            && let Some(more) = self.purse.take(want - taken)
        {
            match self.last.is_some_and(|last| last.is_like(&more)) {
                true => taken += more.bytes,
                false => self.purse.put_back(more, more.bytes),
            }
        }
        taken
    }

    /// Undoes a take of just now.
    fn put_back(&mut self, unused: u64) {
        if let Some(last) = self.last {
            self.purse.put_back(last, unused);
        }
    }

    fn give_back(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.purse.put_back(kept, kept.bytes);
        }
    }

    fn refuses(&self, bytes: u64) -> Option<Reason> {
        let left = self.purse.left().saturating_add(self.kept());
        (left < bytes).then(|| self.refused.unwrap_or_else(|| self.purse.refusal()))
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.give_back();
    }
}
