//! Reads the lines of all logs, and keeps of each what its boot needs.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::boot::{Boot, Broken, Hashes, Waiting};
use super::finding::{At, Finding, Findings, Kind};
use super::range::Range;
use crate::commands::logs::{Entry, inside, is_docker, of_stream, seconds};
use crate::telemetry::record::{FIELDS, SEAL_FIELDS};
use crate::wire::canonical::Object;
use crate::wire::seal::key::PublicKey;
use crate::wire::seal::{Hash, PLACE, Place, ReadSeal, SEAL, SIGNATURE};

/// Lines that are no records whose places are kept.
const TOLD: usize = 5;

/// All that was read.
#[derive(Debug)]
pub struct Book {
    keys: Vec<PublicKey>,
    pub(super) range: Range,
    pub(super) boots: HashMap<Box<str>, Boot>,
    pub(super) findings: Findings,
    pub(super) lines: Lines,
    object: Object,
    canonical: Vec<u8>,
    /// The members of the last line by a number of their names, and whether egressd writes all of them.
    shape: Option<(u64, bool)>,
}

/// What is said of the lines beside the verdict.
#[derive(Clone, Default, Debug)]
pub(super) struct Lines {
    pub(super) records: u64,
    pub(super) seals: u64,
    /// Neither records nor seals.
    pub(super) others: u64,
    pub(super) first_others: Vec<At>,
    /// By the fingerprints of trusted keys: seals that say which key follows.
    pub(super) successors: BTreeMap<String, At>,
}

impl Book {
    /// Nothing read yet. Seals of these keys are trusted, and of no other.
    pub fn new(keys: Vec<PublicKey>, range: Range) -> Self {
        Book {
            keys,
            range,
            boots: HashMap::new(),
            findings: Findings::default(),
            lines: Lines::default(),
            object: Object::new(),
            canonical: Vec::new(),
            shape: None,
        }
    }

    /// Reads a line; `None` is one that is too long.
    pub fn line(&mut self, at: At, line: Option<&[u8]>) {
        let Some(line) = line else { return self.other(at) };
        // egressd's diagnostics, which are no part of the log.
        let Some(line) = of_stream(line) else { return };
        let docker = if is_docker(line) { inside(line) } else { None };
        let line = docker.as_deref().unwrap_or(line);
        if self.is_read(at, line) {
            return;
        }
        if let Some(line) = inside(line)
            && self.is_read(at, &line)
        {
            return;
        }
        // It may be a line of Squid, which `egressd summary` takes for a record.
        if !self.is_without_place(at, line) {
            self.other(at);
        }
    }

    fn other(&mut self, at: At) {
        self.lines.others += 1;
        if self.lines.first_others.len() < TOLD {
            self.lines.first_others.push(at);
        }
    }

    fn stray(&mut self, at: At, kind: Kind, text: &str) {
        self.findings.add(Finding { kind, boot: None, records: None, at: Some(at), text: text.to_owned() });
    }

    /// Whether the line is a record or a seal.
    fn is_read(&mut self, at: At, line: &[u8]) -> bool {
        if line.first() != Some(&b'{') {
            return false;
        }
        if self.object.read(line).is_err() {
            return self.is_no_canonical_record(at, line);
        }
        if self.object.get(SEAL).is_some() && self.object.get(SIGNATURE).is_some() {
            self.seal(at);
            return true;
        }
        if let Some(place) = Place::of(&self.object) {
            let shape = self.object.shape();
            let all_known = match self.shape {
                Some((before, all_known)) if before == shape => all_known,
                _ => self.object.names().all(is_known),
            };
            self.shape = Some((shape, all_known));
            let mut hash = |wanted: fn(&[u8]) -> bool| {
                self.canonical.clear();
                self.object.write(&mut self.canonical, wanted);
                Hash::of(&self.canonical)
            };
            let hashes = Hashes { all: Some(hash(|_| true)), known: (!all_known).then(|| hash(is_known)) };
            self.lines.records += 1;
            boot(&mut self.boots, place.boot).record(place.seq, Waiting { hashes, at });
            return true;
        }
        if self.object.get(PLACE).is_some() {
            self.lines.records += 1;
            self.stray(at, Kind::Inserted, "a record whose place cannot be read");
            return true;
        }
        // The readers compare words as they stand in the line, and a line may spell them with escapes.
        let mut canonical = std::mem::take(&mut self.canonical);
        canonical.clear();
        self.object.write(&mut canonical, |_| true);
        let is_record = self.is_without_place(at, &canonical);
        self.canonical = canonical;
        is_record
    }

    /// Whether the line is a record all the same. Outside of the time that is judged, it may be from before the log was sealed.
    fn is_without_place(&mut self, at: At, line: &[u8]) -> bool {
        let Some(entry) = Entry::parse(line) else { return false };
        if self.range.has(entry.time) {
            self.lines.records += 1;
            self.stray(at, Kind::Inserted, "a record without a place, which a sealed log never has");
        }
        true
    }

    /// JSON that says one thing twice, or half of a character: readers differ in what they take it for.
    fn is_no_canonical_record(&mut self, at: At, line: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Placed<'l> {
            #[serde(borrow)]
            sealed: Place<'l>,
        }
        let place = serde_json::from_slice::<Placed<'_>>(line).ok().map(|placed| placed.sealed);
        let Some(place) = place else { return self.is_without_place(at, line) };
        self.lines.records += 1;
        let hashes = Hashes { all: None, known: None };
        boot(&mut self.boots, place.boot).record(place.seq, Waiting { hashes, at });
        true
    }

    fn seal(&mut self, at: At) {
        self.lines.seals += 1;
        let Some(read) = ReadSeal::read(&self.object) else {
            return self.stray(at, Kind::Altered, "a seal that cannot be read");
        };
        let boot = boot(&mut self.boots, &read.boot);
        let key = self.keys.iter().find(|key| key.fingerprint() == read.key);
        let is_of_seal = |name: &[u8]| SEAL_FIELDS.iter().any(|field| field.as_bytes() == name);
        let Some(hash) = key.and_then(|key| read.hash_signed_by(key, &self.object, is_of_seal)) else {
            let stranger = key.is_none().then_some(read.key);
            return boot.broken.push(Broken { number: read.number, at, stranger });
        };
        let text =
            |name: &str| self.object.get(name).and_then(|value| serde_json::from_slice::<String>(value).ok());
        if boot.instance.is_none() {
            boot.instance = text("instance").map(String::into_boxed_str);
        }
        if let Some(next) = &read.next_key {
            self.lines.successors.entry(next.clone()).or_insert(at);
        }
        let time = text("time").and_then(|time| seconds(&time));
        boot.seal(read, hash, time, at);
    }

    /// Whether it found neither a record nor a seal.
    pub fn is_empty(&self) -> bool {
        self.lines.records == 0 && self.lines.seals == 0
    }

    /// Whether seals of this key are trusted.
    pub(super) fn trusts(&self, fingerprint: &str) -> bool {
        self.keys.iter().any(|key| key.fingerprint() == fingerprint)
    }
}

fn boot<'b>(boots: &'b mut HashMap<Box<str>, Boot>, name: &str) -> &'b mut Boot {
    if !boots.contains_key(name) {
        boots.insert(name.into(), Boot::default());
    }
    boots.get_mut(name).expect("inserted if it was not there")
}

/// Whether egressd writes this member: what a router adds is not hashed.
fn is_known(name: &[u8]) -> bool {
    name == PLACE.as_bytes() || FIELDS.iter().any(|field| field.name.as_bytes() == name)
}
