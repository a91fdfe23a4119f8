//! How much judging the open tunnels again delays the setup of other tunnels.
//!
//! `cargo bench --bench sweep` starts egressd, opens 10,000 tunnels or as many as the descriptors allow, and then opens one
//! more tunnel after another: in turn without reloads and with a reload every 100 ms that revokes nothing, and at the end
//! with one that revokes half. It prints the setup times of each phase (CONNECT sent to 200 read), and how long after the
//! swap of the file the last revoked tunnel ended. The budgets: a sweep delays no other setup by more than 20 ms, and a
//! revoked tunnel ends within a second.
//!
//! Both ends of every tunnel are in this process, so the limit of open descriptors allows half as many tunnels.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

const WANTED: u64 = 10_000;
const PHASE: Duration = Duration::from_secs(3);
const RELOAD_EVERY: Duration = Duration::from_millis(100);
/// How many phases at rest and with reloads, in turn: the machine may be busy with other things in one of them.
const ROUNDS: usize = 7;

fn main() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("egressd.yaml");
    let (kept, gone) = (target()?, target()?);
    put(&file, &configuration(0, &[kept, gone]))?;
    let egressd = Egressd::start(&file, directory.path().join("log"))?;
    let held = hold(egressd.address, kept, gone)?;
    println!("{} tunnels open", held.len());

    let mut comment = 0;
    let (mut rests, mut sweeps) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let rest = setups(egressd.address, kept, || Ok(()))?;
        let swept = setups(egressd.address, kept, || {
            comment += 1;
            put(&file, &configuration(comment, &[kept, gone]))
        })?;
        tell("at rest", &rest);
        tell("reloaded, none revoked", &swept);
        rests.push(worst(&rest));
        sweeps.push(worst(&swept));
    }
    let later = median(sweeps).saturating_sub(median(rests));
    let quiet =
        verdict("worst setup later than at rest (median of the rounds)", later, Duration::from_millis(20));

    let mut swapped = None;
    let revoking = setups(egressd.address, kept, || {
        if swapped.is_none() {
            put(&file, &configuration(comment + 1, &[kept]))?;
            swapped = Some(Timestamp::now());
        }
        Ok(())
    })?;
    tell("half of them revoked", &revoking);
    let swapped = swapped.ok_or_else(|| io::Error::other("the phase ended before its reload"))?;
    let ended = egressd.revoked()?;
    println!("{} tunnels ended with policy_revoked", ended.len());
    let last = ended.iter().max().ok_or_else(|| io::Error::other("no tunnel was revoked"))?;
    let last = Duration::try_from(last.duration_since(swapped)).map_err(io::Error::other)?;
    let prompt = verdict("the last of them, after the swap of the file", last, Duration::from_secs(1));
    drop(held);
    if !(quiet && prompt) {
        exit(1);
    }
    Ok(())
}

/// A target that accepts connections and says nothing: its port. The connections stay open as long as this process.
fn target() -> io::Result<u16> {
    // std's backlog of 128 is soon full if this thread has to wait for a processor, and a SYN that is then dropped is sent
    // again only after a second.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(4096)?;
    let listener = TcpListener::from(listener);
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        let mut taken: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming().flatten() {
            if taken.len().is_multiple_of(512) {
                // Connections that were reset remain here only as descriptors.
                taken.retain(|stream| stream.take_error().is_ok_and(|error| error.is_none()));
            }
            taken.push(stream);
        }
    });
    Ok(port)
}

fn configuration(comment: usize, ports: &[u16]) -> String {
    let rules: Vec<String> = ports.iter().map(|port| format!("\"tcp://127.0.0.1:{port}\"")).collect();
    format!(
        "# {comment}\n\
         listeners: [{{name: proxy, address: 127.0.0.1:0}}]\n\
         admin: {{address: 127.0.0.1:0}}\n\
         policies: [{{name: bench, private: [127.0.0.0/8], allow: [{}]}}]\n\
         limits: {{tunnels_per_client: 10000, requests_per_second_per_client: 1000000}}\n",
        rules.join(", ")
    )
}

/// Replaces the file in one step, as the kubelet does.
fn put(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, file)
}

struct Egressd {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Egressd {
    fn start(file: &Path, log: PathBuf) -> io::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_egressd"))
            .args(["run", "--config"])
            .arg(file)
            .stdout(File::create(&log)?)
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("stderr is piped"))?;
        let mut lines = BufReader::new(stderr).lines();
        let mut address = None;
        while let (None, Some(line)) = (address, lines.next().transpose()?) {
            let told = line.split_once("listening on ").and_then(|(_, rest)| rest.split(' ').next());
            address = told.and_then(|told| told.parse().ok());
        }
        let address = address.ok_or_else(|| io::Error::other("egressd did not start"))?;
        thread::spawn(move || lines.for_each(drop));
        Ok(Egressd { child, address, log })
    }

    /// When each revoked tunnel ended.
    fn revoked(&self) -> io::Result<Vec<Timestamp>> {
        let text = fs::read_to_string(&self.log)?;
        let revoked = text.lines().filter(|line| line.contains(r#""ending":"policy_revoked""#));
        let time = |line: &str| line.split_once(r#""time":""#)?.1.split('"').next()?.parse().ok();
        Ok(revoked.filter_map(time).collect())
    }
}

impl Drop for Egressd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As many tunnels as fit, alternately to the two targets.
fn hold(proxy: SocketAddr, kept: u16, gone: u16) -> io::Result<Vec<TcpStream>> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    // Two descriptors for each tunnel here and two in egressd; the rest is for short-lived ones.
    let carried = limit.maximum.map_or(WANTED, |descriptors| descriptors.saturating_sub(3_000) / 2);
    (0..WANTED.min(carried)).map(|n| open(proxy, if n % 2 == 0 { kept } else { gone })).collect()
}

fn open(proxy: SocketAddr, port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&proxy, Duration::from_secs(30))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    let mut reply = [0; 512];
    let length = stream.read(&mut reply)?;
    if reply[..length].starts_with(b"HTTP/1.1 200") {
        Ok(stream)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&reply[..length]).into_owned()))
    }
}

/// Opens and closes one tunnel after another for [`PHASE`], while `meanwhile` runs at the interval of the reloads.
fn setups(
    proxy: SocketAddr,
    port: u16,
    mut meanwhile: impl FnMut() -> io::Result<()> + Send,
) -> io::Result<Vec<Duration>> {
    let end = Instant::now() + PHASE;
    thread::scope(|scope| {
        let reloading = scope.spawn(move || {
            while Instant::now() + RELOAD_EVERY < end {
                thread::sleep(RELOAD_EVERY);
                meanwhile()?;
            }
            io::Result::Ok(())
        });
        let mut setups = Vec::new();
        while Instant::now() < end {
            let begun = Instant::now();
            let stream = open(proxy, port)?;
            setups.push(begun.elapsed());
            // Reset, so that nothing of it remains: the target does not answer a FIN.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        reloading.join().map_err(|_| io::Error::other("a thread panicked"))??;
        setups.sort_unstable();
        Ok(setups)
    })
}

fn tell(phase: &str, setups: &[Duration]) {
    let at = |per_mille: usize| setups[(setups.len() - 1) * per_mille / 1000];
    let (median, high, worst) = (at(500), at(990), at(1000));
    println!(
        "{phase:<24} {:>6} setups, median {median:>9.1?}, p99 {high:>9.1?}, worst {worst:>9.1?}",
        setups.len()
    );
}

/// The values must be sorted.
fn worst(setups: &[Duration]) -> Duration {
    setups.last().copied().unwrap_or_default()
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

fn verdict(what: &str, measured: Duration, budget: Duration) -> bool {
    let within = measured <= budget;
    println!("{what}: {measured:.1?}, budget {budget:?}: {}", if within { "PASS" } else { "MISS" });
    within
}
