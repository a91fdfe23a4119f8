//! The client's side of a connection: a bare socket, or TLS over one.
//!
//! One type for both, so that the code above need not distinguish them. Only the relay asks which it is, because a bare
//! socket can be spliced.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::transport::prefixed::Prefixed;
use crate::transport::stream::{Transport, write_vectored};
use crate::transport::tls::Records;

/// What a client speaks HTTP over.
#[derive(Debug)]
pub enum ClientStream {
    /// Cleartext.
    Bare(TcpStream),
    /// TLS. Boxed: its buffers are far larger than a socket.
    Tls(Box<TlsStream<Prefixed<TcpStream>>>, Records),
}

impl ClientStream {
    /// TLS over a connection to which nothing was written yet.
    pub fn tls(stream: Box<TlsStream<Prefixed<TcpStream>>>) -> Self {
        ClientStream::Tls(stream, Records::default())
    }
}

impl Transport for ClientStream {
    fn socket(&self) -> &TcpStream {
        match self {
            ClientStream::Bare(stream) => stream,
            ClientStream::Tls(stream, _) => stream.get_ref().0.get_ref(),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Bare(stream) => Pin::new(stream).poll_read(cx, buf),
            ClientStream::Tls(stream, _) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Bare(stream) => Pin::new(stream).poll_write(cx, buf),
            ClientStream::Tls(stream, records) => {
                let (piece, _) = buf.split_at(records.piece(buf));
                let written = ready!(Pin::new(stream).poll_write(cx, piece))?;
                records.wrote(piece.get(..written).unwrap_or(piece));
                Poll::Ready(Ok(written))
            }
        }
    }

    /// Bytes that are not TLS themselves may go out together; of TLS, each record is one.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Bare(stream) => write_vectored(stream, cx, bufs),
            tls @ ClientStream::Tls(..) => {
                let first = bufs.iter().find(|buf| !buf.is_empty());
                Pin::new(tls).poll_write(cx, first.map_or(&[], |buf| buf))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, ClientStream::Bare(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Bare(stream) => Pin::new(stream).poll_flush(cx),
            ClientStream::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Bare(stream) => Pin::new(stream).poll_shutdown(cx),
            ClientStream::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
