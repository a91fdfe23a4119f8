//! How egressd itself ends, and what it leaves behind.

use std::io::{BufRead, BufReader, pipe};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::check::ask;
use crate::suite::hello;
use crate::suite::world::World;
use crate::support::{
    DEADLINE, Egressd, Origin, Record, Wire, command, config, directory, own_loopback, read, until, write,
};

#[test]
fn term_with_tunnels_open_lets_them_finish_and_takes_no_more() {
    let origin = Origin::echo();
    let rule = format!("tcp://{}", origin.address());
    let proxy = Egressd::start(&(config(&[&rule]) + "shutdown: {grace_period: 10m}\n"));
    let authority = origin.address().to_string();
    let mut tunnels: Vec<Wire> = (0..20).map(|_| proxy.tunnel(&authority)).collect();
    // This client has begun its request, and will not get a 200.
    let mut late = proxy.connect();
    late.send("CONNECT ");
    proxy.signal(Signal::TERM);
    let address = proxy.address();
    until("the listener to close", || TcpStream::connect_timeout(&address, DEADLINE).is_err().then_some(()));
    assert_eq!(proxy.get("/readyz").status, 503);
    late.send(format!("{authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    proxy.refused(late, 503, "draining");
    for tunnel in &mut tunnels {
        tunnel.send("ping");
        assert_eq!(tunnel.read_exact(4), b"ping");
        tunnel.finish();
        tunnel.read_to_end();
    }
    let ended = proxy.wait();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let closed = ended.records.iter().filter(|record| record["ending"] == "client_closed").count();
    assert_eq!(closed, 20);
}

#[test]
fn a_second_term_does_not_wait_for_clients_that_still_ask() {
    let directory = directory();
    // Comparing this password takes a second or more: it will not be finished by then.
    write(
        &directory.path().join("users"),
        "slow:$2b$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n",
    );
    let locked = "{name: locked, address: 127.0.0.1:0, basic_auth: {users_file: users}}";
    let text = config(&["tcp://127.0.0.1:9"])
        .replace("address: 127.0.0.1:0}]", &format!("address: 127.0.0.1:0}}, {locked}]"));
    assert!(text.contains(locked));
    let proxy = Egressd::start_in(directory, &(text + "shutdown: {grace_period: 10m}\n"));
    let _silent = proxy.connect();
    let mut half = proxy.connect();
    half.send("CONNECT half.test:443 HTTP/1.1\r\nHo");
    let mut proving = Wire::connect(proxy.listener("locked"));
    proving.send("CONNECT x.test:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic c2xvdzp4\r\n\r\n");
    // This client came later and has its answer: so the earlier ones were accepted.
    for listener in ["proxy", "locked"] {
        let mut later = Wire::connect(proxy.listener(listener));
        later.send("CONNECT other.test:443 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!([403, 407].contains(&later.read_reply().status));
    }
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    let address = proxy.address();
    until("the listener to close", || TcpStream::connect_timeout(&address, DEADLINE).is_err().then_some(()));
    proxy.signal(Signal::TERM);
    let told = proxy.refused(half, 503, "draining");
    told.record.assert_has(&json!({"target": "half.test:443", "event": "error"}));
    proxy.refused(proving, 503, "draining");
    let ended = proxy.wait();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!ended.stderr.contains("did not end in time"), "{}", ended.stderr);
    // Without a second TERM, a connection in progress has two seconds.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn kill_in_mid_push_leaves_whole_lines_and_the_next_start_is_clean() {
    let origin = Origin::silent();
    let listener = SocketAddr::new(own_loopback().into(), 13_128);
    let text = config(&[&format!("tcp://{}", origin.address())])
        .replace("address: 127.0.0.1:0}]", &format!("address: \"{listener}\"}}]"))
        + "access_log: {output: access.log}\n";
    let directory = directory();
    let log = directory.path().join("access.log");
    let file = directory.path().join("egressd.yaml");
    write(&file, &text);
    let start = |directory| Egressd::start_at(directory, &file);
    // The directory outlives both.
    let proxy = start(crate::support::directory());
    let mut pushing = proxy.tunnel(&origin.address().to_string());
    pushing.send(vec![7; 1 << 20]);
    until("half of it to arrive", || {
        origin.seen().first().is_some_and(|seen| seen.bytes.len() > 1 << 19).then_some(())
    });
    until("the record of the opening", || read(&log).contains("\"event\":\"open\"").then_some(()));
    proxy.signal(Signal::KILL);
    assert_eq!(proxy.wait().code, -9);
    let left = read(&log);
    assert!(left.ends_with('\n'), "a torn line: {left:?}");
    let opened = Record::parse(left.lines().next().expect("a line"));
    opened.assert_has(&json!({"event": "open"}));

    // The same address works at once, although connections of the killed process linger. The log continues where it ended.
    let proxy = start(crate::support::directory());
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.finish();
    tunnel.read_to_end();
    until("the next tunnel's records", || {
        (read(&log).lines().count() >= left.lines().count() + 2).then_some(())
    });
    let all = read(&log);
    assert!(all.starts_with(&left));
    for line in all.lines() {
        Record::parse(line);
    }
    assert_eq!(proxy.metrics().count("egressd_tunnels_active", &[]), 0);
    drop(directory);
}

#[test]
fn a_log_whose_pipe_is_closed_stops_new_requests() {
    let world = World::on_loopback();
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    write(&file, world.config());
    let (reader, writer) = pipe().expect("a pipe");
    let mut child = command()
        .arg("run")
        .arg("--config")
        .arg(&file)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("egressd starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("was asked for"));
    let address: SocketAddr = loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).expect("text") > 0, "it ended");
        let found =
            line.split_once("listening on ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        if let Some(address) = found {
            break address;
        }
    };
    // It is read further, so that it never blocks.
    let draining = std::thread::spawn(move || stderr.lines().map_while(Result::ok).collect::<Vec<_>>());
    drop(reader);
    let authority = format!("{}:{}", hello::OK, world.tls);
    let answer = || {
        let mut wire = Wire::connect(address);
        wire.send(ask(&authority));
        wire.read_reply()
    };
    let denied = || {
        let mut wire = Wire::connect(address);
        wire.send(ask("evil.test:443"));
        wire.read_reply().status
    };
    until("new requests to be refused for want of a log", || (denied() == 503).then_some(()));
    let mark = world.mark();
    let reply = answer();
    assert_eq!((reply.status, reply.reason()), (503, Some("log_unavailable")));
    assert!(world.settled(&mark).reached.is_empty());
    child.kill().expect("it still runs");
    child.wait().expect("our child");
    let said = draining.join().expect("text").join("\n");
    assert!(!said.contains("panicked"), "{said}");
}
