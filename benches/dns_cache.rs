//! The cache of DNS answers, written by hand, beside the same on moka: what a lookup and an entry cost.
//!
//! `cargo bench --bench dns_cache` first holds both to one contract, then prints a row for each: nanoseconds of this thread's CPU
//! for a lookup that is answered from the cache, and for a name that is new to a full one; lookups a second of two threads at once;
//! bytes of 10,000 entries, without their names. Each figure is the median of nine rounds, in which the two take turns. Memory is
//! that of a process of its own.

use std::future::Future;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use egressd::outbound::resolve::{Answer, Family};
// The cache names them by `crate::`.
use egressd::words::target::Name;
use egressd::{outbound, words};
use tokio::runtime::{Builder, Runtime};

/// As the cache names what its parent has.
mod answer {
    pub(crate) use egressd::outbound::resolve::{Answer, Family};
}
#[path = "../src/outbound/resolve/cache.rs"]
#[allow(dead_code, unused_imports, reason = "its own tests stand in the file, and are compiled there")]
mod cache;
#[path = "dns_cache/with_moka.rs"]
mod with_moka;

use cache::{Cache, Claim, Keep};
use with_moka::Moka;

const ROUNDS: usize = 9;
const ENTRIES: usize = 10_000;
/// As the resolver has it.
const CAPACITY: usize = 4_096;
const LOOKUPS: usize = 400_000;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const DAY: Keep = Keep::For(Duration::from_secs(86_400));

#[derive(Clone)]
enum Either {
    ByHand(Arc<Cache>),
    Moka(Arc<Moka>),
}

impl Either {
    fn both(capacity: usize) -> [Either; 2] {
        [Either::ByHand(Cache::new(capacity)), Either::Moka(Moka::new(capacity))]
    }

    fn kind(&self) -> &'static str {
        match self {
            Either::ByHand(_) => "by hand",
            Either::Moka(_) => "moka",
        }
    }

    /// As `Resolver::lookup`: a kept answer, or one that is waited for.
    async fn lookup<A>(&self, name: &Name, family: Family, ask: impl FnOnce() -> A + Send + 'static) -> Answer
    where
        A: Future<Output = (Answer, Keep)> + Send + 'static,
    {
        let cache = match self {
            Either::ByHand(cache) => cache,
            Either::Moka(moka) => return moka.lookup(name, family, ask).await,
        };
        let waiting = match cache.claim(name, family, CLIENT) {
            Claim::Known(answer) => return answer,
            Claim::Asked(_, waiting) => waiting,
            Claim::Ours(ticket, waiting) => {
                waiting.begin(async move {
                    let (answer, keep) = ask().await;
                    ticket.answer(answer, keep);
                });
                waiting
            }
        };
        waiting.wait().await.expect("the question is answered")
    }

    fn forget(&self) {
        match self {
            Either::ByHand(cache) => cache.forget(),
            Either::Moka(moka) => moka.forget(),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--memory") {
        return memory(arguments[at + 1] == "moka");
    }
    for subject in Either::both(100) {
        // A clock that stands still until it is moved.
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(contract(&subject));
    }
    let mut rows: [[Vec<f64>; 4]; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (subject, figures) in Either::both(CAPACITY).into_iter().zip(&mut rows) {
            figures[0].push(hits(&subject));
            figures[1].push(two_threads(&subject));
            figures[2].push(new_names(&subject));
            figures[3].push(bytes(subject.kind()));
        }
    }
    println!(
        "{:>8} {:>9} {:>16} {:>9} {:>20}",
        "", "hit ns", "2 threads Mhit/s", "new ns", "bytes/10,000 entries"
    );
    for (subject, figures) in Either::both(1).iter().zip(rows) {
        let [hit, threads, new, bytes] = figures.map(median);
        println!("{:>8} {hit:>9.0} {threads:>16.2} {new:>9.0} {bytes:>20.0}", subject.kind());
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn names(count: usize) -> Vec<Name> {
    (0..count)
        .map(|n| Name::parse(&format!("git-{n}.region-{}.example.com", n % 19)).expect("a name"))
        .collect()
}

fn address(last: u8) -> Answer {
    Ok(Arc::from([IpAddr::from([8, 8, 8, last])]))
}

/// The CPU time of this thread.
fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next().and_then(|nanos| nanos.parse().ok()));
    nanos.map_or(elapsed, Duration::from_nanos)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

async fn fill(subject: &Either, names: &[Name]) {
    for name in names {
        let answer = subject.lookup(name, Family::V4, || async { (address(8), DAY) }).await;
        assert!(answer.is_ok());
    }
}

/// Names in an order that no cache of the processor foresees.
async fn ask_for(subject: &Either, names: &[Name]) {
    for n in 0..LOOKUPS {
        let name = &names[n.wrapping_mul(2_654_435_761) % names.len()];
        let answer = subject.lookup(name, Family::V4, || async { (address(9), DAY) }).await;
        black_box(answer.is_ok());
    }
}

/// CPU nanoseconds of a lookup that is answered from the cache.
fn hits(subject: &Either) -> f64 {
    // Some fewer than fit: moka, which may refuse an entry, then keeps them all as well.
    let names = names(CAPACITY / 2);
    runtime().block_on(async {
        fill(subject, &names).await;
        let start = clock();
        ask_for(subject, &names).await;
        (clock() - start).as_nanos() as f64 / LOOKUPS as f64
    })
}

/// Millions of lookups a second of two threads, after [`hits`].
fn two_threads(subject: &Either) -> f64 {
    let names = &names(CAPACITY / 2);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| runtime().block_on(ask_for(subject, names)));
        }
    });
    2.0 * LOOKUPS as f64 / start.elapsed().as_secs_f64() / 1e6
}

/// CPU nanoseconds of a name that is new, the answer at once, in a cache that is full.
fn new_names(subject: &Either) -> f64 {
    let names = names(CAPACITY * 10);
    runtime().block_on(async {
        fill(subject, &names[..CAPACITY * 2]).await;
        let start = clock();
        fill(subject, &names[CAPACITY * 2..]).await;
        (clock() - start).as_nanos() as f64 / (CAPACITY * 8) as f64
    })
}

fn bytes(kind: &str) -> f64 {
    let program = std::env::current_exe().expect("the path of this program");
    let shown = std::process::Command::new(program).args(["--memory", kind]).output().expect("it runs");
    String::from_utf8_lossy(&shown.stdout).trim().parse().expect("a number")
}

/// Prints how many bytes are resident more with the entries than without.
fn memory(moka: bool) {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kB") * 1024
    };
    let names = names(ENTRIES);
    runtime().block_on(async {
        let [by_hand, with_moka] = Either::both(ENTRIES * 2);
        let subject = if moka { with_moka } else { by_hand };
        // The runtime's own, once.
        fill(&subject, &names[..1]).await;
        let before = resident();
        fill(&subject, &names).await;
        if let Either::Moka(moka) = &subject {
            assert_eq!(moka.len().await, ENTRIES as u64);
        }
        println!("{}", resident() - before);
    });
}

/// What both promise to those who ask.
async fn contract(subject: &Either) {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let asked = || ASKED.swap(0, Ordering::Relaxed);
    let lookup = |name: &Name, keep: Keep, last: u8| {
        let (subject, name) = (subject.clone(), name.clone());
        async move {
            let ask = move || async move {
                ASKED.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                (address(last), keep)
            };
            subject.lookup(&name, Family::V4, ask).await
        }
    };
    let [name, dropped, failing, zero, changed] = &names(5)[..] else { panic!("five names") };
    let minute = Keep::For(Duration::from_secs(60));
    let kind = subject.kind();

    // One question however many wait, and the answer is kept for its time.
    let waiting: Vec<_> = (0..100).map(|_| tokio::spawn(lookup(name, minute, 1))).collect();
    for waits in waiting {
        assert_eq!(waits.await.expect("no panic"), address(1), "{kind}");
    }
    assert_eq!(asked(), 1, "{kind}: asked once");
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(lookup(name, minute, 2).await, address(1), "{kind}: kept");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(lookup(name, minute, 2).await, address(2), "{kind}: no longer kept");
    assert_eq!(asked(), 1, "{kind}");

    // The only one that waits leaves: the question ends.
    let leaves = tokio::time::timeout(Duration::from_millis(1), lookup(dropped, minute, 3)).await;
    assert!(leaves.is_err(), "{kind}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(lookup(dropped, minute, 4).await, address(4), "{kind}: asked anew");
    assert_eq!(asked(), 2, "{kind}");

    // Failures are kept for 1, 2, 4, 5 and 5 seconds.
    for seconds in [1, 2, 4, 5, 5] {
        lookup(failing, Keep::Failure, 5).await.expect("it stands for one");
        tokio::time::advance(Duration::from_millis(seconds * 1_000 - 1)).await;
        lookup(failing, Keep::Failure, 5).await.expect("it stands for one");
        assert_eq!(asked(), 1, "{kind}: {seconds} s");
        tokio::time::advance(Duration::from_millis(1)).await;
    }

    // A TTL of zero is for those who wait, and nobody else.
    for _ in 0..2 {
        lookup(zero, Keep::For(Duration::ZERO), 6).await.expect("an answer");
    }
    assert_eq!(asked(), 2, "{kind}: zero");

    // The servers change while one is asked: its answer is told and not kept.
    let before = tokio::spawn(lookup(changed, minute, 7));
    tokio::time::sleep(Duration::from_millis(5)).await;
    subject.forget();
    assert_eq!(before.await.expect("no panic"), address(7), "{kind}");
    assert_eq!(lookup(changed, minute, 8).await, address(8), "{kind}: of the servers of now");
    assert_eq!(asked(), 2, "{kind}");

    // Bounded.
    fill(subject, &names(1_000)).await;
    let entries = match subject {
        Either::ByHand(cache) => cache.len() as u64,
        Either::Moka(moka) => moka.len().await,
    };
    assert!(entries <= 100, "{kind}: {entries} entries");
}
