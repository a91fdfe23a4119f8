//! A connection to a target for hyper, which wants to own it, while its socket can still be looked at.
//!
//! A read gives [`MOST_READ`] bytes at most: hyper hands on what one read gave, and reads the next piece ahead, so that a client
//! that does not read costs two of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::transport::response_buffer::ResponseBuffer;
use crate::transport::stream::Transport;
use crate::transport::target_stream::UpstreamStream;
use crate::transport::tls::bulk::Bulk;

/// The buffer that hyper takes for one read of bulk: a piece of a body keeps the whole of it, however little came.
pub const PIECE: usize = 32 * 1024;
/// Most bytes of one read. After a read of a whole [`PIECE`], hyper would take buffers of twice the size, and fill half of each.
pub const MOST_READ: usize = PIECE - 1;

/// What hyper reads and writes.
#[derive(Debug)]
pub struct TargetIo {
    stream: Stream,
    buffer: Arc<ResponseBuffer>,
}

#[derive(Debug)]
enum Stream {
    /// TCP.
    Bare(Arc<TcpStream>),
    /// TLS, to a parent or to the target.
    Tls(UpstreamStream, Bulk),
}

impl TargetIo {
    /// The connection, and its socket to look at: not of TLS, where records lie in between. What is read is told to `buffer`.
    pub fn new(stream: UpstreamStream, buffer: Arc<ResponseBuffer>) -> (Self, Option<Arc<TcpStream>>) {
        let (stream, socket) = match stream {
            UpstreamStream::Bare(socket) => {
                let socket = Arc::new(socket);
                (Stream::Bare(Arc::clone(&socket)), Some(socket))
            }
            tls @ (UpstreamStream::Tls(_) | UpstreamStream::Inspected(_)) => {
                (Stream::Tls(tls, Bulk::default()), None)
            }
        };
        (TargetIo { stream, buffer }, socket)
    }
}

impl Transport for TargetIo {
    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Bare(socket) => socket,
            Stream::Tls(stream, _) => stream.socket(),
        }
    }
}

/// Reads what there is, and tells tokio if that was all: this saves a read that would find nothing.
fn read(socket: &TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let room = buf.remaining().min(MOST_READ);
        match socket.try_read_buf(&mut (&mut *buf).limit(MOST_READ)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
            Ok(count) => {
                if (1..room).contains(&count) {
                    let _ =
                        socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                }
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// The same of TLS.
fn read_tls(
    stream: &mut UpstreamStream,
    bulk: &mut Bulk,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if buf.remaining() <= MOST_READ {
        return bulk.read(stream, cx, buf);
    }
    let mut room = ReadBuf::new(buf.initialize_unfilled_to(MOST_READ));
    ready!(bulk.read(stream, cx, &mut room))?;
    let given = room.filled().len();
    buf.advance(given);
    Poll::Ready(Ok(()))
}

fn write(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    mut tried: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match tried() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

impl AsyncRead for TargetIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let TargetIo { stream, buffer } = self.get_mut();
        let before = buf.filled().len();
        ready!(match stream {
            Stream::Bare(socket) => read(socket, cx, buf),
            Stream::Tls(stream, bulk) => read_tls(stream, bulk, cx, buf),
        })?;
        buffer.came(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TargetIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Bare(socket) => write(socket, cx, || socket.try_write(buf)),
            Stream::Tls(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Bare(socket) => write(socket, cx, || socket.try_write_vectored(bufs)),
            Stream::Tls(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Bare(_) => true,
            Stream::Tls(stream, _) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Bare(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Bare(socket) => Poll::Ready(Ok(rustix::net::shutdown(&**socket, Shutdown::Write)?)),
            Stream::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
