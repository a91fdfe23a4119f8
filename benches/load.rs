//! A load generator for any CONNECT proxy. It also measures what the proxy's process spends on the load.
//!
//! ```text
//! cargo bench --bench load -- tunnels --proxy 127.0.0.1:3128 --pid PID --count 5000 --parallel 16 [--hello NAME]
//! cargo bench --bench load -- bulk    --proxy 127.0.0.1:3128 --pid PID --mib 1024 --parallel 1 [--down] [--hello NAME]
//! cargo bench --bench load -- trips   --proxy 127.0.0.1:3128 --pid PID --count 20000
//! cargo bench --bench load -- setups  --proxy 127.0.0.1:3128 --pid PID --count 5000
//! cargo bench --bench load -- idle    --proxy 127.0.0.1:3128 --pid PID --count 1000
//! ```
//!
//! It has its own target, an echo or sink on loopback, and asks the proxy for it by address, or with `--name` by a name
//! that resolves to it. With `--direct` it connects to the proxy's address and sends no CONNECT (HAProxy in TCP mode,
//! forwarding to `--target`). With `--socks` it asks in SOCKS5, each message after the answer to the one before. With `--tls NAME` it speaks TLS to the proxy, with the server name NAME, and does not verify
//! its certificate. With `--hello` every tunnel begins with a ClientHello for that name, and the target answers with a
//! ServerHello record before it echoes. It prints one line, in figures that a script can read:
//!
//! - `tunnels`: microseconds of the proxy's CPU for one tunnel (open, one byte echoed, close), and tunnels a second
//! - `bulk`: seconds of the proxy's CPU for one GiB, and MiB a second
//! - `trips`: median and 99th percentile of the round trip of one byte, in microseconds
//! - `setups`: median and 99th percentile of CONNECT sent to 200 read, one after the other, in microseconds
//! - `idle`: KiB of the proxy's resident memory, and descriptors, for one tunnel at rest
//!
//! CPU is the time of all threads, by the scheduler's nanosecond clock (/proc/PID/task/*/schedstat).

#![forbid(unsafe_code)]

#[path = "load/spent.rs"]
mod spent;
#[path = "load/stream.rs"]
mod stream;
#[path = "load/target.rs"]
mod target;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use spent::{cpu_of, open_descriptors, resident};
use stream::{Stream, Tls};
use target::{SERVER_HELLO, Target, client_hello};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.is_empty() {
        // `cargo bench` runs every target: nothing to do without a mode.
        println!("load: give a mode: tunnels, bulk, trips, setups or idle");
        return;
    }
    let load = Load::parse(&arguments).unwrap_or_else(|error| {
        eprintln!("load: {error}; the modes are described at the top of benches/load.rs");
        exit(2)
    });
    if let Err(error) = load.run() {
        eprintln!("load: {error}");
        exit(1)
    }
}

#[derive(Clone, Debug)]
struct Load {
    mode: String,
    proxy: SocketAddr,
    pid: u32,
    count: usize,
    parallel: usize,
    mib: u64,
    down: bool,
    direct: bool,
    socks: bool,
    hello: Option<String>,
    name: Option<String>,
    tls: Option<Tls>,
    target: Option<SocketAddr>,
}

impl Load {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut load = Load {
            mode: arguments[0].clone(),
            proxy: "127.0.0.1:3128".parse().map_err(|_| "no default")?,
            pid: 0,
            count: 1000,
            parallel: 1,
            mib: 256,
            down: false,
            direct: false,
            socks: false,
            hello: None,
            name: None,
            tls: None,
            target: None,
        };
        let mut rest = arguments[1..].iter();
        while let Some(flag) = rest.next() {
            let mut value = || rest.next().cloned().ok_or(format!("{flag} wants a value"));
            fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T, String> {
                text.parse().map_err(|_| format!("{flag} {text}: not a value"))
            }
            match flag.as_str() {
                "--proxy" => load.proxy = number(flag, &value()?)?,
                "--pid" => load.pid = number(flag, &value()?)?,
                "--count" => load.count = number(flag, &value()?)?,
                "--parallel" => load.parallel = number::<usize>(flag, &value()?)?.max(1),
                "--mib" => load.mib = number(flag, &value()?)?,
                "--hello" => load.hello = Some(value()?),
                "--name" => load.name = Some(value()?),
                "--tls" => load.tls = Some(Tls::of(&value()?)?),
                "--target" => load.target = Some(number(flag, &value()?)?),
                "--down" => load.down = true,
                "--direct" => load.direct = true,
                "--socks" => load.socks = true,
                other => return Err(format!("unknown {other}")),
            }
        }
        Ok(load)
    }

    fn run(mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.target.unwrap_or("127.0.0.1:0".parse().expect("an address")))?;
        let target = listener.local_addr()?;
        self.target = Some(target);
        let behaviour = Target { hello: self.hello.is_some(), bulk: self.mode == "bulk", down: self.down };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A stack of 64 KiB: `idle` has thousands of these.
                let _ =
                    thread::Builder::new().stack_size(64 * 1024).spawn(move || drop(behaviour.serve(stream)));
            }
        });
        match self.mode.as_str() {
            "tunnels" => self.tunnels(),
            "bulk" => self.bulk(),
            "trips" => self.trips(),
            "setups" => self.setups(),
            "idle" => self.idle(),
            other => Err(io::Error::other(format!("unknown mode {other}"))),
        }
    }

    fn connect(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect_timeout(&self.proxy, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(match &self.tls {
            None => Stream::Bare(stream),
            Some(tls) => Stream::Tls(Box::new(tls.begin(stream)?)),
        })
    }

    /// Asks for a tunnel, and reads the 200.
    fn ask(&self, stream: &mut Stream) -> io::Result<()> {
        let target = self.target.expect("set by run");
        let authority = match &self.name {
            Some(name) => format!("{name}:{}", target.port()),
            None => target.to_string(),
        };
        write!(stream, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")?;
        let mut reply = [0; 1024];
        let mut length = 0;
        while !reply[..length].ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut reply[length..])?;
            if read == 0 {
                let said = String::from_utf8_lossy(&reply[..length]).into_owned();
                return Err(io::Error::other(format!("closed after {said:?}")));
            }
            length += read;
        }
        if !reply.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other(String::from_utf8_lossy(&reply[..length]).into_owned()));
        }
        Ok(())
    }

    /// The same in SOCKS5 (RFC 1928), without a password.
    fn ask_in_socks(&self, stream: &mut Stream) -> io::Result<()> {
        stream.write_all(&[5, 1, 0])?;
        let mut method = [0; 2];
        stream.read_exact(&mut method)?;
        let target = self.target.expect("set by run");
        let mut request = vec![5, 1, 0];
        match (&self.name, target.ip()) {
            (Some(name), _) => {
                request.extend([3, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
                request.extend(name.as_bytes());
            }
            (None, std::net::IpAddr::V4(address)) => {
                request.push(1);
                request.extend(address.octets());
            }
            (None, std::net::IpAddr::V6(address)) => {
                request.push(4);
                request.extend(address.octets());
            }
        }
        request.extend(target.port().to_be_bytes());
        stream.write_all(&request)?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer)?;
        match (method, answer[1]) {
            ([5, 0], 0) => Ok(()),
            _ => Err(io::Error::other(format!("{method:?}, then {answer:?}"))),
        }
    }

    /// Asks for a tunnel, and exchanges the hellos if there is a `--hello`.
    fn open(&self) -> io::Result<Stream> {
        let mut stream = self.connect()?;
        match (self.direct, self.socks) {
            (true, _) => {}
            (false, true) => self.ask_in_socks(&mut stream)?,
            (false, false) => self.ask(&mut stream)?,
        }
        if let Some(name) = &self.hello {
            stream.write_all(&client_hello(name))?;
            let mut answer = [0; SERVER_HELLO.len()];
            stream.read_exact(&mut answer)?;
        }
        Ok(stream)
    }

    fn tunnels(&self) -> io::Result<()> {
        let one = |load: &Load| -> io::Result<()> {
            let mut stream = load.open()?;
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])
        };
        self.measured(self.count / 10, one)?;
        let (cpu, wall) = self.measured(self.count, one)?;
        println!(
            "tunnels cpu_us={:.1} per_second={:.0}",
            cpu.as_secs_f64() * 1e6 / self.count as f64,
            self.count as f64 / wall.as_secs_f64()
        );
        Ok(())
    }

    /// Runs `one` `count` times over `parallel` threads: the proxy's CPU time and the wall-clock time.
    fn measured(
        &self,
        count: usize,
        one: impl Fn(&Load) -> io::Result<()> + Copy + Send + 'static,
    ) -> io::Result<(Duration, Duration)> {
        let left = Arc::new(AtomicUsize::new(count));
        let (cpu, begun) = (cpu_of(self.pid)?, Instant::now());
        let threads: Vec<_> = (0..self.parallel)
            .map(|_| {
                let (load, left) = (self.clone(), Arc::clone(&left));
                thread::spawn(move || -> io::Result<()> {
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                        .is_ok()
                    {
                        one(&load)?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a thread panicked"))??;
        }
        Ok((cpu_of(self.pid)?.saturating_sub(cpu), begun.elapsed()))
    }

    fn bulk(&self) -> io::Result<()> {
        let each = self.mib * 1024 * 1024 / self.parallel as u64;
        let down = self.down;
        let (cpu, wall) = self.measured(self.parallel, move |load| {
            let mut stream = load.open()?;
            stream.write_all(&each.to_be_bytes())?;
            let mut block = vec![7; 256 * 1024];
            let mut left = each;
            while left > 0 {
                let part = left.min(block.len() as u64) as usize;
                if down {
                    stream.read_exact(&mut block[..part])?;
                } else {
                    stream.write_all(&block[..part])?;
                }
                left -= part as u64;
            }
            // The target reports when it has all bytes.
            stream.read_exact(&mut [0])
        })?;
        let gib = (each * self.parallel as u64) as f64 / f64::from(1 << 30);
        println!(
            "bulk cpu_s_per_gib={:.3} mib_per_second={:.0}",
            cpu.as_secs_f64() / gib,
            gib * 1024.0 / wall.as_secs_f64()
        );
        Ok(())
    }

    fn trips(&self) -> io::Result<()> {
        let mut stream = self.open()?;
        let mut trips = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let begun = Instant::now();
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])?;
            trips.push(begun.elapsed());
        }
        tell("trips", trips);
        Ok(())
    }

    fn setups(&self) -> io::Result<()> {
        let mut setups = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let mut stream = self.connect()?;
            let begun = Instant::now();
            self.ask(&mut stream)?;
            setups.push(begun.elapsed());
        }
        tell("setups", setups);
        Ok(())
    }

    fn idle(&self) -> io::Result<()> {
        // A few tunnels first, so that what is allocated once is not counted for each tunnel.
        let warm: Vec<Stream> = (0..64).map(|_| self.used()).collect::<io::Result<_>>()?;
        let (memory, descriptors) = (resident(self.pid)?, open_descriptors(self.pid)?);
        let held: Vec<Stream> = (0..self.count).map(|_| self.used()).collect::<io::Result<_>>()?;
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

    /// A tunnel that has passed one byte each way.
    fn used(&self) -> io::Result<Stream> {
        let mut stream = self.open()?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    }
}

fn tell(mode: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
    println!("{mode} median_us={:.1} p99_us={:.1}", at(50), at(99));
}
