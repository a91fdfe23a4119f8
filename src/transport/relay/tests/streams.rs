//! Streams that do what sockets in a test never do: one that always has more to read, one that holds back what is written
//! until it is flushed, and one that ends like TLS without a close_notify.

use std::task::ready;

use tokio::io::ReadBuf;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::direction::TURN;
use super::*;

/// Gives and takes as much as it is asked for. It ends after eight turns, so that a relay without turns fails the test
/// instead of hanging.
struct Torrent {
    socket: TcpStream,
    left: usize,
}

impl Torrent {
    fn over(socket: TcpStream) -> Self {
        Torrent { socket, left: 8 * TURN }
    }
}

impl Transport for Torrent {
    fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl AsyncRead for Torrent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let given = buffer.remaining().min(self.left);
        self.left -= given;
        buffer.put_slice(&vec![7; given]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Torrent {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_tunnel_that_always_has_more_leaves_others_their_turn() {
    let (client, upstream) = connection(None).await;
    let (mut client, mut upstream) = (Torrent::over(client), Torrent::over(upstream));
    let (meter, cancel) = (Meter::default(), Cancel::new());
    let mut relay = Relay::copying(Early::default(), limits(), &Holder::alone());
    let mut running = pin!(relay.run_streams(&mut client, &mut upstream, &meter, &cancel, &|| {}));
    for turns in 1..4 {
        let waits = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx).is_pending())).await;
        let moved = [meter.sent(), meter.received()].map(|bytes| bytes / TURN as u64);
        assert_eq!((waits, moved), (true, [turns, turns]));
    }
    cancel.cancel(Ending::Drained);
    assert_eq!(running.await, Ending::Drained);
}

/// Holds what is written until it is flushed.
struct Holding {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Transport for Holding {
    fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Holding {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Holding {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let this = &mut *self;
            let written = ready!(Pin::new(&mut this.stream).poll_write(cx, &this.held))?;
            this.held.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_a_stream_holds_back_is_flushed_before_the_relay_waits() {
    let (mut client, near_client) = connection(None).await;
    let (near_upstream, mut upstream) = connection(None).await;
    let mut near_client = Holding { stream: near_client, held: Vec::new() };
    let mut near_upstream = Holding { stream: near_upstream, held: Vec::new() };
    let (meter, cancel) = (Meter::default(), Cancel::new());
    // Exactly the limit, then one byte more: what the limit allows still arrives.
    let limits = RelayLimits { upload: Allowance::limited(Some(8)), ..limits() };
    let mut relay = Relay::copying(Early::default(), limits, &Holder::alone());
    let talk = async {
        client.write_all(b"question").await.unwrap();
        assert_eq!(exactly(&mut upstream, 8).await, b"question");
        upstream.write_all(b"answer").await.unwrap();
        assert_eq!(exactly(&mut client, 6).await, b"answer");
        client.write_all(b"!").await.unwrap();
    };
    let running = relay.run_streams(&mut near_client, &mut near_upstream, &meter, &cancel, &|| {});
    let both = async { tokio::join!(running, talk) };
    let (ending, ()) =
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("nothing is held back");
    assert_eq!(ending, Ending::UploadLimit);
}

#[tokio::test]
async fn early_bytes_beyond_the_limit_are_flushed_up_to_it() {
    let (client, mut near_client) = connection(None).await;
    let (near_upstream, mut upstream) = connection(None).await;
    let mut near_upstream = Holding { stream: near_upstream, held: Vec::new() };
    let (meter, cancel) = (Meter::default(), Cancel::new());
    let early = Early { to_upstream: b"four and more".as_slice().into(), to_client: BytesMut::new() };
    let limits = RelayLimits { upload: Allowance::limited(Some(4)), ..limits() };
    let mut relay = Relay::copying(early, limits, &Holder::alone());
    let ending = relay.run_streams(&mut near_client, &mut near_upstream, &meter, &cancel, &|| {}).await;
    assert_eq!(ending, Ending::UploadLimit);
    drop(near_upstream);
    assert_eq!(rest(&mut upstream).await, b"four");
    drop(client);
}

/// Reports its FIN as rustls reports the end of a connection without a close_notify.
struct Abrupt(TcpStream);

impl Transport for Abrupt {
    fn socket(&self) -> &TcpStream {
        &self.0
    }
}

impl AsyncRead for Abrupt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer))?;
        match buffer.filled().len() == before {
            true => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Abrupt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn tls_without_a_close_notify_is_a_fin_and_the_answer_still_flows() {
    let (mut client, near_client) = connection(None).await;
    let (mut near_upstream, mut upstream) = connection(None).await;
    let mut near_client = Abrupt(near_client);
    let (meter, cancel) = (Meter::default(), Cancel::new());
    let mut relay = Relay::copying(Early::default(), limits(), &Holder::alone());
    let talk = async {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut upstream).await, b"question");
        upstream.write_all(b"answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, b"answer");
    };
    let running = relay.run_streams(&mut near_client, &mut near_upstream, &meter, &cancel, &|| {});
    // If this were taken for a fault, it would end the relay, and the exchange below would hang.
    let both = async { tokio::join!(running, talk) };
    let (ending, ()) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("the answer");
    assert_eq!(ending, Ending::ClientClosed);
}
