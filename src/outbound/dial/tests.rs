//! Dialling on loopback: names from a name server under the test's control, targets that answer, refuse or hang.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType::{A, AAAA};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::config::Dns;
use crate::outbound::resolve::SystemFiles;
use crate::outbound::resolve::test_server::{Say, TestServer, addresses, ips};
use crate::rules::address::admit;
use crate::transport::stream::Transport;
use crate::words::target::Name;

const LIMITS: DialLimits =
    DialLimits { dns_timeout: Duration::from_secs(5), connect_timeout: Duration::from_secs(5) };

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

struct Bench {
    server: TestServer,
    resolver: Resolver,
    private: Vec<IpNet>,
    own: OwnAddresses,
    limits: DialLimits,
}

impl Bench {
    /// Loopback is opened, other private networks are not.
    async fn new(
        script: impl Fn(&str, hickory_resolver::proto::rr::RecordType, usize) -> Say + Send + Sync + 'static,
    ) -> Self {
        let server = TestServer::start(script).await;
        let hosts = BTreeMap::from([(Name::parse("hosts.test").unwrap(), ips(&["10.0.0.1"]))]);
        let settings = Dns { servers: vec![server.address], hosts, timeout: Duration::from_secs(5) };
        let files = SystemFiles {
            resolv_conf: "/nonexistent".into(),
            hosts: "/nonexistent".into(),
            ..SystemFiles::default()
        };
        let resolver = Resolver::with_files(&settings, files).unwrap();
        let private = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        Bench { server, resolver, private, own: OwnAddresses::default(), limits: LIMITS }
    }

    async fn dial(&self, host: &str, port: u16) -> Result<Dialled, DialError> {
        let target = Target::connect(&format!("{host}:{port}")).unwrap();
        dial(&self.resolver, CLIENT, &target, |ip| admit(ip, &self.private), &self.own, self.limits).await
    }
}

async fn listen(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// An address whose connections hang: nothing accepts them, and the kernel's queue is full.
struct BlackHole {
    _sockets: Vec<socket2::Socket>,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        let new = || {
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap()
        };
        let listener = new();
        listener.set_reuse_address(true).unwrap();
        // A connection of another test may have come from this port just now: it ends soon.
        let bound = (0..3_000).any(|_| {
            let bound = listener.bind(&address.into()).is_ok();
            if !bound {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound
        });
        assert!(bound, "{address} stays taken");
        listener.listen(0).unwrap();
        let mut sockets = vec![listener];
        // A queue of 0 takes one connection; the rest wait for their SYN to be answered.
        for _ in 0..4 {
            let socket = new();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            sockets.push(socket);
        }
        BlackHole { _sockets: sockets }
    }
}

fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_literal_address_asks_no_dns_and_is_checked_all_the_same() {
    let bench = Bench::new(|_, _, _| addresses(&["127.0.0.1"])).await;
    let (_listener, port) = listen("127.0.0.1:0").await;
    let dialled = bench.dial("127.0.0.1", port).await.unwrap();
    assert_eq!(dialled.upstream, SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(dialled.local, dialled.stream.socket().local_addr().unwrap());
    assert_eq!(dialled.dns, Duration::ZERO);
    assert!(dialled.stream.socket().nodelay().unwrap(), "tuned");
    for literal in
        ["10.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]"]
    {
        let error = bench.dial(literal, port).await.unwrap_err();
        assert_eq!(error.reason, Reason::AddressProhibited, "{literal}");
        assert_eq!((error.dns, error.connect, error.upstream), (None, None, None), "{literal}");
    }
    assert_eq!(bench.server.asked(), []);
}

#[tokio::test]
async fn t36_rebinding_gains_nothing_each_answer_is_checked_and_what_was_checked_is_dialled() {
    let bench = Bench::new(|_, record_type, before| match (record_type, before) {
        (A, 0) => Say::Addresses(ips(&["127.0.0.1"]), 0),
        (A, _) => Say::Addresses(ips(&["10.0.0.1"]), 0),
        _ => Say::NoData(60),
    })
    .await;
    let (_listener, port) = listen("127.0.0.1:0").await;
    assert_eq!(bench.dial("rebind.test", port).await.unwrap().upstream.ip(), Ipv4Addr::LOCALHOST);
    assert_eq!(bench.server.count(A), 1, "no second lookup between check and dial");
    assert_eq!(bench.dial("rebind.test", port).await.unwrap_err().reason, Reason::AddressProhibited);
}

#[tokio::test]
async fn t37_mixed_answers_lose_the_bad_ones() {
    let bench = Bench::new(|_, record_type, _| match record_type {
        A => addresses(&["10.0.0.1", "169.254.169.254", "127.0.0.1"]),
        _ => addresses(&["fd00:ec2::254"]),
    })
    .await;
    let (_listener, port) = listen("127.0.0.1:0").await;
    let dialled = bench.dial("mixed.test", port).await.unwrap();
    assert_eq!(dialled.upstream.ip(), Ipv4Addr::LOCALHOST);
    assert_eq!(dialled.denied.count, 3);
}

#[tokio::test]
async fn t38_a_name_that_resolves_only_to_private_addresses_is_prohibited() {
    let sixty: Vec<IpAddr> = (1..=60).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    let bench = Bench::new(move |name, record_type, _| match (name, record_type) {
        ("alias.test.", A) => Say::Alias("internal.test.", 60, ips(&["10.0.0.1"]), 60),
        ("many.test.", A) => Say::Addresses(sixty.clone(), 60),
        ("six.test.", AAAA) => addresses(&["fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]),
        _ => Say::NoData(60),
    })
    .await;
    for (host, count) in [("alias.test", 1), ("many.test", 60), ("six.test", 3), ("hosts.test", 1)] {
        let error = bench.dial(host, 443).await.unwrap_err();
        assert_eq!(error.reason, Reason::AddressProhibited, "{host}");
        assert_eq!(error.denied.count, count, "{host}");
        assert!(error.denied.first.len() <= MAX_NAMED);
        assert!(error.dns.is_some() && error.connect.is_none(), "{host}");
    }
}

#[tokio::test]
async fn a_slow_aaaa_never_holds_up_an_a() {
    let never = Arc::new(Semaphore::new(0));
    let bench = Bench::new(move |_, record_type, _| match record_type {
        A => addresses(&["127.0.0.1"]),
        _ => Say::Held(never.clone(), Box::new(Say::NoData(60))),
    })
    .await;
    let (_listener, port) = listen("127.0.0.1:0").await;
    let dialled = bench.dial("slow.test", port).await.unwrap();
    assert!(dialled.dns >= RESOLUTION_DELAY, "AAAA had its chance: {:?}", dialled.dns);
    assert!(dialled.dns < RESOLUTION_DELAY + Duration::from_millis(200), "{:?}", dialled.dns);
}

#[tokio::test]
async fn ipv6_is_first_where_both_answer_and_goes_at_once_where_a_is_slow() {
    for is_slow in [false, true] {
        let never = Arc::new(Semaphore::new(0));
        let bench = Bench::new(move |_, record_type, _| match record_type {
            AAAA => addresses(&["::1"]),
            _ if is_slow => Say::Held(never.clone(), Box::new(Say::NoData(60))),
            _ => addresses(&["127.0.0.1"]),
        })
        .await;
        let (_six, port) = listen("[::1]:0").await;
        let dialled = bench.dial("both.test", port).await.unwrap();
        assert_eq!(dialled.upstream.ip().to_string(), "::1", "slow A: {is_slow}");
    }
}

#[tokio::test]
async fn a_broken_ipv6_route_costs_a_quarter_of_a_second() {
    let bench = Bench::new(|_, record_type, _| match record_type {
        A => addresses(&["127.0.0.1"]),
        _ => addresses(&["::1"]),
    })
    .await;
    let (_listener, port) = listen("127.0.0.1:0").await;
    let _hole = BlackHole::at(format!("[::1]:{port}").parse().unwrap());
    let dialled = bench.dial("broken.test", port).await.unwrap();
    assert_eq!(dialled.upstream.ip(), Ipv4Addr::LOCALHOST);
    assert!((ATTEMPT_DELAY..Duration::from_millis(400)).contains(&dialled.connect), "{:?}", dialled.connect);
}

#[tokio::test]
async fn the_next_address_is_tried_at_once_when_one_refuses() {
    let bench = Bench::new(|_, record_type, _| match record_type {
        A => addresses(&["127.0.0.2", "127.0.0.3", "127.0.0.1"]),
        _ => Say::NoData(60),
    })
    .await;
    let (_listener, port) = listen("127.0.0.1:0").await;
    let dialled = bench.dial("some.test", port).await.unwrap();
    assert_eq!(dialled.upstream.ip(), Ipv4Addr::LOCALHOST);
    assert!(dialled.connect < ATTEMPT_DELAY, "{:?}", dialled.connect);
}

#[tokio::test]
async fn an_aaaa_that_comes_late_joins_the_race() {
    let permits = Arc::new(Semaphore::new(0));
    let hold = permits.clone();
    let bench = Bench::new(move |_, record_type, _| match record_type {
        A => addresses(&["127.0.0.1"]),
        _ => Say::Held(hold.clone(), Box::new(addresses(&["::1"]))),
    })
    .await;
    // 127.0.0.1 refuses in one case and hangs in the other.
    for hangs in [false, true] {
        let (_six, port) = listen("[::1]:0").await;
        let _hole = hangs.then(|| BlackHole::at(format!("127.0.0.1:{port}").parse().unwrap()));
        let release = async {
            tokio::time::sleep(RESOLUTION_DELAY * 2).await;
            permits.add_permits(1);
        };
        let host = format!("late{port}.test");
        let (dialled, ()) = tokio::join!(bench.dial(&host, port), release);
        assert_eq!(dialled.unwrap().upstream.ip().to_string(), "::1", "hangs: {hangs}");
    }
}

#[tokio::test]
async fn a_closed_port_is_a_refusal_and_a_silent_one_is_a_timeout() {
    let mut bench = Bench::new(|_, record_type, _| match record_type {
        A => addresses(&["127.0.0.1", "127.0.0.2"]),
        _ => Say::NoData(60),
    })
    .await;
    let error = bench.dial("closed.test", closed_port()).await.unwrap_err();
    assert_eq!(error.reason, Reason::ConnectRefused);
    assert!(error.upstream.is_some() && error.connect.is_some() && error.dns.is_some());

    let (_taken, port) = listen("127.0.0.3:0").await;
    let _holes = ["127.0.0.1", "127.0.0.2"].map(|ip| BlackHole::at(format!("{ip}:{port}").parse().unwrap()));
    bench.limits.connect_timeout = Duration::from_millis(600);
    let started = Instant::now();
    let error = bench.dial("silent.test", port).await.unwrap_err();
    assert_eq!(error.reason, Reason::ConnectTimeout);
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(590)..Duration::from_millis(1200)).contains(&took),
        "one deadline: {took:?}"
    );

    // One hangs, one refuses: the refusal is the reason.
    drop(_holes);
    let _hole = BlackHole::at(format!("127.0.0.1:{port}").parse().unwrap());
    assert_eq!(bench.dial("mixed.test", port).await.unwrap_err().reason, Reason::ConnectRefused);
}

#[tokio::test]
async fn what_dns_says_is_the_reason_where_there_is_no_address() {
    let mut bench = Bench::new(|name, record_type, _| match (name, record_type) {
        ("none.test.", _) => Say::NoName(Some(60)),
        ("half.test.", A) => Say::NoName(Some(60)),
        ("half.test.", _) => Say::Code(ResponseCode::ServFail),
        ("empty.test.", _) => Say::NoData(60),
        ("broken.test.", A) => Say::NoData(60),
        ("broken.test.", _) => Say::Code(ResponseCode::Refused),
        _ => Say::Silence,
    })
    .await;
    bench.limits.dns_timeout = Duration::from_millis(300);
    #[rustfmt::skip]
    let rows = [
        ("none.test", Reason::DnsNoSuchName),
        ("half.test", Reason::DnsNoSuchName),
        ("empty.test", Reason::DnsNoAddress),
        ("broken.test", Reason::DnsFailed),
        ("silent.test", Reason::DnsTimeout),
    ];
    for (host, want) in rows {
        let started = Instant::now();
        let error = bench.dial(host, 443).await.unwrap_err();
        assert_eq!(error.reason, want, "{host}: {error}");
        assert!(error.dns.is_some() && error.connect.is_none(), "{host}");
        assert!(started.elapsed() < Duration::from_millis(800), "{host}: one deadline");
    }
}

#[tokio::test]
async fn t44_a_name_that_resolves_to_egressd_itself_is_a_loop() {
    let mut bench = Bench::new(|name, record_type, _| match (name, record_type) {
        ("self.test.", A) => addresses(&["127.0.0.1"]),
        ("both.test.", A) => addresses(&["127.0.0.1", "127.0.0.2"]),
        _ => Say::NoData(60),
    })
    .await;
    let (listener, port) = listen("127.0.0.1:0").await;
    let (_other, _) = listen(&format!("127.0.0.2:{port}")).await;
    bench.own = OwnAddresses::new([listener.local_addr().unwrap()]);
    assert_eq!(bench.dial("self.test", port).await.unwrap_err().reason, Reason::Loop);
    assert_eq!(bench.dial("127.0.0.1", port).await.unwrap_err().reason, Reason::Loop);
    assert_eq!(bench.dial("[::ffff:127.0.0.1]", port).await.unwrap_err().reason, Reason::Loop);
    let dialled = bench.dial("both.test", port).await.unwrap();
    assert_eq!(dialled.upstream.ip().to_string(), "127.0.0.2", "the others of its addresses are dialled");
    bench.own = OwnAddresses::new([SocketAddr::from(([0, 0, 0, 0], port))]);
    assert_eq!(bench.dial("both.test", port).await.unwrap_err().reason, Reason::Loop);
}

#[tokio::test]
async fn load_spreads_over_the_addresses_of_a_cached_answer() {
    let bench = Bench::new(|_, record_type, _| match record_type {
        A => addresses(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]),
        _ => Say::NoData(60),
    })
    .await;
    let (_any, port) = listen("0.0.0.0:0").await;
    let mut dialled = Vec::new();
    for _ in 0..4 {
        dialled.push(bench.dial("many.test", port).await.unwrap().upstream.ip().to_string());
    }
    assert_eq!(dialled, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]);
    assert_eq!(bench.server.asked().len(), 2);
}

#[tokio::test]
async fn the_future_of_a_dial_is_small_and_can_change_threads() {
    let bench = Bench::new(|_, _, _| Say::NoName(None)).await;
    let target = Target::connect("a.test:443").unwrap();
    let dialling = dial(&bench.resolver, CLIENT, &target, |ip| admit(ip, &[]), &bench.own, LIMITS);
    assert!(size_of_val(&dialling) <= 256, "{}", size_of_val(&dialling));
    drop(dialling);

    let task = tokio::spawn(async move {
        let target = Target::connect("a.test:443").unwrap();
        dial(&bench.resolver, CLIENT, &target, |ip| admit(ip, &bench.private), &bench.own, LIMITS)
            .await
            .map(|_| ())
    });
    assert_eq!(task.await.unwrap().unwrap_err().reason, Reason::DnsNoSuchName);
}

/// The slower family's answer is kept too, so that the next dial need not ask for it and wait for it again.
#[tokio::test]
async fn a_question_that_was_overtaken_goes_on_after_the_dial() {
    let permits = Arc::new(Semaphore::new(0));
    let hold = permits.clone();
    let bench = Bench::new(move |_, record_type, _| match record_type {
        AAAA => Say::Held(hold.clone(), Box::new(Say::NoData(60))),
        _ => addresses(&["127.0.0.1"]),
    })
    .await;
    let (_listener, port) = listen("127.0.0.1:0").await;
    bench.dial("late.test", port).await.unwrap();
    permits.add_permits(1);
    let name = Name::parse("late.test").unwrap();
    let answer = bench.resolver.lookup(&name, Family::V6, CLIENT).await;
    assert_eq!(answer.unwrap_err().reason, Reason::DnsNoAddress);
    assert_eq!(bench.server.count(AAAA), 1, "{:?}", bench.server.asked());
}
