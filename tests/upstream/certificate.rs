//! `verify_certificate`: the target proves that it is the host before the client's hello goes to it.

use std::io::{Read, Write};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Authority, Egressd, End, Origin, Record, Wire, client_hello, command, config, directory, run, until,
    write,
};

const HOST: &str = "a.test";

/// A configuration in which `HOST` resolves to the origin, with a rule that verifies the certificate by `roots.pem`.
fn verifying(origin: &Origin) -> String {
    let rule = format!("{{to: \"https://{HOST}:{}\", verify_certificate: true}}", origin.port());
    config(&[&rule])
        + &format!("certificates: {{roots: roots.pem}}\ndns: {{hosts: {{{HOST}: [127.0.0.1]}}}}\n")
}

fn trusting(authority: &Authority) -> TempDir {
    let directory = directory();
    write(&directory.path().join("roots.pem"), authority.pem());
    directory
}

/// Opens a tunnel, sends a hello in it and expects this alert (RFC 8446 §6) and this reason.
fn is_refused(proxy: &Egressd, origin: &Origin, alert: u8, reason: &str) -> Record {
    let mut tunnel = proxy.tunnel(&format!("{HOST}:{}", origin.port()));
    let client = tunnel.local().to_string();
    tunnel.send(client_hello(Some(HOST)));
    assert_eq!(tunnel.read_to_end(), (vec![21, 3, 3, 0, 2, 2, alert], End::Fin), "{reason}");
    let record = proxy.record(|r| r["client"] == client.as_str() && r["event"] == "deny");
    record.assert_has(&json!({
        "reason": reason, "decision": "deny", "status": 200, "sni": HOST, "sent": null,
        "upstream": origin.address().to_string(),
    }));
    record
}

/// Speaks TLS through a tunnel, and returns the address of its client.
fn speak(proxy: &Egressd, origin: &Origin, authority: &Authority) -> String {
    let tunnel = proxy.tunnel(&format!("{HOST}:{}", origin.port()));
    let client = tunnel.local().to_string();
    let mut tls = authority.client(HOST, tunnel);
    tls.write_all(b"ping").expect("the tunnel stands");
    let mut answer = [0; 4];
    tls.read_exact(&mut answer).expect("an echo");
    assert_eq!(&answer, b"ping");
    client
}

#[test]
fn a_target_with_a_valid_certificate_is_let_through_and_asked_once() {
    let authority = Authority::new();
    let origin = Origin::tls_echo(&authority.issue(&[HOST]));
    let proxy = Egressd::start_in(trusting(&authority), &verifying(&origin));
    let client = speak(&proxy, &origin, &authority);
    proxy.record(|r| r["client"] == client.as_str() && r["event"] == "close").assert_has(&json!({
        "decision": "allow", "reason": null, "sni": HOST, "ending": "client_closed",
    }));
    assert_eq!(origin.seen().len(), 2, "the tunnel, and the proof");
    speak(&proxy, &origin, &authority);
    assert_eq!(origin.seen().len(), 3, "the proof is known");
}

#[test]
fn t15_a_target_that_cannot_prove_to_be_the_host_never_sees_the_clients_hello() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (what, certificate) in
        [("another host's", authority.issue(&["b.test"])), ("a stranger's word", stranger.issue(&[HOST]))]
    {
        let origin = Origin::tls_echo(&certificate);
        let proxy = Egressd::start_in(trusting(&authority), &verifying(&origin));
        is_refused(&proxy, &origin, 42, "certificate_invalid");
        is_refused(&proxy, &origin, 42, "certificate_invalid");
        until("both tunnels to end without a byte", || {
            let empty = |seen: &&crate::support::Seen| seen.ended && seen.bytes.is_empty();
            (origin.seen().iter().filter(empty).count() == 2).then_some(())
        });
        assert_eq!(origin.seen().len(), 3, "{what}: two tunnels and one proof");
        until("the detail on stderr", || {
            proxy.stderr().contains("certificate_invalid: a.test").then_some(())
        });
        let denied = proxy.metrics().count("egressd_requests_total", &[("reason", "certificate_invalid")]);
        assert_eq!(denied, 2, "{what}");
    }
}

#[test]
fn t15_a_target_that_does_not_speak_tls_is_reported_as_such() {
    let authority = Authority::new();
    let origin = Origin::saying("SSH-2.0-OpenSSH_9.2\r\n");
    let proxy = Egressd::start_in(trusting(&authority), &verifying(&origin));
    is_refused(&proxy, &origin, 49, "upstream_not_tls");
}

#[test]
fn a_target_that_is_silent_is_given_up_at_the_connect_timeout() {
    let authority = Authority::new();
    let origin = Origin::silent();
    let text = verifying(&origin) + "tunnel: {connect_timeout: 300ms}\n";
    let proxy = Egressd::start_in(trusting(&authority), &text);
    is_refused(&proxy, &origin, 49, "upstream_not_tls");
}

#[test]
fn a_client_that_leaves_while_the_target_proves_itself_is_noticed_and_the_proof_is_given_up() {
    let authority = Authority::new();
    let origin = Origin::silent();
    let text = verifying(&origin) + "tunnel: {connect_timeout: 1h}\n";
    let proxy = Egressd::start_in(trusting(&authority), &text);
    let probing = |probes: usize| {
        until("the proof to begin", || {
            let hellos = origin.seen().iter().filter(|seen| !seen.bytes.is_empty()).count();
            (hellos == probes).then_some(())
        });
    };
    let begin = |early: &[u8]| {
        let mut tunnel = proxy.tunnel(&format!("{HOST}:{}", origin.port()));
        tunnel.send(client_hello(Some(HOST)));
        tunnel.send(early);
        tunnel
    };
    let gone = |client: &str| {
        let record = proxy.record(|r| r["client"] == client && r["event"] != "open");
        record.assert_has(&json!({"event": "error", "reason": "client_gone", "status": 200, "sni": HOST}));
    };
    // By a close, by a reset, with more behind the hello; each is the only one that waits.
    for (round, early) in [&b""[..], b"", &[23, 3, 3, 0, 1, 7]].into_iter().enumerate() {
        let tunnel = begin(early);
        let client = tunnel.local().to_string();
        probing(round + 1);
        if round == 1 {
            tunnel.reset();
        } else {
            drop(tunnel);
        }
        gone(&client);
        until("tunnel and proof to be closed", || origin.seen().iter().all(|seen| seen.ended).then_some(()));
    }
    // Another waits for the same proof: it goes on when the first one leaves.
    let (first, second) = (begin(b""), begin(b""));
    let (one, two) = (first.local().to_string(), second.local().to_string());
    probing(4);
    // Both hellos were read: a tunnel that shows a server name waits for the proof.
    until("both to wait", || {
        let shown = proxy.get("/api/tunnels").body.matches(&format!("\"sni\":\"{HOST}\"")).count();
        (shown == 2).then_some(())
    });
    drop(first);
    gone(&one);
    let is_open = |seen: &crate::support::Seen| !seen.ended && !seen.bytes.is_empty();
    assert!(origin.seen().iter().any(is_open), "the proof");
    drop(second);
    gone(&two);
    until("the proof to be closed", || (!origin.seen().iter().any(is_open)).then_some(()));
    let hellos = origin.seen().iter().filter(|seen| !seen.bytes.is_empty()).count();
    assert_eq!(hellos, 4, "one proof for two");
}

/// Open files for egressd, and the handshakes at once that they allow.
const DESCRIPTORS: usize = 400;
const HANDSHAKES: usize = 6;

/// egressd with few handshakes at once. Any name under `silent.test` is at an origin that says nothing.
fn with_few_handshakes(authority: &Authority, origin: &Origin, silent: &Origin, timeout: &str) -> Egressd {
    let verifying = |host: &str, at: &Origin| {
        format!("{{to: \"https://{host}:{}\", verify_certificate: true}}", at.port())
    };
    let names: String = (0..4 * HANDSHAKES).map(|n| format!(", n{n}.silent.test: [127.0.0.1]")).collect();
    let text = config(&[&verifying(HOST, origin), &verifying("*.silent.test", silent)])
        + &format!("certificates: {{roots: roots.pem}}\ndns: {{hosts: {{{HOST}: [127.0.0.1]{names}}}}}\n")
        + &format!("tunnel: {{connect_timeout: {timeout}}}\n");
    Egressd::start_with_descriptors(trusting(authority), text, DESCRIPTORS)
}

/// One client asks for far more proofs of silent targets than there are handshakes.
fn hold_every_handshake(proxy: &Egressd, silent: &Origin) -> Vec<Wire> {
    let held = (0..4 * HANDSHAKES)
        .map(|number| {
            let (mut wire, host) = (
                Wire::connect_from([127, 0, 7, 80].into(), proxy.address()),
                format!("n{number}.silent.test"),
            );
            let authority = format!("{host}:{}", silent.port());
            wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
            assert_eq!(wire.read_head().status, 200);
            wire.send(client_hello(Some(&host)));
            wire
        })
        .collect();
    until("a handshake in every place", || {
        let hellos = silent.seen().iter().filter(|seen| !seen.bytes.is_empty()).count();
        (hellos >= HANDSHAKES).then_some(())
    });
    held
}

#[test]
fn silent_targets_of_one_client_are_not_felt_by_another() {
    let authority = Authority::new();
    let (origin, silent) = (Origin::tls_echo(&authority.issue(&[HOST])), Origin::silent());
    let proxy = with_few_handshakes(&authority, &origin, &silent, "10m");
    let held = hold_every_handshake(&proxy, &silent);
    // From another address.
    speak(&proxy, &origin, &authority);
    let ended = |record: &&Record| record["event"] == "error" || record["event"] == "deny";
    assert_eq!(proxy.records().iter().filter(ended).count(), 0, "the attack is still held");
    drop(held);
}

#[test]
fn a_proof_without_a_place_in_time_says_nothing_of_the_target() {
    let authority = Authority::new();
    let (origin, silent) = (Origin::tls_echo(&authority.issue(&[HOST])), Origin::silent());
    let proxy = with_few_handshakes(&authority, &origin, &silent, "3s");
    for mut wire in hold_every_handshake(&proxy, &silent) {
        assert_eq!(wire.read_to_end(), (vec![21, 3, 3, 0, 2, 2, 49], End::Fin));
    }
    proxy.record(|r| r["reason"] == "upstream_not_tls").assert_has(&json!({"event": "deny", "status": 200}));
    proxy.record(|r| r["reason"] == "local_resources").assert_has(&json!({
        "event": "error", "status": 200, "sent": null, "upstream": silent.address().to_string(),
    }));
    until("the detail on stderr", || proxy.stderr().contains("had all the places").then_some(()));
}

#[test]
fn report_mode_relaxes_no_proof() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let origin = Origin::tls_echo(&stranger.issue(&[HOST]));
    let text = verifying(&origin).replace("    private:", "    mode: report\n    private:");
    let proxy = Egressd::start_in(trusting(&authority), &text);
    is_refused(&proxy, &origin, 42, "certificate_invalid");
}

#[test]
fn a_rule_without_the_option_asks_for_no_proof() {
    let origin = Origin::tls_echo(&Authority::new().issue(&["b.test"]));
    let text = verifying(&origin).replace(", verify_certificate: true", "");
    let proxy = Egressd::start_in(trusting(&Authority::new()), &text);
    let mut tunnel = proxy.tunnel(&format!("{HOST}:{}", origin.port()));
    tunnel.send(client_hello(Some(HOST)));
    assert_eq!(tunnel.read_exact(1), [22], "the target's hello");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_reload_takes_up_changed_roots_and_forgets_what_the_old_ones_said() {
    let (authority, old) = (Authority::new(), Authority::new());
    let origin = Origin::tls_echo(&authority.issue(&[HOST]));
    let proxy = Egressd::start_in(trusting(&old), &verifying(&origin));
    is_refused(&proxy, &origin, 42, "certificate_invalid");

    write(&proxy.file("roots.pem"), "no certificate\n");
    proxy.signal(Signal::HUP);
    until("the refusal", || proxy.stderr().contains("holds no certificate in PEM form").then_some(()));
    is_refused(&proxy, &origin, 42, "certificate_invalid");

    let hash = |proxy: &Egressd| proxy.metrics().label_values("egressd_config_info", "sha256").join(",");
    let before = hash(&proxy);
    write(&proxy.file("roots.pem"), authority.pem());
    proxy.signal(Signal::HUP);
    until("the reload", || (hash(&proxy) != before).then_some(()));
    speak(&proxy, &origin, &authority);
}

#[test]
fn without_authorities_egressd_does_not_start_and_says_why() {
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    let wants = config(&["{to: a.test, verify_certificate: true}"]);
    write(&file, &wants);
    let mut command = command();
    command.env("SSL_CERT_FILE", "/nonexistent/store.pem").arg("run").arg("--config").arg(&file);
    let ended = Egressd::spawn(directory, command).wait();
    assert_eq!(ended.code, 1);
    let told = "the system has no store of certificate authorities (/nonexistent/store.pem): install ca-certificates, or \
                name a PEM file in `certificates.roots`";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);

    // A configuration that verifies nothing needs no authorities.
    let directory = crate::support::directory();
    let file = directory.path().join("egressd.yaml");
    write(&file, wants.replace(", verify_certificate: true", ""));
    let mut command = crate::support::command();
    command.env("SSL_CERT_FILE", "/nonexistent/store.pem").arg("run").arg("--config").arg(&file);
    let proxy = Egressd::spawn(directory, command);
    proxy.admin();
    assert_eq!(proxy.stop().code, 0);
}

#[test]
fn check_reads_the_roots() {
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    let roots = directory.path().join("roots.pem");
    write(
        &file,
        "policies: [{name: p, allow: [{to: a.test, verify_certificate: true}]}]\ncertificates: {roots: roots.pem}\n",
    );
    write(&roots, "no certificate\n");
    let path = file.to_str().expect("UTF-8");
    let refused = run(&["check", "--config", path]);
    assert_eq!(refused.status.code(), Some(78));
    let text = [refused.stdout, refused.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("egressd.yaml:2:23: error: the file holds no certificate in PEM form"), "{text}");
    write(&roots, Authority::new().pem());
    assert_eq!(run(&["check", "--config", path]).status.code(), Some(0));
}
