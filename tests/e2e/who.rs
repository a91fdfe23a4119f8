//! Client identities with real programs: TLS with client certificates, and passwords.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::git::User;
use crate::git_server::{GitServer, HELLO, HOST};
use crate::support::{Authority, Egressd, config, directory, until, write};
use crate::tool::{Ran, tool};

pub(crate) const PASSWORD: &str = "correct-horse-battery-staple";

/// egressd with these keys at its listener, with a rule for the origin; `networks` are the clients of its policy. `files` is
/// the directory of its configuration.
pub(crate) fn start(keys: &str, networks: &str, origin: &GitServer, files: TempDir) -> Egressd {
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

pub(crate) fn curl(home: &Path) -> Command {
    let mut curl = tool("curl", home);
    curl.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]).arg(home.join("ca.pem"));
    curl
}

pub(crate) fn hello(origin: &GitServer) -> String {
    format!("https://{HOST}{}/hello", origin.port_suffix())
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
    // git first asks without credentials, on the same connection: this is not a denial.
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

/// The files of a listener that asks for client certificates; `home` gets the client's certificate and key.
pub(crate) fn certificates(authority: &Authority, home: &Path) -> TempDir {
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
    // A client whose proxy URL says http:// appears in the log, where the operator looks.
    let mut cleartext = curl(home.path());
    cleartext.arg("--proxy").arg(format!("http://{}", proxy.address())).arg(hello(&origin));
    assert_ne!(Ran::of(&mut cleartext).code, Some(0));
    until("the diagnostics", || {
        proxy.stderr().contains("its proxy URL must begin with https://").then_some(())
    });
}

/// pip sends its proxy password by Python's requests, in ISO-8859-1; curl sends the bytes of its command line.
#[test]
fn passwords_beyond_ascii_pass_as_clients_send_them() {
    let files = directory();
    let hash = bcrypt::hash("p\u{e4}ssw\u{f6}rd", 5).expect("a good cost");
    write(&files.path().join("users.htpasswd"), format!("j\u{fc}rgen:{hash}\n"));
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let text = config(&["listed.test"]);
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    let keys = "{name: proxy, address: 127.0.0.1:0, basic_auth: {users_file: users.htpasswd}}";
    let proxy = Egressd::start_in(files, &text.replace(bare, keys));
    let home = directory();
    let by = format!("http://j%C3%BCrgen:p%C3%A4ssw%C3%B6rd@{}", proxy.address());
    let mut pip = tool("python3", home.path());
    pip.args([
        "-m",
        "pip",
        "--isolated",
        "--no-input",
        "--disable-pip-version-check",
        "--retries",
        "0",
        "--proxy",
        &by,
    ]);
    pip.args([
        "download",
        "--no-deps",
        "--trusted-host",
        "denied.test",
        "--index-url",
        "http://denied.test/simple",
        "x",
    ]);
    let mut curl = curl(home.path());
    curl.args(["--proxy", &by, "http://denied.test/"]);
    write(&home.path().join("ca.pem"), "");
    for mut client in [pip, curl] {
        let before = proxy.records().len();
        let ran = Ran::of(&mut client);
        let record = until("its record", || proxy.records().into_iter().nth(before));
        assert_eq!(record.text("reason"), "host_not_allowed", "{ran:?}");
        assert_eq!(record.text("identity"), "user:j\u{fc}rgen", "{ran:?}");
    }
}
