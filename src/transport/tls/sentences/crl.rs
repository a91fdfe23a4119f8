//! Why a certificate revocation list cannot be used, as a clause about "it".

use rustls::CertRevocationListError;
use rustls::server::VerifierBuilderError;

use super::names::{algorithm, words};

/// Why no verifier of client certificates can be made.
pub fn of_verifier(why: &VerifierBuilderError) -> String {
    match why {
        VerifierBuilderError::NoRootAnchors => "it holds no certificate of an authority".to_owned(),
        VerifierBuilderError::InvalidCrl(why) => of_crl(why),
        other => words(other),
    }
}

/// Why the list cannot be used.
pub(super) fn of_crl(why: &CertRevocationListError) -> String {
    use CertRevocationListError::*;
    let text = match why {
        BadSignature => "its signature does not verify: the CA that has its issuer's name did not sign it",
        UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            return format!(
                "it is signed with {}, which egressd does not accept",
                algorithm(signature_algorithm_id)
            );
        }
        UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            public_key_algorithm_id,
        } => {
            return format!(
                "its signature ({}) does not fit the key that should have made it ({})",
                algorithm(signature_algorithm_id),
                algorithm(public_key_algorithm_id)
            );
        }
        InvalidCrlNumber => "its number (cRLNumber) is malformed",
        InvalidRevokedCertSerialNumber => "a serial number in it is malformed",
        IssuerInvalidForCrl => "its issuer may not sign revocation lists (keyUsage cRLSign)",
        ParseError => "it is malformed",
        UnsupportedCriticalExtension => "it has a critical extension that egressd does not know",
        UnsupportedCrlVersion => "it is not a revocation list of version 2",
        UnsupportedDeltaCrl => "it is a delta list: a complete one is wanted",
        UnsupportedIndirectCrl => "it is an indirect list: a list of each CA is wanted",
        UnsupportedRevocationReason => "a reason of a revocation in it is unknown",
        Other(other) => return words(&format_args!("{other}")),
        other => return words(other),
    };
    text.to_owned()
}
