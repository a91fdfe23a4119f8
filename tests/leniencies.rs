//! What hyper, and most HTTP libraries, let pass: each sent as bytes to a running egressd, each refused by our own
//! gate with its reason in reply and log, and nothing of it reaches the target.

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use support::{Egressd, End, Origin, config};

/// `OK` stands for a target that is allowed and listens, `PORT` for its port.
struct Row {
    what: &'static str,
    bytes: &'static [u8],
    status: u16,
    reason: &'static str,
}

const fn row(what: &'static str, bytes: &'static [u8], status: u16, reason: &'static str) -> Row {
    Row { what, bytes, status, reason }
}

const ROWS: &[Row] = &[
    // Framing: hyper deletes Content-Length where there is Transfer-Encoding, and collapses equal duplicates.
    row(
        "CL and TE",
        b"POST http://OK/ HTTP/1.1\r\nHost: OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    row(
        "TE and CL",
        b"POST http://OK/ HTTP/1.1\r\nHost: OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    row(
        "two equal Content-Length",
        b"POST http://OK/ HTTP/1.1\r\nHost: OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        400,
        "bad_request",
    ),
    row(
        "a list of equal Content-Length",
        b"POST http://OK/ HTTP/1.1\r\nHost: OK\r\nContent-Length: 1, 1\r\n\r\na",
        400,
        "bad_request",
    ),
    row(
        "repeated Transfer-Encoding",
        b"POST http://OK/ HTTP/1.1\r\nHost: OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    row(
        "TE: identity, Chunked",
        b"POST http://OK/ HTTP/1.1\r\nHost: OK\r\nTransfer-Encoding: identity, Chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    row(
        "Transfer-Encoding in HTTP/1.0",
        b"POST http://OK/ HTTP/1.0\r\nHost: OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    row("Content-Length: +5", b"POST http://OK/ HTTP/1.1\r\nHost: OK\r\nContent-Length: +5\r\n\r\nhello", 400, "bad_request"),
    row("CONNECT with a body", b"CONNECT OK HTTP/1.1\r\nHost: OK\r\nContent-Length: 5\r\n\r\nhello", 400, "bad_request"),
    row(
        "CONNECT with a chunked body",
        b"CONNECT OK HTTP/1.1\r\nHost: OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    // Lines.
    row("bare LF", b"CONNECT OK HTTP/1.1\nHost: OK\n\n", 400, "bad_request"),
    row("one bare LF", b"CONNECT OK HTTP/1.1\r\nHost: OK\n\r\n", 400, "bad_request"),
    row("a leading blank line", b"\r\nCONNECT OK HTTP/1.1\r\nHost: OK\r\n\r\n", 400, "bad_request"),
    row("a leading LF", b"\nCONNECT OK HTTP/1.1\r\nHost: OK\r\n\r\n", 400, "bad_request"),
    row("a folded line", b"CONNECT OK HTTP/1.1\r\nHost: OK\r\nX: a\r\n b\r\n\r\n", 400, "bad_request"),
    row("a bare CR", b"CONNECT OK HTTP/1.1\r\nHost: OK\r\nX: a\rb\r\n\r\n", 400, "bad_request"),
    row("a space before the colon", b"CONNECT OK HTTP/1.1\r\nHost : OK\r\n\r\n", 400, "bad_request"),
    row("a NUL in a value", b"CONNECT OK HTTP/1.1\r\nHost: OK\r\nX: a\0b\r\n\r\n", 400, "bad_request"),
    // The target.
    row("UTF-8 in the target", "CONNECT b\u{fc}cher.example:443 HTTP/1.1\r\nHost: x:443\r\n\r\n".as_bytes(), 400, "bad_target"),
    row("0x80 in the target", b"CONNECT a\x80.example:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 400, "bad_target"),
    row("CONNECT to a path", b"CONNECT /foo HTTP/1.1\r\nHost: OK\r\n\r\n", 400, "bad_target"),
    row("CONNECT to a URI", b"CONNECT http://OK/ HTTP/1.1\r\nHost: OK\r\n\r\n", 400, "bad_target"),
    row("userinfo", b"CONNECT user@OK HTTP/1.1\r\nHost: OK\r\n\r\n", 400, "bad_target"),
    row("userinfo in a URI", b"GET http://user@OK/ HTTP/1.1\r\nHost: OK\r\n\r\n", 400, "bad_target"),
    row("no port", b"CONNECT 127.0.0.1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "bad_target"),
    row("port 99999", b"CONNECT 127.0.0.1:99999 HTTP/1.1\r\nHost: 127.0.0.1:99999\r\n\r\n", 400, "bad_target"),
    row("port 0", b"CONNECT 127.0.0.1:0 HTTP/1.1\r\nHost: 127.0.0.1:0\r\n\r\n", 400, "bad_target"),
    row("port +443", b"CONNECT 127.0.0.1:+443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "bad_target"),
    row("a fragment", b"GET http://OK/#x HTTP/1.1\r\nHost: OK\r\n\r\n", 400, "bad_target"),
    row("origin-form", b"GET / HTTP/1.1\r\nHost: OK\r\n\r\n", 400, "bad_target"),
    // Host.
    row("no Host", b"CONNECT OK HTTP/1.1\r\n\r\n", 400, "bad_request"),
    row("two Host", b"CONNECT OK HTTP/1.1\r\nHost: OK\r\nHost: OK\r\n\r\n", 400, "bad_request"),
    // Methods and versions.
    row("TRACE", b"TRACE http://OK/ HTTP/1.1\r\nHost: OK\r\n\r\n", 405, "method_not_allowed"),
    row("ftp", b"GET ftp://OK/ HTTP/1.1\r\nHost: OK\r\n\r\n", 403, "scheme_not_allowed"),
    row("an https URI", b"GET https://OK/ HTTP/1.1\r\nHost: OK\r\n\r\n", 403, "scheme_not_allowed"),
    row("HTTP/0.9", b"GET http://OK/\r\n\r\n", 400, "bad_request"),
    row("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    row("TLS on a cleartext port", b"\x16\x03\x01\x00\x05hello", 400, "bad_request"),
];

fn fill(bytes: &[u8], port: u16) -> Vec<u8> {
    let authority = format!("127.0.0.1:{port}");
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|window| window == b"OK") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(authority.as_bytes());
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    out
}

fn proxy(origin: &Origin, more: &str) -> Egressd {
    let port = origin.port();
    let rules = [format!("tcp://127.0.0.1:{port}"), format!("http://127.0.0.1:{port}")];
    let mut text = config(&[&rules[0], &rules[1]]);
    text.push_str(more);
    Egressd::start(&text)
}

#[test]
fn what_libraries_let_pass_is_refused_with_its_reason() {
    let origin = Origin::echo();
    let proxy = proxy(&origin, "");
    let mut failed = String::new();
    for Row { what, bytes, status, reason } in ROWS {
        let bytes = fill(bytes, origin.port());
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            proxy.refuses(&bytes, *status, reason);
        }));
        if refused.is_err() {
            writeln!(failed, "{what}: not refused as {status} {reason}").expect("a String takes all");
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert!(origin.seen().is_empty(), "something reached the target");
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.count("egressd_requests_total", &[]),
        ROWS.len() as u64,
        "each request is counted once"
    );
}

#[test]
fn every_row_holds_whatever_the_segments() {
    let origin = Origin::echo();
    let proxy = proxy(&origin, "");
    for Row { bytes, status, reason, .. } in ROWS {
        let bytes = fill(bytes, origin.port());
        let mut wire = proxy.connect();
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        wire.send_in_pieces([head, tail], Duration::from_millis(1));
        proxy.refused(wire, *status, reason);
    }
    assert!(origin.seen().is_empty(), "something reached the target");
}

#[test]
fn the_record_of_a_malformed_target_says_what_was_asked_and_no_password() {
    let origin = Origin::echo();
    let proxy = proxy(&origin, "");
    for (target, shown) in [
        ("ok.test:99999", "ok.test:99999"),
        ("allowed.test@evil.test:443", "allowed.test@evil.test:443"),
        ("user:secret@ok.test:443", "user:***@ok.test:443"),
        ("/path?token=secret", "/path"),
        ("b\u{fc}cher.test:443", "b\u{fc}cher.test:443"),
    ] {
        let refused = proxy.refuses(
            format!("CONNECT {target} HTTP/1.1\r\nHost: ok.test:443\r\n\r\n"),
            400,
            "bad_target",
        );
        assert_eq!(refused.record["target"], shown);
        assert!(!refused.reply.body.contains("secret"), "{}", refused.reply.body);
    }
}

#[test]
fn a_head_larger_than_the_bound_is_431() {
    let origin = Origin::echo();
    let proxy = proxy(&origin, "limits: {head_bytes: 2KiB}\n");
    let long = format!("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(4096));
    proxy.refuses(long, 431, "head_too_large");
    let many = format!("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: a\r\n".repeat(200));
    proxy.refuses(many, 431, "head_too_large");
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let origin = Origin::echo();
    let proxy = proxy(&origin, "limits: {head_timeout: 300ms}\n");
    proxy.refuses("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHos", 408, "head_timeout");
}

#[test]
fn whoever_leaves_amid_a_head_is_recorded_as_gone() {
    let origin = Origin::echo();
    let proxy = proxy(&origin, "");
    let mut wire = proxy.connect();
    wire.send("CONNECT 127.0.0.1:1 HT");
    wire.finish();
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    let record = proxy.record(|record| record["reason"] == "client_gone");
    assert_eq!(record["event"], "error");
}

#[test]
fn nothing_pipelined_behind_a_refusal_is_read() {
    let origin = Origin::echo();
    let proxy = proxy(&origin, "");
    let ok = origin.address();
    proxy.refuses(
        format!(
            "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\nCONNECT {ok} HTTP/1.1\r\nHost: {ok}\r\n\r\n"
        ),
        403,
        "host_not_allowed",
    );
    assert!(origin.seen().is_empty(), "the second request reached the target");
}
