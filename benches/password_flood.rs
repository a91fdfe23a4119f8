//! How long a client waits for its tunnel while another client floods the proxy with requests; for `tests/long/password_flood`.
//!
//! ```text
//! password_flood --proxy ADDRESS --target ADDRESS --seconds N [--user USER:PASSWORD]
//!                [--flood ADDRESS --kind wrong|none --rate N]
//! ```
//!
//! One client, at 127.0.1.1, opens a tunnel fifty times a second to a target of this program, with its password if `--user`
//! gives one. The time is measured from the moment at which the request was due to the `200`, connection included, so that
//! a stall counts for every request that waited behind it. Meanwhile another client, at 127.0.2.1, sends `--rate` requests a
//! second to `--flood`, each on its own connection: `wrong`, with a password that was never tried before; `none`, without a
//! password, which shows what the connections alone cost. It waits for each answer and counts them. It prints one line:
//!
//! `p50_us=… p99_us=… opened=… flooded=… status_407=… status_429=… other=…`

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use socket2::{Domain, Socket, Type};

/// Tunnels a second of the client that is measured.
const RATE: u64 = 50;
/// Threads of the flood: each waits for its answer before it asks again. Of one client, four passwords may wait.
const FLOODERS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(20);
const CLIENT: &str = "127.0.1.1:0";
const ATTACKER: &str = "127.0.2.1:0";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.is_empty() {
        // `cargo bench` runs every target: nothing to do without a proxy.
        println!("password_flood: see the top of benches/password_flood.rs");
        return;
    }
    let ran = Run::parse(&arguments).and_then(|run| run.measure());
    if let Err(error) = ran {
        eprintln!("password_flood: {error}");
        exit(1)
    }
}

#[derive(Clone, Debug)]
struct Run {
    proxy: SocketAddr,
    target: SocketAddr,
    seconds: u64,
    user: Option<String>,
    flood: Option<SocketAddr>,
    guesses: bool,
    rate: u64,
}

/// What became of the flood.
#[derive(Debug, Default)]
struct Answers {
    wrong: AtomicU64,
    busy: AtomicU64,
    other: AtomicU64,
}

impl Run {
    fn parse(arguments: &[String]) -> io::Result<Self> {
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name);
            at.and_then(|at| arguments.get(at + 1)).cloned()
        };
        let wanted = |name: &str| value(name).ok_or_else(|| io::Error::other(format!("{name} is missing")));
        let malformed = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
        Ok(Run {
            proxy: wanted("--proxy")?.parse().map_err(|error| malformed(&error))?,
            target: wanted("--target")?.parse().map_err(|error| malformed(&error))?,
            seconds: wanted("--seconds")?.parse().map_err(|error| malformed(&error))?,
            user: value("--user"),
            flood: value("--flood")
                .map(|flood| flood.parse())
                .transpose()
                .map_err(|error| malformed(&error))?,
            guesses: value("--kind").as_deref() == Some("wrong"),
            rate: value("--rate").map_or(Ok(1000), |rate| rate.parse().map_err(|error| malformed(&error)))?,
        })
    }

    fn measure(&self) -> io::Result<()> {
        let target = TcpListener::bind(self.target)?;
        thread::spawn(move || {
            // Each tunnel is kept until the next, so that the client's side ends it.
            let mut _kept = None;
            for stream in target.incoming() {
                _kept = stream.ok();
            }
        });
        // Once, so that egressd knows the password if there is one.
        let (status, _) = self.ask(self.proxy, CLIENT, self.user.as_deref())?;
        if status != 200 {
            return Err(io::Error::other(format!("the client was answered {status}")));
        }
        let answers = Arc::new(Answers::default());
        let (begun, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let spawn = |proxy| self.spawn_flood(proxy, &next, &answers, begun);
        let proxies = self.flood.into_iter().flat_map(|proxy| std::iter::repeat_n(proxy, FLOODERS));
        let flood: Vec<_> = proxies.map(spawn).collect();
        let mut waits = Vec::new();
        for number in 0..self.seconds * RATE {
            let due = begun + Duration::from_millis(number * 1000 / RATE);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (status, _stream) = self.ask(self.proxy, CLIENT, self.user.as_deref())?;
            if status != 200 {
                return Err(io::Error::other(format!("the client was answered {status}")));
            }
            waits.push(due.elapsed());
        }
        let mut flooded = 0;
        for thread in flood {
            flooded += thread.join().map_err(|_| io::Error::other("a thread panicked"))?;
        }
        waits.sort_unstable();
        let at = |share: usize| waits[(waits.len() - 1) * share / 100].as_micros();
        println!(
            "p50_us={} p99_us={} opened={} flooded={flooded} status_407={} status_429={} other={}",
            at(50),
            at(99),
            waits.len(),
            answers.wrong.load(Ordering::Relaxed),
            answers.busy.load(Ordering::Relaxed),
            answers.other.load(Ordering::Relaxed),
        );
        Ok(())
    }

    /// One of the threads that together send at the flood's rate: a thread that waits for an answer does not delay the others.
    fn spawn_flood(
        &self,
        proxy: SocketAddr,
        next: &Arc<AtomicU64>,
        answers: &Arc<Answers>,
        begun: Instant,
    ) -> thread::JoinHandle<u64> {
        let (run, answers, next) = (self.clone(), Arc::clone(answers), Arc::clone(next));
        thread::spawn(move || {
            let mut asked = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= run.seconds * run.rate {
                    return asked;
                }
                let due = begun + Duration::from_micros(number * 1_000_000 / run.rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let guess = format!("gitaly:guess-{number}-{begun:?}");
                let counter = match run.ask(proxy, ATTACKER, run.guesses.then_some(&*guess)) {
                    Ok((407, stream)) => {
                        // A reset: otherwise the flood would use up the ports within a minute.
                        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                        &answers.wrong
                    }
                    Ok((429, _)) => &answers.busy,
                    Ok(_) | Err(_) => &answers.other,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                asked += 1;
            }
        })
    }

    /// CONNECT from an address, with a user and its password: the status, and the connection.
    fn ask(&self, proxy: SocketAddr, from: &str, user: Option<&str>) -> io::Result<(u16, TcpStream)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let from: SocketAddr = from.parse().map_err(io::Error::other)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&proxy.into(), PATIENCE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let target = self.target;
        let fields = user.map_or(String::new(), |user| {
            format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(user))
        });
        stream
            .write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n").as_bytes())?;
        let (mut reply, mut length) = ([0; 1024], 0);
        while length < reply.len() && !reply[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut reply[length..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => length += read,
            }
        }
        let status = reply.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        let status = status.and_then(|digits| digits.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, stream))
    }
}
