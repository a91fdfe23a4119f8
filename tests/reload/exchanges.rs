//! Plain HTTP exchanges in progress are judged again like tunnels, and the connections to targets that they left open serve
//! no request that the new policy refuses.

use std::io::{self, Read, Write};

use serde_json::json;

use crate::names::HeldNames;
use crate::support::{Conversation, Egressd, Origin, any_port, config, until};
use crate::{configure, reloaded, short};

/// Answers every head with `response`, and each later byte `x` with one byte of the body.
fn answering(response: &'static str) -> Origin {
    Origin::start(any_port(), move |mut conversation| {
        while read_head(&mut conversation)? {
            conversation.write_all(response.as_bytes())?;
        }
        Ok(())
    })
}

/// False at a close.
fn read_head(conversation: &mut Conversation) -> io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if conversation.read(&mut byte)? == 0 {
            return Ok(false);
        }
        head.push(byte[0]);
    }
    Ok(true)
}

/// The head, and half of the body: the exchange stays in progress until something ends it.
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf";
const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";

fn rule(origin: &Origin) -> String {
    format!("http://127.0.0.1:{}", origin.port())
}

fn get(authority: &str) -> String {
    format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

#[test]
fn an_exchange_no_longer_allowed_ends_and_the_others_never_notice() {
    let (kept, gone) = (answering(HALF), answering(HALF));
    let rules = [rule(&kept), rule(&gone)];
    let proxy = Egressd::start(&config(&[&rules[0], &rules[1]]));
    let begin = |origin: &Origin| {
        let mut wire = proxy.connect();
        wire.send(get(&origin.address().to_string()));
        assert_eq!(wire.read_head().status, 200);
        assert_eq!(wire.read_exact(4), b"half");
        wire
    };
    let (mut revoked, stays) = (begin(&gone), begin(&kept));
    reloaded(&proxy, || configure(&proxy, &config(&[&rules[0]])));

    let (rest, _) = revoked.read_to_end();
    assert!(rest.is_empty(), "a body that was cut off must not look whole: {rest:?}");
    proxy.record(|record| record["event"] == "http").assert_has(&json!({
        "ending": "policy_revoked", "reason": "port_not_allowed", "decision": "allow", "rule": rules[1], "status": 200,
    }));
    gone.wait_ended(0);
    assert!(!kept.seen()[0].ended, "the other goes on");
    drop(stays);
}

#[test]
fn an_exchange_without_an_answer_is_refused_by_the_new_policy() {
    let origin = Origin::silent();
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let mut wire = proxy.connect();
    wire.send(get(&origin.address().to_string()));
    until("the request to arrive", || origin.seen().first().filter(|seen| !seen.bytes.is_empty()).cloned());
    let hash = reloaded(&proxy, || configure(&proxy, &config(&["http://other.test"])));
    let refused = proxy.refused(wire, 403, "host_not_allowed");
    refused.record.assert_has(&json!({"decision": "deny", "config": short(&hash), "rule": null}));
    origin.wait_ended(0);
}

#[test]
fn an_address_no_longer_open_ends_the_exchange_that_reached_it() {
    let origin = answering(HALF);
    let allow = format!("http://mirror.test:{}", origin.port());
    let base = format!("{}dns: {{hosts: {{mirror.test: [127.0.0.1]}}}}\n", config(&[&allow]));
    let proxy = Egressd::start(&base);
    let mut wire = proxy.connect();
    wire.send(get(&format!("mirror.test:{}", origin.port())));
    assert_eq!(wire.read_head().status, 200);
    reloaded(&proxy, || {
        configure(&proxy, &base.replace("private: [127.0.0.0/8]", "private: [127.0.0.2/32]"))
    });
    let _ = wire.read_to_end();
    let record = proxy.record(|record| record["event"] == "http");
    record.assert_has(&json!({"ending": "policy_revoked", "reason": "address_prohibited"}));
}

#[test]
fn a_connection_kept_to_the_target_serves_nobody_whom_the_new_policy_refuses() {
    let origin = answering(WHOLE);
    let authority = origin.address().to_string();
    let proxy = Egressd::start(&config(&[&rule(&origin)]));
    let mut wire = proxy.connect();
    for _ in 0..2 {
        wire.send(get(&authority));
        assert_eq!(wire.read_reply().body, "whole");
    }
    assert_eq!(origin.seen().len(), 1, "one connection serves both");

    // Still allowed, by another configuration: the old one judged the kept connection, so it is closed.
    reloaded(&proxy, || configure(&proxy, &config(&[&rule(&origin), "http://other.test"])));
    wire.send(get(&authority));
    assert_eq!(wire.read_reply().body, "whole");
    assert_eq!(origin.seen().len(), 2);
    origin.wait_ended(0);

    let before = origin.seen()[1].bytes.len();
    reloaded(&proxy, || configure(&proxy, &config(&["http://other.test"])));
    wire.send(get(&authority));
    proxy.refused(wire, 403, "host_not_allowed");
    assert_eq!(origin.wait_ended(1).bytes.len(), before, "nothing more reached it");
}

#[test]
fn an_exchange_overtaken_while_its_name_is_looked_up_is_refused_by_the_new_policy() {
    let origin = answering(WHOLE);
    let names = HeldNames::start();
    let allow = format!("http://slow.test:{}", origin.port());
    let text = format!("{}{}", config(&[&allow]), names.setting());
    let proxy = Egressd::start(&text);
    let mut wire = proxy.connect();
    wire.send(get(&format!("slow.test:{}", origin.port())));
    names.wait_asked();
    let hash =
        reloaded(&proxy, || configure(&proxy, &text.replace("allow:", "deny: [slow.test]\n    allow:")));
    names.release();
    let refused = proxy.refused(wire, 403, "host_denied");
    refused.record.assert_has(&json!({"config": short(&hash), "rule": "slow.test", "decision": "deny"}));
    assert!(origin.seen().iter().all(|seen| seen.bytes.is_empty()));
}
