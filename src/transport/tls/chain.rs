//! The certificates that a client showed, kept to be judged again: before each of its requests, after a reload, when one of
//! them expires.
//!
//! A verdict holds until the trust changes ([`TrustId`]) or a moment comes at which it could change: the beginning or the
//! end of a certificate, or the moment at which a revocation list is due. Until then, a repeated question costs a
//! comparison and no signature. Not here: the verdict ([`super::trust`]).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::certificates::timestamp;
use crate::transport::held::{HeldBytes, Kind};
use crate::words::small_sort::SmallSort as _;

/// What is trusted: the same for the same bytes of `client_ca` and `client_crl`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TrustId(pub(super) [u8; 32]);

/// Why a client's certificates are not accepted, as a sentence.
pub type Unaccepted = Arc<str>;

/// The certificates that a client showed, its own first: those that a path from it to an authority may lead over. What else a
/// client shows changes no verdict, and is not kept.
pub struct ClientChain {
    certificates: Box<[CertificateDer<'static>]>,
    /// Many connections may have it, so no connection holds it.
    counted: Option<Counted>,
    /// The moments at which one begins or ends to be valid, sorted.
    moments: Box<[Timestamp]>,
    judged: Mutex<Option<Judged>>,
}

/// Bytes of the budget, for as long as they are held.
struct Counted {
    budget: Arc<HeldBytes>,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.give_back(Kind::Tls, self.bytes);
    }
}

/// A verdict, and as long as it holds.
pub(super) struct Judged {
    by: TrustId,
    from: Timestamp,
    until: Timestamp,
    verdict: Result<(), Unaccepted>,
}

impl Judged {
    pub(super) fn new(
        by: TrustId,
        (from, until): (Timestamp, Timestamp),
        verdict: Result<(), Unaccepted>,
    ) -> Self {
        Judged { by, from, until, verdict }
    }

    pub(super) fn holds(&self, by: TrustId, now: Timestamp) -> Option<Result<(), Unaccepted>> {
        (self.by == by && self.from <= now && now < self.until).then(|| self.verdict.clone())
    }
}

impl ClientChain {
    pub(super) fn new(shown: &[CertificateDer<'_>]) -> Self {
        let mut others: Vec<Shown<'_>> =
            shown.iter().map(|certificate| (certificate, read(certificate))).collect();
        let mut path: Vec<Shown<'_>> = others.drain(..others.len().min(1)).collect();
        loop {
            // What cannot be read here stays: another reader may.
            let is_issuer = |(_, other): &Shown<'_>| {
                other.as_ref().is_none_or(|other| {
                    let mut below = path.iter().filter_map(|(_, below)| below.as_ref());
                    below.any(|below| below.issuer().as_raw() == other.subject().as_raw())
                })
            };
            let (mut found, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(is_issuer);
            if found.is_empty() {
                break;
            }
            path.append(&mut found);
            others = rest;
        }
        let certificates: Box<[CertificateDer<'static>]> =
            path.iter().map(|(certificate, _)| (*certificate).clone().into_owned()).collect();
        let mut moments = moments(&certificates);
        moments.small_sort();
        ClientChain { certificates, counted: None, moments: moments.into(), judged: Mutex::new(None) }
    }

    /// It counts in `budget` as long as it is kept.
    pub(super) fn counted(mut self, budget: &Arc<HeldBytes>) -> Self {
        let bytes = memory_of(&self.certificates) + self.moments.len() * size_of::<Timestamp>();
        budget.charge(Kind::Tls, bytes);
        self.counted = Some(Counted { budget: Arc::clone(budget), bytes });
        self
    }

    /// The client's own certificate, and those that it showed with it.
    pub(super) fn split(&self) -> Option<(&CertificateDer<'static>, &[CertificateDer<'static>])> {
        self.certificates.split_first()
    }

    /// The time around `now` in which no certificate of it, and nothing at `other` moments, begins or ends.
    pub(super) fn period(&self, other: &[Timestamp], now: Timestamp) -> (Timestamp, Timestamp) {
        let moments = || self.moments.iter().chain(other).copied();
        let from = moments().filter(|moment| *moment <= now).max();
        let until = moments().filter(|moment| *moment > now).min();
        (from.unwrap_or(Timestamp::MIN), until.unwrap_or(Timestamp::MAX))
    }

    pub(super) fn judged(&self) -> MutexGuard<'_, Option<Judged>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the last verdict may change although the configuration does not. `None`: never, or there is no verdict.
    pub fn changes_at(&self) -> Option<Timestamp> {
        self.judged().as_ref().map(|judged| judged.until).filter(|until| *until < Timestamp::MAX)
    }

    /// SHA-256 of the certificates.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for certificate in &self.certificates {
            // The length keeps two certificates apart from one.
            hash.update(certificate.len().to_be_bytes());
            hash.update(certificate);
        }
        hash.finalize().into()
    }
}

/// The moments at which one of these begins or ends to be valid.
pub(super) fn moments(certificates: &[CertificateDer<'_>]) -> Vec<Timestamp> {
    let mut moments = Vec::new();
    for certificate in certificates {
        // What cannot be read is no part of a path, and changes no verdict.
        if let Ok((_, read)) = X509Certificate::from_der(certificate) {
            moments.push(timestamp(read.validity().not_before));
            // It is valid in its last second.
            let last = timestamp(read.validity().not_after);
            moments.push(last.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX));
        }
    }
    moments
}

/// A certificate that was shown, as it can be read.
type Shown<'c> = (&'c CertificateDer<'c>, Option<X509Certificate<'c>>);

fn read<'c>(certificate: &'c CertificateDer<'_>) -> Option<X509Certificate<'c>> {
    X509Certificate::from_der(certificate).ok().map(|(_, read)| read)
}

/// What certificates take that are kept: each is an allocation of its own.
pub(super) fn memory_of(certificates: &[CertificateDer<'_>]) -> usize {
    certificates.iter().map(|certificate| certificate.len() + 48).sum()
}

impl fmt::Debug for ClientChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientChain({} certificates)", self.certificates.len())
    }
}
