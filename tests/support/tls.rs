//! A test certificate authority, and TLS clients and servers by it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::Wire;

/// Signs certificates that only the tests trust.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

/// A server certificate with its key.
#[derive(Debug)]
pub struct Issued {
    der: CertificateDer<'static>,
    key: Vec<u8>,
    /// For nginx: the certificate.
    pub pem: String,
    /// For nginx: its key.
    pub key_pem: String,
}

impl Authority {
    /// A new one, with a new key.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "egressd test authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// What a client must trust, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names of ASCII");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            der: certificate.der().clone(),
            key: key.serialize_der(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Speaks TLS as a client over a connection, a tunnel say, to a server that shows a certificate for `name`.
    pub fn client(&self, name: &str, wire: Wire) -> StreamOwned<ClientConnection, std::net::TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("our certificate is well-formed");
        StreamOwned::new(client(name, roots, true), wire.into_stream())
    }
}

impl Issued {
    /// For a server that shows this certificate.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key)
            .expect("the key is the certificate's");
        Arc::new(config)
    }
}

/// The TLS records of a ClientHello as rustls sends it, with this server name, or with none.
pub fn client_hello(name: Option<&str>) -> Vec<u8> {
    let mut connection = client(name.unwrap_or("unused.test"), RootCertStore::empty(), name.is_some());
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).expect("a Vec takes all");
    }
    bytes
}

fn client(name: &str, roots: RootCertStore, sni: bool) -> ClientConnection {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = sni;
    let name = ServerName::try_from(name.to_owned()).expect("a host");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}
