//! What the gate promises, as tables: bytes, verdict, reason. A case that is in `THREATS` has the number of its row.

mod against_hyper;
mod bodies;
mod inside;
mod transparent;

use super::*;
use crate::words::outcome::Reason::*;

/// Most bytes of a head in these tests.
const LIMIT: usize = 16 * 1024;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// The verdict on `bytes`, which arrive at once; `None`: the head is not complete.
fn verdict(bytes: &[u8]) -> Result<Option<Head>, Box<RefusedHead>> {
    read_within(bytes, LIMIT)
}

fn read_within(bytes: &[u8], limit: usize) -> Result<Option<Head>, Box<RefusedHead>> {
    match HeadLines::default().scan(bytes, limit)? {
        Some(end) => parse(&bytes[..end]).map(Some),
        None => Ok(None),
    }
}

fn accepted(bytes: &str) -> Head {
    match verdict(bytes.as_bytes()) {
        Ok(Some(head)) => head,
        other => panic!("{bytes:?}: {other:?}"),
    }
}

fn refused(bytes: &[u8]) -> RefusedHead {
    match verdict(bytes) {
        Err(refused) => *refused,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

/// A request with these lines after a good request line and `Host`.
fn with_fields(fields: &str) -> Vec<u8> {
    format!("POST http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n{fields}\r\n").into_bytes()
}

#[test]
fn an_absolute_form_becomes_target_and_path() {
    for (uri, target, path) in [
        ("http://ok.test/a?b=c", "ok.test:80", "/a?b=c"),
        ("http://ok.test", "ok.test:80", "/"),
        ("http://ok.test?b", "ok.test:80", "/?b"),
        ("HTTP://OK.test.:8080/A", "ok.test:8080", "/A"),
        ("http://[2001:DB8::1]:81/", "[2001:db8::1]:81", "/"),
        ("http://203.0.113.9//x/../y", "203.0.113.9:80", "//x/../y"),
        ("http://ok.test/http://evil.test/", "ok.test:80", "/http://evil.test/"),
        ("http://ok.test/@evil.test:80/", "ok.test:80", "/@evil.test:80/"),
    ] {
        let head = accepted(&format!("GET {uri} HTTP/1.0\r\n\r\n"));
        let RequestTarget::Absolute { target: asked, path_and_query } = head.target else { panic!("{uri}") };
        assert_eq!((asked.to_string().as_str(), path_and_query.as_str()), (target, path), "{uri}");
        assert_eq!(asked.method, crate::words::target::Method::Http);
    }
}

#[test]
fn body_and_connection_are_read() {
    for (version, fields, framing, keep_alive, expect) in [
        ("1.1", "", Framing::None, true, false),
        ("1.1", "Content-Length: 0\r\n", Framing::Length(0), true, false),
        ("1.1", "content-length:\t42 \r\nExpect: 100-Continue\r\n", Framing::Length(42), true, true),
        ("1.1", "Transfer-Encoding: chunked\r\n", Framing::Chunked, true, false),
        ("1.1", "Content-Length: 9223372036854775807\r\n", Framing::Length(i64::MAX as u64), true, false),
        ("1.1", "Expect: 100-continue\r\n", Framing::None, true, false),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", Framing::Length(0), true, false),
        ("1.1", "Content-Length: 1\r\nExpect: 100-continue\r\n", Framing::Length(1), true, true),
        ("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked, true, true),
        ("1.1", "Connection: keep-alive, x-hop,\r\n", Framing::None, true, false),
        ("1.1", "Connection: x\r\nConnection: Close\r\n", Framing::None, false, false),
        ("1.1", "Proxy-Connection: close\r\n", Framing::None, false, false),
        ("1.1", "Proxy-Connection: Keep-Alive\r\n", Framing::None, true, false),
        ("1.1", "Proxy-Connection: Keep-Alive\r\nConnection: close\r\n", Framing::None, false, false),
        ("1.0", "", Framing::None, false, false),
        ("1.0", "Connection: keep-alive\r\n", Framing::None, true, false),
        ("1.0", "Connection: x,Keep-Alive \r\n", Framing::None, true, false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", Framing::None, true, false),
        ("1.0", "Connection: keep-alive\r\nProxy-Connection: close\r\n", Framing::None, false, false),
        ("1.0", "Connection: keep-alive, close\r\n", Framing::None, false, false),
        ("1.0", "Keep-Alive: timeout=5\r\n", Framing::None, false, false),
        ("1.0", "Connection: keep-alives\r\n", Framing::None, false, false),
        ("1.0", "Content-Length: 3\r\nExpect: 100-continue\r\n", Framing::Length(3), false, false),
    ] {
        let head = accepted(&format!("POST http://ok.test/ HTTP/{version}\r\nHost: ok.test\r\n{fields}\r\n"));
        assert_eq!(
            (head.framing, head.keep_alive, head.expect_continue),
            (framing, keep_alive, expect),
            "{fields}"
        );
    }
}

#[test]
fn hosts_that_say_the_same_pass() {
    for head in [
        "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        // t05: for CONNECT the Host field is checked for form and never used.
        "CONNECT ok.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n",
        "CONNECT ok.test:443 HTTP/1.0\r\n\r\n",
        "GET http://ok.test/ HTTP/1.1\r\nhOST:OK.test.:80\r\n\r\n",
        "GET http://ok.test:8080/ HTTP/1.1\r\nHost: ok.test:8080\r\n\r\n",
    ] {
        accepted(head);
    }
}

#[test]
fn values_may_be_empty_or_obs_text_but_credentials_are_not_printed() {
    let head = verdict(
        b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nX:\r\nY: \xe9\tz \r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n",
    );
    let head = head.expect("well-formed").expect("not empty");
    assert_eq!(head.headers["x"], "");
    assert_eq!(head.headers["y"].as_bytes(), b"\xe9\tz");
    assert!(!format!("{head:?}").contains("c2VjcmV0"), "{head:?}");
}

#[test]
fn request_lines_that_are_refused() {
    for (line, reason, detail) in [
        // t28, t27
        (&b"GET http://\xd0\xb0.test/ HTTP/1.1"[..], BadTarget, "visible ASCII"),
        (b"CONNECT \x80.test:443 HTTP/1.1", BadTarget, "visible ASCII"),
        (b"GET http://ok.test/\x00 HTTP/1.1", BadRequest, "control character"),
        (b"CONNECT ok\x00.test:443 HTTP/1.1", BadRequest, "control character"),
        (b"GET\thttp://ok.test/\tHTTP/1.1", BadRequest, "no HTTP version|one space"),
        (b"GET  http://ok.test/ HTTP/1.1", BadRequest, "one space"),
        (b"GET http://ok.test/ HTTP/1.1 ", BadRequest, "one space"),
        (b"GET http://ok.test/ x HTTP/1.1", BadRequest, "one space"),
        (b"GET http://ok.test/", BadRequest, "no HTTP version"),
        (b"GET", BadRequest, "one space"),
        (b"G(T http://ok.test/ HTTP/1.1", BadRequest, "not a token"),
        (b"GET http://ok.test/ HTTP/1.2", BadRequest, "neither HTTP/1.1"),
        (b"GET http://ok.test/ http/1.1", BadRequest, "neither HTTP/1.1"),
        (b"GET http://ok.test/ HTTP/01.1", BadRequest, "neither HTTP/1.1"),
        (b"GET http://ok.test/ HTTP/3", BadRequest, "neither HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.9", BadRequest, "spoke SSH"),
        (b"SSH-2.0-OpenSSH_9.9 Debian", BadRequest, "spoke SSH"),
        // t59: the HTTP/2 preface
        (b"PRI * HTTP/2.0", BadRequest, "HTTP/2 is not served"),
        // t70: a PROXY header where none is due
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2", BadRequest, "PROXY protocol header"),
        // t57
        (b"TRACE http://ok.test/ HTTP/1.1", MethodNotAllowed, "not served"),
        (b"track http://ok.test/ HTTP/1.1", MethodNotAllowed, "not served"),
        (b"PRI * HTTP/1.1", MethodNotAllowed, "not served"),
        (b"OPTIONS * HTTP/1.1", MethodNotAllowed, "server itself"),
        (b"OPTIONS http://ok.test HTTP/1.1", MethodNotAllowed, "OPTIONS needs a path"),
        (b"Connect ok.test:443 HTTP/1.1", MethodNotAllowed, "upper case"),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG http://ok.test/ HTTP/1.1", MethodNotAllowed, "32 characters"),
        (b"GET * HTTP/1.1", BadTarget, "server itself"),
        // t45
        (b"GET /squid-internal-mgr/ HTTP/1.1", BadTarget, "forward proxy"),
        (b"GET ok.test HTTP/1.1", BadTarget, "neither an http:// URI"),
        (b"GET ok.test:80 HTTP/1.1", BadTarget, "for CONNECT only"),
        (b"GET 127.0.0.1:80 HTTP/1.1", BadTarget, "neither an http:// URI"),
        (b"GET http:/ok.test/ HTTP/1.1", BadTarget, "not http://host/path"),
        (b"GET http:ok.test HTTP/1.1", BadTarget, "not http://host/path"),
        (b"GET http:///x HTTP/1.1", BadTarget, "host is empty"),
        (b"GET http://ok.test/#x HTTP/1.1", BadTarget, "fragment"),
        (b"GET http://ok.test#x HTTP/1.1", BadTarget, "fragment"),
        (b"GET http://ok.test/<script> HTTP/1.1", BadTarget, "path or query"),
        (b"GET http://ok.test\\.evil.test/ HTTP/1.1", BadTarget, "not a letter"),
        (b"GET http://ok%2etest/ HTTP/1.1", BadTarget, "not a letter"),
        // t18
        (b"GET http://ok.test@evil.test/ HTTP/1.1", BadTarget, "user information"),
        (b"CONNECT ok.test@evil.test:443 HTTP/1.1", BadTarget, "user information"),
        // t17
        (b"GET https://ok.test/ HTTP/1.1", SchemeNotAllowed, "use CONNECT"),
        (b"GET ftp://ok.test/ HTTP/1.1", SchemeNotAllowed, "only http://"),
        (b"GET urn:isbn:1 HTTP/1.1", SchemeNotAllowed, "only http://"),
        (b"GET gopher://ok.test:70/ HTTP/1.1", SchemeNotAllowed, "only http://"),
        (b"GET cache_object://ok.test/ HTTP/1.1", BadTarget, "neither an http:// URI"),
        // t19
        (b"CONNECT ok.test:0 HTTP/1.1", BadTarget, "the port is not"),
        (b"CONNECT ok.test:65536 HTTP/1.1", BadTarget, "the port is not"),
        (b"CONNECT ok.test:00443 HTTP/1.1", BadTarget, "the port is not"),
        (b"CONNECT ok.test:+443 HTTP/1.1", BadTarget, "the port is not"),
        (b"CONNECT ok.test:443x HTTP/1.1", BadTarget, "the port is not"),
        (b"CONNECT ok.test:4294967739 HTTP/1.1", BadTarget, "the port is not"),
        (b"GET http://ok.test:/ HTTP/1.1", BadTarget, "the port is not"),
        (b"CONNECT ok.test HTTP/1.1", BadTarget, "the port is missing"),
        (b"CONNECT ok.test: HTTP/1.1", BadTarget, "the port is not"),
        (b"CONNECT /foo HTTP/1.1", BadTarget, "not a URI or a path"),
        (b"CONNECT http://ok.test:443/ HTTP/1.1", BadTarget, "not a URI or a path"),
        (b"CONNECT ok.test:443/ HTTP/1.1", BadTarget, "not a URI or a path"),
        (b"CONNECT ok.test:443?x HTTP/1.1", BadTarget, "not a URI or a path"),
        // t25, t26, t30, t32
        (b"CONNECT ok.test..:443 HTTP/1.1", BadTarget, "empty label"),
        (b"CONNECT [ok.test]:443 HTTP/1.1", BadTarget, "brackets"),
        (b"CONNECT 2001:db8::1:443 HTTP/1.1", BadTarget, "brackets"),
        (b"CONNECT 2130706433:443 HTTP/1.1", BadTarget, "IPv4"),
        (b"CONNECT [fe80::1%25eth0]:443 HTTP/1.1", BadTarget, "zone"),
        // t60
        (b"CONNECT \"><script>:443 HTTP/1.1", BadTarget, "not a letter"),
    ] {
        let bytes = [line, b"\r\nHost: ok.test\r\n\r\n"].concat();
        let refused = refused(&bytes);
        let text = String::from_utf8_lossy(line);
        assert_eq!(refused.reason, reason, "{text:?}: {refused:?}");
        assert!(detail.split('|').any(|part| refused.detail.contains(part)), "{text:?}: {}", refused.detail);
    }
}

#[test]
fn fields_that_are_refused() {
    for (fields, detail) in [
        // t50
        ("X: a\r\n b\r\n", "folded"),
        ("X: a\r\n\tb\r\n", "folded"),
        (" X: a\r\n", "folded"),
        ("X : a\r\n", "between a field's name and its colon"),
        ("X\t: a\r\n", "between a field's name and its colon"),
        ("X: a\nY: b\r\n", "LF without CR"),
        ("X: a\r\n\n", "LF without CR"),
        ("X: a\rY: b\r\n", "CR without LF"),
        ("X: a\r\r\n", "CR without LF"),
        ("X: \0\r\n", "control character"),
        ("X: \x7f\r\n", "control character"),
        ("X: \x1b[2J\r\n", "control character"),
        (": x\r\n", "not a token"),
        ("X Y: z\r\n", "not a token"),
        ("X(: z\r\n", "not a token"),
        ("X\u{e9}: z\r\n", "not a token"),
        ("no colon\r\n", "without a colon"),
        // t04
        ("Host: ok.test\r\n", "more than one Host"),
        ("HOST: evil.test\r\n", "more than one Host"),
        // t48
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "together with"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "together with"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "more than one Content-Length"),
        ("Content-Length: 5\r\ncontent-length: 6\r\n", "more than one Content-Length"),
        ("Content-Length: 5, 5\r\n", "Content-Length is not"),
        ("Content-Length: +5\r\n", "Content-Length is not"),
        ("Content-Length: -1\r\n", "Content-Length is not"),
        ("Content-Length: 0x5\r\n", "Content-Length is not"),
        ("Content-Length: 05\r\n", "Content-Length is not"),
        ("Content-Length: 5 5\r\n", "Content-Length is not"),
        ("Content-Length:\r\n", "Content-Length is not"),
        ("Content-Length: 9223372036854775808\r\n", "Content-Length is not"),
        ("Content-Length: 18446744073709551621\r\n", "Content-Length is not"),
        ("Content-Length: \u{664}\r\n", "Content-Length is not"),
        ("Transfer-Encoding: Chunked\r\n", "other than exactly"),
        ("Transfer-Encoding: identity\r\n", "other than exactly"),
        ("Transfer-Encoding: gzip, chunked\r\n", "other than exactly"),
        ("Transfer-Encoding: chunked, chunked\r\n", "other than exactly"),
        ("Transfer-Encoding: chunked;q=1\r\n", "other than exactly"),
        ("Transfer-Encoding: \u{b}chunked\r\n", "control character"),
        ("Transfer-Encoding:\r\n", "other than exactly"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "more than one Transfer"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "more than one Transfer"),
        // t52
        ("Connection: Host\r\n", "nominates"),
        ("Connection: close, VIA\r\n", "nominates"),
        ("Connection: x\r\nConnection: content-length\r\n", "nominates"),
        ("Connection: Transfer-Encoding\r\n", "nominates"),
        ("Connection: Proxy-Authorization\r\n", "nominates"),
        ("Connection: x-forwarded-for\r\n", "nominates"),
        ("Connection: a b\r\n", "list of tokens"),
        ("Connection: a;b\r\n", "list of tokens"),
        ("Connection: \u{e9}\r\n", "list of tokens"),
        ("Expect: 200-ok\r\n", "expectation"),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\n", "more than one Expect"),
        ("Proxy-Authorization: Basic a\r\nProxy-Authorization: Basic b\r\n", "more than one Proxy-Auth"),
    ] {
        let refused = refused(&with_fields(fields));
        assert_eq!(refused.reason, BadRequest, "{fields:?}");
        assert!(refused.detail.contains(detail), "{fields:?}: {}", refused.detail);
    }
}

#[test]
fn heads_that_are_refused_as_a_whole() {
    for (head, reason, detail) in [
        (&b"\r\nGET http://ok.test/ HTTP/1.1\r\n\r\n"[..], BadRequest, "empty line before"),
        (b"\nGET http://ok.test/ HTTP/1.1\r\n\r\n", BadRequest, "empty line before"),
        (b" GET http://ok.test/ HTTP/1.1\r\n\r\n", BadRequest, "first byte"),
        (b"\x16\x03\x01\x02\x00", BadRequest, "spoke TLS"),
        (b"\x80\x2e\x01", BadRequest, "first byte"),
        (b"\0", BadRequest, "first byte"),
        (b"GET http://ok.test/ HTTP/1.1\r\n\r\n", BadRequest, "Host field is missing"),
        (b"CONNECT ok.test:443 HTTP/1.1\r\n\r\n", BadRequest, "Host field is missing"),
        (
            b"GET http://ok.test/ HTTP/1.0\r\nHost: ok.test\r\nHost: ok.test\r\n\r\n",
            BadRequest,
            "more than one Host",
        ),
        // t03
        (b"GET http://ok.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", BadRequest, "another host"),
        (b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test:81\r\n\r\n", BadRequest, "another host"),
        (b"GET http://ok.test/ HTTP/1.0\r\nHost: evil.test\r\n\r\n", BadRequest, "another host"),
        (b"GET http://ok.test/ HTTP/1.1\r\nHost:\r\n\r\n", BadRequest, "not one host"),
        (b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test, evil.test\r\n\r\n", BadRequest, "not one host"),
        (b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test evil.test\r\n\r\n", BadRequest, "not one host"),
        (b"GET http://ok.test/ HTTP/1.1\r\nHost: u@ok.test\r\n\r\n", BadRequest, "not one host"),
        (b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test/\r\n\r\n", BadRequest, "not one host"),
        (b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:99999\r\n\r\n", BadRequest, "not one host"),
        (b"CONNECT ok.test:443 HTTP/1.1\r\nHost: \xff.test\r\n\r\n", BadRequest, "not one host"),
        // t56
        (
            b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5\r\n\r\n",
            BadRequest,
            "CONNECT has no body",
        ),
        (
            b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n",
            BadRequest,
            "CONNECT has no body",
        ),
        (b"POST http://ok.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BadRequest, "HTTP/1.0"),
        (
            b"OPTIONS http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nMax-Forwards: 0\r\n\r\n",
            MethodNotAllowed,
            "Max-Forwards",
        ),
    ] {
        let refused = refused(head);
        assert_eq!(refused.reason, reason, "{}", String::from_utf8_lossy(head));
        assert!(refused.detail.contains(detail), "{}: {}", String::from_utf8_lossy(head), refused.detail);
    }
}

/// t56. Every value of up to three characters, on one or two fields: only one field that says exactly `0` is no body.
#[test]
fn a_length_of_connect_is_one_plain_zero_or_refused() {
    let connect = |fields: &str| {
        verdict(format!("CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\n{fields}\r\n").as_bytes())
    };
    let mut values = vec![String::new()];
    for from in [0, 1, 11] {
        let longer = |value: &String| {
            ["0", "1", "+", "-", ",", " ", "\t", "x", "\u{0660}", "."].map(|c| format!("{value}{c}"))
        };
        values.extend(values[from..].iter().flat_map(longer).collect::<Vec<_>>());
    }
    let mut passed = 0;
    for value in values {
        let one = connect(&format!("Content-Length:{value}\r\n"));
        // White space around a value is no part of it (RFC 9112 §5.1).
        if value.trim_matches([' ', '\t']) == "0" {
            passed += 1;
            let head = one.expect("no body").expect("whole");
            assert_eq!((head.framing, head.keep_alive), (Framing::None, true), "{value:?}");
        } else {
            assert_eq!(one.map_err(|refused| refused.reason), Err(BadRequest), "{value:?}");
        }
        for more in [
            "Content-Length: 0\r\n",
            "content-length: 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            let two = connect(&format!("Content-Length:{value}\r\n{more}"));
            assert_eq!(two.map_err(|refused| refused.reason), Err(BadRequest), "{value:?} and {more:?}");
        }
    }
    assert_eq!(passed, 17, "0 with spaces and tabs before and after it");
}

/// t63
#[test]
fn heads_that_are_too_large() {
    let fields = |count| with_fields(&"X: y\r\n".repeat(count));
    assert!(verdict(&fields(MAX_FIELDS - 1)).is_ok());
    assert_eq!(refused(&fields(MAX_FIELDS)).reason, HeadTooLarge);
    assert_eq!(refused(&fields(10_000)).reason, HeadTooLarge);

    let empty = with_fields("X: \r\n").len();
    let exact = with_fields(&format!("X: {}\r\n", "y".repeat(LIMIT - empty)));
    assert_eq!(exact.len(), LIMIT);
    assert!(verdict(&exact).is_ok());
    let over = with_fields(&format!("X: {}\r\n", "y".repeat(LIMIT - empty + 1)));
    assert_eq!(refused(&over).reason, HeadTooLarge);
    assert_eq!(refused(&b"A".repeat(1_000_000)).reason, HeadTooLarge);

    let long_path = format!("GET http://ok.test/{} HTTP/1.0\r\n\r\n", "a".repeat(70_000));
    let result = read_within(long_path.as_bytes(), 100_000);
    assert!(matches!(result, Err(refused) if refused.reason == BadTarget));
}

#[test]
fn a_refusal_says_what_is_known_and_nothing_a_client_could_forge() {
    let known = refused(
        b"POST http://OK.test:81/p?q HTTP/1.1\r\nHost: evil.test\r\nuser-AGENT:  git/2.47\xff \r\n\r\n",
    );
    assert_eq!(known.method, Some(http::Method::POST));
    let target = known.target.expect("canonical");
    assert_eq!(target.target().to_string(), "ok.test:81");
    assert_eq!(known.user_agent.as_deref(), Some("git/2.47\u{fffd}"));

    let agent = "a".repeat(3 * MAX_USER_AGENT);
    let cut = refused(format!("GET / HTTP/1.1\r\nUser-Agent: {agent}\r\n\r\n").as_bytes());
    assert_eq!((cut.target, cut.user_agent.map(|agent| agent.len())), (None, Some(MAX_USER_AGENT)));

    let second_line = refused(b"GET / HTTP/1.1\nGET http://ok.test/ HTTP/1.1\r\nUser-Agent: x\r\n\r\n");
    assert_eq!((second_line.method, second_line.target), (None, None));

    // t60: no reply or record quotes what the client sent.
    for input in
        [&b"GET http://<script>alert(1)</script>/ HTTP/1.1\r\n\r\n"[..], b"<script> x HTTP/1.1\r\n\r\n"]
    {
        assert!(!refused(input).detail.contains("script"));
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

#[test]
fn every_cut_of_a_head_gives_the_same_verdict() {
    for bytes in [
        with_fields("Content-Length: 3\r\nX: y\r\n"),
        b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nUser-Agent: curl\r\n\r\n\x16\x03\x01".to_vec(),
        with_fields("X: a\r\n b\r\n"),
        with_fields("X: a\nb: c\r\n"),
        b"GET /x HTTP/1.1\r\nHost: ok.test\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ] {
        let whole = verdict(&bytes).map_err(|refused| refused.reason);
        for at in 1..bytes.len() {
            let mut lines = HeadLines::default();
            let end = match lines.scan(&bytes[..at], LIMIT) {
                Ok(None) => lines.scan(&bytes, LIMIT),
                decided => decided,
            };
            let cut = end.and_then(|end| end.map(|end| parse(&bytes[..end])).transpose());
            assert_eq!(cut.map_err(|refused| refused.reason), whole, "cut at {at}");
        }
    }
}
