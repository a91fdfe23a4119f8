//! Request heads, framing and chunked bodies: a verdict does not depend on how the bytes are split, nothing passes that two
//! readers could read differently, and hyper reads what passes as the same single request with the same body.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use egressd::transport::heads::{HeadError, HeadLimits, read_head_at};
use egressd::transport::held::Lease;
use egressd::wire::auth_scheme::AuthScheme;
use egressd::wire::basic_auth::{BasicError, parse_basic};
use egressd::wire::first_bytes::{Spoken, carried, spoken};
use egressd::wire::head::{BodyError, BodyFollower, Framing, Head, Piece, Place, RequestTarget};
use egressd::words::target::{Method, Port, Target};
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::runtime::Runtime;

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, timeout: Duration::from_secs(3600) };

thread_local! {
    static RUNTIME: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// The input is everything that a client sends.
pub fn check(bytes: &[u8]) {
    // What a client speaks is told by its first bytes alike, however many have come, and after 33 at the latest.
    let told_first = (0..=bytes.len().min(33)).find_map(|length| spoken(bytes.get(..length)?));
    assert_eq!(told_first, spoken(bytes), "the first bytes");
    assert!(told_first.is_some() || bytes.len() < 33);

    inside_a_tunnel(bytes);
    led_here(bytes);
    let (whole, rest) = read(bytes, usize::MAX);
    let (cut, cut_rest) = read(bytes, 1);
    assert_eq!(told(&whole), told(&cut), "byte by byte");
    let head = match whole {
        Ok(Some(head)) => head,
        Ok(None) => return assert!(bytes.is_empty()),
        Err(_) => return,
    };
    assert_eq!(rest, bytes.get(head.bytes..).unwrap_or_default(), "what follows stays");
    assert!(rest.starts_with(&cut_rest), "byte by byte nothing is read ahead");
    let text = bytes.get(..head.bytes).expect("it ends within");
    assert_eq!(told_first, Some(Spoken::Http), "what passes is HTTP");
    well_formed(text, &head);
    if let Some(value) = head.headers.get(http::header::PROXY_AUTHORIZATION) {
        let scheme = AuthScheme::of(value.as_bytes());
        match parse_basic(value.as_bytes()) {
            Ok(credentials) => {
                assert_eq!(scheme, AuthScheme::Basic);
                assert!(!credentials.user.is_empty() && !credentials.user.contains([':', '\0', '\r', '\n']));
            }
            Err(BasicError::Malformed(_)) => assert_eq!(scheme, AuthScheme::Basic),
            Err(BasicError::OtherScheme(other)) => assert!(other == scheme && scheme != AuthScheme::Basic),
        }
    }

    let body = follow(head.framing, &rest, usize::MAX);
    let cut = follow(head.framing, &rest, 1);
    assert_eq!(body, cut, "a body byte by byte");
    // CONNECT is not forwarded as a request.
    if let (Ok(Followed { content, taken, done: true }), RequestTarget::Absolute { .. }) =
        (body, &head.target)
    {
        let sent = bytes.get(..head.bytes + taken).expect("it ends within");
        same_to_hyper(sent, &head, &content);
    }
}

/// Inside a tunnel the same bytes get the same verdict, if they name the tunnel's target; and nothing else is ever asked for
/// there.
fn inside_a_tunnel(bytes: &[u8]) {
    let of = Target::connect("ok.test:80").expect("a target");
    let (whole, _) = read_at(&Place::Tunnel(of.clone()), bytes, usize::MAX);
    let (cut, _) = read_at(&Place::Tunnel(of.clone()), bytes, 1);
    assert_eq!(told(&whole), told(&cut), "byte by byte, inside");
    if let Ok(Some(head)) = &whole {
        let asked = head.target.target();
        assert_eq!((&asked.host, asked.port), (&of.host, of.port), "another target inside a tunnel");
        assert!(matches!(head.target, RequestTarget::Absolute { .. }), "CONNECT inside a tunnel");
    }
    let (outside, _) = read(bytes, usize::MAX);
    if let Ok(Some(Head { target: RequestTarget::Absolute { target, .. }, .. })) = &outside {
        let of = Target::connect(&target.to_string()).expect("a target");
        assert_eq!(told(&read_at(&Place::Tunnel(of), bytes, usize::MAX).0), told(&outside), "inside");
    }
    inside_tls(bytes, &whole);
}

/// From a client that does not know of the proxy, a path is for the host of its `Host`, as inside a tunnel to that; and what is no HTTP is
/// told however the bytes are split.
fn led_here(bytes: &[u8]) {
    const MOST: usize = 1024;
    let first = (0..=bytes.len()).find_map(|end| carried(bytes.get(..end)?, end.saturating_sub(1), MOST));
    let whole = carried(bytes, 0, MOST);
    // A first line that is too long may be seen whole at once.
    assert!(first == whole || bytes.len() > MOST, "the first line");
    let (whole, _) = read_at(&Place::Transparent, bytes, usize::MAX);
    let (cut, _) = read_at(&Place::Transparent, bytes, 1);
    assert_eq!(told(&whole), told(&cut), "byte by byte, led here");
    let Ok(Some(head)) = &whole else { return };
    let RequestTarget::Absolute { target, .. } = &head.target else { panic!("CONNECT, led here") };
    if is_origin_form(bytes) {
        let mut hosts = head.headers.get_all(http::header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).expect("it names the target");
        assert_eq!((Target::of_uri(host, Port::HTTP).as_ref(), hosts.next()), (Ok(target), None));
        let of = Target { method: Method::Connect, ..target.clone() };
        assert_eq!(
            told(&read_at(&Place::Tunnel(of), bytes, usize::MAX).0),
            told(&whole),
            "as inside a tunnel"
        );
    }
}

/// Inside the TLS of a tunnel the bytes get the verdict that they get inside a tunnel of plain requests, but for URIs, which
/// have the other scheme, and the port that is meant where none is written.
fn inside_tls(bytes: &[u8], plain: &Read) {
    let of = Target::connect("ok.test:80").expect("a target");
    let (whole, _) = read_at(&Place::Inspected(of.clone()), bytes, usize::MAX);
    let (cut, _) = read_at(&Place::Inspected(of.clone()), bytes, 1);
    assert_eq!(told(&whole), told(&cut), "byte by byte, inside TLS");
    if let Ok(Some(head)) = &whole {
        let asked = head.target.target();
        assert_eq!((&asked.host, asked.port), (&of.host, of.port), "another target inside TLS");
        assert!(matches!(head.target, RequestTarget::Absolute { .. }), "CONNECT inside TLS");
        // The other scheme instead: the same request, in origin-form.
        let text = bytes.get(..head.bytes).expect("it ends within");
        let names_port =
            head.headers.get_all(http::header::HOST).iter().all(|host| host.as_bytes().ends_with(b":80"));
        if names_port && is_origin_form(text) {
            assert_eq!(told(&whole), told(plain), "inside TLS");
        }
    }
    if let Ok(Some(head)) = plain
        && is_origin_form(bytes)
        && head.headers.get_all(http::header::HOST).iter().all(|host| host.as_bytes().ends_with(b":80"))
    {
        assert_eq!(told(plain), told(&whole), "plain and inside TLS");
    }
}

/// Whether the request's target begins with `/`.
fn is_origin_form(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b' ').nth(1).is_some_and(|target| target.starts_with(b"/"))
}

type Read = Result<Option<Head>, HeadError>;

/// Reads a head, `step` bytes at a time: the verdict, and the bytes that are left.
fn read(bytes: &[u8], step: usize) -> (Read, Vec<u8>) {
    read_at(&Place::Proxy, bytes, step)
}

fn read_at(place: &Place, bytes: &[u8], step: usize) -> (Read, Vec<u8>) {
    let mut stream = Steps { bytes, step };
    let mut buffer = BytesMut::new();
    let mut lease = Lease::alone();
    let reading = read_head_at(place, &mut stream, &mut buffer, &mut lease, &LIMITS);
    let read = RUNTIME.with(|runtime| runtime.block_on(reading));
    buffer.extend_from_slice(if step == 1 { &[] } else { stream.bytes });
    (read, buffer.to_vec())
}

/// The part of a verdict that can be compared. A refusal may know more of a head that came in one piece.
fn told(read: &Read) -> String {
    match read {
        Ok(Some(head)) => format!("{head:?}"),
        Ok(None) => "nothing".to_owned(),
        Err(HeadError::Refused(refused)) => format!("{}: {}", refused.reason, refused.detail),
        Err(HeadError::Gone) => "gone".to_owned(),
    }
}

struct Steps<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl AsyncRead for Steps<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.bytes.len().min(self.step).min(buffer.remaining());
        let (now, later) = self.bytes.split_at(length);
        buffer.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

fn well_formed(text: &[u8], head: &Head) {
    assert!(text.ends_with(b"\r\n\r\n"));
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    assert!(lines.iter().take(lines.len() - 1).all(|line| line.ends_with(b"\r")), "a bare LF");
    assert_eq!(text.iter().filter(|byte| **byte == b'\r').count(), lines.len() - 1, "a bare CR");
    assert!(!text.contains(&0));
    let count = |name| head.headers.get_all(name).iter().count();
    assert!(count("content-length") + count("transfer-encoding") <= 1);
    assert!(count("host") <= 1);
    let shown = head.target.target().to_string();
    assert_eq!(Target::connect(&shown).map(|target| target.to_string()), Ok(shown));
    match &head.target {
        RequestTarget::Authority(_) => {
            assert_eq!((head.method.as_str(), head.framing), ("CONNECT", Framing::None));
            assert!(head.headers.get("content-length").is_none_or(|length| length == "0"));
        }
        RequestTarget::Absolute { path_and_query, .. } => {
            assert!(path_and_query.as_str().starts_with('/') && head.method != http::Method::CONNECT);
            assert!(path_and_query.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}

#[derive(Debug, PartialEq)]
struct Followed {
    content: Vec<u8>,
    taken: usize,
    done: bool,
}

/// Follows the body through `bytes`, which come `step` at a time.
fn follow(framing: Framing, bytes: &[u8], step: usize) -> Result<Followed, BodyError> {
    let mut follower = BodyFollower::new(framing);
    let (mut content, mut taken) = (Vec::new(), 0);
    while let Some(left) = bytes.get(taken..).filter(|left| !left.is_empty()) {
        let Some(piece) = follower.step(left.get(..step).unwrap_or(left))? else { break };
        assert!(!piece.is_empty() && piece.len() <= left.len());
        if let Piece::Data(length) = piece {
            content.extend_from_slice(&left[..length]);
        }
        taken += piece.len();
    }
    Ok(Followed { content, taken, done: follower.is_done() })
}

fn same_to_hyper(sent: &[u8], head: &Head, content: &[u8]) {
    let seen = RUNTIME.with(|runtime| runtime.block_on(seen_by_hyper(sent)));
    let [(parts, body)] = &seen[..] else { panic!("hyper sees {} requests", seen.len()) };
    assert_eq!(parts.method, head.method);
    assert_eq!(parts.headers.len(), head.headers.len());
    let authority = parts.uri.authority().expect("absolute-form").as_str();
    assert_eq!(Target::http(authority).as_ref(), Ok(head.target.target()));
    assert_eq!(body.as_deref(), Some(content));
}

/// Every request that hyper's server reads from the bytes, with its body; `None`: a broken one.
async fn seen_by_hyper(bytes: &[u8]) -> Vec<(http::request::Parts, Option<Vec<u8>>)> {
    let (mut client, server) = tokio::io::duplex(bytes.len().max(1024));
    client.write_all(bytes).await.expect("room");
    client.shutdown().await.expect("open");
    let seen = RefCell::new(Vec::new());
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
        seen.borrow_mut().push((parts, body));
        Ok::<_, Infallible>(hyper::Response::new(Empty::<bytes::Bytes>::new()))
    });
    let drain = async { while let Ok(1..) = client.read(&mut [0; 1024]).await {} };
    let serving = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(server), service);
    let _ = tokio::join!(serving, drain);
    seen.take()
}
