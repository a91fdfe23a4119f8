//! Which certificates of `client_ca` are anchors where revocation lists are checked, and which stand below another.
//!
//! Under an anchor, rustls asks no list about the anchor itself. So a sub-authority that stands in the file beside its root must not
//! be one: it would stay accepted after the root revoked it. OpenSSL builds its paths up to the root as well.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::signature::Signed;

/// Signatures that are looked at for one client's certificates. More are those of a client that shows certificates of its own making.
const MOST_SIGNATURES: usize = 32;

/// The authorities of `client_ca` that are not anchors.
#[derive(Debug)]
pub(super) struct Between {
    /// The only ones of their names: they can be shown for every client.
    single: Vec<CertificateDer<'static>>,
    /// Those of which another authority has the name, with another key. Only those whose key certified something of the client's may be
    /// shown: a path through one that was revoked looks like a revocation of the client's own.
    several: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Between {
    /// Those of `authorities` that are `below` another one, if they are `covered` by the lists.
    pub(super) fn of(
        authorities: &[X509Certificate<'_>],
        below: &[bool],
        covered: impl Fn(&CertificateDer<'_>) -> bool,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        let (mut single, mut several) = (Vec::new(), Vec::new());
        for authority in authorities.iter().zip(below).filter(|(_, below)| **below).map(|(it, _)| it) {
            let der = CertificateDer::from(authority.as_raw()).into_owned();
            let has_twin = authorities.iter().any(|other| {
                other.subject().as_raw() == authority.subject().as_raw()
                    && other.public_key().raw != authority.public_key().raw
            });
            match (covered(&der), has_twin) {
                (false, _) => {}
                (true, false) => single.push(der),
                (true, true) => several.push(der),
            }
        }
        Between { single, several, provider: Arc::clone(provider) }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<CertificateDer<'static>> {
        [&*self.single, &*self.several].concat()
    }

    /// Those that a path from this client's certificates may lead through.
    pub(super) fn above(&self, shown: &[&CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
        let mut found = self.single.clone();
        let mut left: Vec<&CertificateDer<'static>> = self.several.iter().collect();
        let mut signatures = 0;
        while !left.is_empty() {
            let below: Vec<CertificateDer<'_>> =
                shown.iter().map(|it| (*it).clone()).chain(found.iter().cloned()).collect();
            let before = left.len();
            left.retain(|authority| {
                let certified = below.iter().any(|it| self.certified(authority, it, &mut signatures));
                if certified {
                    found.push((*authority).clone());
                }
                !certified
            });
            if left.len() == before {
                break;
            }
        }
        found
    }

    fn certified(&self, by: &CertificateDer<'_>, it: &CertificateDer<'_>, signatures: &mut usize) -> bool {
        let (Ok((_, by)), Ok((_, it))) = (X509Certificate::from_der(by), X509Certificate::from_der(it))
        else {
            return false;
        };
        if by.subject().as_raw() != it.issuer().as_raw() || *signatures >= MOST_SIGNATURES {
            return false;
        }
        *signatures += 1;
        Signed::of(it.as_raw()).is_some_and(|signed| signed.verifies(by.public_key(), &self.provider))
    }
}

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
