//! One start of the program: its seals, and its records as far as no seal has them. They come in any order.

use std::collections::{BTreeMap, HashMap};

use super::finding::At;
use crate::wire::seal::{Hash, ReadSeal};
use crate::words::small_sort::SmallSort as _;

/// The hashes that a line may have: over all that is in it, and over what egressd writes, if a router added something. None:
/// nothing has a hash that could match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hashes {
    pub(super) all: Option<Hash>,
    pub(super) known: Option<Hash>,
}

impl Hashes {
    fn has(self, hash: Hash) -> bool {
        self.all == Some(hash) || self.known == Some(hash)
    }
}

/// A record whose seal has not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) hashes: Hashes,
    pub(super) at: At,
}

/// A seal that a trusted key signed.
#[derive(Debug)]
pub(super) struct Proved {
    pub(super) at: At,
    /// Seconds since 1970, if it says when it was made.
    pub(super) time: Option<i64>,
    pub(super) hash: Hash,
    pub(super) previous: Option<Hash>,
    pub(super) first: u64,
    pub(super) lost: u64,
    pub(super) is_final: bool,
    pub(super) hashes: Box<[Hash]>,
    /// Which of its records were seen: bit by bit.
    seen: u128,
}

impl Proved {
    /// The place after its last record.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.hashes.len() as u64)
    }

    /// Its records, and whether each was seen.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, bool)> {
        (self.first..self.end()).enumerate().map(|(at, seq)| (seq, self.seen >> at & 1 == 1))
    }
}

/// A line that looks like a seal and proves nothing.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) number: u64,
    pub(super) at: At,
    /// The fingerprint that it names, if no trusted key has it.
    pub(super) stranger: Option<String>,
}

#[derive(Default, Debug)]
pub(super) struct Boot {
    /// The host name that its first seal names.
    pub(super) instance: Option<Box<str>>,
    pub(super) seals: BTreeMap<u64, Proved>,
    /// The numbers of the seals that have records, by the place of the first one.
    by_first: BTreeMap<u64, u64>,
    pub(super) waiting: HashMap<u64, Waiting>,
    /// More that claim a place that another record waits for.
    more: Vec<(u64, Waiting)>,
    /// Lines whose hash is not the sealed one, with the place that they claim.
    pub(super) wrong: Vec<(u64, At)>,
    pub(super) broken: Vec<Broken>,
    pub(super) records: u64,
    /// Lines that are there once more, as they are.
    pub(super) repeats: u64,
}

impl Boot {
    pub(super) fn record(&mut self, seq: u64, waiting: Waiting) {
        self.records += 1;
        self.place(seq, waiting);
    }

    fn place(&mut self, seq: u64, waiting: Waiting) {
        let covering = self.by_first.range(..=seq).next_back().map(|(_, number)| *number);
        if let Some(seal) = covering.and_then(|number| self.seals.get_mut(&number))
            && seq < seal.end()
        {
            match meet(seal, seq, waiting.hashes) {
                Met::First => {}
                Met::Again => self.repeats += 1,
                Met::Other => self.wrong.push((seq, waiting.at)),
            }
            return;
        }
        match self.waiting.get(&seq) {
            None => {
                self.waiting.insert(seq, waiting);
            }
            Some(other) if other.hashes == waiting.hashes && other.hashes.all.is_some() => self.repeats += 1,
            Some(_) => self.more.push((seq, waiting)),
        }
    }

    /// A seal that is proved.
    pub(super) fn seal(&mut self, read: ReadSeal, hash: Hash, time: Option<i64>, at: At) {
        if let Some(there) = self.seals.get(&read.number) {
            if there.hash == hash {
                self.repeats += 1;
            } else {
                self.broken.push(Broken { number: read.number, at, stranger: None });
            }
            return;
        }
        let (number, first) = (read.number, read.first);
        let mut seal = Proved {
            at,
            time,
            hash,
            previous: read.previous,
            first,
            lost: read.lost,
            is_final: read.is_final,
            hashes: read.hashes.into(),
            seen: 0,
        };
        for seq in seal.first..seal.end() {
            let Some(waiting) = self.waiting.remove(&seq) else { continue };
            if meet(&mut seal, seq, waiting.hashes) == Met::Other {
                self.wrong.push((seq, waiting.at));
            }
        }
        if !seal.hashes.is_empty() {
            self.by_first.insert(first, number);
        }
        self.seals.insert(number, seal);
    }

    /// All lines are read: lines that claimed one place before its seal came are held against it.
    pub(super) fn settle(&mut self) {
        for (seq, waiting) in std::mem::take(&mut self.more) {
            self.place(seq, waiting);
        }
        // What still shares a place with another has no seal.
        self.wrong.extend(std::mem::take(&mut self.more).into_iter().map(|(seq, waiting)| (seq, waiting.at)));
        self.wrong.small_sort();
    }
}

#[derive(PartialEq, Eq)]
enum Met {
    First,
    Again,
    Other,
}

fn meet(seal: &mut Proved, seq: u64, hashes: Hashes) -> Met {
    let at = seq.saturating_sub(seal.first);
    let sealed = usize::try_from(at).ok().and_then(|at| seal.hashes.get(at));
    match sealed {
        Some(sealed) if hashes.has(*sealed) => {
            let bit = 1_u128.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0);
            let again = seal.seen & bit != 0;
            seal.seen |= bit;
            if again { Met::Again } else { Met::First }
        }
        _ => Met::Other,
    }
}
