//! Generated tunnels over real sockets: with any segments, stalls, limits and ends, every byte arrives once and in order,
//! and the meter counts them.

use std::sync::Arc;

use bytes::BytesMut;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::tests::{EVERY_WAY, How, limits, open};
use super::*;

/// How a sender's bytes end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Last {
    Fin,
    /// A FIN, once the other side's FIN was seen.
    FinAfterTheOther,
    Reset,
}

/// What one side does.
#[derive(Clone, Debug)]
struct Script {
    early: usize,
    /// Bytes of each write, and how often the task yields before it.
    writes: Vec<(usize, u8)>,
    /// Most bytes of each read, and how often the task yields before it.
    reads: (usize, u8),
    /// It begins to read only when nothing moves any more: every buffer on the way is full, or all has been sent.
    stalls: bool,
    last: Last,
}

impl Script {
    fn shorten(&mut self) {
        const LONGEST: usize = 8 * 1024;
        self.early %= LONGEST;
        self.writes.iter_mut().for_each(|(size, _)| *size = *size % LONGEST + 1);
    }

    fn total(&self) -> usize {
        self.early + self.writes.iter().map(|(size, _)| size).sum::<usize>()
    }
}

#[derive(Clone, Debug)]
struct Case {
    how: How,
    small_buffers: bool,
    client: Script,
    upstream: Script,
    /// In percent of what the client sends.
    limit: Option<usize>,
}

fn script() -> impl Strategy<Value = Script> {
    let size =
        prop_oneof![4 => 1..2_000_usize, 2 => Just(16 * 1024), 2 => 1..150_000_usize, 1 => Just(1_200_000)];
    let last = prop_oneof![4 => Just(Last::Fin), 4 => Just(Last::FinAfterTheOther), 1 => Just(Last::Reset)];
    (
        prop_oneof![Just(0), 1..40_000_usize],
        prop::collection::vec((size, 0..6_u8), 0..6),
        (prop_oneof![Just(100_usize), Just(5_000), Just(200_000)], 0..4_u8),
        prop::bool::weighted(0.3),
        last,
    )
        .prop_map(|(early, writes, reads, stalls, last)| Script { early, writes, reads, stalls, last })
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop::sample::select(&EVERY_WAY[..]),
        any::<bool>(),
        script(),
        script(),
        prop_oneof![3 => Just(None), 1 => (0..130_usize).prop_map(Some)],
    )
        .prop_map(|(how, small_buffers, mut client, mut upstream, limit)| {
            if small_buffers {
                // Through these the kernel moves some 20 KiB a second where both sides wait for the other's window.
                client.shorten();
                upstream.shorten();
            }
            // One side has to be the first.
            if client.last == Last::FinAfterTheOther && upstream.last == Last::FinAfterTheOther {
                upstream.last = Last::Fin;
            }
            Case { how, small_buffers, client, upstream, limit }
        })
}

/// Bytes that differ at every place, and between the two senders.
fn stream_of(total: usize, seed: u32) -> Vec<u8> {
    let mut word = seed;
    (0..total)
        .map(|_| {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (word >> 24) as u8
        })
        .collect()
}

async fn go_round(times: u8) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Writes by the script; whether all of it was taken. Returns the half, so that it can be reset.
async fn write(
    mut to: OwnedWriteHalf,
    bytes: Vec<u8>,
    script: Script,
    other_ended: oneshot::Receiver<()>,
) -> (OwnedWriteHalf, bool) {
    let mut left = &bytes[script.early..];
    for (size, rounds) in script.writes {
        go_round(rounds).await;
        let (part, rest) = left.split_at(size);
        // The other side's reset, or the limit, may end this at any place.
        if to.write_all(part).await.is_err() {
            return (to, false);
        }
        left = rest;
    }
    if script.last == Last::FinAfterTheOther {
        let _ = other_ended.await;
    }
    let whole = script.last == Last::Reset || to.shutdown().await.is_ok();
    (to, whole)
}

/// Waits until the relay moves nothing. On a busy host the relay may pause for a moment: that only makes the stall shorter.
async fn until_it_rests(meter: &Meter) {
    let moved = || meter.sent() + meter.received();
    let mut before = None;
    while before != Some(moved()) {
        before = Some(moved());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads by the script until the end; whether it was a FIN.
async fn read(
    mut from: OwnedReadHalf,
    (most, rounds): (usize, u8),
    stall: Option<Arc<Meter>>,
    ended: oneshot::Sender<()>,
) -> (Vec<u8>, bool, OwnedReadHalf) {
    if let Some(meter) = stall {
        until_it_rests(&meter).await;
    }
    let mut got = Vec::new();
    let mut buffer = vec![0; most];
    let fin = loop {
        go_round(rounds).await;
        match from.read(&mut buffer).await {
            Ok(0) => break true,
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(_) => break false,
        }
    };
    let _ = ended.send(());
    (got, fin, from)
}

/// One far end by its script: what it read, and whether a FIN ended that.
async fn play(stream: TcpStream, bytes: Vec<u8>, script: Script, meter: &Arc<Meter>) -> (Vec<u8>, bool) {
    let (from, to) = stream.into_split();
    let (ended, other_ended) = oneshot::channel();
    let stall = script.stalls.then(|| Arc::clone(meter));
    let reading = tokio::spawn(read(from, script.reads, stall, ended));
    let (to, whole) = write(to, bytes, script.clone(), other_ended).await;
    if script.last == Last::Reset {
        // What was read until here must be in order too, but how much it is depends on the timing.
        reading.abort();
        let _ = reading.await;
        let _ = to.as_ref().set_zero_linger();
        return (Vec::new(), false);
    }
    let (got, fin, _) = reading.await.unwrap();
    // Where the writer got the reset, the reader sees an end that looks like a FIN.
    (got, fin && whole)
}

async fn run(case: Case) {
    let (sent, answered) = (stream_of(case.client.total(), 1), stream_of(case.upstream.total(), 2));
    let limit = case.limit.map(|percent| sent.len() * percent / 100);
    let early = Early {
        to_upstream: BytesMut::from(&sent[..case.client.early]),
        to_client: BytesMut::from(&answered[..case.upstream.early]),
    };
    let limits = RelayLimits { upload: Allowance::limited(limit.map(|limit| limit as u64)), ..limits() };
    let tunnel = open(case.how, early, limits, case.small_buffers.then_some(4096)).await;
    let client = play(tunnel.client, sent.clone(), case.client.clone(), &tunnel.meter);
    let upstream = play(tunnel.upstream, answered.clone(), case.upstream.clone(), &tunnel.meter);
    let ((at_client, client_fin), (at_upstream, upstream_fin), ending) =
        tokio::join!(client, upstream, tunnel.ending);
    let ending = ending.unwrap();
    let (counted_sent, counted_received) = (tunnel.meter.sent(), tunnel.meter.received());

    assert!(sent.starts_with(&at_upstream), "towards the upstream, after {} bytes", at_upstream.len());
    assert!(answered.starts_with(&at_client), "towards the client, after {} bytes", at_client.len());
    assert!(counted_sent >= at_upstream.len() as u64 && counted_received >= at_client.len() as u64);
    assert!(limit.is_none_or(|limit| counted_sent <= limit as u64), "{counted_sent} over {limit:?}");
    let resets = case.client.last == Last::Reset || case.upstream.last == Last::Reset;
    let over = limit.is_some_and(|limit| limit < sent.len());
    match ending {
        Ending::ClientClosed | Ending::UpstreamClosed => {
            assert!(!over, "over the limit and ended normally");
            if !resets {
                assert!(client_fin && upstream_fin);
                assert_eq!((at_upstream.len(), at_client.len()), (sent.len(), answered.len()));
                assert_eq!((counted_sent, counted_received), (sent.len() as u64, answered.len() as u64));
            }
            match (case.client.last, case.upstream.last) {
                (Last::Fin, Last::FinAfterTheOther) => assert_eq!(ending, Ending::ClientClosed),
                (Last::FinAfterTheOther, Last::Fin) => assert_eq!(ending, Ending::UpstreamClosed),
                _ => {}
            }
        }
        Ending::UploadLimit => {
            assert!(over, "{limit:?} of {}", sent.len());
            assert_eq!(Some(counted_sent), limit.map(|limit| limit as u64));
            if upstream_fin {
                assert_eq!(Some(at_upstream.len()), limit);
            }
        }
        Ending::ClientReset => assert_eq!(case.client.last, Last::Reset),
        Ending::UpstreamReset => assert_eq!(case.upstream.last, Last::Reset),
        other => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_once_and_in_order(case in case(), threads in prop::bool::ANY) {
        let mut builder = match threads {
            true => tokio::runtime::Builder::new_multi_thread(),
            false => tokio::runtime::Builder::new_current_thread(),
        };
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let done = tokio::time::timeout(Duration::from_secs(30), Box::pin(run(case))).await;
            assert!(done.is_ok(), "it hangs");
        });
    }
}
