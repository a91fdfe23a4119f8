//! When no boot was there, within the time that was asked for: egressd did not run, or a whole boot is missing.

use super::book::Book;
use super::boot::Proved;
use super::finding::{Finding, Kind};
use crate::words::small_sort::SmallSort as _;
use jiff::Timestamp;

/// A restart takes less, in seconds: a new pod is pulled and started in that time.
const RESTART: i64 = 120;
/// Between two seals where nothing is recorded, in seconds, and some more.
const IDLE: i64 = 330;

impl Book {
    /// Adds the stretches of the time that is judged in which no boot was there. Without an end on either side, there is nothing to say.
    pub(super) fn cover(&mut self) {
        let range = self.range;
        let mut lives: Vec<(i64, i64)> = Vec::new();
        for boot in self.boots.values() {
            let times = boot.seals.values().filter_map(|seal| seal.time);
            let (first, last) = (times.clone().min(), times.max());
            let is_over = boot.seals.values().next_back().is_some_and(|seal: &Proved| seal.is_final);
            // Of a boot without its last seal, it is not known how long it went on.
            if let (Some(first), Some(last)) = (first, last) {
                lives.push((first, if is_over { last } else { last.saturating_add(IDLE) }));
            }
        }
        lives.small_sort();
        let mut covered = range.from;
        for (first, last) in lives {
            if let Some(since) = covered.filter(|since| first.saturating_sub(*since) > RESTART)
                && range.to.is_none_or(|to| since < to)
            {
                self.nobody(since, range.to.map_or(first, |to| to.min(first)));
            }
            covered = covered.map(|since| since.max(last)).or(range.to.map(|_| last));
        }
        if let (Some(since), Some(to)) = (covered.or(range.from), range.to)
            && to.saturating_sub(since) > RESTART
        {
            self.nobody(since, to);
        }
    }

    fn nobody(&mut self, from: i64, to: i64) {
        let shown = |second: i64| {
            Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
        };
        self.findings.add(Finding {
            kind: Kind::Gap,
            boot: None,
            records: None,
            at: None,
            text: format!(
                "no boot from {} to {}: egressd did not run, or a whole boot is missing",
                shown(from),
                shown(to)
            ),
        });
    }
}
