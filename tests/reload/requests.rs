//! What a rule says about requests is judged as it is in force: a request that is under way ends where its entry is gone, and
//! the next one on the same connection is judged anew.

use std::io::{Read, Write};

use serde_json::json;

use crate::support::{Conversation, Egressd, Origin, Wire, any_port, config, until};
use crate::{configure, reloaded, short};

/// `/half` is answered with the first half of a body, everything else with `ok`.
fn answering() -> Origin {
    Origin::start(any_port(), |mut conversation: Conversation| {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if conversation.read(&mut byte)? == 0 {
                    return Ok(());
                }
                head.push(byte[0]);
            }
            let half = head.windows(5).any(|part| part == b"/half");
            let reply: &[u8] = match half {
                true => b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf",
                false => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            conversation.write_all(reply)?;
        }
    })
}

fn with(origin: &Origin, requests: &str) -> String {
    let port = origin.port();
    config(&[&format!("{{to: 'http://mirror.test:{port}', requests: [{requests}]}}")])
        + "dns: {hosts: {mirror.test: [127.0.0.1]}}\n"
}

fn get(origin: &Origin, path: &str) -> String {
    let authority = format!("mirror.test:{}", origin.port());
    format!("GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

fn is_answered(wire: &mut Wire, origin: &Origin, path: &str) {
    wire.send(get(origin, path));
    assert_eq!(wire.read_reply().status, 200, "{path}");
}

#[test]
fn an_exchange_whose_entry_is_gone_ends_and_the_others_never_notice() {
    let origin = answering();
    let proxy = Egressd::start(&with(&origin, "{paths: ['/half/**', /ok]}"));
    let begin = |path: &str| {
        let mut wire = proxy.connect();
        wire.send(get(&origin, path));
        assert_eq!(wire.read_head().status, 200);
        assert_eq!(wire.read_exact(4), b"half");
        wire
    };
    let (mut gone, stays) = (begin("/half/a"), begin("/half/b"));
    let mut next = proxy.connect();
    is_answered(&mut next, &origin, "/ok");
    let hash = reloaded(&proxy, || configure(&proxy, &with(&origin, "{paths: [/half/b, /other]}")));
    assert!(gone.read_to_end().0.is_empty(), "a body that was cut off must not look whole");
    proxy.record(|record| record["ending"] == "policy_revoked").assert_has(&json!({
        "event": "http", "reason": "request_not_allowed", "decision": "allow", "status": 200,
    }));
    // The next request on a connection that goes on.
    next.send(get(&origin, "/ok"));
    let refused = proxy.refused(next, 403, "request_not_allowed");
    refused.record.assert_has(&json!({"event": "deny", "config": short(&hash)}));
    let cut = proxy.records().iter().filter(|record| record["ending"] == "policy_revoked").count();
    assert_eq!(cut, 1, "the other goes on");
    drop(stays);
}

#[test]
fn inside_a_tunnel_the_requests_are_judged_by_what_is_in_force() {
    let origin = answering();
    let proxy = Egressd::start(&with(&origin, "{paths: ['/half/**', /ok]}"));
    let tunnel = || proxy.tunnel(&format!("mirror.test:{}", origin.port()));
    let (mut open, mut half) = (tunnel(), tunnel());
    is_answered(&mut open, &origin, "/ok");
    half.send(get(&origin, "/half/a"));
    assert_eq!(half.read_head().status, 200);
    assert_eq!(half.read_exact(4), b"half");
    reloaded(&proxy, || configure(&proxy, &with(&origin, "{paths: [/other]}")));
    assert!(half.read_to_end().0.is_empty());
    proxy
        .record(|record| record["event"] == "request" && record["ending"] == "policy_revoked")
        .assert_has(&json!({"reason": "request_not_allowed"}));
    // The tunnel itself is still allowed.
    is_answered(&mut open, &origin, "/other");
    open.send(get(&origin, "/ok"));
    proxy.refused(open, 403, "request_not_allowed");
}

/// An opaque tunnel to a port whose requests a rule judges now would pass unseen.
#[test]
fn an_opaque_tunnel_ends_where_a_rule_judges_requests_now() {
    let origin = Origin::echo();
    let opaque = format!("tcp://mirror.test:{}", origin.port());
    let hosts = "dns: {hosts: {mirror.test: [127.0.0.1]}}\n";
    let proxy = Egressd::start(&(config(&[&opaque]) + hosts));
    let mut tunnel = proxy.tunnel(&format!("mirror.test:{}", origin.port()));
    crate::ping(&mut tunnel);
    // A wider one: for the same host it would be refused beside the opaque rule.
    let judged = format!("{{to: 'http://*.test:{}', requests: [{{methods: [GET]}}]}}", origin.port());
    reloaded(&proxy, || configure(&proxy, &(config(&[&opaque, &judged]) + hosts)));
    assert!(tunnel.read_to_end().0.is_empty());
    until("the last record", || {
        proxy.records().iter().any(|record| record["event"] == "close").then_some(())
    });
    proxy
        .record(|record| record["event"] == "close")
        .assert_has(&json!({"ending": "policy_revoked", "reason": "scheme_not_allowed"}));
}
