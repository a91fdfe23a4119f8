//! The signature of a certificate or of a revocation list, and whether a key made it. Not here: whether the key may.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::SignatureVerificationAlgorithm;
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The parts of something signed (RFC 5280, sections 4.1 and 5.1).
pub(super) struct Signed<'d> {
    message: &'d [u8],
    /// `AlgorithmIdentifier`, without its outer header.
    pub(super) algorithm: &'d [u8],
    signature: &'d [u8],
}

impl<'d> Signed<'d> {
    pub(super) fn of(der: &'d [u8]) -> Option<Self> {
        let (_, outer) = Any::from_der(der).ok()?;
        let (rest, _) = Any::from_der(outer.data).ok()?;
        let message = outer.data.get(..outer.data.len() - rest.len())?;
        let (rest, algorithm) = Any::from_der(rest).ok()?;
        let (_, signature) = Any::from_der(rest).ok()?;
        // The first byte of a BIT STRING counts the bits that are not used: none, in a signature.
        let (unused, signature) = signature.data.split_first()?;
        (*unused == 0).then_some(Signed { message, algorithm: algorithm.data, signature })
    }

    /// Whether its algorithm is one that is accepted.
    pub(super) fn is_known_to(&self, provider: &Arc<CryptoProvider>) -> bool {
        self.algorithms(provider).next().is_some()
    }

    /// Whether this key made it.
    pub(super) fn verifies(&self, key: &SubjectPublicKeyInfo<'_>, provider: &Arc<CryptoProvider>) -> bool {
        let Some(kind) = first_inside(key.raw) else { return false };
        self.algorithms(provider).filter(|known| known.public_key_alg_id().as_ref() == kind).any(|known| {
            known.verify_signature(&key.subject_public_key.data, self.message, self.signature).is_ok()
        })
    }

    fn algorithms(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> impl Iterator<Item = &'static dyn SignatureVerificationAlgorithm> {
        let all = provider.signature_verification_algorithms.all;
        all.iter().copied().filter(|known| known.signature_alg_id().as_ref() == self.algorithm)
    }
}

/// The content of the first element inside this one: of a `SubjectPublicKeyInfo`, the `AlgorithmIdentifier`.
fn first_inside(der: &[u8]) -> Option<&[u8]> {
    let (_, outer) = Any::from_der(der).ok()?;
    let (_, first) = Any::from_der(outer.data).ok()?;
    Some(first.data)
}
