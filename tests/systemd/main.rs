//! Under a service manager: what it is told, and the sockets that it passes. The test is the manager.

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod manager;
mod restart;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use tempfile::TempDir;

use support::{Egressd, command, write};

/// What a manager gives to the program that it starts.
#[derive(Default)]
struct Given<'g> {
    /// The sockets, by their names.
    sockets: Vec<(&'g str, &'g dyn AsFd)>,
    /// More variables.
    variables: Vec<(&'g str, String)>,
}

/// Starts egressd on this configuration as a manager does: the sockets are descriptors 3, 4, …, and `LISTEN_PID` is its own.
fn start(directory: TempDir, yaml: &str, given: &Given<'_>) -> Egressd {
    let file = directory.path().join("egressd.yaml");
    write(&file, yaml);
    start_at(directory, &file, given)
}

/// The same with a configuration that is already there.
fn start_at(directory: TempDir, file: &Path, given: &Given<'_>) -> Egressd {
    // A descriptor that a child is to have is for a moment every child's.
    static ONE: Mutex<()> = Mutex::new(());
    const PASS: &str = r#"n=3
for fd in $0; do eval "exec $n<&$fd $fd<&-"; n=$((n + 1)); done
[ -n "$LISTEN_PID" ] || export LISTEN_PID=$$
exec "$1" run --config "$2""#;
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let passed: Vec<OwnedFd> = given
        .sockets
        .iter()
        .map(|(_, socket)| {
            // Above those that the shell moves them to.
            let copy = fcntl_dupfd_cloexec(socket, 200).expect("a descriptor");
            fcntl_setfd(&copy, FdFlags::empty()).expect("it is open");
            copy
        })
        .collect();
    let numbers: Vec<String> = passed.iter().map(|fd| number(fd).to_string()).collect();
    let names: Vec<&str> = given.sockets.iter().map(|(name, _)| *name).collect();
    let mut shell = Command::new("bash");
    shell.env_clear().args(["-c", PASS]).arg(numbers.join(" ")).arg(command().get_program()).arg(file);
    if !passed.is_empty() {
        shell.env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    }
    shell.envs(given.variables.iter().map(|(name, value)| (name, value)));
    let egressd = Egressd::spawn(directory, shell);
    drop((passed, one));
    egressd
}

fn number(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd as _;
    fd.as_raw_fd()
}
