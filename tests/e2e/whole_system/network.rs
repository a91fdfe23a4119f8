//! Hosts and the networks between them, in network namespaces.
//!
//! A network is a bridge in its own namespace. The bridge has no address, so that nothing is routed there. A host is another
//! namespace with a cable to one or two networks. The namespaces have no names in the file system: a process holds each of
//! them, and the namespace and everything inside end with that process when the test ends, however it ends.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::network::{allowed, is_user, unshare};
use crate::support::{directory, until, write};
use crate::tool::{Daemon, Ran, isolate};

/// The networks.
#[derive(Debug)]
pub(crate) struct Fabric {
    holder: Daemon,
    directory: TempDir,
}

impl Fabric {
    /// With these networks. The whole system cannot be tested without namespaces, so this fails if the machine forbids
    /// them.
    pub(crate) fn new(networks: &[&str]) -> Self {
        if let Err(why) = allowed() {
            panic!("{why}");
        }
        let directory = directory();
        let mut holder = unshare(directory.path());
        let bridges: String = networks
            .iter()
            .map(|name| format!("ip link add {name} type bridge; ip link set {name} up; "))
            .collect();
        holder.args(["sh", "-ec"]).arg(format!("{bridges} touch \"$HOME/ready\"; exec sleep infinity"));
        let mut holder = Daemon::start(&mut holder);
        until("the networks", || {
            holder.assert_alive();
            directory.path().join("ready").exists().then_some(())
        });
        Fabric { holder, directory }
    }

    /// A host, with a cable to each of these networks and its address there; the interface has the name of the network.
    /// `setup` is a shell script, for example for routes. A host forwards nothing unless `setup` turns this on.
    pub(crate) fn host(&self, name: &'static str, cables: &[(&'static str, &str)], setup: &str) -> Host {
        let directory = directory();
        let mut holder = self.command("unshare");
        holder.env("HOME", directory.path()).args(["--net", "--mount", "--uts", "sh", "-ec"]);
        holder.arg(format!("hostname {name}; touch \"$HOME/ready\"; exec sleep infinity"));
        let mut holder = Daemon::start(&mut holder);
        until("a host", || {
            holder.assert_alive();
            directory.path().join("ready").exists().then_some(())
        });
        let host = Host { name, holder, directory };
        let pid = host.holder.pid();
        let (mut outside, mut inside) = (String::new(), "ip link set lo up\n".to_owned());
        inside += "echo 0 >/proc/sys/net/ipv4/ip_forward\n";
        for (network, address) in cables {
            outside += &format!(
                "ip link add {name}-{network} type veth peer name {network} netns {pid}\n\
                 ip link set {name}-{network} master {network} up\n"
            );
            inside += &format!("ip address add {address} dev {network}\nip link set {network} up\n");
        }
        Ran::ok(self.command("sh").args(["-ec", &outside]));
        Ran::ok(host.command("sh").args(["-ec", &(inside + setup)]));
        host
    }

    /// Takes a host's cable to a network down at the network's end, or up again.
    pub(crate) fn cable(&self, host: &Host, network: &str, state: &str) {
        Ran::ok(self.command("ip").args(["link", "set", &format!("{}-{network}", host.name), state]));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = enter(&self.holder, &["--net", "--mount"], program);
        isolate(&mut command, self.directory.path());
        command
    }
}

/// One host; it exists as long as this value.
#[derive(Debug)]
pub(crate) struct Host {
    name: &'static str,
    holder: Daemon,
    directory: TempDir,
}

impl Host {
    /// Its name, which is also its host name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A command for a program that will run on the host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = enter(&self.holder, &["--net", "--mount", "--uts"], program);
        isolate(&mut command, self.home());
        command
    }

    /// Runs curl on the host, quietly and with a deadline.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Ran {
        let mut curl = self.command("curl");
        Ran::of(curl.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments))
    }

    /// The home of the programs on the host.
    pub(crate) fn home(&self) -> &Path {
        self.directory.path()
    }

    /// Makes the host use this name server.
    pub(crate) fn resolve_by(&self, server: Ipv4Addr) {
        // As in a pod, where names are first tried under every search domain.
        let text =
            format!("nameserver {server}\nsearch egressd.svc.cluster.local cluster.local\noptions ndots:5\n");
        write(&self.home().join("resolv.conf"), text);
        Ran::ok(self.command("sh").args(["-ec", "mount --bind \"$HOME/resolv.conf\" /etc/resolv.conf"]));
    }

    /// TCP segments that have reached the host so far, whatever happened to them then.
    pub(crate) fn segments_received(&self) -> u64 {
        let table = Ran::ok(self.command("cat").arg("/proc/net/snmp"));
        let mut lines =
            table.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let (_, value) = names.zip(values).find(|(name, _)| *name == "InSegs").expect("InSegs");
        value.parse().expect("a number")
    }
}

fn enter(holder: &Daemon, namespaces: &[&str], program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("--target").arg(holder.pid().to_string()).args(namespaces);
    if is_user() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.arg("--").arg(program);
    command
}
