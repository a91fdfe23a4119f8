//! Name resolution with a real DNS server, dnsmasq.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Egressd, Origin, config, directory, own_loopback, read, run, until, write};
use crate::tool::{Daemon, here, isolate};

/// A dnsmasq that knows only the names that the test gives it.
#[derive(Debug)]
pub(crate) struct Dnsmasq {
    daemon: Daemon,
    directory: TempDir,
}

impl Dnsmasq {
    /// `hosts` are names and their addresses, for 60 s; every other name does not exist.
    pub(crate) fn start(
        launch: impl Fn(&str) -> Command,
        address: SocketAddr,
        hosts: &[(&str, &str)],
    ) -> Self {
        let records = hosts.iter().map(|(name, host)| format!("--host-record={name},{host}"));
        Dnsmasq::with(launch, address, &records.chain(["--local-ttl=60".to_owned()]).collect::<Vec<_>>())
    }

    /// The same with these additional arguments, and with the file of [`Dnsmasq::now_says`].
    pub(crate) fn with(launch: impl Fn(&str) -> Command, address: SocketAddr, arguments: &[String]) -> Self {
        let directory = directory();
        let mut command = launch("dnsmasq");
        isolate(&mut command, directory.path());
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        // As the user that starts it: the namespace of an unprivileged user has no other user to switch to.
        command.args(["--user=", "--group="]);
        command.args(["--bind-interfaces", "--log-queries", "--local=//", "--local=/#/"]);
        command.arg(format!("--listen-address={}", address.ip())).arg(format!("--port={}", address.port()));
        command.arg(format!("--log-facility={}", log(directory.path()).display()));
        command.arg(format!("--pid-file={}", directory.path().join("pid").display()));
        write(&hosts_file(directory.path()), "");
        command.arg(format!("--addn-hosts={}", hosts_file(directory.path()).display()));
        command.args(arguments);
        let mut daemon = Daemon::start(&mut command);
        until("dnsmasq to start", || {
            daemon.assert_alive();
            std::fs::read_to_string(log(directory.path())).ok()?.contains(" started, ").then_some(())
        });
        Dnsmasq { daemon, directory }
    }

    /// Whether any query came for a name that contains this.
    pub(crate) fn was_asked(&self, name: &str) -> bool {
        self.asked().iter().any(|asked| asked.contains(name))
    }

    /// Every query that came, as `TYPE NAME`, sorted.
    pub(crate) fn asked(&self) -> Vec<String> {
        let log = read(&log(self.directory.path()));
        // `Nov 25 20:33:00 dnsmasq[4711]: query[AAAA] NAME from 127.0.0.1`
        let query = |line: &str| {
            let (kind, rest) = line.split_once("query[")?.1.split_once("] ")?;
            Some(format!("{kind} {}", rest.split_once(" from ")?.0))
        };
        let mut asked: Vec<String> = log.lines().filter_map(query).collect();
        asked.sort();
        asked
    }

    /// Replaces the hosts given so far by these, in the form of /etc/hosts, and waits until they are read.
    fn now_says(&self, hosts: &str) {
        let reads = || {
            let log = read(&log(self.directory.path()));
            log.lines().filter(|line| line.contains("read ") && line.contains("/hosts.now")).count()
        };
        let before = reads();
        write(&hosts_file(self.directory.path()), hosts);
        self.daemon.signal(Signal::HUP);
        until("dnsmasq to read its hosts again", || (reads() > before).then_some(()));
    }
}

fn log(directory: &Path) -> PathBuf {
    directory.join("queries.log")
}

fn hosts_file(directory: &Path) -> PathBuf {
    directory.join("hosts.now")
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
        // No `private` opens it: the policy's `private` covers only loopback.
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

    // `explain` says the same of each, by the same resolver.
    let file = proxy.file("egressd.yaml");
    for (name, reason, why) in [
        ("absent.example.com", "dns_no_such_name", "no such name"),
        ("inside.example.com", "address_prohibited", "10.1.2.3 may not be dialled: Private-Use (RFC 1918)"),
        (
            "metadata.example.com",
            "address_prohibited",
            "169.254.169.254 may not be dialled: credential endpoint",
        ),
    ] {
        let file = file.to_str().expect("UTF-8");
        let told = run(&["explain", &format!("{name}:{port}"), "--config", file, "--resolve"]);
        let said = String::from_utf8_lossy(&told.stdout);
        assert_eq!(told.status.code(), Some(1), "{said}");
        assert!(said.starts_with(&format!("denied: {name}:{port}: {reason}\n")), "{said}");
        assert!(said.contains(why), "{said}");
    }

    // A denied name never reaches DNS: so data cannot leave in names.
    proxy.refuses(connect("secret.example.net"), 403, "host_not_allowed");
    assert!(!dns.was_asked("secret"));
    assert_eq!(origin.seen().len(), 1);
}

/// An answer is cached for its TTL and no longer, and the address of each answer is checked by itself: the owner of the zone
/// cannot have the first answer checked and the second one dialled.
#[test]
fn t36_a_name_that_changes_to_an_internal_address_is_refused_from_then_on() {
    let origin = Origin::echo();
    let server = SocketAddr::new(own_loopback().into(), 15353);
    // A TTL of 0: each request asks again.
    let dns = Dnsmasq::with(here, server, &["--local-ttl=0".to_owned()]);
    let port = origin.port();
    let proxy = Egressd::start(
        &(config(&[&format!("tcp://moving.example.com:{port}")])
            + &format!("dns: {{servers: [\"{server}\"]}}\n")),
    );
    let authority = format!("moving.example.com:{port}");
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    // Both families have an address each time: a missing family would be cached for a while, even with a TTL of 0.
    for [v4, v6] in [
        ["10.1.2.3", "fd00::1"],
        ["169.254.169.254", "fd00:ec2::254"],
        ["169.254.170.2", "::ffff:169.254.170.2"],
        ["0.0.0.0", "64:ff9b::a9fe:a9fe"],
    ] {
        dns.now_says("127.0.0.1 moving.example.com\n::1 moving.example.com\n");
        let mut tunnel = proxy.tunnel(&authority);
        dns.now_says(&format!("{v4} moving.example.com\n{v6} moving.example.com\n"));
        proxy.refuses(&connect, 403, "address_prohibited");
        // The tunnel that was opened to the checked address stays open.
        tunnel.send("ping");
        assert_eq!(tunnel.read_exact(4), b"ping");
    }
    // Eight requests; each asked once for each family, and for no other name.
    let mut expected = ["A moving.example.com"; 8].to_vec();
    expected.extend(["AAAA moving.example.com"; 8]);
    assert_eq!(dns.asked(), expected);
    assert_eq!(origin.seen().len(), 4);
}

#[test]
fn aliases_and_large_answers_of_a_real_server() {
    let origin = Origin::echo();
    let server = SocketAddr::new(own_loopback().into(), 15353);
    let port = origin.port();
    let mut arguments = vec!["--local-ttl=60".to_owned()];
    // 16 bytes a record: 60 of them fit into one datagram; 200 do not, and egressd asks again over TCP.
    for (name, count) in [("sixty", 60), ("two-hundred", 200)] {
        arguments
            .extend((1..=count).map(|n| format!("--host-record={name}.example.com,127.0.{}.1", n % 256)));
    }
    arguments.push("--host-record=internal.example.net,10.1.2.3".to_owned());
    arguments.push("--cname=alias.example.com,internal.example.net".to_owned());
    let dns = Dnsmasq::with(here, server, &arguments);
    let proxy = Egressd::start(
        &(config(&[&format!("tcp://*.example.com:{port}")])
            + &format!("dns: {{servers: [\"{server}\"]}}\n")
            // Nothing listens at most of these addresses.
            + "tunnel: {connect_timeout: 20s}\n"),
    );
    // The rule is for the requested name; the address of its alias is checked like any other.
    let alias = format!("alias.example.com:{port}");
    let refused = proxy.refuses(
        format!("CONNECT {alias} HTTP/1.1\r\nHost: {alias}\r\n\r\n"),
        403,
        "address_prohibited",
    );
    assert!(
        !refused.reply.body.contains("internal"),
        "a client learns no inner name: {}",
        refused.reply.body
    );
    for name in ["sixty", "two-hundred"] {
        let authority = format!("{name}.example.com:{port}");
        let refused = proxy.refuses(
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
            502,
            "connect_refused",
        );
        let upstream =
            refused.record["upstream"].as_str().expect("the address that was tried last").to_owned();
        assert!(upstream.starts_with("127.0."), "{upstream}");
    }
    let once = |name: &str| {
        let asked = dns.asked();
        let of =
            |kind: &str| asked.iter().filter(|asked| **asked == format!("{kind} {name}.example.com")).count();
        (of("A"), of("AAAA"))
    };
    assert_eq!((once("alias"), once("sixty")), ((1, 1), (1, 1)));
    // The question whose answer was truncated, and the same one over TCP.
    assert_eq!(once("two-hundred"), (2, 1));
}
