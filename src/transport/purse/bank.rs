//! What all purses of this replica have in common: the queue to the store's client, what holds while the store does not answer,
//! and where each purse is found when the store has to be told everything again. Not here: the client
//! (`state/budgets/shared`), which reads the queue.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::transport::purse::ledger::Ask;

/// What becomes of uploads with a budget while the store does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// They are refused once the lease is used up.
    Deny,
    /// Each replica goes on with its share.
    Local,
}

/// What holds while the store does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WithoutStore {
    /// Whether uploads go on.
    pub on_failure: OnFailure,
    /// Among how many a budget is then divided; at least 1.
    pub replicas: u32,
}

/// What is for the store's client to do.
#[derive(Debug)]
pub enum Errand<P> {
    /// A purse has a question. It is in the queue at most once.
    Ask(Arc<P>),
    /// A purse is gone: its account, its holder, and what is to be told at last.
    Close {
        /// The account's name in the store.
        account: Box<str>,
        /// Its holder.
        holder: u64,
        /// The last message.
        last: Ask,
    },
}

/// The common part of all purses `P`.
pub struct Bank<P> {
    begun: Instant,
    next: AtomicU64,
    errands: UnboundedSender<Errand<P>>,
    purses: Mutex<HashMap<u64, Weak<P>>>,
    terms: Mutex<WithoutStore>,
}

impl<P> Bank<P> {
    /// A bank whose holders count up from `first`, a random number; and its queue.
    pub fn new(first: u64, terms: WithoutStore) -> (Arc<Self>, UnboundedReceiver<Errand<P>>) {
        // Each purse is in it at most once, and there are no more purses than accounts and tunnels.
        let (errands, queue) = unbounded_channel();
        let bank = Bank {
            begun: Instant::now(),
            next: AtomicU64::new(first),
            errands,
            purses: Mutex::default(),
            terms: Mutex::new(terms),
        };
        (Arc::new(bank), queue)
    }

    /// Milliseconds of our own clock, which nobody can set.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// What holds while the store does not answer.
    pub fn terms(&self) -> WithoutStore {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows an edit of the configuration.
    pub fn follow(&self, terms: WithoutStore) {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// All purses there are.
    pub fn purses(&self) -> Vec<Arc<P>> {
        self.registry().values().filter_map(Weak::upgrade).collect()
    }

    /// Whether there is a purse.
    pub fn is_used(&self) -> bool {
        !self.registry().is_empty()
    }

    /// A number that no other holder has.
    pub(super) fn holder(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn opened(&self, holder: u64, purse: &Arc<P>) {
        self.registry().insert(holder, Arc::downgrade(purse));
    }

    pub(super) fn closed(&self, holder: u64, account: Box<str>, last: Option<Ask>) {
        self.registry().remove(&holder);
        if let Some(last) = last {
            self.errand(Errand::Close { account, holder, last });
        }
    }

    /// Puts a purse into the queue.
    pub(super) fn queue(&self, purse: Arc<P>) {
        self.errand(Errand::Ask(purse));
    }

    fn errand(&self, errand: Errand<P>) {
        // It fails only after the client has ended, with the program.
        let _ = self.errands.send(errand);
    }

    fn registry(&self) -> MutexGuard<'_, HashMap<u64, Weak<P>>> {
        // Nothing panics under the lock.
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> fmt::Debug for Bank<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bank").finish_non_exhaustive()
    }
}
