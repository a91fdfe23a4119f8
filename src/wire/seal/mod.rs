//! Seals of an access log: what a seal says, how it is signed, and how it is read back.
//!
//! A seal is a record of the log with two members more, in the line itself or in an object of it ([`Marks`]). `seal` lists the hash of each record since the last seal, and that
//! seal's own hash; `signature` is over the canonical form ([`super::canonical`]) of the record without itself. The hash of a
//! record, and of a seal, is the SHA-256 of that form. [`key`] has the keys. Not here: when a seal is made
//! ([`crate::telemetry`]), and what a missing one means ([`crate::commands::verify`]).

pub mod key;

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::canonical::{NotCanonical, Object};
use key::{PublicKey, SealKey};

/// Most records of one seal, so that its line stays under 16 KiB.
pub const MOST: usize = 128;

/// The member of a record that says where it belongs: `{"boot":…,"seq":…}`.
pub const PLACE: &str = "sealed";
/// The member of a seal that says what it seals.
pub const SEAL: &str = "seal";
/// The member of a seal that signs all others.
pub const SIGNATURE: &str = "signature";

/// The SHA-256 of a canonical form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of these bytes.
    pub fn of(canonical: &[u8]) -> Self {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(digest::digest(&digest::SHA256, canonical).as_ref()) {
            *to = *from;
        }
        Hash(hash)
    }

    /// As it is written.
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Hash)
    }

    fn write(self, out: &mut Vec<u8>) {
        let mut text = [0; 44];
        // 32 bytes are 44 characters.
        if let Ok(length) = STANDARD.encode_slice(self.0, &mut text) {
            out.extend_from_slice(text.get(..length).unwrap_or_default());
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Why a boot, or a key, has no more seals after this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last<'a> {
    /// It has.
    No,
    /// The next seals are by the key with this fingerprint.
    OfKey(&'a str),
    /// The program ended.
    OfBoot,
}

/// A seal to be written.
#[derive(Clone, Copy, Debug)]
pub struct Seal<'a> {
    /// The start of the program that it belongs to.
    pub boot: &'a str,
    /// Its number in that boot, from 0.
    pub number: u64,
    /// The place of its first record, which is that of the next one if it has none.
    pub first: u64,
    /// Its records, in the order of their places.
    pub hashes: &'a [Hash],
    /// How many records had no place, because there was no room for them.
    pub lost: u64,
    /// The hash of the seal before it.
    pub previous: Option<Hash>,
    /// Whether it is the last one.
    pub last: Last<'a>,
}

impl Seal<'_> {
    /// Appends `"seal":{…},"signature":"…"` and the end of the line to the record that begins in `out` at `start`, and returns
    /// its hash. `open` objects are open there, the line's own included; the innermost one gets the two.
    ///
    /// # Errors
    /// What is there is not the beginning of an object.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        start: usize,
        open: usize,
        key: &SealKey,
        object: &mut Object,
    ) -> Result<Hash, NotCanonical> {
        let text = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(text.as_bytes());
        let comma = if out.last() == Some(&b'{') { "" } else { "," };
        text(out, &format!("{comma}\"seal\":{{\"boot\":\"{}\",\"number\":{}", self.boot, self.number));
        text(out, &format!(",\"first\":{},\"count\":{}", self.first, self.hashes.len()));
        text(out, &format!(",\"lost\":{},\"final\":{}", self.lost, self.last == Last::OfBoot));
        text(out, &format!(",\"key\":\"{}\",\"next_key\":", key.public().fingerprint()));
        match self.last {
            Last::OfKey(next) => text(out, &format!("\"{next}\"")),
            Last::No | Last::OfBoot => text(out, "null"),
        }
        text(out, ",\"previous\":");
        match self.previous {
            Some(hash) => text(out, &format!("\"{hash}\"")),
            None => text(out, "null"),
        }
        text(out, ",\"hashes\":[");
        for (at, hash) in self.hashes.iter().enumerate() {
            text(out, if at > 0 { ",\"" } else { "\"" });
            hash.write(out);
            out.push(b'"');
        }
        text(out, "]}");
        let (end, braces) = (out.len(), "}".repeat(open));
        text(out, &braces);
        object.read(out.get(start..).unwrap_or_default())?;
        let mut signed = Vec::with_capacity(out.len() - start);
        object.write(&mut signed, |_| true);
        out.truncate(end);
        text(out, &format!(",\"signature\":\"{}\"{braces}\n", STANDARD.encode(key.sign(&signed))));
        Ok(Hash::of(&signed))
    }
}

/// Where a record belongs.
#[derive(Clone, Debug, Deserialize)]
pub struct Place<'l> {
    /// The start of the program.
    pub boot: &'l str,
    /// Its number in that boot, from 0.
    pub seq: u64,
}

impl<'l> Place<'l> {
    /// The place in canonical form.
    pub fn read(text: &'l [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// What a line has that belongs to seals, in canonical form.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'l> {
    /// The member of the line whose object has it; none: the line itself.
    pub group: Option<&'static str>,
    /// Where the record belongs.
    pub place: Option<&'l [u8]>,
    /// What a seal says, and its signature.
    pub seal: Option<(&'l [u8], &'l [u8])>,
}

#[derive(Deserialize)]
struct Within<'l> {
    #[serde(borrow)]
    sealed: Option<&'l RawValue>,
    #[serde(borrow)]
    seal: Option<&'l RawValue>,
    #[serde(borrow)]
    signature: Option<&'l RawValue>,
}

impl<'l> Marks<'l> {
    /// What the line itself has, or else the first of `groups` that has something. None: it is neither a record with a place nor a
    /// seal.
    pub fn of(object: &'l Object, groups: &[&'static str]) -> Option<Self> {
        let (place, seal) = (object.get(PLACE), object.get(SEAL).zip(object.get(SIGNATURE)));
        if place.is_some() || seal.is_some() {
            return Some(Marks { group: None, place, seal });
        }
        groups.iter().find_map(|group| {
            let within: Within<'l> = serde_json::from_slice(object.get(group)?).ok()?;
            let text = |value: Option<&'l RawValue>| value.map(|value| value.get().as_bytes());
            let (place, seal) = (text(within.sealed), text(within.seal).zip(text(within.signature)));
            (place.is_some() || seal.is_some()).then_some(Marks { group: Some(*group), place, seal })
        })
    }
}

/// What a seal says. Nothing of it is proved until [`ReadSeal::hash_signed_by`] says so.
#[derive(Clone, Debug)]
pub struct ReadSeal {
    /// The start of the program.
    pub boot: String,
    /// Its number in that boot.
    pub number: u64,
    /// The place of its first record.
    pub first: u64,
    /// The hashes of its records.
    pub hashes: Vec<Hash>,
    /// How many records had no place.
    pub lost: u64,
    /// Whether the boot ends with it.
    pub is_final: bool,
    /// The hash of the seal before it.
    pub previous: Option<Hash>,
    /// The fingerprint of its key.
    pub key: String,
    /// The fingerprint of the key that follows.
    pub next_key: Option<String>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Members {
    boot: String,
    number: u64,
    first: u64,
    count: u64,
    lost: u64,
    r#final: bool,
    key: String,
    next_key: Option<String>,
    previous: Option<String>,
    hashes: Vec<String>,
}

impl ReadSeal {
    /// What a seal and its signature say. None: something else than egressd writes.
    pub fn read((seal, signature): (&[u8], &[u8])) -> Option<Self> {
        let members: Members = serde_json::from_slice(seal).ok()?;
        let signature: String = serde_json::from_slice(signature).ok()?;
        let hashes: Vec<Hash> = members.hashes.iter().map(|text| Hash::parse(text)).collect::<Option<_>>()?;
        let counted = u64::try_from(hashes.len()).ok()? == members.count && hashes.len() <= MOST;
        members.first.checked_add(members.count).filter(|_| counted)?;
        let previous = match members.previous {
            Some(text) => Some(Hash::parse(&text)?),
            None => None,
        };
        Some(ReadSeal {
            boot: members.boot,
            number: members.number,
            first: members.first,
            hashes,
            lost: members.lost,
            is_final: members.r#final,
            previous,
            key: members.key,
            next_key: members.next_key,
            signature: STANDARD.decode(signature).ok()?,
        })
    }

    /// Its own hash, if this key signed it. `group` is where it stands in `object`, and `is_known` says which members of that
    /// egressd writes, by name and value: a router may have added others.
    pub fn hash_signed_by(
        &self,
        key: &PublicKey,
        object: &Object,
        group: Option<&str>,
        is_known: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Option<Hash> {
        let is_signed = |name: &[u8]| name != SIGNATURE.as_bytes();
        let mut rest = Vec::new();
        if let Some(group) = group {
            let mut within = Object::new();
            within.read(object.get(group)?).ok()?;
            within.write(&mut rest, is_signed);
        }
        let rest = group.map(|group| (group, rest.as_slice()));
        let in_line = |name: &[u8]| group.is_some() || is_signed(name);
        let mut signed = Vec::new();
        object.write_with(&mut signed, |name, _| in_line(name), rest);
        if !key.has_signed(&signed, &self.signature) {
            signed.clear();
            object.write_with(&mut signed, |name, value| in_line(name) && is_known(name, value), rest);
            if !key.has_signed(&signed, &self.signature) {
                return None;
            }
        }
        Some(Hash::of(&signed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal_of(object: &Object) -> Option<ReadSeal> {
        ReadSeal::read(Marks::of(object, &[])?.seal?)
    }

    /// In an object of the line as in the line itself, and nowhere else.
    #[test]
    fn what_belongs_to_seals_is_found_in_the_line_or_in_one_of_its_groups() {
        let mut object = Object::new();
        let place = r#"{"boot":"b","seq":7}"#;
        for (text, group) in [
            (format!("{{\"sealed\":{place},\"a\":{{\"x\":1}}}}"), Some(None)),
            (format!("{{\"a\":{{\"sealed\":{place},\"x\":1}}}}"), Some(Some("a"))),
            (format!("{{\"b\":{{\"sealed\":{place}}},\"a\":{{\"x\":1}}}}"), Some(Some("b"))),
            (format!("{{\"c\":{{\"sealed\":{place}}},\"a\":7}}"), None),
        ] {
            object.read(text.as_bytes()).expect("JSON");
            let marks = Marks::of(&object, &["a", "b"]);
            assert_eq!(marks.map(|marks| marks.group), group, "{text}");
            if let Some(marks) = marks {
                assert_eq!(marks.place, Some(place.as_bytes()));
            }
        }
        let key = SealKey::generate().expect("a key");
        let seal =
            Seal { boot: "b", number: 0, first: 0, hashes: &[], lost: 0, previous: None, last: Last::OfBoot };
        let mut line = b"{\"z\":1,\"a\":{".to_vec();
        let hash = seal.write(&mut line, 0, 2, &key, &mut object).expect("an object");
        object.read(&line).expect("JSON");
        let marks = Marks::of(&object, &["a"]).expect("a seal");
        let read = ReadSeal::read(marks.seal.expect("a seal")).expect("as written");
        let found =
            |object: &Object| read.hash_signed_by(key.public(), object, Some("a"), |name, _| name != b"more");
        assert_eq!((marks.group, found(&object)), (Some("a"), Some(hash)));
        let text = String::from_utf8(line).expect("ASCII");
        for (edited, holds) in [
            (text.replacen("{\"z\":1", "{\"more\":2,\"z\":1.0", 1), true),
            (text.replacen("\"z\":1", "\"z\":2", 1), false),
            (text.replacen("\"a\":{", "\"a\":{\"more\":2,", 1), false),
            (text.replacen("\"final\":true", "\"final\":false", 1), false),
        ] {
            object.read(edited.as_bytes()).expect("JSON");
            assert_eq!(found(&object), holds.then_some(hash), "{edited}");
        }
    }

    #[test]
    fn the_longest_seal_is_shorter_than_a_line_may_be_and_is_read_as_written() {
        let key = SealKey::generate().expect("a key");
        let hashes: Vec<Hash> = (0..MOST).map(|at| Hash::of(&at.to_be_bytes())).collect();
        let next = key.public().fingerprint().to_owned();
        let boot = "01a20ade-5dd9-7286-9fcc-ba599bb2d527";
        let seal = Seal {
            boot,
            number: u64::MAX / 2048,
            first: u64::MAX / 2048,
            hashes: &hashes,
            lost: u64::MAX / 2048,
            previous: Some(Hash::of(b"before")),
            last: Last::OfKey(&next),
        };
        // The longest head: a time, and an instance of 256 bytes.
        let head = format!(
            "{{\"time\":\"2026-03-01T12:00:00.000000Z\",\"event\":\"seal\",\"instance\":\"{}\"",
            "i".repeat(256)
        );
        let mut line = head.clone().into_bytes();
        let mut object = Object::new();
        let hash = seal.write(&mut line, 0, 1, &key, &mut object).expect("an object");
        assert!(line.len() < 16 * 1024 && line.is_ascii() && line.ends_with(b"\"}\n"), "{}", line.len());

        object.read(&line).expect("JSON");
        let read = seal_of(&object).expect("a seal");
        assert_eq!(
            (&*read.boot, read.number, read.first, read.lost),
            (boot, seal.number, seal.first, seal.lost)
        );
        assert_eq!(
            (read.hashes.clone(), read.previous, read.is_final),
            (hashes.clone(), seal.previous, false)
        );
        assert_eq!(read.next_key.as_deref(), Some(&*next));
        assert_eq!(read.hash_signed_by(key.public(), &object, None, |_, _| true), Some(hash));
        let other = SealKey::generate().expect("a key");
        assert_eq!(read.hash_signed_by(other.public(), &object, None, |_, _| true), None);

        // What a router adds is left out, if it is not one of ours; any other edit breaks the signature.
        let text = String::from_utf8(line).expect("ASCII");
        let known =
            |name: &[u8], _: &[u8]| matches!(name, b"time" | b"event" | b"instance" | b"seal" | b"signature");
        for (from, to, holds) in [
            ("{\"time\"", "{\"stream\":\"stdout\",\"time\"", true),
            ("\"event\":\"seal\"", "\"event\" : \"sea\\u006c\"", true),
            ("12:00:00", "12:00:01", false),
            ("\"instance\":\"i", "\"instance\":\"j", false),
            ("\"lost\":", "\"lost\":1", false),
            ("\"final\":false", "\"final\":true", false),
        ] {
            let edited = text.replacen(from, to, 1);
            assert_ne!(edited, text, "{from}");
            object.read(edited.as_bytes()).expect("JSON");
            let read = seal_of(&object).expect("a seal");
            let found = read.hash_signed_by(key.public(), &object, None, known);
            assert_eq!(found, holds.then_some(hash), "{from}");
        }
    }

    #[test]
    fn what_is_no_seal_is_not_read() {
        let mut object = Object::new();
        for text in [
            r#"{"event":"seal"}"#,
            r#"{"seal":{},"signature":""}"#,
            r#"{"seal":{"boot":"b","number":0,"first":0,"count":1,"lost":0,"final":false,"key":"k","next_key":null,"previous":null,"hashes":[]},"signature":""}"#,
            r#"{"seal":{"boot":"b","number":0,"first":0,"count":1,"lost":0,"final":false,"key":"k","next_key":null,"previous":null,"hashes":["AAAA"]},"signature":""}"#,
        ] {
            object.read(text.as_bytes()).expect("JSON");
            assert!(seal_of(&object).is_none(), "{text}");
        }
        for (text, place) in
            [(r#"{"boot":"b","seq":7}"#, Some(("b", 7))), (r#"{"boot":"b"}"#, None), ("[]", None)]
        {
            assert_eq!(Place::read(text.as_bytes()).map(|place| (place.boot, place.seq)), place, "{text}");
        }
    }
}
