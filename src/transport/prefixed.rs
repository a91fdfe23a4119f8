//! A stream whose first bytes were read before: those after a PROXY header, which belong to the client's head or TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gives `early` first, then what comes from the stream; writes go straight through.
#[derive(Debug)]
pub struct Prefixed<S> {
    early: BytesMut,
    stream: S,
    given: bool,
}

impl<S> Prefixed<S> {
    /// `early` comes before what `stream` will give.
    pub fn new(stream: S, early: BytesMut) -> Self {
        Prefixed { early, stream, given: false }
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
            self.given |= buffer.filled().len() > before;
            return polled;
        }
        let len = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early.split_to(len));
        self.given |= len > 0;
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
