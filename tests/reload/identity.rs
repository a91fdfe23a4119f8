//! What proved an identity is asked again: a certificate that is revoked or expires, a user who is removed or gets another
//! password. Once a reload is logged, nothing of that identity passes, and the others never notice.

use std::fs;
use std::io::{Read, Write};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::names::HeldNames;
use crate::support::{
    Authority, Egressd, Issued, Origin, Record, TlsStream, Wire, any_port, config, directory, until, write,
};
use crate::{refused, reloaded};

const NAME: &str = "proxy.test";
const MUTUAL: &str = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt, client_crl: ca.crl}";
const PASSWORDS: &str = "basic_auth: {users_file: users.htpasswd}";

/// A configuration whose listener has these keys.
fn listening(keys: &str, rules: &[&str]) -> String {
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let text = config(rules);
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    text.replace(bare, &format!("{{name: proxy, address: 127.0.0.1:0, {keys}}}"))
}

fn connect_to(authority: &str, fields: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n")
}

fn get(authority: &str, fields: &str) -> String {
    format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n")
}

/// Answers every head with a whole response, a head that asks for `/half` with half of one, and one that asks for `/none`
/// with nothing.
fn web() -> Origin {
    Origin::start(any_port(), |mut conversation| {
        let mut head = Vec::new();
        let mut byte = [0];
        while conversation.read(&mut byte)? > 0 {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                let head = std::mem::take(&mut head);
                if head.starts_with(b"GET /none ") {
                    continue;
                }
                let half = head.starts_with(b"GET /half ");
                let body =
                    if half { "Content-Length: 8\r\n\r\nhalf" } else { "Content-Length: 5\r\n\r\nwhole" };
                conversation.write_all(format!("HTTP/1.1 200 OK\r\n{body}").as_bytes())?;
            }
        }
        Ok(())
    })
}

/// What every client here may reach.
struct World {
    echo: Origin,
    web: Origin,
}

impl World {
    fn new() -> Self {
        World { echo: Origin::echo(), web: web() }
    }

    fn rules(&self) -> [String; 2] {
        [format!("tcp://{}", self.echo.address()), format!("http://127.0.0.1:{}", self.web.port())]
    }

    fn config(&self, keys: &str) -> String {
        listening(keys, &self.rules().each_ref().map(String::as_str))
    }

    fn files(authority: &Authority) -> TempDir {
        let directory = directory();
        let own = authority.issue(&[NAME]);
        let files = [("ca.crt", authority.pem()), ("tls.crt", &own.pem), ("tls.key", &own.key_pem)];
        for (name, text) in files {
            write(&directory.path().join(name), text);
        }
        write(&directory.path().join("ca.crl"), authority.crl(&[]));
        directory
    }
}

/// All that one client holds open through the proxy.
struct Held<S> {
    tunnel: Wire<S>,
    /// A response that is half there.
    exchange: Wire<S>,
    /// Connections that were served one request, and wait for the next.
    kept: [Wire<S>; 2],
}

impl<S: Read + Write> Held<S> {
    /// `fields` go into every head.
    fn open(world: &World, fields: &str, mut connect: impl FnMut() -> Wire<S>) -> Self {
        let (echo, web) = (world.echo.address().to_string(), world.web.address().to_string());
        let mut tunnel = connect();
        tunnel.send(connect_to(&echo, fields));
        assert_eq!(tunnel.read_head().status, 200);
        let mut exchange = connect();
        exchange.send(get(&web, fields).replacen("/ HTTP", "/half HTTP", 1));
        assert_eq!(exchange.read_head().status, 200);
        assert_eq!(exchange.read_exact(4), b"half");
        let kept = [(); 2].map(|()| {
            let mut kept = connect();
            kept.send(get(&web, fields));
            assert_eq!(kept.read_reply().body, "whole");
            kept
        });
        let mut held = Held { tunnel, exchange, kept };
        held.assert_moves();
        held
    }

    fn assert_moves(&mut self) {
        self.tunnel.send("ping");
        assert_eq!(self.tunnel.read_exact(4), b"ping");
    }

    /// Nothing of it noticed anything, and everything still works.
    fn assert_goes_on(mut self, world: &World, fields: &str) {
        let (echo, web) = (world.echo.address().to_string(), world.web.address().to_string());
        self.assert_moves();
        let [plain, tunnel] = &mut self.kept;
        plain.send(get(&web, fields));
        assert_eq!(plain.read_reply().body, "whole");
        tunnel.send(connect_to(&echo, fields));
        assert_eq!(tunnel.read_head().status, 200);
        tunnel.send("ping");
        assert_eq!(tunnel.read_exact(4), b"ping");
    }

    /// The tunnel and the exchange ended, and no byte that is sent now comes anywhere.
    fn assert_cut(mut self, world: &World) -> [Wire<S>; 2] {
        let before = world.echo.seen()[0].bytes.len();
        self.tunnel.send("more");
        assert!(self.tunnel.read_to_end().0.is_empty());
        assert!(self.exchange.read_to_end().0.is_empty(), "a response that was cut off must not look whole");
        assert_eq!(world.echo.wait_ended(0).bytes.len(), before, "bytes passed after the reload was logged");
        self.kept
    }
}

fn client(proxy: &Egressd, authority: &Authority, own: &Issued) -> Wire<TlsStream> {
    Wire::through(authority.client_as(NAME, proxy.connect(), Some(own)))
}

/// The records of an identity that ended by themselves: a tunnel and an exchange.
fn assert_revoked(proxy: &Egressd, identity: &str, reason: &str) {
    for event in ["close", "http"] {
        proxy
            .record(|record| {
                record["event"] == event && record["identity"] == identity && !record["ending"].is_null()
            })
            .assert_has(&json!({"ending": "identity_revoked", "reason": reason, "decision": "allow"}));
    }
    let metrics = proxy.metrics();
    assert_eq!(metrics.count("egressd_tunnels_total", &[("ending", "identity_revoked")]), 1);
}

/// A kept connection whose certificate is no longer good: closed without a reply, and recorded with its target.
fn assert_closed(proxy: &Egressd, mut kept: Wire<TlsStream>, head: &str, identity: &str) -> Record {
    kept.send(head);
    let (bytes, _) = kept.read_to_end();
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
    let method = head.split(' ').next().expect("a head begins with its method");
    let record = proxy.record(|record| {
        record["event"] == "deny" && record["method"] == method && record["identity"] == identity
    });
    record.assert_has(&json!({"reason": "client_certificate_invalid", "status": null, "policy": null}));
    assert!(!record["target"].is_null());
    record
}

/// Reloads by HUP, and waits until the log says that it is done.
fn hup(proxy: &Egressd) {
    let done = |proxy: &Egressd| proxy.stderr().matches("is in force; ").count();
    let before = done(proxy);
    proxy.signal(Signal::HUP);
    until("the reload to be logged", || (done(proxy) > before).then_some(()));
}

#[test]
fn of_a_revoked_certificate_nothing_passes_once_the_reload_is_logged() {
    let (authority, world) = (Authority::new(), World::new());
    let proxy = Egressd::start_in(World::files(&authority), &world.config(MUTUAL));
    let (gone, stays) = (authority.issue_client(7, "gone", None), authority.issue_client(8, "stays", None));
    let held = Held::open(&world, "", || client(&proxy, &authority, &gone));
    let others = Held::open(&world, "", || client(&proxy, &authority, &stays));

    write(&proxy.file("ca.crl"), authority.crl(&[7]));
    hup(&proxy);
    let [plain, tunnel] = held.assert_cut(&world);
    assert_closed(&proxy, plain, &get(&world.web.address().to_string(), ""), "cn:gone");
    assert_closed(&proxy, tunnel, &connect_to(&world.echo.address().to_string(), ""), "cn:gone");
    others.assert_goes_on(&world, "");
    assert_revoked(&proxy, "cn:gone", "client_certificate_invalid");
    proxy.says("`cn:gone`: the client's certificate is not valid: it is revoked by client_crl; 2 tunnels and exchanges ended");
    let stopped = proxy.stop();
    let of_others = stopped.records.iter().filter(|record| record["identity"] == "cn:stays");
    assert!(of_others.clone().count() >= 5);
    assert!(of_others.clone().all(|record| record["ending"] != "identity_revoked"));
}

#[test]
fn report_mode_relaxes_no_identity_and_another_ca_ends_what_the_old_one_proved() {
    let (old, new, world) = (Authority::new(), Authority::new(), World::new());
    let keys = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt}";
    let text = world.config(keys).replace("    private:", "    mode: report\n    private:");
    assert!(text.contains("mode: report"));
    let proxy = Egressd::start_in(World::files(&old), &text);
    let own = old.issue_client(7, "gone", None);
    let held = Held::open(&world, "", || client(&proxy, &old, &own));
    write(&proxy.file("ca.crt"), new.pem());
    hup(&proxy);
    let [plain, tunnel] = held.assert_cut(&world);
    assert_closed(&proxy, plain, &get(&world.web.address().to_string(), ""), "cn:gone");
    assert_closed(&proxy, tunnel, &connect_to(&world.echo.address().to_string(), ""), "cn:gone");
    assert_revoked(&proxy, "cn:gone", "client_certificate_invalid");
    // And back again: what was cut stays cut, and new connections are served.
    write(&proxy.file("ca.crt"), old.pem());
    hup(&proxy);
    let others = Held::open(&world, "", || client(&proxy, &old, &own));
    others.assert_goes_on(&world, "");
}

#[test]
fn a_certificate_that_expires_ends_what_is_open_without_a_reload() {
    let (authority, world) = (Authority::new(), World::new());
    let proxy = Egressd::start_in(World::files(&authority), &world.config(MUTUAL));
    // Long enough for the handshakes below on a busy machine: if not, the test fails, and does not pass wrongly.
    let last = Timestamp::now().as_second() + 6;
    let (short, long) =
        (authority.issue_client_until("short", last), authority.issue_client(8, "long", None));
    let others = Held::open(&world, "", || client(&proxy, &authority, &long));
    // Behind those of `others`, which `assert_cut` is not about.
    let own = World { echo: Origin::echo(), web: web() };
    let rules = [world.rules(), own.rules()].concat();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    reloaded(&proxy, || write(&proxy.file("egressd.yaml"), listening(MUTUAL, &rules)));
    let held = Held::open(&own, "", || client(&proxy, &authority, &short));
    until("the certificate to expire", || (Timestamp::now().as_second() > last).then_some(()));
    // The next head is judged by the clock, whether or not the sweep came.
    let Held { mut tunnel, mut exchange, kept: [plain, kept_tunnel] } = held;
    assert_closed(&proxy, plain, &get(&own.web.address().to_string(), ""), "cn:short");
    assert_closed(&proxy, kept_tunnel, &connect_to(&own.echo.address().to_string(), ""), "cn:short");
    assert!(tunnel.read_to_end().0.is_empty());
    assert!(exchange.read_to_end().0.is_empty());
    assert_revoked(&proxy, "cn:short", "client_certificate_invalid");
    proxy.says("`cn:short`: the client's certificate is not valid: it, or one in its chain, expired on");
    others.assert_goes_on(&world, "");
}

#[test]
fn a_revocation_list_that_is_out_of_date_ends_what_it_no_longer_proves() {
    let (authority, world) = (Authority::new(), World::new());
    let files = World::files(&authority);
    let due = Timestamp::now().as_second() + 6;
    write(&files.path().join("ca.crl"), authority.crl_until(&[], due));
    let proxy = Egressd::start_in(files, &world.config(MUTUAL));
    let own = authority.issue_client(7, "gitaly", None);
    let Held { mut tunnel, mut exchange, kept: [plain, _] } =
        Held::open(&world, "", || client(&proxy, &authority, &own));
    // A sweep in between does not forget when the list is due.
    let more = format!("{}tunnel: {{idle_timeout: 30m}}\n", world.config(MUTUAL));
    reloaded(&proxy, || write(&proxy.file("egressd.yaml"), more));
    assert!(tunnel.read_to_end().0.is_empty());
    assert!(exchange.read_to_end().0.is_empty());
    assert!(Timestamp::now().as_second() >= due, "ended before the list was due");
    assert_closed(&proxy, plain, &get(&world.web.address().to_string(), ""), "cn:gitaly");
    assert_revoked(&proxy, "cn:gitaly", "client_certificate_invalid");
    proxy.says("the list of its issuer in client_crl is out of date");
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Proxy-Authorization: Basic {pair}\r\n")
}

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).expect("a good cost")
}

#[test]
fn of_a_user_who_is_gone_or_has_another_hash_nothing_passes_once_the_reload_is_logged() {
    let (one, two) = (hash("one"), hash("two"));
    let both = format!("gone:{one}\nstays:{two}\n");
    // How the file changes, and what the diagnostics say.
    let rows = [
        (format!("stays:{two}\n"), false, "`user:gone`: the user was removed; 2 tunnels and exchanges ended"),
        (
            format!("gone:{}\nstays:{two}\n", hash("another")),
            false,
            "`user:gone`: the user's password was changed; 2 tunnels and exchanges ended",
        ),
        // The same password with another salt is another hash.
        (
            format!("gone:{}\nstays:{two}\n", hash("one")),
            true,
            "`user:gone`: the user's password was changed",
        ),
    ];
    for (text, is_right, told) in rows {
        let world = World::new();
        let files = directory();
        write(&files.path().join("users.htpasswd"), &both);
        let proxy = Egressd::start_in(files, &world.config(PASSWORDS));
        let (gone, stays) = (basic("gone", "one"), basic("stays", "two"));
        let held = Held::open(&world, &gone, || proxy.connect());
        let others = Held::open(&world, &stays, || proxy.connect());
        // The file is replaced, as by an editor or a secret store.
        let new = proxy.file("users.new");
        write(&new, format!("# replaced\n{text}"));
        fs::rename(&new, proxy.file("users.htpasswd")).expect("both are ours");
        hup(&proxy);
        let [mut plain, mut tunnel] = held.assert_cut(&world);
        plain.send(get(&world.web.address().to_string(), &gone));
        tunnel.send(connect_to(&world.echo.address().to_string(), &gone));
        if is_right {
            assert_eq!((plain.read_head().status, tunnel.read_head().status), (200, 200));
        } else {
            for wire in [&mut plain, &mut tunnel] {
                let reply = wire.read_reply();
                assert_eq!((reply.status, reply.reason()), (407, Some("auth_failed")));
            }
        }
        others.assert_goes_on(&world, &stays);
        assert_revoked(&proxy, "user:gone", "auth_failed");
        proxy.says(told);
    }
}

/// Inside a tunnel of plain requests: idle, within a response, and before one. Of the last one nothing is told: a `407` would
/// be taken for the target's.
#[test]
fn requests_inside_a_tunnel_end_with_the_identity_of_the_connect() {
    let (one, two) = (hash("one"), hash("two"));
    let world = World::new();
    let files = directory();
    write(&files.path().join("users.htpasswd"), format!("gone:{one}\nstays:{two}\n"));
    let proxy = Egressd::start_in(files, &world.config(PASSWORDS));
    let authority = world.web.address().to_string();
    let ask = |wire: &mut Wire, path: &str| {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    };
    let open = |user: &str, password: &str| {
        let mut wire = proxy.connect();
        wire.send(connect_to(&authority, &basic(user, password)));
        assert_eq!(wire.read_head().status, 200);
        ask(&mut wire, "/");
        assert_eq!(wire.read_reply().body, "whole");
        wire
    };
    let [mut idle, mut half, mut none] = [(); 3].map(|()| open("gone", "one"));
    let mut other = open("stays", "two");
    ask(&mut half, "/half");
    assert_eq!(half.read_head().status, 200);
    assert_eq!(half.read_exact(4), b"half");
    ask(&mut none, "/none");
    until("the target to be asked", || {
        let asked = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("/none");
        world.web.seen().iter().any(|seen| asked(&seen.bytes)).then_some(())
    });
    let new = proxy.file("users.new");
    write(&new, format!("stays:{two}\n"));
    fs::rename(&new, proxy.file("users.htpasswd")).expect("both are ours");
    hup(&proxy);
    ask(&mut idle, "/");
    for wire in [&mut idle, &mut half, &mut none] {
        assert_eq!(String::from_utf8_lossy(&wire.read_to_end().0), "");
    }
    ask(&mut other, "/");
    assert_eq!(other.read_reply().body, "whole");
    let of_gone = |event: &'static str, path: &'static str| {
        proxy.record(move |record| {
            record["event"] == event
                && record["identity"] == "user:gone"
                && record["target"].as_str().is_some_and(|target| target.ends_with(path))
        })
    };
    of_gone("request", "/half").assert_has(&json!({"ending": "identity_revoked", "reason": "auth_failed"}));
    of_gone("deny", "/none").assert_has(&json!({"reason": "auth_failed", "status": null}));
    let ended = || {
        let closed = |record: &&Record| record["event"] == "close" && record["identity"] == "user:gone";
        Some(proxy.records().iter().filter(closed).cloned().collect::<Vec<_>>())
            .filter(|ended| ended.len() == 3)
    };
    for record in until("all three tunnels to end", ended) {
        record
            .assert_has(&json!({"ending": "identity_revoked", "reason": "auth_failed", "decision": "allow"}));
    }
}

#[test]
fn a_users_file_that_says_the_same_in_other_words_ends_nothing() {
    let world = World::new();
    let files = directory();
    let (one, two) = (hash("one"), hash("two"));
    write(&files.path().join("users.htpasswd"), format!("a:{one}\nb:{two}\n"));
    let proxy = Egressd::start_in(files, &world.config(PASSWORDS));
    let fields = basic("a", "one");
    let held = Held::open(&world, &fields, || proxy.connect());
    write(&proxy.file("users.htpasswd"), format!("# all of us\nc:{two}\r\n\nb:{two}\na:{one}\r\n"));
    hup(&proxy);
    held.assert_goes_on(&world, &fields);
    assert_eq!(proxy.metrics().count("egressd_tunnels_total", &[("ending", "identity_revoked")]), 0);
}

/// A listener that asks for more, or for something else, than a connection proved.
#[test]
fn what_a_listener_asks_for_now_counts() {
    let authority = Authority::new();
    let tls = "tls: {certificate: tls.crt, key: tls.key}";
    let own = authority.issue_client(7, "gitaly", None);
    let rows: [(&str, &str, Value); 4] = [
        (tls, MUTUAL, json!("client_certificate_invalid")),
        (MUTUAL, tls, json!("client_certificate_invalid")),
        (MUTUAL, "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt}", json!(null)),
        (tls, &format!("{tls}, {PASSWORDS}"), json!("auth_required")),
    ];
    for (before, after, reason) in rows {
        let world = World::new();
        let files = World::files(&authority);
        write(&files.path().join("users.htpasswd"), format!("a:{}\n", hash("one")));
        let proxy = Egressd::start_in(files, &world.config(before));
        let mut held = Held::open(&world, "", || client(&proxy, &authority, &own));
        write(&proxy.file("egressd.yaml"), world.config(after));
        hup(&proxy);
        if reason.is_null() {
            held.assert_goes_on(&world, "");
            continue;
        }
        assert!(held.tunnel.read_to_end().0.is_empty(), "{before} → {after}");
        proxy
            .record(|record| record["event"] == "close")
            .assert_has(&json!({"ending": "identity_revoked", "reason": reason}));
        let [plain, _] = &mut held.kept;
        plain.send(get(&world.web.address().to_string(), ""));
        match reason.as_str() {
            Some("auth_required") => assert_eq!(plain.read_reply().status, 407),
            _ => assert!(plain.read_to_end().0.is_empty()),
        }
    }
}

/// The old trust accepted it, and it registers after the sweep.
#[test]
fn an_identity_that_is_lost_between_the_decision_and_the_registration_opens_nothing() {
    let (authority, origin) = (Authority::new(), Origin::echo());
    let rule = format!("tcp://slow.test:{}", origin.port());
    let target = format!("slow.test:{}", origin.port());
    let own = authority.issue_client(7, "gone", None);
    // By a certificate.
    let names = HeldNames::start();
    let proxy =
        Egressd::start_in(World::files(&authority), &(listening(MUTUAL, &[&rule]) + &names.setting()));
    let mut wire = client(&proxy, &authority, &own);
    wire.send(connect_to(&target, ""));
    names.wait_asked();
    write(&proxy.file("ca.crl"), authority.crl(&[7]));
    hup(&proxy);
    names.release();
    assert!(wire.read_to_end().0.is_empty());
    proxy.record(|record| record["event"] == "deny").assert_has(
        &json!({"reason": "client_certificate_invalid", "identity": "cn:gone", "decision": "deny"}),
    );
    // By a password.
    let names = HeldNames::start();
    let files = directory();
    write(&files.path().join("users.htpasswd"), format!("gone:{}\n", hash("one")));
    let proxy = Egressd::start_in(files, &(listening(PASSWORDS, &[&rule]) + &names.setting()));
    let mut wire = proxy.connect();
    wire.send(connect_to(&target, &basic("gone", "one")));
    names.wait_asked();
    write(&proxy.file("users.htpasswd"), format!("stays:{}\n", hash("one")));
    hup(&proxy);
    names.release();
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.reason()), (407, Some("auth_failed")));
    proxy
        .record(|record| record["event"] == "deny")
        .assert_has(&json!({"reason": "auth_failed", "identity": "user:gone"}));
    assert!(origin.seen().iter().all(|seen| seen.bytes.is_empty()));
}

/// After the `200`, a client that speaks TLS gets an alert.
#[test]
fn a_tunnel_whose_identity_is_lost_before_its_hello_passes_no_byte() {
    let (authority, origin) = (Authority::new(), Origin::echo());
    let text = listening(MUTUAL, &[&format!("https://git.test:{}", origin.port())])
        + "dns: {hosts: {git.test: [127.0.0.1]}}\n";
    let proxy = Egressd::start_in(World::files(&authority), &text);
    let mut tunnel = client(&proxy, &authority, &authority.issue_client(7, "gone", None));
    tunnel.send(connect_to(&format!("git.test:{}", origin.port()), ""));
    assert_eq!(tunnel.read_head().status, 200);
    write(&proxy.file("ca.crl"), authority.crl(&[7]));
    hup(&proxy);
    // Fatal, access_denied.
    assert_eq!(tunnel.read_to_end().0, [21, 3, 3, 0, 2, 2, 49]);
    proxy
        .record(|record| record["event"] == "deny")
        .assert_has(&json!({"reason": "client_certificate_invalid", "status": 200, "identity": "cn:gone"}));
    assert!(origin.wait_ended(0).bytes.is_empty());
}

#[test]
fn a_list_that_is_refused_leaves_the_one_in_force() {
    let (authority, world) = (Authority::new(), World::new());
    let proxy = Egressd::start_in(World::files(&authority), &world.config(MUTUAL));
    let (gone, stays) = (authority.issue_client(7, "gone", None), authority.issue_client(8, "stays", None));
    let others = Held::open(&world, "", || client(&proxy, &authority, &stays));
    write(&proxy.file("ca.crl"), authority.crl(&[7]));
    hup(&proxy);
    // A stranger with the CA's name revokes the others, and nobody else.
    let forged = authority.namesake().crl(&[8]);
    refused(&proxy, || write(&proxy.file("ca.crl"), forged));
    proxy.says("ca.crl:1:1: error: revocation list 1 (issuer `");
    let mut stream = authority.client_as(NAME, proxy.connect(), Some(&gone));
    let _ = stream.write_all(b"x");
    let error = stream.read_to_end(&mut Vec::new()).expect_err("a fatal alert");
    assert!(error.to_string().contains("CertificateRevoked"), "{error}");
    others.assert_goes_on(&world, "");
}
