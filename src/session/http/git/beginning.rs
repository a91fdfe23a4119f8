//! The beginning of a body, or all of it, read before the request is judged. It is decoded into a copy: the client's bytes stay in
//! their buffer, from where they go on as they came, or are thrown away.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout_at};

use crate::session::http::forward::Finish;
use crate::transport::held::read::read;
use crate::transport::held::{Holder, Kind, Lease};
use crate::wire::head::{BodyError, BodyFollower, Framing, Piece};
use crate::words::outcome::{Ending, Reason};

/// So many bytes must come in the time that a body may stall.
pub(super) const PACE: usize = 256 * 1024;
/// Of so many bytes the holder is told that they moved.
const TELL: usize = 16 * 1024;
/// Framing that is never too much, however little it frames.
const FRAMING: usize = 64 * 1024;

/// What is read of a body.
#[derive(Debug)]
pub(super) struct Beginning {
    follower: BodyFollower,
    /// How many bytes of the buffer are decoded.
    at: usize,
    /// The content so far.
    data: Vec<u8>,
    lease: Lease,
}

/// Why reading ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reached {
    /// There is as much as was wanted.
    Enough,
    /// The body ends here.
    End,
    /// It is longer than the bound.
    TooLong,
}

/// A client's connection, as far as its bytes are read.
pub(super) struct Reading<'c, S> {
    pub(super) stream: &'c mut S,
    pub(super) buffer: &'c mut BytesMut,
    pub(super) lease: &'c mut Lease,
}

impl Beginning {
    pub(super) fn new(framing: Framing, holder: &Arc<Holder>) -> Self {
        Beginning {
            follower: BodyFollower::new(framing),
            at: 0,
            data: Vec::new(),
            lease: Lease::new(holder, Kind::Body),
        }
    }

    /// The content that was read, under its lease.
    pub(super) fn into_parts(self) -> (Vec<u8>, Lease) {
        (self.data, self.lease)
    }

    /// How many bytes of the buffer it takes.
    pub(super) fn wire(&self) -> usize {
        self.at
    }

    /// Reads on until `enough` of the content so far is there, or more than `most` bytes. It must come at [`PACE`]: what came fast
    /// before is no credit, as in [`drain`](super::drain).
    pub(super) async fn read<S: AsyncRead + Unpin>(
        &mut self,
        from: &mut Reading<'_, S>,
        most: usize,
        patience: Duration,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) -> Result<Reached, Finish> {
        // Where the last stretch began that is as long as the pace wants.
        let (mut since, mut passed) = (Instant::now(), self.data.len());
        let mut told = from.buffer.len();
        loop {
            self.follow(from.buffer).map_err(malformed)?;
            if enough(&self.data) {
                return Ok(Reached::Enough);
            }
            if self.data.len() > most || from.buffer.len() > most.saturating_mul(2).saturating_add(FRAMING) {
                return Ok(Reached::TooLong);
            }
            if self.follower.is_done() {
                return Ok(Reached::End);
            }
            if self.data.len() >= passed + PACE {
                (since, passed) = (Instant::now(), self.data.len());
            }
            let reading = read(from.stream, from.buffer, from.lease);
            match timeout_at(since + patience, reading).await {
                Ok(read) => arrived(read)?,
                Err(_elapsed) => return Err(broken(Ending::IdleTimeout)),
            }
            if from.buffer.len() >= told + TELL {
                told = from.buffer.len();
                from.lease.holder().moves();
            }
        }
    }

    /// Decodes what came.
    fn follow(&mut self, buffer: &[u8]) -> Result<(), BodyError> {
        while let Some(piece) = self.follower.step(buffer.get(self.at..).unwrap_or_default())? {
            let end = self.at + piece.len();
            if let Piece::Data(_) = piece {
                let bytes = buffer.get(self.at..end).unwrap_or_default();
                let needed = self.data.len() + bytes.len();
                if self.data.capacity() < needed {
                    let larger = needed.max(self.data.len() + self.data.len() / 2);
                    self.lease.set(larger);
                    self.data.reserve_exact(larger - self.data.len());
                }
                self.data.extend_from_slice(bytes);
            }
            self.at = end;
        }
        Ok(())
    }
}

/// What a read says of the client.
pub(super) fn arrived(read: io::Result<usize>) -> Result<(), Finish> {
    match read {
        Ok(1..) => Ok(()),
        Ok(0) => Err(broken(Ending::ClientClosed)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(broken(Ending::ClientClosed)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(broken(Ending::ClientLost)),
        Err(_) => Err(broken(Ending::ClientReset)),
    }
}

pub(super) fn broken(ending: Ending) -> Finish {
    Finish::Broken { ending, reason: None }
}

pub(super) fn malformed(error: BodyError) -> Finish {
    Finish::Refused { reason: Reason::BadRequest, detail: error.to_string().into() }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_not_waited_for_whatever_came_before() {
        let patience = Duration::from_secs(5);
        // How much comes at once, how much every four seconds after that, and whether all of it is waited for.
        for (first, each, whole) in
            [(10, 1, false), (0, PACE, true), (4 * PACE, 1, false), (4 * PACE, PACE, true)]
        {
            let (mut near, mut far) = tokio::io::duplex(1 << 20);
            let length = first + 3 * each;
            let sending = tokio::spawn(async move {
                let mut sent = far.write_all(&vec![0; first]).await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_secs(4)).await;
                    sent = far.write_all(&vec![0; each]).await;
                }
            });
            let (mut buffer, mut lease) = (BytesMut::new(), Lease::alone());
            let mut beginning = Beginning::new(Framing::Length(length as u64), lease.holder());
            let mut from = Reading { stream: &mut near, buffer: &mut buffer, lease: &mut lease };
            let read = beginning.read(&mut from, length, patience, |_| false).await;
            let want = if whole { Ok(Reached::End) } else { Err(broken(Ending::IdleTimeout)) };
            assert_eq!(read, want, "{first} and then {each}");
            drop(near);
            sending.await.unwrap();
        }
    }
}
