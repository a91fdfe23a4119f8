//! Counters that do not grow with the log: by name, and by time.

use std::collections::HashMap;

use crate::words::small_sort::SmallSort as _;

/// Distinct targets, and clients, that are kept.
pub(super) const MOST: usize = 50_000;

/// How a request ended, as far as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CountedAs {
    /// Let through by a rule.
    Passed,
    /// Let through only by report mode.
    WouldDeny,
    /// Denied.
    Denied,
    /// Failed for a cause other than the rules.
    Failed,
}

/// Requests and bytes added up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Let through by a rule.
    pub passed: u64,
    /// Let through only by report mode.
    pub would_deny: u64,
    /// Denied.
    pub denied: u64,
    /// Failed for a cause other than the rules.
    pub failed: u64,
    /// Requests of lines that say less: [`Entry::brief`](crate::commands::logs::Entry::brief).
    pub brief: u64,
    /// Bytes from clients, as far as they are known.
    pub sent: u64,
    /// Requests that were let through, and whose bytes from the client are not known.
    pub sent_unknown: u64,
    /// Bytes to clients.
    pub received: u64,
    /// First and last time, in seconds since 1970.
    pub span: Option<(i64, i64)>,
}

impl Tally {
    /// One record: a request, bytes, or both.
    pub(super) fn of(
        counted_as: Option<CountedAs>,
        sent: Option<u64>,
        received: Option<u64>,
        time: Option<i64>,
        brief: bool,
    ) -> Self {
        let one = |which| u64::from(counted_as == Some(which));
        let passed = one(CountedAs::Passed) + one(CountedAs::WouldDeny);
        Tally {
            passed: one(CountedAs::Passed),
            would_deny: one(CountedAs::WouldDeny),
            denied: one(CountedAs::Denied),
            failed: one(CountedAs::Failed),
            brief: u64::from(brief && counted_as.is_some()),
            sent: sent.unwrap_or(0),
            sent_unknown: if brief && sent.is_none() { passed } else { 0 },
            received: received.unwrap_or(0),
            span: time.map(|time| (time, time)),
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.requests() == 0 && self.sent == 0 && self.received == 0
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.passed + self.would_deny + self.denied + self.failed
    }

    /// Bytes both ways.
    pub fn bytes(&self) -> u64 {
        self.sent.saturating_add(self.received)
    }

    pub(super) fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.would_deny += other.would_deny;
        self.denied += other.denied;
        self.failed += other.failed;
        self.brief += other.brief;
        self.sent_unknown += other.sent_unknown;
        // A log may contain any number.
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.span = match (self.span, other.span) {
            (Some((first, last)), Some((other_first, other_last))) => {
                Some((first.min(other_first), last.max(other_last)))
            }
            (one, other) => one.or(other),
        };
    }
}

/// Tallies by name, for a limited number of names.
#[derive(Clone, Debug)]
pub struct Counter {
    named: HashMap<Box<str>, Tally>,
    most: usize,
    /// The sum for names that there was no room for.
    pub beyond: Tally,
}

impl Counter {
    pub(super) fn new(most: usize) -> Self {
        Counter { named: HashMap::new(), most, beyond: Tally::default() }
    }

    pub(super) fn add(&mut self, name: &str, one: &Tally) {
        if let Some(tally) = self.named.get_mut(name) {
            tally.add(one);
        } else if self.named.len() < self.most {
            self.named.insert(name.into(), *one);
        } else {
            self.beyond.add(one);
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// What was counted for a name.
    pub(super) fn of(&self, name: &str) -> Option<&Tally> {
        self.named.get(name)
    }

    /// Distinct names.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// The first `most` by `key`, the largest first.
    pub fn top<K: Ord>(&self, most: usize, key: impl Fn(&Tally) -> K) -> Vec<(&str, &Tally)> {
        let mut all: Vec<(&str, &Tally)> = self.named.iter().map(|(name, tally)| (&**name, tally)).collect();
        all.small_sort_by(|(one, a), (other, b)| key(b).cmp(&key(a)).then_with(|| one.cmp(other)));
        all.truncate(most);
        all
    }
}

/// Most bars of a plot.
const MOST_BINS: usize = 240;

/// One bar of the plots.
pub type Bin = Tally;

/// Tallies by time, in bars of one width, which doubles when they become too many.
#[derive(Clone, Debug)]
pub struct Bins {
    /// Seconds of one bar.
    pub width: i64,
    /// The start of the first bar, in seconds since 1970; a multiple of the width.
    pub start: i64,
    /// Without gaps.
    pub bins: Vec<Bin>,
}

impl Default for Bins {
    fn default() -> Self {
        Bins { width: 60, start: 0, bins: Vec::new() }
    }
}

impl Bins {
    pub(super) fn add(&mut self, one: &Tally) {
        let Some((time, _)) = one.span else { return };
        if self.bins.is_empty() {
            self.start = time.div_euclid(self.width) * self.width;
        }
        while self.needed(time) > MOST_BINS as i64 {
            self.coarsen();
        }
        let begin = time.div_euclid(self.width) * self.width;
        if begin < self.start {
            let before = usize::try_from((self.start - begin) / self.width).unwrap_or(0);
            self.bins.splice(..0, std::iter::repeat_n(Bin::default(), before));
            self.start = begin;
        }
        let index = usize::try_from((begin - self.start) / self.width).unwrap_or(0);
        if index >= self.bins.len() {
            self.bins.resize(index + 1, Bin::default());
        }
        if let Some(bin) = self.bins.get_mut(index) {
            bin.add(one);
        }
    }

    /// How many bars there are with one at `time`.
    fn needed(&self, time: i64) -> i64 {
        let last = self.start.saturating_add(self.width.saturating_mul(self.bins.len().max(1) as i64 - 1));
        let (first, last) = (self.start.min(time), last.max(time));
        (last.div_euclid(self.width) - first.div_euclid(self.width)).saturating_add(1)
    }

    fn coarsen(&mut self) {
        self.width = self.width.saturating_mul(2);
        let start = self.start.div_euclid(self.width) * self.width;
        let shifted = usize::from(start != self.start);
        let mut wide: Vec<Bin> = Vec::new();
        for (index, bin) in self.bins.iter().enumerate() {
            let at = (index + shifted) / 2;
            if at >= wide.len() {
                wide.resize(at + 1, Bin::default());
            }
            if let Some(wide) = wide.get_mut(at) {
                wide.add(bin);
            }
        }
        (self.start, self.bins) = (start, wide);
    }
}
