//! A network of the test's own: a namespace with nothing but loopback, addresses on it, and a resolv.conf.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{directory, until, write};
use crate::tool::{Daemon, isolate};

/// Globally reachable by the registry, and here on the namespace's loopback interface.
pub(crate) const PUBLIC: Ipv4Addr = Ipv4Addr::new(52, 119, 196, 66);

/// The namespace; it lives as long as this.
#[derive(Debug)]
pub(crate) struct Network {
    holder: Daemon,
    directory: TempDir,
    as_user: bool,
}

impl Network {
    /// With [`PUBLIC`], and a resolv.conf that names a server at 127.0.0.1 and a search domain. None where the machine
    /// forbids namespaces: in a container without CAP_SYS_ADMIN, say. `tests/run` tells so.
    pub(crate) fn new() -> Option<Self> {
        let public = format!("ip address add {PUBLIC}/32 dev lo");
        Network::with("nameserver 127.0.0.1\nsearch cluster.local\n", &public)
    }

    /// With this resolv.conf, and with whatever these commands of a shell set up once loopback is up.
    pub(crate) fn with(resolv_conf: &str, commands: &str) -> Option<Self> {
        let as_user = !rustix::process::geteuid().is_root();
        let unshare = |command: &mut Command| {
            command.args(["--net", "--mount"]);
            command.args(as_user.then_some("--map-root-user"));
        };
        let directory = directory();
        let mut probe = Command::new("unshare");
        unshare(&mut probe);
        isolate(&mut probe, directory.path());
        if !probe.arg("true").output().is_ok_and(|output| output.status.success()) {
            return None;
        }

        write(&directory.path().join("resolv.conf"), resolv_conf);
        let mut holder = Command::new("unshare");
        unshare(&mut holder);
        isolate(&mut holder, directory.path());
        holder.args(["sh", "-ec"]).arg(format!(
            "ip link set lo up; {commands}; \
             mount --bind \"$HOME/resolv.conf\" /etc/resolv.conf; touch \"$HOME/ready\"; exec sleep infinity"
        ));
        let mut holder = Daemon::start(&mut holder);
        until("the network namespace", || {
            holder.assert_alive();
            directory.path().join("ready").exists().then_some(())
        });
        Some(Network { holder, directory, as_user })
    }

    /// A program that will run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.pid().to_string()).args(["--net", "--mount"]);
        if self.as_user {
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
