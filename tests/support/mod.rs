//! What every integration test needs: egressd as a process, a client that sends raw bytes, origins that record what
//! reached them.
//!
//! ```ignore
//! let origin = Origin::echo();
//! let proxy = Egressd::start(&config(&[&format!("tcp://127.0.0.1:{}", origin.port())]));
//! let mut tunnel = proxy.tunnel(&origin.address().to_string());
//! tunnel.send(b"ping");
//! assert_eq!(tunnel.read_exact(4), b"ping");
//! proxy.refuses("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 403, "host_not_allowed");
//! let ended = proxy.stop();
//! ```
//!
//! Everything blocks, on threads and without a runtime, so that a test reads from top to bottom; nothing blocks
//! longer than [`DEADLINE`]. A test asserts by panicking, and so does everything here: the failure is then printed
//! together with all that egressd wrote. Not here: the real programs (git, curl, nginx) of `tests/e2e`.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "compiled into every test target, and each uses its own part of it"
)]

mod egressd;
mod metrics;
mod names;
mod numbers;
mod origin;
mod record;
pub mod socks;
mod tls;
mod volume;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use self::egressd::{Egressd, Ended, Refused, command, config, run};
pub use self::metrics::Metrics;
pub use self::names::{Kind, Names, Question, Says};
pub use self::numbers::Numbers;
pub use self::origin::{Conversation, Origin, Seen, TlsConversation, head_of};
pub use self::record::Record;
pub use self::tls::{Authority, Issued, TlsStream, client_hello};
pub use self::volume::Volume;
pub use self::wire::{End, Reply, Wire};

/// The longest time that any wait of a test lasts. It is far more than is ever needed: on a busy machine a test must not
/// fail because it is slow, only because something does not happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `probe` gives a value; the panic at the deadline says that `what` did not happen.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", DEADLINE.as_secs());
        sleep(pause);
        // Most waits are short, and a few tests have hundreds of them.
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// A loopback address that nothing else uses, so that servers on fixed ports collide neither with each other nor with those
/// of another run.
pub fn own_loopback() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(64);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, NEXT.fetch_add(1, Ordering::Relaxed), high, low.clamp(1, 254))
}

/// Loopback, any free port.
pub fn any_port() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

/// A new directory, removed when dropped.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("egressd-test-").tempdir().expect("a temporary directory")
}

/// Reads a whole file as text.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Writes a whole file.
pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
