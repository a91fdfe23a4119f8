//! Loads whose instructions can be counted: the same work each time, no clock and no network.
//!
//! ```text
//! cargo bench --bench instructions -- decide-1     TIMES     one decision of a policy of one rule
//! cargo bench --bench instructions -- decide-10000 TIMES     the same with 10,000 rules, half names and half suffixes
//! cargo bench --bench instructions -- client-hello TIMES     one captured ClientHello, parsed
//! cargo bench --bench instructions -- log-record   TIMES     the closing record of a tunnel, as JSON to memory
//! ```
//!
//! It prints nothing: `tests/long/instructions` runs it under callgrind, a number of times and twice as often, and takes the
//! difference, so that what is done once falls out.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;
use std::process::exit;
use std::time::Duration;

use egressd::config;
use egressd::telemetry::record::{Event, LoggedTarget, Raw, Record};
use egressd::wire::client_hello::{ClientHelloReader, Progress};
use egressd::words::client::Client;
use egressd::words::target::Target;
use jiff::Timestamp;
use uuid::Uuid;

/// Names that are asked for in turn.
const ASKED: usize = 500;
const HELLO: &[u8] = include_bytes!("../tests/testdata/client_hello/openssl.bin");

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (load, times) = match &arguments[..] {
        // `cargo bench` runs every target: nothing to do without a load.
        [] => return println!("instructions: give a load; tests/long/instructions does"),
        [load, times] => (load.as_str(), times.parse().unwrap_or(0)),
        _ => ("", 0),
    };
    match load {
        "decide-1" => decide(1, times),
        "decide-10000" => decide(10_000, times),
        "client-hello" => client_hello(times),
        "log-record" => log_record(times),
        _ => {
            eprintln!("instructions: LOAD TIMES; the loads are at the top of benches/instructions.rs");
            exit(2)
        }
    }
}

fn decide(rules: usize, times: usize) {
    let mut list = String::new();
    for n in 0..rules {
        let wild = if n.is_multiple_of(2) { "" } else { "*." };
        writeln!(list, "{wild}git-{n}.eu-{}.example-{}.com", n % 19, n % 499).expect("into memory");
    }
    let file = b"policies: [{name: bench, allow_files: [list]}]";
    let loaded = config::load_bytes("bench.yaml", file, |_| Ok(list.clone().into_bytes()));
    let policies = loaded.expect("a configuration").config.policies;
    let targets: Vec<Target> = (0..ASKED)
        .map(|n| {
            let n = n * 7_368_787 % rules;
            let below = if n.is_multiple_of(2) { "" } else { "a.b." };
            let name = format!("{below}git-{n}.eu-{}.example-{}.com:443", n % 19, n % 499);
            Target::connect(&name).expect("a target")
        })
        .collect();
    let client = Client::direct(SocketAddr::from(([10, 0, 0, 1], 4711)));
    for target in targets.iter().cycle().take(times) {
        let decided = policies.decide(black_box(target), &client, Timestamp::UNIX_EPOCH);
        assert!(black_box(decided).is_ok(), "{target}");
    }
}

fn client_hello(times: usize) {
    for _ in 0..times {
        let mut reader = ClientHelloReader::new();
        assert!(matches!(black_box(reader.read(black_box(HELLO))), Progress::Hello(_)));
    }
}

fn log_record(times: usize) {
    let target = Target::connect("git-codecommit.eu-west-1.amazonaws.com:443").expect("a target");
    let client = Client::direct(SocketAddr::from(([10, 0, 0, 1], 4711)));
    let time = Timestamp::from_microsecond(1_767_225_599_123_456).expect("a time");
    let mut record = Record::new(Event::Close, time, Uuid::from_u128(0x0198_c0de_7000_8000), "proxy");
    record.client = Some(client.address);
    record.peer = Some(client.peer);
    record.method = Some(Raw(b"CONNECT"));
    record.target = Some(LoggedTarget::Connect(&target));
    record.sni = Some(Raw(b"git-codecommit.eu-west-1.amazonaws.com"));
    record.policy = Some("default");
    record.rule = Some("git-codecommit.*.amazonaws.com");
    record.upstream = Some(SocketAddr::from(([52, 94, 5, 17], 443)));
    record.upstream_local = Some(SocketAddr::from(([10, 0, 7, 3], 40_123)));
    record.status = Some(200);
    record.sent = Some(48_213);
    record.received = Some(7_340_032);
    record.duration = Some(Duration::from_micros(12_345_678));
    record.dns = Some(Duration::from_micros(1_234));
    record.connect = Some(Duration::from_micros(5_678));
    record.user_agent = Some(Raw(b"git/2.47.3"));
    let mut line = Vec::new();
    for _ in 0..times {
        line.clear();
        black_box(&record).write_json(black_box(&mut line));
    }
    assert!(times == 0 || line.len() > 500, "a whole line: {}", line.len());
}
