//! What every stream here is: bytes over one TCP connection, with or without TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A byte stream over one TCP connection.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// The connection underneath, so that a reset can be passed on.
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

/// Writes `bufs`. Of one alone, as TLS hands down a small record, the kernel need not gather anything.
pub(super) fn write_vectored(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match bufs {
        [one] => Pin::new(stream).poll_write(cx, one),
        _ => Pin::new(stream).poll_write_vectored(cx, bufs),
    }
}
