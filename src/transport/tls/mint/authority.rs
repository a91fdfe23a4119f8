//! The authority that signs leaves: its certificate, what is sent with it, its key.
//!
//! Its files are checked together at load ([`checks`]), so that nobody learns from a client what could have been seen here.
//! Not here: the leaves ([`super::leaf`]), and reading the files from disk.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;

use super::checks;
use super::constraints::Constraints;
use crate::transport::tls::certificates::{read_certificate, timestamp};
use crate::transport::tls::files::{FileProblem, PemFile};
use crate::words::target::{Host, Name};

/// Keys with which any client accepts a signature. Of the others, Windows, macOS, browsers and older Java take no Ed25519, and
/// browsers no P-521.
const SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// What signs the leaves: read from its files, and checked.
pub struct Authority {
    /// The certificate that signs, and what is sent with it, in the order of the file.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
    pub(super) key: Arc<dyn SigningKey>,
    pub(super) scheme: SignatureScheme,
    /// The subject of its certificate, byte for byte: leaves have it as their issuer.
    pub(super) subject: Box<[u8]>,
    /// Its subject key identifier, byte for byte.
    pub(super) key_identifier: Option<Box<[u8]>>,
    not_before: Timestamp,
    not_after: Timestamp,
    constraints: Constraints,
    /// SHA-256 of the certificates, and so of the key.
    print: [u8; 32],
}

/// An [`Authority`], and warnings about what is usable and probably wrong.
#[derive(Debug)]
pub struct LoadedAuthority {
    /// Ready for use.
    pub authority: Authority,
    /// What is usable, and probably not meant.
    pub warnings: Vec<FileProblem>,
}

impl Authority {
    /// Checks the files together. `certificate` has the certificate that signs, then what is to be sent with it. `now` is for
    /// warnings only.
    ///
    /// # Errors
    /// Everything that is wrong, each with its file.
    pub fn from_pem(
        certificate: &PemFile,
        key: &PemFile,
        now: Timestamp,
    ) -> Result<LoadedAuthority, Vec<FileProblem>> {
        let mut problems = Vec::new();
        let key_found = read_key(key).map_err(|problem| problems.push(problem)).ok();
        let chain = match certificate.sections("certificate", |kind| kind == SectionKind::Certificate) {
            Ok(sections) => sections.into_iter().map(|(_, der)| CertificateDer::from(der)).collect(),
            Err(problem) => {
                problems.push(problem);
                Vec::new()
            }
        };
        let mut read = Vec::new();
        for (place, der) in (1..).zip(&chain) {
            match read_certificate(certificate, place, der) {
                Ok(found) => read.push(found),
                Err(problem) => problems.push(problem),
            }
        }
        let (Some(own), [], Some((key_found, scheme))) = (read.first(), &*problems, key_found) else {
            return Err(problems);
        };
        if let Err(problem) = belongs(key, &key_found, certificate, &chain) {
            return Err(vec![problem]);
        }
        let constraints = constraints(certificate, &read)?;
        let warnings = checks::check(certificate, &read, &constraints, now)?;
        let authority = Authority {
            key: key_found,
            scheme,
            subject: own.subject().as_raw().into(),
            key_identifier: checks::key_identifier(own).map(Box::from),
            not_before: latest(&read, |one| one.validity().not_before),
            not_after: earliest(&read, |one| one.validity().not_after),
            constraints,
            print: print(&chain),
            chain: chain.into(),
        };
        Ok(LoadedAuthority { authority, warnings })
    }

    /// When it and all that is sent with it are valid for the first time.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When it, or anything that is sent with it, expires.
    pub fn expires(&self) -> Timestamp {
        self.not_after
    }

    /// Its name constraints, and those of what is sent with it.
    pub fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// Whether clients would accept a leaf for `host`. An address never has one.
    pub fn may_sign(&self, host: &Host) -> bool {
        host.name().is_some_and(|name| self.constraints.permit(name))
    }

    /// [`Authority::may_sign`] for a name.
    pub fn may_sign_name(&self, name: &Name) -> bool {
        self.constraints.permit(name)
    }

    /// Whether both have the same certificates, and so the same key.
    pub fn is_same(&self, other: &Authority) -> bool {
        self.print == other.print
    }
}

/// Shows nothing of the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("constraints", &self.constraints)
            .finish_non_exhaustive()
    }
}

fn print(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for der in chain {
        // The length keeps two certificates apart from one.
        hash.update(der.len().to_be_bytes());
        hash.update(der);
    }
    hash.finalize().into()
}

fn latest(
    read: &[X509Certificate<'_>],
    of: impl Fn(&X509Certificate<'_>) -> x509_parser::time::ASN1Time,
) -> Timestamp {
    read.iter().map(|one| timestamp(of(one))).max().unwrap_or(Timestamp::MAX)
}

fn earliest(
    read: &[X509Certificate<'_>],
    of: impl Fn(&X509Certificate<'_>) -> x509_parser::time::ASN1Time,
) -> Timestamp {
    read.iter().map(|one| timestamp(of(one))).min().unwrap_or(Timestamp::MIN)
}

fn constraints(file: &PemFile, read: &[X509Certificate<'_>]) -> Result<Constraints, Vec<FileProblem>> {
    let mut constraints = Constraints::default();
    let mut problems = Vec::new();
    for (place, one) in (1..).zip(read) {
        if let Err(what) = constraints.add(one) {
            problems.push(file.problem(format!("certificate {place} {what}")));
        }
    }
    if problems.is_empty() { Ok(constraints) } else { Err(problems) }
}

fn read_key(file: &PemFile) -> Result<(Arc<dyn SigningKey>, SignatureScheme), FileProblem> {
    let is_key = |kind| {
        matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
    };
    let mut keys = file.sections("private key", is_key)?;
    let (Some((kind, der)), true) = (keys.pop(), keys.is_empty()) else {
        return Err(file.problem("holds more than one private key"));
    };
    let der = match kind {
        SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(der.into()),
        SectionKind::EcPrivateKey => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    };
    let wanted = "write one of P-256, P-384, or RSA with 2048 bits or more";
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(der)
        .map_err(|_| file.problem(format!("holds no key that can be used: {wanted}")))?;
    match key.choose_scheme(&SCHEMES) {
        Some(signer) => Ok((key, signer.scheme())),
        None => Err(file.problem(format!(
            "holds a key of a kind with which many clients accept no signature (Ed25519, P-521): {wanted}"
        ))),
    }
}

/// Whether the key is that of the first certificate.
fn belongs(
    file: &PemFile,
    key: &Arc<dyn SigningKey>,
    certificate: &PemFile,
    chain: &[CertificateDer<'static>],
) -> Result<(), FileProblem> {
    let fits = |der: &CertificateDer<'static>| {
        CertifiedKey::new(vec![der.clone()], Arc::clone(key)).keys_match().is_ok()
    };
    match chain.iter().position(fits) {
        Some(0) => Ok(()),
        Some(place) => Err(certificate.problem(format!(
            "the certificate that signs must come first; the key belongs to certificate {}",
            place + 1
        ))),
        None => {
            Err(file.problem(format!("does not belong to the certificate in {}", certificate.path.display())))
        }
    }
}
