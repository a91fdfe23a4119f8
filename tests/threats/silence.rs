//! The rows about peers that only hold connections: silent ones at the admin port and at the proxy port, and kept ones.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};

use rustix::process::Signal;
use serde_json::json;

use crate::check::ask;
use crate::suite::hello;
use crate::suite::world::World;
use crate::support::{Egressd, End, Origin, Wire, config, directory, until, write};

/// An address of the test's own block: 127.0.BLOCK.LAST.
fn address(block: u8, last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, block, last).into()
}

/// The status line that this client gets at the admin port, which it asks like a kubelet: once, with a deadline.
fn probe(proxy: &Egressd, from: IpAddr, path: &str) -> String {
    let mut wire = Wire::connect_from(from, proxy.admin());
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: egressd\r\n\r\n"));
    let (bytes, _) = wire.read_to_end();
    String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn t78_silent_peers_at_the_admin_port_keep_no_probe_out() {
    let world = World::on_loopback();
    let admin = "admin: {address: \"127.0.0.1:0\", networks: [127.0.22.0/24]}\n";
    let proxy = Egressd::start(&world.config().replace("admin: {address: \"127.0.0.1:0\"}\n", admin));
    // Outside admin.networks, then inside; half of them have begun a head.
    for block in [21, 22] {
        let silent: Vec<Wire> = (0..160)
            .map(|at| {
                let mut wire = Wire::connect_from(address(block, 1 + at % 10), proxy.admin());
                if at % 2 == 0 {
                    wire.send("GET /livez HT");
                }
                wire
            })
            .collect();
        for last in [200, 201] {
            // The node is not in admin.networks; Prometheus is.
            assert_eq!(probe(&proxy, address(23, last), "/livez"), "HTTP/1.1 200 OK", "{block}");
            assert_eq!(probe(&proxy, address(23, last), "/healthz"), "HTTP/1.1 200 OK", "{block}");
            assert_eq!(probe(&proxy, address(22, last), "/metrics"), "HTTP/1.1 200 OK", "{block}");
        }
        drop(silent);
    }
}

#[test]
fn t78_clients_that_no_policy_can_match_take_no_place_of_others() {
    let world = World::on_loopback();
    // Behind a balancer their address is known only after its header.
    let listeners = "listeners: [{name: balanced, address: \"127.0.0.1:0\", proxy_protocol: {trusted: [127.0.23.0/24]}}, ";
    let text = world.config().replace("listeners: [", listeners);
    assert!(text.contains("balanced"), "{text}");
    let clients = "    clients: {networks: [127.0.0.1/32, 10.0.0.0/8]}\n    allow:";
    let text = text.replacen("    allow:", clients, 1) + "limits: {tunnels: 20, head_timeout: 25s}\n";
    let proxy = Egressd::start(&text);
    let authority = format!("{}:{}", hello::OK, world.tls);
    let stranger = |last: u8| Wire::connect_from(address(21, last), proxy.address());
    let balanced = |source: &str| {
        let mut wire = Wire::connect_from(address(23, 1), proxy.listener("balanced"));
        wire.send(format!("PROXY TCP4 {source} 127.0.0.1 4000 3130\r\n"));
        wire
    };
    // The limits allow some 36 connections. Again and again, because silent ones are closed soon.
    for round in 0..3 {
        let mut held: Vec<Wire> = (0..70).map(|at| stranger(1 + at % 10)).collect();
        held.extend((0..70).map(|at| balanced(&format!("203.0.113.{}", 1 + at % 10))));
        let _tunnel = proxy.tunnel(&authority);
        let mut tunnel = balanced("10.1.2.3");
        tunnel.send(ask(&authority));
        assert_eq!(tunnel.read_head().status, 200, "round {round}");
        drop(held);
    }
    let limit = || proxy.metrics().count("egressd_connections_total", &[("result", "limit")]);
    until("those beyond the pool to be counted", || (limit() > 0).then_some(()));
    // A stranger that asks at once is told why, and recorded.
    until("a place for a stranger", || {
        let mut wire = stranger(99);
        wire.send(ask(&authority));
        let (bytes, _) = wire.read_to_end();
        bytes.starts_with(b"HTTP/1.1 403 ").then_some(())
    });
    proxy
        .record(|record| record["client"].as_str().is_some_and(|client| client.starts_with("127.0.21.99:")))
        .assert_has(&json!({"event": "deny", "reason": "client_not_allowed"}));
    // It has a second for its head; a client that a policy can match has head_timeout.
    let mut slow = proxy.connect();
    slow.send("CONNECT a:1 HT");
    let mut late = stranger(98);
    late.send("CONNECT a:1 HT");
    let (bytes, end) = late.read_to_end();
    assert!(bytes.starts_with(b"HTTP/1.1 408 ") && end == End::Fin, "{}", String::from_utf8_lossy(&bytes));
    slow.stream_mut().set_nonblocking(true).expect("a socket");
    let open = slow.stream_mut().peek(&mut [0]).expect_err("it is still open");
    assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock);
}

/// Neither by connections of one client, nor by those of a peer that might be a balancer and names no client.
#[test]
fn t78_silent_connections_leave_places_for_clients_that_have_few() {
    let world = World::on_loopback();
    let listeners = "listeners: [{name: balanced, address: \"127.0.0.1:0\", proxy_protocol: {trusted: [127.0.23.0/24]}}, ";
    let text =
        world.config().replace("listeners: [", listeners) + "limits: {tunnels: 20, head_timeout: 1m}\n";
    let authority = format!("{}:{}", hello::OK, world.tls);
    // The limits allow some 36 connections, and 64 more for clients that have few.
    for behind_balancer in [false, true] {
        let proxy = Egressd::start(&text);
        let (from, to) = match behind_balancer {
            false => (address(21, 1), proxy.address()),
            true => (address(23, 2), proxy.listener("balanced")),
        };
        let silent = |count: usize| (0..count).map(|_| Wire::connect_from(from, to)).collect::<Vec<_>>();
        let mut held = silent(200);
        let _tunnels: Vec<Wire> = (1..=5)
            .flat_map(|last| {
                // What was closed comes again.
                held.extend(silent(40));
                let mut balanced = Wire::connect_from(address(23, 1), proxy.listener("balanced"));
                balanced.send(format!("PROXY TCP4 10.1.2.{last} 127.0.0.1 4000 3130\r\n"));
                [Wire::connect_from(address(24, last), proxy.address()), balanced].map(|mut wire| {
                    wire.send(ask(&authority));
                    assert_eq!(wire.read_head().status, 200, "client {last}, balancer: {behind_balancer}");
                    wire
                })
            })
            .collect();
        drop(held);
    }
}

#[test]
fn t79_kept_connections_leave_the_reserve_of_descriptors() {
    let origin = Origin::start(([127, 0, 0, 1], 0).into(), |mut conversation| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while conversation.read(&mut byte)? > 0 {
            head.extend(byte);
            if head.ends_with(b"\r\n\r\n") {
                conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                head.clear();
            }
        }
        Ok(())
    });
    let to = origin.address();
    let proxy = Egressd::start_with_descriptors(directory(), config(&[&format!("http://{to}")]), 400);
    let get = format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n\r\n");
    // From twelve addresses: as many connections as there are places, each kept after its response.
    let mut kept = Vec::new();
    for at in 0..150 {
        let mut wire = Wire::connect_from(address(24, 1 + at % 12), proxy.address());
        wire.send(&get);
        let mut first = [0; 12];
        if wire.stream_mut().peek(&mut first).is_ok_and(|count| count > 0) {
            assert_eq!(wire.read_head().status, 200);
            assert_eq!(wire.read_exact(2), b"ok");
            kept.push(wire);
        }
    }
    assert!(kept.len() > 60, "{} connections were kept", kept.len());
    let open = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).expect("a process").count();
    // 128 are reserved, of which some twenty are in use; a quarter of the rest has other uses.
    assert!(open <= 400 - 128 - 50 + 30, "{open} descriptors are in use");
    // Those whose connection to the target was not kept are served as well.
    for wire in &mut kept {
        wire.send(&get);
        assert_eq!(wire.read_head().status, 200);
        assert_eq!(wire.read_exact(2), b"ok");
    }
    assert_eq!(proxy.get("/livez").status, 200);
    write(&proxy.file("egressd.yaml"), config(&[&format!("http://{to}"), "https://more.example"]));
    proxy.signal(Signal::HUP);
    proxy.says("configuration");
    until("the reload", || {
        (proxy.metrics().count("egressd_config_last_reload_successful", &[]) == 1).then_some(())
    });
    until("every record", || {
        let http = proxy.records().iter().filter(|record| record["event"] == "http").count();
        (http == 2 * kept.len()).then_some(())
    });
}
