//! Exchanges over real loopback sockets: a client of bytes, the gate, an exchange, an origin of bytes or of hyper.

mod bodies;
mod breaks;
mod heads;
mod held;
mod turns;

use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::config;
use crate::outbound::route::Route;
use crate::session::http::changes::Changes;
use crate::state::limits::kept::KeptConnections;
use crate::state::live::Live;
use crate::transport::heads::{HeadLimits, read_head};
use crate::transport::held::{HeldBytes, Holder, Lease};
use crate::transport::keep_alive::KeepAlive;
use crate::transport::meter::Meter;

type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The bounds of one test's exchanges.
#[derive(Clone, Copy)]
struct Bounds {
    response_timeout: Duration,
    stall_timeout: Duration,
    upload_limit: Option<u64>,
}

const BOUNDS: Bounds = Bounds {
    response_timeout: Duration::from_secs(60),
    stall_timeout: Duration::from_secs(60),
    upload_limit: None,
};

/// What the proxy's side of a client connection did: one outcome an exchange, with `sent` and `received`.
type Outcomes = Vec<(Outcome, u64, u64)>;

struct Run {
    client: TcpStream,
    proxy: JoinHandle<Outcomes>,
    opened: Arc<AtomicUsize>,
    held: Arc<HeldBytes>,
}

#[allow(clippy::disallowed_methods, reason = "a test dials its own loopback listener")]
async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Serves one client with `origin` behind every host; `origin` gets the number of earlier connections.
async fn start<F, S>(bounds: Bounds, origin: F) -> Run
where
    F: Fn(usize, TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    start_over(bounds, origin, |stream| stream).await
}

/// The same over what `wrap` makes of the client's connection.
async fn start_over<F, S, C>(bounds: Bounds, origin: F, wrap: impl FnOnce(TcpStream) -> C) -> Run
where
    F: Fn(usize, TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
    C: Transport + Send + 'static,
{
    start_in(HeldBytes::unlimited(), bounds, origin, wrap).await
}

/// The same with this budget.
async fn start_in<F, S, C>(
    held: Arc<HeldBytes>,
    bounds: Bounds,
    origin: F,
    wrap: impl FnOnce(TcpStream) -> C,
) -> Run
where
    F: Fn(usize, TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
    C: Transport + Send + 'static,
{
    let (listener, origin_address) = bind().await;
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(origin(number, stream));
        }
    });
    let (listener, address) = bind().await;
    let client = connect(address).await.expect("loopback");
    let (stream, _) = listener.accept().await.expect("connected");
    let opened = Arc::new(AtomicUsize::new(0));
    let holder = held.enter();
    holder.is_for([127, 0, 0, 1].into(), None);
    let proxy = tokio::spawn(serve(wrap(stream), bounds, origin_address, opened.clone(), holder));
    Run { client, proxy, opened, held }
}

fn permitted_by() -> PermittedBy {
    static ROUTE: LazyLock<Arc<Route>> = LazyLock::new(|| {
        let loaded =
            config::load_str("test.yaml", "policies: []\n", |_| Ok(Vec::new())).expect("a configuration");
        Arc::new(Route::new(&loaded.config).expect("without authorities"))
    });
    PermittedBy { policy: Arc::from("test"), generation: Live::new().generation(), route: Arc::clone(&ROUTE) }
}

async fn serve<S: Transport>(
    mut stream: S,
    bounds: Bounds,
    origin: SocketAddr,
    opened: Arc<AtomicUsize>,
    holder: Arc<Holder>,
) -> Outcomes {
    let (mut buffer, mut kept, mut outcomes) = (BytesMut::new(), Kept::default(), Vec::new());
    let limits = HeadLimits { bytes: 16 * 1024, timeout: Duration::from_secs(10) };
    loop {
        let mut lease = Lease::alone();
        let reading = read_head(&mut stream, &mut buffer, &mut lease, &limits);
        let Ok(Some(head)) = kept.during(std::pin::pin!(reading)).await else { break };
        let meter = Meter::default();
        let places = Arc::new(KeptConnections::default());
        places.set_cap(4);
        let keep = || places.keep([127, 0, 0, 1].into());
        let terms = Terms {
            keep_upstream: &keep,
            permitted_by: permitted_by(),
            parent: None,
            remove_request_headers: &[http::header::USER_AGENT],
            changes: &Changes::default(),
            response_timeout: bounds.response_timeout,
            stall_timeout: bounds.stall_timeout,
            keep: &|| Some(KeepAlive::new(Duration::from_secs(60))),
            request_id: "id-1",
            meter: &meter,
            tunnel: None,
        };
        let open = || async {
            opened.fetch_add(1, Ordering::Relaxed);
            connect(origin).await.map(UpstreamStream::Bare).map_err(|_| Reason::ConnectRefused)
        };
        let connection = Connection {
            stream: &mut stream,
            buffer: &mut buffer,
            lease: &mut Lease::new(&holder, Kind::Head),
            of_head: Lease::new(&holder, Kind::Head),
            kept: &mut kept,
        };
        let mut allowance = Allowance::limited(bounds.upload_limit);
        let outcome = exchange(
            connection,
            &head,
            head.headers.clone(),
            &terms,
            &mut allowance,
            open,
            std::future::pending(),
        )
        .await;
        let keep_alive = outcome.keep_alive;
        outcomes.push((outcome, meter.sent(), meter.received()));
        if !keep_alive {
            break;
        }
    }
    // As the caller's lingering close: no reset may destroy what was written.
    let _ = stream.shutdown().await;
    outcomes
}

impl Run {
    /// Sends `bytes`, reads until `until` stands at the end of what came.
    async fn ask(&mut self, bytes: impl AsRef<[u8]>, until: &str) -> String {
        self.client.write_all(bytes.as_ref()).await.expect("open");
        read_until(&mut self.client, until).await
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.write_all(bytes.as_ref()).await.expect("open");
    }

    /// Everything up to the proxy's close.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.client.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Closes the client and returns what the exchanges came to.
    async fn finish(self) -> Outcomes {
        drop(self.client);
        self.proxy.await.expect("no panic")
    }

    /// The one exchange's outcome, the client still being open.
    async fn outcome(self) -> Outcome {
        let mut outcomes = self.proxy.await.expect("no panic");
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0).0
    }
}

/// Reads until `end` stands at the end; fails the test if the stream ends before.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => panic!("ended with {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An origin that reads a head and then writes `response`, over and over on one connection.
fn answering(response: &'static str) -> impl Fn(usize, TcpStream) -> Served {
    move |_, mut stream| {
        Box::pin(async move {
            while head_of(&mut stream).await.is_some() {
                let _ = stream.write_all(response.as_bytes()).await;
            }
        })
    }
}

/// As [`answering`], and closes after the first.
fn answering_once(
    response: impl AsRef<[u8]> + Clone + Send + 'static,
) -> impl Fn(usize, TcpStream) -> Served {
    move |_, mut stream| {
        let response = response.clone();
        Box::pin(async move {
            head_of(&mut stream).await;
            let _ = stream.write_all(response.as_ref()).await;
        })
    }
}

/// An origin that answers nothing, reads to the end, and sends what followed the head to `tell`.
fn body_to(tell: mpsc::Sender<Vec<u8>>) -> impl Fn(usize, TcpStream) -> Served {
    move |_, mut stream| {
        let tell = tell.clone();
        Box::pin(async move {
            head_of(&mut stream).await;
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            tell.send(bytes).await.expect("open");
        })
    }
}

/// Reads one head byte by byte; `None` at a close.
async fn head_of(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

const GET: &str = "GET http://ok.test/p?q HTTP/1.1\r\nHost: ok.test\r\nUser-Agent: x\r\n\r\n";

fn post(fields: &str) -> String {
    format!("POST http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n{fields}\r\n\r\n")
}
