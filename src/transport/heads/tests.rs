//! What the reader promises: the bytes after a head stay, segments change nothing, the deadline is absolute. Which heads are
//! refused, and why, is in the tables of [`crate::wire::head`].

use http::Method;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::wire::head::{Framing, Version};

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, timeout: Duration::from_secs(10) };

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// The verdict on `bytes`, arriving at once and followed by a close; and what was left in the buffer.
fn verdict(bytes: &[u8]) -> (Result<Option<Head>, HeadError>, Vec<u8>) {
    block_on(async {
        let mut stream = bytes;
        let mut buffer = BytesMut::new();
        let result = read_head(&mut stream, &mut buffer, &mut Lease::alone(), &LIMITS).await;
        let rest = [&buffer[..], stream].concat();
        (result, rest)
    })
}

/// A request with these lines after a good request line and `Host`.
fn with_fields(fields: &str) -> Vec<u8> {
    format!("POST http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n{fields}\r\n").into_bytes()
}

#[test]
fn a_connect_head_is_read_whole_and_early_data_stays() {
    let (head, rest) = verdict(
        b"CONNECT OK.test:443 HTTP/1.1\r\nHost: ok.test:443\r\nUser-Agent: git/2.47\r\n\r\n\x16\x03\x01",
    );
    let head = head.expect("well-formed").expect("not empty");
    assert_eq!(head.method, Method::CONNECT);
    assert_eq!(head.target.target().to_string(), "ok.test:443");
    assert_eq!((head.version, head.framing), (Version::Http11, Framing::None));
    assert!(head.keep_alive && !head.expect_continue);
    assert_eq!(head.headers["user-agent"], "git/2.47");
    assert_eq!(head.bytes, 73);
    assert_eq!(rest, b"\x16\x03\x01");
}

/// t63
#[test]
fn the_bound_on_bytes_is_the_callers() {
    let result = verdict(&b"A".repeat(1_000_000));
    assert!(
        matches!(&result, (Err(HeadError::Refused(refused)), _) if refused.reason == Reason::HeadTooLarge)
    );
    let limits = HeadLimits { bytes: 100_000, ..LIMITS };
    let long_path = format!("GET http://ok.test/{} HTTP/1.0\r\n\r\n", "a".repeat(50_000));
    let result =
        block_on(read_head(&mut long_path.as_bytes(), &mut BytesMut::new(), &mut Lease::alone(), &limits));
    assert_eq!(result.expect("well-formed").expect("whole").bytes, long_path.len());
}

#[test]
fn nothing_before_a_close_is_a_probe_and_something_is_a_client_that_left() {
    assert_eq!(verdict(b"").0, Ok(None));
    for cut in [
        &b"G"[..],
        b"GET http://ok.test/ HTTP/1.1\r\n",
        b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r",
    ] {
        assert_eq!(verdict(cut).0, Err(HeadError::Gone), "{cut:?}");
    }
}

/// t62: the deadline is absolute; a byte now and then does not move it.
#[tokio::test(start_paused = true)]
async fn t62_a_slow_head_ends_at_the_deadline() {
    let (mut client, mut proxy) = tokio::io::duplex(64);
    let slow = tokio::spawn(async move {
        for byte in b"CONNECT ok.test:443 HTTP/1.1\r\nUser-Agent: slow\r\nX: ".iter().cycle() {
            if client.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(190)).await;
        }
    });
    let started = Instant::now();
    let result = read_head(&mut proxy, &mut BytesMut::new(), &mut Lease::alone(), &LIMITS).await;
    let Err(HeadError::Refused(refused)) = result else { panic!("{result:?}") };
    assert_eq!(refused.reason, Reason::HeadTimeout);
    assert_eq!(refused.target.expect("the request line is whole").target().to_string(), "ok.test:443");
    assert_eq!(refused.user_agent.as_deref(), Some("slow"));
    assert_eq!(started.elapsed(), LIMITS.timeout);
    drop(proxy);
    slow.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout() {
    let (_client, mut proxy) = tokio::io::duplex(64);
    let result = read_head(&mut proxy, &mut BytesMut::new(), &mut Lease::alone(), &LIMITS).await;
    assert!(matches!(result, Err(HeadError::Refused(refused)) if refused.reason == Reason::HeadTimeout));
}

#[tokio::test]
async fn pipelined_heads_are_read_one_by_one() {
    let mut buffer = BytesMut::new();
    let mut stream = &b"GET http://a.test/ HTTP/1.0\r\n\r\nGET http://b.test/ HTTP/1.0\r\n\r\n"[..];
    for host in ["a.test:80", "b.test:80"] {
        let head = read_head(&mut stream, &mut buffer, &mut Lease::alone(), &LIMITS)
            .await
            .expect("fine")
            .expect("a head");
        assert_eq!(head.target.target().to_string(), host);
    }
    assert_eq!(read_head(&mut stream, &mut buffer, &mut Lease::alone(), &LIMITS).await, Ok(None));
}

/// The verdict when `bytes` arrive in two parts, the second after the first was read.
async fn verdict_cut(bytes: &[u8], at: usize) -> Result<Option<Head>, HeadError> {
    let (mut client, mut proxy) = tokio::io::duplex(64 * 1024);
    let (first, second) = bytes.split_at(at);
    client.write_all(first).await.expect("room");
    let mut buffer = BytesMut::new();
    let mut lease = Lease::alone();
    let reading = read_head(&mut proxy, &mut buffer, &mut lease, &LIMITS);
    let writing = async {
        tokio::task::yield_now().await;
        let _ = client.write_all(second).await;
        drop(client);
    };
    tokio::join!(reading, writing).0
}

#[test]
fn every_cut_of_a_head_gives_the_same_verdict() {
    for bytes in [
        b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nUser-Agent: curl\r\n\r\n\x16\x03\x01".to_vec(),
        with_fields("X: a\r\n b\r\n"),
        with_fields("X: a\nb: c\r\n"),
    ] {
        let whole = match verdict(&bytes).0 {
            Err(HeadError::Refused(refused)) => Err(refused.reason),
            Ok(head) => Ok(head),
            other => panic!("{other:?}"),
        };
        for at in 1..bytes.len() {
            let cut = match block_on(verdict_cut(&bytes, at)) {
                Err(HeadError::Refused(refused)) => Err(refused.reason),
                Ok(head) => Ok(head),
                other => panic!("{other:?}"),
            };
            assert_eq!(cut, whole, "cut at {at}");
        }
    }
}

/// t72: the head was copied out of its buffer, so the buffer must go.
#[test]
fn what_follows_a_head_does_not_keep_the_buffer_of_the_head() {
    for follows in [&b""[..], b"x", &[7; 300]] {
        block_on(async {
            let head = format!("GET http://ok.test/{} HTTP/1.0\r\n\r\n", "a".repeat(3000));
            let sent = [head.as_bytes(), follows].concat();
            let (mut stream, mut buffer, mut lease) = (&sent[..], BytesMut::new(), Lease::alone());
            let head = read_head(&mut stream, &mut buffer, &mut lease, &LIMITS).await;
            let head = head.expect("well-formed").expect("not empty");
            assert_eq!(buffer, follows);
            assert_eq!(lease.bytes(), buffer.capacity() + head.cost());
            assert!(!buffer.try_reclaim(1000), "the room of the head is still there");
            assert!(head.cost() >= 3000);
        });
    }
}

/// t72
#[test]
fn a_head_costs_its_text_and_the_places_of_its_fields() {
    let cost =
        |fields: &str| verdict(&with_fields(fields)).0.expect("well-formed").expect("not empty").cost();
    let many: String = (0..90).map(|at| format!("a{at}: b\r\n")).collect();
    let (none, one) = (cost(""), cost(&format!("X: {}\r\n", "b".repeat(many.len()))));
    assert!(one >= none + many.len());
    // Two allocations of 32 bytes, and a place of 104.
    assert!(cost(&many) >= one + 80 * (64 + 104), "{} {one}", cost(&many));
    assert!(cost(&"a: b\r\n".repeat(90)) >= one + 80 * (64 + 72));
}
