//! Seals the access log, in the writer's thread: no record waits for a seal, and what a record costs is paid there.
//!
//! A record gets its place (the boot and a number) when it is about to be written, so that the places have the order of the
//! lines; its hash goes into the next seal. A seal is made for [`MOST`] records, or when the oldest record without one has
//! waited for `every`; the first when the program starts, the last when it ends, and one every five minutes where nothing is
//! recorded, so that a log shows that egressd ran. Records for which there was no room never come here: a seal says how many
//! they were. Kept are at most [`MOST`] hashes. Not here: what is in a seal ([`crate::wire::seal`]), and the writing
//! ([`super::writer`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use uuid::Uuid;

use super::line::Format;
use super::queue::{Batch, Line, WRITE_BYTES};
use super::record::write_place;
use crate::config;
use crate::wire::canonical::Object;
use crate::wire::seal::{Hash, Last, MOST, Seal};

/// Between two seals where nothing is recorded.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// How the log is sealed.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The key, and how often.
    pub seal: config::Seal,
    /// Host name of this replica.
    pub instance: Box<str>,
}

/// The last seal on the output: what a witness writes down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastSeal {
    /// This start of the program.
    pub boot: Arc<str>,
    /// The number of the seal, from 0.
    pub number: u64,
    /// Records of this boot that are sealed; the last one's `seq` is one less.
    pub records: u64,
    /// Its hash.
    pub hash: Hash,
    /// The fingerprint of its key.
    pub key: Box<str>,
    /// When it was made.
    pub time: Timestamp,
}

/// Gives records their places, and makes seals.
pub(super) struct Sealer {
    boot: Arc<str>,
    sealing: Sealing,
    format: Arc<ArcSwap<Box<dyn Format>>>,
    number: u64,
    /// The place of the next record.
    next: u64,
    /// Of the records since the last seal.
    hashes: Vec<Hash>,
    previous: Option<Hash>,
    /// Records without a place that a seal has told of.
    lost: u64,
    due: Instant,
    last: Option<LastSeal>,
    shown: Arc<ArcSwapOption<LastSeal>>,
    object: Object,
    canonical: Vec<u8>,
}

impl Sealer {
    pub(super) fn new(
        sealing: Sealing,
        format: Arc<ArcSwap<Box<dyn Format>>>,
        shown: Arc<ArcSwapOption<LastSeal>>,
    ) -> Self {
        Sealer {
            boot: Uuid::now_v7().to_string().into(),
            sealing,
            format,
            number: 0,
            next: 0,
            hashes: Vec::with_capacity(MOST),
            previous: None,
            lost: 0,
            due: Instant::now(),
            last: None,
            shown,
            object: Object::new(),
            canonical: Vec::new(),
        }
    }

    /// When a seal is due although no record comes.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Appends lines of `batch`, from that one on, to `to`, as many as are written at once, with the seals that are due.
    /// Returns the first line that is left. `lost` counts the records so far that had no room.
    pub(super) fn take(&mut self, batch: &Batch, from: usize, lost: u64, to: &mut Batch) -> usize {
        let mut start = from.checked_sub(1).and_then(|at| batch.lines.get(at)).map_or(0, |line| line.end);
        let mut taken = from;
        for line in batch.lines.iter().skip(from) {
            let text = batch.bytes.get(start..line.end).unwrap_or_default();
            if taken > from && to.bytes.len() + text.len() > WRITE_BYTES {
                return taken;
            }
            self.record(text, line, to);
            if self.hashes.len() == MOST {
                self.make(Last::No, lost, line.queued_at, to);
            }
            (start, taken) = (line.end, taken + 1);
        }
        if self.due <= Instant::now() && !self.hashes.is_empty() {
            let queued_at = to.lines.last().map_or(Duration::ZERO, |line| line.queued_at);
            self.make(Last::No, lost, queued_at, to);
        }
        taken
    }

    /// Appends a seal.
    pub(super) fn seal(&mut self, lost: u64, to: &mut Batch) {
        self.make(Last::No, lost, Duration::ZERO, to);
    }

    /// Appends the last seal of the key in use, if another follows it.
    pub(super) fn hand_over(&mut self, seal: config::Seal, lost: u64, to: &mut Batch) {
        if seal.key != self.sealing.seal.key {
            let next = seal.key.public().fingerprint().to_owned();
            self.make(Last::OfKey(&next), lost, Duration::ZERO, to);
        }
        self.sealing.seal = seal;
        if !self.hashes.is_empty() {
            self.due = self.due.min(Instant::now() + self.sealing.seal.every);
        }
    }

    /// Appends the last seal of all.
    pub(super) fn end(&mut self, lost: u64, to: &mut Batch) {
        self.make(Last::OfBoot, lost, Duration::ZERO, to);
    }

    /// What was appended is on the output.
    pub(super) fn is_on_output(&mut self) {
        if let Some(last) = self.last.take() {
            self.shown.store(Some(Arc::new(last)));
        }
    }

    fn record(&mut self, text: &[u8], line: &Line, to: &mut Batch) {
        let start = to.bytes.len();
        if write_place(&self.boot, self.next, text, &mut to.bytes) {
            let written = to.bytes.get(start..).unwrap_or_default();
            if self.object.read(written).is_ok() {
                self.canonical.clear();
                self.object.write(&mut self.canonical, |_| true);
                if self.hashes.is_empty() {
                    self.due = Instant::now() + self.sealing.seal.every;
                }
                self.hashes.push(Hash::of(&self.canonical));
                self.next += 1;
            } else {
                // A bug: it is written all the same, and shows as inserted.
                to.bytes.truncate(start);
                to.bytes.extend_from_slice(text);
            }
        } else {
            to.bytes.extend_from_slice(text);
        }
        to.lines.push(Line { end: to.bytes.len(), ..*line });
    }

    fn make(&mut self, last: Last<'_>, lost: u64, queued_at: Duration, to: &mut Batch) {
        let (time, start) = (Timestamp::now(), to.bytes.len());
        let open = self.format.load().write_seal_head(time, &self.sealing.instance, &mut to.bytes);
        let seal = Seal {
            boot: &self.boot,
            number: self.number,
            first: self.next - self.hashes.len() as u64,
            hashes: &self.hashes,
            lost: lost.saturating_sub(self.lost),
            previous: self.previous,
            last,
        };
        self.due = Instant::now() + IDLE;
        let key = &self.sealing.seal.key;
        let Ok(hash) = seal.write(&mut to.bytes, start, open, key, &mut self.object) else {
            // A format that is no JSON is never sealed. Without this seal, its records are unproven.
            to.bytes.truncate(start);
            return;
        };
        to.lines.push(Line { end: to.bytes.len(), queued: 0, queued_at });
        self.last = Some(LastSeal {
            boot: Arc::clone(&self.boot),
            number: self.number,
            records: self.next,
            hash,
            key: key.public().fingerprint().into(),
            time,
        });
        self.hashes.clear();
        (self.number, self.lost, self.previous) = (self.number + 1, lost, Some(hash));
    }
}
