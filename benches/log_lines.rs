//! What a line of the access log costs: to write, and to read back by hand or by serde_json.
//!
//! `cargo bench --bench log_lines [-- MB]` makes a log of 100 MB in memory, with the log's own writer, and reads it whole,
//! five times each, one after the other: by the scanner of [`egressd::commands::logs`], and by serde_json into a struct that
//! borrows from the line. Both find the same lines and check that they are UTF-8; serde_json is spared the calendar. The
//! figures are medians, of this thread's CPU where the kernel tells, so that neighbours count less.
//!
//! serde_json is built for size in egressd, where it has nothing to do that must be quick. To see it at its best:
//! `cargo bench --bench log_lines --config 'profile.bench.package.serde_json.opt-level=3'`.

use std::borrow::Cow;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use egressd::commands::logs::Entry;
use egressd::config::ShortHash;
use egressd::rules::{Mode, RuleSource};
use egressd::telemetry::record::{Event, LoggedTarget, Record, new_id};
use egressd::words::client::{ClientAddr, PeerAddr};
use egressd::words::outcome::{Decision, Ending, Reason};
use egressd::words::target::Target;
use jiff::{SignedDuration, Timestamp};

const ROUNDS: usize = 5;

fn main() {
    let megabytes = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(100);
    let (log, lines, nanos) = write(megabytes * 1_000_000);
    println!("written: {lines} lines of {} bytes, {nanos:.0} ns each", log.len() / lines);
    let mut speeds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let (by_hand, found) = read(&log, |line| {
            let entry = Entry::parse(line)?;
            let target = entry.target.map_or(0, |text| text.decoded().len());
            Some((entry.event?, target, entry.sent, entry.received))
        });
        let (by_serde, also_found) = read(&log, |line| {
            let line: Line<'_> = serde_json::from_str(std::str::from_utf8(line).ok()?).ok()?;
            let event = Event::ALL.iter().copied().find(|event| event.as_str() == line.event.0)?;
            let line = black_box(line);
            Some((event, line.target.map_or(0, |text| text.0.len()), line.sent, line.received))
        });
        assert_eq!(found, also_found, "both read the same");
        assert_eq!(found.lines, lines);
        speeds[0].push(by_hand);
        speeds[1].push(by_serde);
    }
    for (by, mut speeds) in ["by hand", "by serde_json"].into_iter().zip(speeds) {
        speeds.sort_by(f64::total_cmp);
        println!("read {by}: {:.0} MB/s", speeds[ROUNDS / 2]);
    }
}

/// What the commands make something of, borrowed where no character is escaped.
#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "to be read is what costs")]
struct Line<'l> {
    #[serde(borrow)]
    time: Option<Text<'l>>,
    #[serde(borrow)]
    event: Text<'l>,
    #[serde(borrow)]
    client: Option<Text<'l>>,
    #[serde(borrow)]
    identity: Option<Text<'l>>,
    #[serde(borrow)]
    method: Option<Text<'l>>,
    #[serde(borrow)]
    target: Option<Text<'l>>,
    #[serde(borrow)]
    sni: Option<Text<'l>>,
    #[serde(borrow)]
    policy: Option<Text<'l>>,
    #[serde(borrow)]
    rule: Option<Text<'l>>,
    #[serde(borrow)]
    decision: Option<Text<'l>>,
    #[serde(borrow)]
    reason: Option<Text<'l>>,
    #[serde(borrow)]
    upstream: Option<Text<'l>>,
    sent: Option<u64>,
    received: Option<u64>,
}

/// An `Option` of a `Cow` alone would always be copied.
#[derive(serde::Deserialize)]
struct Text<'l>(#[serde(borrow)] Cow<'l, str>);

/// What was found, to hold one reader against the other.
#[derive(PartialEq, Eq, Default, Debug)]
struct Found {
    lines: usize,
    opened: usize,
    target_bytes: usize,
    bytes: u64,
}

/// MB/s of one pass over the log.
fn read(
    log: &[u8],
    parse: impl Fn(&[u8]) -> Option<(Event, usize, Option<u64>, Option<u64>)>,
) -> (f64, Found) {
    let (start, mut found, mut rest) = (clock(), Found::default(), log);
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        let (event, target, sent, received) = parse(black_box(line)).expect("a record");
        found.lines += 1;
        found.opened += usize::from(event == Event::Open);
        found.target_bytes += target;
        found.bytes += sent.unwrap_or(0) + received.unwrap_or(0);
    }
    (log.len() as f64 / 1e6 / (clock() - start).as_secs_f64(), found)
}

/// A log of that many bytes, its lines, and how long one took to write.
fn write(size: usize) -> (Vec<u8>, usize, f64) {
    let targets: Vec<Target> = (0..40_000)
        .map(|n| Target::connect(&format!("host{n}.region{}.example.net:443", n % 7)).expect("a target"))
        .collect();
    let source = RuleSource { file: "/etc/egressd/egressd.yaml".into(), line: 12 };
    let (mut log, mut lines, start) = (Vec::with_capacity(size + 2048), 0_usize, clock());
    let (mut time, id) = (Timestamp::from_second(1_772_366_400).expect("a moment"), new_id());
    while log.len() < size {
        let n = lines / 2;
        // In an order that no cache foresees.
        let target = &targets[n.wrapping_mul(7_368_787) % targets.len()];
        let [.., a, b, c] = n.to_be_bytes();
        let record = |event| Record {
            client: Some(ClientAddr::new(SocketAddr::from(([10, a, b, c], 40_000)))),
            peer: Some(PeerAddr::new(SocketAddr::from(([10, 0, 9, 4], 43_120)))),
            method: Some("CONNECT".into()),
            target: Some(LoggedTarget::Connect(target)),
            policy: Some("gitaly"),
            mode: Some(Mode::Enforce),
            duration: Some(Duration::from_micros(1_234_123)),
            user_agent: Some("git/2.47.3".into()),
            config: Some(ShortHash([0x01, 0x23, 0x45, 0x67, 0x89, 0xab])),
            instance: Some("egressd-7f9c5d6b8-x2x7p"),
            ..Record::new(event, time, id, "proxy")
        };
        if n % 10 == 0 {
            let denied = Record {
                decision: Some(Decision::Deny),
                reason: Some(Reason::HostNotAllowed.into()),
                status: Some(403),
                ..record(Event::Deny)
            };
            denied.write_json(&mut log);
            denied.write_json(&mut log);
        } else {
            let opened = Record {
                sni: Some("host.region.example.net".into()),
                rule: Some("*.example.net"),
                rule_source: Some(&source),
                decision: Some(Decision::Allow),
                upstream: Some(SocketAddr::from(([52, a, b, c], 443))),
                upstream_local: Some(SocketAddr::from(([10, 0, 3, 4], 41_234))),
                status: Some(200),
                dns: Some(Duration::from_micros(1_234)),
                connect: Some(Duration::from_millis(8)),
                ..record(Event::Open)
            };
            opened.write_json(&mut log);
            let (event, ending) = (Event::Close, Some(Ending::ClientClosed));
            Record { event, ending, sent: Some(812_345), received: Some(4_211), ..opened }
                .write_json(&mut log);
        }
        lines += 2;
        time += SignedDuration::from_millis(17);
    }
    let nanos = (clock() - start).as_nanos() as f64 / lines as f64;
    (log, lines, nanos)
}

/// This thread's time on the CPU; where the kernel does not tell, time as it passes.
fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next().and_then(|nanos| nanos.parse().ok()));
    nanos.map_or(elapsed, Duration::from_nanos)
}
