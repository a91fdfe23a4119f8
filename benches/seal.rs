//! What a sealed record costs more than one that is not, in CPU time of the whole program, and how fast `verify` reads; in each format.
//!
//!     cargo bench --bench seal [RECORDS]      default 400,000, five times each, in turn

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egressd::commands::verify::{At, Book, Range};
use egressd::config::{OnLogFailure, Seal};
use egressd::telemetry::access_log::{AccessLog, Ecs, Finished, Format, Json, Ocsf, Options, Sealing, file};
use egressd::telemetry::record::{Event, LoggedTarget, Raw, Record, new_id};
use egressd::wire::seal::key::SealKey;
use egressd::words::outcome::Decision;
use egressd::words::target::Target;
use jiff::Timestamp;

/// CPU time of all threads, those that have ended included, in seconds: in steps of a hundredth.
fn cpu() -> f64 {
    let told = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = told.rsplit_once(") ").expect("a name in brackets");
    // `utime` and `stime`, fields 14 and 15 of proc(5).
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>()
        / 100.0
}

/// Writes so many records, and returns the CPU time of one, in microseconds.
fn write(path: &Path, records: usize, format: Box<dyn Format>, key: Option<&Arc<SealKey>>) -> f64 {
    let sealing = key.map(|key| Sealing {
        seal: Seal { key: Arc::clone(key), every: Duration::from_secs(10) },
        instance: "egressd-7f9c5d6b8-x2x7p".into(),
    });
    let options = Options { sealing, ..Options::new(10_000, OnLogFailure::Deny) };
    let (log, writer) = AccessLog::start(file(path).expect("opened"), format, options).expect("started");
    let target = Target::connect("git-codecommit.ap-northeast-1.amazonaws.com:443").expect("a target");
    let (id, time) = (new_id(), Timestamp::now());
    let before = cpu();
    for number in 0..records {
        let record = Record {
            target: Some(LoggedTarget::Connect(&target)),
            method: Some(Raw(b"CONNECT")),
            sni: Some(Raw(b"git-codecommit.ap-northeast-1.amazonaws.com")),
            policy: Some("gitaly"),
            rule: Some("https://git-codecommit.*.amazonaws.com"),
            decision: Some(Decision::Allow),
            user_agent: Some(Raw(b"git/2.47.3")),
            instance: Some("egressd-7f9c5d6b8-x2x7p"),
            status: Some(200),
            sent: Some(number as u64 * 17),
            received: Some(number as u64 * 1234),
            duration: Some(Duration::from_micros(number as u64 + 12_034)),
            ..Record::new(Event::Close, time, id, "proxy")
        };
        let place = loop {
            match log.reserve() {
                Ok(place) => break place,
                // The writer has to catch up: that is not measured.
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        place.write(black_box(&record));
    }
    assert_eq!(writer.finish(Duration::from_secs(60)), Finished::Flushed);
    (cpu() - before) * 1e6 / records as f64
}

fn main() {
    let records: usize = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(400_000);
    measure("json", records, || Box::new(Json));
    measure("ecs", records, || Box::new(Ecs));
    measure("ocsf", records, || Box::new(Ocsf));
}

fn measure(name: &str, records: usize, format: impl Fn() -> Box<dyn Format>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let key = Arc::new(SealKey::generate().expect("a key"));
    let (mut plain, mut sealed) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        for (key, into) in [(None, &mut plain), (Some(&key), &mut sealed)] {
            let _ = std::fs::remove_file(&path);
            into.push(write(&path, records, format(), key));
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (plain, sealed) = (median(&mut plain), median(&mut sealed));
    println!("{name}: a record {plain:.2} µs; sealed {sealed:.2} µs, {:.2} µs more", sealed - plain);

    let log = std::fs::read(&path).expect("readable");
    let (began, before) = (Instant::now(), cpu());
    let mut book = Book::new(vec![key.public().clone()], Range::default());
    for (line, text) in (1..).zip(log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())) {
        book.line(At { log: 0, line }, Some(text));
    }
    let (wall, megabytes) = (began.elapsed().as_secs_f64(), log.len() as f64 / 1e6);
    println!(
        "{name}: verify: {megabytes:.0} MB, {:.0} MB/s ({:.0} by CPU time)",
        megabytes / wall,
        megabytes / (cpu() - before)
    );
    println!("{name}: a sealed record has {} bytes", log.len() / records);
}
