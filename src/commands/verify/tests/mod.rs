//! Logs that the writer sealed, tampered with in every way and carried by every router: each tampering is named, and no router is
//! taken for one.

mod readers;
mod tampering;
mod written;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::expect::Expected;
use super::*;
use crate::telemetry::record::{Schema, new_id};
use crate::wire::seal::Hash;
use crate::wire::seal::key::SealKey;
use written::{Draw, WAYS, Written, book, carried, carry, is_seal, judged, kinds, mixed, write_boot};

#[test]
fn a_log_of_many_sizes_is_whole_and_says_so() {
    let key = Arc::new(SealKey::generate().expect("a key"));
    let mut draw = Draw(7);
    let sizes = [0, 1, 127, 128, 129, 256, 300].into_iter();
    for (schema, records) in sizes.flat_map(|size| Schema::ALL.map(|schema| (schema, size))) {
        let written = write_boot(&key, schema, records, &mut draw);
        let book = judged(&key, &written.lines);
        assert_eq!(kinds(&book), BTreeSet::new(), "{records}: {:?}", book.findings);
        let seals = written.of(true).len();
        // The first, one for 128, and the last, which may be empty.
        assert_eq!((book.lines.records, seals), (records as u64, 2 + records / 128));
        assert_eq!(written.last.records, records as u64);
        let text = book.to_text(&["access.log".to_owned()], false);
        let word = if records == 1 { "record" } else { "records" };
        assert_eq!(text, format!("whole as far as present: {records} {word} of 1 boot, by {seals} seals\n"));
        let all: Value = serde_json::from_str(&book.to_json(&["a".to_owned()], true)).expect("JSON");
        assert_eq!((&all["verdict"], &all["boots"][0]["final"]), (&json!("whole"), &json!(true)));
        assert_eq!(all["boots"][0]["instance"], "egressd-7f9c5d6b8-x2x7p");
        assert!(book.boots.values().all(|boot| boot.seals.values().all(|seal| seal.time.is_some())));
        // Without the key that signed, nothing is proved.
        let other = SealKey::generate().expect("a key");
        let want = if records == 0 {
            BTreeSet::from([Kind::Unproven])
        } else {
            BTreeSet::from([Kind::Inserted, Kind::Unproven])
        };
        assert_eq!(kinds(&judged(&other, &written.lines)), want);
    }
}

#[test]
fn what_routers_do_to_a_log_is_no_harm() {
    let key = Arc::new(SealKey::generate().expect("a key"));
    let mut draw = Draw(11);
    let boots: Vec<Written> =
        Schema::ALL.iter().map(|schema| write_boot(&key, *schema, 140, &mut draw)).collect();
    let lines: Vec<Vec<String>> = boots.iter().map(|boot| boot.lines.clone()).collect();
    for how in 0..WAYS {
        let carried: Vec<String> = lines.concat().iter().map(|line| carried(line, how)).collect();
        let book = judged(&key, &carried);
        assert_eq!(kinds(&book), BTreeSet::new(), "{how}: {:?}", book.findings.kept().first());
        assert_eq!(book.lines.records, 420);
    }
    let witness: Vec<Expected> = boots.iter().map(Written::witness).collect();
    for _ in 0..20 {
        let mut all = mixed(&lines, &mut draw);
        // Lines that are there once more: a router delivers again what it is not sure of.
        let repeats = draw.below(20);
        for _ in 0..repeats {
            let again = draw.of(&all).clone();
            let at = draw.below(all.len());
            all.insert(at, again);
        }
        carry(&mut all, &mut draw);
        all.insert(draw.below(all.len()), "2026-03-01T12:00:00.1Z stderr F started".to_owned());
        all.insert(draw.below(all.len()), "a line of another program".to_owned());
        let mut book = judged(&key, &all);
        book.hold_against(&witness, "witness");
        assert_eq!(kinds(&book), BTreeSet::new(), "{:?}", book.findings.kept().first());
        assert_eq!(book.boots.values().map(|boot| boot.repeats).sum::<u64>(), repeats as u64);
    }
    // The seals long before their records, and long after.
    for seals_first in [true, false] {
        let mut all = lines.concat();
        all.sort_by_key(|line| is_seal(line) != seals_first);
        assert_eq!(kinds(&judged(&key, &all)), BTreeSet::new());
    }
}

#[test]
fn a_witness_misses_boots_that_are_dropped_and_knows_none_that_is_replayed() {
    let key = Arc::new(SealKey::generate().expect("a key"));
    let mut draw = Draw(23);
    let [first, second, old] =
        [140, 150, 60].map(|records| write_boot(&key, Schema::Json, records, &mut draw));
    let witness = [first.witness(), second.witness()];
    let told = |lines: &[&[String]], witness: &[Expected]| {
        let mut book = judged(&key, lines.concat().iter());
        assert_eq!(kinds(&book), BTreeSet::new());
        book.hold_against(witness, "w");
        let texts: Vec<String> = book
            .findings
            .kept()
            .iter()
            .map(|finding| format!("{}: {}", finding.kind.as_str(), finding.text))
            .collect();
        texts
    };
    assert_eq!(told(&[&first.lines, &second.lines], &witness), [""; 0]);
    let dropped = told(&[&first.lines], &witness);
    assert_eq!(dropped, ["gap: no seal of this boot is here; by w it sealed 150 records"]);
    let replayed = told(&[&first.lines, &old.lines], &witness);
    assert_eq!(replayed.len(), 2);
    assert!(replayed[1].starts_with("inserted: w does not name this boot"), "{replayed:?}");
    // The witness saw more than the log has, or another seal.
    let more = Expected { seq: Some(200), hash: None, ..second.witness() };
    let less = told(&[&first.lines, &second.lines], &[first.witness(), more]);
    assert_eq!(less, ["gap: the log ends before record 150; by w 201 records were sealed"]);
    let another = Expected { hash: Some(Hash::of(b"another")), ..second.witness() };
    let rewritten = told(&[&first.lines, &second.lines], &[first.witness(), another]);
    assert_eq!(rewritten, ["altered: the seal after record 149 has another hash than w says"]);
    // What it saw before the end.
    let earlier = Expected { seq: Some(20), hash: None, ..second.witness() };
    assert_eq!(told(&[&first.lines, &second.lines], &[first.witness(), earlier]), [""; 0]);
}

/// A log whose seals say that they were made at these seconds, by a key that signs them anew.
fn at_times(key: &Arc<SealKey>, times: &[i64], draw: &mut Draw) -> Vec<String> {
    use crate::wire::canonical::Object;
    use crate::wire::seal::{Last, Seal as Made};
    let boot = new_id().to_string();
    let (mut previous, mut lines, mut object) = (None, Vec::new(), Object::new());
    for (number, time) in (0..).zip(times) {
        let record = format!(
            "{{\"event\":\"open\",\"n\":{},\"sealed\":{{\"boot\":\"{boot}\",\"seq\":{number}}}}}",
            draw.below(99)
        );
        object.read(record.as_bytes()).expect("JSON");
        let mut canonical = Vec::new();
        object.write(&mut canonical, |_| true);
        let time = Timestamp::from_second(*time).expect("a time");
        let mut line = format!("{{\"time\":\"{time:.6}\",\"event\":\"seal\",\"instance\":\"i\"").into_bytes();
        let seal = Made {
            boot: &boot,
            number,
            first: number,
            hashes: &[Hash::of(&canonical)],
            lost: 0,
            previous,
            last: if number + 1 == times.len() as u64 { Last::OfBoot } else { Last::No },
        };
        previous = seal.write(&mut line, 0, 1, key, &mut object).ok();
        lines.extend([record, String::from_utf8(line).expect("ASCII").trim().to_owned()]);
    }
    lines
}

#[test]
fn a_range_of_time_leaves_out_what_is_before_and_after_and_shows_when_no_boot_was_there() {
    let key = Arc::new(SealKey::generate().expect("a key"));
    let mut draw = Draw(31);
    let first = at_times(&key, &[1000, 1300, 1600], &mut draw);
    let second = at_times(&key, &[1620, 1900, 2200], &mut draw);
    let third = at_times(&key, &[4000, 4300], &mut draw);
    let told = |lines: &[&[String]], from: Option<i64>, to: Option<i64>| {
        let mut book = book(&key, Range { from, to }, lines.concat().iter());
        book.judge();
        book.cover();
        kinds(&book).into_iter().map(Kind::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told(&[&first, &second], Some(1000), Some(2200)), "");
    assert_eq!(told(&[&first, &second, &third], Some(1000), Some(4300)), "gap");
    assert_eq!(told(&[&first, &second, &third], Some(2200), Some(4300)), "gap");
    assert_eq!(told(&[&first, &second, &third], Some(1000), Some(2000)), "");
    assert_eq!(told(&[&second], Some(1000), Some(2200)), "gap", "the first boot is missing");
    assert_eq!(told(&[&first], Some(1000), Some(2200)), "gap", "the second boot is missing");
    // A day of a boot that began before and goes on.
    let part = &second[2..4];
    assert_eq!(told(&[part], None, None), "unproven cut");
    assert_eq!(told(&[part], Some(1900), Some(1900)), "");
    assert_eq!(told(&[part], Some(1800), Some(1900)), "unproven");
    // A line dropped within the range, and one without.
    let mut lines = first.clone();
    lines.remove(2);
    assert_eq!(told(&[&lines, &second], Some(1000), None), "gap");
    assert_eq!(told(&[&lines, &second], Some(1650), None), "");
    // What was recorded before the log was sealed.
    let early = [r#"{"time":"1970-01-01T00:10:00.000000Z","event":"open"}"#.to_owned()];
    assert_eq!(told(&[&early, &first], Some(1000), None), "");
    assert_eq!(told(&[&early, &first], Some(500), None), "gap inserted");
}

#[test]
fn a_record_for_which_there_was_no_room_is_told_by_the_seal() {
    use crate::wire::canonical::Object;
    use crate::wire::seal::{Last, Seal as Made};
    let key = SealKey::generate().expect("a key");
    let mut line =
        b"{\"time\":\"2026-03-01T12:00:00.000000Z\",\"event\":\"seal\",\"instance\":\"i\"".to_vec();
    let seal =
        Made { boot: "b", number: 0, first: 0, hashes: &[], lost: 3, previous: None, last: Last::OfBoot };
    seal.write(&mut line, 0, 1, &key, &mut Object::new()).expect("an object");
    let book = judged(&key, &[String::from_utf8(line).expect("ASCII")]);
    assert_eq!(kinds(&book), BTreeSet::from([Kind::Gap]));
    let text = &book.findings.kept()[0].text;
    assert_eq!(text, "3 records before this seal were never written: egressd had no room for them");
}

#[test]
fn a_successor_that_a_seal_names_is_not_trusted_for_it() {
    use crate::wire::canonical::Object;
    use crate::wire::seal::{Last, Seal as Made};
    let (old, new) = (SealKey::generate().expect("a key"), SealKey::generate().expect("a key"));
    let (mut object, mut lines, mut previous) = (Object::new(), Vec::new(), None);
    let next = new.public().fingerprint().to_owned();
    for (number, key, last) in [(0, &old, Last::No), (1, &old, Last::OfKey(&next)), (2, &new, Last::OfBoot)] {
        let mut line =
            b"{\"time\":\"2026-03-01T12:00:00.000000Z\",\"event\":\"seal\",\"instance\":\"i\"".to_vec();
        let seal = Made { boot: "b", number, first: 0, hashes: &[], lost: 0, previous, last };
        previous = seal.write(&mut line, 0, 1, key, &mut object).ok();
        lines.push(String::from_utf8(line).expect("ASCII"));
    }
    let keys = vec![old.public().clone(), new.public().clone()];
    let mut book = Book::new(keys, Range::default());
    for (line, text) in (1..).zip(&lines) {
        book.line(At { log: 0, line }, Some(text.trim().as_bytes()));
    }
    book.judge();
    assert_eq!((kinds(&book), book.notices(&[]).len()), (BTreeSet::new(), 0));
    let book = judged(&old, &lines);
    assert_eq!(kinds(&book), BTreeSet::from([Kind::Unproven, Kind::Cut]));
    let notices = book.notices(&["a.log".to_owned()]);
    assert!(
        notices[0].starts_with(&format!("a.log:2: the key {next} follows, which no --key names")),
        "{notices:?}"
    );
}
