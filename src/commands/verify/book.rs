//! Reads the lines of all logs, and keeps of each what its boot needs.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::boot::{Boot, Broken, Hashes, Waiting};
use super::claims::{End, claims, members, text_claims};
use super::finding::{At, Finding, Findings, Kind};
use super::range::Range;
use crate::commands::logs::{
    DEEPEST, Entry, WRAPPERS, inside, is_stderr as stderr_said, object, of_stream, seconds,
};
use crate::telemetry::record::{Schema, tells};
use crate::wire::canonical::Object;
use crate::wire::seal::key::PublicKey;
use crate::wire::seal::{Hash, Marks, Place, ReadSeal};

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
    /// The members of the last line by a number of their names, with its schema, and whether egressd writes all of them.
    shape: Option<((u64, Schema), bool)>,
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
        let Some(line) = line else {
            return self.stray(
                at,
                Kind::Inserted,
                "a line longer than any of egressd's, so that nobody looked at it",
            );
        };
        let (is_stderr, line) = of_stream(line);
        // Nearly every line: nothing is in it but what egressd wrote.
        if line.first() == Some(&b'{') && self.object.read(line).is_ok() && self.is_bare(at) {
            return;
        }
        if line.first() == Some(&b'{') && self.is_found(at, line) {
            return;
        }
        // It may be a line of Squid, which `egressd summary` takes for a record. No diagnostic is taken for one.
        if !is_stderr && line.first() != Some(&b'{') && self.is_without_place(at, line) {
            return;
        }
        if claims(line) {
            return self.stray(
                at,
                Kind::Inserted,
                "something that a reader could take for a record, which no seal has",
            );
        }
        if !is_stderr && !stderr_said(line) {
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

    /// Whether the object is a record with its place, or a seal, and has no other members.
    fn is_bare(&mut self, at: At) -> bool {
        let Some(marks) = Marks::of(&self.object, &Schema::GROUPS) else { return false };
        let schema = Schema::of_group(marks.group);
        let shape = (self.object.shape(), schema);
        let is_bare = match self.shape {
            Some((before, is_bare)) if before == shape => is_bare,
            _ => self.object.members().all(|(name, _)| schema.has(name)),
        };
        self.shape = Some((shape, is_bare));
        if is_bare {
            let all = Some(self.hash(|_, _| true));
            self.take(at, Hashes { all, known: None });
        }
        is_bare
    }

    /// The hash of what was read, as far as it is wanted.
    fn hash(&mut self, wanted: impl Fn(&[u8], &[u8]) -> bool) -> Hash {
        self.canonical.clear();
        self.object.write_with(&mut self.canonical, wanted, None);
        Hash::of(&self.canonical)
    }

    /// Whether one of the objects in the line is a record or a seal. A router may have added members, and may keep the line as text
    /// beside what was in it: no harm, as long as it says one thing to every reader.
    fn is_found(&mut self, at: At, line: &[u8]) -> bool {
        let mut layers = Vec::new();
        let is_all = layers_of(line, 0, &mut layers);
        let kinds: Vec<Layer> = layers.iter().map(|layer| self.layer(layer)).collect();
        let is_one = |kind: &Layer| matches!(kind, Layer::Marked(_) | Layer::Ambiguous);
        let first = kinds.iter().position(is_one);
        let Some((layer, kind)) = first.and_then(|first| layers.get(first).zip(kinds.get(first))) else {
            let placeless = kinds.iter().position(|kind| *kind == Layer::Placeless);
            return match placeless.and_then(|at| layers.get(at)) {
                Some(layer) => self.is_without_place(at, layer),
                None => false,
            };
        };
        let Layer::Marked(of) = *kind else { return self.is_ambiguous(at, layer) };
        let agree = is_all
            && layers.iter().zip(&kinds).all(|(layer, kind)| match kind {
                Layer::Marked(other) => {
                    (other.schema, other.known) == (of.schema, of.known)
                        && (other.is_bare || !says_more(layer, |_, _| false, |name| of.schema.has(name)))
                }
                Layer::Ambiguous | Layer::Placeless => false,
                Layer::Around => {
                    let claimed = |name: &[u8], value: &[u8]| of.schema.is_claimed_by(name, value);
                    !says_more(layer, claimed, |_| false)
                }
            });
        // The last one is still there.
        if first != layers.len().checked_sub(1) && self.object.read(layer).is_err() {
            return false;
        }
        let hashes = match (agree, of.is_bare) {
            // Whatever it says, another reader reads something else.
            (false, _) => Hashes { all: None, known: None },
            (true, true) => Hashes { all: Some(of.known), known: None },
            (true, false) => Hashes { all: Some(self.hash(|_, _| true)), known: Some(of.known) },
        };
        self.take(at, hashes);
        true
    }

    /// What one of the objects in a line is.
    fn layer(&mut self, text: &[u8]) -> Layer {
        if self.object.read(text).is_err() {
            let is_record = || Entry::parse(text).is_some();
            return match ambiguous_place(text) {
                Some(_) => Layer::Ambiguous,
                None if is_record() => Layer::Placeless,
                None => Layer::Around,
            };
        }
        if let Some(marks) = Marks::of(&self.object, &Schema::GROUPS) {
            let schema = Schema::of_group(marks.group);
            let is_bare = self.object.members().all(|(name, _)| schema.has(name));
            let known = self.hash(|name, value| is_known(schema, name, value));
            return Layer::Marked(Marked { schema, known, is_bare });
        }
        self.canonical.clear();
        self.object.write(&mut self.canonical, |_| true);
        if Entry::parse(&self.canonical).is_some() { Layer::Placeless } else { Layer::Around }
    }

    /// Takes the record or seal that was read. Without a hash, its line says something else to other readers.
    fn take(&mut self, at: At, hashes: Hashes) {
        let Some(marks) = Marks::of(&self.object, &Schema::GROUPS) else { return };
        if marks.seal.is_some() {
            return self.seal(at, hashes.all.is_some());
        }
        self.lines.records += 1;
        match marks.place.and_then(Place::read) {
            Some(place) => boot(&mut self.boots, place.boot).record(place.seq, Waiting { hashes, at }),
            None => self.stray(at, Kind::Inserted, "a record whose place cannot be read"),
        }
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
    fn is_ambiguous(&mut self, at: At, text: &[u8]) -> bool {
        let Some((name, seq)) = ambiguous_place(text) else { return false };
        self.lines.records += 1;
        let hashes = Hashes { all: None, known: None };
        boot(&mut self.boots, &name).record(seq, Waiting { hashes, at });
        true
    }

    fn seal(&mut self, at: At, is_all: bool) {
        self.lines.seals += 1;
        let marks = Marks::of(&self.object, &Schema::GROUPS);
        let read = marks.and_then(|marks| Some((marks.group, ReadSeal::read(marks.seal?)?)));
        let Some((group, read)) = read else {
            return self.stray(at, Kind::Altered, "a seal that cannot be read");
        };
        let schema = Schema::of_group(group);
        let boot = boot(&mut self.boots, &read.boot);
        let key = self.keys.iter().find(|key| key.fingerprint() == read.key);
        let is_of_seal = |name: &[u8], value: &[u8]| is_known(schema, name, value);
        let hash =
            key.filter(|_| is_all).and_then(|key| read.hash_signed_by(key, &self.object, group, is_of_seal));
        let Some(hash) = hash else {
            let stranger = key.is_none().then_some(read.key);
            return boot.broken.push(Broken { number: read.number, at, stranger });
        };
        self.canonical.clear();
        self.object.write(&mut self.canonical, |_| true);
        let line: Value = serde_json::from_slice(&self.canonical).unwrap_or_default();
        let [time, instance] = schema.of_seal().map(|at| line.pointer(at).and_then(Value::as_str));
        if boot.instance.is_none() {
            boot.instance = instance.map(Box::from);
        }
        if let Some(next) = &read.next_key {
            self.lines.successors.entry(next.clone()).or_insert(at);
        }
        boot.seal(read, hash, time.and_then(seconds), at);
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

/// Whether a member is one of egressd's, or could be taken for one: what else a router adds is not hashed.
fn is_known(schema: Schema, name: &[u8], value: &[u8]) -> bool {
    schema.has(name) || tells(name, value)
}

/// One of the objects in a line: the line itself, or what a router put into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layer {
    /// A record with its place, or a seal.
    Marked(Marked),
    /// One with a place that says something twice.
    Ambiguous,
    /// A record without a place.
    Placeless,
    /// What a router put around a line, or nothing of all that.
    Around,
}

/// What a record or seal says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Marked {
    schema: Schema,
    /// Its hash without what routers added.
    known: Hash,
    /// They added nothing.
    is_bare: bool,
}

/// Adds the line and all objects in it to `layers`. False: there are more than any router puts around each other.
fn layers_of(line: &[u8], depth: usize, layers: &mut Vec<Vec<u8>>) -> bool {
    layers.push(line.to_vec());
    let mut is_all = true;
    for layer in inside(line) {
        is_all &= depth < DEEPEST && layers_of(&layer, depth + 1, layers);
    }
    is_all
}

/// Whether a member is `claimed`, or the text of one has something that a reader could take for another record. Left out are texts
/// of those that are `own`, and what is a layer itself.
fn says_more(layer: &[u8], claimed: impl Fn(&[u8], &[u8]) -> bool, own: impl Fn(&[u8]) -> bool) -> bool {
    let text = String::from_utf8_lossy(layer);
    let (members, end) = members(&text);
    let is_layer = |name: &[u8], value: &str| is_wrapper(name) && object(value).is_some();
    end != End::Whole
        || members.iter().any(|(name, value)| {
            claimed(name, value.as_bytes()) || (!own(name) && !is_layer(name, value) && text_claims(value))
        })
}

fn is_wrapper(name: &[u8]) -> bool {
    WRAPPERS.iter().any(|wrapper| wrapper.as_bytes() == name)
}

/// The boot and number of a record that is no canonical JSON, as serde reads them.
fn ambiguous_place(text: &[u8]) -> Option<(String, u64)> {
    #[derive(Deserialize)]
    struct Placed<'l> {
        #[serde(borrow)]
        sealed: Option<Place<'l>>,
        #[serde(borrow)]
        egressd: Option<Within<'l>>,
        #[serde(borrow)]
        unmapped: Option<Within<'l>>,
    }
    #[derive(Deserialize)]
    struct Within<'l> {
        #[serde(borrow)]
        sealed: Option<Place<'l>>,
    }
    let placed: Placed<'_> = serde_json::from_slice(text).ok()?;
    let within = |group: Option<Within<'_>>| {
        group.and_then(|group| group.sealed).map(|place| (place.boot.to_owned(), place.seq))
    };
    placed
        .sealed
        .map(|place| (place.boot.to_owned(), place.seq))
        .or_else(|| within(placed.egressd))
        .or_else(|| within(placed.unmapped))
}
