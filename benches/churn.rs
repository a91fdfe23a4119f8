//! Opens and closes tunnels at random, and checks that the proxy releases everything.
//!
//! ```text
//! cargo bench --bench churn -- --proxy 127.0.0.1:3128 --pid PID --seconds 600 --count 10000 [--name NAME --target ADDRESS]
//! ```
//!
//! `--count` tunnels are open at a time, each to its own target on loopback. Bytes go both ways. Then, after up to [`LONGEST`],
//! one side ends the tunnel by a FIN, by a reset, or by a half-close that the other side answers, and another tunnel is opened
//! at once. After a tenth of the time, and at the end, all tunnels are closed, and the proxy's descriptors and memory are
//! read once they no longer change. What the first tenth allocated and kept (pools, the allocator's arenas) is not a leak;
//! what came later is. The status is 1 if more descriptors are open than before, if the memory grew by more than a tenth
//! since, or if a tunnel did not pass its bytes.

#![forbid(unsafe_code)]

#[path = "load/churned.rs"]
mod churned;
#[path = "load/spent.rs"]
mod spent;

use std::io;
use std::net::SocketAddr;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use churned::{Held, below, random, read, write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// The longest life of a tunnel.
const LONGEST: Duration = Duration::from_secs(20);
/// How long one step of a tunnel may take; far more than it ever needs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes either way.
const MOST: u64 = 200_000;

#[derive(Clone, Debug)]
struct Churn {
    proxy: SocketAddr,
    pid: u32,
    seconds: u64,
    count: usize,
    name: Option<String>,
    target: SocketAddr,
}

#[derive(Default, Debug)]
struct Done {
    opened: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.is_empty() {
        // `cargo bench` runs every target: nothing to do without a proxy.
        println!("churn: give --proxy and --pid");
        return;
    }
    let churn = Churn::parse(&arguments).unwrap_or_else(|error| {
        eprintln!("churn: {error}; the arguments are described at the top of benches/churn.rs");
        exit(2)
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(churn.run())) {
        Ok(true) => {}
        Ok(false) => exit(1),
        Err(error) => {
            eprintln!("churn: {error}");
            exit(1)
        }
    }
}

impl Churn {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut churn = Churn {
            proxy: SocketAddr::from(([127, 0, 0, 1], 3128)),
            pid: 0,
            seconds: 600,
            count: 10_000,
            name: None,
            target: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        for pair in arguments.chunks(2) {
            let [flag, value] = pair else { return Err(format!("{} wants a value", pair[0])) };
            let wrong = |error: &dyn std::fmt::Display| format!("{flag} {value}: {error}");
            match flag.as_str() {
                "--proxy" => churn.proxy = value.parse().map_err(|error| wrong(&error))?,
                "--pid" => churn.pid = value.parse().map_err(|error| wrong(&error))?,
                "--seconds" => churn.seconds = value.parse().map_err(|error| wrong(&error))?,
                "--count" => churn.count = value.parse().map_err(|error| wrong(&error))?,
                "--name" => churn.name = Some(value.clone()),
                "--target" => churn.target = value.parse().map_err(|error| wrong(&error))?,
                other => return Err(format!("unknown {other}")),
            }
        }
        Ok(churn)
    }

    async fn run(mut self) -> io::Result<bool> {
        // All of them come at once: with tokio's default backlog of 1024 the first burst would be dropped here.
        let socket = if self.target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(self.target)?;
        let listener = socket.listen(16_384)?;
        self.target = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move { drop(serve(stream).await) });
            }
        });
        let begin = Held::at_rest(self.pid, PATIENCE).await?;
        let first = self.phase(Duration::from_secs((self.seconds / 10).max(1))).await?;
        let warm = Held::at_rest(self.pid, PATIENCE).await?;
        let rest = self.phase(Duration::from_secs(self.seconds - self.seconds / 10)).await?;
        let end = Held::at_rest(self.pid, PATIENCE).await?;
        for (when, held) in [("at first", begin), ("after a tenth", warm), ("at the end", end)] {
            println!("{when}: {} descriptors, {} KiB", held.descriptors, held.kib);
        }
        let failed = first.failed.load(Ordering::Relaxed) + rest.failed.load(Ordering::Relaxed);
        let opened = first.opened.load(Ordering::Relaxed) + rest.opened.load(Ordering::Relaxed);
        let bytes = first.bytes.load(Ordering::Relaxed) + rest.bytes.load(Ordering::Relaxed);
        println!(
            "churn tunnels={opened} at_once={} mib={} failed={failed} descriptors={:+} kib={:+}",
            self.count,
            bytes >> 20,
            end.descriptors as i64 - warm.descriptors as i64,
            end.kib as i64 - warm.kib as i64,
        );
        Ok(failed == 0 && end.descriptors <= warm.descriptors && end.kib <= warm.kib + warm.kib / 10)
    }

    /// Opens and closes tunnels for this long, and ends with none open.
    async fn phase(&self, time: Duration) -> io::Result<Arc<Done>> {
        let done = Arc::new(Done::default());
        let until = Instant::now() + time;
        let tasks: Vec<_> = (0..self.count)
            .map(|_| {
                let (churn, done) = (self.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    // Not all at the same moment.
                    sleep(random(LONGEST.min(time) / 4)).await;
                    while Instant::now() < until {
                        done.opened.fetch_add(1, Ordering::Relaxed);
                        match timeout(LONGEST + PATIENCE, Box::pin(churn.tunnel(until))).await {
                            Ok(Ok(bytes)) => drop(done.bytes.fetch_add(bytes, Ordering::Relaxed)),
                            failed => {
                                if done.failed.fetch_add(1, Ordering::Relaxed) < 10 {
                                    eprintln!("churn: a tunnel failed: {failed:?}");
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.map_err(io::Error::other)?;
        }
        Ok(done)
    }

    /// One tunnel from its opening to its end: the bytes that it passed.
    async fn tunnel(&self, until: Instant) -> io::Result<u64> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the client, and what it connects to is the proxy"
        )]
        let mut stream = TcpStream::connect(self.proxy).await?;
        let authority = match &self.name {
            Some(name) => format!("{name}:{}", self.target.port()),
            None => self.target.to_string(),
        };
        let ask = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            reply.push(stream.read_u8().await?);
        }
        if !reply.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&reply).into_owned()));
        }
        let (up, down, how) = (below(MOST), below(MOST), below(4) as u8);
        stream.write_u8(how).await?;
        stream.write_u64(up).await?;
        stream.write_u64(down).await?;
        let (mut from, mut to) = stream.split();
        let sending = async {
            write(&mut to, up).await?;
            let left = until.saturating_duration_since(Instant::now());
            sleep(random(LONGEST).min(left)).await;
            io::Result::Ok(())
        };
        tokio::try_join!(sending, read(&mut from, down))?;
        match how {
            CLIENT_CLOSES => {
                stream.shutdown().await?;
                // The target's answer to it.
                read(&mut stream, 1).await?;
            }
            TARGET_CLOSES => {
                stream.write_u8(0).await?;
                if stream.read(&mut [0]).await? != 0 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            CLIENT_RESETS => stream.set_zero_linger()?,
            _ => {
                stream.write_u8(0).await?;
                // Its reset, or the close that a proxy turns it into.
                let _ = stream.read(&mut [0]).await;
            }
        }
        Ok(up + down)
    }
}

const CLIENT_CLOSES: u8 = 0;
const TARGET_CLOSES: u8 = 1;
const CLIENT_RESETS: u8 = 2;

/// The target's side of a tunnel.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let how = stream.read_u8().await?;
    let (up, down) = (stream.read_u64().await?, stream.read_u64().await?);
    let (mut from, mut to) = stream.split();
    tokio::try_join!(read(&mut from, up), write(&mut to, down))?;
    match how {
        CLIENT_CLOSES => {
            if stream.read(&mut [0]).await? == 0 {
                stream.write_all(&[7]).await?;
            }
        }
        CLIENT_RESETS => drop(stream.read(&mut [0]).await),
        TARGET_CLOSES => drop(stream.read_u8().await?),
        _ => {
            stream.read_u8().await?;
            stream.set_zero_linger()?;
        }
    }
    Ok(())
}
