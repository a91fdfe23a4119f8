//! Plain requests inside the tunnels that `http` rules carry: what is forwarded, recorded and counted, and what ends a
//! tunnel. That such a request is judged as it would be outside a tunnel is in `tests/threats/inside.rs`.

mod support;

use std::io::{self, Read, Write};
use std::sync::{Mutex, mpsc};

use rustix::process::Signal;
use serde_json::json;
use support::{
    Authority, Conversation, Egressd, End, Origin, Record, Wire, any_port, client_hello, config, directory,
    until, write,
};

/// Answers each request with `ok`, whatever it is: in the head of the answer is what `fields` says. At the end of an answer
/// that says so it closes.
fn answering(fields: &'static str) -> Origin {
    Origin::start(any_port(), move |mut conversation| {
        while take_request(&mut conversation)? {
            write!(conversation, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok")?;
            if fields.contains("close") {
                return Ok(());
            }
        }
        Ok(())
    })
}

/// Answers each request with a head, and with half of the body that the head announces.
fn answering_half() -> Origin {
    Origin::start(any_port(), |mut conversation| {
        while take_request(&mut conversation)? {
            conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")?;
        }
        Ok(())
    })
}

/// Reads one request with its body. False at a close.
fn take_request(conversation: &mut Conversation) -> io::Result<bool> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if conversation.read(&mut byte)? == 0 {
            return Ok(false);
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length =
        text.split_once("content-length: ").and_then(|(_, rest)| rest.split_once("\r\n")?.0.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    conversation.read_exact(&mut body)?;
    Ok(true)
}

fn rule(origin: &Origin) -> String {
    format!("http://{}", origin.address())
}

fn connect(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

fn get(origin: &Origin, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address())
}

fn post(origin: &Origin, length: usize) -> String {
    let body = "a".repeat(length);
    format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n{body}", origin.address())
}

fn tunnel_to(proxy: &Egressd, origin: &Origin) -> Wire {
    proxy.tunnel(&origin.address().to_string())
}

/// The last record of the only tunnel.
fn closed(proxy: &Egressd) -> Record {
    proxy.record(|record| record["method"] == "CONNECT" && record["event"] == "close")
}

#[test]
fn a_request_that_comes_with_the_connect_goes_over_the_connection_that_was_dialled_for_it() {
    let origin = answering("");
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let authority = origin.address().to_string();
    let mut wire = proxy.connect();
    wire.send(connect(&authority) + &get(&origin, "/a?secret=1") + &get(&origin, "/b"));
    let id = wire.read_head().id().to_owned();
    for _ in 0..2 {
        let reply = wire.read_reply();
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
        assert_ne!(reply.id(), id, "each request has an id of its own");
    }
    assert_eq!(origin.seen().len(), 1);
    let seen = String::from_utf8(origin.seen()[0].bytes.clone()).expect("text");
    assert!(seen.starts_with("GET /a?secret=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("GET /b HTTP/1.1\r\n"), "{seen}");
    drop(wire);
    let close = closed(&proxy);
    close.assert_has(&json!({
        "id": id, "target": authority, "rule": rule(&origin), "decision": "allow", "reason": null, "tunnel": null,
        "status": 200, "ending": "client_closed", "upstream": authority,
    }));
    let records = proxy.stop().records;
    let events: Vec<&str> = records.iter().map(|record| record.text("event")).collect();
    assert_eq!(events, ["open", "request", "request", "close"]);
    for (record, path) in records[1..3].iter().zip(["/a", "/b"]) {
        record.assert_has(&json!({
            "method": "GET", "target": format!("http://{authority}{path}"), "tunnel": id, "status": 200,
            "rule": rule(&origin), "decision": "allow", "ending": null, "upstream": authority,
        }));
    }
    let sum = |field| records[1..3].iter().map(|record| record.number(field)).sum::<u64>();
    assert_eq!((close.number("sent"), close.number("received")), (sum("sent"), sum("received")));
    assert!(sum("sent") > 0 && sum("received") > 0);
}

#[test]
fn inner_requests_are_counted_apart_and_every_byte_once() {
    let origin = answering("");
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let mut wire = tunnel_to(&proxy, &origin);
    for _ in 0..3 {
        wire.send(get(&origin, "/"));
        assert_eq!(wire.read_reply().status, 200);
    }
    // While the tunnel is open, too.
    let open = proxy.metrics();
    wire.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    proxy
        .refused(wire, 421, "host_mismatch")
        .record
        .assert_has(&json!({"policy": "test", "rule": rule(&origin)}));
    let close = closed(&proxy);
    let after = proxy.metrics();
    for (direction, field) in [("sent", "sent"), ("received", "received")] {
        for metrics in [&open, &after] {
            let counted =
                metrics.count("egressd_bytes_total", &[("policy", "test"), ("direction", direction)]);
            assert_eq!(counted, close.number(field), "{direction}");
        }
    }
    let rule = rule(&origin);
    let of = |decision, reason| {
        [("policy", "test"), ("rule", rule.as_str()), ("decision", decision), ("reason", reason)]
    };
    let inner = |decision, reason| after.count("egressd_inspected_requests_total", &of(decision, reason));
    assert_eq!((inner("allow", ""), inner("deny", "host_mismatch")), (3, 1));
    assert_eq!(after.count("egressd_inspected_requests_total", &[]), 4);
    assert_eq!(after.count("egressd_requests_total", &of("allow", "")), 1, "the tunnel alone");
    assert_eq!(after.count("egressd_requests_total", &[]), 1);
    assert_eq!(after.count("egressd_tunnels_total", &[("ending", "refused")]), 1);
}

#[test]
fn a_1xx_counts_for_the_tunnel_too() {
    let origin = Origin::start(any_port(), |mut conversation| {
        while take_request(&mut conversation)? {
            conversation.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
            conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(get(&origin, "/"));
    assert_eq!((wire.read_head().status, wire.read_reply().status), (103, 200));
    drop(wire);
    let request = proxy.record(|record| record["event"] == "request");
    assert_eq!(closed(&proxy).number("received"), request.number("received"));
}

#[test]
fn a_target_that_closes_after_its_answer_costs_the_client_nothing() {
    let origin = answering("Connection: close\r\n");
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let mut wire = tunnel_to(&proxy, &origin);
    for _ in 0..3 {
        wire.send(get(&origin, "/"));
        let reply = wire.read_reply();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("keep-alive")));
    }
    assert_eq!(origin.seen().len(), 3);
    // A request with a body is never sent over a connection that may be closing: outside a tunnel neither.
    let origin = answering("");
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let mut wire = tunnel_to(&proxy, &origin);
    for (request, connections) in [(post(&origin, 5), 1), (get(&origin, "/"), 1), (post(&origin, 5), 2)] {
        wire.send(request);
        assert_eq!(wire.read_reply().status, 200);
        assert_eq!(origin.seen().len(), connections);
    }
    let open = proxy.record(|record| record["event"] == "open" && record["method"] == "POST");
    assert!(open["tunnel"].is_string(), "the record of a body comes before the body: {open:?}");
}

#[test]
fn a_client_that_asks_for_the_end_gets_it() {
    let origin = answering("");
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(get(&origin, "/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    assert_eq!(closed(&proxy)["ending"], "upstream_closed");
}

#[test]
fn what_is_not_a_request_is_told_as_such() {
    let origin = answering("");
    let text = config(&[&rule(&origin)]) + "limits: {head_timeout: 1s}\n";
    let proxy = Egressd::start(&text);
    // TLS: the rule is for another scheme.
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(client_hello(Some("mirror.test")));
    assert_eq!(wire.read_to_end(), (vec![21, 3, 3, 0, 2, 2, 49], End::Fin), "access_denied");
    proxy.record(|record| record["reason"] == "scheme_not_allowed").assert_has(&json!({
        "event": "deny", "method": "CONNECT", "status": 200, "sni": "mirror.test", "rule": rule(&origin),
    }));
    // Nothing: perhaps it waits for the target to speak first.
    let mut wire = tunnel_to(&proxy, &origin);
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    proxy.record(|record| record["reason"] == "head_timeout").assert_has(&json!({
        "event": "deny", "method": "CONNECT", "status": 200, "tunnel": null,
    }));
    // Half a head.
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send("GET / HT");
    let refused = proxy.refused(wire, 408, "head_timeout");
    assert!(refused.record["tunnel"].is_string());
    // Another protocol, which is told at once.
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send("SSH-2.0-OpenSSH_9.2\r\n");
    proxy.refused(wire, 400, "bad_request");
    // A tunnel within the tunnel: no method that leads on is offered.
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(connect(&origin.address().to_string()));
    let refused = proxy.refused(wire, 405, "method_not_allowed");
    assert_eq!(refused.reply.header("allow"), Some("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
    // A client that leaves without a word.
    let wire = tunnel_to(&proxy, &origin);
    drop(wire);
    proxy.record(|record| record["reason"] == "client_gone");
    until("the connections to the target to end", || {
        origin.seen().iter().all(|seen| seen.ended).then_some(())
    });
    assert!(origin.seen().iter().all(|seen| seen.bytes.is_empty()), "{:?}", origin.seen());
}

#[test]
fn an_upgrade_is_refused_with_what_to_write_instead() {
    let origin = answering("");
    let authority = format!("mirror.test:{}", origin.port());
    let with = |rules: &[&str]| config(rules) + "dns: {hosts: {mirror.test: [127.0.0.1]}}\n";
    let (plain, opaque) = (format!("http://{authority}"), format!("tcp://{authority}"));
    let proxy = Egressd::start(&with(&[&plain]));
    for upgrade in ["Connection: Upgrade\r\nUpgrade: websocket\r\n", "Upgrade: h2c\r\n"] {
        let mut wire = proxy.tunnel(&authority);
        wire.send(format!("GET /chat HTTP/1.1\r\nHost: {authority}\r\n{upgrade}\r\n"));
        let refused = proxy.refused(wire, 403, "upgrade_not_allowed");
        let write = match upgrade.contains("websocket") {
            true => "add `- {upgrade: [websocket]}` under `requests` of the rule".to_owned(),
            false => format!("other than to a WebSocket: only `{opaque}` allows that"),
        };
        assert!(refused.reply.body.contains(&write), "{}", refused.reply.body);
    }
    let decisions = proxy.get("/api/decisions").body;
    assert!(decisions.contains(&format!("- {opaque}")), "{decisions}");
    // What that line says: the bytes flow.
    let proxy = Egressd::start(&with(&[&plain, &opaque]));
    let mut wire = proxy.tunnel(&authority);
    wire.send("GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(wire.read_reply().status, 200);
    let last = origin.seen().pop().expect("a connection");
    assert!(String::from_utf8_lossy(&last.bytes).contains("Upgrade: websocket"));
}

#[test]
fn t67_the_upload_limit_is_for_all_requests_of_the_tunnel() {
    let origin = answering("");
    let limited = format!("{{to: \"{}\", upload_limit: 2KiB}}", rule(&origin));
    let proxy = Egressd::start(&config(&[&limited]));
    let mut wire = tunnel_to(&proxy, &origin);
    for _ in 0..3 {
        wire.send(post(&origin, 500));
        assert_eq!(wire.read_reply().status, 200);
    }
    wire.send(post(&origin, 500));
    let refused = proxy.refused(wire, 413, "upload_limit");
    let close = closed(&proxy);
    assert_eq!(close["id"], refused.record["tunnel"]);
    assert_eq!(close["ending"], "upload_limit");
    let sent: usize = origin.seen().iter().map(|seen| seen.bytes.len()).sum();
    assert!((1500..=2048).contains(&sent), "{sent} bytes went out");
    assert_eq!(close.number("sent"), 3 * post(&origin, 500).len() as u64);

    let limited = format!("{{to: \"{}\", upload_budget: 1KiB/1h}}", rule(&origin));
    let proxy = Egressd::start(&config(&[&limited]));
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(post(&origin, 500));
    assert_eq!(wire.read_reply().status, 200);
    wire.send(post(&origin, 500));
    proxy.refused(wire, 403, "upload_budget");
}

#[test]
fn each_request_counts_against_the_clients_rate() {
    let origin = answering("");
    let text = config(&[&rule(&origin)]) + "limits: {requests_per_second_per_client: 5}\n";
    let proxy = Egressd::start(&text);
    let mut wire = tunnel_to(&proxy, &origin);
    let many: String = (0..30).map(|_| get(&origin, "/")).collect();
    wire.send(many);
    let last = loop {
        let reply = wire.read_reply();
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((last.status, last.reason()), (429, Some("client_rate_limited")));
    let record = proxy.record(|record| record["reason"] == "client_rate_limited");
    assert!(record["tunnel"].is_string() && record["event"] == "error", "{record:?}");
}

#[test]
fn t65_a_tunnel_ends_by_its_idle_time_and_by_its_age() {
    // Between two requests it is kept as a connection is, and its client is told so.
    let origin = answering("Keep-Alive: timeout=1000\r\n");
    let proxy = Egressd::start(&(config(&[&rule(&origin)]) + "http: {keepalive_timeout: 2s}\n"));
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(get(&origin, "/"));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.header("keep-alive")), (200, Some("timeout=1")));
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    // A request that crosses the close is not run, and is recorded.
    wire.send(get(&origin, "/late"));
    assert_eq!(wire.read_to_end().0, Vec::<u8>::new());
    let close = closed(&proxy);
    assert_eq!(close["ending"], "idle_timeout");
    proxy.record(|record| record["reason"] == "head_timeout").assert_has(&json!({
        "event": "deny", "tunnel": close["id"], "target": format!("http://{}/late", origin.address()), "status": null,
    }));
    assert!(!String::from_utf8_lossy(&origin.seen()[0].bytes).contains("/late"));

    // Within a response.
    let half = answering_half();
    let proxy = Egressd::start(&format!("{}tunnel: {{max_lifetime: 1s}}\n", config(&[&rule(&half)])));
    let mut wire = tunnel_to(&proxy, &half);
    wire.send(get(&half, "/"));
    assert_eq!(wire.read_head().status, 200);
    let (rest, end) = wire.read_to_end();
    assert_eq!((rest.len() <= 4, end), (true, End::Reset), "a body that was cut off must not look whole");
    assert_eq!(closed(&proxy)["ending"], "max_lifetime");
    proxy
        .record(|record| record["event"] == "request")
        .assert_has(&json!({"ending": "max_lifetime", "status": 200}));
}

#[test]
fn a_target_that_does_not_answer_is_a_504_inside() {
    let origin = Origin::silent();
    let proxy = Egressd::start(&(config(&[&rule(&origin)]) + "http: {response_timeout: 1s}\n"));
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(get(&origin, "/"));
    proxy.refused(wire, 504, "upstream_timeout");
    assert_eq!(closed(&proxy)["ending"], "refused");
}

#[test]
fn a_shutdown_waits_for_the_request_under_way_and_takes_no_other() {
    let (go_on, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let origin = Origin::start(any_port(), move |mut conversation| {
        if take_request(&mut conversation)? {
            conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")?;
            held.lock().expect("one request").recv().map_err(io::Error::other)?;
            conversation.write_all(b"rest")?;
        }
        Ok(())
    });
    let proxy = Egressd::start(&(config(&[&rule(&origin)]) + "shutdown: {grace_period: 1m}\n"));
    let mut busy = tunnel_to(&proxy, &origin);
    busy.send(get(&origin, "/"));
    assert_eq!(busy.read_head().status, 200);
    assert_eq!(busy.read_exact(4), b"half");
    let mut late = tunnel_to(&proxy, &origin);
    late.send("HEAD / HTTP/1.1\r\nHost: ");
    proxy.record(|record| record["event"] == "open");
    proxy.signal(Signal::TERM);
    proxy.says("draining");
    late.send(format!("{}\r\n\r\n", origin.address()));
    let reply = late.read_head();
    assert_eq!((reply.status, reply.reason()), (503, Some("draining")), "it goes to another replica");
    go_on.send(()).expect("the origin waits");
    assert_eq!(busy.read_exact(4), b"rest");
    let ended = proxy.wait();
    assert_eq!(ended.code, 0);
    let closed: Vec<&Record> = ended.records.iter().filter(|record| record["event"] == "close").collect();
    assert_eq!(closed.len(), 2, "{closed:?}");
    assert!(closed.iter().all(|record| record["ending"] == "drained"), "{closed:?}");
}

#[test]
fn an_idle_tunnel_ends_with_the_beginning_of_a_shutdown() {
    let origin = answering("");
    let proxy = Egressd::start(&(config(&[&rule(&origin)]) + "shutdown: {grace_period: 1m}\n"));
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(get(&origin, "/"));
    assert_eq!(wire.read_reply().status, 200);
    let ended = proxy.stop();
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    let close = ended.records.iter().find(|record| record["event"] == "close").expect("a last record");
    assert_eq!(close["ending"], "drained");
}

#[test]
fn a_listener_with_tls_carries_them_too() {
    let origin = answering("");
    let authority = Authority::new();
    let certificate = authority.issue(&["proxy.test"]);
    let directory = directory();
    write(&directory.path().join("tls.crt"), &certificate.pem);
    write(&directory.path().join("tls.key"), &certificate.key_pem);
    let text = config(&[&rule(&origin)]).replace(
        "address: 127.0.0.1:0}]\nadmin",
        "address: 127.0.0.1:0, tls: {certificate: tls.crt, key: tls.key}}]\nadmin",
    );
    let proxy = Egressd::start_in(directory, &text);
    let mut wire = Wire::through(authority.client("proxy.test", proxy.connect()));
    wire.send(connect(&origin.address().to_string()));
    assert_eq!(wire.read_head().status, 200);
    for _ in 0..2 {
        wire.send(get(&origin, "/"));
        assert_eq!(wire.read_reply().body, "ok");
    }
    assert_eq!(origin.seen().len(), 1);
    wire.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(wire.read_reply().status, 421);
}

#[test]
fn a_client_that_leaves_within_an_answer_ends_the_tunnel() {
    let origin = answering_half();
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let mut wire = tunnel_to(&proxy, &origin);
    wire.send(get(&origin, "/"));
    assert_eq!(wire.read_head().status, 200);
    drop(wire);
    origin.wait_ended(0);
    let ending = closed(&proxy)["ending"].clone();
    assert!(ending == "client_closed" || ending == "client_reset", "{ending}");
}

#[test]
fn the_status_page_offers_what_a_tunnel_of_tls_needs() {
    let origin = answering("");
    let proxy = Egressd::start(
        &(config(&[&format!("http://mirror.test:{}", origin.port())])
            + "dns: {hosts: {mirror.test: [127.0.0.1]}}\n"),
    );
    let authority = format!("mirror.test:{}", origin.port());
    let mut wire = proxy.tunnel(&authority);
    wire.send(client_hello(Some("mirror.test")));
    let _ = wire.read_to_end();
    proxy.record(|record| record["reason"] == "scheme_not_allowed");
    let decisions = until("the refusal on the page", || {
        Some(proxy.get("/api/decisions").body).filter(|body| body.contains("scheme_not_allowed"))
    });
    assert!(decisions.contains(&format!("- https://{authority}")), "{decisions}");
}
