//! The upstream's side of a connection: a bare socket to a target or a parent, TLS to a parent over one, or TLS to the
//! target of an inspected tunnel over either.
//!
//! The counterpart of [`client_stream`](super::client_stream). Where no rule inspects, a target's TLS is between it and the
//! client, and passes through unread.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::transport::stream::{Transport, write_vectored};

/// What a target is reached over.
#[derive(Debug)]
pub enum UpstreamStream {
    /// TCP to the target, or to a parent in cleartext.
    Bare(TcpStream),
    /// TLS to a parent. Boxed: its buffers are far larger than a socket.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS to the target itself, over what leads to it.
    Inspected(Box<TlsStream<UpstreamStream>>),
}

impl Transport for UpstreamStream {
    fn socket(&self) -> &TcpStream {
        match self {
            UpstreamStream::Bare(stream) => stream,
            UpstreamStream::Tls(stream) => stream.get_ref().0,
            UpstreamStream::Inspected(stream) => stream.get_ref().0.socket(),
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Bare(stream) => Pin::new(stream).poll_read(cx, buf),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            UpstreamStream::Inspected(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            UpstreamStream::Bare(stream) => Pin::new(stream).poll_write(cx, buf),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            UpstreamStream::Inspected(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            UpstreamStream::Bare(stream) => write_vectored(stream, cx, bufs),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            UpstreamStream::Inspected(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            UpstreamStream::Bare(stream) => stream.is_write_vectored(),
            UpstreamStream::Tls(stream) => stream.is_write_vectored(),
            UpstreamStream::Inspected(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Bare(stream) => Pin::new(stream).poll_flush(cx),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            UpstreamStream::Inspected(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Bare(stream) => Pin::new(stream).poll_shutdown(cx),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            UpstreamStream::Inspected(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
