//! `egressd doctor` on a client's machine, against egressd behind HAProxy as behind an NLB, a balancer that hides its
//! clients, a Squid, and an address where nothing listens.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::git_server::{GitServer, HOST};
use crate::support::{Authority, Egressd, command, config, directory, own_loopback, until, write};
use crate::tool::{Daemon, Ran, isolate};

/// egressd with these keys at its listener, with a rule for the origin.
fn egressd(keys: &str, mode: &str, origin: &GitServer) -> Egressd {
    egressd_in(directory(), keys, mode, origin)
}

/// The same with the files of this directory next to its configuration.
fn egressd_in(files: TempDir, keys: &str, mode: &str, origin: &GitServer) -> Egressd {
    let rule = format!("https://{HOST}{}", origin.port_suffix());
    let text = config(&[&rule]) + &format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", origin.address().ip());
    let text = text
        .replace(
            "{name: proxy, address: 127.0.0.1:0}",
            &format!("{{name: proxy, address: 127.0.0.1:0, {keys}}}"),
        )
        .replace("  - name: test\n", &format!("  - name: test\n    mode: {mode}\n"));
    Egressd::start_in(files, &text)
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((own_loopback(), 0)).and_then(|free| free.local_addr()).expect("a free port")
}

/// HAProxy in front of egressd.
struct Balancer {
    address: SocketAddr,
    _haproxy: Daemon,
    _directory: TempDir,
}

impl Balancer {
    fn start(proxy: &Egressd, send: &str) -> Self {
        let (address, directory) = (free_address(), directory());
        let file = directory.path().join("haproxy.cfg");
        write(
            &file,
            format!(
                "defaults\n mode tcp\n source 127.0.0.1\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 listen proxy\n bind {address}\n server egressd {} {send}\n",
                proxy.address()
            ),
        );
        let mut haproxy = Command::new("haproxy");
        haproxy.args(["-db", "-f"]).arg(&file);
        isolate(&mut haproxy, directory.path());
        let mut haproxy = Daemon::start(&mut haproxy);
        until("HAProxy to accept", || {
            haproxy.assert_alive();
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Balancer { address, _haproxy: haproxy, _directory: directory }
    }
}

/// Runs `egressd doctor` through `via`; [`line`] picks one of its lines.
fn doctor(via: impl std::fmt::Display, origin: &GitServer, more: &[&str]) -> Ran {
    let allowed = origin.authority();
    Ran::of(
        command()
            .args([
                "doctor",
                "--via",
                &format!("http://{via}"),
                "--allowed",
                &allowed,
                "--denied",
                "denied.example",
            ])
            .args(more),
    )
}

fn line<'r>(ran: &'r Ran, what: &str) -> &'r str {
    let mut lines = ran.stdout.lines().filter(|line| line.split_whitespace().nth(1) == Some(what));
    lines.next().unwrap_or_else(|| panic!("no line for {what}: {ran:?}"))
}

#[test]
fn behind_a_balancer_with_proxy_v2_everything_is_as_it_should_be() {
    let origin = GitServer::start(&Authority::new());
    let proxy = egressd("proxy_protocol: {trusted: [127.0.0.1/32]}", "enforce", &origin);
    let balancer = Balancer::start(&proxy, "send-proxy-v2");
    let admin = format!("http://{}", proxy.admin());
    let ran = doctor(balancer.address, &origin, &["--admin", &admin]);
    println!("{}", ran.stdout);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 5, "{ran:?}");
    assert!(ran.stdout.lines().all(|line| line.starts_with("ok ")), "{ran:?}");
    // Its request is in the log, under the id that it printed.
    let id = line(&ran, "allowed").rsplit_once("X-Request-Id ").expect("an id").1.to_owned();
    let close = proxy.record(|record| record["id"] == id.as_str() && record["event"] == "close");
    assert_eq!(close["ending"], "client_closed", "it ends its tunnel as a client should: {close:?}");
    let probe = proxy.record(|record| record["target"] == "egressd-doctor.invalid:443");
    assert_eq!(probe["reason"], "host_not_allowed");
    proxy.record(|record| record["reason"] == "sni_mismatch");
    // Nothing of it is for the list.
    let files = directory();
    let log = files.path().join("access.log");
    write(&log, proxy.log());
    let suggested = Ran::of(command().arg("suggest").arg(&log));
    let is_left_out =
        suggested.stdout.contains("\n    allow: []\n") && suggested.stdout.contains("#   4x doctor: ");
    assert!(is_left_out, "{suggested:?}");
}

#[test]
fn without_the_admin_listener_it_says_where_to_look() {
    let origin = GitServer::start(&Authority::new());
    let proxy = egressd("", "enforce", &origin);
    let ran = doctor(proxy.address(), &origin, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let address = line(&ran, "address");
    assert!(address.starts_with("open") && address.contains("--admin"), "{address}");
    let id = address.split("id ").nth(1).and_then(|rest| rest.split(',').next()).expect("an id").to_owned();
    let record = proxy.record(|record| record["id"] == id.as_str());
    let seen = record.text("client").rsplit_once(':').expect("with its port").0.to_owned();
    assert!(address.contains(&format!("it should be {seen};")), "{address}");
}

#[test]
fn a_balancer_that_hides_the_client_is_found() {
    let origin = GitServer::start(&Authority::new());
    let proxy = egressd("", "enforce", &origin);
    let balancer = Balancer::start(&proxy, "");
    let admin = format!("http://{}", proxy.admin());
    // The client has another loopback address than HAProxy.
    let ran = doctor(balancer.address, &origin, &["--admin", &admin, "--client", "127.9.9.9"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let address = line(&ran, "address");
    assert!(address.starts_with("WRONG") && address.contains("saw 127.0.0.1"), "{address}");
    assert!(address.contains("proxy_protocol"), "{address}");
}

#[test]
fn report_mode_and_a_wrong_list_are_found() {
    let origin = GitServer::start(&Authority::new());
    let proxy = egressd("", "report", &origin);
    let ran = doctor(proxy.address(), &origin, &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(line(&ran, "sni").contains("`mode: report`"), "{ran:?}");

    let proxy = egressd("", "enforce", &origin);
    let ran = Ran::of(command().args([
        "doctor",
        "--via",
        &format!("http://{}", proxy.address()),
        "--allowed",
        "other.example",
    ]));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let allowed = line(&ran, "allowed");
    assert!(allowed.contains("403 (host_not_allowed)") && allowed.contains("egressd explain"), "{allowed}");
}

#[test]
fn a_missing_proxy_is_reported_with_what_to_check() {
    let nowhere = free_address();
    let ran = Ran::of(command().args(["doctor", "--via", &format!("http://{nowhere}")]));
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(1), 1), "{ran:?}");
    assert!(line(&ran, "reach").contains("nothing listens there"), "{ran:?}");
    for (via, words) in [
        ("proxy:3128", "has no scheme: write http://proxy:3128"),
        ("http://a:b@p:1", "--credentials-file"),
        ("ftp://p:1", "http://, https:// or socks5h://"),
        ("socks5://p:1", "write socks5h://"),
        ("unix:proxy.sock", "write an absolute one"),
    ] {
        let ran = Ran::of(command().args(["doctor", "--via", via]));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

/// By every other way in: SOCKS5, a socket, SOCKS5 by a socket; with and without a password.
#[test]
fn doctor_asks_in_socks5_and_by_a_socket() {
    let origin = GitServer::start(&Authority::new());
    let files = directory();
    let hash = Ran::of(Command::new("htpasswd").args(["-nbBC", "10", "git", "a secret"]));
    write(&files.path().join("users"), hash.stdout.trim());
    write(&files.path().join("password"), "git:a secret\n");
    let at = |name: &str| files.path().join(name).display().to_string();
    let (socket, password) = (at("proxy.sock"), at("password"));
    let keys = "protocols: [http, socks5]}";
    let more = format!(
        "{keys}, {{name: socket, address: \"unix:{socket}\", {keys}, {{name: asking, address: 127.0.0.1:0, basic_auth: {{users_file: \"{}\"}}, \
         protocols: [socks5]",
        at("users")
    );
    let proxy = egressd_in(directory(), &more, "enforce", &origin);
    let admin = format!("http://{}", proxy.admin());
    let ask = |via: &str, more: &[&str]| {
        let mut command = command();
        command.args([
            "doctor",
            "--via",
            via,
            "--allowed",
            &origin.authority(),
            "--denied",
            "denied.example",
        ]);
        Ran::of(command.args(more))
    };
    let socks = format!("socks5h://{}", proxy.listener("proxy"));
    let by_socket = format!("socks5h://localhost{socket}");
    for via in [&socks, &by_socket, &format!("unix:{socket}")] {
        let ran = ask(via, &["--admin", &admin]);
        assert!(ran.code == Some(0) && ran.stdout.lines().count() == 5, "{via}: {ran:?}");
        assert!(ran.stdout.lines().all(|line| line.starts_with("ok ")), "{via}: {ran:?}");
        let ran = ask(via, &[]);
        assert_eq!(ran.code, Some(0), "{via}: {ran:?}");
        assert!(line(&ran, "address").starts_with("open"), "{ran:?}");
        let sni = line(&ran, "sni");
        let is_known = via.starts_with("unix:");
        assert!(sni.starts_with(if is_known { "ok" } else { "open" }), "{via}: {sni}");
    }
    let records = proxy.records();
    let by = |protocol: &str, peer: &str| {
        let is = |record: &&crate::support::Record| {
            record["protocol"] == protocol && record.text("peer").starts_with(peer)
        };
        records.iter().filter(is).count()
    };
    assert!(by("socks5", "127.") > 3 && by("socks5", "uid:") > 3 && by("http", "uid:") > 3, "{records:?}");

    let asking = format!("socks5h://{}", proxy.listener("asking"));
    let ran = ask(&asking, &[]);
    assert!(ran.code == Some(1) && line(&ran, "allowed").contains("--credentials-file FILE"), "{ran:?}");
    let ran = ask(&asking, &["--credentials-file", &password, "--admin", &admin]);
    assert!(ran.code == Some(0) && ran.stdout.lines().all(|line| line.starts_with("ok ")), "{ran:?}");
    write(&files.path().join("password"), "git:another\n");
    let ran = ask(&asking, &["--credentials-file", &password]);
    assert!(ran.code == Some(1) && line(&ran, "allowed").contains("user or password are wrong"), "{ran:?}");

    let ran = ask(&format!("unix:{socket}.none"), &[]);
    assert!(ran.code == Some(1) && line(&ran, "reach").contains("check the path"), "{ran:?}");
    // In HTTP alone.
    let plain = egressd("", "enforce", &origin);
    let ran = ask(&format!("socks5h://{}", plain.address()), &[]);
    assert!(ran.code == Some(1) && line(&ran, "allowed").contains("this is not a SOCKS5 proxy"), "{ran:?}");
}

#[test]
fn a_listener_that_accepts_only_its_balancers_is_distinguished_from_a_broken_one() {
    let origin = GitServer::start(&Authority::new());
    let proxy = egressd("proxy_protocol: {trusted: [192.0.2.1/32]}", "enforce", &origin);
    let ran = doctor(proxy.address(), &origin, &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let allowed = line(&ran, "allowed");
    assert!(allowed.contains("closed without a reply") && allowed.contains("`proxy_protocol`"), "{allowed}");
}

#[test]
fn doctor_works_by_tls_and_with_a_password() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let files = directory();
    let own = authority.issue(&["127.0.0.1"]);
    write(&files.path().join("tls.crt"), &own.pem);
    write(&files.path().join("tls.key"), &own.key_pem);
    let hash = bcrypt::hash("correct-horse", 5).expect("a hash");
    write(&files.path().join("users.htpasswd"), format!("gitaly:{hash}\n"));
    let keys = "tls: {certificate: tls.crt, key: tls.key}, basic_auth: {users_file: users.htpasswd}";
    let proxy = egressd_in(files, keys, "enforce", &origin);
    let home = directory();
    let (ca, password) = (home.path().join("ca.pem"), home.path().join("credentials"));
    write(&ca, authority.pem());
    write(&password, "gitaly:correct-horse\n");
    let ask = |more: &[&std::ffi::OsStr]| {
        let mut doctor = command();
        doctor.args([
            "doctor",
            "--via",
            &format!("https://{}", proxy.address()),
            "--allowed",
            &origin.authority(),
        ]);
        Ran::of(doctor.args(["--denied", "denied.example"]).args(more))
    };
    let flag = std::ffi::OsStr::new;
    let ran = ask(&[flag("--ca"), ca.as_os_str(), flag("--credentials-file"), password.as_os_str()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = ask(&[flag("--ca"), ca.as_os_str()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        line(&ran, "allowed").contains("answered 407")
            && line(&ran, "allowed").contains("--credentials-file"),
        "{ran:?}"
    );
    assert!(
        line(&ran, "denied").contains("answered 407")
            && !line(&ran, "denied").contains("names a listed host"),
        "{ran:?}"
    );
    // Another authority signed its certificate.
    let other = home.path().join("other.pem");
    write(&other, Authority::new().pem());
    let ran = ask(&[flag("--ca"), other.as_os_str()]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(1), 1), "{ran:?}");
    assert!(line(&ran, "reach").contains("the TLS handshake failed"), "{ran:?}");
    // Without TLS.
    let ran = doctor(proxy.address(), &origin, &[]);
    assert!(line(&ran, "allowed").contains("this listener speaks TLS: use --via https://"), "{ran:?}");
}

/// For comparison: a Squid with the same list.
#[test]
fn at_a_squid_the_hole_inside_its_tunnels_is_found() {
    let origin = GitServer::start(&Authority::new());
    let squid = Squid::start(&origin);
    let ran = doctor(squid.address, &origin, &[]);
    println!("{}", ran.stdout);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for (what, state) in
        [("reach", "ok"), ("allowed", "ok"), ("denied", "ok"), ("sni", "WRONG"), ("address", "open")]
    {
        assert!(line(&ran, what).starts_with(state), "{what}: {ran:?}");
    }
    assert!(line(&ran, "sni").contains("lets an SNI mismatch pass"), "{ran:?}");
}

#[test]
fn doctor_shows_the_clients_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let origin = GitServer::start(&authority);
    let files = directory();
    let own = authority.issue(&["127.0.0.1"]);
    write(&files.path().join("tls.crt"), &own.pem);
    write(&files.path().join("tls.key"), &own.key_pem);
    write(&files.path().join("ca.crt"), clients.pem());
    let keys = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt}";
    let proxy = egressd_in(files, keys, "enforce", &origin);
    let home = directory();
    let path = |name: &str| home.path().join(name).to_str().expect("ASCII").to_owned();
    write(&home.path().join("ca.pem"), authority.pem());
    for (name, by) in [("own", &clients), ("other", &authority)] {
        let issued = by.issue_client(7, "gitaly", None);
        write(&home.path().join(format!("{name}.crt")), &issued.pem);
        write(&home.path().join(format!("{name}.key")), &issued.key_pem);
    }
    let ask = |via: &str, more: &[&str]| {
        let mut doctor = command();
        doctor.args([
            "doctor",
            "--via",
            &format!("{via}://{}", proxy.address()),
            "--denied",
            "denied.example",
        ]);
        doctor.args(["--allowed", &origin.authority(), "--ca", &path("ca.pem")]);
        Ran::of(doctor.args(more))
    };
    let shown = |name: &str| {
        [
            "--client-certificate".to_owned(),
            path(&format!("{name}.crt")),
            "--client-key".to_owned(),
            path(&format!("{name}.key")),
        ]
    };
    let with = |via: &str, name: &str| {
        let shown = shown(name);
        ask(via, &shown.each_ref().map(String::as_str))
    };
    let ran = with("https", "own");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = ask("https", &[]);
    assert!(
        ran.code == Some(1)
            && ran.stdout.contains("write the client's with --client-certificate FILE and --client-key FILE"),
        "{ran:?}"
    );
    let ran = with("https", "other");
    assert!(
        ran.code == Some(1) && ran.stdout.contains("the proxy does not accept the client's certificate"),
        "{ran:?}"
    );
    let ran = with("http", "own");
    assert!(ran.code == Some(2) && ran.stderr.contains("--via does not begin with https://"), "{ran:?}");
    let ran = ask("https", &["--client-key", &path("own.key")]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--client-certificate"), "{ran:?}");
}

struct Squid {
    address: SocketAddr,
    _squid: Daemon,
    _directory: TempDir,
}

impl Squid {
    fn start(origin: &GitServer) -> Self {
        let (address, directory) = (free_address(), directory());
        let path: &Path = directory.path();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
        let home = path.display();
        let port = origin.address().port();
        write(&path.join("hosts"), format!("{} {HOST}\n", origin.address().ip()));
        write(
            &path.join("squid.conf"),
            format!(
                "http_port {address}\nacl tls port {port}\nacl list dstdomain -n {HOST}\n\
                 http_access deny !tls\nhttp_access allow list\nhttp_access deny all\n\
                 hosts_file {home}/hosts\npid_filename none\ncoredump_dir {home}\nnetdb_filename none\n\
                 access_log none\ncache_log {home}/cache.log\ncache deny all\nshutdown_lifetime 1 second\n"
            ),
        );
        let mut squid = Command::new("squid");
        isolate(&mut squid, path);
        // Squid names its shared memory after the service: only letters and digits.
        let service = format!("doctor{}", std::process::id());
        squid.args(["-n", &service, "-N", "-f"]).arg(path.join("squid.conf"));
        let mut squid = Daemon::start(&mut squid);
        until("Squid to accept", || {
            squid.assert_alive();
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Squid { address, _squid: squid, _directory: directory }
    }
}
