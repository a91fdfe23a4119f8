//! Opens and ends inspected tunnels at random, and checks that the proxy releases everything and recorded each request once.
//!
//! ```text
//! cargo bench --bench churn_inside -- --proxy 127.0.0.1:3128 --pid PID --minutes 60 --count 500 --log FILE \
//!     --names a.test,b.test --target ADDRESS --root FILE --certificate FILE --key FILE
//! ```
//!
//! `--count` tunnels are open at a time, each to its own connection of a target on loopback that speaks HTTP over TLS. In each, requests with
//! bodies of any size go both ways, with pauses between them. Half of the clients resume sessions. A tunnel ends by the client's close,
//! by its reset in the middle of a request, in the middle of the handshake, by a client that distrusts the certificate, by a
//! request that no entry allows, by the target's close, or by its reset in the middle of an answer. Every request has a path of its
//! own.
//!
//! The proxy remembers refusals for its page, up to a number of bytes, and each request that is refused here is one that it has not seen
//! before. So at first more are refused than it keeps: that it fills what it may fill would look like a leak.
//!
//! After a tenth of the time, and at the end, all tunnels are closed, and the proxy's descriptors and memory are read once they no
//! longer change. What the first tenth allocated and kept (pools, caches, the allocator's arenas) is not a leak; what came later is. At
//! last the access log is read. The status is 1 if more descriptors are open than before, if the memory grew by more than a tenth since, if
//! a request failed that should not, if one that was answered does not have exactly one record with its status, or if any has two.

#![forbid(unsafe_code)]

#[path = "load/churned.rs"]
mod churned;
#[path = "load/spent.rs"]
mod spent;

use std::collections::HashMap;
use std::io;
use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use churned::{Held, below, random, read, write};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The longest pause in a tunnel.
const PAUSE: Duration = Duration::from_secs(4);
/// How long one tunnel may take; far more than it ever needs.
const PATIENCE: Duration = Duration::from_secs(120);
/// More kinds of refusals than the proxy keeps.
const REFUSALS: usize = 20_000;
/// Most bytes of one body.
const MOST: u64 = 100_000;

/// How a tunnel ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    ClientCloses,
    /// In the middle of a body.
    ClientResets,
    /// In the middle of the handshake.
    ClientLeaves,
    Distrusts,
    Refused,
    TargetCloses,
    /// In the middle of an answer.
    TargetResets,
}

const ENDS: [End; 7] = [
    End::ClientCloses,
    End::ClientResets,
    End::ClientLeaves,
    End::Distrusts,
    End::Refused,
    End::TargetCloses,
    End::TargetResets,
];

#[derive(Clone)]
struct Churn {
    proxy: SocketAddr,
    target: SocketAddr,
    pid: u32,
    minutes: f64,
    count: usize,
    log: PathBuf,
    names: Vec<String>,
    resuming: Arc<ClientConfig>,
    fresh: Arc<ClientConfig>,
    distrusting: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    done: Arc<Done>,
}

#[derive(Default)]
struct Done {
    tunnels: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    /// The status of every request that was answered.
    answered: Mutex<HashMap<u64, u16>>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.is_empty() {
        // `cargo bench` runs every target: nothing to do without a proxy.
        println!("churn_inside: give --proxy and --pid");
        return;
    }
    let churn = Churn::parse(&arguments).unwrap_or_else(|error| {
        eprintln!("churn_inside: {error}; the arguments are described at the top of benches/churn_inside.rs");
        exit(2)
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(churn.run())) {
        Ok(true) => {}
        Ok(false) => exit(1),
        Err(error) => {
            eprintln!("churn_inside: {error}");
            exit(1)
        }
    }
}

impl Churn {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut values: HashMap<&str, &str> = HashMap::new();
        for pair in arguments.chunks(2) {
            let [flag, value] = pair else { return Err(format!("{} wants a value", pair[0])) };
            values.insert(flag, value);
        }
        let mut value = |flag: &str| values.remove(flag).ok_or(format!("{flag} is missing"));
        fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
            text.parse().map_err(|_| format!("{text}: not a value"))
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = |root: Option<&str>| -> Result<ClientConfig, String> {
            let mut roots = RootCertStore::empty();
            for root in root.map(certificates).transpose()?.unwrap_or_default() {
                roots.add(root).map_err(|error| error.to_string())?;
            }
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
            let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
            Ok(builder.with_root_certificates(roots).with_no_client_auth())
        };
        let root = value("--root")?;
        let mut fresh = client(Some(root))?;
        fresh.resumption = rustls::client::Resumption::disabled();
        let key = value("--key")?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{key}: {error}"))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(certificates(value("--certificate")?)?, key)
            .map_err(|error| error.to_string())?;
        let churn = Churn {
            proxy: number(value("--proxy")?)?,
            target: number(value("--target")?)?,
            pid: number(value("--pid")?)?,
            minutes: number(value("--minutes")?)?,
            count: number(value("--count")?)?,
            log: value("--log")?.into(),
            names: value("--names")?.split(',').map(str::to_owned).collect(),
            resuming: Arc::new(client(Some(root))?),
            fresh: Arc::new(fresh),
            distrusting: Arc::new(client(None)?),
            server: Arc::new(server),
            done: Arc::default(),
        };
        match values.keys().next() {
            Some(flag) => Err(format!("unknown {flag}")),
            None => Ok(churn),
        }
    }

    async fn run(self) -> io::Result<bool> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.target)?;
        let listener = socket.listen(16_384)?;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.server));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move { drop(Box::pin(serve(stream, acceptor)).await) });
            }
        });
        let all = Duration::from_secs_f64(self.minutes * 60.0);
        let begin = Held::at_rest(self.pid, PATIENCE).await?;
        self.refused().await?;
        self.phase(all / 10).await?;
        let warm = Held::at_rest(self.pid, PATIENCE).await?;
        self.phase(all - all / 10).await?;
        let end = Held::at_rest(self.pid, PATIENCE).await?;
        for (when, held) in [("at first", begin), ("after a tenth", warm), ("at the end", end)] {
            println!("{when}: {} descriptors, {} KiB", held.descriptors, held.kib);
        }
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let failed = of(&self.done.failed);
        let wrong = self.records()?;
        println!(
            "churn_inside tunnels={} requests={} at_once={} mib={} failed={failed} wrong_records={wrong} descriptors={:+} kib={:+}",
            of(&self.done.tunnels),
            of(&self.done.requests),
            self.count,
            of(&self.done.bytes) >> 20,
            end.descriptors as i64 - warm.descriptors as i64,
            end.kib as i64 - warm.kib as i64,
        );
        let flat = end.descriptors <= warm.descriptors && end.kib <= warm.kib + warm.kib / 10;
        Ok(failed == 0 && wrong == 0 && flat)
    }

    /// Asks for so many names that no rule lists that the proxy cannot remember all of them.
    async fn refused(&self) -> io::Result<()> {
        for number in 0..REFUSALS {
            let mut stream = self.connect().await?;
            let authority = format!("{number}.refused.test:443");
            let ask = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
            stream.write_all(ask.as_bytes()).await?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await?;
            if !reply.starts_with("HTTP/1.1 403 ") {
                return Err(io::Error::other(reply));
            }
        }
        Ok(())
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the client, and what it connects to is the proxy"
        )]
        TcpStream::connect(self.proxy).await
    }

    /// Opens and ends tunnels for this long, and ends with none open.
    async fn phase(&self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        let tasks: Vec<_> = (0..self.count)
            .map(|_| {
                let churn = self.clone();
                tokio::spawn(async move {
                    // Not all at the same moment.
                    sleep(random((PAUSE * 2).min(time / 4))).await;
                    while Instant::now() < until {
                        let end = ENDS[below(ENDS.len() as u64) as usize];
                        churn.done.tunnels.fetch_add(1, Ordering::Relaxed);
                        match timeout(PATIENCE, Box::pin(churn.tunnel(end, until))).await {
                            Ok(Ok(())) => {}
                            failed => {
                                if churn.done.failed.fetch_add(1, Ordering::Relaxed) < 10 {
                                    eprintln!("churn_inside: a tunnel failed, {end:?}: {failed:?}");
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
        Ok(())
    }

    /// One tunnel from its opening to its end.
    async fn tunnel(&self, end: End, until: Instant) -> io::Result<()> {
        let mut stream = self.connect().await?;
        let name = self.names[below(self.names.len() as u64) as usize].as_str();
        let authority = format!("{name}:{}", self.target.port());
        let ask = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            reply.push(stream.read_u8().await?);
        }
        if !reply.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&reply).into_owned()));
        }
        let config = match below(2) {
            _ if end == End::Distrusts => &self.distrusting,
            0 => &self.resuming,
            _ => &self.fresh,
        };
        if end == End::ClientLeaves {
            // A record that is not whole.
            stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").await?;
            return Ok(());
        }
        let server = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connected = TlsConnector::from(Arc::clone(config)).connect(server, stream).await;
        let mut tls = match connected {
            Err(_) if end == End::Distrusts => return Ok(()),
            Ok(_) if end == End::Distrusts => return Err(io::Error::other("it trusts nobody")),
            connected => BufReader::new(connected?),
        };
        for _ in 0..below(8) {
            let (number, up, down) = (self.next(), below(MOST), below(MOST));
            let head = format!(
                "POST /{number}/{down} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {up}\r\n\r\n"
            );
            tls.write_all(head.as_bytes()).await?;
            write(&mut tls, up).await?;
            tls.flush().await?;
            let (status, length) = answer(&mut tls).await?;
            read(&mut tls, length).await?;
            if status != 200 || length != down {
                return Err(io::Error::other(format!("{status} with {length} bytes")));
            }
            self.done.bytes.fetch_add(up + down, Ordering::Relaxed);
            self.answered(number, status);
            sleep(random(PAUSE).min(until.saturating_duration_since(Instant::now()))).await;
        }
        let number = self.next();
        let (path, up) = match end {
            End::ClientCloses => return tls.shutdown().await,
            End::Refused => (format!("/a/refused/{number}"), 0),
            End::TargetCloses => (format!("/{number}/closes"), 0),
            End::TargetResets => (format!("/{number}/resets"), 0),
            _ => (format!("/{number}/0"), MOST),
        };
        let head = format!("POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {up}\r\n\r\n");
        tls.write_all(head.as_bytes()).await?;
        if end == End::ClientResets {
            write(&mut tls, below(MOST)).await?;
            tls.flush().await?;
            return tls.get_ref().get_ref().0.set_zero_linger();
        }
        tls.flush().await?;
        let (status, length) = answer(&mut tls).await?;
        match (end, status) {
            (End::Refused, 403) | (End::TargetCloses, 200) => {
                read(&mut tls, length).await?;
                self.answered(number, status);
                if tls.read(&mut [0]).await? == 0 {
                    return Ok(());
                }
            }
            (End::TargetResets, 200) if read(&mut tls, length).await.is_err() => return Ok(()),
            _ => {}
        }
        Err(io::Error::other(format!("{status} with {length} bytes, and no end")))
    }

    /// The number of a new request.
    fn next(&self) -> u64 {
        self.done.requests.fetch_add(1, Ordering::Relaxed)
    }

    fn answered(&self, number: u64, status: u16) {
        let mut answered = self.done.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.insert(number, status);
    }

    /// How many requests the log tells wrongly: twice, with another status, or not at all although they were answered.
    fn records(&self) -> io::Result<u64> {
        let mut wrong = 0;
        let mut tell = |what: String| {
            wrong += 1;
            if wrong <= 10 {
                eprintln!("churn_inside: {what}");
            }
        };
        let answered = self.done.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told: HashMap<u64, u64> = HashMap::new();
        for line in io::BufReader::new(std::fs::File::open(&self.log)?).lines() {
            let line = line?;
            if line.contains(r#""event":"open""#) || line.contains(r#""tunnel":null"#) {
                continue;
            }
            let record: serde_json::Value = serde_json::from_str(&line)?;
            let target = record["target"].as_str().unwrap_or_default();
            let number = target.split('/').find_map(|part| part.parse::<u64>().ok());
            let Some(number) = number else {
                tell(format!("a record of nothing: {line}"));
                continue;
            };
            *told.entry(number).or_default() += 1;
            if let Some(status) = answered.get(&number)
                && record["status"] != *status
            {
                tell(format!("answered with {status}: {line}"));
            }
        }
        for (number, times) in &told {
            if *times > 1 {
                tell(format!("request {number} has {times} records"));
            }
        }
        for number in answered.keys().filter(|number| !told.contains_key(number)) {
            tell(format!("request {number} has no record"));
        }
        println!("records: {} of requests, {} requests were answered", told.len(), answered.len());
        Ok(wrong)
    }
}

/// The target's side: `/NUMBER/LENGTH` is answered with so many bytes.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    let mut tls = BufReader::new(acceptor.accept(stream).await?);
    loop {
        let (line, up) = head(&mut tls).await?;
        read(&mut tls, up).await?;
        let what = line.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let (length, close) = match what {
            "closes" => (2, "Connection: close\r\n"),
            "resets" => (MOST, ""),
            length => (length.parse().map_err(io::Error::other)?, ""),
        };
        let said = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{close}\r\n");
        tls.write_all(said.as_bytes()).await?;
        if what == "resets" {
            write(&mut tls, MOST / 2).await?;
            tls.flush().await?;
            // What was sent may be destroyed, but the head should arrive.
            sleep(Duration::from_millis(500)).await;
            return tls.get_ref().get_ref().0.set_zero_linger();
        }
        write(&mut tls, length).await?;
        tls.flush().await?;
        if what == "closes" {
            return tls.shutdown().await;
        }
    }
}

/// First line, and the length of the body.
async fn head(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<(String, u64)> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((first, length));
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        }
    }
}

async fn answer(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<(u16, u64)> {
    let (first, length) = head(stream).await?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other(first.clone()))?, length))
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{file}: {error}"))
}
