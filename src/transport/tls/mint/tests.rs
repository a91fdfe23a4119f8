//! Leaves, as a client sees them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::transport::tls::PemFile;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DAY: Duration = Duration::from_secs(86_400);

/// A root, and the files of an authority below it that permits `names`.
struct Made {
    root: String,
    certificate: String,
    key: String,
}

fn authority(names: &[&str]) -> Made {
    let of = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        params
    };
    let mut root = of("a root");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let root_key = KeyPair::generate().unwrap();
    let root_certificate = root.self_signed(&root_key).unwrap();
    let mut own = of("an authority");
    own.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    own.name_constraints = Some(NameConstraints {
        permitted_subtrees: names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect(),
        excluded_subtrees: vec![],
    });
    let key = KeyPair::generate().unwrap();
    let certificate = own.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
    Made { root: root_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}

fn file(name: &str, text: &str) -> PemFile {
    PemFile { path: PathBuf::from(name), bytes: text.as_bytes().to_vec() }
}

fn minter(made: &Made) -> Minter {
    let loaded =
        Authority::from_pem(&file("ca.crt", &made.certificate), &file("ca.key", &made.key), Timestamp::now());
    Minter::new(loaded.unwrap().authority, DAY).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn client(root: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// One handshake as `asked`, and one byte from the server, which comes after its tickets.
async fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    asked: &str,
) -> Result<Option<HandshakeKind>, String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = TlsAcceptor::from(Arc::clone(server));
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"x").await?;
        stream.shutdown().await
    });
    let asked = ServerName::try_from(asked.to_owned()).unwrap();
    let connected = Box::pin(TlsConnector::from(Arc::clone(client)).connect(asked, near)).await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    stream.read_u8().await.map_err(|error| error.to_string())?;
    server.await.unwrap().map_err(|error| error.to_string())?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(stream.get_ref().1.handshake_kind())
}

#[tokio::test]
async fn a_leaf_is_accepted_for_its_name_and_shown_for_no_other() {
    let made = authority(&["example.com"]);
    let minter = minter(&made);
    let client = client(&made.root);
    let leaf = minter.leaf(&name("git.example.com"), CLIENT).await.unwrap();
    assert_eq!(leaf.origin, Origin::Minted);
    assert_eq!(shake(&client, &leaf.config, "git.example.com").await, Ok(Some(HandshakeKind::Full)));
    assert_eq!(shake(&client, &leaf.config, "git.example.com").await, Ok(Some(HandshakeKind::Resumed)));
    assert!(shake(&client, &leaf.config, "www.example.com").await.is_err());
    let again = minter.leaf(&name("git.example.com"), CLIENT).await.unwrap();
    assert_eq!(again.origin, Origin::Cached);
    assert!(Arc::ptr_eq(&leaf.config, &again.config));
    assert_eq!(minter.leaf(&name("evilexample.com"), CLIENT).await.unwrap_err(), MintError::NotPermitted);
}
