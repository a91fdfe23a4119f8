//! Names looked up at a real DNS server, dnsmasq.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Egressd, Origin, config, directory, own_loopback, read, until};
use crate::tool::{Daemon, here, isolate};

/// dnsmasq that answers only what it is told to.
#[derive(Debug)]
pub(crate) struct Dnsmasq {
    _daemon: Daemon,
    directory: TempDir,
}

impl Dnsmasq {
    /// `hosts` are names and their addresses; every other name does not exist.
    pub(crate) fn start(
        launch: impl Fn(&str) -> Command,
        address: SocketAddr,
        hosts: &[(&str, &str)],
    ) -> Self {
        let directory = directory();
        let mut command = launch("dnsmasq");
        isolate(&mut command, directory.path());
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        // As whoever starts it: in a namespace of an unprivileged user there is nobody else to become.
        command.args(["--user=", "--group="]);
        command.args(["--bind-interfaces", "--log-queries", "--local-ttl=60", "--local=//", "--local=/#/"]);
        command.arg(format!("--listen-address={}", address.ip())).arg(format!("--port={}", address.port()));
        command.arg(format!("--log-facility={}", log(directory.path()).display()));
        command.arg(format!("--pid-file={}", directory.path().join("pid").display()));
        for (name, host) in hosts {
            command.arg(format!("--host-record={name},{host}"));
        }
        let mut daemon = Daemon::start(&mut command);
        until("dnsmasq to start", || {
            daemon.assert_alive();
            std::fs::read_to_string(log(directory.path())).ok()?.contains(" started, ").then_some(())
        });
        Dnsmasq { _daemon: daemon, directory }
    }

    /// Whether any query for a name with this in it has come.
    pub(crate) fn was_asked(&self, name: &str) -> bool {
        read(&log(self.directory.path())).lines().any(|line| line.contains("query[") && line.contains(name))
    }
}

fn log(directory: &Path) -> PathBuf {
    directory.join("queries.log")
}

#[test]
fn a_name_is_looked_up_only_once_it_is_allowed_and_its_address_checked() {
    let origin = Origin::echo();
    let server = SocketAddr::new(own_loopback().into(), 15353);
    let dns = Dnsmasq::start(
        here,
        server,
        &[
            ("good.example.com", "127.0.0.1"),
            ("inside.example.com", "10.1.2.3"),
            ("metadata.example.com", "169.254.169.254"),
        ],
    );
    let port = origin.port();
    let proxy = Egressd::start(
        &(config(&[&format!("tcp://*.example.com:{port}")]) + &format!("dns: {{servers: [\"{server}\"]}}\n")),
    );
    let connect = |name: &str| format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");

    let mut tunnel = proxy.tunnel(&format!("good.example.com:{port}"));
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    assert!(dns.was_asked("good.example.com"));
    let open = proxy.record(|r| r["event"] == "open");
    open.assert_has(
        &json!({"target": format!("good.example.com:{port}"), "upstream": format!("127.0.0.1:{port}")}),
    );

    for (name, status, reason) in [
        ("absent.example.com", 502, "dns_no_such_name"),
        // Opened by no `private`: the policy's covers loopback only.
        ("inside.example.com", 403, "address_prohibited"),
        ("metadata.example.com", 403, "address_prohibited"),
    ] {
        let refused = proxy.refuses(connect(name), status, reason);
        refused.record.assert_has(&json!({"target": format!("{name}:{port}"), "policy": "test"}));
        assert!(
            !refused.reply.body.contains("10.1.2.3"),
            "a client learns no inner address: {}",
            refused.reply.body
        );
        assert!(dns.was_asked(name));
    }

    // What is denied never reaches DNS: names cannot carry anything out.
    proxy.refuses(connect("secret.example.net"), 403, "host_not_allowed");
    assert!(!dns.was_asked("secret"));
    assert_eq!(origin.seen().len(), 1);
}
