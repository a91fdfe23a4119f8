//! Exchanges of a client whose connections flow: they wait for their turn, and their sockets may hold little.

use socket2::SockRef;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::bodies::echo;
use super::*;
use crate::transport::held::{Flowing, Told};
use crate::transport::turns::tests::{all_taken, is_in_line};

const BODY: usize = 2 * 1024 * 1024;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PATIENCE: Duration = Duration::from_secs(30);

/// So many of the same client flow that all take turns.
fn crowd(held: &Arc<HeldBytes>, count: usize) -> (Arc<Holder>, Vec<Flowing>) {
    let holder = held.enter();
    holder.is_for([127, 0, 0, 1].into(), None);
    let crowd = (0..count).map(|_| Flowing::new(&holder, Told::default())).collect();
    (holder, crowd)
}

async fn until(condition: impl Fn() -> bool) {
    let coming = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, coming).await.expect("it comes");
}

/// Reads the body, counts it, and answers.
fn counting(read: &Arc<AtomicUsize>) -> impl Fn(usize, TcpStream) -> Served + use<> {
    let read = Arc::clone(read);
    move |_, mut stream| {
        let read = Arc::clone(&read);
        Box::pin(async move {
            head_of(&mut stream).await;
            let mut buffer = vec![0; 16 * 1024];
            while read.load(Ordering::Relaxed) < BODY
                && let Ok(count @ 1..) = stream.read(&mut buffer).await
            {
                read.fetch_add(count, Ordering::Relaxed);
            }
            let _ = stream.write_all(OK.as_bytes()).await;
        })
    }
}

/// Of the same kind, the other way.
async fn torrent(_: usize, mut stream: TcpStream) {
    head_of(&mut stream).await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&vec![b'x'; BODY]).await;
}

#[tokio::test]
async fn t72_an_upload_waits_for_its_turn_and_the_time_in_line_is_nobodys_silence() {
    let read = Arc::default();
    let bounds = Bounds { stall_timeout: Duration::from_millis(200), ..BOUNDS };
    let mut run = start(bounds, counting(&read)).await;
    let (holder, _crowd) = crowd(&run.held, 20);
    let others = all_taken().await;
    let upload = [post(&format!("Content-Length: {BODY}")).into_bytes(), vec![b'x'; BODY]].concat();
    let (mut reader, mut writer) = run.client.split();
    let in_line = async {
        until(|| is_in_line(holder.shares_with())).await;
        // For longer than nothing may move.
        tokio::time::sleep(4 * bounds.stall_timeout).await;
        // What it may move without a turn, and no more.
        let moved = read.load(Ordering::Relaxed);
        assert!(moved <= 160 * 1024, "{moved}");
        drop(others);
    };
    let answered = async {
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            assert!(reader.read_buf(&mut answer).await.expect("open") > 0, "{answer:?}");
        }
    };
    let (sent, (), ()) = tokio::join!(writer.write_all(&upload), in_line, answered);
    sent.expect("open");
    assert_eq!(run.finish().await[0].0.finish, Finish::Complete);
}

#[tokio::test]
async fn t72_a_response_waits_for_its_turn_and_a_small_exchange_for_nobody() {
    let (mut run, mut small) = (start(BOUNDS, torrent).await, start(BOUNDS, answering(OK)).await);
    let (holder, _crowd) = crowd(&run.held, 20);
    let _crowd_of_small = crowd(&small.held, 20);
    let others = all_taken().await;
    run.send(GET).await;
    let mut body = vec![0; BODY];
    let mut got = run.client.read(&mut body).await.expect("open");
    let reading = async {
        while got < BODY {
            got += run.client.read(&mut body).await.expect("open");
        }
    };
    let in_line = async {
        until(|| is_in_line(holder.shares_with())).await;
        let small = small.ask(GET, "ok").await;
        assert!(is_in_line(holder.shares_with()), "meanwhile, too: {small}");
        drop(others);
    };
    timeout(PATIENCE, async { tokio::join!(reading, in_line) }).await.expect("it comes");
}

/// Nobody reads a client in line, so that its reset shows nowhere else.
#[tokio::test]
async fn t72_a_client_that_resets_in_line_is_seen() {
    let mut run = start(BOUNDS, counting(&Arc::default())).await;
    let (holder, _crowd) = crowd(&run.held, 20);
    let _others = all_taken().await;
    run.send(post(&format!("Content-Length: {BODY}"))).await;
    let block = vec![0; BODY];
    tokio::select! {
        sent = run.client.write_all(&block) => sent.expect("open"),
        () = until(|| is_in_line(holder.shares_with())) => {}
    }
    until(|| is_in_line(holder.shares_with())).await;
    run.client.set_zero_linger().expect("a socket");
    let outcomes = timeout(PATIENCE, run.finish()).await.expect("it is seen");
    let ended = Finish::Broken { ending: Ending::ClientReset, reason: None };
    assert_eq!(outcomes[0].0.finish, ended);
    // Its place in line went with it.
    assert!(!is_in_line(holder.shares_with()));
}

/// What a socket has taken in, it keeps: it is told before the target answers how much that may be.
#[tokio::test]
async fn t72_sockets_of_a_client_with_many_are_narrow_before_bytes_come() {
    let held = HeldBytes::new(64 << 20);
    let (_holder, flowing) = crowd(&held, 1000);
    let (tell, mut told) = mpsc::channel(1);
    let wrap = |stream: TcpStream| {
        let other = SockRef::from(&stream).try_clone().expect("a descriptor");
        tell.try_send(other).expect("there is room");
        stream
    };
    let mut run = start_in(Arc::clone(&held), BOUNDS, answering(OK), wrap).await;
    let socket = told.recv().await.expect("told");
    let unsent = || socket.tcp_notsent_lowat().expect("a socket");
    run.ask(GET, "ok").await;
    assert_eq!(unsent(), 32 * 1024);
    // With the crowd it goes.
    drop(flowing);
    run.ask(GET, "ok").await;
    assert_eq!(unsent(), 1024 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t72_bodies_of_a_crowd_arrive_whole_both_ways() {
    let held = HeldBytes::new(256 << 20);
    let mut all = JoinSet::new();
    for client in 0..24_u8 {
        let held = Arc::clone(&held);
        all.spawn(async move {
            let mut run = start_in(held, BOUNDS, echo, |stream| stream).await;
            let body: Vec<u8> =
                (0..BODY as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ client).collect();
            let request = [post(&format!("Content-Length: {BODY}")).into_bytes(), body.clone()].concat();
            let (mut reader, mut writer) = run.client.split();
            let mut got = Vec::new();
            let reading = async {
                while got.len() < BODY || !got.ends_with(&body) {
                    assert!(reader.read_buf(&mut got).await.expect("open") > 0, "{}", got.len());
                }
            };
            let (sent, ()) = tokio::join!(writer.write_all(&request), reading);
            sent.expect("open");
            assert_eq!(run.finish().await[0].0.finish, Finish::Complete);
        });
    }
    timeout(2 * PATIENCE, all.join_all()).await.expect("all arrive");
}
