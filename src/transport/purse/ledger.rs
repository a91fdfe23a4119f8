//! What a purse has leased and used, by the steps of the store's clock: numbers alone, without clock, lock or socket.
//!
//! A lease belongs to one step, a sixtieth of the window, and is over when that is. Of each step the store has one number for each
//! holder: what it leased, and once the step is over what it used. The holder always tells the whole number, never a difference, and
//! numbers its messages. So one that is lost, late or repeated changes nothing: the next one puts it right. After the epoch has
//! changed, the same message says all that was used within the window.
//!
//! A step is named by the store's clock, but when it was used is known by ours, which nobody can set. Where the store may have lost its
//! data, its clock may be another one, too: then each step gets the name that it has by that clock. So what is forgotten because it has
//! left the window is never a matter of two clocks of the store.

use std::collections::VecDeque;
use std::time::Duration;

/// The number of steps in which a window is counted.
pub const STEPS: u64 = 60;
/// Most steps that are remembered: a window has 61, and an edit of it may leave others.
const MAX_STEPS: usize = 4 * (STEPS as usize + 1);

/// The budget that a purse is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Bytes …
    pub budget: u64,
    /// … within so many milliseconds.
    pub window: u64,
}

impl Terms {
    /// The terms of a budget.
    pub fn new(budget: u64, window: Duration) -> Self {
        // Lua counts in doubles.
        let budget = budget.min(1 << 53);
        Terms { budget, window: u64::try_from(window.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 50) }
    }

    /// A sixtieth of the window.
    pub fn step(&self) -> u64 {
        self.window.div_ceil(STEPS)
    }

    /// The longest time for which a byte counts.
    pub fn longest(&self) -> u64 {
        self.window + self.step()
    }
}

/// The store's clock as it was when a message was sent, by ours. It was not later than that, so what is computed from it is never too early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// Milliseconds of the store's clock, …
    pub store: u64,
    /// … when ours was at least this.
    pub sent: u64,
}

impl Clock {
    /// The end of the store's step in which what was used until `over` by our clock counts long enough.
    fn ends(&self, over: u64, terms: Terms) -> u64 {
        self.at(over).div_ceil(terms.step()) * terms.step()
    }

    /// The store's time at `now` at the latest.
    pub fn at(&self, now: u64) -> u64 {
        match now.checked_sub(self.sent) {
            Some(since) => self.store.saturating_add(since),
            None => self.store.saturating_sub(self.sent - now),
        }
    }
}

/// A step of which the store is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its end, in milliseconds of the store's clock.
    pub ends: u64,
    /// What the holder has of it: all of its lease, or what it used.
    pub bytes: u64,
}

/// A message to the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Counts up.
    pub number: u64,
    /// Budget and window.
    pub terms: Terms,
    /// Bytes that it wants in addition to those that it claims.
    pub want: u64,
    /// What it has.
    pub claims: Vec<Claim>,
}

/// What the store answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its clock.
    pub now: u64,
    /// Bytes in addition to those that were claimed …
    pub granted: u64,
    /// … in the step that ends then.
    pub ends: u64,
    /// What is left of the budget.
    pub rest: u64,
}

/// Bytes that were taken, and from which step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// How many.
    pub bytes: u64,
    /// The number of the step.
    step: u64,
    /// When the lease is over, by our clock.
    until: u64,
}

impl Taken {
    /// Whether it may still be used.
    pub fn holds(&self, now: u64) -> bool {
        now < self.until
    }

    /// Whether `other` is from the same lease.
    pub fn is_like(&self, other: &Taken) -> bool {
        (self.step, self.until) == (other.step, other.until)
    }
}

#[derive(Clone, Copy, Debug)]
struct Step {
    /// By which what was taken finds it again, whatever its name is meanwhile.
    id: u64,
    /// Its end by the store's clock, which is its name there.
    ends: u64,
    /// By our clock: nothing was used of it later.
    over: u64,
    granted: u64,
    used: u64,
    /// What the store was last told, or `None` if it has to be told again.
    told: Option<u64>,
}

/// What was sent without the store, until `end` by our clock.
#[derive(Clone, Copy, Debug)]
struct Alone {
    id: u64,
    end: u64,
    bytes: u64,
}

/// What one holder has leased and used.
#[derive(Default, Debug)]
pub struct Ledger {
    number: u64,
    /// By their ends.
    steps: VecDeque<Step>,
    /// How many steps there were.
    ids: u64,
    /// The step of the lease, and until when that may be used by our clock.
    lease: Option<(u64, u64)>,
    alone: VecDeque<Alone>,
    /// What the last message told, and for which budget.
    sent: Vec<Claim>,
    asked: Option<Terms>,
    /// A message may have been lost on its way back: the store may have granted what nobody knows of.
    doubt: bool,
}

impl Ledger {
    /// What the lease has left. [`lapse`](Self::lapse) comes first.
    pub fn left(&self) -> u64 {
        self.lease_step().map_or(0, |step| step.granted - step.used)
    }

    /// Ends the lease if its step is over.
    pub fn lapse(&mut self, now: u64) {
        if self.lease.is_some_and(|(_, until)| until <= now) {
            self.drop_lease();
        }
    }

    /// Ends the lease: what is left of it may no longer be used.
    pub fn drop_lease(&mut self) {
        if let Some((id, _)) = self.lease.take()
            && let Some(step) = self.step(id)
        {
            step.granted = step.used;
        }
    }

    /// Takes up to `most` bytes of the lease.
    pub fn take(&mut self, most: u64) -> Taken {
        let (id, until) = self.lease.unwrap_or_default();
        let bytes = self.step(id).map_or(0, |step| {
            let bytes = most.min(step.granted - step.used);
            step.used += bytes;
            bytes
        });
        Taken { bytes, step: id, until }
    }

    /// Undoes a take. Where steps were put together, what was taken of the one that came later stays taken.
    pub fn put_back(&mut self, taken: Taken, unused: u64) {
        if let Some(alone) = self.alone.iter_mut().rev().find(|alone| alone.id == taken.step) {
            alone.bytes = alone.bytes.saturating_sub(unused);
            return;
        }
        let is_lease = self.lease.is_some_and(|(lease, _)| lease == taken.step);
        if let Some(step) = self.step(taken.step) {
            step.used = step.used.saturating_sub(unused);
            if !is_lease {
                step.granted = step.used;
            }
        }
    }

    /// Takes bytes without the store, where all that was so taken within the window stays under `share`.
    pub fn take_alone(
        &mut self,
        (least, most): (u64, u64),
        share: u64,
        terms: Terms,
        now: u64,
    ) -> Option<Taken> {
        let left = self.left_alone(share, terms, now);
        if left < least {
            return None;
        }
        let bytes = most.min(left);
        let (id, end) = match self.alone.back_mut() {
            Some(last) if last.end > now => {
                last.bytes += bytes;
                (last.id, last.end)
            }
            _ => {
                let (id, end) = (self.id(), now + terms.step());
                self.alone.push_back(Alone { id, end, bytes });
                (id, end)
            }
        };
        Some(Taken { bytes, step: id, until: end })
    }

    /// What may still be taken so.
    pub fn left_alone(&mut self, share: u64, terms: Terms, now: u64) -> u64 {
        while self.alone.front().is_some_and(|first| first.end.saturating_add(terms.window) <= now) {
            self.alone.pop_front();
        }
        share.saturating_sub(self.alone.iter().map(|alone| alone.bytes).sum())
    }

    /// What was sent without the store becomes a part of what it is told.
    pub fn settle_alone(&mut self, clock: Clock, terms: Terms) {
        for Alone { id, end, bytes } in std::mem::take(&mut self.alone) {
            let ends = clock.ends(end, terms);
            self.put(Step { id, ends, over: end, granted: bytes, used: bytes, told: None });
        }
    }

    /// The store may have lost everything, and the lease with it. Its clock may be another one.
    pub fn epoch_ended(&mut self, clock: Clock, terms: Terms) {
        self.drop_lease();
        let before = std::mem::take(&mut self.steps);
        // If it has lost nothing, it still has them by their old names.
        for step in before.iter().filter(|step| step.told != Some(0)) {
            self.put(Step { id: 0, granted: 0, used: 0, told: None, ..*step });
        }
        for step in before.iter().filter(|step| step.used > 0) {
            self.put(Step { ends: clock.ends(step.over, terms), told: None, ..*step });
        }
        self.settle_alone(clock, terms);
        self.trim();
    }

    /// Whether the store has to be told of a step that is over.
    pub fn untold(&self) -> bool {
        let lease = self.lease.map(|(id, _)| id);
        self.steps.iter().any(|step| Some(step.id) != lease && step.told != Some(step.used))
    }

    /// Forgets what no longer counts at `now` of our clock, and what the store knows to be nothing.
    pub fn prune(&mut self, now: u64, terms: Terms) {
        // The newest is told in any case.
        let newest = self.steps.back().map(|step| step.ends);
        self.steps.retain(|step| {
            let is_nothing = step.told == Some(0) && step.granted == 0 && Some(step.ends) != newest;
            step.over.saturating_add(terms.window) > now && !is_nothing
        });
        self.trim();
    }

    /// The next message: it tells what the store does not know yet, and of the newest step in any case.
    pub fn ask(&mut self, terms: Terms, want: u64) -> Ask {
        self.number += 1;
        let newest = self.steps.back().map(|step| step.ends);
        self.sent = self
            .steps
            .iter()
            .filter(|step| step.told != Some(step.granted) || Some(step.ends) == newest)
            .map(|step| Claim { ends: step.ends, bytes: step.granted })
            .collect();
        self.asked = Some(terms);
        Ask { number: self.number, terms, want, claims: self.sent.clone() }
    }

    /// The answer to the last message, which was sent at `sent` by our clock.
    pub fn answered(&mut self, answer: Answer, sent: u64) {
        for claim in std::mem::take(&mut self.sent) {
            if let Some(step) = self.named(claim.ends) {
                step.told = Some(claim.bytes);
            }
        }
        let Answer { now, granted, ends, .. } = answer;
        let Some(terms) = self.asked.take().filter(|_| granted > 0) else { return };
        let doubt = std::mem::take(&mut self.doubt);
        // The store was asked after `sent`, so its step ends by our clock at this time or later.
        let until = sent.saturating_add(ends.saturating_sub(now));
        if self.lease_step().is_some_and(|lease| lease.ends != ends) {
            self.drop_lease();
        }
        let (id, told) = (self.id(), (!doubt).then_some(granted));
        // A step whose lease was dropped holds what was used.
        let id = self.put(Step { id, ends, over: until, granted, used: 0, told });
        // Of two answers for one step the first says more exactly when it began; either is not too late.
        self.lease = Some((id, until));
        self.prune(sent, terms);
    }

    /// There was no answer to the last message.
    pub fn unanswered(&mut self) {
        self.doubt = true;
        for claim in std::mem::take(&mut self.sent) {
            if let Some(step) = self.named(claim.ends) {
                step.told = None;
            }
        }
    }

    fn lease_step(&self) -> Option<&Step> {
        let (id, _) = self.lease?;
        self.steps.iter().rev().find(|step| step.id == id)
    }

    fn step(&mut self, id: u64) -> Option<&mut Step> {
        self.steps.iter_mut().rev().find(|step| step.id == id)
    }

    fn named(&mut self, ends: u64) -> Option<&mut Step> {
        self.steps.iter_mut().rev().find(|step| step.ends == ends)
    }

    /// A number that no other step has; none has 0.
    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Puts a step in its place, or together with the one of its name. The number of what is there then.
    fn put(&mut self, step: Step) -> u64 {
        let at = self.steps.partition_point(|other| other.ends < step.ends);
        match self.steps.get_mut(at) {
            Some(other) if other.ends == step.ends => {
                if other.granted == 0 {
                    // It holds nothing but its name.
                    (other.id, other.over) = (step.id, step.over);
                }
                other.over = other.over.max(step.over);
                other.granted += step.granted;
                other.used += step.used;
                other.told = other.told.zip(step.told).map(|(other, told)| other + told);
                other.id
            }
            _ => {
                self.steps.insert(at, step);
                step.id
            }
        }
    }

    /// Keeps a bound, and rather what was used than what is only to be taken back.
    fn trim(&mut self) {
        if self.steps.len() > MAX_STEPS {
            self.steps.retain(|step| step.granted > 0);
        }
        while self.steps.len() > MAX_STEPS {
            self.steps.pop_front();
        }
        self.steps.shrink_to(STEPS as usize + 4);
    }
}
