//! Says what is wrong with the boots, once all lines are read.

use std::collections::BTreeMap;

use super::book::Book;
use super::boot::{Boot, Broken, Proved};
use super::finding::{At, Finding, Findings, Kind};
use super::range::Range;
use crate::words::small_sort::SmallSort as _;

impl Book {
    /// Adds what is wrong to [`Book::findings`].
    pub(super) fn judge(&mut self) {
        let range = self.range;
        let mut boots: Vec<(&Box<str>, &mut Boot)> = self.boots.iter_mut().collect();
        boots.small_sort_by_key(|(name, _)| *name);
        for (name, boot) in boots {
            boot.settle();
            Judge { name, boot, range, findings: &mut self.findings }.judge();
        }
    }
}

struct Judge<'b> {
    name: &'b str,
    boot: &'b Boot,
    range: Range,
    findings: &'b mut Findings,
}

/// Records of one kind that follow each other.
struct Run {
    kind: Kind,
    first: u64,
    last: u64,
    at: At,
}

impl Judge<'_> {
    fn judge(&mut self) {
        let boot = self.boot;
        let mut waiting: Vec<(u64, At)> =
            boot.waiting.iter().map(|(seq, waiting)| (*seq, waiting.at)).collect();
        waiting.small_sort();
        let (mut before, mut number, mut end): (Option<&Proved>, u64, u64) = (None, 0, 0);
        let mut left = waiting.as_slice();
        let mut wrong: BTreeMap<u64, Vec<At>> = BTreeMap::new();
        boot.wrong.iter().for_each(|(seq, at)| wrong.entry(*seq).or_default().push(*at));
        for (this, seal) in &boot.seals {
            let is_judged = self.range.meets(before.and_then(|before| before.time), seal.time);
            if *this > number {
                let between = left.partition_point(|(seq, _)| *seq < seal.first);
                let (present, rest) = left.split_at(between);
                left = rest;
                if is_judged {
                    self.seals_missing(
                        (number, this.saturating_sub(1)),
                        (end, seal.first),
                        present.len(),
                        seal,
                    );
                }
            } else if before.is_some_and(|before| seal.previous != Some(before.hash) || seal.first != end) {
                self.add(
                    Kind::Altered,
                    None,
                    seal.at,
                    "this seal does not follow the one before it".to_owned(),
                );
            }
            if is_judged {
                self.records(seal, &mut wrong);
                if seal.lost > 0 {
                    let text = format!(
                        "{} before this seal were never written: egressd had no room for them",
                        records(seal.lost)
                    );
                    self.add(Kind::Gap, None, seal.at, text);
                }
            } else {
                wrong.retain(|seq, _| !(seal.first..seal.end()).contains(seq));
            }
            (before, number, end) = (Some(seal), this.saturating_add(1), seal.end());
        }
        // What claims a place that another line rightly has, or that no seal has.
        for (seq, at) in wrong.into_iter().flat_map(|(seq, all)| all.into_iter().map(move |at| (seq, at))) {
            let text = format!("record {seq} is another one, or none: no seal has this line");
            self.add(Kind::Inserted, Some((seq, seq)), at, text);
        }
        self.broken();
        match before {
            None => self.strangers(left),
            Some(last) if last.is_final => self
                .runs(left.iter().map(|(seq, at)| (Kind::Inserted, *seq, *at)), |run| {
                    format!("{} after the boot's last seal", spelled(run.first, run.last))
                }),
            Some(last) => self.cut(last, left),
        }
    }

    /// The records of a seal that are not there as they were written.
    fn records(&mut self, seal: &Proved, wrong: &mut BTreeMap<u64, Vec<At>>) {
        let missing = seal.records().filter(|(_, seen)| !seen).map(|(seq, _)| {
            let other = wrong.get_mut(&seq).and_then(|all| (!all.is_empty()).then(|| all.remove(0)));
            match other {
                Some(at) => (Kind::Altered, seq, at),
                None => (Kind::Gap, seq, seal.at),
            }
        });
        let missing: Vec<_> = missing.collect();
        self.runs(missing.into_iter(), |run| match run.kind {
            Kind::Altered => {
                format!("record {} is not what was written: its hash is not the sealed one", run.first)
            }
            _ if run.first == run.last => format!("record {} is missing: this seal has its hash", run.first),
            _ => format!("{} are missing: this seal has their hashes", spelled(run.first, run.last)),
        });
    }

    fn runs(&mut self, items: impl Iterator<Item = (Kind, u64, At)>, text: impl Fn(&Run) -> String) {
        let mut run: Option<Run> = None;
        let mut told = Vec::new();
        for (kind, seq, at) in items {
            match &mut run {
                Some(run)
                    if run.kind == kind && kind != Kind::Altered && run.last.checked_add(1) == Some(seq) =>
                {
                    run.last = seq;
                }
                _ => told.extend(run.replace(Run { kind, first: seq, last: seq, at })),
            }
        }
        told.extend(run);
        for run in told {
            self.add(run.kind, Some((run.first, run.last)), run.at, text(&run));
        }
    }

    fn seals_missing(
        &mut self,
        (first, last): (u64, u64),
        (from, to): (u64, u64),
        present: usize,
        seal: &Proved,
    ) {
        let seals =
            if first == last { format!("seal {first} is") } else { format!("seals {first} to {last} are") };
        let (range, text) = match to.checked_sub(1).filter(|last| from <= *last) {
            None => (None, format!("{seals} missing before this one; no record was in it")),
            Some(last) => (
                Some((from, last)),
                format!(
                    "{seals} missing before this one, so nothing proves {}, of which {present} are here",
                    spelled(from, last)
                ),
            ),
        };
        self.add(Kind::Unproven, range, seal.at, text);
    }

    /// Lines that look like seals and prove nothing.
    fn broken(&mut self) {
        for Broken { number, at, stranger } in &self.boot.broken {
            let (kind, text) = match (self.boot.seals.contains_key(number), stranger) {
                (true, _) => {
                    (Kind::Inserted, format!("seal {number} is another one: no trusted key signed this line"))
                }
                (false, None) => (
                    Kind::Altered,
                    format!("seal {number} is not what was written: its signature does not fit it"),
                ),
                (false, Some(key)) => (
                    Kind::Unproven,
                    format!("seal {number} is by the key {}, which no --key names", key.escape_debug()),
                ),
            };
            self.add(kind, None, *at, text);
        }
    }

    /// Records of a boot without a seal.
    fn strangers(&mut self, left: &[(u64, At)]) {
        self.runs(left.iter().map(|(seq, at)| (Kind::Inserted, *seq, *at)), |run| {
            format!("{} of a boot without a seal that a trusted key signed", spelled(run.first, run.last))
        });
    }

    fn cut(&mut self, last: &Proved, left: &[(u64, At)]) {
        if matches!((self.range.to, last.time), (Some(to), Some(time)) if time >= to) {
            return;
        }
        let whose = match &self.boot.instance {
            Some(instance) => format!(" of {}", instance.escape_debug()),
            None => String::new(),
        };
        let tail = match left.len() {
            0 => "no record follows it".to_owned(),
            some => format!("nothing proves the {} after it", records(some as u64)),
        };
        let range = left.first().zip(left.last()).map(|((first, _), (last, _))| (*first, *last));
        let text = format!(
            "this is the last seal that is here, and not the last one of this boot{whose}, which was killed, still runs, or \
             is cut off; {tail}"
        );
        self.add(Kind::Cut, range, last.at, text);
    }

    fn add(&mut self, kind: Kind, records: Option<(u64, u64)>, at: At, text: String) {
        self.findings.add(Finding { kind, boot: Some(self.name.into()), records, at: Some(at), text });
    }
}

fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

fn spelled(first: u64, last: u64) -> String {
    if first == last { format!("record {first}") } else { format!("records {first} to {last}") }
}
