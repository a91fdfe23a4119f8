//! Requests of clients that do not know of the proxy: the `Host` is the target, and the rest is judged as inside a tunnel to it.

use super::*;

fn led(bytes: &[u8]) -> Result<Option<Head>, Box<RefusedHead>> {
    match HeadLines::at(Place::Transparent).scan(bytes, LIMIT)? {
        Some(end) => parse_at(&bytes[..end], &Place::Transparent).map(Some),
        None => Ok(None),
    }
}

#[test]
fn the_host_is_the_target() {
    for (request, want) in [
        ("GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", Ok("ok.test:80/")),
        ("GET /a?b HTTP/1.1\r\nHost: OK.test.:8080\r\n\r\n", Ok("ok.test:8080/a?b")),
        ("GET //evil.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", Ok("ok.test:80//evil.test/")),
        ("GET / HTTP/1.0\r\nHost: ok.test\r\n\r\n", Ok("ok.test:80/")),
        ("GET / HTTP/1.1\r\nHost: [2001:DB8::1]\r\n\r\n", Ok("[2001:db8::1]:80/")),
        ("GET http://ok.test/a HTTP/1.1\r\nHost: ok.test\r\n\r\n", Ok("ok.test:80/a")),
        ("GET http://evil.test/a HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(BadRequest)),
        ("GET https://ok.test/a HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(SchemeNotAllowed)),
        ("GET / HTTP/1.0\r\n\r\n", Err(BadRequest)),
        ("GET / HTTP/1.1\r\n\r\n", Err(BadRequest)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Err(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", Err(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", Err(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: b.test@a.test\r\n\r\n", Err(BadRequest)),
        ("GET / HTTP/1.1\r\nHost: 2130706433\r\n\r\n", Err(BadRequest)),
        ("GET /#a HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(BadTarget)),
        ("GET ok.test:80 HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(BadTarget)),
        ("OPTIONS * HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(MethodNotAllowed)),
        ("TRACE / HTTP/1.1\r\nHost: ok.test\r\n\r\n", Err(MethodNotAllowed)),
        ("CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:443\r\n\r\n", Err(MethodNotAllowed)),
    ] {
        let verdict = led(request.as_bytes());
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
