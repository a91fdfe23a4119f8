//! TLS to the proxy, and the certificates of its clients.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Authority, Egressd, End, Issued, Origin, TlsStream, Wire, directory, run, until, write,
};
use crate::{
    assert_closed_without_a_word, connect_to, deciding, listening, refused_connections, wait_for_connections,
};

pub(crate) const NAME: &str = "proxy.test";
pub(crate) const TLS: &str = "tls: {certificate: tls.crt, key: tls.key}";
pub(crate) const MUTUAL: &str =
    "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt, client_crl: ca.crl}";

/// A directory with the files of a listener; the client certificates with the serial numbers `revoked` are revoked.
pub(crate) fn files(authority: &Authority, revoked: &[u8]) -> TempDir {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    write(&path("ca.crt"), authority.pem());
    write(&path("ca.crl"), authority.crl(revoked));
    write_own(directory.path(), &authority.issue(&[NAME]));
    directory
}

fn write_own(directory: &Path, own: &Issued) {
    write(&directory.join("tls.crt"), &own.pem);
    write(&directory.join("tls.key"), &own.key_pem);
}

pub(crate) fn connect(proxy: &Egressd, authority: &Authority, own: Option<&Issued>) -> Wire<TlsStream> {
    Wire::through(authority.client_as(NAME, proxy.connect(), own))
}

/// Asserts that a client that speaks TLS gets only an alert and the end of the connection.
pub(crate) fn assert_let_down(proxy: &Egressd, authority: &Authority, own: Option<&Issued>) -> String {
    let mut stream = authority.client_as(NAME, proxy.connect(), own);
    let peer = stream.sock.local_addr().expect("connected").to_string();
    let _ = stream.write_all(connect_to("a.example:443").as_bytes());
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).expect_err("a fatal alert");
    assert!(answer.is_empty() && error.to_string().contains("fatal alert"), "{error}");
    peer
}

#[test]
fn requests_and_tunnels_go_through_tls_as_they_do_without() {
    let (authority, origin) = (Authority::new(), Origin::echo());
    let inner = Authority::new();
    let tls_origin = Origin::tls_echo(&inner.issue(&["git.test"]));
    let rules = [
        format!("tcp://127.0.0.1:{}", origin.port()),
        format!("https://git.test:{}", tls_origin.port()),
        format!("http://127.0.0.1:{}", origin.port()),
    ];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let text = listening(TLS, &rules) + "dns: {hosts: {git.test: [127.0.0.1]}}\n";
    let proxy = Egressd::start_in(files(&authority, &[]), &text);

    // A tunnel, to the byte, half-closed from the client's side.
    let mut wire = connect(&proxy, &authority, None);
    wire.send(connect_to(&origin.address().to_string()));
    let reply = wire.read_head();
    assert_eq!(reply.status, 200);
    let megabyte = vec![7; 1 << 20];
    for piece in megabyte.chunks(1 << 16) {
        wire.send(piece);
        assert_eq!(wire.read_exact(piece.len()), piece);
    }
    drop(wire);
    let close = proxy.record(|record| record["id"] == reply.id() && record["event"] == "close");
    close.assert_has(&json!({"sent": 1 << 20, "received": 1 << 20, "identity": null, "listener": "proxy"}));

    // TLS inside TLS, through the gate that reads the ClientHello.
    let authority_of_origin = format!("git.test:{}", tls_origin.port());
    let mut outer = connect(&proxy, &authority, None);
    outer.send(connect_to(&authority_of_origin));
    assert_eq!(outer.read_head().status, 200);
    let hello = crate::support::client_hello(Some("evil.test"));
    outer.send(hello);
    let (alert, end) = outer.read_to_end();
    // A fatal alert, unrecognized_name, inside; and a clean end outside.
    assert_eq!((&alert[..], end), (&[21, 3, 3, 0, 2, 2, 112][..], End::Fin));

    // Refusals arrive whole.
    let mut wire = connect(&proxy, &authority, None);
    wire.send(connect_to("b.example:443"));
    proxy.refused(wire, 403, "host_not_allowed");
}

#[test]
fn each_record_within_a_tunnel_has_an_outer_record_of_its_own() {
    let (authority, origin) = (Authority::new(), Origin::echo());
    let rule = format!("tcp://{}", origin.address());
    let proxy = Egressd::start_in(files(&authority, &[]), &listening(TLS, &[&rule]));
    let mut wire = connect(&proxy, &authority, None);
    wire.send(connect_to(&origin.address().to_string()));
    assert_eq!(wire.read_head().status, 200);
    let record = |len: u8| [&[23, 3, 3, 0, len][..], &vec![7; usize::from(len)]].concat();
    let records = [record(10), record(200), record(0)].concat();
    wire.send(&records);
    let mut socket = &wire.stream().sock;
    // A record of TLS 1.3: five bytes of header, the content, its type, its tag.
    let mut raw = vec![0; records.len() + 3 * (5 + 1 + 16)];
    socket.read_exact(&mut raw).expect("the echo");
    let (mut lengths, mut rest) = (Vec::new(), &raw[..]);
    while let [23, 3, 3, high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(len - 17);
        rest = &after[len.min(after.len())..];
    }
    assert_eq!(lengths, [15, 205, 5]);
}

#[test]
fn identities_decide_between_policies() {
    let (authority, origin) = (Authority::new(), Origin::echo());
    let to = origin.address();
    let policies = format!(
        "  - {{name: gitaly, clients: {{identities: [\"spiffe://corp/gitaly\"]}}, private: [127.0.0.0/8], allow: [\"tcp://{to}\"]}}\n  \
           - {{name: named, clients: {{identities: [\"cn:backup\", \"cn:other\"]}}, allow: [b.example]}}\n"
    );
    let proxy = Egressd::start_in(files(&authority, &[]), &deciding(MUTUAL, &policies));
    let cases = [
        (
            authority.issue_client(1, "gitaly", Some("spiffe://corp/gitaly")),
            200,
            "gitaly",
            "spiffe://corp/gitaly",
        ),
        // The common name is another identity, and the log shows the first proven one.
        (authority.issue_client(2, "backup", Some("spiffe://corp/x")), 403, "named", "spiffe://corp/x"),
        (authority.issue_client(3, "backup", None), 403, "named", "cn:backup"),
        (authority.issue_client(4, "spiffe://corp/gitaly", None), 403, "", "cn:spiffe://corp/gitaly"),
        (authority.issue_client(5, "stranger", None), 403, "", "cn:stranger"),
    ];
    for (own, status, policy, identity) in &cases {
        let mut wire = connect(&proxy, &authority, Some(own));
        wire.send(connect_to(&to.to_string()));
        let reply = wire.read_head();
        assert_eq!(reply.status, *status, "{identity}");
        let record = proxy.record(|record| record["id"] == reply.id());
        assert_eq!(record["identity"], *identity);
        assert_eq!(record["policy"].as_str().unwrap_or(""), *policy, "{record:?}");
        let reason = match (status, *policy) {
            (200, _) => None,
            (_, "") => Some("client_not_allowed"),
            _ => Some("host_not_allowed"),
        };
        assert_eq!(record["reason"].as_str(), reason);
    }
}

#[test]
fn a_client_without_a_valid_certificate_gets_no_further_than_the_handshake() {
    let (authority, other) = (Authority::new(), Authority::new());
    let proxy = Egressd::start_in(files(&authority, &[66]), &listening(MUTUAL, &["a.example"]));
    let cases = [
        (None, "the client showed no certificate"),
        (Some(other.issue_client(1, "gitaly", None)), "not issued by a CA of client_ca"),
        (Some(authority.issue_client(66, "gitaly", None)), "revoked by client_crl"),
    ];
    for (number, (own, why)) in (1..).zip(&cases) {
        let peer = assert_let_down(&proxy, &authority, own.as_ref());
        wait_for_connections(&proxy, "tls_failed", number);
        proxy.record(|record| record["peer"] == peer.as_str()).assert_has(&json!({
            "event": "deny", "reason": "client_certificate_invalid", "decision": "deny", "client": peer,
            "identity": null, "method": null, "status": null,
        }));
        until("the diagnostics to say why", || proxy.stderr().contains(why).then_some(()));
    }
    let mut good = connect(&proxy, &authority, Some(&authority.issue_client(2, "gitaly", None)));
    good.send(connect_to("b.example:443"));
    proxy.refused(good, 403, "host_not_allowed");
}

#[test]
fn what_is_not_a_handshake_is_closed_and_recorded() {
    let authority = Authority::new();
    let keys = "tls: {certificate: tls.crt, key: tls.key, handshake_timeout: 200ms}";
    let proxy = Egressd::start_in(files(&authority, &[]), &listening(keys, &["a.example"]));
    let hello = crate::support::client_hello(Some(NAME));
    // A client that speaks neither TLS nor HTTP, one that stops in the middle, one that speaks TLS and stays silent.
    let cases: [(&[u8], &str); 3] = [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "the client spoke SSH"),
        (&hello[..100], "the TLS handshake did not end in time"),
        (&hello, "the TLS handshake did not end in time"),
    ]
    .map(|(bytes, why)| (bytes.to_vec().leak() as &[u8], why));
    for (bytes, why) in cases {
        let mut wire = proxy.connect();
        let peer = wire.local().to_string();
        wire.send(bytes);
        let (answer, _) = wire.read_to_end();
        assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
        proxy
            .record(|record| record["peer"] == peer.as_str())
            .assert_has(&json!({"event": "deny", "reason": "tls_handshake_failed", "client": peer}));
        until("the diagnostics to say why", || proxy.stderr().contains(why).then_some(()));
    }
    wait_for_connections(&proxy, "tls_failed", 3);
    // A client that trusts another authority.
    let mut stream = Authority::new().client(NAME, proxy.connect());
    stream.write_all(b"x").expect_err("the listener's certificate is not trusted");
    drop(stream);
    until("the diagnostics to say why", || {
        proxy.stderr().contains("does not trust this listener's certificate").then_some(())
    });
    assert_eq!(refused_connections(&proxy.stop().records).len(), 4);
}

#[test]
fn probes_of_a_tls_listener_are_silent() {
    let authority = Authority::new();
    let proxy = Egressd::start_in(files(&authority, &[]), &listening(MUTUAL, &["a.example"]));
    for _ in 0..3 {
        let mut probe = proxy.connect();
        probe.finish();
        assert_closed_without_a_word(probe);
        proxy.connect().reset();
    }
    wait_for_connections(&proxy, "probe", 6);
    assert!(proxy.stop().records.is_empty());
}

#[test]
fn a_new_certificate_counts_from_the_next_handshake_on_and_a_new_revocation_list_at_once() {
    let (authority, origin) = (Authority::new(), Origin::echo());
    let rule = format!("tcp://{}", origin.address());
    let proxy = Egressd::start_in(files(&authority, &[]), &listening(MUTUAL, &[&rule]));
    let client = authority.issue_client(7, "gitaly", None);
    let expires = |proxy: &Egressd| {
        proxy.metrics().sum("egressd_certificate_expires_timestamp_seconds", &[("listener", "proxy")])
    };
    let shown = |wire: &Wire<TlsStream>| {
        wire.stream().conn.peer_certificates().expect("it has shown one")[0].to_vec()
    };
    // rcgen's certificates are good until 4096-01-01.
    assert_eq!(expires(&proxy), 67_090_118_400.0);

    let mut old = connect(&proxy, &authority, Some(&client));
    old.send(connect_to(&origin.address().to_string()));
    assert_eq!(old.read_head().status, 200);

    // Rotation, like cert-manager.
    let new = authority.issue_until(&[NAME], 2090);
    write_own(proxy.directory(), &new);
    proxy.signal(Signal::HUP);
    until("the new certificate", || (expires(&proxy) == 3_786_912_000.0).then_some(()));
    let mut wire = connect(&proxy, &authority, Some(&client));
    wire.send(connect_to("b.example:443"));
    assert_eq!(wire.read_head().status, 403);
    assert_ne!(shown(&wire), shown(&old));

    // A key that does not belong to the certificate is refused, and the old pair stays.
    write(&proxy.file("tls.key"), authority.issue(&[NAME]).key_pem);
    proxy.signal(Signal::HUP);
    until("the refusal", || proxy.stderr().contains("tls.key:1:1: error: does not belong to").then_some(()));
    assert_eq!(proxy.metrics().count("egressd_config_last_reload_successful", &[]), 0);
    let mut wire = connect(&proxy, &authority, Some(&client));
    wire.send(connect_to("b.example:443"));
    assert_eq!(wire.read_head().status, 403);

    // Revocation.
    write(&proxy.file("tls.key"), &new.key_pem);
    write(&proxy.file("ca.crl"), authority.crl(&[7]));
    proxy.signal(Signal::HUP);
    until("the new list", || {
        (proxy.metrics().count("egressd_config_last_reload_successful", &[]) == 1).then_some(())
    });
    assert_let_down(&proxy, &authority, Some(&client));
    // What the certificate opened has ended.
    assert!(old.read_to_end().0.is_empty());
    proxy.record(|record| record["ending"] == "identity_revoked").assert_has(
        &json!({"event": "close", "identity": "cn:gitaly", "reason": "client_certificate_invalid"}),
    );
}

#[test]
fn a_list_that_lacks_a_ca_is_refused_at_a_reload_and_nobody_is_cut_off() {
    let (authority, other) = (Authority::new(), Authority::new());
    let proxy = Egressd::start_in(files(&authority, &[]), &listening(MUTUAL, &["a.example"]));
    let client = authority.issue_client(7, "gitaly", None);
    write(&proxy.file("ca.crl"), other.crl(&[]));
    proxy.signal(Signal::HUP);
    proxy.says("ca.crl:1:1: error: has no revocation list of ");
    proxy.says("the changed configuration is refused");
    let mut wire = connect(&proxy, &authority, Some(&client));
    wire.send(connect_to("b.example:443"));
    assert_eq!(wire.read_head().status, 403);
    // Two CAs need two lists.
    write(&proxy.file("ca.crt"), format!("{}{}", authority.pem(), other.pem()));
    write(&proxy.file("ca.crl"), authority.crl(&[7]));
    proxy.signal(Signal::HUP);
    proxy.says("certificate 2 of client_ca: none of the clients of this CA could connect");
    let mut wire = connect(&proxy, &authority, Some(&client));
    wire.send(connect_to("b.example:443"));
    assert_eq!(wire.read_head().status, 403, "the old lists stay");
}

#[test]
fn the_status_page_tells_of_revocation_lists_that_are_due() {
    let authority = Authority::new();
    let directory = files(&authority, &[]);
    let list = directory.path().join("ca.crl");
    let proxy = Egressd::start_in(directory, &listening(MUTUAL, &["a.example"]));
    let warnings = || {
        let status: serde_json::Value = serde_json::from_str(&proxy.get("/api/status").body).expect("JSON");
        let all = status["warnings"].as_array().expect("a list").clone();
        let told = all.iter().filter_map(|told| told.as_str());
        told.filter(|told| told.starts_with("the revocation list of `"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(warnings(), Vec::<String>::new());
    let now = jiff::Timestamp::now().as_second();
    for (due, how) in [(now + 3_600, " is due to be renewed at "), (now - 60, " was due to be renewed at ")] {
        write(&list, authority.crl_until(&[], due));
        proxy.signal(Signal::HUP);
        until("the list on the page", || {
            let told = warnings();
            told.iter()
                .any(|told| told.contains(how) && told.contains("(client_crl of listener proxy)"))
                .then_some(())
        });
    }
}

#[test]
fn check_reports_what_is_wrong_with_the_files() {
    let authority = Authority::new();
    let directory = files(&authority, &[]);
    let file = directory.path().join("egressd.yaml");
    write(&file, listening(MUTUAL, &["a.example"]));
    let check = || {
        let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
        let text =
            String::from_utf8_lossy(&output.stdout).replace(&format!("{}/", directory.path().display()), "");
        (output.status.code(), text)
    };
    let (code, text) = check();
    assert!(
        code == Some(0) && text.contains("may read the listener's key") && text.lines().count() == 1,
        "{text}"
    );
    let only_for_its_owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(directory.path().join("tls.key"), only_for_its_owner).expect("it is ours");
    assert_eq!(check(), (Some(0), String::new()));
    write(&directory.path().join("ca.crl"), authority.pem());
    write(&directory.path().join("tls.key"), authority.issue(&[NAME]).key_pem);
    let (code, text) = check();
    assert_eq!(code, Some(78));
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "ca.crl:1:1: error: holds no certificate revocation list in PEM form but a certificate: are two files swapped?",
            &format!(
                "tls.key:1:1: error: does not belong to the certificate in {}",
                directory.path().join("tls.crt").display()
            )
            .replace(&format!("{}/", directory.path().display()), ""),
        ]
    );
}
