//! egressd behind HAProxy, as behind an NLB that speaks the PROXY protocol: the client's address decides and is logged,
//! health checks pass and leave no record, and no other peer can claim a client's address.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::git_server::{GitServer, HELLO};
use crate::support::{Authority, DEADLINE, Egressd, Record, directory, own_loopback, read, until, write};
use crate::tool::{Daemon, Ran, isolate};
use crate::who::{curl, hello, start};

/// HAProxy with this configuration in `directory`, once it accepts at `address`.
pub(crate) fn haproxy(directory: &Path, configuration: &str, address: SocketAddr) -> Daemon {
    let file = directory.join("haproxy.cfg");
    write(&file, configuration);
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-db", "-f"]).arg(&file);
    isolate(&mut haproxy, directory);
    haproxy.stderr(std::fs::File::create(directory.join("haproxy.log")).expect("a file"));
    let mut haproxy = Daemon::start(&mut haproxy);
    until("HAProxy to accept", || {
        haproxy.assert_alive();
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
    });
    haproxy
}

/// HAProxy in front of egressd, like an NLB: it sends `send` to the listener with every connection and with its health
/// checks. One check connects to the listener by TCP, one asks the admin listener by HTTP. A third goes to a witness.
#[derive(Debug)]
struct Balancer {
    address: SocketAddr,
    witness: TcpListener,
    _haproxy: Daemon,
    directory: TempDir,
}

impl Balancer {
    fn start(proxy: &Egressd, send: &str) -> Self {
        let free = TcpListener::bind((own_loopback(), 0)).expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let witness = TcpListener::bind((own_loopback(), 0)).expect("a free port");
        let directory = directory();
        // `check-send-proxy` uses the version that `send` names.
        let server = |to: SocketAddr, more: &str| {
            format!(" server egressd {to} {send} check check-send-proxy inter 50ms {more}\n")
        };
        let asks = " option httpchk GET /healthz\n http-check expect status 200\n";
        let text = [
            format!("global\n stats socket {}\n", directory.path().join("stats").display()),
            "defaults\n mode tcp\n source 127.0.0.1\n".to_owned(),
            " timeout connect 5s\n timeout client 60s\n timeout server 60s\n".to_owned(),
            format!("listen by-tcp\n bind {address}\n") + &server(proxy.address(), ""),
            format!("backend by-http\n{asks}")
                + &server(proxy.address(), &format!("port {}", proxy.admin().port())),
            format!("backend seen\n{asks}") + &server(witness.local_addr().expect("bound"), ""),
        ];
        let haproxy = haproxy(directory.path(), &text.concat(), address);
        Balancer { address, witness, _haproxy: haproxy, directory }
    }

    /// What HAProxy logs about its servers: a failed check is a line with DOWN.
    fn log(&self) -> String {
        read(&self.directory.path().join("haproxy.log"))
    }

    /// The server of this backend as HAProxy sees it, and the result of its last check: `UP L7OK`.
    fn health(&self, backend: &str) -> String {
        let mut socket = UnixStream::connect(self.directory.path().join("stats")).expect("HAProxy's socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket.write_all(b"show stat\n").expect("asked");
        let mut table = String::new();
        socket.read_to_string(&mut table).expect("answered");
        let columns: Vec<&str> = table.lines().next().expect("a head").split(',').collect();
        let column = |name: &str| columns.iter().position(|column| *column == name).expect("is there");
        let line = table.lines().find(|line| line.starts_with(&format!("{backend},egressd,")));
        let fields: Vec<&str> = line.expect("the server's line").split(',').collect();
        // While a check is under way, a star stands before the result of the last one.
        let last = fields[column("check_status")].trim_start_matches("* ");
        format!("{} {last}", fields[column("status")])
    }

    /// The bytes that a health check sends.
    fn check(&self) -> Vec<u8> {
        let (mut stream, _) = self.witness.accept().expect("a check");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut said = Vec::new();
        let mut piece = [0; 1024];
        while !said.ends_with(b"\r\n\r\n") || said.len() < 16 {
            let read = stream.read(&mut piece).expect("what it says");
            assert!(read > 0, "left after {said:?}");
            said.extend_from_slice(&piece[..read]);
        }
        said
    }
}

#[test]
fn behind_a_balancer_the_client_decides_and_is_logged() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let (client, stranger) = (own_loopback(), own_loopback());
    let home = directory();
    write(&home.path().join("ca.pem"), authority.pem());
    // On its own connections the balancer names no client: LOCAL, or its own address.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /healthz ";
    for (send, check) in [("send-proxy-v2", &local[..]), ("send-proxy", b"PROXY TCP4 127.0.0.1 ")] {
        let keys = "proxy_protocol: {trusted: [127.0.0.1/32]}";
        let proxy = start(keys, &format!("{client}/32"), &origin, directory());
        let balancer = Balancer::start(&proxy, send);
        let by_balancer = |from: Ipv4Addr| {
            let mut curl = curl(home.path());
            curl.arg("--interface").arg(from.to_string());
            curl.arg("--proxy").arg(format!("http://{}", balancer.address)).arg(hello(&origin));
            Ran::of(&mut curl)
        };
        // Health checks come before and meanwhile; they appear only in the metric.
        let probes = || {
            let labels = [("listener", "proxy"), ("result", "probe")];
            proxy.metrics().count("egressd_connections_total", &labels)
        };
        until("health checks of the listener", || (probes() >= 5).then_some(()));
        until("the listener to be found well", || (balancer.health("by-tcp") == "UP L4OK").then_some(()));
        until("/healthz to be found well", || (balancer.health("by-http") == "UP L7OK").then_some(()));
        let said = balancer.check();
        assert!(said.starts_with(check), "{send}: {}", said.escape_ascii());
        assert!(proxy.records().is_empty(), "{:?}", proxy.records());

        let allowed = by_balancer(client);
        assert_eq!((allowed.code, &*allowed.stdout), (Some(0), HELLO), "{send}: {}", allowed.stderr);
        let refused = by_balancer(stranger);
        assert!(refused.stderr.contains("403"), "{send}: {}", refused.stderr);
        let of = |from: Ipv4Addr| {
            let from = format!("{from}:");
            move |record: &Record| record.text("client").starts_with(&from)
        };
        let denied = proxy.record(of(stranger));
        denied.assert_has(&json!({"event": "deny", "reason": "client_not_allowed", "status": 403}));
        let close = proxy.record(|record| record["event"] == "close" && of(client)(record));
        for record in [&denied, &close] {
            assert!(record.text("peer").starts_with("127.0.0.1:"), "{record:?}");
        }

        let checked = probes();
        until("more health checks", || (probes() > checked + 5).then_some(()));
        let log = balancer.log();
        assert!(!log.contains("by-tcp/egressd") && !log.contains("by-http/egressd"), "{send}: {log}");
        assert_eq!(
            (balancer.health("by-tcp"), balancer.health("by-http")),
            ("UP L4OK".into(), "UP L7OK".into())
        );
        assert_eq!(proxy.records().len(), 3, "one denial, one tunnel: {:?}", proxy.records());
    }
}

#[test]
fn a_connection_with_a_forged_header_is_closed() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let client = own_loopback();
    let home = directory();
    write(&home.path().join("ca.pem"), authority.pem());
    let proxy =
        start("proxy_protocol: {trusted: [127.0.0.1/32]}", &format!("{client}/32"), &origin, directory());
    // From an address that no balancer has, and from the balancer's address without a header.
    for (arguments, reason) in [
        (vec!["--haproxy-protocol", "--interface"], "peer_not_trusted"),
        (vec!["--interface"], "proxy_header_invalid"),
    ] {
        let from = if reason == "peer_not_trusted" { client } else { Ipv4Addr::LOCALHOST };
        let mut curl = curl(home.path());
        curl.args(arguments).arg(from.to_string());
        let ran = Ran::of(curl.arg(format!("http://{}/", proxy.address())));
        // At which of curl's steps the close arrives is random.
        assert!(ran.code != Some(0) && ran.stdout.is_empty(), "{ran:?}");
        let record = proxy.record(|record| record["reason"] == reason);
        assert!(record.text("peer").starts_with(&format!("{from}:")), "{record:?}");
        assert!(record["client"].is_null(), "{record:?}");
    }
}
