//! Tunnels of plain requests are judged again: the tunnel by the rules for a CONNECT, each of its requests by what is in
//! force when it comes.

use std::io::{self, Read, Write};

use serde_json::json;

use crate::support::{Conversation, Egressd, Origin, Record, Wire, any_port, client_hello, config, until};
use crate::{configure, ping, reloaded, short};

/// Answers each request with `whole`, and one whose path is `/half` with half of an answer. After a request for an upgrade
/// it echoes.
fn answering() -> Origin {
    Origin::start(any_port(), move |mut conversation| {
        loop {
            let head = head_of(&mut conversation)?;
            if head.is_empty() {
                return Ok(());
            }
            if head.contains("/half") {
                conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")?;
            } else if head.contains("/silent") {
                continue;
            } else if head.contains("pgrade: websocket") {
                conversation.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")?;
                return echo(conversation);
            } else {
                conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")?;
            }
        }
    })
}

fn echo(mut conversation: Conversation) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        match conversation.read(&mut buffer)? {
            0 => return Ok(()),
            count => conversation.write_all(&buffer[..count])?,
        }
    }
}

/// Empty at a close.
fn head_of(conversation: &mut Conversation) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if conversation.read(&mut byte)? == 0 {
            return Ok(String::new());
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn rule(scheme: &str, origin: &Origin) -> String {
    format!("{scheme}://{}", origin.address())
}

fn get(origin: &Origin, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address())
}

fn is_answered(wire: &mut Wire, origin: &Origin) {
    wire.send(get(origin, "/"));
    assert_eq!(wire.read_reply().body, "whole");
}

fn tunnel_to(proxy: &Egressd, origin: &Origin) -> Wire {
    proxy.tunnel(&origin.address().to_string())
}

fn closed(proxy: &Egressd) -> Record {
    proxy.record(|record| record["event"] == "close")
}

#[test]
fn t65_a_tunnel_of_plain_requests_ends_with_its_rule() {
    for (rules, reason) in [
        (&["http://other.test"][..], "host_not_allowed"),
        // The same port, and TLS is wanted now: `https` rules are asked first.
        (&["https", "http"], "not_tls"),
    ] {
        let origin = answering();
        let proxy = Egressd::start(&config(&[&rule("http", &origin)]));
        let mut idle = tunnel_to(&proxy, &origin);
        is_answered(&mut idle, &origin);
        let rules: Vec<String> = rules
            .iter()
            .map(|text| if text.contains(':') { (*text).to_owned() } else { rule(text, &origin) })
            .collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        reloaded(&proxy, || configure(&proxy, &config(&rules)));
        assert!(idle.read_to_end().0.is_empty());
        closed(&proxy).assert_has(&json!({
            "ending": "policy_revoked", "reason": reason, "decision": "allow", "rule": rule("http", &origin),
        }));
        until("its connections to end", || origin.seen().iter().all(|seen| seen.ended).then_some(()));
    }
}

#[test]
fn a_request_under_way_ends_with_its_tunnel() {
    let origin = answering();
    let proxy = Egressd::start(&config(&[&rule("http", &origin)]));
    let mut half = tunnel_to(&proxy, &origin);
    half.send(get(&origin, "/half"));
    assert_eq!(half.read_head().status, 200);
    assert_eq!(half.read_exact(4), b"half");
    let mut silent = tunnel_to(&proxy, &origin);
    silent.send(get(&origin, "/silent"));
    until("the request to arrive", || {
        origin.seen().iter().any(|seen| seen.bytes.windows(7).any(|part| part == b"/silent")).then_some(())
    });
    let hash = reloaded(&proxy, || configure(&proxy, &config(&["http://other.test"])));
    assert!(half.read_to_end().0.is_empty(), "a body that was cut off must not look whole");
    proxy.record(|record| record["event"] == "request").assert_has(&json!({
        "ending": "policy_revoked", "reason": "host_not_allowed", "decision": "allow", "status": 200,
    }));
    let refused = proxy.refused(silent, 403, "host_not_allowed");
    refused.record.assert_has(&json!({"decision": "deny", "config": short(&hash), "rule": null}));
    until("both last records", || {
        let closed = proxy.records().iter().filter(|record| record["ending"] == "policy_revoked").count();
        // Of two tunnels, and of the request that was cut.
        (closed == 3).then_some(())
    });
}

#[test]
fn a_tunnel_that_is_still_allowed_lives_and_its_requests_belong_to_the_new_configuration() {
    let origin = answering();
    let proxy = Egressd::start(&config(&[&rule("http", &origin)]));
    let mut wire = tunnel_to(&proxy, &origin);
    is_answered(&mut wire, &origin);
    for rules in [["http", "http://other.test"], ["tcp", "http://other.test"]] {
        let first = rule(rules[0], &origin);
        let hash = reloaded(&proxy, || configure(&proxy, &config(&[&first, rules[1]])));
        is_answered(&mut wire, &origin);
        proxy
            .record(|record| record["event"] == "request" && record["config"] == short(&hash))
            .assert_has(&json!({"decision": "allow", "rule": first}));
    }
    assert_eq!(origin.seen().len(), 3, "a connection serves only under the configuration that admitted it");
    drop(wire);
    closed(&proxy).assert_has(&json!({"ending": "client_closed", "rule": rule("http", &origin)}));
}

#[test]
fn an_opaque_tunnel_ends_where_only_plain_requests_are_allowed_now() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&config(&[&rule("tcp", &origin)]));
    let mut tunnel = tunnel_to(&proxy, &origin);
    ping(&mut tunnel);
    reloaded(&proxy, || configure(&proxy, &config(&[&rule("http", &origin)])));
    assert!(tunnel.read_to_end().0.is_empty());
    closed(&proxy).assert_has(&json!({"ending": "policy_revoked", "reason": "scheme_not_allowed"}));
}

#[test]
fn what_only_report_mode_let_flow_ends_in_enforce_mode() {
    let enforced = |origin: &Origin| config(&[&rule("http", origin)]);
    let reported =
        |origin: &Origin| enforced(origin).replace("  - name: test\n", "  - name: test\n    mode: report\n");
    // TLS.
    let echo = Origin::echo();
    let proxy = Egressd::start(&reported(&echo));
    let mut tls = tunnel_to(&proxy, &echo);
    let hello = client_hello(Some("mirror.test"));
    tls.send(&hello);
    assert_eq!(tls.read_exact(hello.len()), hello);
    proxy.record(|record| record["event"] == "open").assert_has(&json!({
        "decision": "would_deny", "reason": "scheme_not_allowed", "sni": "mirror.test",
    }));
    reloaded(&proxy, || configure(&proxy, &enforced(&echo)));
    assert!(tls.read_to_end().0.is_empty());
    closed(&proxy).assert_has(&json!({"ending": "policy_revoked", "reason": "scheme_not_allowed"}));

    // An upgrade.
    let origin = answering();
    let proxy = Egressd::start(&reported(&origin));
    let mut wire = tunnel_to(&proxy, &origin);
    let asked = "GET /chat HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nProxy-X: secret\r\n\r\nearly";
    wire.send(asked.replace("{}", &origin.address().to_string()));
    assert_eq!(wire.read_head().status, 101);
    assert_eq!(wire.read_exact(5), b"early");
    ping(&mut wire);
    let seen = String::from_utf8_lossy(&origin.seen()[0].bytes).into_owned();
    assert!(seen.starts_with("GET /chat HTTP/1.1\r\n") && !seen.contains("secret"), "{seen}");
    proxy.record(|record| record["event"] == "request").assert_has(&json!({
        "decision": "would_deny", "reason": "upgrade_not_allowed", "status": null,
    }));
    let metrics = proxy.metrics();
    let reported = [("decision", "would_deny"), ("reason", "upgrade_not_allowed")];
    assert_eq!(metrics.count("egressd_inspected_requests_total", &reported), 1);
    reloaded(&proxy, || configure(&proxy, &enforced(&origin)));
    assert!(wire.read_to_end().0.is_empty());
    closed(&proxy).assert_has(&json!({"ending": "policy_revoked", "reason": "upgrade_not_allowed"}));

    // Requests are requests in either mode.
    let origin = answering();
    let proxy = Egressd::start(
        &config(&[&rule("http", &origin)]).replace("  - name: test\n", "  - name: test\n    mode: report\n"),
    );
    let mut wire = tunnel_to(&proxy, &origin);
    is_answered(&mut wire, &origin);
    reloaded(&proxy, || configure(&proxy, &enforced(&origin)));
    is_answered(&mut wire, &origin);
    wire.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    proxy.refused(wire, 421, "host_mismatch");
}
