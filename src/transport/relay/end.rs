//! One end of a relay: a bare socket, or any stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::transport::stream::Transport;

/// What a direction needs of its ends.
pub(super) trait End {
    /// Reads into `buffer`, which is not empty; 0 is the peer's FIN.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes some of `bytes`, which are not empty.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Writes what the end itself still holds.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Sends our FIN.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// The socket, where `splice` may be used on it.
    fn bare(&self) -> Option<&TcpStream>;
    /// The socket underneath, only for its options.
    fn socket(&self) -> &TcpStream;
}

/// A socket whose bytes are the tunnel's. Borrowed, because three tasks wait on it: reading, writing and the watch for its
/// failure.
pub(super) struct Bare<'a>(pub(super) &'a TcpStream);

impl End for Bare<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let mut read = None;
            let tried = self.0.try_io(Interest::READABLE, || {
                let (count, _) = rustix::net::recv(self.0, &mut *buffer, RecvFlags::empty())?;
                read = Some(count);
                // A short read emptied the socket. Reporting that here, where tokio knows for which event, saves a read
                // that would find nothing.
                if (1..buffer.len()).contains(&count) {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(())
                }
            });
            match (read, tried) {
                (Some(count), _) => return Poll::Ready(Ok(count)),
                (None, Err(error)) if again(&error) => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
                (None, Ok(())) => return Poll::Ready(Err(io::ErrorKind::Other.into())),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let sent = self.0.try_io(Interest::WRITABLE, || {
                rustix::net::send(self.0, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from)
            });
            match sent {
                Err(error) if again(&error) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(self.0, Shutdown::Write) {
            // The peer has reset the connection: the reader or the watch reports that.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn bare(&self) -> Option<&TcpStream> {
        Some(self.0)
    }

    fn socket(&self) -> &TcpStream {
        self.0
    }
}

/// Whether to try again: `EAGAIN`, which tokio has noted, or a signal.
pub(super) fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// A stream of any kind, which can only be read and written.
pub(super) struct Copied<'a, S>(pub(super) &'a mut S);

impl<S: Transport> End for Copied<'_, S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match ready!(Pin::new(&mut *self.0).poll_read(cx, &mut buffer)) {
            // Many clients end TLS without a close_notify: that is a FIN. Whether something is missing, the two ends of
            // the tunnel can find out.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            read => Poll::Ready(read.map(|()| buffer.filled().len())),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }

    fn bare(&self) -> Option<&TcpStream> {
        None
    }

    fn socket(&self) -> &TcpStream {
        self.0.socket()
    }
}

/// Watches a socket that is not being read, for its failure. Made at the first poll: an idle tunnel reads both of its sockets
/// and watches none, and there may be ten thousand of these.
pub(super) struct Watch<'s> {
    socket: Option<&'s TcpStream>,
    failure: Option<Pin<Box<dyn Future<Output = io::Error> + Send + 's>>>,
}

impl<'s> Watch<'s> {
    /// `None`: a failure is seen only by reading or writing.
    pub(super) fn new(socket: Option<&'s TcpStream>) -> Self {
        Watch { socket, failure: None }
    }

    /// Whether there is a socket to watch.
    pub(super) fn can_watch(&self) -> bool {
        self.socket.is_some()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(socket) = self.socket else { return Poll::Pending };
        self.failure.get_or_insert_with(|| Box::pin(failure(socket))).as_mut().poll(cx)
    }
}

/// Waits until `socket` fails, by a reset or a timeout of TCP, without reading or writing it.
pub(super) async fn failure(socket: &TcpStream) -> io::Error {
    loop {
        if let Err(error) = socket.ready(Interest::ERROR).await {
            return error;
        }
        match socket.take_error() {
            Ok(Some(error)) | Err(error) => return error,
            // The error was taken before, or there was none: wait for the next.
            Ok(None) => {
                let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            }
        }
    }
}
