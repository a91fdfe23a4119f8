//! A client that does not wait for the server's answer: what the kernel takes in for it is counted, and its end is noticed.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{DuplexStream, ReadBuf};

use super::*;
use crate::transport::allowance::Allowance;
use crate::transport::held::HeldBytes;
use crate::wire::client_hello::test_samples::naming;

/// Two ends of a connection over loopback.
#[allow(clippy::disallowed_methods, reason = "a test dials its own loopback listener")]
pub(in super::super) fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let near = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
    let (far, _) = listener.accept().expect("connected");
    let [near, far] = [near, far].map(|end| {
        end.set_nonblocking(true).expect("a socket");
        TcpStream::from_std(end).expect("a runtime")
    });
    (near, far)
}

/// A pipe in memory, over a socket on which nothing moves.
pub(super) struct Pipe {
    pipe: DuplexStream,
    ends: (TcpStream, TcpStream),
}

impl From<DuplexStream> for Pipe {
    fn from(pipe: DuplexStream) -> Self {
        Pipe { pipe, ends: connected() }
    }
}

impl Transport for Pipe {
    fn socket(&self) -> &TcpStream {
        &self.ends.0
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn t71_a_client_that_is_held_back_behind_its_hello_is_counted_and_its_end_is_noticed() {
    let budget = HeldBytes::unlimited();
    let ((mut near, mut far), (mut near_upstream, _silent)) = (connected(), connected());
    let gone = async {
        let sent = [naming(b"a.example"), vec![0; 2 * MAX_HELD]].concat();
        far.write_all(&sent).await.expect("the kernel takes it");
        while budget.of(Kind::Socket) < MAX_HELD {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(far);
    };
    let (host, cancel, meter) = (Host::parse("a.example").expect("a name"), Cancel::new(), Meter::default());
    let timeout = Duration::from_secs(10);
    let gate = Gate { host: &host, ech: Ech::Deny, hello_timeout: timeout, meter: &meter, cancel: &cancel };
    let upload = Allowance::default();
    let mut limits = RelayLimits { idle_timeout: Duration::from_secs(60), deadline: None, upload };
    let passes = Box::pin(async {
        let early = Buffered::new(&budget.enter(), Kind::Hello);
        let hello = inspect_client(&mut near, early, &host, Instant::now() + timeout).await?;
        pass_hello(&mut near, &mut near_upstream, hello, &gate, &mut limits).await
    });
    let both = async { tokio::join!(passes, gone).0 };
    match tokio::time::timeout(timeout, both).await.expect("it is noticed") {
        Err(GateEnd::Ended(Ending::ClientClosed)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(budget.sum(), 0);
}
