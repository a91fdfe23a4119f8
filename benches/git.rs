//! What it costs to read and judge a push: a list of 4,000 commands, the most that one may have.
//!
//! `cargo bench --bench git` prints microseconds, the best of many rounds. The budget is 2 ms for reading the list and deciding
//! each change. The list is also read as it comes from the wire, in pieces, and the report of a refusal is written. At the end, each
//! change is compared with 1,000 patterns, of which the last alone fits: that is done in steps, and the longest of them is how long a worker
//! is kept from its other connections.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egressd::rules::git::{GitRule, Judging, RefPattern};
use egressd::wire::git::{Progress, PushList, PushReader, refusal};
use egressd::words::git::{Asks, Content, GitAsk, GitRequest, Operation, Repository, Service};

const REFS: usize = 4_000;
const ROUNDS: usize = 300;
/// The most patterns that a rule may have.
const PATTERNS: usize = 1_000;
/// What one read of TLS brings at most.
const PIECE: usize = 16 << 10;

fn main() {
    let body = body();
    let mut rule = GitRule::new(&[Operation::Push]);
    let patterns = ["refs/heads/main", "refs/heads/feature/*-x", "refs/heads/**", "refs/tags/**"];
    rule.refs = Some(patterns.iter().map(|text| RefPattern::parse(text).expect("a pattern")).collect());
    let list = read(&body);
    println!("{REFS} refs, {} bytes", body.len());
    row("read", || drop(black_box(read(black_box(&body)))));
    row("read in pieces of 16 KiB", || {
        let mut reader = PushReader::new();
        let ends = (PIECE..body.len()).step_by(PIECE).chain([body.len()]);
        let done = ends.map(|end| reader.read(&body[..end])).last();
        assert_eq!(done, Some(Ok(Progress::Done)));
    });
    row("decide", || assert!(rule.may_push(black_box(&list.changes)).is_ok()));
    row("read and decide", || assert!(rule.may_push(&read(black_box(&body)).changes).is_ok()));
    row("write the report", || {
        drop(black_box(refusal::push_report(&list.capabilities, &list.changes, "ref_not_allowed", |_| true)))
    });
    steps(&list);
}

fn steps(list: &PushList) {
    let mut rule = GitRule::new(&[Operation::Push]);
    let pattern = |number: usize| match number + 1 {
        PATTERNS => "refs/heads/feature/*-*".to_owned(),
        _ => format!("refs/heads/feature/*-x{number}"),
    };
    let patterns = (0..PATTERNS).map(|number| RefPattern::parse(&pattern(number)).expect("a pattern"));
    rule.refs = Some(patterns.collect());
    let rule = Arc::new(rule);
    let repository = Repository::new("/own", true).expect("a path");
    let ask = GitAsk {
        request: GitRequest { repository, asks: Asks::Rpc(Service::ReceivePack) },
        content: Content::Changes(list.changes.clone().into()),
    };
    // Of a few rounds, the one whose longest step is shortest.
    let round = || {
        let mut judging = Judging::new(&ask, std::iter::once(&rule)).expect("it changes something");
        let (mut longest, mut all) = (Duration::ZERO, Duration::ZERO);
        loop {
            let start = Instant::now();
            let is_done = judging.step();
            longest = longest.max(start.elapsed());
            all += start.elapsed();
            if is_done {
                assert_eq!(judging.into_judged().of(&rule), Some(None));
                return (longest, all);
            }
        }
    };
    let (longest, all) = (0..10).map(|_| round()).min().unwrap_or_default();
    println!("{:>8.1} µs  decide by {PATTERNS} patterns, in steps", all.as_secs_f64() * 1e6);
    println!("{:>8.1} µs  the longest step of it", longest.as_secs_f64() * 1e6);
}

fn row(what: &str, mut work: impl FnMut()) {
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    let best = best.min().unwrap_or(Duration::ZERO);
    println!("{:>8.1} µs  {what}", best.as_secs_f64() * 1e6);
}

fn read(body: &[u8]) -> PushList {
    let mut reader = PushReader::new();
    assert_eq!(reader.read(body), Ok(Progress::Done));
    reader.into_list()
}

/// As git writes it.
fn body() -> Vec<u8> {
    let mut body = Vec::new();
    for at in 0..REFS {
        let old = if at % 2 == 0 { "0".repeat(40) } else { format!("{at:040x}") };
        let capabilities = if at == 0 {
            "\0 report-status-v2 side-band-64k object-format=sha1 agent=git/2.39.5"
        } else {
            ""
        };
        let line = format!("{old} {:040x} refs/heads/feature/ticket-{at}{capabilities}", at + 1);
        body.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
    }
    body.extend_from_slice(b"0000PACK");
    body
}
