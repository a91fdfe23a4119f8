//! Many clients that upload through HAProxy, and the target that counts what arrives.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::balancer::haproxy;
use crate::support::{Egressd, directory, until};
use crate::tool::Daemon;

/// Clients at once.
const CLIENTS: usize = 200;
/// What each sends in one tunnel.
const UPLOAD: usize = 256 * 1024;
/// A store that is slow or settles makes everything slow.
const PATIENCE: Duration = Duration::from_secs(240);

/// A target that counts.
pub(super) struct Sink {
    pub(super) address: SocketAddr,
    arrived: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
}

impl Sink {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (arrived, open) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counts, holds) = (Arc::clone(&arrived), Arc::clone(&open));
        spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (counts, holds) = (Arc::clone(&counts), Arc::clone(&holds));
                holds.fetch_add(1, Ordering::SeqCst);
                spawn(move || {
                    let mut piece = vec![0; 64 * 1024];
                    while let Ok(count @ 1..) = stream.read(&mut piece) {
                        counts.fetch_add(count as u64, Ordering::SeqCst);
                    }
                    holds.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Sink { address, arrived, open }
    }

    /// Bytes so far.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::SeqCst)
    }
}

/// Clients that upload until they are stopped.
pub(super) struct Load<'s> {
    sink: &'s Sink,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    _haproxy: Daemon,
    _directory: TempDir,
}

impl<'s> Load<'s> {
    /// Through HAProxy in front of these replicas.
    pub(super) fn start(replicas: &[Egressd], sink: &'s Sink) -> Self {
        let (haproxy, address, directory) = balancer(replicas);
        let stop = Arc::new(AtomicBool::new(false));
        let target = sink.address;
        let client = |stop: Arc<AtomicBool>| {
            move || {
                while !stop.load(Ordering::SeqCst) {
                    // Whether it was refused or cut, another one comes.
                    if upload(address, target).is_none() {
                        sleep(Duration::from_secs(1));
                    }
                }
                // Once more, when all is spent.
                upload(address, target);
            }
        };
        let clients = (0..CLIENTS).map(|_| spawn(client(Arc::clone(&stop)))).collect();
        Load { sink, stop, clients, _haproxy: haproxy, _directory: directory }
    }

    /// Waits until so much has arrived.
    pub(super) fn until_arrived(&self, bytes: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.sink.arrived() < bytes {
            assert!(Instant::now() < deadline, "{} bytes arrived, not {bytes}", self.sink.arrived());
            sleep(Duration::from_millis(20));
        }
    }

    /// The same, and then every client once more.
    pub(super) fn until_spent(self, bytes: u64) {
        self.until_arrived(bytes);
        self.stop();
    }

    /// Ends all clients, and waits until everything that is under way has arrived.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("a client");
        }
        until("the tunnels to end", || (self.sink.open.load(Ordering::SeqCst) == 0).then_some(()));
    }
}

/// One tunnel, and as much as it takes. `None`: it was refused.
fn upload(proxy: SocketAddr, target: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(proxy).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").ok()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        return None;
    }
    stream.write_all(&[7; UPLOAD]).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut end = Vec::new();
    let _ = stream.read_to_end(&mut end);
    Some(())
}

fn balancer(replicas: &[Egressd]) -> (Daemon, SocketAddr, TempDir) {
    let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let directory = directory();
    let mut text = format!(
        "global\n maxconn 4000\ndefaults\n mode tcp\n option redispatch\n retries 3\n timeout connect 5s\n timeout client 200s\n \
         timeout server 200s\nlisten proxy\n bind {address}\n balance roundrobin\n"
    );
    for (number, replica) in replicas.iter().enumerate() {
        text += &format!(" server r{number} {} check inter 200ms fall 1\n", replica.address());
    }
    let haproxy = haproxy(directory.path(), &text, address);
    (haproxy, address, directory)
}
