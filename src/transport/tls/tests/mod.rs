//! Handshakes in memory, with certificates made for each test.

mod anchors;
mod files;
mod revocation;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);
const NAME: &str = "proxy.test";

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    Authority { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
}

impl Authority {
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new([]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn server(&self) -> Pair {
        self.issue(|params| params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())])
    }

    fn client(&self, serial: u8) -> Pair {
        self.issue(|params| {
            params.serial_number = Some(SerialNumber::from_slice(&[serial]));
            params.distinguished_name.push(DnType::CommonName, "gitaly");
            params.subject_alt_names = vec![SanType::URI("spiffe://corp/gitaly".try_into().unwrap())];
        })
    }

    /// A list that revokes these serial numbers and is good until the year.
    fn crl(&self, revoked: &[u8], until: i32) -> String {
        self.list(revoked, |params| params.next_update = date_time_ymd(until, 1, 1))
    }

    /// A list that revokes these serial numbers, of 2024 and with the number 1.
    fn list(&self, revoked: &[u8], change: impl FnOnce(&mut CertificateRevocationListParams)) -> String {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial]),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(3024, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn file(name: &str, text: impl Into<Vec<u8>>) -> PemFile {
    PemFile { path: PathBuf::from(name), bytes: text.into() }
}

fn pem(own: &Pair) -> TlsPem {
    TlsPem {
        certificate: file("tls.crt", own.certificate.clone()),
        key: file("tls.key", own.key.clone()),
        client_ca: None,
        client_crl: None,
    }
}

fn mutual(own: &Pair, ca: &str, crl: Option<String>) -> TlsPem {
    let client_ca = Some(file("clients-ca.crt", ca));
    TlsPem { client_ca, client_crl: crl.map(|crl| file("clients.crl", crl)), ..pem(own) }
}

fn acceptor(pem: &TlsPem) -> ServerTls {
    ServerTls::from_pem(pem, Timestamp::now()).unwrap().tls
}

fn connector(ca: &Authority, own: Option<&Pair>) -> TlsConnector {
    connector_of(ca, own, rustls::DEFAULT_VERSIONS)
}

fn connector_of(
    ca: &Authority,
    own: Option<&Pair>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some(own) => {
            let chain =
                CertificateDer::pem_slice_iter(own.certificate.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    TlsConnector::from(Arc::new(config))
}

type Outcome = Result<Accepted<DuplexStream>, Failure<DuplexStream>>;

/// One handshake, then four bytes either way. The result: what the server saw, and the certificate that the client saw.
async fn meet(acceptor: &ServerTls, connector: TlsConnector) -> (Outcome, Option<Vec<u8>>) {
    let (near, far) = duplex(64 << 10);
    let client = Box::pin(async move {
        let mut stream = connector.connect(ServerName::try_from(NAME).unwrap(), near).await.ok()?;
        let shown = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
        stream.write_all(b"ping").await.ok()?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.ok()?;
        shown
    });
    let server = async {
        let mut outcome = acceptor.accept(far, BytesMut::new(), DEADLINE, Lease::alone()).await;
        match &mut outcome {
            Ok(accepted) => {
                let mut word = [0; 4];
                accepted.stream.read_exact(&mut word).await.unwrap();
                accepted.stream.write_all(&word).await.unwrap();
                accepted.stream.flush().await.unwrap();
            }
            // The client ends when the connection closes.
            Err(failure) => drop(failure.stream.take()),
        }
        outcome
    };
    let (shown, outcome) = tokio::join!(client, server);
    (outcome, shown)
}

fn reason_and_text(outcome: Outcome) -> (Option<Reason>, String) {
    let error = outcome.map(|_| ()).unwrap_err().error;
    (error.reason(), error.to_string())
}

#[tokio::test]
async fn a_client_without_certificate_passes_where_none_is_asked_for() {
    let ca = authority("ca");
    let acceptor = acceptor(&pem(&ca.server()));
    let (outcome, shown) = meet(&acceptor, connector(&ca, None)).await;
    assert!(outcome.unwrap().identities.is_empty());
    assert!(shown.is_some());
    // A certificate that was not asked for proves nothing.
    let (outcome, _) = meet(&acceptor, connector(&ca, Some(&ca.client(1)))).await;
    assert!(outcome.unwrap().identities.is_empty());
}

#[tokio::test]
async fn a_client_certificate_passes_or_is_refused_with_its_reason() {
    let (ca, other) = (authority("ca"), authority("other"));
    let own = ca.server();
    let plain = mutual(&own, &ca.pem, None);
    let listed = |revoked: &[u8], until| mutual(&own, &ca.pem, Some(ca.crl(revoked, until)));
    let expired = ca.issue(|params| params.not_after = date_time_ymd(2024, 1, 1));
    let future = ca.issue(|params| params.not_before = date_time_ymd(3024, 1, 1));
    let for_servers =
        ca.issue(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let of_authority = ca.issue(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let identities = Ok(&["spiffe://corp/gitaly", "cn:gitaly"][..]);
    type Case<'a> = (&'a str, &'a TlsPem, Option<Pair>, Result<&'a [&'a str], &'a str>);
    let cases: [Case<'_>; 11] = [
        ("good", &plain, Some(ca.client(1)), identities),
        ("none", &plain, None, Err("the client showed no certificate")),
        ("a CA's", &plain, Some(of_authority), Err("it is that of an authority, not of a client")),
        ("of another CA", &plain, Some(other.client(1)), Err("it is not issued by a CA of client_ca")),
        ("expired", &plain, Some(expired), Err("it, or one in its chain, expired on 2024-01-01T00:00:00Z")),
        ("not yet valid", &plain, Some(future), Err("not valid yet")),
        ("for servers", &plain, Some(for_servers), Err("not issued for clients (clientAuth)")),
        ("not revoked", &listed(&[2], 3024), Some(ca.client(1)), identities),
        ("revoked", &listed(&[2], 3024), Some(ca.client(2)), Err("revoked by client_crl")),
        ("list out of date", &listed(&[2], 2025), Some(ca.client(1)), Err("out of date")),
        (
            "one of two CAs",
            &mutual(&own, &format!("{}{}", other.pem, ca.pem), None),
            Some(ca.client(1)),
            identities,
        ),
    ];
    for (name, pem, client, expected) in cases {
        let (outcome, shown) = meet(&acceptor(pem), connector(&ca, client.as_ref())).await;
        match expected {
            Ok(identities) => {
                let accepted = outcome.unwrap();
                assert_eq!(accepted.identities.iter().map(AsRef::as_ref).collect::<Vec<_>>(), identities);
                assert!(shown.is_some(), "{name}");
            }
            Err(text) => {
                let (reason, actual) = reason_and_text(outcome);
                assert_eq!(reason, Some(Reason::ClientCertificateInvalid), "{name}");
                assert!(actual.contains(text), "{name}: {actual}");
                assert!(shown.is_none(), "{name}: the client got through");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_listener_has_its_own_message() {
    let (ca, other) = (authority("ca"), authority("other"));
    let (outcome, _) = meet(&acceptor(&pem(&ca.server())), connector(&other, None)).await;
    let (reason, text) = reason_and_text(outcome);
    assert_eq!(reason, Some(Reason::TlsHandshakeFailed));
    assert!(text.ends_with("not trust this listener's certificate: it sent the alert unknown_ca"), "{text}");
}

#[tokio::test]
async fn the_clients_first_bytes_may_have_been_read_with_the_proxy_header() {
    let ca = authority("ca");
    let acceptor = acceptor(&pem(&ca.server()));
    for cut in [1, 5, 100] {
        let (near, mut far) = duplex(64 << 10);
        let connector = connector(&ca, None);
        let client = tokio::spawn(async move {
            let mut stream = connector.connect(ServerName::try_from(NAME).unwrap(), near).await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            stream
        });
        let mut early = BytesMut::zeroed(cut);
        far.read_exact(&mut early).await.unwrap();
        let mut accepted = acceptor.accept(far, early, DEADLINE, Lease::alone()).await.unwrap();
        let mut word = [0; 4];
        accepted.stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping");
        client.await.unwrap();
    }
}

/// A ClientHello that offers this version at most, with one extension: the signature algorithms rsa_pkcs1_sha256 and
/// ecdsa_secp256r1_sha256, without which a server looks no further.
fn old_hello(version: u8) -> Vec<u8> {
    let hello = [&[3, version][..], &[7; 32], &[0], &[0, 4, 0xc0, 0x13, 0x00, 0x2f], &[1, 0]].concat();
    let hello = [hello, vec![0, 10, 0, 13, 0, 6, 0, 4, 4, 1, 4, 3]].concat();
    let len = u8::try_from(hello.len()).unwrap();
    [&[0x16, 3, 1, 0, len + 4, 1, 0, 0, len][..], &hello].concat()
}

/// The server's result for these bytes, and its answer; the client stays, or leaves.
async fn spoken_to(bytes: &[u8], leaves: bool) -> (Outcome, Vec<u8>) {
    let ca = authority("ca");
    let (mut near, far) = duplex(64 << 10);
    near.write_all(bytes).await.unwrap();
    if leaves {
        near.shutdown().await.unwrap();
    }
    let mut outcome =
        acceptor(&pem(&ca.server())).accept(far, BytesMut::new(), DEADLINE, Lease::alone()).await;
    if let Err(failure) = &mut outcome {
        drop(failure.stream.take());
    }
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    (outcome, answer)
}

#[tokio::test]
async fn versions_before_1_2_are_refused_with_the_alert_for_it() {
    for version in [0, 1, 2] {
        let (outcome, answer) = spoken_to(&old_hello(version), false).await;
        assert_eq!(reason_and_text(outcome).0, Some(Reason::TlsHandshakeFailed));
        // RFC 8446, section 6.2: fatal, protocol_version.
        assert_eq!((answer[0], &answer[answer.len() - 2..]), (0x15, &[2, 70][..]));
    }
}

#[tokio::test]
async fn bytes_that_are_not_a_handshake_have_their_own_message() {
    let connect = b"CONNECT a.example:443 HTTP/1.1\r\nUser-Agent: x\r\n\r\n";
    let (outcome, answer) = spoken_to(connect, false).await;
    assert_eq!(answer, b"", "the caller answers it in clear");
    let Err(Failure { error: HandshakeError::PlainHttp(head), .. }) = &outcome else { panic!("{outcome:?}") };
    assert_eq!((head.method.as_ref(), head.user_agent.as_deref()), (Some(&http::Method::CONNECT), Some("x")));
    let (reason, text) = reason_and_text(outcome);
    assert_eq!(reason, Some(Reason::TlsHandshakeFailed));
    assert!(text.ends_with("its proxy URL must begin with https://"), "{text}");

    let (outcome, answer) = spoken_to(b"", true).await;
    assert!(answer.is_empty());
    assert_eq!(reason_and_text(outcome), (None, "closed without a byte".to_owned()));

    let (outcome, _) = spoken_to(&old_hello(3)[..20], true).await;
    let (reason, text) = reason_and_text(outcome);
    assert_eq!(reason, Some(Reason::TlsHandshakeFailed));
    assert!(text.starts_with("the connection ended in the TLS handshake"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_given_up_at_the_deadline() {
    let ca = authority("ca");
    let acceptor = acceptor(&pem(&ca.server()));
    for bytes in [&b""[..], &old_hello(3)[..20]] {
        let (mut near, far) = duplex(4096);
        near.write_all(bytes).await.unwrap();
        let before = tokio::time::Instant::now();
        let failure = acceptor.accept(far, BytesMut::new(), DEADLINE, Lease::alone()).await.unwrap_err();
        assert!(matches!(failure.error, HandshakeError::Timeout));
        assert_eq!(failure.error.reason(), Some(Reason::TlsHandshakeFailed));
        assert_eq!(before.elapsed(), DEADLINE);
    }
}

#[test]
fn what_is_usable_and_probably_wrong_is_a_warning() {
    let ca = authority("ca");
    let server = |change: fn(&mut CertificateParams)| pem(&ca.issue(change));
    let own = ca.server();
    let leaf = ca.client(1).certificate;
    let cases = [
        (pem(&own), None),
        (
            server(|params| params.not_after = date_time_ymd(2024, 1, 1)),
            Some("expired at 2024-01-01T00:00:00Z"),
        ),
        (server(|params| params.not_before = date_time_ymd(3024, 1, 1)), Some("is not valid before 3024")),
        (
            server(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            Some("serverAuth"),
        ),
        (server(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), Some("is that of a CA")),
        (mutual(&own, &leaf, None), Some("clients-ca.crt: certificate 1 is not that of a CA")),
        (mutual(&own, &ca.pem, Some(ca.crl(&[], 2025))), Some("was due to be renewed at 2025-01-01")),
    ];
    for (pem, expected) in cases {
        let warnings = ServerTls::from_pem(&pem, Timestamp::now()).unwrap().warnings;
        let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        match expected {
            Some(text) => assert!(texts.len() == 1 && texts[0].contains(text), "{text}: {texts:?}"),
            None => assert!(texts.is_empty(), "{texts:?}"),
        }
    }
}

#[test]
fn the_expiry_is_the_listeners_own_and_no_key_is_shown() {
    let ca = authority("ca");
    let own = ca.issue(|params| params.not_after = date_time_ymd(2031, 5, 17));
    let pem = TlsPem { certificate: file("tls.crt", own.certificate.clone() + &ca.pem), ..pem(&own) };
    assert_eq!(acceptor(&pem).expires().to_string(), "2031-05-17T00:00:00Z");
    assert!(!format!("{pem:?}").contains("BEGIN"), "{pem:?}");
}

#[test]
fn certificate_and_key_may_be_one_file() {
    let ca = authority("ca");
    let own = ca.server();
    // `openssl ecparam -genkey` writes its parameters before the key.
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let both = format!("{parameters}{}{}{}", own.key, own.certificate, ca.pem);
    let pem = TlsPem {
        certificate: file("tls.pem", both.clone()),
        key: file("tls.pem", both),
        client_ca: None,
        client_crl: None,
    };
    assert!(ServerTls::from_pem(&pem, Timestamp::now()).unwrap().warnings.is_empty());
}
