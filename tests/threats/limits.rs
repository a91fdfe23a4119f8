//! The rows about resources: slow clients, floods, tunnels that never end, data that is sent out, and what must not grow.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::check::ask;
use crate::suite::case::{connect, post};
use crate::suite::hello;
use crate::suite::world::World;
use crate::support::{Egressd, End, Origin, Wire, config, directory, until, write};

/// Sends single bytes until the other side has closed, or a minute is over.
fn drip(wire: &mut Wire, bytes: &[u8]) {
    let begun = Instant::now();
    let mut writing = wire.second();
    let reading = wire.second();
    let ended = std::thread::spawn(move || {
        let mut reading = reading;
        let _ = reading.read_to_end();
    });
    for byte in bytes.iter().cycle() {
        if ended.is_finished() || begun.elapsed() > Duration::from_secs(60) {
            return;
        }
        writing.send([*byte]);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a tunnel opens now; else it was refused, or closed without a reply. The client keeps its side open until it has the reply:
/// one that closes it before is taken for gone, if egressd reads its FIN before the target has answered.
fn opens(proxy: &Egressd, authority: &str) -> bool {
    let mut wire = proxy.connect();
    wire.send(ask(authority));
    let mut first = [0; 13];
    wire.stream_mut().read_exact(&mut first).is_ok() && first == *b"HTTP/1.1 200 "
}

#[test]
fn t62_slowness_is_bounded_absolutely() {
    let world = World::on_loopback();
    let text = world.config() + "limits: {head_timeout: 400ms}\ntunnel: {client_hello_timeout: 400ms}\n";
    let proxy = Egressd::start(&text);
    // A byte from time to time does not extend the deadline: neither of a head …
    let mut wire = proxy.connect();
    wire.send("GET http://x/ HTTP/1.1\r\nX: ");
    drip(&mut wire, b"a");
    proxy
        .record(|record| record["reason"] == "head_timeout")
        .assert_has(&json!({"event": "deny", "status": 408}));
    proxy.refuses("CONNECT x:443 HTTP/1.1\r\nHos", 408, "head_timeout");
    // … nor of a hello.
    let mark = world.mark();
    let mut tunnel = proxy.tunnel(&format!("{}:{}", hello::OK, world.tls));
    tunnel.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]);
    drip(&mut tunnel, &[3]);
    proxy.record(|record| record["reason"] == "client_hello_timeout");
    assert!(world.settled(&mark).reached.iter().all(|seen| seen.bytes.is_empty()));
    // A body that stalls does not hold its target for ever.
    let text = world.config() + "http: {stall_timeout: 400ms, response_timeout: 400ms}\n";
    let stalling = Egressd::start(&text);
    let mut wire = stalling.connect();
    wire.send(world.fill(&post("Content-Length: 1000\r\n", "a")));
    let (bytes, _) = wire.read_to_end();
    assert!(!bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
    let last = stalling.record(|record| record["event"] != "open");
    assert!(!last["reason"].is_null() || !last["ending"].is_null(), "{last:?}");
    // A client that sends nothing at all is a probe.
    let (bytes, end) = proxy.connect().read_to_end();
    assert_eq!((bytes, end), (Vec::new(), End::Fin));
}

#[test]
fn t64_a_flood_meets_caps_and_the_admin_listener_answers() {
    let world = World::on_loopback();
    let text = world.config() + "limits: {tunnels: 20, tunnels_per_client: 10}\n";
    let proxy = Egressd::start(&text);
    let authority = format!("{}:{}", hello::OK, world.tls);
    let held: Vec<Wire> = (0..10).map(|_| proxy.tunnel(&authority)).collect();
    let refused = proxy.refuses(ask(&authority), 429, "client_limit_reached");
    assert!(refused.reply.header("retry-after").is_some());
    // From other addresses, up to the cap for all clients.
    let from = |last: u8| {
        let mut wire = Wire::connect_from([127, 0, 7, last].into(), proxy.address());
        wire.send(ask(&authority));
        wire
    };
    let others: Vec<Wire> = (0..10)
        .map(|at| {
            let mut wire = from(1 + at % 2);
            assert_eq!(wire.read_head().status, 200);
            wire
        })
        .collect();
    // Who has none has one of the last places, beyond the cap. Who has some has not.
    proxy.refused(from(1), 503, "limit_reached");
    let last: Vec<Wire> = (3..5)
        .map(|at| {
            let mut wire = from(at);
            assert_eq!(wire.read_head().status, 200);
            wire
        })
        .collect();
    proxy.refused(from(9), 503, "limit_reached");
    // Clients that ask nothing do not use up the connections of others.
    let one = Egressd::start(&(world.config() + "limits: {tunnels: 200, tunnels_per_client: 8}\n"));
    let silent: Vec<Wire> = (0..300).map(|_| one.connect()).collect();
    let limit = || one.metrics().count("egressd_connections_total", &[("result", "limit")]);
    until("those beyond the client's share to be closed", || (limit() == 300 - 24).then_some(()));
    let mut other = Wire::connect_from([127, 0, 7, 3].into(), one.address());
    other.send(ask(&authority));
    assert_eq!(other.read_head().status, 200);
    one.says("has 24 connections open, the most that limits.tunnels_per_client allows (8 and 16 more): further ones are closed");
    assert_eq!(one.stderr().matches("has 24 connections open").count(), 1, "{}", one.stderr());
    drop(silent);
    // With a thousand connections that ask nothing, of a hundred clients, the probes of Kubernetes are still answered.
    let idle: Vec<Wire> = (0..1000u32)
        .map(|at| Wire::connect_from([127, 0, 6, at.to_be_bytes()[3] % 100 + 1].into(), proxy.address()))
        .collect();
    assert_eq!(proxy.get("/livez").status, 200);
    let closed = || proxy.metrics().count("egressd_connections_total", &[("result", "limit")]);
    until("connections beyond the places to be closed", || (closed() > 0).then_some(()));
    // Each is counted, and the log tells of them at its limited rate.
    let record = proxy.record(|record| record["reason"] == "limit_reached" && record["method"].is_null());
    record.assert_has(&json!({"event": "error", "status": null, "target": null, "decision": null}));
    proxy.says("refused, limit_reached: all places for connections are taken");
    drop((held, others, last, idle));
    until("the places to come back", || opens(&proxy, &authority).then_some(()));
}

#[test]
fn descriptors_run_out_and_come_back() {
    let world = World::on_loopback();
    let text =
        world.config() + "limits: {tunnels_per_client: 10000, requests_per_second_per_client: 100000}\n";
    // 170 descriptors allow a dozen tunnels.
    let proxy = Egressd::start_with_descriptors(directory(), text, 170);
    let authority = format!("{}:{}", hello::OK, world.tls);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..400 {
        let mut wire = proxy.connect();
        wire.send(ask(&authority));
        held.push(wire);
    }
    for wire in &mut held {
        let mut first = [0; 12];
        // Refused with a reply, or closed without one: it never hangs.
        match wire.stream_mut().read(&mut first) {
            Ok(count) if first[..count].starts_with(b"HTTP/1.1 200") => {}
            _ => refused += 1,
        }
    }
    assert!((1..400).contains(&refused), "{refused} of 400 were refused");
    assert_eq!(proxy.get("/livez").status, 200, "the admin listener has descriptors of its own");
    drop(held);
    until("the descriptors to come back", || opens(&proxy, &authority).then_some(()));
    assert!(!proxy.stderr().contains("panicked"), "{}", proxy.stderr());
}

#[test]
fn t65_no_tunnel_lasts_for_ever() {
    let origin = Origin::echo();
    let rule = format!("tcp://{}", origin.address());
    let text = config(&[&rule]);
    let authority = origin.address().to_string();
    // Idle.
    let proxy = Egressd::start(&(text.clone() + "tunnel: {idle_timeout: 1s}\n"));
    let mut tunnel = proxy.tunnel(&authority);
    assert_eq!(tunnel.read_to_end().0, b"");
    proxy.record(|record| record["ending"] == "idle_timeout");
    // Active for longer than allowed.
    let proxy = Egressd::start(&(text.clone() + "tunnel: {max_lifetime: 1s}\n"));
    let mut tunnel = proxy.tunnel(&authority);
    drip(&mut tunnel, b"x");
    proxy.record(|record| record["ending"] == "max_lifetime");
    // Its rule is removed; a rule that wants TLS where there is none ends it, too.
    for rules in [vec!["a.example"], vec!["a.example", "https://127.0.0.1:1-65535"]] {
        let proxy = Egressd::start(&text);
        let mut tunnel = proxy.tunnel(&authority);
        tunnel.send("ping");
        assert_eq!(tunnel.read_exact(4), b"ping");
        write(&proxy.file("egressd.yaml"), config(&rules));
        proxy.signal(Signal::HUP);
        assert_eq!(tunnel.read_to_end().0, b"", "{rules:?}");
        proxy.record(|record| record["ending"] == "policy_revoked");
    }
}

#[test]
fn t67_no_more_is_uploaded_than_the_rule_allows() {
    let origin = Origin::silent();
    let to = origin.address();
    let limited = format!("{{to: \"tcp://{to}\", upload_limit: 64KiB}}");
    let plain = format!("{{to: \"http://{to}\", upload_limit: 64KiB}}");
    let proxy = Egressd::start(&config(&[&limited, &plain]));
    let mut tunnel = proxy.tunnel(&to.to_string());
    tunnel.send(vec![7; 1 << 20]);
    tunnel.read_to_end();
    assert_eq!(origin.wait_ended(0).bytes.len(), 64 << 10, "to the byte");
    proxy.record(|record| record["ending"] == "upload_limit").assert_has(&json!({"sent": 64 << 10}));
    // The same in a plain request: by its Content-Length, and by the bytes that really come.
    let mut wire = proxy.connect();
    wire.send(format!("PUT http://{to}/ HTTP/1.1\r\nHost: {to}\r\nContent-Length: 1048576\r\n\r\n"));
    wire.send(vec![7; 1 << 20]);
    wire.read_to_end();
    let mut wire = proxy.connect();
    wire.send(format!(
        "PUT http://{to}/ HTTP/1.1\r\nHost: {to}\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n"
    ));
    wire.send(vec![7; 1 << 20]);
    wire.read_to_end();
    until("the uploads to be recorded", || {
        let cut =
            |record: &&crate::support::Record| record["reason"] == "upload_limit" && record["status"] == 413;
        (proxy.records().iter().filter(cut).count() == 2).then_some(())
    });
    for seen in origin.seen() {
        assert!(seen.bytes.len() <= 66 << 10, "{} bytes got out", seen.bytes.len());
    }
    assert!(proxy.metrics().count("egressd_bytes_total", &[("direction", "sent")]) >= 64 << 10);
}

#[test]
fn t69_nothing_that_a_client_says_becomes_a_series() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&(world.config() + "limits: {requests_per_second_per_client: 100000}\n"));
    let names = || {
        let body = proxy.get("/metrics").body;
        let series = |line: &str| line.rsplit_once(' ').map(|(series, _)| series.to_owned());
        body.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect::<Vec<_>>()
    };
    let odd = |number: usize| {
        let name = format!("random-{number}");
        [
            world.fill(&connect(format!("{name}.test"))),
            world.fill(&connect(format!("nx.{name}.amazonaws.com"))),
            format!(
                "GET http://{name}.test/{name} HTTP/1.1\r\nHost: {name}.test\r\nUser-Agent: {name}\r\n\r\n"
            )
            .into_bytes(),
            format!("{name} http://{name}.test/ HTTP/1.1\r\nHost: {name}.test\r\n\r\n")
                .to_ascii_uppercase()
                .into_bytes(),
            format!("CONNECT {name}:{number} HTTP/1.1\r\nHost: {name}\r\n\r\n").into_bytes(),
            format!("{name} nonsense\r\n\r\n").into_bytes(),
        ]
    };
    let ask = |number: usize| {
        for bytes in odd(number) {
            let mut wire = proxy.connect();
            wire.send(bytes);
            wire.read_to_end();
        }
        let mut tunnel = proxy.tunnel(&format!("{}:{}", hello::OK, world.tls));
        tunnel.send(hello::naming(format!("random-{number}.amazonaws.com").as_bytes()));
        tunnel.read_to_end();
    };
    ask(1);
    let before = names();
    for number in 2..60 {
        ask(number);
    }
    assert_eq!(names(), before);
    assert!(!before.concat().contains("random"));
}

#[test]
fn t66_a_denied_name_is_never_asked_for_in_any_way() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&world.config());
    let mark = world.mark();
    for number in 0..50 {
        proxy.refuses(world.fill(&connect(format!("x{number}.mfrggzdf.evil.test"))), 403, "host_not_allowed");
    }
    assert_eq!(world.now(&mark).asked, []);
}

#[test]
fn log_disks_that_are_full_stop_new_requests_until_there_is_room() {
    let world = World::on_loopback();
    let directory = directory();
    let log = directory.path().join("access.log");
    std::os::unix::fs::symlink("/dev/full", &log).expect("a link");
    let proxy = Egressd::start_in(directory, &(world.config() + "access_log: {output: access.log}\n"));
    let authority = format!("{}:{}", hello::OK, world.tls);
    let status = || {
        let mut wire = proxy.connect();
        wire.send(ask("evil.test:443"));
        wire.read_head().status
    };
    // The first record finds out; from then on nothing is let through.
    until("new requests to be refused for want of a log", || (status() == 503).then_some(()));
    let mark = world.mark();
    let mut wire = proxy.connect();
    wire.send(ask(&authority));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.reason()), (503, Some("log_unavailable")));
    assert!(reply.header("retry-after").is_some());
    assert!(world.settled(&mark).reached.is_empty());
    assert!(proxy.metrics().count("egressd_requests_total", &[("reason", "log_unavailable")]) > 0);
    // Nor is anything else answered without a record: what is malformed, of another method, for a listener of TLS.
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n",
        "CONNECT a:b:c HTTP/1.1\r\n\r\n",
        "G\0T",
        "\u{16}\u{3}\u{1}\0\u{1}\u{1}",
        "TRACE http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut wire = proxy.connect();
        wire.send(bytes);
        wire.finish();
        let reply = wire.read_reply();
        assert_eq!((reply.status, reply.reason()), (503, Some("log_unavailable")), "{bytes:?}");
    }
    // Another file, and it goes on.
    std::fs::remove_file(&log).expect("the link");
    proxy.signal(Signal::HUP);
    until("requests to be let through again", || {
        let mut wire = proxy.connect();
        wire.send(ask(&authority));
        (wire.read_head().status == 200).then_some(())
    });
    until("its record", || {
        let mut text = String::new();
        File::open(&log).and_then(|mut file| file.read_to_string(&mut text)).ok()?;
        text.contains(&authority).then_some(())
    });
}
