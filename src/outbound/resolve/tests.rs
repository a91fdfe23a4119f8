//! The resolver against a name server under the test's control: what is answered, and what was asked.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType::{A, AAAA};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::test_server::{Question, Say, TestServer, addresses, ips};
use super::*;
use crate::words::outcome::Reason;

const TIMEOUT: Duration = Duration::from_secs(10);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn settings(servers: &[SocketAddr], timeout: Duration) -> Dns {
    Dns { servers: servers.to_vec(), hosts: BTreeMap::new(), timeout }
}

fn no_files() -> SystemFiles {
    SystemFiles { resolv_conf: "/nonexistent".into(), hosts: "/nonexistent".into(), ..SystemFiles::default() }
}

/// A resolver that asks `servers` and knows no hosts.
fn asking(servers: &[&TestServer], timeout: Duration) -> Resolver {
    let servers: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    Resolver::with_files(&settings(&servers, timeout), no_files()).unwrap()
}

/// The answer as text: addresses, or the reason.
async fn ask(resolver: &Resolver, text: &str, family: Family) -> String {
    match resolver.lookup(&name(text), family, CLIENT).await {
        Ok(list) => list.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.reason.to_string(),
    }
}

#[tokio::test]
async fn what_a_server_says_becomes_addresses_or_a_reason() {
    let cut = || Say::Truncated(Box::new(addresses(&["8.8.8.8"])));
    let sixty: Vec<String> = (1..=60).map(|number| format!("8.8.8.{number}")).collect();
    let sixty_ips: Vec<&str> = sixty.iter().map(String::as_str).collect();
    let sixty_text = sixty.join(" ");
    #[rustfmt::skip]
    let rows: Vec<(Say, &str, usize)> = vec![
        // What the server says, the result, and how many questions it took.
        (addresses(&["8.8.8.8", "10.0.0.1"]), "8.8.8.8 10.0.0.1", 1),
        (addresses(&["8.8.8.8", "8.8.8.8"]), "8.8.8.8", 1),
        (addresses(&["2a05::1"]), "dns_no_address", 1),
        (addresses(&sixty_ips), &sixty_text, 1),
        (Say::Alias("private.test.", 60, ips(&["10.0.0.1"]), 60), "10.0.0.1", 1),
        (Say::Alias("nowhere.test.", 60, vec![], 60), "dns_no_address", 1),
        (Say::Foreign(ips(&["8.8.8.8"])), "dns_no_address", 1),
        (Say::NoData(60), "dns_no_address", 1),
        (Say::NoName(Some(60)), "dns_no_such_name", 1),
        (Say::NoName(None), "dns_no_such_name", 1),
        (Say::Code(ResponseCode::ServFail), "dns_failed", 1),
        (Say::Code(ResponseCode::Refused), "dns_failed", 1),
        (Say::Code(ResponseCode::FormErr), "dns_failed", 1),
        (Say::Code(ResponseCode::NotImp), "dns_failed", 1),
        (Say::LyingLength, "dns_failed", 1),
        (cut(), "8.8.8.8", 2),
        (Say::Truncated(Box::new(addresses(&sixty_ips))), &sixty_text, 2),
        (Say::Truncated(Box::new(Say::NoName(None))), "dns_no_such_name", 2),
        (Say::Forged("10.6.6.6".parse().unwrap(), Box::new(addresses(&["8.8.8.8"]))), "8.8.8.8", 1),
        (Say::Forged("10.6.6.6".parse().unwrap(), Box::new(Say::NoName(None))), "dns_no_such_name", 1),
    ];
    for (index, (say, want, questions)) in rows.into_iter().enumerate() {
        let server = TestServer::start(move |_, _, _| say.clone()).await;
        let resolver = asking(&[&server], TIMEOUT);
        assert_eq!(ask(&resolver, "a.test", Family::V4).await, want, "row {index}");
        assert_eq!(server.asked().len(), questions, "row {index}: {:?}", server.asked());
    }
}

#[tokio::test]
async fn a_failure_names_the_server_and_says_what_it_did() {
    let rows = [
        (Say::Code(ResponseCode::ServFail), "it answered SERVFAIL: it could not find out"),
        (Say::Code(ResponseCode::Refused), "it answered REFUSED: it does not serve this client or this name"),
        (Say::Code(ResponseCode::NotAuth), "it answered with the error 9 (Not authorized)"),
        (Say::LyingLength, "its answer is malformed: incorrect rdata length read: 4 expected: 65535"),
    ];
    for (say, want) in rows {
        let server = TestServer::start(move |_, _, _| say.clone()).await;
        let error =
            asking(&[&server], TIMEOUT).lookup(&name("a.test"), Family::V4, CLIENT).await.unwrap_err();
        assert_eq!(*error.detail, *format!("{}: {want}", server.address));
    }
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_over_tcp() {
    let server = TestServer::start(|_, _, _| Say::Truncated(Box::new(addresses(&["8.8.8.8"])))).await;
    let resolver = asking(&[&server], TIMEOUT);
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "8.8.8.8");
    let asked = |tcp| Question { name: "a.test.".to_owned(), record_type: A, tcp };
    assert_eq!(server.asked(), [asked(false), asked(true)]);
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_at_the_deadline() {
    let server = TestServer::start(|_, _, _| Say::Silence).await;
    let resolver = asking(&[&server], Duration::from_millis(900));
    tokio::time::pause();
    let started = Instant::now();
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "dns_timeout");
    assert!((850..902).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails_or_is_silent_and_stays_first() {
    for say in [Say::Code(ResponseCode::ServFail), Say::Code(ResponseCode::Refused), Say::Silence] {
        let is_silent = matches!(say, Say::Silence);
        let bad = TestServer::start(move |_, _, _| say.clone()).await;
        let good = TestServer::start(|_, _, _| addresses(&["8.8.8.8"])).await;
        let resolver = asking(&[&bad, &good], Duration::from_secs(4));
        assert_eq!(ask(&resolver, "a.test", Family::V4).await, "8.8.8.8");
        let before = bad.asked().len();
        assert!(if is_silent { before >= 1 } else { before == 1 });
        assert_eq!(ask(&resolver, "b.test", Family::V4).await, "8.8.8.8");
        assert_eq!(good.asked().len(), 2);
        assert_eq!(bad.asked().len(), before, "the server that answered is asked first from then on");
    }
}

#[tokio::test]
async fn no_such_name_is_final_and_no_other_server_is_asked() {
    let first = TestServer::start(|_, _, _| Say::NoName(Some(60))).await;
    let second = TestServer::start(|_, _, _| addresses(&["8.8.8.8"])).await;
    let resolver = asking(&[&first, &second], TIMEOUT);
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "dns_no_such_name");
    assert_eq!(second.asked(), []);
}

#[tokio::test]
async fn t33_names_are_absolute_whatever_resolv_conf_says() {
    let server = TestServer::start(|name, _, _| match name {
        "git-codecommit.us-east-1.amazonaws.com." => addresses(&["52.94.1.1", "2a05::1"]),
        _ => addresses(&["6.6.6.6"]),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    let content = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
                   nameserver 127.0.0.1\noptions ndots:5\n";
    fs::write(&resolv_conf, content).unwrap();
    let files = SystemFiles { resolv_conf, port: server.address.port(), ..no_files() };
    let resolver = Resolver::with_files(&settings(&[], TIMEOUT), files).unwrap();
    let host = "git-codecommit.us-east-1.amazonaws.com";
    assert_eq!(ask(&resolver, host, Family::V4).await, "52.94.1.1");
    assert_eq!(ask(&resolver, host, Family::V6).await, "2a05::1");
    let asked = |record_type| Question { name: format!("{host}."), record_type, tcp: false };
    assert_eq!(server.asked(), [asked(A), asked(AAAA)], "one query per family");
    assert_eq!(ask(&resolver, "kubernetes", Family::V4).await, "6.6.6.6");
    assert_eq!(server.asked().last().unwrap().name, "kubernetes.");
}

#[tokio::test]
async fn callers_that_ask_the_same_at_once_wait_for_one_answer() {
    let permits = Arc::new(Semaphore::new(0));
    let hold = permits.clone();
    let server = TestServer::start(move |_, _, _| {
        Say::Held(hold.clone(), Box::new(Say::Addresses(ips(&["8.8.8.8"]), 0)))
    })
    .await;
    let resolver = asking(&[&server], TIMEOUT);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { ask(&resolver, "a.test", Family::V4).await })
        })
        .collect();
    // All hundred have asked once every task was polled; only then the server may answer.
    tokio::task::yield_now().await;
    permits.add_permits(1);
    for task in tasks {
        assert_eq!(task.await.unwrap(), "8.8.8.8");
    }
    assert_eq!(server.asked().len(), 1);
}

/// Waits until the server was asked so many questions.
async fn until_asked(server: &TestServer, count: usize) {
    let deadline = Instant::now() + TIMEOUT;
    while server.asked().len() < count {
        assert!(Instant::now() < deadline, "asked {} of {count}", server.asked().len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_question_ends_with_its_last_asker_and_not_before() {
    let permits = Arc::new(Semaphore::new(0));
    let hold = permits.clone();
    let server =
        TestServer::start(move |_, _, _| Say::Held(hold.clone(), Box::new(addresses(&["8.8.8.8"])))).await;
    let resolver = asking(&[&server], TIMEOUT);
    let asker = |resolver: Resolver| async move { ask(&resolver, "a.test", Family::V4).await };
    let (first, second) = (tokio::spawn(asker(resolver.clone())), tokio::spawn(asker(resolver.clone())));
    until_asked(&server, 1).await;
    first.abort();
    assert!(first.await.is_err());
    permits.add_permits(1);
    assert_eq!(second.await.unwrap(), "8.8.8.8", "one left, the other waits");
    assert_eq!(server.asked().len(), 1);
    advance(Duration::from_secs(60)).await;
    let alone = tokio::spawn(asker(resolver.clone()));
    until_asked(&server, 2).await;
    alone.abort();
    assert!(alone.await.is_err());
    permits.add_permits(10);
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "8.8.8.8");
    assert_eq!(server.asked().len(), 3, "the question had ended with its asker");
}

#[tokio::test]
async fn questions_of_clients_that_left_hold_no_places() {
    let server = TestServer::start(|name, _, _| match name.starts_with("silent") {
        true => Say::Silence,
        false => addresses(&["8.8.8.8"]),
    })
    .await;
    let resolver = asking(&[&server], Duration::from_secs(60));
    let asked: Vec<_> = (0..2 * MAX_QUESTIONS)
        .map(|number| {
            let resolver = resolver.clone();
            tokio::spawn(async move { ask(&resolver, &format!("silent-{number}.test"), Family::V4).await })
        })
        .collect();
    until_asked(&server, MAX_QUESTIONS).await;
    drop(asked.into_iter().inspect(|task| task.abort()).collect::<Vec<_>>());
    // The same client: it would otherwise wait for a minute behind its own.
    let answer = tokio::time::timeout(TIMEOUT, ask(&resolver, "a.test", Family::V4)).await;
    assert_eq!(answer.as_deref(), Ok("8.8.8.8"));
}

#[test]
fn the_part_of_questions_that_nobody_waits_for_follows_the_descriptors() {
    assert_eq!([1, 3, 16, MAX_QUESTIONS].map(most_finishing), [1, 1, 4, 64]);
}

#[tokio::test]
async fn questions_that_nobody_waits_for_hold_a_part_of_the_places_and_no_more() {
    let server = TestServer::start(|_, _, _| Say::Silence).await;
    let resolver = asking(&[&server], Duration::from_secs(60));
    let silent = |number: usize| name(&format!("silent-{number}.test"));
    let asked: Vec<_> = (0..MAX_QUESTIONS)
        .map(|number| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.lookup(&silent(number), Family::V6, CLIENT).await })
        })
        .collect();
    until_asked(&server, MAX_QUESTIONS).await;
    (0..MAX_QUESTIONS).for_each(|number| resolver.let_finish(&silent(number), CLIENT));
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    let deadline = Instant::now() + TIMEOUT;
    while resolver.shared.places.free() < MAX_QUESTIONS - most_finishing(MAX_QUESTIONS) {
        assert!(Instant::now() < deadline, "{} places are free", resolver.shared.places.free());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(resolver.shared.places.free(), MAX_QUESTIONS - most_finishing(MAX_QUESTIONS));
}

#[tokio::test]
async fn one_clients_silent_names_are_not_felt_by_another() {
    let server = TestServer::start(|name, _, _| match name.starts_with("silent") {
        true => Say::Silence,
        false => addresses(&["8.8.8.8"]),
    })
    .await;
    let resolver = asking(&[&server], Duration::from_secs(60));
    let held: Vec<_> = (0..2 * MAX_QUESTIONS)
        .map(|number| {
            let resolver = resolver.clone();
            tokio::spawn(async move { ask(&resolver, &format!("silent-{number}.test"), Family::V4).await })
        })
        .collect();
    until_asked(&server, MAX_QUESTIONS).await;
    let quiet = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    for number in 0..4 {
        let name = name(&format!("a{number}.test"));
        let answer = tokio::time::timeout(TIMEOUT, resolver.lookup(&name, Family::V4, quiet)).await;
        assert!(matches!(answer, Ok(Ok(_))), "{answer:?}");
    }
    assert!(held.iter().all(|task| !task.is_finished()), "the attack is still held");
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

/// What a client hears whose own questions hold every place: the time is over, and whose fault it is.
#[tokio::test]
async fn a_question_that_found_no_place_says_so_and_is_not_kept_as_a_failure() {
    let server = TestServer::start(|name, _, _| match name.starts_with("silent") {
        true => Say::Silence,
        false => addresses(&["8.8.8.8"]),
    })
    .await;
    let timeout = Duration::from_secs(120); // Until all are asked, seconds of real time may pass.
    let resolver = asking(&[&server], timeout);
    let silent = |number: usize, after: Duration| {
        let resolver = resolver.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            ask(&resolver, &format!("silent-{number}.test"), Family::V4).await
        })
    };
    // Those on the wire; and as many before it in the queue, which others of the same client keep asking for.
    let mut held: Vec<_> = (0..2 * MAX_QUESTIONS).map(|number| silent(number, Duration::ZERO)).collect();
    until_asked(&server, MAX_QUESTIONS).await;
    tokio::time::pause();
    held.extend((MAX_QUESTIONS..2 * MAX_QUESTIONS).map(|number| silent(number, timeout / 2)));
    let error = resolver.lookup(&name("a.test"), Family::V4, CLIENT).await.unwrap_err();
    tokio::time::resume();
    assert_eq!(error.reason, Reason::DnsTimeout);
    let told = "not asked in time: other questions of this client wait for";
    assert!(error.detail.starts_with(told), "{}", error.detail);
    // It would be kept for a second.
    let quiet = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    assert!(resolver.lookup(&name("a.test"), Family::V4, quiet).await.is_ok());
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

/// What the server says first, the result, and for how many seconds it is kept.
#[tokio::test]
async fn answers_are_kept_for_their_ttl_negative_ones_and_failures_too() {
    let target = || ips(&["8.8.8.8"]);
    #[rustfmt::skip]
    let rows: Vec<(Say, &str, u64)> = vec![
        (Say::Addresses(target(), 60), "8.8.8.8", 60),
        (Say::Addresses(target(), 0), "8.8.8.8", 0),
        (Say::Addresses(target(), u32::MAX), "8.8.8.8", 0),
        (Say::Addresses(target(), 90_000), "8.8.8.8", 86_400),
        (Say::Alias("b.test.", 10, target(), 60), "8.8.8.8", 10),
        (Say::Alias("b.test.", 60, target(), 10), "8.8.8.8", 10),
        (Say::Alias("b.test.", 0, target(), 10), "8.8.8.8", 0),
        (Say::NoName(Some(20)), "dns_no_such_name", 20),
        (Say::NoName(Some(3600)), "dns_no_such_name", 300),
        (Say::NoName(None), "dns_no_such_name", 1),
        (Say::NoData(20), "dns_no_address", 20),
        (Say::Code(ResponseCode::ServFail), "dns_failed", 1),
        (Say::Code(ResponseCode::Refused), "dns_failed", 1),
        (Say::LyingLength, "dns_failed", 1),
    ];
    for (index, (say, want, seconds)) in rows.into_iter().enumerate() {
        let server = TestServer::start(move |_, _, before| match before {
            0 => say.clone(),
            _ => addresses(&["9.9.9.9"]),
        })
        .await;
        let resolver = asking(&[&server], TIMEOUT);
        assert_eq!(ask(&resolver, "a.test", Family::V4).await, want, "row {index}");
        if seconds > 0 {
            advance(Duration::from_secs(seconds) - Duration::from_millis(200)).await;
            assert_eq!(ask(&resolver, "a.test", Family::V4).await, want, "row {index}: kept");
            assert_eq!(server.asked().len(), 1, "row {index}");
            advance(Duration::from_millis(200)).await;
        }
        assert_eq!(ask(&resolver, "a.test", Family::V4).await, "9.9.9.9", "row {index}: over");
        assert_eq!(server.asked().len(), 2, "row {index}");
    }
}

/// Moves the clock and lets it run again: with a stopped clock a socket's answer would come after every timeout.
async fn advance(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_flapping_server_is_used_as_soon_as_it_answers_again() {
    let server = TestServer::start(|_, _, before| match before % 2 {
        0 => Say::Code(ResponseCode::ServFail),
        _ => Say::Addresses(ips(&["8.8.8.8"]), 1),
    })
    .await;
    let resolver = asking(&[&server], TIMEOUT);
    for _ in 0..3 {
        assert_eq!(ask(&resolver, "a.test", Family::V4).await, "dns_failed");
        assert_eq!(ask(&resolver, "a.test", Family::V4).await, "dns_failed", "kept, not asked again");
        advance(Duration::from_secs(1)).await;
        assert_eq!(ask(&resolver, "a.test", Family::V4).await, "8.8.8.8");
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn expiry_under_load_asks_once_for_each_ttl() {
    let server = TestServer::start(|_, _, _| Say::Addresses(ips(&["8.8.8.8"]), 5)).await;
    let resolver = asking(&[&server], TIMEOUT);
    for round in 1..=4 {
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let resolver = resolver.clone();
                tokio::spawn(async move { ask(&resolver, "a.test", Family::V4).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), "8.8.8.8");
        }
        assert_eq!(server.asked().len(), round);
        advance(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn hosts_win_over_dns_and_decide_alone() {
    let server = TestServer::start(|_, _, _| addresses(&["6.6.6.6", "2a05::6"])).await;
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    fs::write(&hosts, "10.0.0.1 git.test file.test\n127.0.0.9 localhost\n").unwrap();
    let mut settings = settings(&[server.address], TIMEOUT);
    settings.hosts.insert(name("git.test"), ips(&["127.0.0.1"]));
    settings.hosts.insert(name("none.test"), vec![]);
    let resolver = Resolver::with_files(&settings, SystemFiles { hosts, ..no_files() }).unwrap();
    #[rustfmt::skip]
    let rows = [
        ("git.test", "127.0.0.1", "dns_no_address"),
        ("file.test", "10.0.0.1", "dns_no_address"),
        ("none.test", "dns_no_address", "dns_no_address"),
        ("localhost", "127.0.0.9", "dns_no_address"),
        ("x.localhost", "127.0.0.1", "::1"),
        ("x.invalid", "dns_no_such_name", "dns_no_such_name"),
        ("x.onion", "dns_no_such_name", "dns_no_such_name"),
    ];
    for (host, v4, v6) in rows {
        assert_eq!(ask(&resolver, host, Family::V4).await, v4, "{host}");
        assert_eq!(ask(&resolver, host, Family::V6).await, v6, "{host}");
    }
    assert_eq!(server.asked(), [], "none of them reached DNS");
    assert_eq!(ask(&resolver, "other.test", Family::V6).await, "2a05::6");
}

#[tokio::test]
async fn hosts_and_resolv_conf_are_followed() {
    let first = TestServer::start_at("127.0.0.1:0", |_, _, _| addresses(&["1.1.1.1"])).await;
    let second = TestServer::start_at(&format!("127.0.0.2:{}", first.address.port()), |_, _, _| {
        addresses(&["2.2.2.2"])
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let (hosts, resolv_conf) = (directory.path().join("hosts"), directory.path().join("resolv.conf"));
    fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    let files = SystemFiles {
        resolv_conf: resolv_conf.clone(),
        hosts: hosts.clone(),
        port: first.address.port(),
        poll: Duration::ZERO,
    };
    let resolver = Resolver::with_files(&settings(&[], TIMEOUT), files).unwrap();
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "1.1.1.1");
    fs::write(&hosts, "10.0.0.1 a.test\n").unwrap();
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "10.0.0.1");
    fs::write(&hosts, "").unwrap();
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "1.1.1.1");
    assert_eq!(first.asked().len(), 1, "still known");

    fs::write(&resolv_conf, "").unwrap();
    assert_eq!(ask(&resolver, "b.test", Family::V4).await, "1.1.1.1", "an empty file is one being written");
    fs::write(&resolv_conf, "search x.test\nnameserver 127.0.0.1\n").unwrap();
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "1.1.1.1");
    assert_eq!(first.asked().len(), 2, "the same servers: answers stay known");
    fs::write(&resolv_conf, "nameserver 127.0.0.2\n").unwrap();
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "2.2.2.2", "other servers, other answers");
    assert_eq!(first.asked().len(), 2);
    assert_eq!(second.asked().len(), 1);
}

#[tokio::test]
async fn the_files_are_not_looked_at_before_it_is_time() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    fs::write(&hosts, "10.0.0.1 a.test\n").unwrap();
    let files = SystemFiles { hosts: hosts.clone(), ..no_files() };
    let resolver = Resolver::with_files(&settings(&[], TIMEOUT), files).unwrap();
    fs::write(&hosts, "10.0.0.2 a.test\n").unwrap();
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "10.0.0.1");
    advance(SystemFiles::default().poll).await;
    assert_eq!(ask(&resolver, "a.test", Family::V4).await, "10.0.0.2");
}

#[tokio::test]
async fn a_name_with_an_underscore_and_the_longest_name_can_be_asked_for() {
    let server = TestServer::start(|_, _, _| addresses(&["8.8.8.8"])).await;
    let resolver = asking(&[&server], TIMEOUT);
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    for host in ["_x.a_b.test", longest.as_str()] {
        assert_eq!(ask(&resolver, host, Family::V4).await, "8.8.8.8", "{host}");
    }
}
