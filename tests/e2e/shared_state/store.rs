//! Redis as a process: alone, with TLS, as a cluster, under Sentinel; and a wire to it that is slow.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Authority, directory, until, write};
use crate::tool::{Daemon, Ran, isolate};

/// What survives an end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    All,
    /// Nothing; but its clock can be set.
    Clock,
}

/// One server.
pub(super) struct Store {
    pub(super) address: SocketAddr,
    daemon: Option<Daemon>,
    directory: TempDir,
    kept: Kept,
    tls: bool,
    arguments: Vec<String>,
}

/// The file that says by how many seconds a clock is off.
const CLOCK: &str = "clock";

/// libfaketime and the allocator of Redis wait for each other, so clock.c does what is needed of it.
fn fake_time(command: &mut Command, home: &Path) {
    let library = home.join("clock.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg("tests/e2e/shared_state/clock.c");
    Ran::ok(&mut compile);
    command.env("LD_PRELOAD", library).env("CLOCK_OFFSET", home.join(CLOCK));
}

/// The clock of another program is off by so many seconds.
pub(super) fn set_clock(command: &mut Command, home: &Path, seconds: &str) {
    write(&home.join(CLOCK), format!("{seconds}\n"));
    fake_time(command, home);
}

fn free() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).expect("a free port")
}

impl Store {
    pub(super) fn start(kept: Kept) -> Self {
        Store::with(kept, directory(), false, &[])
    }

    /// With TLS alone, and a password for the user `default`.
    pub(super) fn start_with_tls(authority: &Authority, password: &str) -> Self {
        let directory = directory();
        let issued = authority.issue(&["127.0.0.1"]);
        write(&directory.path().join("tls.crt"), &issued.pem);
        write(&directory.path().join("tls.key"), &issued.key_pem);
        let arguments =
            ["--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key", "--tls-auth-clients", "no"];
        let mut store = Store::with(Kept::Nothing, directory, true, &arguments);
        store.set_password(password);
        store.restart();
        store
    }

    fn with(kept: Kept, directory: TempDir, tls: bool, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut store = Store { address: free(), daemon: None, directory, kept, tls, arguments };
        if kept == Kept::Clock {
            store.set_clock("+0");
        }
        store.start_again();
        store
    }

    pub(super) fn url(&self) -> String {
        format!("redis{}://{}/0", if self.tls { "s" } else { "" }, self.address)
    }

    /// Another password from the next start on.
    pub(super) fn set_password(&mut self, password: &str) {
        self.arguments.retain(|argument| argument != "--requirepass");
        let at = self.arguments.iter().position(|argument| ["one", "two"].contains(&&**argument));
        if let Some(at) = at {
            self.arguments.remove(at);
        }
        self.arguments.extend(["--requirepass".to_owned(), password.to_owned()]);
    }

    /// Its clock is off by so many seconds.
    pub(super) fn set_clock(&self, seconds: &str) {
        write(&self.directory.path().join(CLOCK), format!("{seconds}\n"));
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.daemon.as_ref().expect("it runs").signal(signal);
    }

    /// Kills it.
    pub(super) fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::KILL);
        }
    }

    pub(super) fn start_again(&mut self) {
        let mut redis = Command::new("redis-server");
        isolate(&mut redis, self.directory.path());
        if self.kept == Kept::Clock {
            fake_time(&mut redis, self.directory.path());
        }
        let port = self.address.port().to_string();
        let (plain, tls) = if self.tls { ("0", &*port) } else { (&*port, "0") };
        redis.args(["--bind", "127.0.0.1", "--port", plain, "--tls-port", tls, "--save", "", "--dir"]);
        redis.arg(self.directory.path());
        if self.kept == Kept::All {
            redis.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        redis.args(&self.arguments);
        self.daemon = Some(daemon(redis, &self.directory.path().join("redis.log")));
        if !self.tls {
            answers(self.address);
        } else {
            until("Redis to accept", || TcpStream::connect(self.address).ok());
        }
    }

    /// Kills it and starts it again.
    pub(super) fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// One command.
    pub(super) fn ask(&self, command: &[&str]) -> redis::Value {
        ask(self.address, command)
    }

    /// All bytes that its accounts count.
    pub(super) fn counted(&self) -> u64 {
        let keys: Vec<String> = list(&self.ask(&["KEYS", "egressd:*:*"]));
        let fields = keys.iter().flat_map(|key| {
            let all: Vec<String> = list(&self.ask(&["HGETALL", key]));
            all.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<Vec<_>>()
        });
        let steps = fields.filter(|(field, _)| field.starts_with(|c: char| c.is_ascii_digit()));
        steps.map(|(_, bytes)| bytes.parse::<u64>().expect("bytes")).sum()
    }

    /// Connections to it, this one too.
    pub(super) fn clients(&self) -> usize {
        match self.ask(&["CLIENT", "LIST"]) {
            redis::Value::BulkString(text) => String::from_utf8_lossy(&text).lines().count(),
            redis::Value::VerbatimString { text, .. } => text.lines().count(),
            other => panic!("{other:?}"),
        }
    }
}

fn daemon(mut command: Command, log: &Path) -> Daemon {
    let log = std::fs::File::options().append(true).create(true).open(log).expect("a file");
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    Daemon::start(&mut command)
}

fn ask(address: SocketAddr, command: &[&str]) -> redis::Value {
    try_ask(address, command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn try_ask(address: SocketAddr, command: &[&str]) -> redis::RedisResult<redis::Value> {
    let client = redis::Client::open(format!("redis://{address}/"))?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
    let mut asked = redis::cmd(command[0]);
    asked.arg(&command[1..]);
    asked.query(&mut connection)
}

fn answers(address: SocketAddr) {
    until("Redis to answer", || try_ask(address, &["PING"]).ok());
}

fn list(value: &redis::Value) -> Vec<String> {
    redis::from_redis_value_ref(value).expect("texts")
}

/// A master, its replica, and a Sentinel that watches them.
pub(super) struct Sentinel {
    address: SocketAddr,
    master: Store,
    _replica: Store,
    _sentinel: Daemon,
    _directory: TempDir,
}

impl Sentinel {
    pub(super) fn start() -> Self {
        let master = Store::start(Kept::Nothing);
        let (host, port) = (master.address.ip().to_string(), master.address.port().to_string());
        let replica = Store::with(Kept::Nothing, directory(), false, &["--replicaof", &host, &port]);
        until("the replica to follow", || {
            let told = match replica.ask(&["INFO", "replication"]) {
                redis::Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
                redis::Value::VerbatimString { text, .. } => text,
                other => panic!("{other:?}"),
            };
            told.contains("master_link_status:up").then_some(())
        });
        let (directory, address) = (directory(), free());
        let file = directory.path().join("sentinel.conf");
        write(
            &file,
            format!(
                "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor main {host} {port} 1\nsentinel down-after-milliseconds main 1000\n\
                 sentinel failover-timeout main 5000\n",
                address.port(),
                directory.path().display()
            ),
        );
        let mut sentinel = Command::new("redis-sentinel");
        isolate(&mut sentinel, directory.path());
        sentinel.arg(&file);
        let sentinel = daemon(sentinel, &directory.path().join("sentinel.log"));
        answers(address);
        until("Sentinel to know the replica", || {
            let told = ask(address, &["SENTINEL", "REPLICAS", "main"]);
            matches!(told, redis::Value::Array(all) if !all.is_empty()).then_some(())
        });
        Sentinel { address, master, _replica: replica, _sentinel: sentinel, _directory: directory }
    }

    pub(super) fn url(&self) -> String {
        format!("redis+sentinel://{}/main/0", self.address)
    }

    pub(super) fn kill_master(&mut self) {
        self.master.stop();
    }
}

/// Three nodes.
pub(super) struct Cluster {
    nodes: Vec<Store>,
}

impl Cluster {
    pub(super) fn start() -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let nodes: Vec<Store> = (0..3)
            .map(|_| Store::with(Kept::Nothing, directory(), false, &cluster_port(&arguments)))
            .collect();
        let mut create = Command::new("redis-cli");
        isolate(&mut create, nodes[0].directory.path());
        create.args(["--cluster", "create"]);
        create.args(nodes.iter().map(|node| node.address.to_string())).arg("--cluster-yes");
        Ran::ok(&mut create);
        for node in &nodes {
            until("the cluster to be whole", || {
                let told = match node.ask(&["CLUSTER", "INFO"]) {
                    redis::Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
                    redis::Value::VerbatimString { text, .. } => text,
                    other => panic!("{other:?}"),
                };
                told.contains("cluster_state:ok").then_some(())
            });
        }
        Cluster { nodes }
    }

    pub(super) fn url(&self) -> String {
        format!("redis+cluster://{},{}", self.nodes[0].address, self.nodes[1].address)
    }

    /// Accounts on all nodes.
    pub(super) fn accounts(&self) -> usize {
        self.nodes.iter().map(|node| list(&node.ask(&["KEYS", "egressd:*:*"])).len()).sum()
    }
}

/// The bus wants a port of its own: by default ten thousand above, which may be none.
fn cluster_port<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let port: &'static str = Box::leak(free().port().to_string().into_boxed_str());
    arguments.iter().copied().chain(["--cluster-port", port]).collect()
}

/// A wire to `address` on which everything takes so long in each direction.
pub(super) fn delayed(address: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let near = listener.local_addr().expect("bound");
    spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), Ok(far)) = (stream, TcpStream::connect(address)) else { continue };
            let copies = (stream.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
            slowly(stream, far, delay);
            slowly(copies.1, copies.0, delay);
        }
    });
    near
}

fn slowly(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (send, receive) = channel::<(Instant, Vec<u8>)>();
    spawn(move || {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            if send.send((Instant::now() + delay, piece[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    spawn(move || {
        for (due, bytes) in receive {
            sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
