//! Handshakes with servers in memory. Some of them are not the host that they should be.

mod shares;

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::time::{advance, sleep};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::load_bytes;

const TIMEOUT: Duration = Duration::from_secs(10);
/// What a target has of it.
const TRIED: Duration = Duration::from_millis(9_800);
const CLIENT: IpAddr = client(1);
/// Handshakes at once.
const PLACES: usize = 4;

const fn client(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        Authority::named("ours")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A server's settings with a certificate for these names; `shape` may spoil it.
    fn issue(&self, names: &[&str], shape: impl Fn(&mut CertificateParams)) -> ServerConfig {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        shape(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        server(&[&TLS13, &TLS12], certificate.der().clone(), &key)
    }

    fn verifier(&self) -> Arc<CertificateVerifier> {
        self.verifier_with(MAX_KEPT)
    }

    fn verifier_with(&self, cap: usize) -> Arc<CertificateVerifier> {
        let read = |_: &std::path::Path| Ok(self.pem.clone().into_bytes());
        let text = b"certificates: {roots: ca.pem}\npolicies: []\n";
        let config = load_bytes("test.yaml", text, read).unwrap_or_else(|told| panic!("{told:?}")).config;
        CertificateVerifier::with(&config.certificates.roots, cap, &Places::new(PLACES)).unwrap()
    }
}

fn server(
    versions: &[&'static rustls::SupportedProtocolVersion],
    certificate: CertificateDer<'static>,
    key: &KeyPair,
) -> ServerConfig {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap()
}

/// A target, and the number of connections to it.
#[derive(Clone)]
struct Target {
    acceptor: TlsAcceptor,
    connections: Arc<AtomicUsize>,
    /// How long it waits before it answers.
    delay: Duration,
}

impl Target {
    fn new(config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Target { acceptor, connections: Arc::default(), delay: Duration::ZERO }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn again(
        &self,
    ) -> impl Fn() -> Pin<Box<dyn Future<Output = Result<DuplexStream, String>> + Send>> + use<> {
        let target = self.clone();
        move || Box::pin(target.connect())
    }

    fn connect(&self) -> impl Future<Output = Result<DuplexStream, String>> + Send + use<> {
        let target = self.clone();
        async move {
            target.connections.fetch_add(1, Ordering::Relaxed);
            let (near, far) = duplex(64 * 1024);
            tokio::spawn(async move {
                sleep(target.delay).await;
                if let Ok(mut stream) = target.acceptor.accept(far).await {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
            Ok(near)
        }
    }
}

fn claim(host: &str) -> Claim {
    Claim {
        host: Host::parse(host).unwrap(),
        port: Port::HTTPS,
        upstream: "203.0.113.9:443".parse().unwrap(),
    }
}

async fn verify(verifier: &Arc<CertificateVerifier>, host: &str, target: &Target) -> Result<(), Reason> {
    let verdict = verifier.verify(&claim(host), CLIENT, TIMEOUT, target.again()).await;
    verdict.map_err(|unverified| unverified.reason)
}

/// The verdict on a server that answers any hello with `answer`, and closes.
async fn answered_by(answer: &'static [u8]) -> Result<(), Unverified> {
    let connect = move || async move {
        let (near, mut far) = duplex(1024);
        tokio::spawn(async move {
            let mut hello = vec![0; 64];
            let _ = far.read_exact(&mut hello).await;
            let _ = far.write_all(answer).await;
        });
        Ok::<_, String>(near)
    };
    Authority::new().verifier().verify(&claim("a.test"), CLIENT, TIMEOUT, connect).await
}

#[tokio::test]
async fn a_target_proves_itself_by_chain_name_validity_and_key() {
    let (ours, other) = (Authority::new(), Authority::new());
    let plain = |_: &mut CertificateParams| {};
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    let for_clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let self_signed = {
        let own = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        server(&[&TLS13], own.cert.der().clone(), &own.signing_key)
    };
    let invalid = Err(Reason::CertificateInvalid);
    let rows = [
        ("the host", "a.test", ours.issue(&["a.test"], plain), Ok(())),
        ("among others", "a.test", ours.issue(&["b.test", "a.test"], plain), Ok(())),
        ("a wildcard", "x.a.test", ours.issue(&["*.a.test"], plain), Ok(())),
        ("an address", "203.0.113.9", ours.issue(&["203.0.113.9"], plain), Ok(())),
        ("an IPv6 address", "[2001:db8::1]", ours.issue(&["2001:db8::1"], plain), Ok(())),
        ("another host", "a.test", ours.issue(&["b.test"], plain), invalid),
        ("the apex of a wildcard", "a.test", ours.issue(&["*.a.test"], plain), invalid),
        ("two labels under a wildcard", "x.y.a.test", ours.issue(&["*.a.test"], plain), invalid),
        ("another address", "203.0.113.9", ours.issue(&["203.0.113.8"], plain), invalid),
        ("a name where an address is asked", "203.0.113.9", ours.issue(&["a.test"], plain), invalid),
        ("an unknown authority", "a.test", other.issue(&["a.test"], plain), invalid),
        ("self-signed", "a.test", self_signed, invalid),
        ("expired", "a.test", ours.issue(&["a.test"], expired), invalid),
        ("not valid yet", "a.test", ours.issue(&["a.test"], future), invalid),
        ("not for servers", "a.test", ours.issue(&["a.test"], for_clients), invalid),
    ];
    for (what, host, config, want) in rows {
        assert_eq!(verify(&ours.verifier(), host, &Target::new(config)).await, want, "{what}");
    }
}

#[tokio::test]
async fn the_log_says_in_a_sentence_why_a_certificate_is_refused() {
    let (ours, other) = (Authority::new(), Authority::named("other"));
    let unsigned = "a signature does not verify: its issuer did not sign it, the server does not have its key, or an RSA \
                    key has fewer than 2048 bits";
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let rows = [
        (ours.issue(&["b.test", "*.c.test"], |_| {}), "it is for b.test and *.c.test, not for a.test"),
        (ours.issue(&["a.test"], expired), "it, or one in its chain, expired on 2020-01-01T00:00:00Z"),
        (ours.issue(&["a.test"], authority), "it is that of an authority, not of a server"),
        (other.issue(&["a.test"], |_| {}), "no trusted authority signed it"),
        (Authority::new().issue(&["a.test"], |_| {}), unsigned),
    ];
    for (config, want) in rows {
        let target = Target::new(config);
        let verdict = ours.verifier().verify(&claim("a.test"), CLIENT, TIMEOUT, target.again()).await;
        let want = format!("the target's certificate is not valid: {want}");
        assert_eq!(*verdict.unwrap_err().detail, *want);
    }
    let unverified = answered_by(&[21, 3, 3, 0, 2, 2, 46]).await.unwrap_err();
    assert_eq!(*unverified.detail, *"the TLS handshake failed: the peer sent the alert certificate_unknown");
    let unverified = answered_by(b"").await.unwrap_err();
    let want = "the connection ended in the TLS handshake: the peer closed the connection";
    assert_eq!(*unverified.detail, *want);
}

#[tokio::test]
async fn either_version_of_tls_will_do() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let target = Target::new(server(&[version], certificate.der().clone(), &key));
        assert_eq!(verify(&authority.verifier(), "a.test", &target).await, Ok(()), "{version:?}");
    }
}

/// Anybody can show a public certificate; only its owner has the key.
#[tokio::test]
async fn a_certificate_without_its_key_proves_nothing() {
    let authority = Authority::new();
    let params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let other = KeyPair::generate().unwrap();
    let signing =
        provider.key_provider.load_private_key(PrivatePkcs8KeyDer::from(other.serialize_der()).into());
    let stolen = rustls::sign::CertifiedKey::new(vec![certificate.der().clone()], signing.unwrap());
    for version in [&TLS12, &TLS13] {
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(stolen.clone())));
        let verdict = verify(&authority.verifier(), "a.test", &Target::new(config)).await;
        assert_eq!(verdict, Err(Reason::CertificateInvalid), "{version:?}");
    }
}

#[tokio::test]
async fn t15_an_answer_that_is_not_tls_has_another_reason_than_a_wrong_certificate() {
    for answer in [&b""[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0; 32]] {
        let unverified = answered_by(answer).await.unwrap_err();
        assert_eq!(unverified.reason, Reason::UpstreamNotTls, "{answer:?}: {unverified:?}");
    }
    // A TLS server that does not know the name: unrecognized_name.
    let unverified = answered_by(&[21, 3, 3, 0, 2, 2, 112]).await.unwrap_err();
    assert_eq!(unverified.reason, Reason::CertificateInvalid, "{unverified:?}");

    let verifier = Authority::new().verifier();
    let refused = || async { Err::<DuplexStream, _>("connection refused".to_owned()) };
    let unverified = verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, refused).await.unwrap_err();
    assert_eq!(unverified.reason, Reason::UpstreamNotTls);
    assert!(unverified.detail.contains("connection refused"), "{unverified:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_silent_is_given_up_at_the_timeout() {
    let verifier = Authority::new().verifier();
    let begun = Instant::now();
    let silent = Silent::default();
    let unverified = verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, silent.again()).await.unwrap_err();
    assert_eq!((unverified.reason, begun.elapsed()), (Reason::UpstreamNotTls, TRIED));
    let again = verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, silent.again()).await;
    assert_eq!((again, begun.elapsed()), (Err(unverified), TRIED), "it is kept");
    let begun = Instant::now();
    let never = || std::future::pending::<Result<DuplexStream, String>>();
    advance(SILENCE_KEPT).await;
    verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, never).await.unwrap_err();
    assert_eq!(begun.elapsed(), TRIED + SILENCE_KEPT);
}

/// A target that accepts and then says nothing, and its open connections.
#[derive(Clone, Default)]
struct Silent(Arc<AtomicUsize>);

impl Silent {
    fn again(
        &self,
    ) -> impl Fn() -> Pin<Box<dyn Future<Output = Result<DuplexStream, String>> + Send>> + use<> {
        let open = self.0.clone();
        move || {
            let open = open.clone();
            Box::pin(async move {
                let (near, mut far) = duplex(64 * 1024);
                open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let _ = far.read_to_end(&mut Vec::new()).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
                Ok(near)
            })
        }
    }

    fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_kept_for_its_time_and_for_its_claim_alone() {
    let authority = Authority::new();
    let verifier = authority.verifier();
    let target = Target::new(authority.issue(&["a.test"], |_| {}));
    // Host, time since the row before, verdict, and connections so far.
    let rows = [
        ("a.test", Duration::ZERO, Ok(()), 1),
        ("a.test", PROOF_KEPT - Duration::from_millis(1), Ok(()), 1),
        ("a.test", Duration::from_millis(1), Ok(()), 2),
        ("b.test", Duration::ZERO, Err(Reason::CertificateInvalid), 3),
        ("b.test", REFUSAL_KEPT - Duration::from_millis(1), Err(Reason::CertificateInvalid), 3),
        ("b.test", Duration::from_millis(1), Err(Reason::CertificateInvalid), 4),
    ];
    for (number, (host, passed, want, connections)) in rows.into_iter().enumerate() {
        advance(passed).await;
        assert_eq!(verify(&verifier, host, &target).await, want, "{number}");
        assert_eq!(target.connections(), connections, "{number}");
    }
    for elsewhere in [
        Claim { upstream: "203.0.113.10:443".parse().unwrap(), ..claim("a.test") },
        Claim { port: Port::HTTP, ..claim("a.test") },
    ] {
        let before = target.connections();
        verifier.verify(&elsewhere, CLIENT, TIMEOUT, target.again()).await.unwrap();
        assert_eq!(target.connections(), before + 1, "{elsewhere:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_did_not_answer_is_asked_again_soon() {
    let verifier = Authority::new().verifier();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let refused = move || {
        let asked = counted.clone();
        async move {
            asked.fetch_add(1, Ordering::Relaxed);
            Err::<DuplexStream, _>("connection refused".to_owned())
        }
    };
    for (passed, connections) in [(0, 1), (999, 1), (1, 2)] {
        advance(Duration::from_millis(passed)).await;
        verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, refused.clone()).await.unwrap_err();
        assert_eq!(asked.load(Ordering::Relaxed), connections);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_at_the_same_time_share_one_handshake() {
    let authority = Authority::new();
    let target =
        Target { delay: Duration::from_secs(2), ..Target::new(authority.issue(&["a.test"], |_| {})) };
    let verifier = Arc::new(authority.verifier());
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let (verifier, target) = (verifier.clone(), target.clone());
            tokio::spawn(async move { verify(&verifier, "a.test", &target).await })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Ok(()));
    }
    assert_eq!(target.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_caller_that_finds_out_leaves_the_handshake_goes_on_for_the_next() {
    let authority = Authority::new();
    let target =
        Target { delay: Duration::from_secs(2), ..Target::new(authority.issue(&["a.test"], |_| {})) };
    let verifier = authority.verifier();
    let begun = Instant::now();
    let ask = || {
        let (verifier, target) = (verifier.clone(), target.clone());
        tokio::spawn(async move { verify(&verifier, "a.test", &target).await })
    };
    let (first, second) = (ask(), ask());
    sleep(Duration::from_secs(1)).await;
    first.abort();
    assert_eq!(second.await.unwrap(), Ok(()));
    assert_eq!((target.connections(), begun.elapsed()), (1, Duration::from_secs(2)), "not begun again");
}

#[tokio::test(start_paused = true)]
async fn when_the_last_caller_leaves_the_handshake_is_broken_off() {
    let authority = Authority::new();
    let verifier = authority.verifier();
    let (near, mut far) = duplex(64 * 1024);
    let begun = Instant::now();
    let near = Mutex::new(Some(near));
    let connect = move || std::future::ready(near.lock().unwrap().take().ok_or_else(|| "once".to_owned()));
    let asking = {
        let verifier = verifier.clone();
        tokio::spawn(async move { verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, connect).await })
    };
    let mut hello = [0; 5];
    far.read_exact(&mut hello).await.unwrap();
    asking.abort();
    far.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO, "closed at once");
    // Nothing is kept: the next caller begins anew.
    let target = Target::new(authority.issue(&["a.test"], |_| {}));
    assert_eq!(verify(&verifier, "a.test", &target).await, Ok(()));
    assert_eq!(target.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_table_of_verdicts_is_bounded_and_forgets_the_oldest() {
    const CAP: usize = 50;
    let verifier = Authority::new().verifier_with(CAP);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let refused = move || {
        let asked = counted.clone();
        async move {
            asked.fetch_add(1, Ordering::Relaxed);
            // A refusal for junk is kept.
            let (near, mut far) = duplex(4096);
            far.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
            tokio::spawn(async move {
                let _ = far.read_to_end(&mut Vec::new()).await;
            });
            Ok::<_, String>(near)
        }
    };
    let numbered = |number: usize| claim(&format!("h{number}.test"));
    for number in 0..CAP + 10 {
        verifier.verify(&numbered(number), CLIENT, TIMEOUT, refused.clone()).await.unwrap_err();
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(verifier.lock().len(), CAP);
    let before = asked.load(Ordering::Relaxed);
    verifier.verify(&numbered(CAP), CLIENT, TIMEOUT, refused.clone()).await.unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), before, "the youngest are known");
    verifier.verify(&numbered(3), CLIENT, TIMEOUT, refused.clone()).await.unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), before + 1, "the oldest are not");

    advance(REFUSAL_KEPT).await;
    verifier.verify(&numbered(CAP + 11), CLIENT, TIMEOUT, refused.clone()).await.unwrap_err();
    assert_eq!(verifier.lock().len(), 1, "what is out of date goes first");
}
