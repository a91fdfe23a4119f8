//! Which certificates of `client_ca` are anchors where revocation lists are checked, and which stand below another.
//!
//! Under an anchor, rustls asks no list about the anchor itself. So a sub-authority that stands in the file beside its root must not
//! be one: it would stay accepted after the root revoked it. OpenSSL builds its paths up to the root as well.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use x509_parser::certificate::X509Certificate;

use super::signature::Signed;

/// For each of these authorities: whether another one of them certified it, directly or through others, up to one that none of
/// them certified.
pub(super) fn below(authorities: &[X509Certificate<'_>], provider: &Arc<CryptoProvider>) -> Vec<bool> {
    let issuers: Vec<Vec<usize>> = authorities.iter().map(|of| issuers(of, authorities, provider)).collect();
    let mut below = vec![false; authorities.len()];
    // From the top down: two that certified each other, and that nothing else certified, are not reached and stay anchors.
    loop {
        let is_known = |by: &usize| issuers[*by].is_empty() || below[*by];
        let is_new = |at: &usize| !below[*at] && issuers[*at].iter().any(is_known);
        let more: Vec<usize> = (0..authorities.len()).filter(is_new).collect();
        if more.is_empty() {
            return below;
        }
        for at in more {
            below[at] = true;
        }
    }
}

/// The places of the others that certified it. None of one that certified itself: a path ends there.
fn issuers(
    certificate: &X509Certificate<'_>,
    authorities: &[X509Certificate<'_>],
    provider: &Arc<CryptoProvider>,
) -> Vec<usize> {
    let issuer = certificate.issuer().as_raw();
    let Some(signed) = Signed::of(certificate.as_raw()).filter(|_| certificate.subject().as_raw() != issuer)
    else {
        return Vec::new();
    };
    let certified = |by: &X509Certificate<'_>| {
        by.subject().as_raw() == issuer && signed.verifies(by.public_key(), provider)
    };
    authorities.iter().enumerate().filter(|(_, by)| certified(by)).map(|(place, _)| place).collect()
}
