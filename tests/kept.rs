//! A client's connection between two requests: how long it is kept, what the client is told of that, and what becomes of a
//! request that crosses its close.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use support::{Authority, Egressd, End, Origin, Reply, Wire, any_port, config, directory, until, write};

/// An origin that answers every request without a body, and every POST with one byte.
fn web() -> Origin {
    Origin::start(any_port(), |mut conversation| {
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while conversation.read(&mut byte)? > 0 {
            seen.push(byte[0]);
            if seen.ends_with(b"\r\n\r\n") || seen.ends_with(b"\r\n\r\na") {
                if seen.starts_with(b"POST ") && !seen.ends_with(b"a") {
                    continue;
                }
                seen.clear();
                conversation
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=1\r\n\r\nok")?;
            }
        }
        Ok(())
    })
}

fn starts(origin: &Origin, more: &str) -> Egressd {
    Egressd::start(&(config(&[&format!("http://{}", origin.address())]) + more))
}

fn get(origin: &Origin) -> String {
    let to = origin.address();
    format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n\r\n")
}

fn post(origin: &Origin, path: &str) -> String {
    let to = origin.address();
    format!("POST http://{to}/{path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: 1\r\n\r\na")
}

fn ask<S: Read + Write>(wire: &mut Wire<S>, request: &str) -> Reply {
    wire.send(request);
    let reply = wire.read_reply();
    assert_eq!((reply.status, &*reply.body), (200, "ok"), "{reply:?}");
    reply
}

#[test]
fn a_client_is_told_how_long_its_connection_is_kept_and_it_is_not_the_time_for_a_head() {
    let origin = web();
    for (http, announced) in [("", "timeout=55"), ("http: {keepalive_timeout: 10m}\n", "timeout=595")] {
        let proxy = starts(&origin, &format!("limits: {{head_timeout: 1s}}\n{http}"));
        let mut wire = proxy.connect();
        for request in [get(&origin), post(&origin, "")] {
            let reply = ask(&mut wire, &request);
            assert_eq!(reply.header("keep-alive"), Some(announced));
            assert_eq!(reply.header("connection"), Some("keep-alive"));
        }
        // Longer than a head may take: nothing is to happen meanwhile.
        std::thread::sleep(Duration::from_millis(1300));
        ask(&mut wire, &get(&origin));
        // A head that has begun has its own time again.
        wire.send("GET http://");
        proxy.refused(wire, 408, "head_timeout");
    }
}

#[test]
fn http_1_0_is_kept_where_the_client_asks_for_it() {
    let origin = web();
    let proxy = starts(&origin, "");
    let to = origin.address();
    for asks in ["Connection: keep-alive", "Proxy-Connection: Keep-Alive"] {
        let before = origin.seen().len();
        let mut wire = proxy.connect();
        for _ in 0..3 {
            let reply = ask(&mut wire, &format!("GET http://{to}/ HTTP/1.0\r\n{asks}\r\n\r\n"));
            assert_eq!(
                (reply.header("connection"), reply.header("keep-alive")),
                (Some("keep-alive"), Some("timeout=55"))
            );
        }
        assert_eq!(origin.seen().len(), before + 1, "one connection to the target");
        let reply = ask(&mut wire, &format!("GET http://{to}/ HTTP/1.0\r\n\r\n"));
        assert_eq!((reply.header("connection"), reply.header("keep-alive")), (Some("close"), None));
        assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    }
}

#[test]
fn a_connection_that_was_idle_for_too_long_ends_with_a_fin_and_no_record() {
    let origin = web();
    let proxy = starts(&origin, "http: {keepalive_timeout: 1s}\n");
    let mut wire = proxy.connect();
    assert_eq!(ask(&mut wire, &get(&origin)).header("keep-alive"), Some("timeout=1"));
    assert_eq!(
        wire.read_to_end(),
        (Vec::new(), End::Fin),
        "no 408, which would be taken for the next response"
    );
    drop(wire);
    let records = proxy.stop().records;
    assert_eq!(records.iter().map(|record| record.text("event")).collect::<Vec<_>>(), ["http"]);
}

/// Sends a POST on a connection whose FIN it has just read: as if it had been on its way. Whether egressd still saw it.
fn crosses<S: Read + Write>(
    proxy: &Egressd,
    origin: &Origin,
    mut wire: Wire<S>,
    reason: &str,
    event: &str,
) -> bool {
    assert_eq!(wire.read_to_end().0, b"");
    wire.send(post(origin, "crossing?q"));
    drop(wire);
    let target = format!("http://{}/crossing", origin.address());
    let found = || proxy.records().into_iter().find(|record| record["target"] == target.as_str());
    let Some(record) = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        found()
    }) else {
        return false;
    };
    record.assert_has(
        &json!({"event": event, "reason": reason, "status": null, "method": "POST", "upstream": null}),
    );
    until("the cause on stderr, with the id", || {
        let told = |line: &str| line.contains(record.text("id")) && line.contains("it was not run");
        proxy.stderr().lines().any(told).then_some(())
    });
    assert!(
        !origin.seen().iter().any(|seen| seen.bytes.windows(8).any(|part| part == b"crossing")),
        "it was not run"
    );
    true
}

/// The close waits a second for it; on a busy machine even that may be too short, so each has five tries.
#[test]
fn a_request_that_crosses_the_close_is_recorded_and_not_run() {
    let origin = web();
    let authority = Authority::new();
    let files = directory();
    let issued = authority.issue(&["proxy.test"]);
    write(&files.path().join("tls.crt"), &issued.pem);
    write(&files.path().join("tls.key"), &issued.key_pem);
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let both = "{name: proxy, address: 127.0.0.1:0}, {name: tls, address: 127.0.0.1:0, tls: {certificate: tls.crt, key: tls.key}}";
    let text = config(&[&format!("http://{}", origin.address())]) + "http: {keepalive_timeout: 1s}\n";
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    let proxy = Egressd::start_in(files, &text.replace(bare, both));
    let idle = || {
        let mut wire = proxy.connect();
        ask(&mut wire, &get(&origin));
        crosses(&proxy, &origin, wire, "head_timeout", "deny")
    };
    assert!((0..5).any(|_| idle()), "in clear");
    let idle = || {
        let mut wire = Wire::through(authority.client("proxy.test", Wire::connect(proxy.listener("tls"))));
        ask(&mut wire, &get(&origin));
        crosses(&proxy, &origin, wire, "head_timeout", "deny")
    };
    assert!((0..5).any(|_| idle()), "by TLS");
    let drained = || {
        let proxy = starts(&origin, "");
        let mut wire = proxy.connect();
        ask(&mut wire, &get(&origin));
        proxy.signal(Signal::TERM);
        crosses(&proxy, &origin, wire, "draining", "error")
    };
    assert!((0..5).any(|_| drained()), "in a drain");
}

#[test]
fn a_response_that_ends_in_a_drain_does_not_promise_to_keep_the_connection() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let origin = Origin::start(any_port(), move |mut conversation| {
        conversation.read_exact(&mut [0])?;
        let _ = released.lock().expect("no panic").recv();
        conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let proxy = starts(&origin, "");
    let mut wire = proxy.connect();
    wire.send(get(&origin));
    until("the request at the origin", || (!origin.seen().is_empty()).then_some(()));
    proxy.signal(Signal::TERM);
    until("the drain to begin", || proxy.stderr().contains("draining").then_some(()));
    drop(release);
    let reply = wire.read_reply();
    assert_eq!(
        (reply.status, reply.header("connection"), reply.header("keep-alive")),
        (200, Some("close"), None)
    );
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
}

/// A 407 keeps its connection in the same way; when nothing comes on it, it was never answered.
#[test]
fn a_407_is_kept_as_long_and_then_told_as_unanswered() {
    let files = directory();
    write(&files.path().join("users"), format!("u:{}\n", bcrypt::hash("p", 4).expect("a good cost")));
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let text = config(&["a.example"]) + "http: {keepalive_timeout: 2s}\n";
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    let text = text.replace(bare, "{name: proxy, address: 127.0.0.1:0, basic_auth: {users_file: users}}");
    let proxy = Egressd::start_in(files, &text);
    let mut wire = proxy.connect();
    wire.send("CONNECT a.example:443 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.header("keep-alive")), (407, Some("timeout=1")));
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    drop(wire);
    proxy
        .record(|record| record["id"] == reply.id())
        .assert_has(&json!({"reason": "auth_required", "status": 407}));
}
