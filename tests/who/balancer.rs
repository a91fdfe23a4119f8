//! The PROXY protocol: the client behind the balancer decides and is logged, and no other peer can claim to be that client.

use std::time::Duration;

use serde_json::json;

use crate::support::{Authority, Egressd, End, Origin, TlsStream, Wire, config, directory, until, write};
use crate::{
    assert_closed_without_a_word, connect_to, connections, deciding, listening, refused_connections,
    wait_for_connections,
};

pub(crate) const TRUSTED: &str = "proxy_protocol: {trusted: [127.0.0.0/8]}";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

pub(crate) fn v1(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let to = if client.contains(':') { "::1" } else { "10.0.0.1" };
    format!("PROXY {family} {client} {to} 4711 3128\r\n").into_bytes()
}

/// A PROXY header over TCP/IPv4 from this client, port 4711, with fields after the addresses.
pub(crate) fn v2(client: [u8; 4], fields: &[u8]) -> Vec<u8> {
    let body = [&client[..], &[10, 0, 0, 1, 0x12, 0x67, 0x0c, 0x38], fields].concat();
    v2_header(0x21, 0x11, &body)
}

fn v2_ipv6(client: std::net::Ipv6Addr) -> Vec<u8> {
    let to = std::net::Ipv6Addr::LOCALHOST.octets();
    v2_header(0x21, 0x21, &[&client.octets()[..], &to, &[0x12, 0x67, 0x0c, 0x38]].concat())
}

fn v2_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("short").to_be_bytes();
    [V2, &[command, family], &len, body].concat()
}

pub(crate) fn vpc_endpoint(id: &str) -> Vec<u8> {
    let len = u16::try_from(id.len() + 1).expect("short").to_be_bytes();
    [&[0xEA][..], &len, &[0x01], id.as_bytes()].concat()
}

/// Two policies by network, of which only the first one reaches the origin; and one for clients without a header's address.
fn by_network(origin: &Origin) -> String {
    let to = origin.address();
    deciding(
        TRUSTED,
        &format!(
            "  - {{name: known, clients: {{networks: [192.0.2.0/24, 2001:db8::/32]}}, private: [127.0.0.0/8], allow: [\"tcp://{to}\"]}}\n  \
               - {{name: balancer, clients: {{networks: [127.0.0.0/8]}}, allow: [a.example]}}\n"
        ),
    )
}

#[test]
fn the_client_of_the_header_decides_and_is_logged() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&by_network(&origin));
    let authority = origin.address().to_string();
    let ipv6 = |text: &str| v2_ipv6(text.parse().expect("an address"));
    let cases: &[(Vec<u8>, &str, u16, &str)] = &[
        (v1("192.0.2.9"), "192.0.2.9:4711", 200, "known"),
        (v1("2001:db8::9"), "[2001:db8::9]:4711", 200, "known"),
        // The same address in another form is the same client.
        (v1("::ffff:192.0.2.9"), "192.0.2.9:4711", 200, "known"),
        (v2([192, 0, 2, 9], &[]), "192.0.2.9:4711", 200, "known"),
        (v2([192, 0, 2, 9], &vpc_endpoint("vpce-0abc")), "192.0.2.9:4711", 200, "known"),
        (ipv6("2001:db8::9"), "[2001:db8::9]:4711", 200, "known"),
        (v1("198.51.100.9"), "198.51.100.9:4711", 403, ""),
        (v2([198, 51, 100, 9], &[]), "198.51.100.9:4711", 403, ""),
        (ipv6("fd00::9"), "[fd00::9]:4711", 403, ""),
    ];
    for (header, client, status, policy) in cases {
        let mut wire = proxy.connect();
        let peer = wire.local().to_string();
        // In one segment, as a balancer sends what it has.
        wire.send([&header[..], connect_to(&authority).as_bytes()].concat());
        let reply = wire.read_head();
        assert_eq!(reply.status, *status, "{client}: {reply:?}");
        let record = proxy.record(|record| record["id"] == reply.id());
        record.assert_has(&json!({"client": client, "peer": peer, "listener": "proxy", "identity": null}));
        match status {
            200 => {
                record.assert_has(&json!({"policy": policy, "decision": "allow"}));
                wire.send("ping");
                assert_eq!(wire.read_exact(4), b"ping");
            }
            _ => record
                .assert_has(&json!({"policy": null, "reason": "client_not_allowed", "decision": "deny"})),
        }
    }
}

#[test]
fn t70_a_balancer_that_speaks_for_itself_is_its_own_client() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&by_network(&origin));
    let unspecified = v2_header(0x21, 0x00, &[]);
    // The addresses in a LOCAL header are not read: they could be anything.
    let local = v2_header(0x20, 0x11, &[192, 0, 2, 9, 10, 0, 0, 1, 0, 1, 0, 2]);
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), unspecified, v2_header(0x20, 0x00, &[]), local] {
        let mut wire = proxy.connect();
        let peer = wire.local().to_string();
        wire.send([&header[..], connect_to("b.example:443").as_bytes()].concat());
        let refused = proxy.refused(wire, 403, "host_not_allowed");
        refused.record.assert_has(&json!({"client": peer, "peer": peer, "policy": "balancer"}));
    }
}

#[test]
fn caps_count_the_client_of_the_header() {
    let origin = Origin::echo();
    let rule = format!("tcp://{}", origin.address());
    let limits = "limits: {tunnels_per_client: 1}\n";
    let proxy = Egressd::start(&(listening(TRUSTED, &[&rule]) + limits));
    let authority = origin.address().to_string();
    let ask = |client: &str| {
        let mut wire = proxy.connect();
        wire.send([v1(client), connect_to(&authority).into_bytes()].concat());
        wire
    };
    let mut first = ask("10.0.0.7");
    assert_eq!(first.read_head().status, 200);
    proxy.refused(ask("10.0.0.7"), 429, "client_limit_reached");
    let mut other = ask("10.0.0.8");
    assert_eq!(other.read_head().status, 200, "another client of the same peer");
}

#[test]
fn a_policy_may_ask_for_the_vpc_endpoint() {
    let origin = Origin::echo();
    let to = origin.address();
    let proxy = Egressd::start(&deciding(
        TRUSTED,
        &format!(
            "  - {{name: endpoint, clients: {{vpc_endpoints: [vpce-0abc]}}, private: [127.0.0.0/8], allow: [\"tcp://{to}\"]}}\n"
        ),
    ));
    let client = [10, 0, 0, 7];
    for (fields, status) in [
        (vpc_endpoint("vpce-0abc"), 200),
        (vpc_endpoint("vpce-0abd"), 403),
        (vpc_endpoint("vpce-0ABC"), 403),
        (Vec::new(), 403),
    ] {
        let mut wire = proxy.connect();
        wire.send([v2(client, &fields), connect_to(&to.to_string()).into_bytes()].concat());
        assert_eq!(wire.read_head().status, status, "{fields:?}");
    }
}

#[test]
fn t70_an_untrusted_peer_is_closed_with_a_forged_header_and_without() {
    let trusted_elsewhere = "proxy_protocol: {trusted: [192.0.2.0/24]}";
    let proxy = Egressd::start(&listening(trusted_elsewhere, &["a.example"]));
    for bytes in [&v1("192.0.2.9")[..], &v2([192, 0, 2, 9], &[]), connect_to("a.example:443").as_bytes(), b""]
    {
        let mut wire = proxy.connect();
        let peer = wire.local().to_string();
        wire.send(bytes);
        assert_closed_without_a_word(wire);
        proxy.record(|record| record["peer"] == peer.as_str()).assert_has(&json!({
            "event": "deny", "reason": "peer_not_trusted", "decision": "deny", "client": null, "identity": null,
            "method": null, "target": null, "policy": null, "status": null, "listener": "proxy",
        }));
    }
    wait_for_connections(&proxy, "peer_not_trusted", 4);
    assert_eq!(proxy.metrics().count("egressd_requests_total", &[]), 0);
}

#[test]
fn t70_a_trusted_peer_must_send_one_header_that_is_right() {
    let proxy = Egressd::start(&listening(TRUSTED, &["a.example"]));
    let connect = connect_to("a.example:443").into_bytes();
    let lying = |len: u16| {
        let mut header = v2([10, 0, 0, 7], &[]);
        header[14..16].copy_from_slice(&len.to_be_bytes());
        [header, connect.clone()].concat()
    };
    let cases: &[Vec<u8>] = &[
        connect.clone(),
        [v1("10.0.0.7"), v1("10.0.0.8"), connect.clone()].concat(),
        [v2([10, 0, 0, 7], &[]), v2([10, 0, 0, 8], &[]), connect.clone()].concat(),
        [v1("10.0.0.7"), v2([10, 0, 0, 8], &[]), connect.clone()].concat(),
        lying(11),
        lying(13),
        lying(65_535),
        [b"PROXY TCP4 10.0.0.7\n".to_vec(), connect.clone()].concat(),
        v2_header(0x21, 0x12, &[10, 0, 0, 7, 10, 0, 0, 1, 0, 1, 0, 2]),
        [0x16, 3, 1, 0, 200].to_vec(),
    ];
    for (number, bytes) in (1..).zip(cases) {
        let mut wire = proxy.connect();
        let peer = wire.local().to_string();
        wire.send(bytes);
        assert_closed_without_a_word(wire);
        wait_for_connections(&proxy, "proxy_header_invalid", number);
        proxy.record(|record| record["peer"] == peer.as_str()).assert_has(&json!({
            "event": "deny", "reason": "proxy_header_invalid", "decision": "deny", "client": null, "status": null,
        }));
    }
}

#[test]
fn a_second_header_that_comes_later_is_not_a_request() {
    let proxy = Egressd::start(&listening(TRUSTED, &["a.example"]));
    let peeks = |number| (connections(&proxy, "accepted") == number).then_some(());
    for (number, second) in (1..).zip([v1("10.0.0.8"), v2([10, 0, 0, 8], &[])]) {
        let mut wire = proxy.connect();
        // Read separately: a part of the first head follows it, so that the header is known to have been removed.
        wire.send(v1("10.0.0.7"));
        wire.send([&second[..], connect_to("a.example:443").as_bytes()].concat());
        let (answer, end) = wire.read_to_end();
        // In one read or in two: closed without a reply, or answered as a bad request.
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
        assert_ne!((answer.is_empty(), end), (false, End::Reset));
        until("it to be counted", || peeks(number - connections(&proxy, "proxy_header_invalid")));
    }
    let records = proxy.stop().records;
    assert!(records.iter().all(|record| record["event"] == "deny"), "{records:?}");
    assert_eq!(records.len(), 2);
}

#[test]
fn a_header_that_is_cut_off_is_refused_and_one_that_comes_in_single_bytes_is_not() {
    let origin = Origin::echo();
    let rule = format!("tcp://{}", origin.address());
    let proxy = Egressd::start(&listening(TRUSTED, &[&rule]));
    let authority = origin.address().to_string();
    for header in [v1("10.0.0.7"), v2([10, 0, 0, 7], &vpc_endpoint("vpce-0abc"))] {
        let mut wire = proxy.connect();
        let bytes = [&header[..], connect_to(&authority).as_bytes()].concat();
        wire.send_in_pieces(bytes.chunks(1), Duration::from_micros(200));
        let reply = wire.read_head();
        assert_eq!(reply.status, 200);
        proxy.record(|r| r["id"] == reply.id()).assert_has(&json!({"client": "10.0.0.7:4711"}));

        let before = connections(&proxy, "proxy_header_invalid");
        let mut wire = proxy.connect();
        wire.send(&header[..header.len() - 1]);
        wire.finish();
        assert_closed_without_a_word(wire);
        wait_for_connections(&proxy, "proxy_header_invalid", before + 1);
    }
}

#[test]
fn a_header_that_never_ends_is_closed_at_the_deadline_of_heads() {
    let proxy = Egressd::start(&(listening(TRUSTED, &["a.example"]) + "limits: {head_timeout: 200ms}\n"));
    for start in [&b"PROXY TCP4 10."[..], &V2[..7], b""] {
        let mut wire = proxy.connect();
        let peer = wire.local().to_string();
        wire.send(start);
        assert_closed_without_a_word(wire);
        let record = proxy.record(|record| record["peer"] == peer.as_str());
        record.assert_has(&json!({"reason": "proxy_header_invalid"}));
    }
    until("the diagnostics", || {
        proxy.stderr().contains("the PROXY header did not arrive in time").then_some(())
    });
}

#[test]
fn health_checks_are_counted_and_never_logged() {
    let authority = Authority::new();
    let directory = directory();
    let own = authority.issue(&["proxy.test"]);
    write(&directory.path().join("tls.crt"), &own.pem);
    write(&directory.path().join("tls.key"), &own.key_pem);
    let tls = format!("{TRUSTED}, tls: {{certificate: tls.crt, key: tls.key}}");
    for proxy in [
        Egressd::start(&listening(TRUSTED, &["a.example"])),
        Egressd::start_in(directory, &listening(&tls, &["a.example"])),
    ] {
        let mut count = 0;
        for header in [v2_header(0x20, 0x00, &[]), b"PROXY UNKNOWN\r\n".to_vec(), v1("10.0.0.7"), Vec::new()]
        {
            let mut probe = proxy.connect();
            probe.send(&header);
            probe.finish();
            assert_closed_without_a_word(probe);
            // An NLB may also end with a RST.
            proxy.connect().reset();
            count += 2;
            wait_for_connections(&proxy, "probe", count);
        }
        let ended = proxy.stop();
        assert!(ended.records.is_empty(), "{:?}", ended.records);
        assert!(!ended.stderr.contains("refused"), "{}", ended.stderr);
    }
}

#[test]
fn tls_begins_right_behind_the_header() {
    let origin = Origin::echo();
    let authority = Authority::new();
    let directory = directory();
    let own = authority.issue(&["proxy.test"]);
    write(&directory.path().join("tls.crt"), &own.pem);
    write(&directory.path().join("tls.key"), &own.key_pem);
    let keys = format!("{TRUSTED}, tls: {{certificate: tls.crt, key: tls.key}}");
    let proxy = Egressd::start_in(directory, &listening(&keys, &[&format!("tcp://{}", origin.address())]));
    let mut wire = proxy.connect();
    wire.send(v2([10, 0, 0, 7], &[]));
    let mut wire: Wire<TlsStream> = Wire::through(authority.client("proxy.test", wire));
    wire.send(connect_to(&origin.address().to_string()));
    let reply = wire.read_head();
    assert_eq!(reply.status, 200);
    proxy.record(|r| r["id"] == reply.id()).assert_has(&json!({"client": "10.0.0.7:4711"}));
    wire.send("ping");
    assert_eq!(wire.read_exact(4), b"ping");
}

#[test]
fn a_balancer_that_hides_the_clients_is_reported_once() {
    let limits = "limits: {requests_per_second_per_client: 100000}\n";
    let proxy = Egressd::start(&(config(&["a.example"]) + limits));
    let says = "nearly all of the last 1000 connections came from 127.0.0.1.";
    for _ in 0..2_000 {
        let mut wire = proxy.connect();
        wire.send("\n");
        let (reply, end) = wire.read_to_end();
        assert!(reply.starts_with(b"HTTP/1.1 400 ") && end == End::Fin);
    }
    wait_for_connections(&proxy, "accepted", 2_000);
    let status = proxy.get("/api/status").body;
    assert!(status.contains(says), "on the status page, too: {status}");
    let stderr = proxy.stop().stderr;
    assert_eq!(stderr.matches(says).count(), 1, "{stderr}");
    assert!(stderr.contains("preserve_client_ip.enabled=true") && stderr.contains("`proxy_protocol`"));
}

#[test]
fn a_drain_does_not_wait_for_a_header_or_a_handshake() {
    let proxy = Egressd::start(&(listening(TRUSTED, &["a.example"]) + "shutdown: {grace_period: 10m}\n"));
    let mut idle = proxy.connect();
    idle.send("PROXY ");
    // The grace period is far longer than the deadline of `stop`.
    assert_eq!(refused_connections(&proxy.stop().records).len(), 0);
}
