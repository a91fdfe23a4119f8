//! A client that speaks another protocol than its listener: it is told so in words that it can read, and the log and the
//! diagnostics have the cause.

use serde_json::json;

use crate::certificates::{MUTUAL, TLS, files};
use crate::support::{Authority, Egressd, End, Wire, client_hello, config, until};
use crate::{connect_to, connections, listening};

const TOLD: &str = "this listener speaks TLS: use https:// in the proxy URL";

/// Waits for the line on stderr that has this id.
fn diagnostics(proxy: &Egressd, id: &str) -> String {
    until("the cause on stderr, with the id", || {
        proxy.stderr().lines().find(|line| line.contains(id)).map(str::to_owned)
    })
}

fn starts(keys: &str) -> Egressd {
    let authority = Authority::new();
    Egressd::start_in(files(&authority, &[]), &listening(keys, &["listed.test"]))
}

#[test]
fn plain_http_at_a_tls_listener_is_answered_in_clear() {
    const SECRET: &str = "Z2l0YWx5OnNlc2FtZQ==";
    let requests = [
        ("CONNECT", "listed.test:443"),
        ("GET", "http://listed.test/a?b=c"),
        ("HEAD", "http://listed.test/"),
        ("POST", "/"),
        ("PROPFIND", "http://u:secret@x/"),
    ];
    for keys in [TLS, MUTUAL] {
        let proxy = starts(keys);
        for (method, target) in requests {
            let mut wire = proxy.connect();
            let client = wire.local().to_string();
            wire.send(format!(
                "{method} {target} HTTP/1.1\r\nHost: x\r\nUser-Agent: sesame/1\r\n\
                 Proxy-Authorization: Basic {SECRET}\r\nX: \u{1b}[2J\r\n\r\n"
            ));
            let reply = if method == "HEAD" { wire.read_head() } else { wire.read_reply() };
            let reason = "tls_handshake_failed";
            assert_eq!((reply.status, reply.reason()), (400, Some(reason)), "{reply:?}");
            assert_eq!(reply.phrase, format!("egressd: {reason}: {TOLD}"));
            assert_eq!(reply.body.contains(TOLD), method != "HEAD", "{reply:?}");
            assert_eq!(reply.header("connection"), Some("close"));
            assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin), "{method}: nothing was destroyed");
            let record = proxy.record(|record| record["id"] == reply.id());
            record.assert_has(&json!({
                "event": "deny", "decision": "deny", "reason": reason, "status": 400, "client": client,
                "method": method, "user_agent": "sesame/1", "policy": null, "upstream": null,
            }));
            let line = diagnostics(&proxy, reply.id());
            assert!(line.contains("its proxy URL must begin with https://"), "{line}");
        }
        until("each to be counted", || (connections(&proxy, "tls_failed") == 5).then_some(()));
        assert_eq!(proxy.metrics().count("egressd_requests_total", &[]), 0, "no request was served");
        let page = proxy.get("/api/decisions").body;
        assert!(page.contains("tls_handshake_failed"), "{page}");
        let ended = proxy.stop();
        let all = format!("{:?}{}{page}", ended.records, ended.stderr);
        assert!(!all.contains(SECRET) && !all.contains("secret") && !all.contains("b=c"), "{all}");
    }
}

#[test]
fn the_answer_in_clear_needs_no_whole_head_and_survives_what_comes_behind_it() {
    let proxy = starts(TLS);
    // Byte by byte, and only as far as the method.
    let mut wire = proxy.connect();
    for byte in "OPTIONS ".bytes() {
        wire.send([byte]);
    }
    assert_eq!(wire.read_reply().status, 400);
    drop(wire);
    // A body behind the head: a reset would destroy the answer.
    let mut wire = proxy.connect();
    wire.send("POST http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\nContent-Length: 60000\r\n\r\n");
    wire.send(vec![b'a'; 60_000]);
    assert!(wire.read_reply().body.contains(TOLD));
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    // A client that keeps the connection open, and one that stops within its method, hold nothing beyond a deadline.
    let keys = "tls: {certificate: tls.crt, key: tls.key, handshake_timeout: 50ms}";
    let proxy = starts(keys);
    let mut idle = proxy.connect();
    idle.send("GET / HTTP/1.1\r\n");
    assert_eq!(idle.read_reply().status, 400);
    assert_eq!(idle.read_to_end(), (Vec::new(), End::Fin));
    let mut half = proxy.connect();
    half.send("GE");
    assert_eq!(half.read_to_end().0, b"", "it may become anything");
    let record =
        proxy.record(|record| record["reason"] == "tls_handshake_failed" && record["status"].is_null());
    assert!(diagnostics(&proxy, record.text("id")).contains("did not end in time"));
}

#[test]
fn other_protocols_at_a_tls_listener_are_named_on_stderr() {
    let proxy = starts(TLS);
    for (bytes, cause) in [
        (&b"\x05\x01\x00\0\0\0\0"[..], "spoke SOCKS"),
        (b"\x04\x01\x01\xbb\xc0\0\x02\x01\0", "spoke SOCKS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "spoke SSH"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nCONNECT x:1 HTTP/1.1\r\n\r\n", "PROXY header"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "PROXY header"),
        (b"EHLO x\r\n\r\n", "without TLS"),
        (b"\0\0\0\0\0\0\0\0", "did not speak TLS"),
    ] {
        let mut wire = proxy.connect();
        let client = wire.local().to_string();
        wire.send(bytes);
        let (answer, _) = wire.read_to_end();
        let in_clear = cause == "without TLS";
        assert_eq!(answer.starts_with(b"HTTP/1.1 400 "), in_clear, "{}", bytes.escape_ascii());
        let record = proxy.record(|record| record["client"] == client);
        record.assert_has(&json!({
            "reason": "tls_handshake_failed", "status": in_clear.then_some(400), "event": "deny",
        }));
        let line = diagnostics(&proxy, record.text("id"));
        assert!(line.contains(cause), "{cause}: {line}");
    }
}

/// The answer is HTTP in clear, and no alert: that is what clients have words for ("wrong version number", and urllib3 and Go
/// say which part of the URL is wrong). The log's id leads to the cause.
#[test]
fn tls_and_other_protocols_at_a_cleartext_listener_are_told_as_clearly() {
    let proxy = Egressd::start(&config(&["listed.test"]));
    for (bytes, cause) in [
        (client_hello(Some("proxy.test")), "the client spoke TLS: use http:// in the proxy URL"),
        (vec![0x16, 3, 1], "the client spoke TLS: use http:// in the proxy URL"),
        (b"\x05\x01\x00".to_vec(), "the client spoke SOCKS: use http:// in the proxy URL"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "the client spoke SSH"),
        (connect_to("a b").into_bytes(), "the request line is not"),
    ] {
        let mut wire: Wire = proxy.connect();
        wire.send(&bytes);
        let refused = proxy.refused(wire, 400, "bad_request");
        assert!(refused.reply.body.contains(cause), "{refused:?}");
        let line = diagnostics(&proxy, refused.reply.id());
        assert!(line.contains(cause), "{line}");
    }
}
