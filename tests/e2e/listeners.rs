//! git and curl through every kind of listener: cleartext, TLS, a client certificate, a password, a password within TLS.

use std::path::Path;

use serde_json::json;

use crate::git::User;
use crate::git_server::{GitServer, HELLO, HOST};
use crate::support::{Authority, Egressd, Record, config, directory, until, write};
use crate::tool::Ran;
use crate::who::{PASSWORD, certificates, curl, hello};

const TLS: &str = "tls: {certificate: tls.crt, key: tls.key}";
const MUTUAL: &str = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt}";
const USERS: &str = "basic_auth: {users_file: users.htpasswd}";

/// A kind of listener, and how a client proves itself there.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    tls: bool,
    certificate: bool,
    password: bool,
    identity: Option<&'static str>,
}

const KINDS: [Kind; 5] = [
    Kind { name: "cleartext", tls: false, certificate: false, password: false, identity: None },
    Kind { name: "tls", tls: true, certificate: false, password: false, identity: None },
    Kind {
        name: "mutual",
        tls: true,
        certificate: true,
        password: false,
        identity: Some("spiffe://corp/gitaly"),
    },
    Kind { name: "password", tls: false, certificate: false, password: true, identity: Some("user:gitaly") },
    Kind { name: "both", tls: true, certificate: false, password: true, identity: Some("user:gitaly") },
];

impl Kind {
    fn keys(self) -> String {
        let tls = [MUTUAL, TLS].iter().skip(usize::from(!self.certificate)).take(usize::from(self.tls));
        let keys = tls.chain([&USERS].into_iter().take(usize::from(self.password)));
        keys.map(|key| format!(", {key}")).collect()
    }

    /// The proxy URL, with the password if the listener wants one.
    fn url(self, proxy: &Egressd) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let user = if self.password { format!("gitaly:{PASSWORD}@") } else { String::new() };
        format!("{scheme}://{user}{}", proxy.listener(self.name))
    }
}

/// egressd with a listener of each kind; the client's files are in `home`.
fn start(authority: &Authority, origin: &GitServer, home: &Path) -> Egressd {
    let files = certificates(authority, home);
    let hash = bcrypt::hash(PASSWORD, 10).expect("a good cost");
    write(&files.path().join("users.htpasswd"), format!("gitaly:{hash}\n"));
    let rule = format!("https://{HOST}{}", origin.port_suffix());
    let text = config(&[&rule]) + &format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", origin.address().ip());
    let listeners: Vec<String> = KINDS
        .iter()
        .map(|kind| format!("{{name: {}, address: 127.0.0.1:0{}}}", kind.name, kind.keys()))
        .collect();
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    Egressd::start_in(files, &text.replace(bare, &listeners.join(", ")))
}

/// Waits for the tunnels of a listener to end, asserts that their records name the client, and returns the bytes received.
fn received(proxy: &Egressd, origin: &GitServer, kind: Kind, agent: &str) -> u64 {
    let records = until("the tunnels of the listener to close", || {
        let mut records = proxy.records();
        records.retain(|record| record["listener"] == kind.name);
        let of = |event| records.iter().filter(|record| record["event"] == event).count();
        (of("open") > 0 && of("open") == of("close")).then_some(records)
    });
    for record in &records {
        record.assert_has(&json!({
            "identity": kind.identity, "sni": HOST, "target": origin.authority(), "decision": "allow", "reason": null,
            "status": 200, "policy": "test",
        }));
        assert!(["open", "close"].contains(&record.text("event")), "{record:?}");
        assert!(record.text("user_agent").starts_with(agent), "{record:?}");
    }
    let closes = || records.iter().filter(|record| record["event"] == "close");
    let ending = |record: &Record| record.text("ending").to_owned();
    assert!(
        closes().all(|close| ["client_closed", "upstream_closed"].contains(&&*ending(close))),
        "{records:?}"
    );
    closes().map(|close| close.number("received")).sum()
}

/// Asserts that no TLS handshake failed, and that log and diagnostics contain neither the password nor its hash.
fn assert_quiet(proxy: Egressd) {
    let failed = proxy.metrics().count("egressd_connections_total", &[("result", "tls_failed")]);
    assert_eq!(failed, 0);
    let ended = proxy.stop();
    let told = format!("{:?}{}", ended.records, ended.stderr);
    assert!(!told.contains(PASSWORD) && !told.contains("$2b$"), "{told}");
}

#[test]
fn curl_passes_every_kind_of_listener() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let home = directory();
    let proxy = start(&authority, &origin, home.path());
    let file = |name: &str| home.path().join(name);
    for kind in KINDS {
        let mut curl = curl(home.path());
        curl.arg("--proxy").arg(kind.url(&proxy));
        if kind.tls {
            curl.arg("--proxy-cacert").arg(file("ca.pem"));
        }
        if kind.certificate {
            curl.arg("--proxy-cert").arg(file("client.crt")).arg("--proxy-key").arg(file("client.key"));
        }
        let ran = Ran::of(curl.arg(hello(&origin)));
        assert_eq!((ran.code, &*ran.stdout), (Some(0), HELLO), "{kind:?}: {}", ran.stderr);
        assert!(received(&proxy, &origin, kind, "curl/") > HELLO.len() as u64);
    }
    assert_quiet(proxy);
}

#[test]
fn git_passes_every_kind_of_listener() {
    let authority = Authority::new();
    let origin = GitServer::start(&authority);
    let user = User::new(&authority);
    let proxy = start(&authority, &origin, &user.path(""));
    let (source, size) = (user.repository("source", 1 << 20), 1 << 20);
    let stored = origin.create("mirror");
    Ran::ok(user.git(&source).args(["push", "--quiet", "--mirror"]).arg(&stored));
    let refs = |repository: &Path| Ran::ok(user.git(repository).args(["for-each-ref"]));
    for kind in KINDS {
        let mut git = user.git(&user.path(""));
        let mut set = |key: &str, value: &Path| {
            git.arg("-c").arg(format!("http.{key}={}", value.display()));
        };
        if kind.tls {
            set("proxySSLCAInfo", &user.path("ca.pem"));
        }
        if kind.certificate {
            set("proxySSLCert", &user.path("client.crt"));
            set("proxySSLKey", &user.path("client.key"));
        }
        git.env("https_proxy", kind.url(&proxy));
        let ran = Ran::of(git.args(["clone", "--quiet", "--mirror", &origin.url("mirror"), kind.name]));
        assert_eq!(ran.code, Some(0), "{kind:?}: {}", ran.stderr);
        assert_eq!(refs(&user.path(kind.name)), refs(&source), "{kind:?}");
        assert!(received(&proxy, &origin, kind, "git/") > size, "{kind:?}");
    }
    // Where the listener wants a password, git first asks without one. This is not a denial: `received` has seen none.
    assert!(proxy.metrics().count("egressd_auth_challenges_total", &[]) >= 2);
    assert_quiet(proxy);
}
