//! Bodies: both framings, both ways, large, with trailers, slow readers, limits.

use std::convert::Infallible;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::*;

const LARGE: usize = 10 * 1024 * 1024;

/// No thousand bytes of it occur twice: its end differs from its middle.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| ((index as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// An origin that sends every request's body back as it comes, in the framing it came in.
pub(super) async fn echo(_: usize, stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Sends while it reads, as a client must that is echoed.
async fn both_ways(run: &mut Run, request: Vec<u8>, end: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = run.client.split();
    let mut got = Vec::new();
    let reading = async {
        // Not by the end alone: the pattern repeats itself.
        while got.len() < LARGE || !got.ends_with(end) {
            assert_ne!(reader.read_buf(&mut got).await.expect("open"), 0, "ended after {} bytes", got.len());
        }
    };
    let (sent, ()) = tokio::join!(writer.write_all(&request), reading);
    sent.expect("open");
    got
}

#[tokio::test]
async fn ten_megabytes_by_length_both_ways() {
    let mut run = start(BOUNDS, echo).await;
    let body = pattern(LARGE);
    let request = [post(&format!("Content-Length: {LARGE}")).into_bytes(), body.clone()].concat();
    let asked = request.len() as u64;
    let got = both_ways(&mut run, request, &body[LARGE - 1000..]).await;
    assert!(got.ends_with(&body));
    let outcomes = run.finish().await;
    assert_eq!((outcomes[0].1, outcomes[0].2), (asked, got.len() as u64));
    assert_eq!(outcomes[0].0.finish, Finish::Complete);
}

#[tokio::test]
async fn ten_megabytes_in_chunks_both_ways() {
    let mut run = start(BOUNDS, echo).await;
    let body = pattern(LARGE);
    let mut request = post("Transfer-Encoding: chunked").into_bytes();
    for chunk in body.chunks(70_001) {
        request.extend_from_slice(format!("{:x};a=b\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let asked = request.len() as u64;
    let got = both_ways(&mut run, request, b"\r\n0\r\n\r\n").await;
    let start = got.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(String::from_utf8_lossy(&got[..start]).contains("transfer-encoding: chunked\r\n"));
    assert_eq!(unchunked(&got[start..]), body);
    assert_eq!(run.finish().await[0].1, asked);
}

/// The content of a well-formed chunked body.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut follower = crate::wire::head::BodyFollower::new(Framing::Chunked);
    while let Some(piece) = follower.step(bytes).expect("well-formed") {
        if let crate::wire::head::Piece::Data(length) = piece {
            content.extend_from_slice(&bytes[..length]);
        }
        bytes = &bytes[piece.len()..];
    }
    assert!(follower.is_done() && bytes.is_empty());
    content
}

#[tokio::test]
async fn a_get_may_have_a_chunked_body() {
    let mut run = start(BOUNDS, echo).await;
    let request = "GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let answer = run.ask(request, "0\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn declared_trailers_pass_both_ways_and_undeclared_ones_do_no_harm() {
    for (declared, passed) in [("Trailer: x-sum\r\n", "x-sum: 1\r\n"), ("", "")] {
        let mut run = start(BOUNDS, move |_, mut stream| async move {
            head_of(&mut stream).await;
            let body = read_until(&mut stream, "\r\n\r\n").await;
            assert_eq!(body, format!("1\r\na\r\n0\r\n{passed}\r\n"));
            let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-back\r\n\r\n2\r\nok\r\n0\r\nX-Back: 2\r\nHost: evil\r\n\r\n";
            stream.write_all(response.as_bytes()).await.expect("open");
        })
        .await;
        let request = format!(
            "{}1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
            post(&format!("{declared}Transfer-Encoding: chunked"))
        );
        let answer = run.ask(request, "x-back: 2\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\nx-back: 2\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_becomes_chunked_and_plain_for_http_1_0() {
    const RESPONSE: &str = "HTTP/1.0 200 OK\r\n\r\nto the end";
    let mut run = start(BOUNDS, answering_once(RESPONSE)).await;
    let answer = run.ask(GET, "0\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\na\r\nto the end\r\n0\r\n\r\n"), "{answer}");
    assert!(run.finish().await[0].0.keep_alive);

    for response in
        [RESPONSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nto the end\r\n0\r\n\r\n"]
    {
        let mut run = start(BOUNDS, answering_once(response)).await;
        run.send("GET http://ok.test/ HTTP/1.0\r\n\r\n").await;
        let answer = run.rest().await;
        assert!(
            answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\nto the end"),
            "{answer}"
        );
        assert!(!answer.contains("transfer-encoding"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_before_the_body_is_passed_on_and_closes() {
    let mut run =
        start(BOUNDS, answering_once("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")).await;
    run.send(post("Content-Length: 100000")).await;
    let answer = run.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close\r\n"), "{answer}");
    let outcome = run.outcome().await;
    assert_eq!((outcome.status, outcome.finish, outcome.keep_alive), (Some(413), Finish::Complete, false));
}

/// Nothing is held beyond a piece and the sockets' buffers: a client that does not read stops the target.
#[tokio::test]
async fn a_slow_reader_slows_the_target() {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = written.clone();
    let mut run = start(BOUNDS, move |_, mut stream| {
        let counted = counted.clone();
        async move {
            head_of(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while let Ok(length) = stream.write(&[0; 65536]).await {
                counted.fetch_add(length, Ordering::Relaxed);
            }
        }
    })
    .await;
    run.send(GET).await;
    let mut before = usize::MAX;
    while before != written.load(Ordering::Relaxed) || before == 0 {
        before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(before < 64 * 1024 * 1024, "{before}");
    // And once it reads, it goes on.
    let mut some = vec![0; 32 * 1024 * 1024];
    run.client.read_exact(&mut some).await.expect("open");
    assert!(written.load(Ordering::Relaxed) > before);
}

/// The head counts, as the ClientHello does in a tunnel.
#[tokio::test]
async fn exactly_the_upload_limit_passes() {
    let head = post("Transfer-Encoding: chunked");
    let chunk = "5\r\nabcde\r\n";
    let whole = format!("{head}{chunk}0\r\n\r\n");

    let exact = Bounds { upload_limit: Some(whole.len() as u64), ..BOUNDS };
    let mut run = start(exact, echo).await;
    assert!(run.ask(&whole, "0\r\n\r\n").await.contains("abcde"));
    assert_eq!(run.finish().await[0].1, whole.len() as u64);

    let (tell, mut got) = mpsc::channel(1);
    let cut = (head.len() + "5\r\nabc".len()) as u64;
    let mut run = start(Bounds { upload_limit: Some(cut), ..BOUNDS }, body_to(tell)).await;
    run.send(&whole).await;
    let outcomes = run.proxy.await.expect("no panic");
    assert_eq!(outcomes[0].0.finish, Finish::Refused { reason: Reason::UploadLimit, detail: "".into() });
    assert_eq!(outcomes[0].1, cut);
    let got = String::from_utf8(got.recv().await.expect("told")).expect("ASCII");
    assert!(!got.ends_with("0\r\n\r\n") && !got.contains("abcd"), "{got:?}");
}

#[tokio::test]
async fn a_length_beyond_the_upload_limit_is_not_begun() {
    let mut run = start(Bounds { upload_limit: Some(1000), ..BOUNDS }, echo).await;
    run.send(post("Content-Length: 1000")).await;
    assert_eq!(run.rest().await, "");
    assert_eq!(run.opened(), 0);
    let outcome = run.outcome().await;
    assert_eq!(outcome.status, None);
    assert_eq!(outcome.finish, Finish::Refused { reason: Reason::UploadLimit, detail: "".into() });
}

/// Counts how often it is written to.
struct Counting(TcpStream, Arc<AtomicUsize>);

impl tokio::io::AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Transport for Counting {
    fn socket(&self) -> &TcpStream {
        &self.0
    }
}

#[tokio::test]
async fn a_small_answer_that_comes_at_once_is_written_at_once() {
    for (answer, end) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "0\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX-End: 1\r\n\r\n",
            "1\r\n\r\n",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", "\r\n\r\n"),
    ] {
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&writes);
        let mut run = start_over(BOUNDS, answering(answer), |stream| Counting(stream, counted)).await;
        for asked in 1..=3 {
            run.ask(GET, end).await;
            assert_eq!(writes.load(Ordering::Relaxed), asked, "{answer}");
        }
    }
}

/// What comes first is not kept back for what may take long.
#[tokio::test]
async fn a_head_does_not_wait_for_its_body_nor_a_piece_for_the_next() {
    let (go_on, wait) = mpsc::channel(1);
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let mut run = start(BOUNDS, move |_, mut stream| {
        let wait = Arc::clone(&wait);
        async move {
            head_of(&mut stream).await;
            for piece in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "ab", "cd"] {
                let _ = stream.write_all(piece.as_bytes()).await;
                wait.lock().await.recv().await;
            }
        }
    })
    .await;
    run.send(GET).await;
    for end in ["\r\n\r\n", "ab", "cd"] {
        read_until(&mut run.client, end).await;
        go_on.send(()).await.expect("waited for");
    }
}
