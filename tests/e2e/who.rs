//! Who asks, with the programs that ask: behind HAProxy as behind an NLB, through TLS with client certificates, with
//! passwords.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::git::User;
use crate::git_server::{GitServer, HELLO, HOST};
use crate::support::{Authority, Egressd, Record, config, directory, own_loopback, read, until, write};
use crate::tool::{Daemon, Ran, isolate, tool};

const PASSWORD: &str = "correct-horse-battery-staple";

/// egressd with these keys at its listener, in front of the origin; `networks` are the clients it is for. The files of
/// `prepare` are beside its configuration.
fn start(keys: &str, networks: &str, origin: &GitServer, files: TempDir) -> Egressd {
    let rule = format!("https://{HOST}{}", origin.port_suffix());
    let text = config(&[&rule]) + &format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", origin.address().ip());
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let admin = "admin: {address: 127.0.0.1:0}";
    let policy = "  - name: test\n";
    assert!([bare, admin, policy].iter().all(|part| text.contains(part)), "`config` looks otherwise now");
    let text = text
        .replace(bare, &format!("{{name: proxy, address: 127.0.0.1:0, {keys}}}"))
        .replace(admin, "admin: {address: 127.0.0.1:0, proxy_protocol: {trusted: [127.0.0.1/32]}}")
        .replace(policy, &format!("{policy}    clients: {{networks: [{networks}]}}\n"));
    Egressd::start_in(files, &text)
}

fn curl(home: &Path) -> Command {
    let mut curl = tool("curl", home);
    curl.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]).arg(home.join("ca.pem"));
    curl
}

fn hello(origin: &GitServer) -> String {
    format!("https://{HOST}{}/hello", origin.port_suffix())
}

/// HAProxy in front of egressd, as an NLB is: it sends `send` to the listener with every connection and with its health
/// checks, of which one looks at the listener and one asks the admin listener.
#[derive(Debug)]
struct Balancer {
    address: SocketAddr,
    _haproxy: Daemon,
    _directory: TempDir,
}

impl Balancer {
    fn start(proxy: &Egressd, send: &str) -> Self {
        let free = TcpListener::bind((own_loopback(), 0)).expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let directory = directory();
        let file = directory.path().join("haproxy.cfg");
        let (listener, admin) = (proxy.address(), proxy.admin());
        write(
            &file,
            format!(
                "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 listen by-tcp\n bind {address}\n source 127.0.0.1\n\
                 \x20server egressd {listener} {send} check check-{send} inter 50ms\n\
                 backend by-http\n source 127.0.0.1\n option httpchk GET /healthz\n http-check expect status 200\n\
                 \x20server egressd {listener} {send} check check-send-proxy port {} inter 50ms\n",
                admin.port()
            )
            .replace("check-send-proxy-v2", "check-send-proxy"),
        );
        let mut haproxy = Command::new("haproxy");
        haproxy.args(["-db", "-f"]).arg(&file);
        isolate(&mut haproxy, directory.path());
        haproxy.stderr(std::fs::File::create(directory.path().join("haproxy.log")).expect("a file"));
        let mut haproxy = Daemon::start(&mut haproxy);
        until("HAProxy to accept", || {
            haproxy.assert_alive();
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Balancer { address, _haproxy: haproxy, _directory: directory }
    }

    /// What HAProxy says of its servers: a check that fails is a line with DOWN.
    fn log(&self) -> String {
        read(&self._directory.path().join("haproxy.log"))
    }
}

#[test]
fn behind_a_balancer_the_client_decides_and_is_logged() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let (client, stranger) = (own_loopback(), own_loopback());
    let home = directory();
    write(&home.path().join("ca.pem"), authority.pem());
    for send in ["send-proxy-v2", "send-proxy"] {
        let keys = "proxy_protocol: {trusted: [127.0.0.1/32]}";
        let proxy = start(keys, &format!("{client}/32"), &origin, directory());
        let balancer = Balancer::start(&proxy, send);
        let by_balancer = |from: Ipv4Addr| {
            let mut curl = curl(home.path());
            curl.arg("--interface").arg(from.to_string());
            curl.arg("--proxy").arg(format!("http://{}", balancer.address)).arg(hello(&origin));
            Ran::of(&mut curl)
        };
        // Health checks come before and meanwhile, and leave no trace but in the metric.
        let probes = || {
            let labels = [("listener", "proxy"), ("result", "probe")];
            proxy.metrics().count("egressd_connections_total", &labels)
        };
        until("health checks of the listener", || (probes() >= 5).then_some(()));
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
        assert_eq!(balancer.log(), "", "{send}: no server went down");
        assert_eq!(proxy.records().len(), 3, "one denial, one tunnel: {:?}", proxy.records());
    }
}

#[test]
fn a_forged_header_is_closed() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let client = own_loopback();
    let home = directory();
    write(&home.path().join("ca.pem"), authority.pem());
    let proxy =
        start("proxy_protocol: {trusted: [127.0.0.1/32]}", &format!("{client}/32"), &origin, directory());
    // From an address that no balancer has, and from the balancer's without a header.
    for (arguments, reason) in [
        (vec!["--haproxy-protocol", "--interface"], "peer_not_trusted"),
        (vec!["--interface"], "proxy_header_invalid"),
    ] {
        let from = if reason == "peer_not_trusted" { client } else { Ipv4Addr::LOCALHOST };
        let mut curl = curl(home.path());
        curl.args(arguments).arg(from.to_string());
        let ran = Ran::of(curl.arg(format!("http://{}/", proxy.address())));
        // Which of curl's steps the close meets is chance.
        assert!(ran.code != Some(0) && ran.stdout.is_empty(), "{ran:?}");
        let record = proxy.record(|record| record["reason"] == reason);
        assert!(record.text("peer").starts_with(&format!("{from}:")), "{record:?}");
        assert!(record["client"].is_null(), "{record:?}");
    }
}

#[test]
fn git_pushes_through_a_listener_that_asks_for_a_password() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let user = User::new(&authority);
    let files = directory();
    let hash = bcrypt::hash(PASSWORD, 10).expect("a good cost");
    write(&files.path().join("users.htpasswd"), format!("gitaly:{hash}\n"));
    let keys = "basic_auth: {users_file: users.htpasswd}";
    let proxy = start(keys, "127.0.0.0/8", &origin, files);
    let source = user.repository("source", 1 << 20);
    origin.create("mirror");
    let url = origin.url("mirror");
    let push = |password: &str| {
        let mut git = user.git(&source);
        git.env("https_proxy", format!("http://gitaly:{password}@{}", proxy.address()));
        Ran::of(git.args(["push", "--mirror", &url]))
    };
    let pushed = push(PASSWORD);
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    // git asks without credentials first, on the same connection: that is no denial.
    let challenges = proxy.metrics().count("egressd_auth_challenges_total", &[]);
    assert!(challenges >= 1, "{challenges}");
    let accepted = [("listener", "proxy"), ("result", "accepted")];
    let tunnels = until("the tunnels to close", || {
        let records = proxy.records();
        let of = |event| records.iter().filter(|record| record["event"] == event).count();
        (of("open") > 0 && of("open") == of("close")).then_some(of("open") as u64)
    });
    assert_eq!(proxy.metrics().count("egressd_connections_total", &accepted), tunnels, "one a tunnel");
    for record in proxy.records() {
        assert!(["open", "close"].contains(&record.text("event")), "{record:?}");
        record.assert_has(&json!({"identity": "user:gitaly", "decision": "allow"}));
    }

    let refused = push("wrong");
    assert_eq!(refused.code, Some(128), "{}", refused.stderr);
    assert!(refused.stderr.contains("407"), "{}", refused.stderr);
    proxy
        .record(|record| record["reason"] == "auth_failed")
        .assert_has(&json!({"identity": null, "status": 407}));
    let ended = proxy.stop();
    let told = format!("{:?}{}", ended.records, ended.stderr);
    assert!(!told.contains(PASSWORD) && !told.contains(&hash), "{told}");
}

/// The files of a listener that asks for certificates, which are the client's to show: `home` gets its own.
fn certificates(authority: &Authority, home: &Path) -> TempDir {
    let files = directory();
    let own = authority.issue(&["127.0.0.1"]);
    write(&files.path().join("tls.crt"), &own.pem);
    write(&files.path().join("tls.key"), &own.key_pem);
    write(&files.path().join("ca.crt"), authority.pem());
    let client = authority.issue_client(7, "gitaly", Some("spiffe://corp/gitaly"));
    write(&home.join("client.crt"), &client.pem);
    write(&home.join("client.key"), &client.key_pem);
    write(&home.join("ca.pem"), authority.pem());
    files
}

const MUTUAL: &str = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt}";

#[test]
fn git_pushes_through_tls_with_a_certificate_of_its_own() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let user = User::new(&authority);
    let proxy = start(MUTUAL, "127.0.0.0/8", &origin, certificates(&authority, &user.path("")));
    let source = user.repository("source", 1 << 20);
    let stored = origin.create("mirror");
    let url = origin.url("mirror");
    let push = |certificate: bool| {
        let mut git = user.git(&source);
        let mut set = |key: &str, value: &str| {
            git.arg("-c").arg(format!("http.{key}={value}"));
        };
        set("proxy", &format!("https://{}", proxy.address()));
        set("proxySSLCAInfo", &user.path("ca.pem").display().to_string());
        if certificate {
            set("proxySSLCert", &user.path("client.crt").display().to_string());
            set("proxySSLKey", &user.path("client.key").display().to_string());
        }
        Ran::of(git.args(["push", "--mirror", &url]))
    };
    let pushed = push(true);
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    let refs = |repository: &Path| Ran::ok(user.git(repository).args(["for-each-ref"]));
    assert_eq!(refs(&source), refs(&stored));
    let record = proxy.record(|record| record["event"] == "close");
    record.assert_has(&json!({"identity": "spiffe://corp/gitaly", "decision": "allow"}));

    assert_eq!(push(false).code, Some(128));
    proxy.record(|record| record["reason"] == "client_certificate_invalid");
}

#[test]
fn curl_shows_its_certificate_to_the_proxy() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let home = directory();
    let proxy = start(MUTUAL, "127.0.0.0/8", &origin, certificates(&authority, home.path()));
    let file = |name: &str| home.path().join(name);
    let by_tls = |certificate: bool| {
        let mut curl = curl(home.path());
        curl.arg("--proxy").arg(format!("https://{}", proxy.address()));
        curl.arg("--proxy-cacert").arg(file("ca.pem"));
        if certificate {
            curl.arg("--proxy-cert").arg(file("client.crt")).arg("--proxy-key").arg(file("client.key"));
        }
        Ran::of(curl.arg(hello(&origin)))
    };
    let ran = by_tls(true);
    assert_eq!((ran.code, &*ran.stdout), (Some(0), HELLO), "{}", ran.stderr);
    proxy
        .record(|record| record["event"] == "close")
        .assert_has(&json!({"identity": "spiffe://corp/gitaly"}));
    assert_ne!(by_tls(false).code, Some(0));
    proxy.record(|record| record["reason"] == "client_certificate_invalid");
    // A proxy URL that says http:// is told so where the operator looks.
    let mut cleartext = curl(home.path());
    cleartext.arg("--proxy").arg(format!("http://{}", proxy.address())).arg(hello(&origin));
    assert_ne!(Ran::of(&mut cleartext).code, Some(0));
    until("the diagnostics", || {
        proxy.stderr().contains("its proxy URL must begin with https://").then_some(())
    });
}
