//! `upload_budget`: how many bytes one client may send under one rule within a sliding window, in tunnels and requests alike.

use std::io::Read;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Egressd, End, Origin, config, until, write};

const BUDGET: usize = 100_000;

fn budgeted(origin: &Origin, scheme: &str, budget: &str) -> String {
    config(&[&format!("{{to: \"{scheme}://127.0.0.1:{}\", upload_budget: {budget}}}", origin.port())])
}

fn connect(origin: &Origin) -> String {
    let address = origin.address();
    format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n")
}

/// How many bytes reached the origin.
fn arrived(origin: &Origin) -> usize {
    origin.seen().iter().map(|seen| seen.bytes.len()).sum()
}

#[test]
fn t67_a_tunnel_is_cut_at_the_budget_and_new_requests_are_refused() {
    let origin = Origin::silent();
    let proxy = Egressd::start(&budgeted(&origin, "tcp", &format!("{BUDGET}B/1h")));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send(vec![7; BUDGET + 1]);
    let _ = tunnel.read_to_end();
    assert_eq!(origin.wait_ended(0).bytes.len(), BUDGET, "exactly the budget arrives");
    let closed = proxy.record(|r| r["event"] == "close");
    closed.assert_has(&json!({"ending": "upload_limit", "sent": BUDGET}));

    let refused = proxy.refuses(connect(&origin), 403, "upload_budget");
    refused.record.assert_has(&json!({
        "policy": "test", "decision": "deny", "rule": format!("tcp://127.0.0.1:{}", origin.port()), "upstream": null,
    }));
    assert!(refused.reply.body.contains("upload budget"), "{}", refused.reply.body);
    assert_eq!(origin.seen().len(), 1, "a refused request dials nothing");
    assert_eq!(proxy.metrics().count("egressd_requests_total", &[("reason", "upload_budget")]), 1);
}

/// An attacker that opens all tunnels before the first byte gains nothing.
#[test]
fn t67_many_tunnels_at_once_share_one_budget() {
    let origin = Origin::silent();
    let proxy = Egressd::start(&budgeted(&origin, "tcp", &format!("{BUDGET}B/1h")));
    let mut tunnels: Vec<_> = (0..8).map(|_| proxy.tunnel(&origin.address().to_string())).collect();
    for tunnel in &mut tunnels {
        tunnel.send(vec![7; BUDGET / 2]);
        tunnel.finish();
    }
    for mut tunnel in tunnels {
        let _ = tunnel.read_to_end();
    }
    let closed = until("every tunnel's last record", || {
        let closed: Vec<_> = proxy.records().into_iter().filter(|r| r["event"] == "close").collect();
        (closed.len() == 8).then_some(closed)
    });
    let sent: u64 = closed.iter().map(|record| record.number("sent")).sum();
    until("the origin to have read it", || (arrived(&origin) == BUDGET).then_some(()));
    assert_eq!(sent, BUDGET as u64);
    assert!(closed.iter().any(|record| record["ending"] == "upload_limit"));
}

#[test]
fn the_answer_still_flows_while_the_client_sends_no_more_than_its_budget() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&budgeted(&origin, "tcp", "4B/1h"));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send("four");
    assert_eq!(tunnel.read_exact(4), b"four");
    tunnel.finish();
    assert_eq!(tunnel.read_to_end(), (Vec::new(), End::Fin));
    proxy.record(|r| r["event"] == "close").assert_has(&json!({"ending": "client_closed", "sent": 4}));
}

#[test]
fn another_client_has_a_budget_of_its_own() {
    let origin = Origin::silent();
    let proxy = Egressd::start(&budgeted(&origin, "tcp", "1B/1h"));
    proxy.tunnel(&origin.address().to_string()).send("1");
    until("the byte to arrive", || (arrived(&origin) == 1).then_some(()));
    proxy.refuses(connect(&origin), 403, "upload_budget");

    // Loopback has many client addresses.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&proxy.address().into()).unwrap();
    let mut other = crate::support::Wire::over(socket.into());
    other.send(connect(&origin));
    assert_eq!(other.read_head().status, 200);
}

#[test]
fn t67_plain_requests_draw_on_the_budget_heads_included() {
    let origin = Origin::start(crate::support::any_port(), |mut conversation| {
        let mut some = [0; 64 * 1024];
        loop {
            let count = conversation.read(&mut some)?;
            match some.get(..4) {
                _ if count == 0 => return Ok(()),
                // egressd sends a head in one piece, so one read begins with it.
                Some(b"GET ") => {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    std::io::Write::write_all(&mut conversation, answer)?;
                }
                _ => {}
            }
        }
    });
    let proxy = Egressd::start(&budgeted(&origin, "http", "1000B/1h"));
    let address = origin.address();
    let get = |path: &str| format!("GET http://{address}/{path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let request = get(&"x".repeat(500));
    let mut wire = proxy.connect();
    wire.send(&request);
    assert_eq!(wire.read_reply().status, 200);

    // What cannot be sent completely is not begun: neither this head nor a body of this length.
    wire.send(&request);
    let refused = proxy.refused(wire, 403, "upload_budget");
    refused.record.assert_has(&json!({"policy": "test", "decision": "deny"}));
    let post =
        |framing: &str| format!("POST http://{address}/ HTTP/1.1\r\nHost: {address}\r\n{framing}\r\n\r\n");
    proxy.refuses(post("Content-Length: 400"), 403, "upload_budget");
    assert_eq!(origin.seen().len(), 1, "nothing of them reached the origin");

    // A body of unknown length is begun, and cut.
    let mut wire = proxy.connect();
    wire.send(post("Transfer-Encoding: chunked") + "1f4\r\n" + &"x".repeat(500));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.reason()), (403, Some("upload_budget")));
    // Its body had begun, so there is an earlier record, too.
    proxy.record(|r| r["id"] == reply.id() && r["event"] == "open");
    proxy.record(|r| r["id"] == reply.id() && r["event"] == "deny");
    let cut = origin.wait_ended(1).bytes;
    assert!(!cut.ends_with(b"\r\n0\r\n\r\n") && cut.len() < 450, "{}", String::from_utf8_lossy(&cut));
}

/// A reload must not give a client a new budget.
#[test]
fn a_reload_keeps_what_was_sent() {
    let origin = Origin::silent();
    let before = budgeted(&origin, "tcp", "10B/1h");
    let proxy = Egressd::start(&before);
    proxy.tunnel(&origin.address().to_string()).send("0123456789");
    until("the bytes to arrive", || (arrived(&origin) == 10).then_some(()));
    proxy.refuses(connect(&origin), 403, "upload_budget");

    let reload = |text: &str| {
        let hash = |proxy: &Egressd| proxy.metrics().label_values("egressd_config_info", "sha256").join(",");
        let old = hash(&proxy);
        write(&proxy.file("egressd.yaml"), text);
        proxy.signal(Signal::HUP);
        until("the reload", || (hash(&proxy) != old).then_some(()));
    };
    reload(&(before.clone() + "log: {level: info}\n# an edit that changes nothing\n"));
    proxy.refuses(connect(&origin), 403, "upload_budget");
    reload(&budgeted(&origin, "tcp", "15B/1h"));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send("0123456789");
    let _ = tunnel.read_to_end();
    assert_eq!(origin.wait_ended(1).bytes.len(), 5, "what is left of the larger budget");
}

#[test]
fn report_mode_relaxes_no_budget() {
    let origin = Origin::silent();
    let text = budgeted(&origin, "tcp", "1B/1h").replace("private:", "mode: report\n    private:");
    let proxy = Egressd::start(&text);
    proxy.tunnel(&origin.address().to_string()).send("1");
    until("the byte to arrive", || (arrived(&origin) == 1).then_some(()));
    proxy.refuses(connect(&origin), 403, "upload_budget");
}
