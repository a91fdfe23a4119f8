//! From PEM files to what a handshake needs, with every mistake found at load.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, ServerConfig, version};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use super::certificates::{read_certificate, timestamp, warn_of_dates};
use super::files::{CERTIFICATE, FileProblem, KEY, PemFile, TlsPem};
use super::provider::provider;
use super::sentences::{self, Holder};
use super::trust::ClientTrust;

/// The certificate that a listener shows in its handshakes, and whether it asks for one.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    expires: Timestamp,
    clients: Option<Arc<ClientTrust>>,
}

/// A [`ServerTls`], and warnings about what is usable and probably wrong.
#[derive(Debug)]
pub struct Loaded {
    /// Ready for use.
    pub tls: ServerTls,
    /// For example an expired certificate: clients refuse it, but refusing to start would not help.
    pub warnings: Vec<FileProblem>,
}

impl ServerTls {
    /// Checks the files together: the key belongs to the first certificate; CAs and revocation lists can be read.
    /// `now` is for warnings only. Certificates are verified at each handshake.
    ///
    /// With `client_ca` a client certificate is required, and no session is resumed: the certificate of a resumed session
    /// would not be verified again, so that a revoked or expired one would still pass. With `client_crl` every certificate
    /// of a client's chain needs a current list of its issuer, or the client is refused, as with nginx and HAProxy.
    ///
    /// # Errors
    /// Everything that is wrong, each with its file.
    pub fn from_pem(pem: &TlsPem, now: Timestamp) -> Result<Loaded, Vec<FileProblem>> {
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        let provider = provider();
        let own = read_own(pem, &provider, now, &mut warnings).map_err(|problem| problems.push(problem)).ok();
        let clients = ClientTrust::read(pem, &provider, now, &mut warnings)
            .map_err(|found| problems.extend(found))
            .ok();
        let (Some((key, expires)), Some(clients)) = (own, clients) else {
            return Err(problems);
        };
        let clients = clients.map(Arc::new);
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| {
                vec![
                    pem.certificate
                        .problem(format!("cannot be used: {}", sentences::of_error(&error, Holder::Server))),
                ]
            })?;
        let builder = match &clients {
            Some(trust) => builder.with_client_cert_verifier(Arc::<ClientTrust>::clone(trust)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.ignore_client_order = true;
        // The only protocol that is served: a client that insists on another one gets an alert in the handshake.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if clients.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let tls = ServerTls { config: Arc::new(config), expires, clients };
        Ok(Loaded { tls, warnings })
    }

    /// When the listener's certificate expires.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Whether clients must show a certificate.
    pub fn verifies_clients(&self) -> bool {
        self.clients.is_some()
    }

    /// Which certificates of clients are accepted; `None`: none is asked for.
    pub fn clients(&self) -> Option<&ClientTrust> {
        self.clients.as_deref()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// Shows nothing of the key.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("expires", &self.expires)
            .field("verifies_clients", &self.verifies_clients())
            .finish_non_exhaustive()
    }
}

/// The listener's own certificate chain and key, and when the certificate expires.
pub(super) fn read_own(
    pem: &TlsPem,
    provider: &CryptoProvider,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) -> Result<(CertifiedKey, Timestamp), FileProblem> {
    let (chain, expires) = read_chain(&pem.certificate, now, warnings)?;
    let is_key = |kind| {
        matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
    };
    let mut keys = pem.key.sections(KEY, is_key)?;
    let (Some((kind, der)), true) = (keys.pop(), keys.is_empty()) else {
        return Err(pem.key.problem("holds more than one private key"));
    };
    let der = match kind {
        SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(der.into()),
        SectionKind::EcPrivateKey => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    };
    let key = provider
        .key_provider
        .load_private_key(der)
        .map_err(|_| pem.key.problem("holds no usable RSA (2048 bits or more), ECDSA or Ed25519 key"))?;
    let own = CertifiedKey::new(chain, key);
    if let Err(error) = own.keys_match() {
        if let Error::InvalidCertificate(why) = &error {
            // It was not even compared with the key.
            let why = sentences::of_certificate(why, Holder::Server);
            return Err(pem.certificate.problem(format!("certificate 1 cannot be used: {why}")));
        }
        let fits = |certificate: &CertificateDer<'static>| {
            CertifiedKey::new(vec![certificate.clone()], Arc::clone(&own.key)).keys_match().is_ok()
        };
        return Err(match own.cert.iter().position(fits) {
            Some(place) => pem.certificate.problem(format!(
                "the listener's own certificate must come first; the key belongs to certificate {}",
                place + 1
            )),
            None => pem
                .key
                .problem(format!("does not belong to the certificate in {}", pem.certificate.path.display())),
        });
    }
    Ok((own, expires))
}

fn read_chain(
    file: &PemFile,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) -> Result<(Vec<CertificateDer<'static>>, Timestamp), FileProblem> {
    let mut expires = None;
    let mut chain = Vec::new();
    for (place, (_, der)) in (1..).zip(file.sections(CERTIFICATE, |kind| kind == SectionKind::Certificate)?) {
        let certificate = read_certificate(file, place, &der)?;
        warn_of_dates(file, place, &certificate, now, warnings);
        if place == 1 {
            let version = certificate.version();
            if version != X509Version::V3 {
                return Err(file.problem(format!(
                    "certificate 1 is an X.509 certificate of version {}, which names no host: issue it again with the names of the \
                     proxy, which makes it version 3. With `openssl x509 -req`, add `-extfile FILE`, and write \
                     `subjectAltName=DNS:NAME` into FILE",
                    version.0.saturating_add(1)
                )));
            }
            expires = Some(timestamp(certificate.validity().not_after));
            warn_of_purpose(file, &certificate, warnings);
        }
        chain.push(CertificateDer::from(der));
    }
    // `sections` gives at least one.
    Ok((chain, expires.unwrap_or(Timestamp::MAX)))
}

fn warn_of_purpose(file: &PemFile, certificate: &X509Certificate<'_>, warnings: &mut Vec<FileProblem>) {
    if let Ok(Some(usage)) = certificate.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        warnings
            .push(file.problem("certificate 1 is not issued for servers (serverAuth): clients refuse it"));
    }
    if certificate.is_ca() {
        warnings.push(file.problem("certificate 1 is that of a CA: many clients refuse it for a server"));
    }
}
