//! A stream whose first bytes were read before: those after a PROXY header, which belong to the client's head or TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::held::Lease;

/// Gives `early` first, then what comes from the stream; writes go straight through.
#[derive(Debug)]
pub struct Prefixed<S> {
    early: BytesMut,
    stream: S,
    given: bool,
    /// Of what the reader holds.
    lease: Option<Lease>,
    /// Whether it may hold everything that is given.
    counts: bool,
}

impl<S> Prefixed<S> {
    /// `early` comes before what `stream` will give.
    pub fn new(stream: S, early: BytesMut) -> Self {
        Prefixed { early, stream, given: false, lease: None, counts: false }
    }

    /// What is given counts in `lease`, in addition to what it has, until [`Prefixed::settle`].
    pub fn counted(stream: S, early: BytesMut, lease: Lease) -> Self {
        Prefixed { early, stream, given: false, lease: Some(lease), counts: true }
    }

    /// The reader holds so many bytes from now on.
    pub fn settle(&mut self, bytes: usize) {
        self.counts = false;
        if let Some(lease) = &mut self.lease {
            lease.set(bytes);
        }
    }

    fn gave(&mut self, bytes: usize) {
        self.given |= bytes > 0;
        if let Some(lease) = self.lease.as_mut().filter(|_| bytes > 0 && self.counts) {
            lease.set(lease.bytes() + bytes);
        }
    }

    /// Whether any byte was given to the reader.
    pub fn has_given(&self) -> bool {
        self.given
    }

    /// The stream below. Early bytes that were not read are lost.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// The stream below: to look at its socket, not to read from it.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            let before = buffer.filled().len();
            let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
            let read = buffer.filled().len() - before;
            self.gave(read);
            return polled;
        }
        let len = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early.split_to(len));
        self.gave(len);
        if !self.early.has_remaining() {
            // Frees the memory: the connection may live for days.
            self.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
