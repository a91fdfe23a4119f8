//! SOCKS5 beside HTTP on one port, or alone: the same clients, decisions, gate, records and refusals.

use std::io::{Read, Write};

use rustix::process::Signal;
use serde_json::json;

use crate::balancer::{TRUSTED, v2};
use crate::certificates::NAME;
use crate::passwords::{PASSWORD, files, users};
use crate::support::socks::{GRANTED, answer, ask, greeting, login, request};
use crate::support::{Authority, Egressd, End, Origin, Wire, client_hello, directory, run, until, write};
use crate::{connect_to, connections, deciding, listening};

const BOTH: &str = "protocols: [http, socks5]";

fn echoes<S: Read + Write>(wire: &mut Wire<S>, text: &str) {
    wire.send(text);
    assert_eq!(wire.read_exact(text.len()), text.as_bytes());
}

#[test]
fn names_and_addresses_are_targets_like_those_of_connect_and_http_is_spoken_beside() {
    let (origin, six) = (
        Origin::echo(),
        Origin::start("[::1]:0".parse().expect("an address"), |mut stream| {
            let mut bytes = [0; 64];
            let count = stream.read(&mut bytes)?;
            stream.write_all(&bytes[..count])
        }),
    );
    let named = format!("a.test:{}", origin.port());
    let targets = [named.clone(), origin.address().to_string(), six.address().to_string()];
    let rules: Vec<String> = targets.iter().map(|target| format!("tcp://{target}")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let text = listening(BOTH, &rules).replace("[127.0.0.0/8]", "[127.0.0.0/8, \"::1/128\"]");
    let proxy = Egressd::start(&(text + "dns: {hosts: {a.test: [127.0.0.1]}}\n"));
    for target in &targets {
        let mut wire = proxy.connect();
        assert_eq!(ask(&mut wire, target), 0, "{target}");
        echoes(&mut wire, "ping");
        wire.finish();
        let _ = wire.read_to_end();
        proxy.record(|record| record["event"] == "close" && record["target"] == **target).assert_has(&json!({
            "protocol": "socks5", "method": "CONNECT", "decision": "allow", "status": 200, "sent": 4, "received": 4,
            "listener": "proxy", "user_agent": null,
        }));
    }
    let mut tunnel = proxy.tunnel(&named);
    echoes(&mut tunnel, "ping");
    tunnel.finish();
    let _ = tunnel.read_to_end();
    proxy.record(|record| record["event"] == "close" && record["protocol"] == "http");
    assert_eq!(connections(&proxy, "accepted"), 4);
}

#[test]
fn what_comes_behind_the_request_is_kept_and_goes_out_after_the_answer() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&listening(BOTH, &[&format!("tcp://{}", origin.address())]));
    let mut wire = proxy.connect();
    wire.send([greeting(&[0]), request(&origin.address().to_string()), b"early".to_vec()].concat());
    assert_eq!(wire.read_exact(2), [5, 0]);
    assert_eq!(wire.read_exact(10), GRANTED);
    assert_eq!(wire.read_exact(5), b"early");
    wire.finish();
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    assert_eq!(origin.wait_ended(0).bytes, b"early");
}

#[test]
fn a_server_that_speaks_first_is_heard_under_a_tcp_rule() {
    let origin = Origin::saying("SSH-2.0-test\r\n");
    let proxy = Egressd::start(&listening(BOTH, &[&format!("tcp://{}", origin.address())]));
    let mut wire = proxy.connect();
    assert_eq!(ask(&mut wire, &origin.address().to_string()), 0);
    assert_eq!(wire.read_exact(14), b"SSH-2.0-test\r\n");
}

#[test]
fn an_https_rule_reads_the_client_hello_after_the_answer() {
    let authority = Authority::new();
    let origin = Origin::tls_echo(&authority.issue(&["a.test"]));
    let target = format!("a.test:{}", origin.port());
    let text = listening(BOTH, &[&format!("https://{target}")]) + "dns: {hosts: {a.test: [127.0.0.1]}}\n";
    let proxy = Egressd::start(&text);
    let mut wire = proxy.connect();
    assert_eq!(ask(&mut wire, &target), 0);
    let mut tls = authority.client("a.test", wire);
    tls.write_all(b"ping").expect("the tunnel stands");
    let mut said = [0; 4];
    tls.read_exact(&mut said).expect("an echo");
    assert_eq!(&said, b"ping");
    let mut wire = proxy.connect();
    assert_eq!(ask(&mut wire, &target), 0);
    wire.send(client_hello(Some("b.test")));
    assert_eq!(wire.read_to_end(), (vec![21, 3, 3, 0, 2, 2, 112], End::Fin), "unrecognized_name");
    proxy.record(|record| record["event"] == "deny").assert_has(&json!({
        "reason": "sni_mismatch", "sni": "b.test", "protocol": "socks5", "status": 200,
    }));
}

#[test]
fn an_http_rule_judges_the_requests_inside_and_answers_them_in_http() {
    let origin = Origin::answering("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    let rule = format!("{{to: \"http://{}\", requests: [{{methods: [GET]}}]}}", origin.address());
    let proxy = Egressd::start(&listening(BOTH, &[&rule]));
    for (method, status) in [("GET", 204), ("POST", 403)] {
        let mut wire = proxy.connect();
        assert_eq!(ask(&mut wire, &origin.address().to_string()), 0);
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        wire.send(format!("{method} /x HTTP/1.1\r\nHost: {}\r\n{length}\r\n", origin.address()));
        let reply = wire.read_head();
        assert_eq!(reply.status, status, "{reply:?}");
        proxy.record(|record| record["method"] == method && !record["tunnel"].is_null()).assert_has(&json!({
            "protocol": "socks5", "status": status,
        }));
    }
}

#[test]
fn a_refusal_has_the_nearest_code_and_the_reason_in_record_and_metric() {
    let origin = Origin::echo();
    // Bound and dropped: nobody listens there.
    let closed = Origin::silent().address();
    let rules = [
        format!("tcp://a.test:{}", origin.port()),
        "tcp://10.0.0.1:22".to_owned(),
        format!("tcp://{closed}"),
        "tcp://inner.test:22".to_owned(),
    ];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let hosts = "dns: {hosts: {a.test: [127.0.0.1], inner.test: [10.0.0.1]}}\n";
    let proxy = Egressd::start(&(listening(BOTH, &rules) + hosts));
    let rows = [
        ("b.test:443".to_owned(), 2, "host_not_allowed", 403, "deny"),
        ("a.test:1".to_owned(), 2, "port_not_allowed", 403, "deny"),
        ("10.0.0.1:22".to_owned(), 2, "address_prohibited", 403, "deny"),
        ("inner.test:22".to_owned(), 2, "address_prohibited", 403, "deny"),
        (closed.to_string(), 5, "connect_refused", 502, "error"),
        ("169.254.169.254:80".to_owned(), 2, "host_not_allowed", 403, "deny"),
    ];
    for (target, code, reason, status, event) in rows {
        let mut wire = proxy.connect();
        assert_eq!(ask(&mut wire, &target), code, "{target}");
        assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin), "{target}");
        // `status` is the one that HTTP has for it.
        proxy.record(|record| record["target"] == *target).assert_has(&json!({
            "event": event, "reason": reason, "status": status, "protocol": "socks5", "method": "CONNECT",
        }));
        let labels = [("reason", reason)];
        until("the metric", || (proxy.metrics().count("egressd_requests_total", &labels) > 0).then_some(()));
    }
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn a_password_proves_the_user_as_it_does_in_http() {
    let origin = Origin::echo();
    let to = origin.address().to_string();
    let keys = format!("{BOTH}, basic_auth: {{users_file: users.htpasswd}}");
    let policies = format!(
        "  - {{name: gitaly, clients: {{identities: [\"user:gitaly\"]}}, private: [127.0.0.0/8], allow: [\"tcp://{to}\"]}}\n"
    );
    let proxy = Egressd::start_in(files(), &deciding(&keys, &policies));
    // What is offered, the password, and the answers to it and to the request.
    type Row<'a> = (&'a [u8], Option<(&'a str, &'a str)>, &'a [u8], Option<u8>);
    let rows: [Row<'_>; 7] = [
        (&[2], Some(("gitaly", PASSWORD)), &[1, 0], Some(0)),
        (&[0, 2], Some(("gitaly", PASSWORD)), &[1, 0], Some(0)),
        // Known, and no policy is for it.
        (&[0, 1, 2], Some(("backup", "hunter2-hunter2")), &[1, 0], Some(2)),
        (&[2], Some(("gitaly", "wrong")), &[1, 1], None),
        (&[2], Some(("nobody", PASSWORD)), &[1, 1], None),
        (&[2], Some(("", "")), &[1, 1], None),
        (&[0], None, &[], None),
    ];
    for (methods, proof, proven, code) in rows {
        let mut wire = proxy.connect();
        wire.send(greeting(methods));
        let Some((user, password)) = proof else {
            assert_eq!(wire.read_to_end(), (vec![5, 0xff], End::Fin));
            proxy.record(|record| record["reason"] == "auth_required").assert_has(&json!({
                "event": "deny", "status": 407, "protocol": "socks5", "identity": null, "target": null,
            }));
            continue;
        };
        assert_eq!(wire.read_exact(2), [5, 2], "{methods:?}");
        wire.send(login(user, password));
        assert_eq!(wire.read_exact(2), proven, "{user}");
        let Some(code) = code else {
            assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
            continue;
        };
        wire.send(request(&to));
        assert_eq!(wire.read_exact(10), answer(code), "{user}");
        let identity = format!("user:{user}");
        let records = proxy.record(|record| record["identity"] == *identity);
        assert_eq!(records["protocol"], "socks5");
    }
    proxy.record(|record| record["reason"] == "auth_failed").assert_has(&json!({
        "event": "deny", "status": 407, "protocol": "socks5", "identity": null,
    }));
    let log = proxy.log() + &proxy.stderr();
    assert!(!log.contains(PASSWORD) && !log.contains("hunter2"), "{log}");
}

#[test]
fn a_user_that_is_gone_loses_the_tunnel_and_one_that_is_still_there_does_not() {
    let origin = Origin::echo();
    let keys = format!("{BOTH}, basic_auth: {{users_file: users.htpasswd}}");
    let proxy = Egressd::start_in(files(), &listening(&keys, &[&format!("tcp://{}", origin.address())]));
    let mut tunnels = [("gitaly", PASSWORD), ("backup", "hunter2-hunter2")].map(|(user, password)| {
        let mut wire = proxy.connect();
        wire.send([greeting(&[2]), login(user, password), request(&origin.address().to_string())].concat());
        assert_eq!(wire.read_exact(14), [&[5, 2, 1, 0][..], &GRANTED].concat(), "all at once");
        echoes(&mut wire, "x");
        wire
    });
    // Each with the hash that it had: another one, too, would end the tunnel.
    let before = crate::support::read(&proxy.file("users.htpasswd"));
    let kept: String =
        before.lines().filter(|line| line.starts_with("backup:")).map(|line| format!("{line}\n")).collect();
    write(&proxy.file("users.htpasswd"), kept);
    proxy.signal(Signal::HUP);
    let [gone, kept] = &mut tunnels;
    assert_eq!(gone.read_to_end().0, b"");
    proxy
        .record(|record| record["ending"] == "identity_revoked")
        .assert_has(&json!({"identity": "user:gitaly"}));
    echoes(kept, "y");
}

#[test]
fn a_client_that_insists_on_a_password_may_have_any_where_nobody_asks() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&listening(BOTH, &[&format!("tcp://{}", origin.address())]));
    let mut wire = proxy.connect();
    wire.send(
        [greeting(&[2]), login("anybody", "anything"), request(&origin.address().to_string())].concat(),
    );
    assert_eq!(wire.read_exact(14), [&[5, 2, 1, 0][..], &GRANTED].concat());
    echoes(&mut wire, "ping");
    proxy.record(|record| record["event"] == "open").assert_has(&json!({"identity": null}));
}

#[test]
fn it_is_spoken_inside_tls_with_a_client_certificate_and_behind_a_balancer_too() {
    let (authority, origin) = (Authority::new(), Origin::echo());
    let to = origin.address().to_string();
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let own = authority.issue(&[NAME]);
    for (name, text) in [("tls.crt", &*own.pem), ("tls.key", &own.key_pem), ("ca.crt", authority.pem())] {
        write(&path(name), text);
    }
    let keys = format!("{TRUSTED}, {BOTH}, tls: {{certificate: tls.crt, key: tls.key, client_ca: ca.crt}}");
    let policies = format!(
        "  - {{name: all, clients: {{networks: [192.0.2.0/24], identities: [\"dns:gitaly.corp\"]}}, private: [127.0.0.0/8], allow: \
         [\"tcp://{to}\"]}}\n"
    );
    let proxy = Egressd::start_in(directory, &deciding(&keys, &policies));
    for (name, code) in [("gitaly.corp", 0), ("backup.corp", 2)] {
        let mut wire = proxy.connect();
        wire.send(v2([192, 0, 2, 9], &[]));
        let own = authority.issue_client_named(name);
        let mut wire = Wire::through(authority.client_as(NAME, wire, Some(&own)));
        assert_eq!(ask(&mut wire, &to), code, "{name}");
        let identity = format!("dns:{name}");
        proxy.record(|record| record["identity"] == *identity).assert_has(&json!({
            "client": "192.0.2.9:4711", "protocol": "socks5",
        }));
        if code == 0 {
            echoes(&mut wire, "ping");
        }
    }
}

#[test]
fn a_client_of_the_other_protocol_is_told_which_one_is_spoken() {
    let proxy = Egressd::start(&listening("protocols: [socks5]", &["a.test"]));
    let refused = proxy.refuses(connect_to("a.test:443"), 400, "bad_request");
    assert!(
        refused.reply.body.contains("this listener speaks SOCKS5 alone: use socks5h://"),
        "{}",
        refused.reply.body
    );
    let mut wire = proxy.connect();
    wire.send(b"\x04\x01\x01\xbb\xc0\0\x02\x01\0");
    assert_eq!(wire.read_to_end(), (vec![0, 0x5b, 0, 0, 0, 0, 0, 0], End::Fin));
    until("the advice about SOCKS4 on stderr", || {
        proxy.stderr().contains("the client speaks SOCKS4").then_some(())
    });
    // A listener of HTTP alone is as it was.
    let proxy = Egressd::start(&listening("protocols: [http]", &["a.test"]));
    let mut wire = proxy.connect();
    wire.send(greeting(&[0]));
    assert_eq!(wire.read_reply().status, 400);
}

/// The first byte is waited for as that of HTTP is: a probe sends none, and is counted alone.
#[test]
fn a_probe_is_counted_and_has_no_record() {
    let proxy = Egressd::start(&listening(BOTH, &["a.test"]));
    drop(proxy.connect());
    until("the probe", || (connections(&proxy, "probe") == 1).then_some(()));
    assert_eq!(proxy.records().len(), 0);
    let text = "limits: {head_timeout: 1s}\n";
    let slow = Egressd::start(&(listening(BOTH, &["a.test"]) + text));
    let mut wire = slow.connect();
    wire.send([5]);
    assert_eq!(wire.read_to_end(), (vec![5, 0xff], End::Fin));
    slow.record(|record| record["reason"] == "head_timeout").assert_has(&json!({"protocol": "socks5"}));
    // One that begins as HTTP has no more time than before.
    let mut wire = slow.connect();
    wire.send("GET /");
    assert_eq!(wire.read_reply().status, 408);
}

#[test]
fn the_key_is_checked() {
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    let rows = [
        ("protocols: []", Some(78), "`protocols` is empty"),
        ("protocols: [http, http]", Some(0), "`http` is listed twice"),
        ("protocols: [socks4]", Some(78), "socks4"),
        ("protocols: [socks5, http]", Some(0), ""),
    ];
    for (keys, code, want) in rows {
        write(&file, listening(keys, &["a.example"]));
        let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
        let told = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(output.status.code() == code && told.contains(want), "{keys}: {told}");
    }
}

/// New hashes of the same passwords: the names are the same, the proofs are not.
#[test]
fn another_hash_of_the_same_password_ends_what_the_old_one_proved() {
    let origin = Origin::echo();
    let keys = format!("{BOTH}, basic_auth: {{users_file: users.htpasswd}}");
    let proxy = Egressd::start_in(files(), &listening(&keys, &[&format!("tcp://{}", origin.address())]));
    let mut wire = proxy.connect();
    wire.send([greeting(&[2]), login("gitaly", PASSWORD), request(&origin.address().to_string())].concat());
    assert_eq!(wire.read_exact(14), [&[5, 2, 1, 0][..], &GRANTED].concat());
    write(&proxy.file("users.htpasswd"), users(&[("gitaly", PASSWORD)]));
    assert_eq!(wire.read_to_end().0, b"");
    proxy.record(|record| record["ending"] == "identity_revoked");
}
