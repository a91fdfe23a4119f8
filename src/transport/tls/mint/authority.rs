//! The authority that signs leaves: its certificate, what is sent with it, its key. Everything that would make clients
//! refuse its leaves is found at load.
//!
//! Not here: the leaves ([`super::leaf`]), and the files, which [`crate::config`] reads.

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
use x509_parser::extensions::ParsedExtension;

use super::constraints::Constraints;
use crate::transport::tls::certificates::{read_certificate, timestamp};
use crate::transport::tls::files::{FileProblem, PemFile};
use crate::words::target::{Host, Name};

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
    /// SHA-256 of the certificates and the public key.
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
    /// Checks the files together.
    ///
    /// # Errors
    /// Everything that is wrong, each with its file.
    pub fn from_pem(
        certificate: &PemFile,
        key: &PemFile,
        now: Timestamp,
    ) -> Result<LoadedAuthority, Vec<FileProblem>> {
        let mut warnings = Vec::new();
        let one = |problem| vec![problem];
        let sections =
            certificate.sections("certificate", |kind| kind == SectionKind::Certificate).map_err(one)?;
        let chain: Vec<CertificateDer<'static>> =
            sections.into_iter().map(|(_, der)| CertificateDer::from(der)).collect();
        let mut constraints = Constraints::default();
        let (mut not_before, mut not_after) = (Timestamp::MIN, Timestamp::MAX);
        let mut read = Vec::new();
        for (place, der) in (1..).zip(&chain) {
            let found = read_certificate(certificate, place, der).map_err(one)?;
            constraints
                .add(&found)
                .map_err(|what| one(certificate.problem(format!("certificate {place} {what}"))))?;
            not_before = not_before.max(timestamp(found.validity().not_before));
            not_after = not_after.min(timestamp(found.validity().not_after));
            read.push(found);
        }
        let Some(own) = read.first() else {
            return Err(one(certificate.problem("holds no certificate")));
        };
        if not_after <= now {
            warnings.push(certificate.problem(format!("expired at {not_after}: nothing can be signed")));
        }
        let (key, scheme) = read_key(key, certificate, &chain).map_err(one)?;
        let mut print = Sha256::new();
        for der in &chain {
            print.update(der.len().to_be_bytes());
            print.update(der);
        }
        let subject = own.subject().as_raw().into();
        let key_identifier = subject_key_identifier(own);
        let print = print.finalize().into();
        drop(read);
        let authority = Authority {
            chain: chain.into(),
            key,
            scheme,
            subject,
            key_identifier,
            not_before,
            not_after,
            constraints,
            print,
        };
        Ok(LoadedAuthority { authority, warnings })
    }

    /// When it, or what is sent with it, begins to be valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When it, or what is sent with it, expires: the earliest.
    pub fn expires(&self) -> Timestamp {
        self.not_after
    }

    /// Its name constraints.
    pub fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// Whether clients would accept a leaf for `host`. An address never has a leaf.
    pub fn may_sign(&self, host: &Host) -> bool {
        host.name().is_some_and(|name| self.may_sign_name(name))
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

fn subject_key_identifier(certificate: &X509Certificate<'_>) -> Option<Box<[u8]>> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.into()),
        _ => None,
    })
}

fn read_key(
    file: &PemFile,
    certificate: &PemFile,
    chain: &[CertificateDer<'static>],
) -> Result<(Arc<dyn SigningKey>, SignatureScheme), FileProblem> {
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
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(der).map_err(|_| {
        file.problem("holds no usable key: write one of P-256, P-384, or RSA with 2048 bits or more")
    })?;
    let own = CertifiedKey::new(chain.to_vec(), key);
    if own.keys_match().is_err() {
        return Err(
            file.problem(format!("does not belong to the certificate in {}", certificate.path.display()))
        );
    }
    let schemes = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    match own.key.choose_scheme(&schemes) {
        Some(signer) => Ok((Arc::clone(&own.key), signer.scheme())),
        None => Err(file.problem(
            "is a key with which many clients accept no certificate: write one of P-256, P-384, or RSA with 2048 bits or more",
        )),
    }
}
