//! What one tunnel or request may still send: `upload_limit` for itself, and `upload_budget` for a client and a rule over a
//! sliding window.
//!
//! A budget has an [`Account`], which several tunnels share. A tunnel that is about to send takes bytes from the account
//! first and puts back those that did not move, so that all tunnels of an account together never send more than the budget
//! within any window. A tunnel that wants more than is left is cut. Not here: what an account counts
//! ([`crate::transport::account`]), which client and rule have which account, and when bytes move
//! ([`crate::transport::relay`]).

use std::sync::Arc;
use std::time::Duration;

use crate::transport::account::Account;
use crate::words::outcome::Reason;

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
        let share = Box::new(Share { account, budget, window });
        match share.refuses(1) {
            Some(reason) => Err(reason),
            None => Ok(Allowance { limit, share: Some(share) }),
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

    /// Takes up to `want` bytes. The result is how many were granted.
    pub fn take(&mut self, want: usize) -> usize {
        let mut granted = want as u64;
        if let Some(limit) = self.limit {
            granted = granted.min(limit);
        }
        if let Some(share) = &self.share {
            granted = share.account.take(granted, share.budget, share.window);
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
            share.account.put_back(unused as u64);
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
}

impl Share {
    fn refuses(&self, bytes: u64) -> Option<Reason> {
        let left = self.account.left(self.budget, self.window);
        match () {
            () if left.bytes >= bytes => None,
            () if left.unmerged >= bytes => Some(Reason::BudgetTableFull),
            () => Some(Reason::UploadBudget),
        }
    }
}
