//! One direction of a relay: bytes from one end to the other, then the FIN.
//!
//! At any time, what was read and not yet delivered is in one place, the spill or the pipe, and nothing more is read before
//! it is delivered. So the order is kept, and a slow receiver slows the sender down.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

use super::end::{End, again};
use crate::transport::allowance::Allowance;
use crate::transport::relay::pipe::{Lease, Pool};
use crate::transport::socket::{Unsent, bound_unsent_to};
use crate::transport::turns::come_again;
use crate::words::outcome::Ending;

/// Bytes of one read by copying. A read that fills the buffer is taken as bulk.
const BUFFER: usize = 16 * 1024;
/// What the TLS of an end may hold back: one record.
const RECORD: usize = 18 * 1024;
/// Most bytes in one turn.
pub(super) const TURN: usize = 1024 * 1024;
/// The same through a pipe where there is no quota of CPU. The end of a turn wakes another worker, which costs as much as to move half a
/// MiB: that worker has to look whether there is something to do.
pub(super) const LONG_TURN: usize = 2 * TURN;
/// The same where each tunnel that flows has a worker for itself.
pub(super) const LONGEST_TURN: usize = 4 * TURN;
/// The same where there is a quota, and many wait for their turn.
pub(super) const SHORT_TURN: usize = TURN / 2;

thread_local! {
    /// Used only between two waits, so one per thread is enough.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// What ends a direction before its FIN.
#[derive(Debug)]
pub(super) enum Fault {
    Read(io::Error),
    Write(io::Error),
    /// There is more than is granted: how that ends the tunnel.
    Spent(Ending),
}

/// A receiver that took so much reads what comes. One that takes nothing must not be able to make its socket hold much.
const LOOSE_AFTER: u64 = 4 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// More may come.
    Flowing,
    /// The sender's FIN came; ours is sent once everything is delivered.
    Ended,
    /// Our FIN was sent.
    Closed,
}

/// What memory allows a direction in this turn.
#[derive(Clone, Copy)]
pub(super) struct May {
    /// Move bytes through a pipe.
    pub(super) take_pipe: bool,
    /// What may wait unsent in the socket of a receiver that takes bulk; None: no more than in any other.
    pub(super) unsent: Option<Unsent>,
    /// Most bytes: then other tunnels of the thread get their turn.
    pub(super) move_bytes: usize,
}

pub(super) struct Direction<'a> {
    /// Where pipes come from; `None` where an end cannot be spliced.
    pool: Option<&'a Pool>,
    pipe: Option<Lease<'a>>,
    /// Read by copying and not yet delivered. It has no capacity while it is empty: an idle tunnel holds no buffer.
    spill: BytesMut,
    /// What may still be read.
    allowance: Allowance,
    delivered: u64,
    /// Bytes of this burst: many are bulk.
    burst: usize,
    bulk: bool,
    /// Waiting for the receiver, so not reading.
    blocked: bool,
    /// Something was written that the receiving end may still hold.
    unflushed: bool,
    /// The early bytes alone were more than the limit.
    over: bool,
    /// What the receiver's socket may hold unsent, once that is as much as bulk needs.
    loose: Option<Unsent>,
    stage: Stage,
}

impl<'a> Direction<'a> {
    pub(super) fn new(mut early: BytesMut, mut allowance: Allowance, pool: Option<&'a Pool>) -> Self {
        let allowed = allowance.take(early.len());
        let over = allowed < early.len();
        early.truncate(allowed);
        Direction {
            pool,
            pipe: None,
            spill: if early.is_empty() { BytesMut::new() } else { early },
            allowance,
            delivered: 0,
            burst: 0,
            bulk: false,
            blocked: false,
            unflushed: false,
            over,
            loose: None,
            stage: Stage::Flowing,
        }
    }

    /// Bytes that the receiver's socket took.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether the receiver's socket was given the bound for bulk.
    pub(super) fn is_loose(&self) -> bool {
        self.loose.is_some()
    }

    /// Whether the sender's FIN was seen.
    pub(super) fn at_end(&self) -> bool {
        self.stage != Stage::Flowing
    }

    /// Whether this direction waits for its sender, and so would see it fail.
    pub(super) fn reads(&self) -> bool {
        self.stage == Stage::Flowing && !self.blocked
    }

    /// Whether this direction waits for its receiver.
    pub(super) fn waits(&self) -> bool {
        self.blocked && self.stage != Stage::Closed
    }

    /// Bytes of buffers that it holds until its receiver takes them.
    pub(super) fn spilled(&self) -> usize {
        // A stream that is not a bare socket may have a record in its own buffer.
        let inside = self.pool.is_none() && (self.waits() || self.unflushed);
        self.spill.capacity() + if inside { RECORD } else { 0 }
    }

    /// Bytes of it that are in a pipe.
    pub(super) fn piped(&self) -> usize {
        self.pipe.as_ref().map_or(0, Lease::held)
    }

    /// Moves what can be moved. Ready once our FIN was sent.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        may: May,
        from: &mut impl End,
        to: &mut impl End,
        count: impl Fn(u64),
    ) -> Poll<Result<(), Fault>> {
        let start = self.delivered;
        loop {
            self.blocked = true;
            ready!(self.poll_deliver(cx, to, &count))?;
            if self.over {
                ready!(to.poll_flush(cx)).map_err(Fault::Write)?;
                return Poll::Ready(Err(Fault::Spent(self.allowance.ending())));
            }
            match self.stage {
                Stage::Flowing => {}
                Stage::Ended => {
                    ready!(to.poll_shutdown(cx)).map_err(Fault::Write)?;
                    self.stage = Stage::Closed;
                }
                Stage::Closed => return Poll::Ready(Ok(())),
            }
            if self.stage == Stage::Closed {
                continue;
            }
            self.blocked = false;
            let most = if self.pipe.is_some() { may.move_bytes } else { may.move_bytes.min(TURN) };
            if self.delivered - start >= most as u64 {
                come_again(cx);
                return Poll::Pending;
            }
            let Poll::Ready(read) = self.poll_take(cx, may, from, to, &count)? else {
                self.rest();
                if self.unflushed {
                    self.unflushed = to.poll_flush(cx).map_err(Fault::Write)?.is_pending();
                }
                return Poll::Pending;
            };
            if read == 0 {
                self.rest();
                self.stage = Stage::Ended;
            } else {
                self.burst = self.burst.saturating_add(read);
            }
        }
    }

    /// There is nothing more to read at present: the pipe goes back, and a small burst ends the bulk.
    fn rest(&mut self) {
        // If the other direction woke it, there was no burst.
        if self.burst > 0 {
            self.bulk = self.burst >= BUFFER;
            self.burst = 0;
        }
        self.pipe = None;
    }

    /// Delivers all that was read.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut impl End,
        count: &impl Fn(u64),
    ) -> Poll<Result<(), Fault>> {
        while !self.spill.is_empty() {
            let taken = ready!(to.poll_write(cx, &self.spill)).and_then(some).map_err(Fault::Write)?;
            self.spill.advance(taken);
            self.account(taken, count);
            if self.spill.is_empty() {
                self.spill = BytesMut::new();
            }
        }
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0)
            && let Some(socket) = to.bare()
        {
            ready!(socket.poll_write_ready(cx)).map_err(Fault::Write)?;
            let drained = socket.try_io(Interest::WRITABLE, || {
                let held = pipe.held();
                Ok(pipe.drain(|end| splice(end, None, socket, None, held, FLAGS))?)
            });
            match drained {
                Err(error) if again(&error) => {}
                drained => {
                    let taken = drained.and_then(some).map_err(Fault::Write)?;
                    self.account(taken, count);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; 0 is the sender's FIN. Called only while nothing is held.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        may: May,
        from: &mut impl End,
        to: &mut impl End,
        count: &impl Fn(u64),
    ) -> Poll<Result<usize, Fault>> {
        if self.bulk
            && self.pipe.is_none()
            && to.bare().is_some()
            && let Some(socket) = from.bare()
        {
            ready!(socket.poll_read_ready(cx)).map_err(Fault::Read)?;
            self.pipe = self.pool.filter(|_| may.take_pipe).and_then(Pool::lease);
        }
        if self.loose.is_some() && may.unsent != Some(Unsent::OfFew) {
            self.tighten(may.unsent, to);
        }
        if let Some(unsent) = may.unsent.filter(|_| self.pipe.is_some() && self.delivered >= LOOSE_AFTER)
            && self.loose != Some(unsent)
        {
            self.loose = Some(unsent);
            // If it fails, it only costs time.
            let _ = to.bare().map(|socket| bound_unsent_to(socket, unsent));
        }
        if self.allowance.is_leased()
            && let Some(socket) = from.bare()
        {
            // A tunnel that has nothing to send leases nothing, and its FIN does not wait for a lease.
            let mut one = [0];
            if ready!(socket.poll_peek(cx, &mut ReadBuf::new(&mut one))).map_err(Fault::Read)? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
        let room = self.pipe.as_ref().map_or(BUFFER, Lease::capacity);
        let want = match from.bare() {
            // Other tunnels of the account cannot use what is taken here: take no more than there is to read.
            Some(socket) if self.allowance.is_shared() => waiting(socket).clamp(1, room),
            _ => room,
        };
        let allowed = ready!(self.allowance.poll_take(cx, want));
        if allowed == 0 {
            // One byte shows whether this is the end or too much. That it is lost does not matter: it ends the tunnel.
            return match ready!(from.poll_read(cx, &mut [0])).map_err(Fault::Read)? {
                0 => Poll::Ready(Ok(0)),
                _ => Poll::Ready(Err(Fault::Spent(self.allowance.ending()))),
            };
        }
        let read = match self.pipe.is_some() {
            true => self.poll_splice(cx, from, allowed),
            false => self.poll_copy(cx, from, to, allowed, count),
        };
        // After a fault it is unknown how many bytes were read: all count as sent.
        match &read {
            Poll::Pending => self.allowance.put_back(allowed),
            Poll::Ready(Ok(read)) => self.allowance.put_back(allowed.saturating_sub(*read)),
            Poll::Ready(Err(_)) => {}
        }
        read
    }

    /// The receiver is one of few no more, or memory is short: before more is read, its socket takes no more than that of any other.
    fn tighten(&mut self, unsent: Option<Unsent>, to: &mut impl End) {
        if self.loose == Some(Unsent::OfFew) {
            let _ = to.bare().map(|socket| bound_unsent_to(socket, Unsent::InBulk));
        }
        // Where its share is smaller than bulk needs, the next look tells the socket.
        self.loose = unsent;
    }

    /// Fills the empty pipe, with `want` bytes at most.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        want: usize,
    ) -> Poll<Result<usize, Fault>> {
        let (Some(pipe), Some(socket)) = (self.pipe.as_mut(), from.bare()) else {
            return Poll::Ready(Err(Fault::Read(io::ErrorKind::Unsupported.into())));
        };
        loop {
            ready!(socket.poll_read_ready(cx)).map_err(Fault::Read)?;
            // The pipe is empty, so EAGAIN can only come from the socket. From a full pipe, tokio would take it as an empty
            // socket and wait forever.
            let filled = socket.try_io(Interest::READABLE, || {
                Ok(pipe.fill(|end| splice(socket, None, end, None, want, FLAGS))?)
            });
            match filled {
                Err(error) if again(&error) => {}
                filled => return Poll::Ready(filled.map_err(Fault::Read)),
            }
        }
    }

    /// Reads at most `want` bytes into the thread's buffer and writes them from there at once; what the receiver does not
    /// take goes to the spill.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        to: &mut impl End,
        want: usize,
        count: &impl Fn(u64),
    ) -> Poll<Result<usize, Fault>> {
        SHARED.with_borrow_mut(|buffer| {
            let want = want.min(buffer.len());
            let buffer = buffer.get_mut(..want).unwrap_or_default();
            let read = ready!(from.poll_read(cx, buffer)).map_err(Fault::Read)?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Poll::Ready(Ok(0));
            }
            self.bulk = read == BUFFER;
            let taken = match to.poll_write(cx, bytes) {
                Poll::Ready(Ok(taken)) => taken,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Write(error))),
                Poll::Pending => 0,
            };
            self.account(taken, count);
            self.spill.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            Poll::Ready(Ok(read))
        })
    }

    fn account(&mut self, taken: usize, count: &impl Fn(u64)) {
        if taken > 0 {
            self.delivered += taken as u64;
            self.unflushed = true;
            count(taken as u64);
        }
    }
}

/// No `SPLICE_F_MORE`: it would hold back the last bytes of a burst. `SPLICE_F_NONBLOCK` is for the pipe; the socket has its
/// own flag.
const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// Bytes that can be read from the socket now.
fn waiting(socket: &TcpStream) -> usize {
    rustix::io::ioctl_fionread(socket).map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// A writer that takes nothing is an error: it will never take anything.
fn some(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
}
