//! Basic authentication: git asks twice, a connection has three tries, and no secret appears anywhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Authority, Egressd, End, Origin, Reply, Wire, any_port, directory, until, write};
use crate::{connect_to, deciding, listening};

const PASSWORDS: &str = "basic_auth: {users_file: users.htpasswd}";
pub(crate) const PASSWORD: &str = "correct-horse-battery-staple";
const WRONG: &str = "incorrect-donkey";
/// For passwords that the tests never guess: at cost 14 it takes a second to compare one.
const DEAR: &str = "$2a$14$k42ZFHFWqBp3vWli.nIn8uYyIkbvYRvodzbfbK18SSsY.CsIQPlxO";

/// Users and their passwords, at bcrypt's lowest cost, so that tests do not wait.
pub(crate) fn users(users: &[(&str, &str)]) -> String {
    let line = |(user, password): &(&str, &str)| {
        format!("{user}:{}\n", bcrypt::hash(password, 4).expect("a good cost"))
    };
    users.iter().map(line).collect()
}

pub(crate) fn files() -> TempDir {
    let directory = directory();
    let all = [("gitaly", PASSWORD), ("backup", "hunter2-hunter2")];
    write(&directory.path().join("users.htpasswd"), users(&all));
    directory
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

pub(crate) fn connect_as(authority: &str, fields: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n")
}

pub(crate) fn challenges(proxy: &Egressd) -> u64 {
    proxy.metrics().count("egressd_auth_challenges_total", &[])
}

/// A 407 after which the client may ask again on the same connection.
fn assert_asks_again(reply: &Reply, reason: &str) {
    assert_eq!((reply.status, reply.reason()), (407, Some(reason)), "{reply:?}");
    let challenge = reply.header("proxy-authenticate").expect("what is wanted");
    assert_eq!(challenge, "Basic realm=\"egressd\", charset=\"UTF-8\"");
    assert_eq!(reply.header("connection"), Some("keep-alive"), "{reply:?}");
    assert_eq!(reply.header("keep-alive"), Some("timeout=55"), "{reply:?}");
    assert_eq!(reply.header("content-length"), Some(&*reply.body.len().to_string()));
    assert_eq!(reply.body.lines().count(), 1);
}

#[test]
fn git_asks_without_credentials_and_again_with_them_on_the_same_connection() {
    let origin = Origin::echo();
    let rule = format!("tcp://{}", origin.address());
    let proxy = Egressd::start_in(files(), &listening(PASSWORDS, &[&rule]));
    let authority = origin.address().to_string();

    let mut wire = proxy.connect();
    wire.send(connect_to(&authority));
    let asked = wire.read_reply();
    assert_asks_again(&asked, "auth_required");
    wire.send(connect_as(&authority, &basic("gitaly", PASSWORD)));
    let reply = wire.read_head();
    assert_eq!(reply.status, 200);
    wire.send("ping");
    assert_eq!(wire.read_exact(4), b"ping");
    wire.finish();
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));

    // The first request without credentials was not a denial.
    assert_eq!(challenges(&proxy), 1);
    assert_eq!(origin.wait_ended(0).bytes, b"ping");
    let ended = proxy.stop();
    assert_eq!(ended.records.iter().map(|r| r.text("event")).collect::<Vec<_>>(), ["open", "close"]);
    for record in &ended.records {
        record.assert_has(
            &json!({"id": reply.id(), "identity": "user:gitaly", "policy": "test", "reason": null}),
        );
    }
}

#[test]
fn a_wrong_password_is_recorded_and_answered_the_same_for_known_and_unknown_users() {
    let proxy = Egressd::start_in(files(), &listening(PASSWORDS, &["a.example"]));
    let malformed = |text: &str| format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(text));
    let cases = [
        (basic("gitaly", WRONG), "the credentials are wrong"),
        (basic("nobody", WRONG), "the credentials are wrong"),
        (basic("gitaly", ""), "the credentials are wrong"),
        (basic("Gitaly", PASSWORD), "the credentials are wrong"),
        (basic("", PASSWORD), "credentials without a user"),
        (malformed("gitaly"), "credentials without a colon"),
        (malformed("gitaly:a\0b"), "credentials with control characters"),
        ("Proxy-Authorization: Basic !\r\n".to_owned(), "credentials that are not base64"),
    ];
    for (fields, says) in &cases {
        let mut wire = proxy.connect();
        let client = wire.local().to_string();
        wire.send(connect_as("b.example:443", fields));
        let reply = wire.read_reply();
        assert_asks_again(&reply, "auth_failed");
        assert!(reply.body.contains(says), "{}", reply.body);
        proxy.record(|record| record["id"] == reply.id()).assert_has(&json!({
            "event": "deny", "decision": "deny", "reason": "auth_failed", "status": 407, "client": client,
            // A claimed user name is not an identity.
            "identity": null, "policy": null, "target": "b.example:443", "method": "CONNECT",
        }));
    }
    assert_eq!(challenges(&proxy), 0);
    let failed = [("policy", ""), ("rule", ""), ("decision", "deny"), ("reason", "auth_failed")];
    assert_eq!(proxy.metrics().count("egressd_requests_total", &failed), cases.len() as u64);
}

/// Python's requests, aiohttp and boto3 send ISO-8859-1. What is not text in either charset is told where its cause can be found.
#[test]
fn a_user_and_a_password_beyond_ascii_are_known_by_either_charset() {
    let directory = directory();
    write(&directory.path().join("users.htpasswd"), users(&[("j\u{fc}rgen", "p\u{e4}ssw\u{f6}rd")]));
    let proxy = Egressd::start_in(directory, &listening(PASSWORDS, &["a.example"]));
    let send = |bytes: &[u8]| {
        let mut wire = proxy.connect();
        wire.send(connect_as(
            "b.example:443",
            &format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(bytes)),
        ));
        wire.read_reply()
    };
    let latin1 = b"j\xfcrgen:p\xe4ssw\xf6rd";
    for bytes in ["j\u{fc}rgen:p\u{e4}ssw\u{f6}rd".as_bytes(), latin1] {
        let reply = send(bytes);
        assert_eq!((reply.status, reply.reason()), (403, Some("host_not_allowed")), "{reply:?}");
        let record = proxy.record(|record| record["id"] == reply.id());
        assert_eq!(record["identity"], "user:j\u{fc}rgen");
    }
    for (bytes, cause) in [
        (&b"j\xfcrgen:p\xe4ssword"[..], "the credentials are wrong"),
        // UTF-8 in ISO-8859-1 in UTF-8, as it comes from a shell with the wrong locale.
        ("j\u{c3}\u{bc}rgen:p\u{c3}\u{a4}ssw\u{c3}\u{b6}rd".as_bytes(), "the credentials are wrong"),
        (b"j\x81rgen:p\x84ssw\x94rd", "credentials with control characters"),
    ] {
        let reply = send(bytes);
        assert_eq!((reply.status, reply.reason()), (407, Some("auth_failed")), "{reply:?}");
        until("the cause on stderr, with the id", || {
            proxy.stderr().lines().any(|line| line.contains(reply.id()) && line.contains(cause)).then_some(())
        });
    }
}

/// bcrypt would look at the first 72 bytes alone, so that any longer password would be right.
#[test]
fn a_password_beyond_what_bcrypt_verifies_is_refused_and_the_reply_says_why() {
    let directory = directory();
    let (short, long) = ("p".repeat(72), "p".repeat(73));
    // As `htpasswd -B` makes a hash of a long password: of its first 72 bytes.
    let argon2 = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$";
    let hashed = argon2_of(&long);
    assert!(hashed.starts_with(argon2), "{hashed}");
    let text = format!("short:{}\nlong:{}\nargon:{hashed}\n", bcrypt_of(&short), bcrypt_of(&long));
    write(&directory.path().join("users.htpasswd"), text);
    let origin = Origin::echo();
    let to = origin.address().to_string();
    let proxy = Egressd::start_in(directory, &listening(PASSWORDS, &[&format!("tcp://{to}")]));
    // A user who is not there gets one of the two answers, and always the same: that depends on a secret.
    for (user, password, refused) in
        [("short", &short, false), ("short", &long, true), ("long", &long, true), ("argon", &long, false)]
    {
        let mut wire = proxy.connect();
        wire.send(connect_as(&to, &basic(user, password)));
        if !refused {
            assert_eq!(wire.read_head().status, 200, "{user} {}", password.len());
            continue;
        }
        let reply = wire.read_reply();
        assert_asks_again(&reply, "auth_failed");
        assert!(reply.body.contains("a password of more than 72 bytes cannot be verified"), "{}", reply.body);
        proxy
            .record(|record| record["id"] == reply.id())
            .assert_has(&json!({"reason": "auth_failed", "identity": null}));
    }
    proxy.says(
        "127.0.0.1 was refused: a password of more than 72 bytes cannot be verified with a bcrypt hash",
    );
    assert!(!proxy.stop().stderr.contains("ppp"), "a password on standard error");
}

fn bcrypt_of(password: &str) -> String {
    bcrypt::hash(password, 4).expect("a good cost")
}

fn argon2_of(password: &str) -> String {
    use argon2::password_hash::PasswordHasher as _;
    let params = argon2::Params::new(8, 1, 1, None).expect("the least");
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon2.hash_password_with_salt(password.as_bytes(), b"somesalt").expect("a hash").to_string()
}

#[test]
fn another_scheme_is_challenged_like_missing_credentials() {
    let proxy = Egressd::start_in(files(), &listening(PASSWORDS, &["a.example"]));
    let schemes = ["Bearer abc", "Negotiate YII=", "Digest username=\"gitaly\"", "ghp_secret"];
    for (number, scheme) in (1..).zip(schemes) {
        let mut wire = proxy.connect();
        wire.send(connect_as("a.example:443", &format!("Proxy-Authorization: {scheme}\r\n")));
        let reply = wire.read_reply();
        assert_asks_again(&reply, "auth_required");
        let name = match scheme.split_once(' ') {
            Some((name, _)) => format!("the scheme {name}"),
            None => "an unknown scheme".to_owned(),
        };
        assert!(
            reply.body.contains(&format!("credentials of {name} are not accepted: use Basic")),
            "{reply:?}"
        );
        assert_eq!(challenges(&proxy), number);
    }
}

#[test]
fn a_connection_is_asked_three_times_at_most() {
    let proxy = Egressd::start_in(files(), &listening(PASSWORDS, &["a.example"]));
    let mut wire = proxy.connect();
    wire.send(connect_to("b.example:443"));
    assert_asks_again(&wire.read_reply(), "auth_required");
    wire.send(connect_as("b.example:443", &basic("gitaly", WRONG)));
    assert_asks_again(&wire.read_reply(), "auth_failed");
    wire.send(connect_as("b.example:443", &basic("gitaly", "another guess")));
    proxy.refused(wire, 407, "auth_failed");

    let mut wire = proxy.connect();
    for _ in 0..2 {
        wire.send(connect_to("b.example:443"));
        assert_asks_again(&wire.read_reply(), "auth_required");
    }
    wire.send(connect_to("b.example:443"));
    let last = wire.read_reply();
    assert_eq!((last.status, last.header("connection")), (407, Some("close")));
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    assert_eq!(challenges(&proxy), 4);
}

#[test]
fn a_connection_whose_next_head_cannot_be_found_is_closed() {
    let proxy = Egressd::start_in(files(), &listening(PASSWORDS, &["http://a.example"]));
    let hello = String::from_utf8_lossy(b"\x16\x03\x01").into_owned();
    let cases = [
        // A body would have to be read first; tunnel bytes are not a head; and the last two say themselves that no more comes.
        "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
        connect_to("a.example:443") + &hello,
        "GET http://a.example/ HTTP/1.0\r\n\r\n".to_owned(),
        "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n".to_owned(),
    ];
    for bytes in cases {
        let mut wire = proxy.connect();
        wire.send(&bytes);
        let reply = wire.read_reply();
        assert_eq!((reply.status, reply.header("connection")), (407, Some("close")), "{bytes:?}");
        assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin), "{bytes:?}");
    }
}

/// An origin that answers every request on a connection.
fn web() -> Origin {
    Origin::start(any_port(), |mut conversation| {
        let mut seen = Vec::new();
        let mut byte = [0];
        while std::io::Read::read(&mut conversation, &mut byte)? > 0 {
            seen.push(byte[0]);
            if seen.ends_with(b"\r\n\r\n") {
                std::io::Write::write_all(
                    &mut conversation,
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                )?;
            }
        }
        Ok(())
    })
}

#[test]
fn every_request_proves_itself_and_the_header_never_leaves() {
    let origin = web();
    let rule = format!("http://{}", origin.address());
    let proxy = Egressd::start_in(files(), &listening(PASSWORDS, &[&rule]));
    let url = format!("http://{}/", origin.address());
    let get = |method: &str, fields: &str| format!("{method} {url} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let get = |method: &str, fields: &str| {
        get(method, fields).replace("Host: x", &format!("Host: {}", origin.address()))
    };

    let mut wire = proxy.connect();
    wire.send(get("GET", &basic("gitaly", PASSWORD)));
    let first = wire.read_reply();
    assert_eq!((first.status, &*first.body), (200, "ok"));
    // The same connection, without credentials, then as another user.
    wire.send(get("GET", ""));
    assert_asks_again(&wire.read_reply(), "auth_required");
    wire.send(get("GET", &basic("backup", "hunter2-hunter2")));
    let third = wire.read_reply();
    assert_eq!(third.status, 200);
    for (reply, identity) in [(&first, "user:gitaly"), (&third, "user:backup")] {
        proxy
            .record(|record| record["id"] == reply.id())
            .assert_has(&json!({"event": "http", "identity": identity}));
    }
    // One user's connection to the origin is not used for another user.
    let peers: Vec<_> = origin.seen().iter().map(|seen| seen.peer).collect();
    assert_eq!(peers.len(), 2, "{peers:?}");
    for seen in origin.seen() {
        let text = String::from_utf8_lossy(&seen.bytes).to_lowercase();
        assert!(text.starts_with("get / http/1.1\r\n") && !text.contains("proxy-authorization"), "{text}");
    }

    // RFC 9110, section 9.3.2: a reply to HEAD has no body.
    wire.send(get("HEAD", ""));
    let head = wire.read_head();
    assert_eq!((head.status, head.header("connection")), (407, Some("keep-alive")));
    wire.send(get("GET", &basic("gitaly", PASSWORD)));
    assert_eq!(wire.read_reply().status, 200);
}

#[test]
fn a_listener_without_passwords_passes_none_on() {
    let origin = web();
    let rule = format!("http://{}", origin.address());
    let proxy = Egressd::start(&crate::support::config(&[&rule]));
    let mut wire = proxy.connect();
    let (to, secret) = (origin.address(), basic("gitaly", PASSWORD));
    wire.send(format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n{secret}\r\n"));
    let reply = wire.read_reply();
    assert_eq!(reply.status, 200);
    proxy.record(|record| record["id"] == reply.id()).assert_has(&json!({"identity": null}));
    assert!(!String::from_utf8_lossy(&origin.seen()[0].bytes).to_lowercase().contains("proxy-auth"));
}

#[test]
fn users_decide_between_policies() {
    let origin = Origin::echo();
    let to = origin.address();
    let policies = format!(
        "  - {{name: gitaly, clients: {{identities: [\"user:gitaly\"]}}, private: [127.0.0.0/8], allow: [\"tcp://{to}\"]}}\n  \
           - {{name: rest, allow: [a.example]}}\n"
    );
    let proxy = Egressd::start_in(files(), &deciding(PASSWORDS, &policies));
    for (user, password, status, policy) in
        [("gitaly", PASSWORD, 200, "gitaly"), ("backup", "hunter2-hunter2", 403, "rest")]
    {
        let mut wire = proxy.connect();
        wire.send(connect_as(&to.to_string(), &basic(user, password)));
        let reply = wire.read_head();
        assert_eq!(reply.status, status, "{user}");
        proxy
            .record(|record| record["id"] == reply.id())
            .assert_has(&json!({"policy": policy, "identity": format!("user:{user}")}));
    }
}

#[test]
fn a_certificate_and_a_password_are_both_wanted_and_both_count() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let to = origin.address();
    let policies = format!(
        "  - {{name: both, clients: {{identities: [\"user:gitaly\"]}}, private: [127.0.0.0/8], allow: [\"tcp://{to}\"]}}\n"
    );
    let directory = files();
    let own = authority.issue(&["proxy.test"]);
    write(&directory.path().join("tls.crt"), &own.pem);
    write(&directory.path().join("tls.key"), &own.key_pem);
    write(&directory.path().join("ca.crt"), authority.pem());
    let keys = format!("{PASSWORDS}, tls: {{certificate: tls.crt, key: tls.key, client_ca: ca.crt}}");
    let proxy = Egressd::start_in(directory, &deciding(&keys, &policies));
    let client = authority.issue_client(1, "node", Some("spiffe://corp/node"));
    let mut wire = Wire::through(authority.client_as("proxy.test", proxy.connect(), Some(&client)));
    wire.send(connect_to(&to.to_string()));
    assert_asks_again(&wire.read_reply(), "auth_required");
    wire.send(connect_as(&to.to_string(), &basic("gitaly", PASSWORD)));
    let reply = wire.read_head();
    assert_eq!(reply.status, 200);
    // The log shows the first proven identity.
    proxy
        .record(|record| record["id"] == reply.id())
        .assert_has(&json!({"policy": "both", "identity": "spiffe://corp/node"}));
    wire.send("ping");
    assert_eq!(wire.read_exact(4), b"ping");
}

#[test]
fn a_changed_users_file_counts_from_the_next_request_on() {
    let proxy = Egressd::start_in(files(), &listening(PASSWORDS, &["a.example"]));
    let status = |password: &str| {
        let mut wire = proxy.connect();
        wire.send(connect_as("b.example:443", &basic("gitaly", password)));
        wire.read_head().status
    };
    assert_eq!((status(PASSWORD), status("changed")), (403, 407));
    let before = proxy.metrics();
    let sha256 = before.label_values("egressd_config_info", "sha256").concat();
    write(&proxy.file("users.htpasswd"), users(&[("gitaly", "changed")]));
    proxy.signal(Signal::HUP);
    until("the reload", || {
        (proxy.metrics().label_values("egressd_config_info", "sha256").concat() != sha256).then_some(())
    });
    assert_eq!((status(PASSWORD), status("changed")), (407, 403));

    write(&proxy.file("users.htpasswd"), "gitaly:changed\n");
    proxy.signal(Signal::HUP);
    until("the refusal", || proxy.stderr().contains("users.htpasswd:1:1: error:").then_some(()));
    assert_eq!((status(PASSWORD), status("changed")), (407, 403));
}

#[test]
fn too_many_passwords_at_once_are_429_and_hold_up_nobody_else() {
    let origin = Origin::echo();
    let directory = directory();
    write(&directory.path().join("users.htpasswd"), format!("gitaly:{DEAR}\n"));
    let rule = format!("tcp://{}", origin.address());
    let text = listening(PASSWORDS, &[&rule])
        .replace("listeners: [", "listeners: [{name: open, address: 127.0.0.1:0}, ");
    let proxy = Egressd::start_in(directory, &text);
    let guesses: Vec<Wire> = (0..12)
        .map(|number| {
            let mut wire = proxy.connect();
            wire.send(connect_as(
                &origin.address().to_string(),
                &basic("gitaly", &format!("guess {number}")),
            ));
            wire
        })
        .collect();
    let busy = until("a password too many", || {
        proxy.records().into_iter().find(|record| record["reason"] == "client_rate_limited")
    });
    busy.assert_has(&json!({"event": "error", "status": 429, "identity": null, "auth_scheme": null}));
    // A client without a password does not wait behind them.
    let mut other = Wire::connect(proxy.listener("open"));
    other.send(connect_to(&origin.address().to_string()));
    assert_eq!(other.read_head().status, 200);
    drop(guesses);
}

#[test]
fn a_client_that_leaves_takes_its_password_out_of_the_queue() {
    let directory = directory();
    write(&directory.path().join("users.htpasswd"), format!("gitaly:{DEAR}\n"));
    let proxy = Egressd::start_in(directory, &listening(PASSWORDS, &["a.example"]));
    // The test does not wait for any of these; of one address, four may wait.
    for number in 0..20 {
        let mut wire = proxy.connect();
        wire.send(connect_as("a.example:443", &basic("gitaly", &format!("guess {number}"))));
        wire.finish();
        let (bytes, _) = wire.read_to_end();
        assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
        until("the record", || {
            (proxy.records().iter().filter(|r| r["reason"] == "client_gone").count() == number + 1)
                .then_some(())
        });
    }
    assert!(proxy.records().iter().all(|record| record["reason"] == "client_gone"));
}

#[test]
fn no_secret_is_in_log_diagnostics_or_metrics() {
    let origin = Origin::echo();
    let rule = format!("tcp://{}", origin.address());
    let text = listening(PASSWORDS, &[&rule]) + "log: {level: trace}\n";
    let proxy = Egressd::start_in(files(), &text);
    let authority = origin.address().to_string();
    let secrets = [(PASSWORD, 200), (WRONG, 407)];
    for (password, status) in secrets {
        let mut wire = proxy.connect();
        wire.send(connect_as(&authority, &basic("gitaly", password)));
        assert_eq!(wire.read_head().status, status);
    }
    // A secret that a person types into the wrong field, and one in a head that is refused.
    let mut wire = proxy.connect();
    wire.send(connect_as(&authority, &basic(WRONG, "x")));
    assert_eq!(wire.read_head().status, 407);
    proxy.refuses(connect_as("no-port", &basic("gitaly", PASSWORD)), 400, "bad_target");
    let twice = basic("gitaly", PASSWORD) + &basic("gitaly", WRONG);
    proxy.refuses(connect_as(&authority, &twice), 400, "bad_request");
    let metrics = proxy.get("/metrics").body;
    let users = crate::support::read(&proxy.file("users.htpasswd"));
    let ended = proxy.stop();
    let told = format!("{:?}{}{metrics}", ended.records, ended.stderr);
    let hashes = users.lines().filter_map(|line| line.split_once(':')).map(|(_, hash)| hash.to_owned());
    let encoded = [PASSWORD, WRONG].map(|password| STANDARD.encode(format!("gitaly:{password}")));
    for secret in [PASSWORD, WRONG].map(str::to_owned).into_iter().chain(hashes).chain(encoded) {
        assert!(!told.contains(&secret), "{secret} in {told}");
    }
}
