//! What a target saw is what egressd recorded: generated exchanges (methods, lengths, chunks, trailers, HEAD, 204 and 304, 1xx,
//! `Expect`, pipelining, ends) through inspected tunnels. Each exchange must reach the target once, framed as the client framed
//! it and byte for byte; its answer must reach the client so; and it must have one record, with that method, path and status, and
//! with exactly the bytes that the client sent and read. `tests/long/inspected_exchanges` runs many more.

mod ends;
mod generate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ends::{Client, Ended, Got};
use generate::{Exchange, Framing};

use crate::support::{Egressd, Numbers, Origin, Record, any_port};
use crate::world::{HOST, World};

/// For one egressd at a time: its records are read at its end.
const BATCH: u64 = 2_000;
const CLIENTS: usize = 16;

/// A number that the environment may set.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn what_targets_saw_of_generated_exchanges_is_what_was_recorded() {
    let (first, count) =
        (setting("EGRESSD_TEST_EXCHANGES_FIRST", 1), setting("EGRESSD_TEST_EXCHANGES_COUNT", 1_000));
    let world = World::new();
    let seen: Arc<Mutex<Vec<Got>>> = Arc::default();
    let target = {
        let (seen, config) = (Arc::clone(&seen), world.targets.issue(&[HOST]).server_config());
        Origin::start(any_port(), move |conversation| ends::serve(conversation, &config, &seen))
    };
    let authority = format!("{HOST}:{}", target.port());
    let mut begin = first;
    while begin < first + count {
        let end = (begin + BATCH).min(first + count);
        let limits = "limits: {requests_per_second_per_client: 1000000}\n";
        let proxy = world.start(&(World::config(target.port(), "") + limits));
        let next = AtomicU64::new(begin);
        let ended: Vec<Ended> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| client(&world, &proxy, &authority, &next, end)))
                .collect();
            clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
        });
        let records = proxy.stop().records;
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(ended.len() as u64, end - begin);
        arrived(&seen, begin..end);
        recorded(&records, &ended, &authority);
        if count > BATCH {
            println!("{} exchanges", end - first);
        }
        begin = end;
    }
}

/// One tunnel after the other, each with some exchanges, until `end`.
fn client(world: &World, proxy: &Egressd, authority: &str, next: &AtomicU64, end: u64) -> Vec<Ended> {
    let mut all = Vec::new();
    loop {
        let begin = next.load(Ordering::SeqCst);
        let length = 1 + Numbers::from(begin ^ 0x5eed).below(12) as u64;
        if begin >= end {
            return all;
        }
        if next.compare_exchange(begin, begin + length, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            continue;
        }
        let mut numbers = (begin..(begin + length).min(end)).peekable();
        while numbers.peek().is_some() {
            let mut client = Client::open(world, proxy, authority);
            while let Some(number) = numbers.next() {
                let mut batch = vec![number];
                while let Some(more) =
                    numbers.next_if(|&more| batch.len() < 5 && may_follow(*batch.last().expect("one"), more))
                {
                    batch.push(more);
                }
                let goes_on = client.exchange(&batch, authority, &mut all);
                if !goes_on {
                    break;
                }
            }
        }
    }
}

/// Whether `more` may be sent before the answer to `number` has come: that must not be the last of its connection, and buffers must
/// have room for both, because this client reads nothing while it sends.
fn may_follow(number: u64, more: u64) -> bool {
    let (before, more) = (Exchange::of(number), Exchange::of(more));
    let fits = before.answer.body.bytes.len() + more.body.bytes.len() < 20_000;
    more.pipelined && fits && !before.expects && !before.answer.closes
}

/// Every exchange reached the target once, and as the client sent it.
fn arrived(seen: &[Got], numbers: std::ops::Range<u64>) {
    let mut times: HashMap<u64, usize> = HashMap::new();
    for got in seen {
        let number = Exchange::number(&got.target);
        let want = Exchange::of(number);
        *times.entry(number).or_default() += 1;
        assert_eq!(
            (got.method.as_str(), got.target.as_str()),
            (want.method, want.target.as_str()),
            "{number}"
        );
        assert_eq!(got.framing, want.body.framing, "{number}: {want:?}");
        if want.answer.early {
            continue;
        }
        assert!(got.body == want.body.bytes, "{number}: the body differs");
        assert_eq!(got.trailers, want.body.trailers, "{number}");
        assert_eq!(got.expects, want.expects, "{number}");
    }
    for number in numbers {
        assert_eq!(
            times.get(&number),
            Some(&1),
            "{number} reached the target so often: {:?}",
            Exchange::of(number)
        );
    }
}

/// Every exchange has one record, with the bytes that the client counted, and the tunnel's are their sum.
fn recorded(records: &[Record], ended: &[Ended], authority: &str) {
    let mut by_number: HashMap<u64, Vec<&Record>> = HashMap::new();
    let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
    let mut opens: HashMap<u64, usize> = HashMap::new();
    for record in records {
        let path =
            || record.text("target").strip_prefix(&format!("https://{authority}")).map(Exchange::number);
        match record.text("event") {
            "request" => {
                by_number.entry(path().expect("ours")).or_default().push(record);
                let sum = sums.entry(record.text("tunnel")).or_default();
                *sum = (sum.0 + record.number("sent"), sum.1 + record.number("received"));
            }
            "open" if !record["tunnel"].is_null() => *opens.entry(path().expect("ours")).or_default() += 1,
            "open" | "close" => {}
            _ => panic!("{record:?}"),
        }
    }
    for told in ended {
        let want = Exchange::of(told.number);
        let found = by_number.remove(&told.number).unwrap_or_default();
        let [record] = found.as_slice() else { panic!("{}: {found:?}", told.number) };
        let path = want.target.split('?').next().expect("a path");
        assert_eq!(record.text("method"), want.method, "{}", told.number);
        assert_eq!(record.text("target"), format!("https://{authority}{path}"), "{}", told.number);
        let told_of =
            |record: &Record| (record.number("status"), record.number("sent"), record.number("received"));
        assert_eq!(
            told_of(record),
            (u64::from(want.answer.status), told.sent, told.received),
            "{}: status, sent, received; {want:?} {record:?}",
            told.number
        );
        let with_body = usize::from(
            want.body.framing != Framing::None
                && !(want.body.framing == Framing::Length && want.body.bytes.is_empty()),
        );
        assert_eq!(opens.get(&told.number).copied().unwrap_or(0), with_body, "{}: {record:?}", told.number);
    }
    assert!(by_number.is_empty(), "records of what was not asked: {by_number:?}");
    for close in records.iter().filter(|record| record["event"] == "close") {
        let sum = sums.remove(close.text("id")).unwrap_or_default();
        assert_eq!((close.number("sent"), close.number("received")), sum, "{close:?}");
    }
    assert!(sums.is_empty(), "tunnels without an end: {sums:?}");
}
