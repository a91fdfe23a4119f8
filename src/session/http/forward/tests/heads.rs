//! Heads: what goes out, what comes back, 1xx, and which connections go on.

use super::*;

/// What a client is told whose connection is kept for 60 s.
const KEPT: &str = "connection: keep-alive\r\nkeep-alive: timeout=55\r\n";

#[tokio::test]
async fn a_request_goes_out_in_origin_form_and_the_answer_comes_back() {
    let (tell, mut asked) = mpsc::channel(1);
    let mut run = start(BOUNDS, move |_, mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(head_of(&mut stream).await.expect("a head")).await.expect("open");
            let response = "HTTP/1.1 200 Fine\r\nX-Y: z\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(response.as_bytes()).await.expect("open");
            head_of(&mut stream).await;
        }
    })
    .await;
    let answer = run.ask(GET, "ok").await;
    // The target's own Keep-Alive is of its own hop.
    assert_eq!(
        answer,
        format!("HTTP/1.1 200 Fine\r\nx-y: z\r\ncontent-length: 2\r\n{KEPT}x-request-id: id-1\r\n\r\nok")
    );
    assert_eq!(asked.recv().await.expect("a head"), "GET /p?q HTTP/1.1\r\nhost: ok.test\r\n\r\n");
    let outcomes = run.finish().await;
    let [(outcome, sent, received)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((outcome.status, &outcome.finish, outcome.keep_alive), (Some(200), &Finish::Complete, true));
    assert!(outcome.addresses.is_some());
    assert_eq!((*sent, *received), (GET.len() as u64, answer.len() as u64));
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    for (method, response, expected) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "content-length: 7\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", ""),
        ("HEAD", "HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "content-length: 7\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "content-length: 0\r\n"),
    ] {
        let mut run = start(BOUNDS, answering(response)).await;
        let request = format!("{method} http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n");
        for _ in 0..2 {
            let answer = run.ask(&request, "\r\n\r\n").await;
            let status = response.lines().next().expect("a line");
            assert_eq!(
                answer,
                format!("{status}\r\n{expected}{KEPT}x-request-id: id-1\r\n\r\n"),
                "{method} {response}"
            );
        }
        assert_eq!(run.opened(), 1, "{method} {response}");
        assert!(run.finish().await.iter().all(|(outcome, ..)| outcome.finish == Finish::Complete));
    }
}

#[tokio::test]
async fn a_hundred_continue_is_the_origins_and_the_body_waits_for_it() {
    let mut run = start(BOUNDS, |_, mut stream| async move {
        let head = head_of(&mut stream).await.expect("a head");
        assert!(head.contains("expect: 100-continue"), "{head}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.expect("open");
        assert_eq!(read_until(&mut stream, "abc").await, "abc");
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.expect("open");
        head_of(&mut stream).await;
    })
    .await;
    let told = run.ask(post("Expect: 100-continue\r\nContent-Length: 3"), "\r\n\r\n").await;
    assert_eq!(told, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(run.ask("abc", "\r\n\r\n").await.starts_with("HTTP/1.1 201 Created\r\n"));
    assert!(run.finish().await[0].0.keep_alive);
}

#[tokio::test]
async fn a_417_comes_before_any_body_and_closes() {
    let mut run =
        start(BOUNDS, answering_once("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")).await;
    run.send(post("Expect: 100-continue\r\nContent-Length: 3")).await;
    let answer = run.rest().await;
    assert!(answer.starts_with("HTTP/1.1 417 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let outcome = run.outcome().await;
    assert_eq!((outcome.finish, outcome.keep_alive), (Finish::Complete, false));
}

#[tokio::test]
async fn early_hints_pass_to_http_1_1_and_an_unasked_100_to_nobody() {
    const RESPONSE: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n\
                            HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut run = start(BOUNDS, answering(RESPONSE)).await;
    let answer = run.ask(GET, "ok").await;
    assert!(
        answer.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{answer}"
    );

    let mut run = start(BOUNDS, answering(RESPONSE)).await;
    let answer = run.ask("GET http://ok.test/ HTTP/1.0\r\n\r\n", "ok").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_field_that_a_head_nominates_stays_out_of_its_1xx_and_of_both_trailers() {
    let mut run = start(BOUNDS, move |_, mut stream| async move {
        head_of(&mut stream).await.expect("a head");
        assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n");
        let hints = b"HTTP/1.1 103 Early Hints\r\nConnection: x-secret, \xd2\r\nX-Secret: 1\r\n\r\n";
        stream.write_all(hints).await.expect("open");
        let response = "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nTransfer-Encoding: chunked\r\n\
                        Trailer: x-secret, x-back\r\n\r\n2\r\nok\r\n0\r\nX-Secret: 1\r\nX-Back: 2\r\n\r\n";
        stream.write_all(response.as_bytes()).await.expect("open");
    })
    .await;
    let fields = "Connection: X-Hop\r\nTransfer-Encoding: chunked\r\nTrailer: x-hop, x-sum";
    let request = format!("{}1\r\na\r\n0\r\nX-Hop: 1\r\nX-Sum: 1\r\n\r\n", post(fields));
    let answer = run.ask(request, "x-back: 2\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains("secret: 1"), "{answer}");
}

#[tokio::test]
async fn without_content_nobody_is_asked_to_continue() {
    for fields in ["Content-Length: 0", "Accept: a"] {
        let mut run = start(BOUNDS, |_, mut stream| async move {
            let head = head_of(&mut stream).await.expect("a head");
            assert!(!head.contains("expect"), "{head}");
            // Of a target that sends one all the same, nothing comes to a client that does not wait for it.
            let response = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(response.as_bytes()).await.expect("open");
            head_of(&mut stream).await;
        })
        .await;
        let request = post(&format!("Expect: 100-continue\r\n{fields}"));
        let answer = run.ask(request, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
        assert!(run.finish().await[0].0.keep_alive, "{fields}");
    }
}

#[tokio::test]
async fn a_client_that_closes_or_speaks_http_1_0_is_told_close() {
    for request in [
        "GET http://ok.test/ HTTP/1.0\r\n\r\n",
        "GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nConnection: close\r\n\r\n",
    ] {
        let mut run = start(BOUNDS, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
        run.send(request).await;
        let answer = run.rest().await;
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(!run.outcome().await.keep_alive);
    }
}

/// The response must have a length: HTTP/1.0 knows no chunks.
#[tokio::test]
async fn a_client_of_http_1_0_that_asks_for_it_is_kept_if_the_response_has_an_end() {
    const ASKS: &str = "GET http://ok.test/ HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut run = start(BOUNDS, answering(length)).await;
    for _ in 0..2 {
        let answer = run.ask(ASKS, "ok").await;
        assert!(answer.contains(KEPT) && !answer.contains("close"), "{answer}");
    }
    assert_eq!(run.opened(), 1);
    assert!(run.finish().await.iter().all(|(outcome, ..)| outcome.keep_alive));

    for response in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nok",
    ] {
        let mut run = start(BOUNDS, answering_once(response)).await;
        run.send(ASKS).await;
        let answer = run.rest().await;
        assert!(answer.contains("connection: close\r\n") && !answer.contains("keep-alive"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(!run.outcome().await.keep_alive);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut run = start(BOUNDS, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
    let both = format!("{}abc{GET}", post("Content-Length: 3"));
    run.send(both).await;
    for _ in 0..2 {
        assert!(read_until(&mut run.client, "\r\n\r\nok").await.ends_with("ok"));
    }
    assert_eq!(run.finish().await.len(), 2);
}

#[tokio::test]
async fn a_kept_connection_serves_the_same_target_only_and_no_body() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut run = start(BOUNDS, answering(OK)).await;
    for (request, opened) in [
        (GET.to_owned(), 1),
        (GET.to_owned(), 1),
        (GET.replace("ok.test", "other.test"), 2),
        (GET.replace("ok.test", "other.test:8080"), 3),
        (GET.replace("ok.test", "other.test:8080").replace("GET", "DELETE"), 4),
        (GET.replace("ok.test", "other.test:8080"), 4),
        (format!("{}\r\n", post("Content-Length: 2").trim_end()), 5),
    ] {
        let body = if request.starts_with("POST") { "\r\nok" } else { "" };
        run.ask(format!("{request}{body}"), "ok").await;
        assert_eq!(run.opened(), opened, "{request}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_target_closes_is_replaced() {
    let mut run = start(BOUNDS, |number, mut stream| async move {
        head_of(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        if number == 0 {
            // Reads the second request, and closes on it.
            head_of(&mut stream).await;
        }
    })
    .await;
    for _ in 0..2 {
        assert!(run.ask(GET, "ok").await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(run.opened(), 2);
    assert!(run.finish().await.iter().all(|(outcome, ..)| outcome.finish == Finish::Complete));
}

#[tokio::test]
async fn a_target_that_closes_while_its_connection_waits_is_let_go_at_once() {
    let (tell, mut told) = mpsc::channel(1);
    let mut run = start(BOUNDS, move |_, mut stream| {
        let tell = tell.clone();
        async move {
            head_of(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            let _ = tell.send(()).await;
        }
    })
    .await;
    run.ask(GET, "ok").await;
    // The client stays, and asks for nothing.
    let closed = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
    assert_eq!(closed, Ok(Some(())), "the connection to the target stays open");
}
