//! Whom a listener with `client_ca` accepts: one verdict for the handshake and for every later question about the same certificates.
//!
//! The verdict is rustls' own ([`WebPkiClientVerifier`]), with three things that it lacks. Revocation lists are picked and
//! ordered before ([`super::revocation`]). A CA of `client_ca` with `pathlen:0` issues no sub-authorities. A
//! verdict can be asked for again, at any time ([`ClientTrust::judge`]).
//!
//! With revocation lists, only a CA that none of the others certified is an anchor ([`anchors`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS;
use x509_parser::prelude::FromDer;

use super::anchors::{self, Between};
use super::certificates::{read_certificate, warn_of_dates};
use super::chain::{self, ClientChain, Judged, TrustId, Unaccepted};
use super::files::{CERTIFICATE, FileProblem, PemFile, TlsPem};
use super::revocation::{self, Counting};
use super::sentences;
use crate::transport::held::HeldBytes;
use crate::words::small_sort::SmallCollect as _;

/// Whom a listener accepts.
#[derive(Debug)]
pub struct ClientTrust {
    id: TrustId,
    /// A certificate is accepted if one of these accepts it, and it is revoked in none.
    ways: Vec<Way>,
    hints: Vec<DistinguishedName>,
    /// The anchors, in DER.
    anchors: BTreeSet<Vec<u8>>,
    /// The certificates of `client_ca` that one of the anchors certified, or one of these: they are judged as if each
    /// client had shown them.
    between: Between,
    /// The issuers (DER) whose lists may cover only certificates that name a distribution point.
    of_points_alone: BTreeSet<Vec<u8>>,
    /// When revocation lists are due to be renewed, with the names of their issuers.
    due: Vec<(Timestamp, String)>,
    /// The moments at which a verdict may change: when a list is due, and when a certificate between begins or ends.
    moments: Box<[Timestamp]>,
    sub_authorities: bool,
}

/// One way to be accepted.
#[derive(Debug)]
struct Way {
    /// All must accept. At least one.
    verifiers: Vec<Arc<dyn ClientCertVerifier>>,
    /// Whether certificates of sub-authorities may stand between.
    with_intermediates: bool,
}

impl ClientTrust {
    /// `None` where clients need no certificate.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(super) fn read(
        pem: &TlsPem,
        provider: &Arc<CryptoProvider>,
        now: Timestamp,
        warnings: &mut Vec<FileProblem>,
    ) -> Result<Option<Self>, Vec<FileProblem>> {
        let Some(ca) = &pem.client_ca else {
            return match &pem.client_crl {
                Some(crl) => Err(vec![crl.problem("client_crl has no effect without client_ca")]),
                None => Ok(None),
            };
        };
        let sections = ca
            .sections(CERTIFICATE, |kind| kind == SectionKind::Certificate)
            .map_err(|problem| vec![problem])?;
        let mut authorities = Vec::new();
        for (place, (_, der)) in (1..).zip(&sections) {
            let certificate = read_certificate(ca, place, der).map_err(|problem| vec![problem])?;
            warn_of_dates(ca, place, &certificate, now, warnings);
            if !certificate.is_ca() {
                let text = format!(
                    "certificate {place} is not that of a CA (basicConstraints with CA:TRUE): egressd accepts the clients that it \
                     signed for, and other programs do not. Write the certificate of the CA, or issue this one again as that of a CA"
                );
                warnings.push(ca.problem(text));
            }
            authorities.push(certificate);
        }
        let below = match &pem.client_crl {
            Some(_) => anchors::below(&authorities, provider),
            None => vec![false; authorities.len()],
        };
        let roots = Roots::of(ca, &authorities, &below).map_err(|problem| vec![problem])?;
        let counting = match &pem.client_crl {
            Some(file) => revocation::read(file, &authorities, provider, now, warnings)?,
            None => Counting::default(),
        };
        let crl = pem.client_crl.as_ref();
        let ways = ways(&roots, &counting, provider).map_err(|text| vec![crl.unwrap_or(ca).problem(text)])?;
        let anchors = authorities.iter().zip(&below).filter(|(_, below)| !**below);
        let anchors: BTreeSet<Vec<u8>> = anchors.map(|(anchor, _)| anchor.as_raw().to_vec()).small_collect();
        let of_points_alone = counting.of_points_alone;
        let covered = |it: &CertificateDer<'_>| !is_in_no_list(&of_points_alone, it);
        let between = Between::of(&authorities, &below, covered, provider);
        let moments = counting.due.iter().map(|(due, _)| *due).chain(chain::moments(&between.all()));
        Ok(Some(ClientTrust {
            id: id(ca, crl),
            ways,
            hints: roots.hints,
            anchors,
            between,
            of_points_alone,
            moments: moments.collect(),
            due: counting.due,
            sub_authorities: authorities.iter().any(may_have_sub_authorities),
        }))
    }

    /// Whether a CA of `client_ca` may have sub-authorities, which then issue client certificates too.
    pub fn has_sub_authorities(&self) -> bool {
        self.sub_authorities
    }

    /// When each revocation list that counts is due to be renewed, with the name of its issuer.
    pub fn lists_due(&self) -> &[(Timestamp, String)] {
        &self.due
    }

    /// Whether these certificates are accepted at `now`.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, chain: &ClientChain, now: Timestamp) -> Result<(), Unaccepted> {
        let mut last = chain.judged();
        if let Some(verdict) = last.as_ref().and_then(|judged| judged.holds(self.id, now)) {
            return verdict;
        }
        let verdict = match chain.split() {
            // Under the lock: other connections with the same certificates wait for this verdict.
            Some((own, others)) => self.verify(own, others, unix_time(now)),
            None => Err(Error::NoCertificatesPresented),
        };
        let verdict = verdict.map_err(|error| sentences::of_client(&error).into());
        *last = Some(Judged::new(self.id, chain.period(&self.moments, now), verdict.clone()));
        verdict
    }

    /// The certificates that a handshake which began at `began` has just accepted. They count in `budget`.
    pub(super) fn accepted(
        &self,
        certificates: &[CertificateDer<'_>],
        began: Timestamp,
        budget: &Arc<HeldBytes>,
    ) -> ClientChain {
        let chain = ClientChain::new(certificates).counted(budget);
        let period = chain.period(&self.moments, began);
        *chain.judged() = Some(Judged::new(self.id, period, Ok(())));
        chain
    }

    fn verify(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let lacks = |it: &CertificateDer<'_>| {
            !self.anchors.contains(&**it) && is_in_no_list(&self.of_points_alone, it)
        };
        if std::iter::once(own).chain(others).any(lacks) {
            return Err(Error::InvalidCertificate(CertificateError::UnknownRevocationStatus));
        }
        let shown: Vec<&CertificateDer<'_>> = std::iter::once(own).chain(others).collect();
        let others = [others, &self.between.above(&shown)].concat();
        let mut is_accepted = false;
        let mut worst: Option<Error> = None;
        for Way { verifiers, with_intermediates } in &self.ways {
            let others = if *with_intermediates { others.as_slice() } else { &[] };
            let passed = verifiers
                .iter()
                .try_for_each(|verifier| verifier.verify_client_cert(own, others, now).map(drop));
            match passed {
                Ok(()) => is_accepted = true,
                // Its issuer's key signed that list.
                Err(revoked @ Error::InvalidCertificate(CertificateError::Revoked)) => return Err(revoked),
                Err(error) if worst.as_ref().is_none_or(|before| weight(&error) > weight(before)) => {
                    worst = Some(error);
                }
                Err(_) => {}
            }
        }
        match worst {
            _ if is_accepted => Ok(()),
            Some(error) => Err(error),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    /// For what is not about trust: all verifiers have the same algorithms.
    fn any(&self) -> Option<&Arc<dyn ClientCertVerifier>> {
        self.ways.first().and_then(|way| way.verifiers.first())
    }
}

/// Whether the lists of its issuer are all for distribution points, and it names none.
fn is_in_no_list(of_points_alone: &BTreeSet<Vec<u8>>, certificate: &CertificateDer<'_>) -> bool {
    if of_points_alone.is_empty() {
        return false;
    }
    let Ok((_, read)) = X509Certificate::from_der(certificate) else { return false };
    let mut extensions = read.extensions().iter();
    of_points_alone.contains(read.issuer().as_raw())
        && !extensions.any(|extension| extension.oid == OID_X509_EXT_CRL_DISTRIBUTION_POINTS)
}

/// How much an error says: that there is no path says least, because another way may have one.
fn weight(error: &Error) -> u8 {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => 0,
        // With the list of a CA's other key.
        Error::InvalidCertRevocationList(_) => 1,
        _ => 2,
    }
}

impl ClientCertVerifier for ClientTrust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verifier = self.any().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verifier = self.any().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any().map(|verifier| verifier.supported_verify_schemes()).unwrap_or_default()
    }
}

/// The certificates of `client_ca`, by whether sub-authorities may stand under them.
struct Roots {
    open: RootCertStore,
    /// With `pathlen:0`: rustls does not look at this in a root.
    closed: RootCertStore,
    hints: Vec<DistinguishedName>,
}

impl Roots {
    fn of(
        file: &PemFile,
        authorities: &[X509Certificate<'_>],
        between: &[bool],
    ) -> Result<Self, FileProblem> {
        let (mut open, mut closed) = (RootCertStore::empty(), RootCertStore::empty());
        let mut below = RootCertStore::empty();
        for ((place, authority), is_between) in (1..).zip(authorities).zip(between) {
            let store = match is_between {
                true => &mut below,
                false if may_have_sub_authorities(authority) => &mut open,
                false => &mut closed,
            };
            store
                .add(CertificateDer::from(authority.as_raw()).into_owned())
                .map_err(|_| file.problem(format!("certificate {place} cannot be used as a CA")))?;
        }
        let hints = [open.subjects(), closed.subjects(), below.subjects()].concat();
        Ok(Roots { open, closed, hints })
    }
}

/// Whether nothing in it forbids sub-authorities. A certificate that is not that of a CA (or too old to say) may have any, because
/// it is trusted here all the same.
fn may_have_sub_authorities(authority: &X509Certificate<'_>) -> bool {
    let constraints = authority.basic_constraints().ok().flatten();
    constraints.is_none_or(|constraints| constraints.value.path_len_constraint != Some(0))
}

fn ways(roots: &Roots, counting: &Counting, provider: &Arc<CryptoProvider>) -> Result<Vec<Way>, String> {
    let without = vec![vec![Vec::new()]];
    let sets = if counting.sets.is_empty() { &without } else { &counting.sets };
    let mut ways = Vec::new();
    for (store, with_intermediates) in [(&roots.open, true), (&roots.closed, false)] {
        if store.is_empty() {
            continue;
        }
        let store = Arc::new(store.clone());
        let verifier = |lists: &Vec<CertificateRevocationListDer<'static>>| {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), Arc::clone(provider))
                .enforce_revocation_expiration()
                .with_crls(lists.iter().cloned())
                .build()
                .map_err(|error| format!("cannot be used: {}", sentences::of_verifier(&error)))
        };
        for orders in sets {
            let verifiers = orders.iter().map(verifier).collect::<Result<_, _>>()?;
            ways.push(Way { verifiers, with_intermediates });
        }
    }
    Ok(ways)
}

fn id(ca: &PemFile, crl: Option<&PemFile>) -> TrustId {
    let mut hash = Sha256::new();
    hash.update(ca.bytes.len().to_be_bytes());
    hash.update(&ca.bytes);
    if let Some(crl) = crl {
        hash.update(&crl.bytes);
    }
    TrustId(hash.finalize().into())
}

fn unix_time(now: Timestamp) -> UnixTime {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}
