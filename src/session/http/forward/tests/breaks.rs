//! What goes wrong: on the target's side, on the client's, and by the clock.

use super::*;
use crate::session::http::changes::Changes;

fn refused(reason: Reason) -> impl Fn(&Finish) -> bool {
    move |finish| matches!(finish, Finish::Refused { reason: said, .. } if *said == reason)
}

#[tokio::test]
async fn an_answer_that_is_none_is_upstream_bad_response() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    for (response, detail) in [
        ("", "closed the connection"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "closed the connection"),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "well-formed"),
        ("\x16\x03\x01\x02\0\x01", "well-formed"),
        ("HTTP/2.0 200 OK\r\n\r\n", "well-formed"),
        ("HTTP/1.1 abc\r\n\r\n", "well-formed"),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "well-formed"),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", "well-formed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "well-formed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "well-formed"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "well-formed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer coding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer coding"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "transfer coding",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            "together with",
        ),
        ("HTTP/1.1 200 OK\r\nConnection: x-secret, \u{e9}\r\nX-Secret: 1\r\n\r\n", "list of field names"),
        ("HTTP/1.1 200 OK\r\nConnection: close; x\r\nContent-Length: 0\r\n\r\n", "list of field names"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "another protocol"),
        ("HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n", "password"),
        (huge.as_str(), "too large"),
    ] {
        let mut run = start(BOUNDS, answering_once(response.to_owned())).await;
        run.send(GET).await;
        assert_eq!(run.rest().await, "", "{response:.60}");
        let outcome = run.outcome().await;
        let Finish::Refused { reason, detail: said } = outcome.finish else {
            panic!("{response:.60}: {outcome:?}")
        };
        assert_eq!((reason, outcome.status), (Reason::UpstreamBadResponse, None), "{response:.60}");
        assert!(said.contains(detail), "{response:.60}: {said}");
    }
}

/// Sends a head, then a 1xx every now and then until the connection is closed.
fn informing(first: &'static str, then: &'static str) -> impl Fn(usize, TcpStream) -> Served {
    move |_, mut stream| {
        Box::pin(async move {
            head_of(&mut stream).await;
            let _ = stream.write_all(first.as_bytes()).await;
            while stream.write_all(then.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }
}

#[tokio::test]
async fn no_number_of_interim_answers_puts_a_deadline_off() {
    let short = Duration::from_millis(300);
    let waits = Bounds { response_timeout: short, ..BOUNDS };
    let stalls = Bounds { stall_timeout: short, ..BOUNDS };
    let timeout = || {
        let detail = "the target did not answer in time".into();
        Finish::Refused { reason: Reason::UpstreamTimeout, detail }
    };
    let stalled = || Finish::Broken { ending: Ending::IdleTimeout, reason: None };
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const PROCESSING: &str = "HTTP/1.1 102 Processing\r\n\r\n";
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let expecting = post("Expect: 100-continue\r\nContent-Length: 3");
    for (bounds, request, first, then, finish) in [
        (waits, GET.to_owned(), "", PROCESSING, timeout()),
        (waits, GET.to_owned(), HINTS, CONTINUE, timeout()),
        (waits, format!("{}abc", post("Content-Length: 3")), PROCESSING, HINTS, timeout()),
        // The one that the client waits for never comes.
        (waits, expecting.clone(), "", PROCESSING, timeout()),
        // It comes, and the client sends nothing more.
        (stalls, format!("{expecting}a"), CONTINUE, CONTINUE, stalled()),
        (stalls, format!("{}a", post("Content-Length: 3")), "", PROCESSING, stalled()),
    ] {
        let mut run = start(bounds, informing(first, then)).await;
        run.send(&request).await;
        let ended = tokio::time::timeout(Duration::from_secs(10), async {
            run.rest().await;
            run.outcome().await
        });
        let outcome = ended.await.unwrap_or_else(|_| panic!("{request:?} {then:?} goes on"));
        assert_eq!((outcome.finish, outcome.status), (finish, None), "{request:?} {then:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_ended_as_if_it_were_whole() {
    for (response, ending, reason) in [
        ("Content-Length: 10\r\n\r\nabc", Ending::UpstreamClosed, None),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nabc", Ending::UpstreamClosed, None),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Ending::UpstreamClosed, None),
        (
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
            Ending::UpstreamClosed,
            Some(Reason::UpstreamBadResponse),
        ),
    ] {
        let mut run = start(BOUNDS, answering_once(format!("HTTP/1.1 200 OK\r\n{response}"))).await;
        run.send(GET).await;
        let answer = run.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.ends_with("0\r\n\r\n"), "{answer}");
        let outcome = run.outcome().await;
        assert_eq!((outcome.status, outcome.keep_alive), (Some(200), false), "{response}");
        assert_eq!(outcome.finish, Finish::Broken { ending, reason }, "{response}");
    }
}

#[tokio::test]
async fn a_reset_of_the_target_is_told_from_its_close() {
    let mut run = start(BOUNDS, |_, mut stream| async move {
        head_of(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await.expect("open");
        // The client has it: the reset overtakes nothing.
        let _ = stream.read_u8().await;
        stream.set_zero_linger().expect("a socket");
    })
    .await;
    let request = format!("{}x", post("Content-Length: 2"));
    run.ask(request, "abc").await;
    run.send("y").await;
    assert_eq!(run.rest().await, "");
    let finish = run.outcome().await.finish;
    assert_eq!(finish, Finish::Broken { ending: Ending::UpstreamReset, reason: None });
}

#[tokio::test]
async fn a_refused_connection_is_the_callers_to_answer() {
    let (listener, closed) = bind().await;
    drop(listener);
    let (listener, address) = bind().await;
    let mut client = connect(address).await.expect("loopback");
    let (stream, _) = listener.accept().await.expect("connected");
    client.write_all(GET.as_bytes()).await.expect("open");
    let outcomes = Box::pin(serve(stream, BOUNDS, closed, Arc::default(), Holder::alone())).await;
    assert!(refused(Reason::ConnectRefused)(&outcomes[0].0.finish), "{outcomes:?}");
    assert_eq!((outcomes[0].1, outcomes[0].0.addresses), (0, None));
}

/// t49: the target must see a body that is cut off, not one that ends.
#[tokio::test]
async fn a_malformed_body_is_refused_and_not_ended_upstream() {
    let (tell, mut got) = mpsc::channel(1);
    let mut run = start(BOUNDS, body_to(tell)).await;
    run.send(format!("{}3\r\nabc\r\n5 ;\r\n", post("Transfer-Encoding: chunked"))).await;
    assert_eq!(run.rest().await, "");
    let finish = run.outcome().await.finish;
    assert!(refused(Reason::BadRequest)(&finish), "{finish:?}");
    assert!(!got.recv().await.expect("told").ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_exchange_and_the_targets_connection() {
    for (request, reset, ending) in [
        (GET.to_owned(), false, Ending::ClientClosed),
        (GET.to_owned(), true, Ending::ClientReset),
        (format!("{}a", post("Content-Length: 3")), false, Ending::ClientClosed),
        (format!("{}3\r\nab", post("Transfer-Encoding: chunked")), true, Ending::ClientReset),
    ] {
        let (tell, mut told) = mpsc::channel(2);
        let mut run = start(BOUNDS, move |_, mut stream| {
            let tell = tell.clone();
            async move {
                head_of(&mut stream).await;
                tell.send(Vec::new()).await.expect("open");
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes).await;
                tell.send(bytes).await.expect("open");
            }
        })
        .await;
        run.send(&request).await;
        told.recv().await.expect("the target has the head");
        if reset {
            run.client.set_zero_linger().expect("a socket");
        }
        let outcomes = run.finish().await;
        assert_eq!(outcomes[0].0.finish, Finish::Broken { ending, reason: None }, "{request}");
        let body = told.recv().await.expect("the target's connection ended");
        assert!(!body.ends_with(b"0\r\n\r\n"), "{request}");
    }
}

#[tokio::test]
async fn an_exchange_is_stopped_from_outside() {
    let (listener, origin) = bind().await;
    let (clients, proxy) = bind().await;
    let mut client = connect(proxy).await.expect("connected");
    let (mut stream, _) = clients.accept().await.expect("connected");
    client.write_all(GET.as_bytes()).await.expect("open");
    let limits = HeadLimits { bytes: 1024, timeout: Duration::from_secs(10) };
    let (mut buffer, mut kept, meter) = (BytesMut::new(), Kept::default(), Meter::default());
    let head = read_head(&mut stream, &mut buffer, &mut Lease::alone(), &limits)
        .await
        .expect("fine")
        .expect("a head");
    let terms = Terms {
        keep_upstream: &|| None,
        permitted_by: permitted_by(),
        parent: None,
        remove_request_headers: &[],
        changes: &Changes::default(),
        response_timeout: BOUNDS.response_timeout,
        stall_timeout: BOUNDS.stall_timeout,
        keep: &|| None,
        request_id: "id-1",
        meter: &meter,
        tunnel: None,
    };
    let stop = async {
        let (mut asked, _) = listener.accept().await.expect("dialled");
        head_of(&mut asked).await;
        Ending::Drained
    };
    let connection = Connection {
        stream: &mut stream,
        buffer: &mut buffer,
        lease: &mut Lease::alone(),
        of_head: Lease::alone(),
        kept: &mut kept,
    };
    let open =
        || async { connect(origin).await.map(UpstreamStream::Bare).map_err(|_| Reason::ConnectRefused) };
    let mut allowance = Allowance::default();
    let exchange = exchange(connection, &head, head.headers.clone(), &terms, &mut allowance, open, stop);
    let outcome = Box::pin(exchange).await;
    assert_eq!(outcome.finish, Finish::Broken { ending: Ending::Drained, reason: None });
    assert_eq!(outcome.status, None);
}

const SHORT: Bounds = Bounds {
    response_timeout: Duration::from_secs(7),
    stall_timeout: Duration::from_secs(3),
    upload_limit: None,
};

/// Runs until the proxy gives up; the paused clock moves only where nothing else can happen.
async fn gives_up(request: String, response: &'static str) -> (Outcome, Duration) {
    let mut run = start(SHORT, move |_, mut stream| async move {
        head_of(&mut stream).await;
        let _ = stream.write_all(response.as_bytes()).await;
        std::future::pending().await
    })
    .await;
    let started = tokio::time::Instant::now();
    run.send(request).await;
    let outcome = (&mut run.proxy).await.expect("no panic").remove(0).0;
    (outcome, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn silence_ends_an_exchange_and_says_whose_it_was() {
    let timeout = |reason| Finish::Refused { reason, detail: "the target did not answer in time".into() };
    let idle = |reason| Finish::Broken { ending: Ending::IdleTimeout, reason };
    for (request, response, finish, seconds) in [
        (GET.to_owned(), "", timeout(Reason::UpstreamTimeout), 7),
        (post("Expect: 100-continue\r\nContent-Length: 3"), "", timeout(Reason::UpstreamTimeout), 7),
        // The client was told to go on, and does not.
        (post("Expect: 100-continue\r\nContent-Length: 3"), "HTTP/1.1 100 Continue\r\n\r\n", idle(None), 3),
        (format!("{}a", post("Content-Length: 3")), "", idle(None), 3),
        (
            GET.to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            idle(Some(Reason::UpstreamTimeout)),
            3,
        ),
    ] {
        let (outcome, waited) = gives_up(request.clone(), response).await;
        assert_eq!(outcome.finish, finish, "{request} {response}");
        // The clock may run ahead of the loopback interface by a timer's step.
        let waited = waited.as_secs_f32();
        assert!((waited - seconds as f32).abs() < 0.5, "{waited} s: {request} {response}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_who_stalls() {
    let mut run = start(SHORT, |_, mut stream| async move {
        head_of(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[0; 65536]).await.is_ok() {}
    })
    .await;
    run.send(GET).await;
    let outcome = (&mut run.proxy).await.expect("no panic").remove(0).0;
    assert_eq!(outcome.finish, Finish::Broken { ending: Ending::IdleTimeout, reason: None });
    assert_eq!(outcome.status, Some(200));
}
