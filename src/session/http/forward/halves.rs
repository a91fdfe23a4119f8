//! The client's stream, read by one future of a task and written by another, while a third may look at its socket.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::transport::stream::Transport;

/// The lock is never waited for: all futures belong to one task. It is for `Send`.
pub(super) struct Halves<'a, S>(Mutex<&'a mut S>);

impl<'a, S: Transport> Halves<'a, S> {
    pub(super) fn new(stream: &'a mut S) -> Self {
        Halves(Mutex::new(stream))
    }

    /// Looks at the socket.
    pub(super) fn socket<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> T {
        look(self.lock().socket())
    }

    fn lock(&self) -> MutexGuard<'_, &'a mut S> {
        // After a panic the exchange is over.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Transport> AsyncRead for &Halves<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_read(cx, buf)
    }
}

impl<S: Transport> AsyncWrite for &Halves<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.lock()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.lock()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_shutdown(cx)
    }
}
