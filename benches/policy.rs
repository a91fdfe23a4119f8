//! What a policy costs: time to load, memory, and nanoseconds for one decision.
//!
//! `cargo bench --bench policy` prints a table for 1, 1,000, 100,000 and 1,000,000 rules of each kind. The budgets are
//! 1 s and 110 MiB to load a million rules, 0.3 µs a decision with one rule and 1 µs with a million. Each row runs in a
//! process of its own, so that the memory is that of one policy. Times are this thread's CPU time if the kernel reports it,
//! so that other processes matter less; a decision is the best of several rounds. `-- --requests` prints the last lines alone:
//! decisions on requests.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use egressd::rules::{
    ClientMatch, HttpRequest, Mode, OptionsId, Origin, Policies, PolicyBuilder, RuleText, Schemes, Upgrade,
};
use egressd::words::client::Client;
use egressd::words::target::Target;
use jiff::Timestamp;

const KINDS: [&str; 4] = ["names", "suffixes", "networks", "mixed"];
const SIZES: [usize; 4] = [1, 1_000, 100_000, 1_000_000];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--row") {
        let size = arguments[at + 2].parse().expect("a number of rules");
        return row(&arguments[at + 1], size);
    }
    if arguments.iter().any(|argument| argument == "--requests") {
        return requests();
    }
    println!(
        "{:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "rules", "kind", "load ms", "MiB", "peak MiB", "allow ns", "deny ns"
    );
    let program = std::env::current_exe().expect("the path of this program");
    let rows = SIZES.into_iter().flat_map(|size| KINDS.map(|kind| (kind, size)));
    for (kind, size) in rows.chain([("patterns", 1_000)]) {
        let size = size.to_string();
        let status = std::process::Command::new(&program).args(["--row", kind, &size]).status();
        assert!(status.expect("this program runs").success());
    }
    requests();
}

/// One decision on a request by a rule of 100 entries, of which the last one fits, or none. The budget is 5 µs.
fn requests() {
    let entries: Vec<String> = (0..100)
        .map(|n| format!("{{methods: [GET, HEAD], paths: [\"/v1/p{n}/*/items-*\", \"/v1/p{n}/files/**\"]}}"))
        .collect();
    let text =
        format!("policies: [{{name: p, allow: [{{to: a.test, requests: [{}]}}]}}]", entries.join(", "));
    let policies = egressd::config::load_str("bench.yaml", &text, |_| Ok(Vec::new()))
        .expect("it is valid")
        .config
        .policies;
    let client = Client::direct(SocketAddr::from(([10, 0, 0, 1], 4711)));
    let target = Target::connect("a.test:443").expect("a target");
    let permit = policies.decide(&target, &client, Timestamp::UNIX_EPOCH).expect("allowed");
    for (case, path, allowed) in [
        ("the last fits", "/v1/p99/some-project/items-9", true),
        ("none fits", "/v1/p100/some-project/items-9", false),
    ] {
        let request = HttpRequest {
            method: "GET",
            path,
            query: None,
            upgrade: Upgrade::None,
            inspected: true,
            recognised: None,
        };
        let rounds = (0..9).map(|_| {
            // A permit is given away with each decision, so as many are made before.
            let permits = vec![permit.clone(); 10_000];
            let start = clock();
            for permit in permits {
                let verdict = policies.decide_request(permit, &target, black_box(&request));
                assert_eq!(black_box(verdict).is_ok(), allowed, "{path}");
            }
            (clock() - start).as_nanos() as f64 / 10_000.0
        });
        println!("100 entries, {case}: {:.0} ns", rounds.fold(f64::INFINITY, f64::min));
    }
}

fn row(kind: &str, size: usize) {
    let (policies, loaded) = load(kind, size);
    let (resident, peak) = memory();
    let allowed = time(&policies, |n| allowed_target(kind, spread(n, size)), true);
    let denied = time(&policies, |n| format!("h{n}.example.invalid:443"), false);
    println!(
        "{size:>9} {kind:>9} {:>9.1} {resident:>9.1} {peak:>9.1} {allowed:>9.0} {denied:>9.0}",
        loaded.as_secs_f64() * 1e3
    );
    let start = clock();
    drop(policies);
    let dropped = clock() - start;
    assert!(dropped < Duration::from_secs(1), "dropping took {dropped:?}");
}

/// Loads as `egressd::config` does: one line at a time, parsed and added, no line kept. Generating the lines is not counted.
fn load(kind: &str, size: usize) -> (Policies, Duration) {
    let mut builder = PolicyBuilder::new("bench", ClientMatch::default(), Mode::Enforce, Vec::new());
    let file = builder.file("/etc/egressd/allowlist.txt");
    let mut loaded = Duration::ZERO;
    let mut line = 0;
    for from in (0..size).step_by(1_000) {
        let texts: Vec<String> = (from..size.min(from + 1_000)).map(|n| rule(kind, n)).collect();
        let start = clock();
        for text in &texts {
            line += 1;
            let rule = RuleText::parse(text).expect("a rule");
            let origin = Origin { file, line, inline: false, text };
            builder.allow(&rule, Schemes::HTTPS, origin, OptionsId::default()).expect("room for it");
        }
        loaded += clock() - start;
    }
    let start = clock();
    let policies = Policies::new(vec![builder.build().expect("a policy")]);
    (policies, loaded + (clock() - start))
}

fn rule(kind: &str, n: usize) -> String {
    match (kind, n % 3) {
        ("names", _) | ("mixed", 0) => format!("git-{n}.eu-{}.example-{}.com", n % 19, n % 4999),
        ("suffixes", _) | ("mixed", 1) => format!("*.s{n}.example-{}.com", n % 4999),
        ("patterns", _) => format!("git-{n}.*.svc{}.example.com", n % 7),
        _ if n.is_multiple_of(2) => {
            format!("{}.{}.{}.{}", 11 + n / 2_500_000, n / 65_536 % 256, n / 256 % 256, n % 256)
        }
        _ => format!("[2001:db8:{:x}:{:x}::]/64", n >> 16, n & 0xffff),
    }
}

fn allowed_target(kind: &str, n: usize) -> String {
    match (kind, n % 3) {
        ("suffixes", _) | ("mixed", 1) => format!("a.b.s{n}.example-{}.com:443", n % 4999),
        ("patterns", _) => format!("git-{n}.eu-west-1.svc{}.example.com:443", n % 7),
        ("names", _) | ("mixed", 0) => format!("{}:443", rule(kind, n)),
        _ if n.is_multiple_of(2) => format!("{}:443", rule(kind, n)),
        _ => format!("{}:443", rule(kind, n).replace("::]/64", "::9]")),
    }
}

/// Walks over all rules in an order that no cache can predict.
fn spread(n: usize, size: usize) -> usize {
    n.wrapping_mul(7_368_787) % size
}

/// This thread's CPU time; wall-clock time if the kernel does not report it.
fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next().and_then(|nanos| nanos.parse().ok()));
    nanos.map_or(elapsed, Duration::from_nanos)
}

/// Nanoseconds for one decision, the best of several rounds over prepared targets.
fn time(policies: &Policies, target: impl Fn(usize) -> String, allowed: bool) -> f64 {
    let client = Client::direct(SocketAddr::from(([10, 0, 0, 1], 4711)));
    let targets: Vec<Target> = (0..100_000).map(|n| Target::connect(&target(n)).expect("a target")).collect();
    (0..9)
        .map(|_| {
            let start = clock();
            for target in &targets {
                let verdict = policies.decide(black_box(target), &client, Timestamp::UNIX_EPOCH);
                assert_eq!(black_box(verdict).is_ok(), allowed, "{target}");
            }
            (clock() - start).as_nanos() as f64 / targets.len() as f64
        })
        .fold(f64::INFINITY, f64::min)
}

/// Resident memory now and at its highest, in MiB.
fn memory() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.trim().parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    };
    (field("VmRSS:"), field("VmHWM:"))
}
