//! Throws the rest of a refused body away, so that the client reads the answer and its connection goes on.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::beginning::{PACE, arrived, broken, malformed};
use crate::session::http::forward::Finish;
use crate::transport::held::Lease;
use crate::transport::held::read::read_bulk;
use crate::wire::head::{BodyFollower, Framing};
use crate::words::outcome::Ending;

/// Bytes of one read.
const READ_SIZE: usize = 32 * 1024;
/// Most bytes in a second: who sends what is refused shall not cost more than who sends what is allowed.
const RATE: u64 = 64 << 20;
/// How far ahead of that one may be.
const AHEAD: Duration = Duration::from_millis(50);
/// The client's connection is told that it moves after so many bytes.
const TELL: u64 = 1 << 20;

/// Reads the body whole, which `buffer` begins, and no byte after it. Whether that was done: not if it is longer than `most`, or comes
/// slower than [`PACE`] in `patience`. What came fast before is no credit: else a client could hold its place for days.
///
/// # Errors
/// The client left, sent nothing for longer than `patience`, or its framing is wrong.
pub(super) async fn drain<S: AsyncRead + Unpin>(
    stream: &mut S,
    (buffer, lease): (&mut BytesMut, &mut Lease),
    framing: Framing,
    most: u64,
    patience: Duration,
) -> Result<bool, Finish> {
    if matches!(framing, Framing::Length(length) if length > most) {
        return Ok(false);
    }
    let (mut follower, mut bulk) = (BodyFollower::new(framing), false);
    let (begun, mut drained, mut told) = (Instant::now(), 0_u64, 0);
    // Where the last stretch began that is as long as the pace wants.
    let (mut since, mut passed) = (begun, 0);
    loop {
        while let Some(piece) = follower.step(buffer).map_err(malformed)? {
            buffer.advance(piece.len());
            drained += piece.len() as u64;
        }
        if follower.is_done() {
            *buffer = BytesMut::from(&buffer[..]);
            lease.set(buffer.capacity());
            return Ok(true);
        }
        if drained > most {
            return Ok(false);
        }
        if drained >= passed + PACE as u64 {
            (since, passed) = (Instant::now(), drained);
        }
        if drained >= told + TELL {
            told = drained;
            lease.holder().moves();
        }
        let due = begun + Duration::from_millis(drained * 1_000 / RATE);
        if due > Instant::now() + AHEAD {
            sleep_until(due).await;
        }
        let reading = read_bulk(stream, buffer, lease, &mut bulk, READ_SIZE);
        match timeout_at(since + patience, reading).await {
            Ok(read) => arrived(read)?,
            Err(_elapsed) if drained > passed => return Ok(false),
            Err(_elapsed) => return Err(broken(Ending::IdleTimeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn drained(framing: Framing, sent: &[u8], most: u64) -> (Result<bool, Finish>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        far.write_all(sent).await.unwrap();
        let mut buffer = BytesMut::new();
        let mut lease = Lease::alone();
        let result = drain(&mut near, (&mut buffer, &mut lease), framing, most, Duration::from_secs(5)).await;
        (result, buffer.to_vec())
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_is_thrown_away_to_its_last_byte_and_no_further() {
        type Row<'a> = (Framing, &'a [u8], u64, bool, &'a [u8]);
        let rows: [Row<'_>; 5] = [
            (Framing::Length(5), b"hello", 100, true, b""),
            (Framing::Length(5), b"helloGET /", 5, true, b"GET /"),
            (Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\nGET /", 100, true, b"GET /"),
            (Framing::Length(5), b"", 4, false, b""),
            // Nothing is read for it.
            (Framing::None, b"GET /", 0, true, b""),
        ];
        for (framing, sent, most, whole, left) in rows {
            let (result, buffer) = drained(framing, sent, most).await;
            assert_eq!((result, &buffer[..]), (Ok(whole), left), "{framing:?}");
        }
        // Chunked, a body shows its length only as it comes.
        let long = [b"ffff\r\n".to_vec(), vec![b'x'; 65_535], b"\r\n0\r\n\r\n".to_vec()].concat();
        assert_eq!(drained(Framing::Chunked, &long, 10_000).await.0, Ok(false));
        let (silent, _) = drained(Framing::Length(5), b"", 100).await;
        assert_eq!(silent, Err(broken(Ending::IdleTimeout)));
        assert_eq!(drained(Framing::Length(5), b"hell", 100).await.0, Ok(false));
        let (malformed, _) = drained(Framing::Chunked, b"x\r\n", 100).await;
        assert!(matches!(malformed, Err(Finish::Refused { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_drips_is_not_waited_for_whatever_it_sent_before() {
        let patience = Duration::from_secs(5);
        // How much comes at once, and how much every four seconds after that.
        for (first, each, whole) in
            [(0, 1, false), (0, PACE, true), (8 * PACE, 1, false), (8 * PACE, PACE, true)]
        {
            let (mut near, mut far) = tokio::io::duplex(1 << 20);
            let sending = tokio::spawn(async move {
                let mut sent = far.write_all(&vec![0; first]).await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_secs(4)).await;
                    sent = far.write_all(&vec![0; each]).await;
                }
            });
            let (mut buffer, mut lease) = (BytesMut::new(), Lease::alone());
            let framing = Framing::Length((first + 20 * each) as u64);
            let drained = drain(&mut near, (&mut buffer, &mut lease), framing, 1 << 30, patience).await;
            assert_eq!(drained, Ok(whole), "{first} and then {each}");
            drop(near);
            sending.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn its_rate_is_bounded() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let length = 2 * RATE;
        let sending = tokio::spawn(async move {
            let piece = vec![0; 1 << 20];
            for _ in 0..length >> 20 {
                far.write_all(&piece).await.unwrap();
            }
        });
        let begun = Instant::now();
        let (mut buffer, mut lease) = (BytesMut::new(), Lease::alone());
        let framing = Framing::Length(length);
        let patience = Duration::from_secs(60);
        let whole = drain(&mut near, (&mut buffer, &mut lease), framing, length, patience).await;
        assert_eq!(whole, Ok(true));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(3), "{took:?}");
        sending.await.unwrap();
    }
}
