//! A separate network for a test: a namespace with only loopback, addresses on it, and a resolv.conf.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{directory, until, write};
use crate::tool::{Daemon, Ran, isolate};

/// Globally reachable according to the IANA registry; here it is on the namespace's loopback interface.
pub(crate) const PUBLIC: Ipv4Addr = Ipv4Addr::new(52, 119, 196, 66);

/// The namespace; it exists as long as this value.
#[derive(Debug)]
pub(crate) struct Network {
    holder: Daemon,
    directory: TempDir,
}

impl Network {
    /// With [`PUBLIC`], and a resolv.conf that names a server at 127.0.0.1 and a search domain.
    pub(crate) fn new() -> Self {
        let public = format!("ip address add {PUBLIC}/32 dev lo");
        Network::with("nameserver 127.0.0.1\nsearch cluster.local\n", &public)
    }

    /// With this resolv.conf, and with what these shell commands set up once loopback is up. A test that needs namespaces fails
    /// if the machine forbids them.
    pub(crate) fn with(resolv_conf: &str, commands: &str) -> Self {
        if let Err(why) = allowed() {
            panic!("{why}");
        }
        let directory = directory();
        write(&directory.path().join("resolv.conf"), resolv_conf);
        let mut holder = unshare(directory.path());
        // What programs leave in /dev/shm, as Squid does, goes with the namespace.
        holder.args(["sh", "-ec"]).arg(format!(
            "ip link set lo up; mount -t tmpfs tmpfs /dev/shm; {commands}; \
             mount --bind \"$HOME/resolv.conf\" /etc/resolv.conf; touch \"$HOME/ready\"; exec sleep infinity"
        ));
        let mut holder = Daemon::start(&mut holder);
        until("the network namespace", || {
            holder.assert_alive();
            directory.path().join("ready").exists().then_some(())
        });
        Network { holder, directory }
    }

    /// A command for a program that will run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.pid().to_string()).args(["--net", "--mount"]);
        if is_user() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        isolate(&mut command, self.directory.path());
        command
    }

    /// The home of the programs inside.
    pub(crate) fn home(&self) -> &Path {
        self.directory.path()
    }
}

/// Whether the machine allows us to create namespaces, and if not, why.
pub(crate) fn allowed() -> Result<(), String> {
    let directory = directory();
    let tried = Ran::of(unshare(directory.path()).arg("true"));
    if tried.code == Some(0) {
        return Ok(());
    }
    Err(format!(
        "this test needs network namespaces, which this machine does not allow (a container without CAP_SYS_ADMIN?): {}",
        tried.stderr
    ))
}

/// A command that creates the namespaces and runs the program given as its argument: as root, or as a user who is root
/// inside.
pub(crate) fn unshare(home: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]).args(is_user().then_some("--map-root-user"));
    isolate(&mut command, home);
    command
}

pub(crate) fn is_user() -> bool {
    !rustix::process::geteuid().is_root()
}
