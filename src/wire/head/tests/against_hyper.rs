//! What passes the gate, hyper must read as the same single request: a difference between two readers is the attack.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{block_on, verdict, with_fields};
use crate::wire::head::{Framing, Head, RequestTarget};
use crate::words::target::Target;

/// What hyper's server reads from the same bytes: every request, with its body.
pub(super) async fn seen_by_hyper(bytes: &[u8]) -> Vec<(http::request::Parts, Vec<u8>)> {
    let (mut client, proxy) = tokio::io::duplex(256 * 1024);
    client.write_all(bytes).await.expect("room");
    client.shutdown().await.expect("open");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let seen = seen.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body =
                body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or(b"broken".to_vec());
            seen.lock().expect("no panic").push((parts, body));
            Ok::<_, Infallible>(hyper::Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let drain = async { while let Ok(1..) = client.read(&mut [0; 1024]).await {} };
    let serving = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(proxy), service);
    let _ = tokio::join!(serving, drain);
    std::mem::take(&mut *seen.lock().expect("no panic"))
}

/// Checks that hyper reads these bytes, which passed the gate, as the same single request.
async fn agrees_with_hyper(bytes: &[u8], head: &Head) {
    let seen = seen_by_hyper(&bytes[..head.bytes]).await;
    let [(parts, _)] = &seen[..] else {
        panic!("{} requests: {:?}", seen.len(), String::from_utf8_lossy(bytes))
    };
    assert_eq!(parts.method, head.method);
    let authority = parts.uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    let authority = authority.expect("both forms have one").replace(".:", ":");
    let authority = authority.strip_suffix('.').unwrap_or(&authority);
    let read = Target::http(authority).expect("hyper's authority is ours");
    assert_eq!((&read.host, read.port), (&head.target.target().host, head.target.target().port));
    if let RequestTarget::Absolute { path_and_query, .. } = &head.target {
        // An empty path with a query is the same as `/` with it (RFC 9110 §4.2.3); hyper leaves it empty.
        let read = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let read = if read.starts_with('/') { read.to_owned() } else { format!("/{read}") };
        assert_eq!(read, path_and_query.as_str());
    }
    let expected = match head.framing {
        // CONNECT may say that it has no body.
        Framing::None => head.headers.get("content-length").map(|_| "0".to_owned()),
        Framing::Chunked => None,
        Framing::Length(length) => Some(length.to_string()),
    };
    assert_eq!(
        parts.headers.get("content-length").map(|value| value.to_str().expect("digits").to_owned()),
        expected
    );
    assert_eq!(parts.headers.contains_key("transfer-encoding"), head.framing == Framing::Chunked);
    assert_eq!(parts.headers.len(), head.headers.len());
}

/// Heads that are nearly right: pieces on which parsers disagree, combined at random.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let method =
        prop::sample::select(vec!["GET", "POST", "CONNECT", "OPTIONS", "HEAD", "X-Y", "get", "TRACE", ""]);
    let target = prop_oneof![3 => Just("http://ok.test/"), 2 => prop::sample::select(vec![
        "http://ok.test/",
        "http://ok.test",
        "http://OK.test.:80/?a",
        "ok.test:443",
        "http://ok.test:81/x",
        "*",
        "/",
        "http://ok.test/#f",
        "http://u@ok.test/",
        "[::1]:443",
        "http://[::1]/",
        "https://ok.test/",
        "ok.test",
        "http://ok.test/\u{e9}",
        "http://ok.test/a|b{c}\"^`\\",
        "http://ok.test/%00",
        "http://ok.test/;a=b",
    ])];
    let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", ""]);
    let end = prop_oneof![40 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n")];
    let field = prop::sample::select(vec![
        "Host: ok.test",
        "Host: ok.test:80",
        "Host: [::1]",
        "host:ok.test:81",
        "Content-Length: 5",
        "Content-Length: 0",
        "Content-Length: 5,5",
        "Content-Length: +5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding: gzip, chunked",
        "Connection: close",
        "Connection: host",
        "Expect: 100-continue",
        "X: y",
        "X : y",
        " X: y",
        "X:",
        "X: \u{e9}",
        "X",
        ":",
        "Upgrade: h2c",
        "TE: trailers",
        "Trailer: x",
        "Content-Length : 5",
    ]);
    let host = prop_oneof![5 => Just("Host: ok.test"), 1 => Just("X: y")];
    let fields = (prop::collection::vec((field, end.clone()), 0..3), host, end.clone()).prop_map(
        |(mut fields, host, end)| {
            fields.push((host, end));
            fields
        },
    );
    (method, target, version, end.clone(), fields, end).prop_map(
        |(method, target, version, first, fields, last)| {
            let fields: String = fields.into_iter().map(|(field, end)| format!("{field}{end}")).collect();
            format!("{method} {target} {version}{first}{fields}{last}").into_bytes()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = verdict(&bytes);
    }

    #[test]
    fn what_passes_is_the_same_single_request_to_hyper(bytes in nearly_a_head()) {
        if let Ok(Some(head)) = verdict(&bytes) {
            block_on(agrees_with_hyper(&bytes, &head));
        }
    }

    #[test]
    fn a_good_head_with_one_byte_changed_is_refused_or_the_same_to_hyper(at in 0usize..200, byte in any::<u8>()) {
        let mut bytes = with_fields("Content-Length: 3\r\nTE: trailers\r\nConnection: TE\r\n");
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(Some(head)) = verdict(&bytes) {
            block_on(agrees_with_hyper(&bytes, &head));
        }
    }
}
