//! From PEM files to what a handshake needs, with every mistake found at load.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, version};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use super::files::{FileProblem, PemFile, TlsPem};
use super::sentences::{self, Holder};

/// The certificate that a listener shows in its handshakes, and whether it asks for one.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    expires: Timestamp,
    verifies_clients: bool,
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
        let provider = Arc::new(aws_lc_rs::default_provider());
        let own = read_own(pem, &provider, now, &mut warnings).map_err(|problem| problems.push(problem)).ok();
        let verifier =
            read_verifier(pem, &provider, now, &mut warnings).map_err(|problem| problems.push(problem)).ok();
        let (Some((key, expires)), Some(verifier)) = (own, verifier) else {
            return Err(problems);
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| {
                vec![
                    pem.certificate
                        .problem(format!("cannot be used: {}", sentences::of_error(&error, Holder::Server))),
                ]
            })?;
        let verifies_clients = verifier.is_some();
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        // The only protocol that is served: a client that insists on another one gets an alert in the handshake.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if verifies_clients {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let tls = ServerTls { config: Arc::new(config), expires, verifies_clients };
        Ok(Loaded { tls, warnings })
    }

    /// When the listener's certificate expires.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Whether clients must show a certificate.
    pub fn verifies_clients(&self) -> bool {
        self.verifies_clients
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
            .field("verifies_clients", &self.verifies_clients)
            .finish_non_exhaustive()
    }
}

/// The listener's own certificate chain and key, and when the certificate expires.
fn read_own(
    pem: &TlsPem,
    provider: &CryptoProvider,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) -> Result<(CertifiedKey, Timestamp), FileProblem> {
    let (chain, expires) = read_chain(&pem.certificate, now, warnings)?;
    let is_key = |kind| {
        matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
    };
    let mut keys = pem.key.sections("private key", is_key)?;
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
    if own.keys_match().is_err() {
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
    for (place, (_, der)) in (1..).zip(file.sections("certificate", |kind| kind == SectionKind::Certificate)?)
    {
        let certificate = read_certificate(file, place, &der)?;
        warn_of_dates(file, place, &certificate, now, warnings);
        if place == 1 {
            expires = Some(timestamp(certificate.validity().not_after));
            warn_of_purpose(file, &certificate, warnings);
        }
        chain.push(CertificateDer::from(der));
    }
    // `sections` gives at least one.
    Ok((chain, expires.unwrap_or(Timestamp::MAX)))
}

/// `Some` where clients must show a certificate.
fn read_verifier(
    pem: &TlsPem,
    provider: &Arc<CryptoProvider>,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, FileProblem> {
    let Some(ca) = &pem.client_ca else {
        return match &pem.client_crl {
            Some(crl) => Err(crl.problem("client_crl has no effect without client_ca")),
            None => Ok(None),
        };
    };
    let mut roots = RootCertStore::empty();
    for (place, (_, der)) in (1..).zip(ca.sections("certificate", |kind| kind == SectionKind::Certificate)?) {
        let certificate = read_certificate(ca, place, &der)?;
        warn_of_dates(ca, place, &certificate, now, warnings);
        if !certificate.is_ca() {
            let text = format!(
                "certificate {place} is not that of a CA: other programs accept nothing that it signed"
            );
            warnings.push(ca.problem(text));
        }
        roots
            .add(CertificateDer::from(der))
            .map_err(|_| ca.problem(format!("certificate {place} cannot be used as a CA")))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .enforce_revocation_expiration();
    if let Some(file) = &pem.client_crl {
        builder = builder.with_crls(read_crls(file, now, warnings)?);
    }
    // Only the revocation lists can fail here: there is at least one root.
    builder.build().map(Some).map_err(|error| {
        let file = pem.client_crl.as_ref().unwrap_or(ca);
        file.problem(format!("cannot be used: {}", sentences::of_verifier(&error)))
    })
}

fn read_crls(
    file: &PemFile,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileProblem> {
    let mut lists = Vec::new();
    for (place, (_, der)) in
        (1..).zip(file.sections("certificate revocation list", |kind| kind == SectionKind::Crl)?)
    {
        let (_, list) = CertificateRevocationList::from_der(&der)
            .map_err(|_| file.problem(format!("revocation list {place} is malformed")))?;
        if let Some(next) = list.next_update().map(timestamp)
            && next <= now
        {
            let text =
                format!("revocation list {place} was due to be renewed at {next}: its clients are refused");
            warnings.push(file.problem(text));
        }
        lists.push(CertificateRevocationListDer::from(der));
    }
    Ok(lists)
}

fn read_certificate<'a>(
    file: &PemFile,
    place: u32,
    der: &'a [u8],
) -> Result<X509Certificate<'a>, FileProblem> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(file.problem(format!("certificate {place} is malformed"))),
    }
}

fn warn_of_dates(
    file: &PemFile,
    place: u32,
    certificate: &X509Certificate<'_>,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) {
    let validity = certificate.validity();
    let (from, until) = (timestamp(validity.not_before), timestamp(validity.not_after));
    if until <= now {
        warnings.push(file.problem(format!("certificate {place} expired at {until}")));
    } else if from > now {
        warnings.push(file.problem(format!("certificate {place} is not valid before {from}")));
    }
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

/// A time that cannot be represented becomes the earliest or the latest time that can.
fn timestamp(time: ASN1Time) -> Timestamp {
    let seconds = time.timestamp();
    let edge = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(edge)
}
