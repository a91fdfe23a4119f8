//! A sealed log keeps every promise of the log, and its seals have all that is written, whatever the output does.

use serde_json::Value;

use super::*;
use crate::config::Seal;
use crate::wire::canonical::Object;
use crate::wire::seal::key::{PublicKey, SealKey};
use crate::wire::seal::{Hash, Marks, ReadSeal};

const LONG: Duration = Duration::from_secs(3600);

fn seal(every: Duration) -> Seal {
    Seal { key: Arc::new(SealKey::generate().expect("a key")), every }
}

fn start_sealed(seal: &Seal, on_failure: OnLogFailure, output: &Scripted) -> (AccessLog, WriterHandle) {
    let sealing = Some(Sealing { seal: seal.clone(), instance: "here".into() });
    let options = Options { sealing, ..options(500, on_failure, &Hands::default()) };
    AccessLog::start(Box::new(output.clone()), Box::new(Json), options).expect("started")
}

/// The text of a log as its records (by listener) and its seals; each seal has what is between it and the one before it, and
/// was signed by one of `keys`.
fn read(text: &str, keys: &[&PublicKey]) -> (Vec<String>, Vec<ReadSeal>) {
    let (mut records, mut seals): (Vec<String>, Vec<ReadSeal>) = Default::default();
    let (mut hashes, mut object, mut previous) = (Vec::new(), Object::new(), None);
    for line in text.lines() {
        assert!(line.len() < 16 * 1024);
        object.read(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
        let value: Value = serde_json::from_str(line).expect("JSON");
        if value["event"] != "seal" {
            assert_eq!(value["sealed"]["seq"], records.len());
            records.push(value["listener"].as_str().expect("a name").to_owned());
            let mut canonical = Vec::new();
            object.write(&mut canonical, |_| true);
            hashes.push(Hash::of(&canonical));
            continue;
        }
        let marks = Marks::of(&object, &[]).and_then(|marks| marks.seal).expect("a seal");
        let read = ReadSeal::read(marks).expect("a seal");
        assert_eq!((read.number, read.first), (seals.len() as u64, (records.len() - hashes.len()) as u64));
        assert_eq!((std::mem::take(&mut hashes), previous), (read.hashes.clone(), read.previous), "{line}");
        assert_eq!(value["instance"], "here");
        let key = keys.iter().find(|key| key.fingerprint() == read.key).expect("a key");
        previous = read.hash_signed_by(key, &object, None, |_, _| true);
        assert!(previous.is_some(), "signed");
        seals.push(read);
    }
    assert!(hashes.is_empty(), "the last line is a seal");
    (records, seals)
}

#[test]
fn each_record_has_its_place_and_each_seal_what_came_before_it() {
    let (seal, output) = (seal(LONG), Scripted::default());
    let (log, handle) = start_sealed(&seal, OnLogFailure::Deny, &output);
    output.wait("the first seal, before any record", |stage| !stage.text.is_empty());
    eventually("shown once it is written", || log.last_seal().is_some_and(|last| last.records == 0));
    let mut want = Vec::new();
    for number in 0..300 {
        let place = loop {
            match log.reserve() {
                Ok(place) => break place,
                Err(LogUnavailable) => thread::yield_now(),
            }
        };
        place.write(&line(&number.to_string()));
        want.push(number.to_string());
    }
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    let (records, seals) = read(&output.text(), &[seal.key.public()]);
    assert_eq!(records, want);
    let sizes: Vec<usize> = seals.iter().map(|seal| seal.hashes.len()).collect();
    assert_eq!(sizes, [0, 128, 128, 44]);
    assert!(seals.iter().all(|seal| seal.is_final == (seal.number == 3) && seal.lost == 0));
    let last = log.last_seal().expect("the last one");
    assert_eq!((last.number, last.records, &*last.key), (3, 300, seal.key.public().fingerprint()));
    assert_eq!(counts(&log), (300, 0, 0), "seals are no records");
    assert_eq!(log.0.queue.places.taken(), 0);
}

#[test]
fn a_record_alone_gets_its_seal_in_time() {
    let (seal, output) = (seal(Duration::from_millis(20)), Scripted::default());
    let (log, handle) = start_sealed(&seal, OnLogFailure::Deny, &output);
    say(&log, "one");
    eventually("sealed without another record", || log.last_seal().is_some_and(|last| last.records == 1));
    say(&log, "two");
    eventually("sealed", || log.last_seal().is_some_and(|last| last.records == 2));
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    let (records, seals) = read(&output.text(), &[seal.key.public()]);
    assert_eq!((records.len(), seals.len()), (2, 4));
}

#[test]
fn the_last_seal_of_a_key_names_the_next_one() {
    let (first, second, output) = (seal(LONG), seal(LONG), Scripted::default());
    let (log, handle) = start_sealed(&first, OnLogFailure::Deny, &output);
    say(&log, "one");
    // The same key at another pace is no change of keys.
    log.set_seal(Some(&Seal { every: Duration::from_secs(5), ..first.clone() }));
    log.set_seal(Some(&second));
    let next = second.key.public().fingerprint().to_owned();
    eventually("sealed", || log.last_seal().is_some_and(|last| last.number > 0));
    say(&log, "two");
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    let (records, seals) = read(&output.text(), &[first.key.public(), second.key.public()]);
    assert_eq!(records, ["one", "two"]);
    let naming: Vec<&ReadSeal> = seals.iter().filter(|seal| seal.next_key.is_some()).collect();
    assert_eq!(naming.len(), 1);
    assert_eq!(naming[0].next_key.as_deref(), Some(&*next));
    for seal in &seals {
        let by = if seal.number <= naming[0].number { &first } else { &second };
        assert_eq!(seal.key, by.key.public().fingerprint(), "seal {}", seal.number);
    }
    assert!(seals.last().is_some_and(|last| last.is_final && last.key == next));
}

#[test]
fn a_seal_tells_how_many_records_had_no_room() {
    let (seal, output) = (seal(LONG), Scripted::default());
    let (log, handle) = start_sealed(&seal, OnLogFailure::Continue, &output);
    eventually("the first seal", || log.last_seal().is_some());
    output.set(|stage| stage.blocked = true);
    log.set_places(2);
    for number in 0..7 {
        say(&log, &number.to_string());
    }
    assert_eq!(counts(&log).1, 5);
    output.set(|stage| stage.blocked = false);
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    let (records, seals) = read(&output.text(), &[seal.key.public()]);
    assert_eq!(records.len(), 2);
    assert_eq!(seals.iter().map(|seal| seal.lost).sum::<u64>(), 5);
}

#[test]
fn a_line_half_written_and_rotated_away_is_whole_in_the_next_file_and_sealed_once() {
    let (seal, output) = (seal(LONG), Scripted::default());
    let (log, handle) = start_sealed(&seal, OnLogFailure::Deny, &output);
    eventually("the first seal", || log.last_seal().is_some());
    let begun = output.set(|stage| stage.text.len());
    output.set(|stage| {
        stage.next_is_other = true;
        stage.acts = [Act::Take(10)].into();
        stage.failing = Some(io::ErrorKind::StorageFull);
    });
    say(&log, "one");
    output.wait("half", |stage| stage.text.len() == begun + 10 && stage.acts.is_empty());
    eventually("failed", || !log.is_available());
    log.reopen();
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    let rotated = output.set(|stage| stage.rotated.clone()).concat();
    let whole = rotated.get(..begun).expect("the first seal").to_vec();
    let text = String::from_utf8(whole).expect("text") + &output.text();
    assert_eq!(read(&text, &[seal.key.public()]).0, ["one"]);
}

#[test]
fn the_end_is_no_end_without_the_last_seal() {
    let (seal, output) = (seal(LONG), Scripted::default());
    let (log, handle) = start_sealed(&seal, OnLogFailure::Deny, &output);
    eventually("the first seal", || log.last_seal().is_some());
    output.set(|stage| stage.failing = Some(io::ErrorKind::StorageFull));
    assert_eq!(handle.finish(Duration::from_millis(50)), Finished::Abandoned(0));
    // What comes while the last seal is made would be behind it.
    assert!(log.reserve().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However an output cuts, fails and interrupts: the log is whole, seals and all.
    #[test]
    fn whatever_the_output_does_the_seals_have_every_line(
        acts in proptest::collection::vec(prop_oneof![
            4 => (1usize..9000).prop_map(Act::Take),
            1 => Just(Act::Take(0)),
            1 => Just(Act::Fail(io::ErrorKind::StorageFull)),
            1 => Just(Act::Fail(io::ErrorKind::Interrupted)),
        ], 0..40),
        records in 1usize..200,
    ) {
        let (seal, output) = (seal(Duration::from_millis(2)), Scripted::default());
        output.set(|stage| stage.acts = acts.into());
        let (log, handle) = start_sealed(&seal, OnLogFailure::Continue, &output);
        let want: Vec<String> = (0..records).map(|number| format!("{number}")).collect();
        want.iter().for_each(|text| say(&log, text));
        prop_assert_eq!(handle.finish(NEVER), Finished::Flushed);
        let (got, seals) = read(&output.text(), &[seal.key.public()]);
        prop_assert!(seals.last().is_some_and(|last| last.is_final));
        prop_assert_eq!(seals.iter().map(|seal| seal.lost).sum::<u64>() as usize + got.len(), records);
        prop_assert_eq!(log.0.queue.places.taken(), 0);
    }
}
