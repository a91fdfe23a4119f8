//! The purse of an account: what this replica has leased of an upload budget that all replicas share.
//!
//! Tunnels take bytes from the lease. Where it is used up, the purse asks for the next ([`bank`]), and its tunnels wait for the
//! answer. What a lease has left is used until its step is over, whatever becomes of the store meanwhile. Not here: what is leased and
//! what is told of it ([`ledger`]), how the store is asked (`state/budgets/shared`), and what one tunnel may send
//! ([`crate::transport::allowance`]).

pub mod bank;
pub mod ledger;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::transport::purse::bank::{Bank, OnFailure};
use crate::transport::purse::ledger::{Answer, Ask, Clock, Ledger, Taken, Terms};
use crate::words::outcome::Reason;

/// How long an answer holds that there is nothing left, and that the store cannot be asked: a client that tries again and again causes no more
/// questions than that.
const HOLDS: u64 = 1000;
/// Leases that were over when they came, one after the other, after which the store counts as too slow.
const IN_VAIN: u32 = 3;
/// The smallest and the largest block that a purse begins with.
const FIRST: (u64, u64) = (4 << 10, 1 << 20);
/// The largest that it grows to.
const LARGEST: u64 = 16 << 20;
/// A block after which the next one is asked for so soon, in milliseconds, was too small. How long the answer takes does not count: with a slow
/// store blocks have to be larger, not smaller.
const TOO_SOON: u64 = 500;

/// What this replica has leased of one budget.
pub struct Purse {
    /// The account's name in the store.
    pub account: Box<str>,
    /// Who it is for the store: no other purse, of any replica at any time, has this number.
    pub holder: u64,
    bank: Arc<Bank<Purse>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    terms: Terms,
    asks: Asks,
    /// The next block.
    block: u64,
    /// When the last one came.
    leased: u64,
    /// Most that anything waits for, beyond what is there.
    wanted: u64,
    waiting: Vec<Waker>,
    /// What the store had left, and when it said so.
    rest: Option<(u64, u64)>,
    /// Until when the last answer holds that there is nothing.
    empty: u64,
    /// The same where there was no answer.
    failed: u64,
    in_vain: u32,
    /// When a tunnel last took from it.
    used: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asks {
    No,
    /// It is in the bank's queue.
    Queued,
    /// By the message of this number, sent at this time.
    Sent(u64, u64),
}

/// What a purse says to a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gives {
    Bytes(Taken),
    Nothing(Reason),
    /// The store is asked.
    Later,
}

impl Purse {
    /// One without a lease. `account`: its name in the store.
    pub fn new(account: Box<str>, terms: Terms, bank: &Arc<Bank<Purse>>) -> Arc<Self> {
        let state = State {
            ledger: Ledger::default(),
            terms,
            asks: Asks::No,
            block: first_block(terms.budget),
            leased: 0,
            wanted: 0,
            waiting: Vec::new(),
            rest: None,
            empty: 0,
            failed: 0,
            in_vain: 0,
            used: 0,
        };
        let (holder, bank) = (bank.holder(), Arc::clone(bank));
        let purse = Arc::new(Purse { account, holder, bank, state: Mutex::new(state) });
        purse.bank.opened(purse.holder, &purse);
        purse
    }

    /// Follows an edit of the budget.
    pub fn follow(&self, terms: Terms) {
        let mut state = self.lock();
        if state.terms != terms {
            state.terms = terms;
            state.block = first_block(terms.budget);
            (state.empty, state.rest) = (0, None);
        }
    }

    /// Takes up to `want` bytes of what is there.
    pub fn take(self: &Arc<Self>, want: u64) -> Option<Taken> {
        match self.gives(&mut self.lock(), (1, want)) {
            Gives::Bytes(taken) => Some(taken),
            Gives::Nothing(_) | Gives::Later => None,
        }
    }

    /// Takes from `least` to `most` bytes. Waits while the store is asked.
    ///
    /// # Errors
    /// There are not so many: why.
    pub fn poll_take(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        (least, most): (u64, u64),
    ) -> Poll<Result<Taken, Reason>> {
        let mut state = self.lock();
        match self.gives(&mut state, (least, most)) {
            Gives::Bytes(taken) => Poll::Ready(Ok(taken)),
            Gives::Nothing(reason) => Poll::Ready(Err(reason)),
            Gives::Later => {
                state.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Waits until it is known whether there are `bytes` more.
    pub async fn learn(self: &Arc<Self>, bytes: u64) {
        let begun = self.bank.now();
        poll_fn(|cx| {
            let (mut state, now) = (self.lock(), self.bank.now());
            state.ledger.lapse(now);
            let known = state.ledger.left().saturating_add(state.rest.map_or(0, |(rest, _)| rest));
            let is_fresh = state.rest.is_some_and(|(_, at)| at.saturating_add(HOLDS) >= begun);
            if known >= bytes || is_fresh || state.failed > now {
                return Poll::Ready(());
            }
            self.ask(&mut state);
            state.wait(cx);
            Poll::Pending
        })
        .await;
    }

    /// Bytes that may still be sent, as far as is known: other replicas may take some of them.
    pub fn left(&self) -> u64 {
        let (mut state, now) = (self.lock(), self.bank.now());
        state.ledger.lapse(now);
        let rest = match state.failed > now && self.bank.terms().on_failure == OnFailure::Local {
            true => {
                let (share, terms) = (state.share(&self.bank, now), state.terms);
                state.ledger.left_alone(share, terms, now)
            }
            false => state.rest.map_or(0, |(rest, _)| rest),
        };
        state.ledger.left().saturating_add(rest)
    }

    /// Why there is nothing.
    pub fn refusal(&self) -> Reason {
        let now = self.bank.now();
        let state = self.lock();
        match state.failed > now && self.bank.terms().on_failure == OnFailure::Deny {
            true => Reason::SharedStateUnavailable,
            false => Reason::UploadBudget,
        }
    }

    /// Whether what was taken may still be used.
    pub fn holds(&self, taken: &Taken) -> bool {
        taken.holds(self.bank.now())
    }

    /// Undoes a `take`, or a part of it.
    pub fn put_back(&self, taken: Taken, unused: u64) {
        self.lock().ledger.put_back(taken, unused);
    }

    fn gives(self: &Arc<Self>, state: &mut State, (least, most): (u64, u64)) -> Gives {
        let now = self.bank.now();
        state.ledger.lapse(now);
        let left = state.ledger.left();
        if left >= least {
            state.used = now;
            let taken = state.ledger.take(most);
            if state.ledger.left() < state.block / 4 && state.empty <= now && state.failed <= now {
                self.ask(state);
            }
            return Gives::Bytes(taken);
        }
        if state.failed > now {
            if self.bank.terms().on_failure == OnFailure::Deny {
                return Gives::Nothing(Reason::SharedStateUnavailable);
            }
            let share = state.share(&self.bank, now);
            return match state.ledger.take_alone((least, most), share, state.terms, now) {
                Some(taken) => Gives::Bytes(taken),
                None => Gives::Nothing(Reason::UploadBudget),
            };
        }
        if state.empty > now {
            return Gives::Nothing(Reason::UploadBudget);
        }
        state.wanted = state.wanted.max(least - left);
        self.ask(state);
        Gives::Later
    }

    fn ask(self: &Arc<Self>, state: &mut State) {
        if state.asks == Asks::No {
            state.asks = Asks::Queued;
            self.bank.queue(Arc::clone(self));
        }
    }

    /// The message with which the bank asks for this purse. `give_back`: of what it has it keeps nothing.
    /// `clock`: the store's, as far as it is known.
    pub fn message(&self, give_back: bool, clock: Option<Clock>) -> Ask {
        let (mut state, now) = (self.lock(), self.bank.now());
        let terms = state.terms;
        state.ledger.lapse(now);
        if let Some(clock) = clock {
            state.ledger.settle_alone(clock, terms);
        }
        if give_back {
            state.ledger.drop_lease();
            state.block = first_block(state.terms.budget);
        }
        let (left, block) = (state.ledger.left(), state.block);
        let want = match give_back {
            true => 0,
            // As much as waits, and the next block where the last one is nearly used up.
            false if left < block / 4 || state.wanted > 0 => state.wanted.max(block),
            false => 0,
        };
        let ask = state.ledger.ask(terms, want);
        state.asks = Asks::Sent(ask.number, now);
        ask
    }

    /// What the store answered to the message of this number. Whether more is to be told.
    pub fn answered(&self, number: u64, answer: Answer) {
        let (mut state, now) = (self.lock(), self.bank.now());
        let Asks::Sent(sent, at) = state.asks else { return };
        if sent != number {
            return;
        }
        state.asks = Asks::No;
        state.ledger.answered(answer, at);
        state.ledger.lapse(now);
        state.rest = Some((answer.rest, now));
        state.failed = 0;
        if answer.granted > 0 {
            if at.saturating_sub(state.leased) < TOO_SOON {
                state.block = (state.block * 2).min(largest_block(state.terms.budget));
            }
            state.leased = now;
            let is_over = state.ledger.left() == 0;
            state.in_vain = if is_over { state.in_vain + 1 } else { 0 };
            if state.in_vain >= IN_VAIN {
                state.in_vain = 0;
                state.failed = now + HOLDS;
            }
        }
        if answer.rest == 0 {
            state.empty = now + HOLDS;
        }
        state.wanted = 0;
        state.wake();
    }

    /// There is no answer to the message, or none to a question that was not sent.
    pub fn failed(&self) {
        let (mut state, now) = (self.lock(), self.bank.now());
        state.unanswered();
        state.failed = now + HOLDS;
        state.wanted = 0;
        state.wake();
    }

    /// The message may be lost: it is asked again, by [`message`](Self::message).
    pub fn again(&self) {
        let mut state = self.lock();
        state.unanswered();
        state.asks = Asks::Queued;
    }

    /// Its lease is of an epoch that is over, and of no use any more. Whether the store has to hear of it although nothing asks; then it counts
    /// as queued.
    pub fn epoch_ended(&self, clock: Clock) -> bool {
        let (mut state, now) = (self.lock(), self.bank.now());
        let terms = state.terms;
        state.ledger.lapse(now);
        state.ledger.epoch_ended(clock, terms);
        state.rest = None;
        let is_due = state.asks == Asks::No && state.ledger.untold();
        if is_due {
            state.asks = Asks::Queued;
        }
        is_due
    }

    /// Whether the store has to hear of it although no tunnel asks: a lease is over or no longer used, or something was sent without it. Then
    /// it counts as queued.
    pub fn falls_due(&self, idle: Duration, clock: Option<Clock>) -> bool {
        let (mut state, now) = (self.lock(), self.bank.now());
        if state.asks != Asks::No {
            return false;
        }
        let terms = state.terms;
        state.ledger.lapse(now);
        if let Some(clock) = clock {
            state.ledger.settle_alone(clock, terms);
        }
        state.ledger.prune(now, terms);
        let is_due = state.ledger.untold() || (state.ledger.left() > 0 && state.is_idle(idle, now));
        if is_due {
            state.asks = Asks::Queued;
        }
        is_due
    }

    /// Whether no tunnel has taken anything for so long.
    pub fn is_idle(&self, idle: Duration) -> bool {
        self.lock().is_idle(idle, self.bank.now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain numbers: a panic elsewhere does not make them wrong.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }

    fn wake(&mut self) {
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }

    fn unanswered(&mut self) {
        if let Asks::Sent(..) = self.asks {
            self.ledger.unanswered();
        }
        self.asks = Asks::No;
    }

    fn is_idle(&self, idle: Duration, now: u64) -> bool {
        u128::from(now.saturating_sub(self.used)) >= idle.as_millis()
    }

    /// What this replica may use by itself: its share, and as long as that counts its part of what was left at last.
    fn share(&self, bank: &Bank<Purse>, now: u64) -> u64 {
        let replicas = u64::from(bank.terms().replicas).max(1);
        let share = self.terms.budget / replicas;
        match self.rest {
            Some((rest, at)) if at.saturating_add(self.terms.longest()) > now => share.min(rest / replicas),
            _ => share,
        }
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        let now = self.bank.now();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.unanswered();
        state.ledger.lapse(now);
        state.ledger.drop_lease();
        let last = state.ledger.untold().then(|| state.ledger.ask(state.terms, 0));
        self.bank.closed(self.holder, std::mem::take(&mut self.account), last);
    }
}

impl fmt::Debug for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purse").field("account", &self.account).finish_non_exhaustive()
    }
}

fn first_block(budget: u64) -> u64 {
    (budget / 256).clamp(FIRST.0, FIRST.1)
}

fn largest_block(budget: u64) -> u64 {
    (budget / 64).clamp(FIRST.0, LARGEST)
}
