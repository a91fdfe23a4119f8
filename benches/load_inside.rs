//! A load generator for proxies that open TLS. It also measures what the proxy's process spends on the load.
//!
//! ```text
//! cargo bench --bench load_inside -- handshakes --proxy ADDRESS --pid PID --count 500
//! cargo bench --bench load_inside -- requests   --proxy ADDRESS --pid PID --count 5000
//! cargo bench --bench load_inside -- bulk       --proxy ADDRESS --pid PID --mib 1024 [--down]
//! cargo bench --bench load_inside -- idle       --proxy ADDRESS --pid PID --count 400
//! ```
//!
//! Each takes `--name HOST --target ADDRESS --root FILE --certificate FILE --key FILE`, too. It is a client and a target, both with
//! TLS and HTTP/1.1. The client asks the proxy for HOST and the target's port, and begins TLS in the tunnel; with `--direct` it
//! sends no CONNECT (HAProxy). It accepts only certificates of `--root`: those that the proxy makes. So a proxy that passes the
//! tunnel on unopened fails. The target has the certificate and the key. Neither resumes a session, so every handshake is a full
//! one. All use X25519, because OpenSSL 3.0, which HAProxy and Squid use, has no post-quantum share; with `--post-quantum` both ends
//! prefer one.
//!
//! - `handshakes`: microseconds of the proxy's CPU for one tunnel (open, both handshakes, one small request, close)
//! - `requests`: microseconds of the proxy's CPU for one small request of a client that keeps its tunnel
//! - `bulk`: seconds of the proxy's CPU for one GiB, in one request
//! - `idle`: KiB of the proxy's resident memory, and descriptors, for one tunnel at rest after a small request
//!
//! One is under way at a time.

#![forbid(unsafe_code)]

#[path = "load/inside.rs"]
mod inside;
#[path = "load/spent.rs"]
mod spent;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

use inside::Ends;
use rustls::{ClientConnection, StreamOwned};
use spent::{cpu_of, open_descriptors, resident};

/// Sent and received at a time.
const BLOCK: usize = 256 * 1024;

type Tunnel = StreamOwned<ClientConnection, TcpStream>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.is_empty() {
        // `cargo bench` runs every target: nothing to do without a mode.
        println!("load_inside: give a mode: handshakes, requests, bulk or idle");
        return;
    }
    let load = Load::parse(&arguments).unwrap_or_else(|error| {
        eprintln!("load_inside: {error}; the modes are described at the top of benches/load_inside.rs");
        exit(2)
    });
    if let Err(error) = load.run() {
        eprintln!("load_inside: {error}");
        exit(1)
    }
}

struct Load {
    mode: String,
    proxy: SocketAddr,
    target: SocketAddr,
    pid: u32,
    count: usize,
    mib: u64,
    down: bool,
    direct: bool,
    name: String,
    ends: Ends,
}

impl Load {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut proxy, mut target, mut pid, mut count, mut mib) = (None, None, 0, 1000, 1024);
        let (mut down, mut direct, mut post_quantum, mut name) = (false, false, false, None);
        let (mut root, mut certificate, mut key) = (PathBuf::new(), PathBuf::new(), PathBuf::new());
        let mut rest = arguments[1..].iter();
        while let Some(flag) = rest.next() {
            let mut value = || rest.next().cloned().ok_or(format!("{flag} wants a value"));
            fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T, String> {
                text.parse().map_err(|_| format!("{flag} {text}: not a value"))
            }
            match flag.as_str() {
                "--proxy" => proxy = Some(number(flag, &value()?)?),
                "--target" => target = Some(number(flag, &value()?)?),
                "--pid" => pid = number(flag, &value()?)?,
                "--count" => count = number(flag, &value()?)?,
                "--mib" => mib = number(flag, &value()?)?,
                "--name" => name = Some(value()?),
                "--root" => root = value()?.into(),
                "--certificate" => certificate = value()?.into(),
                "--key" => key = value()?.into(),
                "--down" => down = true,
                "--direct" => direct = true,
                "--post-quantum" => post_quantum = true,
                other => return Err(format!("unknown {other}")),
            }
        }
        let name = name.ok_or("--name is missing")?;
        Ok(Load {
            mode: arguments[0].clone(),
            proxy: proxy.ok_or("--proxy is missing")?,
            target: target.ok_or("--target is missing")?,
            ends: Ends::new(&name, &root, &certificate, &key, post_quantum)?,
            pid,
            count,
            mib,
            down,
            direct,
            name,
        })
    }

    fn run(self) -> io::Result<()> {
        let listener = TcpListener::bind(self.target)?;
        let ends = self.ends.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let ends = ends.clone();
                thread::spawn(move || drop(ends.serve(stream)));
            }
        });
        match self.mode.as_str() {
            "handshakes" => self.handshakes(),
            "requests" => self.requests(),
            "bulk" => self.bulk(),
            "idle" => self.idle(),
            other => Err(io::Error::other(format!("unknown mode {other}"))),
        }
    }

    fn open(&self) -> io::Result<Tunnel> {
        let mut stream = TcpStream::connect_timeout(&self.proxy, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        if !self.direct {
            let authority = format!("{}:{}", self.name, self.target.port());
            write!(stream, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")?;
            let head = inside::head(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if !head.starts_with("HTTP/1.1 200") {
                return Err(io::Error::other(head));
            }
        }
        self.ends.begin(stream)
    }

    /// Sends a request without a body, and reads the head of its answer.
    fn ask(&self, tunnel: &mut Tunnel, method: &str, path: &str, length: Option<u64>) -> io::Result<()> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: load\r\nAccept: */*\r\n", self.name);
        if let Some(length) = length {
            request += &format!("Content-Length: {length}\r\n");
        }
        request += "\r\n";
        tunnel.write_all(request.as_bytes())?;
        tunnel.flush()
    }

    fn answered(tunnel: &mut Tunnel) -> io::Result<()> {
        let head = inside::head(tunnel)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other(head)) }
    }

    fn small(&self, tunnel: &mut Tunnel) -> io::Result<()> {
        self.ask(tunnel, "GET", "/small", None)?;
        Self::answered(tunnel)?;
        tunnel.read_exact(&mut [0; inside::SMALL.len()])
    }

    fn handshakes(&self) -> io::Result<()> {
        let one = || {
            let mut tunnel = self.open()?;
            self.small(&mut tunnel)?;
            tunnel.conn.send_close_notify();
            tunnel.flush()
        };
        let (cpu, wall) = self.measured(self.count, one)?;
        println!("handshakes cpu_us={cpu:.1} wall_us={wall:.1}");
        Ok(())
    }

    fn requests(&self) -> io::Result<()> {
        let mut tunnel = self.open()?;
        let (cpu, wall) = self.measured(self.count, || self.small(&mut tunnel))?;
        println!("requests cpu_us={cpu:.2} wall_us={wall:.1}");
        Ok(())
    }

    /// Microseconds for each of `count`: of the proxy's CPU, and of the wall clock. A tenth as many come first.
    fn measured(&self, count: usize, mut one: impl FnMut() -> io::Result<()>) -> io::Result<(f64, f64)> {
        for _ in 0..count.div_ceil(10) {
            one()?;
        }
        let (cpu, begun) = (cpu_of(self.pid)?, Instant::now());
        for _ in 0..count {
            one()?;
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        Ok((each(cpu_of(self.pid)?.saturating_sub(cpu)), each(begun.elapsed())))
    }

    fn bulk(&self) -> io::Result<()> {
        let size = self.mib * 1024 * 1024;
        let mut tunnel = self.open()?;
        self.small(&mut tunnel)?;
        let mut block = vec![7; BLOCK];
        let (cpu, begun) = (cpu_of(self.pid)?, Instant::now());
        let mut left = size;
        if self.down {
            self.ask(&mut tunnel, "GET", &format!("/bulk/{size}"), None)?;
            Self::answered(&mut tunnel)?;
        } else {
            self.ask(&mut tunnel, "POST", "/bulk/up", Some(size))?;
        }
        while left > 0 {
            let part = left.min(BLOCK as u64) as usize;
            if self.down {
                tunnel.read_exact(&mut block[..part])?;
            } else {
                tunnel.write_all(&block[..part])?;
            }
            left -= part as u64;
        }
        if !self.down {
            tunnel.flush()?;
            Self::answered(&mut tunnel)?;
            tunnel.read_exact(&mut [0; inside::SMALL.len()])?;
        }
        let gib = size as f64 / f64::from(1 << 30);
        println!(
            "bulk cpu_s_per_gib={:.3} mib_per_second={:.0}",
            cpu_of(self.pid)?.saturating_sub(cpu).as_secs_f64() / gib,
            gib * 1024.0 / begun.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn idle(&self) -> io::Result<()> {
        let used = || -> io::Result<Tunnel> {
            let mut tunnel = self.open()?;
            self.small(&mut tunnel)?;
            Ok(tunnel)
        };
        // A few tunnels first, so that what is allocated once is not counted for each tunnel.
        let warm: Vec<Tunnel> = (0..64).map(|_| used()).collect::<io::Result<_>>()?;
        let (memory, descriptors) = (resident(self.pid)?, open_descriptors(self.pid)?);
        let held: Vec<Tunnel> = (0..self.count).map(|_| used()).collect::<io::Result<_>>()?;
        thread::sleep(Duration::from_secs(1));
        let count = held.len() as f64;
        println!(
            "idle kib={:.2} descriptors={:.2}",
            resident(self.pid)?.saturating_sub(memory) as f64 / count,
            open_descriptors(self.pid)?.saturating_sub(descriptors) as f64 / count
        );
        drop((warm, held));
        Ok(())
    }
}
