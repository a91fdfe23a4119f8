//! Requests inside a tunnel: the same verdict as on the proxy's own port, with the tunnel's target as the only host.

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::*;
use crate::words::target::Target;

fn inside(authority: &str, bytes: &[u8]) -> Result<Option<Head>, Box<RefusedHead>> {
    let place = Place::Tunnel(Target::connect(authority).expect(authority));
    match HeadLines::at(place.clone()).scan(bytes, LIMIT)? {
        Some(end) => parse_at(&bytes[..end], &place).map(Some),
        None => Ok(None),
    }
}

/// What the gate says, without the length of the head, which the form of the target changes. Outside, a `Host` that differs
/// from the URI is a malformed request; inside, it names another host than the tunnel.
fn told(verdict: Result<Option<Head>, Box<RefusedHead>>) -> String {
    match verdict {
        Ok(Some(head)) => format!("{:?}", Head { bytes: 0, ..head }),
        Ok(None) => "incomplete".to_owned(),
        Err(refused) if refused.reason == HostMismatch || refused.detail.contains("names another host") => {
            "another host".to_owned()
        }
        Err(refused) => format!("{}: {}", refused.reason, refused.detail),
    }
}

#[test]
fn the_target_of_the_tunnel_is_the_only_host() {
    for (authority, request, want) in [
        ("ok.test:80", "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", Ok("ok.test:80/")),
        ("ok.test:80", "GET /a?b=c HTTP/1.1\r\nHost: OK.test.:80\r\n\r\n", Ok("ok.test:80/a?b=c")),
        ("ok.test:80", "GET /a HTTP/1.0\r\n\r\n", Ok("ok.test:80/a")),
        ("ok.test:80", "GET //evil.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", Ok("ok.test:80//evil.test/")),
        ("ok.test:80", "GET http://ok.test/a HTTP/1.1\r\nHost: ok.test\r\n\r\n", Ok("ok.test:80/a")),
        ("ok.test:8080", "GET / HTTP/1.1\r\nHost: ok.test:8080\r\n\r\n", Ok("ok.test:8080/")),
        ("[2001:db8::1]:80", "GET / HTTP/1.1\r\nHost: [2001:DB8::1]\r\n\r\n", Ok("[2001:db8::1]:80/")),
        // Another host or port, in either place and in both.
        ("ok.test:80", "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", Err(HostMismatch)),
        ("ok.test:80", "GET / HTTP/1.1\r\nHost: ok.test:8080\r\n\r\n", Err(HostMismatch)),
        ("ok.test:8080", "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(HostMismatch)),
        ("ok.test:80", "GET / HTTP/1.0\r\nHost: evil.test\r\n\r\n", Err(HostMismatch)),
        ("ok.test:80", "GET http://evil.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(HostMismatch)),
        ("ok.test:80", "GET http://ok.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", Err(HostMismatch)),
        ("ok.test:80", "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", Err(HostMismatch)),
        ("ok.test:80", "GET http://ok.test:81/ HTTP/1.1\r\nHost: ok.test:81\r\n\r\n", Err(HostMismatch)),
        ("203.0.113.9:80", "GET / HTTP/1.1\r\nHost: 203.0.113.10\r\n\r\n", Err(HostMismatch)),
        // As outside.
        ("ok.test:80", "GET / HTTP/1.1\r\n\r\n", Err(BadRequest)),
        ("ok.test:80", "GET / HTTP/1.1\r\nHost: ok.test\r\nHost: ok.test\r\n\r\n", Err(BadRequest)),
        ("ok.test:80", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Err(BadRequest)),
        ("ok.test:80", "GET /#a HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(BadTarget)),
        ("ok.test:80", "GET ok.test:80 HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(BadTarget)),
        ("ok.test:80", "GET https://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(SchemeNotAllowed)),
        ("ok.test:80", "OPTIONS * HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(MethodNotAllowed)),
        ("ok.test:80", "TRACE / HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(MethodNotAllowed)),
        ("ok.test:80", "CONNECT ok.test:80 HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(MethodNotAllowed)),
        ("ok.test:80", "CONNECT evil.test:443 HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(MethodNotAllowed)),
        ("ok.test:80", "connect ok.test:80 HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(MethodNotAllowed)),
        ("ok.test:80", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(BadRequest)),
        ("ok.test:80", "SSH-2.0-OpenSSH_9.2\r\n", Err(BadRequest)),
        ("ok.test:80", "\u{16}\u{3}\u{1}", Err(BadRequest)),
    ] {
        let verdict = inside(authority, request.as_bytes());
        let got = match &verdict {
            Ok(Some(Head { target: RequestTarget::Absolute { target, path_and_query }, .. })) => {
                Ok(format!("{target}{path_and_query}"))
            }
            Ok(other) => panic!("{request:?}: {other:?}"),
            Err(refused) => Err(refused.reason),
        };
        assert_eq!(got.as_deref(), want.as_ref().map(|want| &**want), "{request:?}");
    }
}

#[test]
fn a_refusal_names_the_tunnel_and_nothing_that_the_client_sent() {
    let refused = inside("ok.test:80", b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n").expect_err("another");
    assert_eq!(refused.detail, "inside a tunnel to ok.test:80, Host and URI must name that host and port");
    assert_eq!(refused.target.map(|target| target.target().to_string()).as_deref(), Some("ok.test:80"));
    let refused =
        inside("ok.test:80", b"GET http://evil.test/x HTTP/1.1\r\nHost: a\r\n\r\n").expect_err("another");
    assert!(!refused.detail.contains("evil"), "{}", refused.detail);
    assert_eq!(refused.malformed.as_deref(), Some(&b"http://evil.test/x"[..]));
}

/// Lines that the gate accepts, refuses, or reads as the framing of a body.
const FIELDS: [&str; 24] = [
    "Content-Length: 3",
    "Content-Length: 03",
    "Content-Length: +3",
    "Content-Length: 3, 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\tchunked",
    "Connection: close",
    "Connection: Host",
    "Connection: X-Hop",
    "Proxy-Connection: keep-alive",
    "Expect: 100-continue",
    "Expect: something",
    "Upgrade: websocket",
    "X: a\r\n b",
    "X: \u{b}",
    "X: a\nY: b",
    "X : a",
    ": a",
    "no colon",
    "Max-Forwards: 0",
    "Proxy-Authorization: Basic YTpi",
    "User-Agent: curl",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// A path inside a tunnel is judged as the absolute URI on the proxy's own port, whatever the rest of the head is.
    #[test]
    fn a_path_inside_is_an_absolute_uri_outside(
        method in select(vec!["GET", "HEAD", "POST", "OPTIONS", "DELETE", "TRACE", "track", "G\u{e9}T", "PRI", "M-SEARCH"]),
        port in select(vec!["", ":80", ":8080"]),
        path in select(vec!["/", "/a?b=c", "//x/../y", "/a#b", "/%2f", "/\"", "/a b", "/\u{e9}", "/?"]),
        version in select(vec!["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", ""]),
        host in select(vec!["Host: ok.test", "Host: OK.TEST.", "", "Host:", "Host: ok.test, ok.test", "Host: ok.test/", "hOsT: ok.test"]),
        twice in proptest::bool::weighted(0.1),
        fields in subsequence(FIELDS.to_vec(), 0..3),
        end in any::<Index>(),
    ) {
        let host = if host.ends_with("test") { format!("{host}{port}") } else { host.to_owned() };
        let mut rest = format!(" {version}\r\n");
        for line in [host.as_str()].into_iter().chain(twice.then_some(host.as_str())).chain(fields) {
            if !line.is_empty() {
                rest += &format!("{line}\r\n");
            }
        }
        rest += "\r\n";
        // Sometimes it is not whole.
        let whole = end.index(4) > 0 || !rest.is_char_boundary(end.index(rest.len()));
        let rest = if whole { rest.as_str() } else { &rest[..end.index(rest.len())] };
        let outside = verdict(format!("{method} http://ok.test{port}{path}{rest}").as_bytes());
        let authority = format!("ok.test{}", if port.is_empty() { ":80" } else { port });
        let within = inside(&authority, format!("{method} {path}{rest}").as_bytes());
        let absolute = inside(&authority, format!("{method} http://ok.test{port}{path}{rest}").as_bytes());
        prop_assert_eq!(told(within), told(outside.clone()));
        prop_assert_eq!(told(absolute), told(outside));
    }
}
