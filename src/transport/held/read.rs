//! Reads from a client into a buffer that is no larger than what came, under a lease.
//!
//! The bytes pass through a buffer of the thread, so that a client that sends nothing costs no buffer, and one that sends a
//! head of 200 bytes costs 200. They are leased in the same turn in which they are copied: at no time is more unleased than
//! one read for each thread.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::budget::Holder;
use super::kind::Kind;
use super::lease::Lease;

/// Most bytes of one read: a CONNECT with its ClientHello fits.
pub const READ: usize = 4 * 1024;
/// Buffers have a multiple of this.
const STEP: usize = 256;

/// What was read and not used yet, with its lease.
#[derive(Debug)]
pub struct Buffered {
    /// The bytes.
    pub bytes: BytesMut,
    /// Covers them.
    pub lease: Lease,
}

impl Buffered {
    /// Nothing yet.
    pub fn new(holder: &Arc<Holder>, kind: Kind) -> Self {
        Buffered { bytes: BytesMut::new(), lease: Lease::new(holder, kind) }
    }

    /// Reads once more from `stream`, as [`read`] does.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn read_from<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        read(stream, &mut self.bytes, &mut self.lease).await
    }

    /// The first `length` bytes are gone; with the last ones the buffer goes, too.
    pub fn split_to(&mut self, length: usize) -> BytesMut {
        self.bytes.split_to(length.min(self.bytes.len()))
    }

    /// Frees what is empty.
    pub fn tidy(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.lease.set(0);
        }
    }

    /// The bytes, for one who leases them anew.
    pub fn take(&mut self) -> BytesMut {
        let bytes = std::mem::take(&mut self.bytes);
        self.lease.set(0);
        bytes
    }
}

#[cfg(test)]
impl From<BytesMut> for Buffered {
    fn from(bytes: BytesMut) -> Self {
        let lease = Lease::of(&Holder::alone(), Kind::Hello, bytes.capacity());
        Buffered { bytes, lease }
    }
}

thread_local! {
    /// Used only between two waits, so one for each thread is enough.
    static SCRATCH: RefCell<[u8; READ]> = const { RefCell::new([0; READ]) };
}

/// Reads once, at most [`READ`] bytes, to the end of `bytes`, which `lease` covers; 0 is the end. While memory is short and the
/// holder has much, nothing is read: the caller has a deadline. Dropping the future loses no byte.
///
/// # Errors
/// Those of the stream.
pub async fn read<S>(stream: &mut S, bytes: &mut BytesMut, lease: &mut Lease) -> io::Result<usize>
where
    S: AsyncRead + Unpin,
{
    lease.may_grow(bytes.len() + READ).await;
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            append(bytes, buffer.filled(), lease);
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}

/// The same for bulk: while full reads come one after the other, up to `most` bytes are read at a time, without the copy. `bulk`
/// is kept from call to call. A sender that pauses costs no empty buffer.
///
/// # Errors
/// Those of the stream.
pub async fn read_bulk<S>(
    stream: &mut S,
    bytes: &mut BytesMut,
    lease: &mut Lease,
    bulk: &mut bool,
    most: usize,
) -> io::Result<usize>
where
    S: AsyncRead + Unpin,
{
    lease.may_grow(bytes.len() + if *bulk { most } else { READ }).await;
    poll_fn(|cx| {
        if !*bulk {
            return SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                append(bytes, buffer.filled(), lease);
                *bulk = buffer.remaining() == 0;
                Poll::Ready(Ok(buffer.filled().len()))
            });
        }
        bytes.reserve(most);
        lease.set(bytes.capacity());
        let read = pin!((&mut *stream).take(most as u64).read_buf(bytes)).poll(cx);
        if !matches!(read, Poll::Ready(Ok(READ..))) {
            *bulk = false;
            if bytes.is_empty() {
                *bytes = BytesMut::new();
                lease.set(0);
            }
        }
        read
    })
    .await
}

/// Grows by what is needed and not to twice the size, as a vector would.
fn append(bytes: &mut BytesMut, more: &[u8], lease: &mut Lease) {
    let needed = bytes.len() + more.len();
    if bytes.capacity() < needed {
        // A quarter at least: who sends single bytes must not make us copy everything each time.
        let larger = needed.max(bytes.len() + bytes.len() / 4).next_multiple_of(STEP);
        // Both are there while the bytes are copied, for a moment.
        lease.set(larger);
        let mut grown = BytesMut::with_capacity(larger);
        grown.extend_from_slice(bytes);
        *bytes = grown;
    }
    bytes.extend_from_slice(more);
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::transport::held::HeldBytes;

    #[tokio::test]
    async fn a_buffer_is_as_large_as_what_came_and_its_lease_covers_it() {
        let budget = HeldBytes::new(1 << 20);
        let mut lease = Lease::new(&budget.enter(), Kind::Head);
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let mut bytes = BytesMut::new();
        let sent: Vec<u8> = (0..70_000u32).map(|at| at as u8).collect();
        for piece in [&sent[..100], &sent[100..101], &sent[101..5000], &sent[5000..]] {
            far.write_all(piece).await.expect("there is room");
            let end = bytes.len() + piece.len();
            while bytes.len() < end {
                assert!(read(&mut near, &mut bytes, &mut lease).await.expect("it came") <= READ);
                assert!(bytes.capacity() <= bytes.len() + bytes.len() / 4 + STEP, "{}", bytes.capacity());
                assert_eq!((lease.bytes(), budget.of(Kind::Head)), (bytes.capacity(), bytes.capacity()));
            }
        }
        assert_eq!(bytes, sent[..]);
        drop((far, lease));
        assert_eq!(budget.sum(), 0);
        let mut lease = Lease::new(&budget.enter(), Kind::Head);
        assert_eq!(read(&mut near, &mut bytes, &mut lease).await.expect("the end"), 0);
        assert_eq!(Arc::strong_count(&budget), 2);
    }
}
