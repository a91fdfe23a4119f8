//! Row 6 where a rule says `ech: deny`: a ClientHello with encrypted_client_hello goes nowhere, real or GREASE.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use crate::suite::hello::{self, ECH, retry_request, sni};
use crate::support::{Authority, Egressd, End, Origin, TlsStream, Wire, config, until};

const NAME: &str = "git.test";

/// An egressd in `mode` with one rule for the origin, and a rule for another port that allows ECH.
fn start(mode: &str, origin: &Origin) -> Egressd {
    let rule = format!("{{to: \"{NAME}:{}\", ech: deny}}", origin.port());
    let text = config(&[&rule]).replace("    private:", &format!("    mode: {mode}\n    private:"));
    Egressd::start(&format!("{text}dns: {{hosts: {{{NAME}: [127.0.0.1]}}}}\n"))
}

fn tunnel(proxy: &Egressd, origin: &Origin) -> Wire {
    proxy.tunnel(&format!("{NAME}:{}", origin.port()))
}

/// A client that sends GREASE, as browsers do.
fn greasing(authority: &Authority, wire: Wire) -> TlsStream {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("our certificate is well-formed");
    let suite = aws_lc_rs::hpke::ALL_SUPPORTED_SUITES[0];
    let (placeholder, _) = suite.generate_key_pair().expect("a key");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_ech(EchMode::Grease(EchGreaseConfig::new(suite, placeholder)))
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), NAME.try_into().expect("a name"));
    StreamOwned::new(connection.expect("a client"), wire.into_stream())
}

#[test]
fn t06_a_hello_with_ech_is_refused_where_the_rule_says_so() {
    let authority = Authority::new();
    let origin = Origin::tls_echo(&authority.issue(&[NAME]));
    let proxy = start("enforce", &origin);
    // The outer form, the inner form of one byte, and nothing in it; the number of a draft, and ESNI.
    let forms =
        [(ECH, vec![0; 180]), (ECH, vec![1]), (ECH, vec![]), (0xfe0a, vec![0; 180]), (0xffce, vec![0; 180])];
    for hidden in forms {
        let mut wire = tunnel(&proxy, &origin);
        wire.send(hello::with(vec![sni(NAME), hidden]));
        // access_denied.
        assert_eq!(wire.read_to_end(), (vec![21, 3, 3, 0, 2, 2, 49], End::Fin));
    }
    let mut tls = greasing(&authority, tunnel(&proxy, &origin));
    assert!(tls.write_all(b"hello").and_then(|()| tls.flush()).is_err() || tls.read(&mut [0; 5]).is_err());
    // The name comes first.
    let mut wire = tunnel(&proxy, &origin);
    wire.send(hello::with(vec![sni("other.test"), (ECH, vec![0; 180])]));
    wire.read_to_end();
    let mut tls = authority.client(NAME, tunnel(&proxy, &origin));
    tls.write_all(b"hello").expect("without ECH it passes");
    let mut back = [0; 5];
    tls.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"hello");
    drop(tls);
    let refused = until("seven records", || {
        let records = proxy.records().into_iter();
        let refused: Vec<_> = records.filter(|record| record["event"] == "deny").collect();
        (refused.len() >= 7).then_some(refused)
    });
    assert_eq!(refused.len(), 7);
    for record in &refused[..6] {
        record.assert_has(&json!({"reason": "ech_not_allowed", "status": 200, "sni": NAME}));
    }
    refused[6].assert_has(&json!({"reason": "sni_mismatch", "sni": "other.test"}));
    assert_eq!(origin.seen().iter().filter(|seen| !seen.bytes.is_empty()).count(), 1, "the one without");
}

#[test]
fn t06_in_report_mode_ech_passes_and_is_recorded_and_the_other_checks_stay() {
    let authority = Authority::new();
    let origin = Origin::tls_echo(&authority.issue(&[NAME]));
    let proxy = start("report", &origin);
    let mut tls = greasing(&authority, tunnel(&proxy, &origin));
    tls.write_all(b"hello").expect("it passes");
    let mut back = [0; 5];
    tls.read_exact(&mut back).expect("an echo");
    drop(tls);
    let open = proxy.record(|record| record["event"] == "open");
    open.assert_has(&json!({"decision": "would_deny", "reason": "ech_not_allowed", "sni": NAME}));
    drop(proxy);
    // A target that does not answer in TLS is refused in every mode.
    let plain = Origin::saying("220 no TLS here\r\n");
    let proxy = start("report", &plain);
    let mut wire = tunnel(&proxy, &plain);
    wire.send(hello::with(vec![sni(NAME), (ECH, vec![0; 180])]));
    wire.read_to_end();
    proxy.record(|record| record["reason"] == "upstream_not_tls");
}

#[test]
fn t06_a_second_hello_with_ech_is_refused_too() {
    let retry = retry_request();
    let origin = Origin::saying(retry.clone());
    let proxy = start("enforce", &origin);
    let mut wire = tunnel(&proxy, &origin);
    wire.send(hello::with(vec![sni(NAME)]));
    assert_eq!(wire.read_exact(retry.len()), retry);
    wire.send(hello::with(vec![sni(NAME), (ECH, vec![1])]));
    assert_eq!(wire.read_to_end().0, [21, 3, 3, 0, 2, 2, 49]);
    proxy.record(|record| record["reason"] == "ech_not_allowed");
}
