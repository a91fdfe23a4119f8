//! What a target can make an exchange hold is leased.

use super::*;

const UNIT: usize = 1000;

/// Waits until so many bytes are leased for what comes from the target.
async fn leases(run: &Run, at_least: usize) {
    let leased = async {
        while run.held.of(Kind::Body) < at_least {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let leased = tokio::time::timeout(Duration::from_secs(10), leased).await;
    assert!(leased.is_ok(), "{} of {at_least}", run.held.of(Kind::Body));
}

/// What is left when the client is gone.
async fn gives_everything_back(run: Run) {
    let held = Arc::clone(&run.held);
    run.finish().await;
    let back = async {
        while held.sum() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), back).await.is_ok(), "{}", held.sum());
}

/// An origin that reads a head, writes `bytes`, and waits for the proxy's close.
fn beginning(bytes: String) -> impl Fn(usize, TcpStream) -> Served {
    move |_, mut stream| {
        let bytes = bytes.clone();
        Box::pin(async move {
            head_of(&mut stream).await;
            let _ = stream.write_all(bytes.as_bytes()).await;
            let _ = stream.read_u8().await;
        })
    }
}

#[tokio::test]
async fn t72_a_large_response_head_counts_while_it_comes_and_while_its_body_does() {
    let half = format!("HTTP/1.1 200 OK\r\nContent-Type: {}", "a".repeat(50 * UNIT));
    for (head, read) in [(half.clone(), ""), (format!("{half}\r\nContent-Length: 9\r\n\r\nok"), "ok")] {
        let mut run = start(BOUNDS, beginning(head)).await;
        run.send(GET).await;
        read_until(&mut run.client, read).await;
        leases(&run, UPSTREAM + 2 * 50 * UNIT).await;
        gives_everything_back(run).await;
    }
}

#[tokio::test]
async fn t72_interim_answers_that_wait_for_the_client_count() {
    let hints = format!("HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n", "a".repeat(30 * UNIT));
    let mut run = start(BOUNDS, move |_, mut stream| {
        let hints = hints.clone();
        async move {
            head_of(&mut stream).await;
            while stream.write_all(hints.as_bytes()).await.is_ok() {}
        }
    })
    .await;
    run.send(GET).await;
    // The buffer, the one that is written with what comes behind it, and one that waits.
    leases(&run, UPSTREAM + 2 * 30 * UNIT + 40 * UNIT + 30 * UNIT).await;
    assert!(run.held.of(Kind::Body) <= 334 * 1024, "{}", run.held.of(Kind::Body));
    gives_everything_back(run).await;
}

#[tokio::test]
async fn t72_interim_answers_that_wait_have_a_bound_in_bytes_and_are_copies() {
    let held = HeldBytes::unlimited();
    let holder = held.enter();
    let (informing, told) =
        Informing::new(&ResponseBuffer::new(&holder, RESPONSE_BUFFER), &holder, Default::default());
    let read = bytes::Bytes::from(vec![b'a'; 30 * UNIT]);
    let value = http::HeaderValue::from_maybe_shared(read.clone()).expect("a value");
    let headers = http::HeaderMap::from_iter([(http::header::LINK, value)]);
    for waiting in [1, 2, 2, 2] {
        informing.tell(http::StatusCode::EARLY_HINTS, &headers);
        assert_eq!(told.len(), waiting);
        assert!(held.of(Kind::Body) >= waiting * 30 * UNIT, "{}", held.of(Kind::Body));
    }
    drop(headers);
    assert!(read.is_unique(), "the buffer that it was read into is kept");
    while told.take().is_some() {}
    assert_eq!(held.sum(), 0);
    // There is room again, until the number is the bound.
    for _ in 0..10 {
        informing.tell(http::StatusCode::PROCESSING, &http::HeaderMap::new());
    }
    assert_eq!(told.len(), 8);
}

/// An upload that its target does not read: nobody reads the client either, so that a reset would show nowhere.
#[tokio::test]
async fn t72_a_client_that_resets_an_upload_that_stalls_is_seen() {
    let mut run = start(BOUNDS, |_, mut stream| async move {
        head_of(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    run.send(post("Content-Length: 100000000")).await;
    // Until nothing more is taken.
    let block = vec![0; 1 << 20];
    while let Ok(sent) = tokio::time::timeout(Duration::from_millis(500), run.client.write(&block)).await {
        sent.expect("open");
    }
    leases(&run, 1).await;
    run.client.set_zero_linger().expect("a socket");
    let outcomes = tokio::time::timeout(Duration::from_secs(30), run.finish()).await.expect("it is seen");
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    let Finish::Broken { ending, .. } = outcomes[0].0.finish else { panic!("{outcomes:?}") };
    assert_eq!(ending, Ending::ClientReset);
}
