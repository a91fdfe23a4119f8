//! Closes a connection so that the last bytes arrive.
//!
//! Closing a socket with unread input makes the kernel send a reset, and the reset destroys what the peer has not read
//! yet: the 403 or the alert. So our side is shut down, then we wait for the peer to close and discard what it still
//! sends. All of that is bounded, because the peer decides how long it takes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::transport::turns::{Account, FLOWING, Turn};
use crate::wire::alert::Alert;

/// Longest wait for the peer.
pub const LINGER_TIME: Duration = Duration::from_secs(1);
/// Most bytes that are discarded.
pub const LINGER_BYTES: usize = 64 * 1024;

/// Bytes of one read. A peer that sends less at a time needs no turn.
const SINK: usize = 16 * 1024;
/// For whom all of them wait in line: they are on their way out.
const CLOSING: Account = Account::MAX;

/// So many wait in line at most.
const MOST_IN_LINE: usize = 64;

/// Shuts our side down, discards at most [`LINGER_BYTES`] or for [`LINGER_TIME`], and closes.
pub async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    close_with(stream, &[]).await;
}

/// Writes `last`, then lingers; both together within [`LINGER_TIME`], because the peer may not read. A failure is ignored:
/// it means only that the peer does not get `last`.
pub async fn close_with<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, last: &[u8]) {
    let goodbye = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        discard(&mut stream, |_| {}).await
    };
    // After a timeout, a failure or success the rest is the same: drop.
    let _ = tokio::time::timeout(LINGER_TIME, goodbye).await;
}

/// Most bytes that are kept of a request that crosses a close: its head, for the record.
pub const MOST_CROSSED: usize = 4 * 1024;

/// Closes as [`linger`] does. What is returned are the first bytes that the peer still sent, at most `most`: it sent them before
/// it could know that the connection ends.
pub async fn linger_reading<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, most: usize) -> BytesMut {
    let mut crossed = BytesMut::new();
    let goodbye = async {
        stream.shutdown().await?;
        discard(&mut stream, |bytes| {
            let room = most.saturating_sub(crossed.len());
            crossed.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        })
        .await
    };
    // After a timeout, a failure or success the rest is the same: drop.
    let _ = tokio::time::timeout(LINGER_TIME, goodbye).await;
    crossed
}

/// Refuses inside a tunnel, after the `200`: with an alert, or without one to a client that would not understand it.
pub async fn close_tunnel<S: AsyncRead + AsyncWrite + Unpin>(stream: S, alert: Option<Alert>) {
    match alert {
        Some(alert) => close_with(stream, &alert.record()).await,
        None => linger(stream).await,
    }
}

/// Reads on, and shows `seen` what comes. A peer that sends much waits for its turn: who is refused again and again with an upload would
/// otherwise cost as much as one that is served. Where [`MOST_IN_LINE`] wait, no more of it is read, because what comes meanwhile stays with
/// the kernel.
async fn discard<S: AsyncRead + Unpin>(stream: &mut S, mut seen: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut left = LINGER_BYTES;
    let mut turn: Option<Turn> = None;
    // Only while it waits: one that sends nothing more takes nobody's place.
    let mut place: Option<InLine> = None;
    poll_fn(|cx| {
        if let Some(turn) = &mut turn {
            if place.is_none() {
                place = InLine::enter();
                if place.is_none() {
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(turn.poll(cx));
            place = None;
        }
        // On the stack while it is used, so that it is not part of the future.
        let mut sink = [0; SINK];
        loop {
            let mut sink = ReadBuf::new(&mut sink);
            let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(cx, &mut sink) else {
                turn.iter_mut().for_each(Turn::unused);
                return Poll::Pending;
            };
            read?;
            seen(sink.filled());
            let read = sink.filled().len();
            left = left.saturating_sub(read);
            if read == 0 || left == 0 {
                return Poll::Ready(Ok(()));
            }
            if read == SINK && turn.is_none() {
                place = InLine::enter();
                if place.is_none() {
                    return Poll::Ready(Ok(()));
                }
                ready!(turn.insert(Turn::of(&FLOWING, CLOSING)).poll(cx));
                place = None;
            }
        }
    })
    .await
}

/// One that waits for its turn to be read.
struct InLine;

static IN_LINE: AtomicUsize = AtomicUsize::new(0);

impl InLine {
    fn enter() -> Option<Self> {
        let one_more = |count: usize| (count < MOST_IN_LINE).then_some(count + 1);
        IN_LINE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok().then(|| InLine)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        IN_LINE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::transport::turns::tests::{all_taken, is_in_line};

    #[tokio::test(start_paused = true)]
    async fn the_last_bytes_are_read_and_the_wait_ends_with_the_peer() {
        let (near, mut far) = duplex(64);
        let begun = Instant::now();
        let closing = tokio::spawn(close_tunnel(near, Some(Alert::UnrecognizedName)));
        far.write_all(b"unread").await.unwrap();
        let mut last = Vec::new();
        far.read_to_end(&mut last).await.unwrap();
        assert_eq!(last, Alert::UnrecognizedName.record());
        drop(far);
        closing.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_alert_for_a_client_that_does_not_speak_tls() {
        let (near, mut far) = duplex(64);
        let closing = tokio::spawn(close_tunnel(near, None));
        let mut last = Vec::new();
        far.read_to_end(&mut last).await.unwrap();
        assert_eq!(last, b"");
        drop(far);
        closing.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_neither_reads_nor_closes_is_left_after_a_second() {
        let (near, _far) = duplex(3);
        let begun = Instant::now();
        close_with(near, b"longer than the pipe").await;
        assert_eq!(begun.elapsed(), LINGER_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn what_crosses_the_close_is_seen_up_to_a_bound() {
        for (sent, most, seen) in
            [(&b""[..], 8, &b""[..]), (b"POST /", 8, b"POST /"), (b"POST / HTTP", 6, b"POST /")]
        {
            let (near, mut far) = duplex(64);
            let closing = tokio::spawn(linger_reading(near, most));
            assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0, "the FIN comes first");
            for byte in sent {
                far.write_all(&[*byte]).await.unwrap();
            }
            drop(far);
            assert_eq!(closing.await.unwrap(), seen);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_stops_is_left_after_64_kib() {
        let (near, mut far) = duplex(1024);
        let closing = tokio::spawn(linger(near));
        let mut taken = 0;
        while far.write_all(&[0; 1024]).await.is_ok() {
            taken += 1024;
        }
        closing.await.unwrap();
        assert!((LINGER_BYTES..=LINGER_BYTES + 4096).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_much_waits_for_its_turn_and_one_that_sends_little_does_not() {
        let mut others = all_taken().await;
        for (bytes, waits) in [(SINK - 1, false), (LINGER_BYTES, true)] {
            let (near, mut far) = duplex(1 << 20);
            far.write_all(&vec![0; bytes]).await.unwrap();
            far.shutdown().await.unwrap();
            let begun = Instant::now();
            let closing = tokio::spawn(linger(near));
            while !closing.is_finished() && !is_in_line(CLOSING) {
                tokio::task::yield_now().await;
            }
            assert_eq!(is_in_line(CLOSING), waits, "{bytes}");
            // Nobody waits for longer than without turns.
            closing.await.unwrap();
            assert_eq!(begun.elapsed(), if waits { LINGER_TIME } else { Duration::ZERO });
        }
        let many: Vec<InLine> = std::iter::from_fn(InLine::enter).collect();
        let (near, mut far) = duplex(1 << 20);
        far.write_all(&[0; LINGER_BYTES]).await.unwrap();
        let begun = Instant::now();
        linger(near).await;
        assert_eq!((begun.elapsed(), is_in_line(CLOSING)), (Duration::ZERO, false), "too many wait");
        drop(many);
        // Those that had their turn and send nothing more are in nobody's way.
        others.give_back();
        let mut silent = Vec::new();
        for _ in 0..=MOST_IN_LINE {
            let (near, mut far) = duplex(1 << 20);
            far.write_all(&[0; SINK]).await.unwrap();
            let closing = tokio::spawn(linger(near));
            // It has read them, and waits for more.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            silent.push((closing, far));
        }
        assert!(silent.iter().all(|(closing, _)| !closing.is_finished()));
    }
}
