//! What a purse has leased and used, by the steps of the store's clock: numbers alone, without clock, lock or socket.
//!
//! A lease belongs to one step, a sixtieth of the window, and is over when that is. Of each step the store has one number for each
//! holder: what it leased, and once the step is over what it used. The holder always tells the whole number, never a difference, and
//! numbers its messages. So one that is lost, late or repeated changes nothing: the next one puts it right. After the epoch has
//! changed, the same message says all that was used within the window.

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
    /// Its beginning: the store's clock was there.
    pub begun: u64,
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
    /// The end of the step; `None`: without the store.
    ends: Option<u64>,
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
        (self.ends, self.until) == (other.ends, other.until)
    }
}

#[derive(Clone, Copy, Debug)]
struct Step {
    ends: u64,
    begun: u64,
    granted: u64,
    used: u64,
    /// What the store was last told, or `None` if it has to be told again.
    told: Option<u64>,
}

/// What was sent without the store, until `end` by our clock.
#[derive(Clone, Copy, Debug)]
struct Alone {
    end: u64,
    bytes: u64,
}

/// What one holder has leased and used.
#[derive(Default, Debug)]
pub struct Ledger {
    number: u64,
    /// By their ends.
    steps: VecDeque<Step>,
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
        if let Some((ends, _)) = self.lease.take()
            && let Some(step) = self.step(ends)
        {
            step.granted = step.used;
        }
    }

    /// Takes up to `most` bytes of the lease.
    pub fn take(&mut self, most: u64) -> Taken {
        let (ends, until) = self.lease.unwrap_or_default();
        let bytes = self.step(ends).map_or(0, |step| {
            let bytes = most.min(step.granted - step.used);
            step.used += bytes;
            bytes
        });
        Taken { bytes, ends: Some(ends), until }
    }

    /// Undoes a take.
    pub fn put_back(&mut self, taken: Taken, unused: u64) {
        let Some(ends) = taken.ends else {
            if let Some(last) = self.alone.back_mut() {
                last.bytes = last.bytes.saturating_sub(unused);
            }
            return;
        };
        let is_lease = self.lease.is_some_and(|(lease, _)| lease == ends);
        if let Some(step) = self.step(ends) {
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
        let end = now + terms.step();
        match self.alone.back_mut() {
            Some(last) if last.end > now => last.bytes += bytes,
            _ => self.alone.push_back(Alone { end, bytes }),
        }
        Some(Taken { bytes, ends: None, until: end })
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
        let step = terms.step();
        for Alone { end, bytes } in std::mem::take(&mut self.alone) {
            let ends = (clock.at(end) / step + 1) * step;
            let at = self.steps.partition_point(|step| step.ends < ends);
            match self.steps.get_mut(at) {
                Some(step) if step.ends == ends => {
                    step.used += bytes;
                    step.granted += bytes;
                    step.told = None;
                }
                _ => {
                    // The store's clock may be behind.
                    let step = Step { ends, begun: 0, granted: bytes, used: bytes, told: None };
                    self.steps.insert(at, step);
                }
            }
        }
    }

    /// The store may have lost everything, and the lease with it.
    pub fn epoch_ended(&mut self, clock: Clock, terms: Terms) {
        self.drop_lease();
        self.settle_alone(clock, terms);
        for step in &mut self.steps {
            step.told = None;
        }
        self.steps.retain(|step| step.used > 0);
    }

    /// Whether the store has to be told of a step that is over.
    pub fn untold(&self) -> bool {
        let lease = self.lease.map(|(ends, _)| ends);
        self.steps.iter().any(|step| Some(step.ends) != lease && step.told != Some(step.used))
    }

    /// Forgets what no longer counts at `now` of the store's clock.
    pub fn prune(&mut self, now: u64, terms: Terms) {
        while self.steps.len() > MAX_STEPS
            || self.steps.front().is_some_and(|step| step.ends.saturating_add(terms.window) <= now)
        {
            self.steps.pop_front();
        }
    }

    /// The next message: it tells what the store does not know yet, and of the newest step in any case.
    pub fn ask(&mut self, terms: Terms, want: u64) -> Ask {
        self.number += 1;
        let newest = self.steps.back().map(|step| step.ends);
        self.sent = self
            .steps
            .iter()
            .filter(|step| step.told != Some(step.granted) || Some(step.ends) == newest)
            .map(|step| Claim { ends: step.ends, begun: step.begun, bytes: step.granted })
            .collect();
        self.asked = Some(terms);
        Ask { number: self.number, terms, want, claims: self.sent.clone() }
    }

    /// The answer to the last message, which was sent at `sent` by our clock.
    pub fn answered(&mut self, answer: Answer, sent: u64) {
        for claim in std::mem::take(&mut self.sent) {
            if let Some(step) = self.step(claim.ends) {
                step.told = Some(claim.bytes);
            }
        }
        let Answer { now, granted, ends, .. } = answer;
        let Some(terms) = self.asked.take().filter(|_| granted > 0) else { return };
        let doubt = std::mem::take(&mut self.doubt);
        // The store was asked after `sent`, so its step ends by our clock at this time or later.
        let until = sent.saturating_add(ends.saturating_sub(now));
        if self.lease.is_some_and(|(lease, _)| lease != ends) {
            self.drop_lease();
        }
        let at = self.steps.partition_point(|step| step.ends < ends);
        match self.steps.get_mut(at) {
            Some(step) if step.ends == ends => {
                // A step whose lease was dropped holds what was used.
                step.granted += granted;
                step.told = step.told.filter(|_| !doubt).map(|told| told + granted);
            }
            _ => {
                let begun = ends.saturating_sub(terms.step());
                let told = (!doubt).then_some(granted);
                self.steps.insert(at, Step { ends, begun, granted, used: 0, told });
            }
        }
        // Of two answers for one step the first says more exactly when it began; either is not too late.
        self.lease = Some((ends, until));
        self.prune(now, terms);
    }

    /// There was no answer to the last message.
    pub fn unanswered(&mut self) {
        self.doubt = true;
        for claim in std::mem::take(&mut self.sent) {
            if let Some(step) = self.step(claim.ends) {
                step.told = None;
            }
        }
    }

    /// What was used in steps that count at `now` of the store's clock.
    #[cfg(test)]
    pub fn used_within(&self, window: u64, now: u64) -> u64 {
        self.steps.iter().filter(|step| step.ends + window > now).map(|step| step.used).sum()
    }

    fn lease_step(&self) -> Option<&Step> {
        let (ends, _) = self.lease?;
        self.steps.iter().rev().find(|step| step.ends == ends)
    }

    fn step(&mut self, ends: u64) -> Option<&mut Step> {
        self.steps.iter_mut().rev().find(|step| step.ends == ends)
    }
}
