//! Real handshakes over real sockets, through the gate and the relay.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::transport::allowance::Allowance;
use crate::transport::held::Holder;
use crate::transport::relay::{Relay, part};

const NAME: &str = "git.example";
/// No deadline is under test here, and a busy machine may take its time.
const LONG: Duration = Duration::from_secs(3_600);

fn provider(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() })
}

/// A server that accepts only the groups in `server`, and a client that offers a share of its first group.
fn configs(
    client: &[&'static dyn SupportedKxGroup],
    server: &[&'static dyn SupportedKxGroup],
    version: &'static rustls::SupportedProtocolVersion,
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = own.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider(client))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider(server))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    (Arc::new(client), Arc::new(server))
}

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let near = TcpSocket::new_v4().unwrap().connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (near, far)
}

/// What a tunnel does for an `https` rule.
async fn tunnel(mut client: TcpStream, mut upstream: TcpStream, meter: &Meter) -> Ending {
    let (host, cancel) = (Host::parse(NAME).unwrap(), Cancel::new());
    let upload = Allowance::limited(Some(1 << 30));
    let mut limits = RelayLimits { idle_timeout: LONG, deadline: None, upload };
    let deadline = Instant::now() + LONG;
    let hello = inspect_client(&mut client, BytesMut::new().into(), &host, deadline).await.unwrap();
    assert_eq!(hello.sni.as_deref(), Some(NAME));
    let gate = Gate { host: &host, ech: Ech::Deny, hello_timeout: LONG, meter, cancel: &cancel };
    let early = pass_hello(&mut client, &mut upstream, hello, &gate, &mut limits).await.unwrap();
    let ending = Relay::splicing(early, limits, &Holder::alone())
        .run(&client, &upstream, meter, &cancel, &|| {})
        .await;
    part(client, upstream, ending).await;
    ending
}

#[tokio::test]
async fn real_handshakes_pass_with_and_without_a_second_hello() {
    use aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
    use rustls::HandshakeKind;
    use rustls::version::{TLS12, TLS13};
    type Groups<'a> = &'a [&'static dyn SupportedKxGroup];
    let rows: &[(Groups<'_>, Groups<'_>, _, _)] = &[
        (&[X25519], &[X25519], &TLS12, HandshakeKind::Full),
        (&[X25519], &[X25519], &TLS13, HandshakeKind::Full),
        (&[X25519MLKEM768, X25519], &[X25519MLKEM768], &TLS13, HandshakeKind::Full),
        (&[X25519, SECP256R1], &[SECP256R1], &TLS13, HandshakeKind::FullWithHelloRetryRequest),
        (&[X25519MLKEM768, SECP256R1], &[SECP256R1], &TLS13, HandshakeKind::FullWithHelloRetryRequest),
    ];
    for (client_groups, server_groups, version, kind) in rows {
        let (client_config, server_config) = configs(client_groups, server_groups, version);
        let (client, near_client) = connection().await;
        let (near_upstream, upstream) = connection().await;
        let meter = Meter::default();
        let asks = async {
            let mut tls =
                Box::pin(TlsConnector::from(client_config).connect(NAME.try_into().unwrap(), client))
                    .await
                    .unwrap();
            assert_eq!(tls.get_ref().1.handshake_kind(), Some(*kind));
            tls.write_all(&vec![7; 300_000]).await.unwrap();
            tls.shutdown().await.unwrap();
            let mut answer = Vec::new();
            tls.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"thanks");
        };
        let answers = async {
            let mut tls = Box::pin(TlsAcceptor::from(server_config).accept(upstream)).await.unwrap();
            let mut question = Vec::new();
            tls.read_to_end(&mut question).await.unwrap();
            assert_eq!(question, vec![7; 300_000]);
            tls.write_all(b"thanks").await.unwrap();
            tls.shutdown().await.unwrap();
        };
        let ((), (), ending) = tokio::join!(
            Box::pin(asks),
            Box::pin(answers),
            Box::pin(tunnel(near_client, near_upstream, &meter))
        );
        assert_eq!(ending, Ending::ClientClosed);
        assert!(meter.sent() > 300_000 && meter.received() > 500);
    }
}
