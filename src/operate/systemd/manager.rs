//! What the service manager is told: ready, reloading, stopping, alive, and a line of text for people (sd_notify(3)).
//!
//! Datagrams on the socket that `NOTIFY_SOCKET` names. Without that variable, nothing is sent. The text quotes no
//! file: every user of the machine may ask systemd for it. Not here: when the watchdog is told ([`super::watchdog`]).

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::state::in_force::InForce;
use crate::words::counted::counted;
use crate::words::quote::{quoted, shown};

/// A manager that does not read must not keep a reload or the end waiting.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest line of text, in characters: `systemctl status` shows one line.
const STATUS: usize = 300;

/// The service manager, or nobody: then nothing is sent. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct Manager(Option<Arc<Line>>);

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Held while a message is sent, so that messages come in the order of the stages.
    stage: Mutex<Stage>,
    /// It was logged that a message cannot be sent.
    failed: AtomicBool,
}

/// How far the program is. The manager must not hear of a reload before it is ready, nor after it stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Starting,
    Serving,
    /// It was told of a reload, whose end it waits for.
    Reloading,
    Stopping,
}

impl Manager {
    /// The one that `NOTIFY_SOCKET` names.
    ///
    /// # Errors
    /// The variable names no socket that can be written to; the text says so.
    pub fn from_environment() -> Result<Self, String> {
        match env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Manager::at(&name).map_err(|error| {
                format!(
                    "NOTIFY_SOCKET is {}, which cannot be used: {error}; the service manager is told nothing",
                    quoted(&name.to_string_lossy())
                )
            }),
            _ => Ok(Manager::default()),
        }
    }

    /// The one that listens at this path, or with `@` in front under this name (abstract, which is Linux' own).
    ///
    /// # Errors
    /// The name is of neither form, or too long.
    pub(super) fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it begins with neither / nor @")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        let (stage, failed) = (Mutex::new(Stage::Starting), AtomicBool::new(false));
        Ok(Manager(Some(Arc::new(Line { socket, address, stage, failed }))))
    }

    /// egressd serves, by this.
    pub(crate) fn ready(&self, now: &InForce) {
        self.tell(|stage| {
            *stage = Stage::Serving;
            Some(format!("READY=1\n{}", status(&in_force(now))))
        });
    }

    /// A reload begins.
    pub(crate) fn reloading(&self) {
        let message = |stage: &mut Stage| {
            let now = clock_gettime(ClockId::Monotonic);
            // A reload that was asked for after this moment is another one.
            let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
            let text = status("reading the configuration again");
            (*stage == Stage::Serving).then(|| {
                *stage = Stage::Reloading;
                format!("RELOADING=1\nMONOTONIC_USEC={micros}\n{text}")
            })
        };
        self.tell(message);
    }

    /// The reload is over, and this is in force.
    pub(crate) fn reloaded(&self, now: &InForce) {
        // One that began before egressd served was not told of.
        let message = |stage: &mut Stage| {
            (*stage == Stage::Reloading).then(|| {
                *stage = Stage::Serving;
                format!("READY=1\n{}", status(&in_force(now)))
            })
        };
        self.tell(message);
    }

    /// egressd drains, which takes `longest` at most: the manager waits for so long, whatever its own limit is.
    pub(crate) fn stopping(&self, longest: Duration, text: impl fmt::Display) {
        self.tell(|stage| {
            *stage = Stage::Stopping;
            let micros = longest.as_micros();
            Some(format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\n{}", status(&text.to_string())))
        });
    }

    /// egressd goes on draining: only the text is new.
    pub(crate) fn draining(&self, text: impl fmt::Display) {
        self.tell(|_| Some(status(&text.to_string())));
    }

    /// egressd cannot start, for this reason; the program ends.
    pub(crate) fn failed(&self, text: impl fmt::Display) {
        self.tell(|_| Some(status(&text.to_string())));
    }

    /// The program is alive.
    pub(crate) fn alive(&self) {
        self.tell(|_| Some("WATCHDOG=1".to_owned()));
    }

    fn tell(&self, message: impl FnOnce(&mut Stage) -> Option<String>) {
        let Some(line) = &self.0 else { return };
        let mut stage = line.stage();
        let Some(message) = message(&mut stage) else { return };
        if let Err(error) = line.socket.send_to_addr(message.as_bytes(), &line.address)
            && !line.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("cannot write to NOTIFY_SOCKET, so the service manager knows less: {error}");
        }
    }
}

impl Line {
    /// The stage is one word, so a panic leaves it whole.
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text as a line of a message: nothing in it can begin another one.
fn status(text: &str) -> String {
    let line: String = shown(text).chars().take(STATUS).collect();
    format!("STATUS={line}")
}

/// What is in force, and whether something newer was refused. The findings themselves are in the log, which not every user may read.
fn in_force(now: &InForce) -> String {
    let hash = now.config.hash.short();
    let errors = &now.last_reload.refused;
    match errors.first() {
        None => format!("configuration {hash} is in force"),
        Some(first) => {
            let place = format!("{}:{}:{}", first.file, first.line, first.column);
            let found = counted(errors.len(), "finding, at", "findings, the first at");
            format!(
                "configuration {hash} is in force; the changed one is refused: {found} {place}, which the log tells"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::config::{self, Finding, Position};
    use crate::state::in_force::Current;

    /// A manager, and the socket on which it hears.
    fn heard() -> (tempfile::TempDir, UnixDatagram, Manager) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        let manager = Manager::at(path.as_os_str()).expect("a path");
        (directory, socket, manager)
    }

    fn next(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    fn current() -> Current {
        let text = "policies: [{name: p, allow: [a.example]}]\n";
        let loaded = config::load_str("c.yaml", text, |_| Ok(Vec::new())).expect(text);
        Current::new(loaded.config, Timestamp::now())
    }

    #[test]
    fn a_reload_is_told_only_between_ready_and_stopping() {
        let (_directory, socket, manager) = heard();
        let current = current();
        let now = current.in_force();
        manager.reloading();
        manager.reloaded(&now);
        manager.ready(&now);
        manager.reloading();
        manager.reloaded(&now);
        manager.stopping(Duration::from_secs(2), "draining");
        manager.reloading();
        manager.reloaded(&now);
        manager.failed("the end");
        let ready = format!("READY=1\nSTATUS=configuration {} is in force", now.config.hash.short());
        assert_eq!(next(&socket), ready);
        let reloading = next(&socket);
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(next(&socket), ready);
        assert_eq!(next(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\nSTATUS=draining");
        assert_eq!(next(&socket), "STATUS=the end");
    }

    #[test]
    fn a_refused_reload_tells_where_and_not_what() {
        let (_directory, socket, manager) = heard();
        let current = current();
        let finding =
            Finding::error("dir/c.yaml".as_ref(), Position { line: 3, column: 7 }, "`s3cret` is no key");
        current.refuse([finding.clone(), finding].into(), Timestamp::now());
        manager.ready(&current.in_force());
        let told = next(&socket);
        assert!(
            told.ends_with(
                "the changed one is refused: 2 findings, the first at dir/c.yaml:3:7, which the log tells"
            ),
            "{told}"
        );
        assert!(!told.contains("s3cret"), "{told}");
    }

    #[test]
    fn no_text_begins_another_line() {
        let (_directory, socket, manager) = heard();
        manager.failed("cannot listen\nMAINPID=1\u{202e}");
        assert_eq!(next(&socket), "STATUS=cannot listen\\nMAINPID=1\\u{202e}");
        manager.failed("x".repeat(5_000));
        assert_eq!(next(&socket).len(), "STATUS=".len() + STATUS);
    }

    #[test]
    fn an_abstract_socket_is_written_to_as_well() {
        let name = format!("egressd-test-{}-{:?}", std::process::id(), std::thread::current().id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("bound");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        Manager::at(format!("@{name}").as_ref()).expect("a name").alive();
        assert_eq!(next(&socket), "WATCHDOG=1");
    }

    #[test]
    fn a_name_of_another_form_is_refused() {
        for name in ["relative/path", "vsock:2:1234", &format!("/{}", "x".repeat(200))] {
            assert!(Manager::at(name.as_ref()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_manager_that_has_gone_stops_nothing() {
        let (directory, socket, manager) = heard();
        drop((socket, directory));
        manager.ready(&current().in_force());
        manager.alive();
        Manager::default().alive();
    }
}
