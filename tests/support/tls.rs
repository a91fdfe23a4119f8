//! A test certificate authority, and TLS clients and servers that use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::Wire;

/// TLS over TCP, as a client.
pub type TlsStream = StreamOwned<ClientConnection, std::net::TcpStream>;

/// Signs certificates that only the tests trust.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    name: DistinguishedName,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Issued {
    der: CertificateDer<'static>,
    /// Shown after it.
    others: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    /// The certificate, as PEM.
    pub pem: String,
    /// Its key, as PEM.
    pub key_pem: String,
}

impl Authority {
    /// A new authority, with a new key.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // If two authorities had the same name, the error would be about the signature and not about the issuer.
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("egressd test authority {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        Authority::of(params)
    }

    fn of(params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let (der, pem, name) =
            (certificate.der().clone(), certificate.pem(), params.distinguished_name.clone());
        Authority { der, pem, name, issuer: Issuer::new(params, key) }
    }

    /// Another authority with this one's name and another key.
    pub fn namesake(&self) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = self.name.clone();
        Authority::of(params)
    }

    /// What a client must trust, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key, as PEM: for a program that signs.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What a client must trust.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(&CertificateParams::new(names).expect("names of ASCII"))
    }

    /// A certificate for these names that expires at the first second of this year.
    pub fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names of ASCII");
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(&params)
    }

    /// A client's certificate with this serial number, common name and SPIFFE id.
    pub fn issue_client(&self, serial: u8, common_name: &str, spiffe: Option<&str>) -> Issued {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, common_name);
        let uris = spiffe.into_iter().map(|id| SanType::URI(id.try_into().expect("an id of ASCII")));
        params.subject_alt_names = uris.collect();
        self.sign(&params)
    }

    /// A client's certificate with this common name that is valid until this second after 1970, and in it.
    pub fn issue_client_until(&self, common_name: &str, second: i64) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, common_name);
        let seconds = u64::try_from(second).expect("after 1970");
        params.not_after = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
        self.sign(&params)
    }

    /// A client's certificate with only this DNS name.
    pub fn issue_client_named(&self, name: &str) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name of ASCII");
        params.distinguished_name.remove(DnType::CommonName);
        self.sign(&params)
    }

    /// A revocation list with these serial numbers, as PEM.
    pub fn crl(&self, revoked: &[u8]) -> String {
        self.revokes(revoked, |_| {})
    }

    /// The same, due to be renewed at this second after 1970.
    pub fn crl_until(&self, revoked: &[u8], second: i64) -> String {
        let seconds = u64::try_from(second).expect("after 1970");
        let due = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
        self.revokes(revoked, |params| params.next_update = due)
    }

    /// The same, of this year.
    pub fn crl_of_year(&self, revoked: &[u8], year: i32) -> String {
        self.revokes(revoked, |params| params.this_update = date_time_ymd(year, 1, 1))
    }

    fn revokes(&self, revoked: &[u8], change: impl FnOnce(&mut CertificateRevocationListParams)) -> String {
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
        params.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a list")
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            der: certificate.der().clone(),
            others: Vec::new(),
            key: key.serialize_der(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Speaks TLS as a client over a connection, such as a tunnel, to a server that shows a certificate for `name`.
    pub fn client(&self, name: &str, wire: Wire) -> TlsStream {
        self.client_as(name, wire, None)
    }

    /// The same; the client shows its own certificate if the server asks for one.
    pub fn client_as(&self, name: &str, wire: Wire, own: Option<&Issued>) -> TlsStream {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("our certificate is well-formed");
        StreamOwned::new(client(name, roots, true, own), wire.into_stream())
    }
}

impl Issued {
    /// The same, shown together with these.
    pub fn shown_with(&self, others: &[&Issued]) -> Self {
        let others = others.iter().map(|other| other.der.clone()).collect();
        Issued {
            others,
            key: self.key.clone(),
            der: self.der.clone(),
            pem: self.pem.clone(),
            key_pem: self.key_pem.clone(),
        }
    }

    /// The configuration of a server that shows this certificate.
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

/// The TLS records of a ClientHello as rustls sends it, with this server name or without one.
pub fn client_hello(name: Option<&str>) -> Vec<u8> {
    let mut connection = client(name.unwrap_or("unused.test"), RootCertStore::empty(), name.is_some(), None);
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).expect("a Vec takes all");
    }
    bytes
}

fn client(name: &str, roots: RootCertStore, sni: bool, own: Option<&Issued>) -> ClientConnection {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions")
        .with_root_certificates(roots);
    let mut config = match own {
        Some(own) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.key.clone()));
            let shown = [std::slice::from_ref(&own.der), &own.others].concat();
            builder.with_client_auth_cert(shown, key).expect("the key is the certificate's")
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = sni;
    let name = ServerName::try_from(name.to_owned()).expect("a host");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}
