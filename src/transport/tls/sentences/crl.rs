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
pub fn of_crl(why: &CertRevocationListError) -> String {
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
        Other(other) => return of_webpki(&other.0.to_string()),
        other => return words(other),
    };
    text.to_owned()
}

/// By the name of webpki's error, which is all that rustls passes on of it.
fn of_webpki(name: &str) -> String {
    let text = match name {
        "UnsupportedRevocationReasonsPartitioning" => {
            "it is for some reasons of revocation alone (onlySomeReasons): a complete list is wanted"
        }
        "UnsupportedCrlIssuingDistributionPoint" => {
            "it is for a part of the certificates that has no name (issuingDistributionPoint without fullName): a complete list is \
             wanted"
        }
        "MalformedExtensions" => "an extension in it is malformed",
        other => return words(&format_args!("{other}")),
    };
    text.to_owned()
}
