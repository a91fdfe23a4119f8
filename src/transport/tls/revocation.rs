//! The revocation lists of `client_crl`: checked when they are loaded, and those that count picked out.
//!
//! Of the lists of one CA the newest counts (`thisUpdate`, then `cRLNumber`), wherever it stands in the file. A list that cannot be
//! relied on is an error with its line: malformed, from the future, signed by another key than that of its CA in `client_ca`, a
//! delta or an indirect list. One that is out of date is a warning, and refuses its CA's clients. The CA of a list
//! may also be one that clients show with their certificates. Then only a handshake can check the signature.
//!
//! A CA of `client_ca` without a list is an error too: each certificate that it issued would be refused, so it is in the file by
//! mistake, or its list is missing by mistake. OpenSSL's users (nginx, HAProxy) load such files and refuse these clients, which is
//! seen when it is too late: after a list was replaced by that of another CA.
//!
//! # Two keys of one name
//! A CA that gets a new key keeps its name, and for a while both keys sign lists. The verifier below takes the first list
//! that has the issuer's name. So each combination of one key for each name makes a set of its own ([`Counting::sets`]): a
//! certificate passes with the set in which its issuer's own key signed the list. The key of a CA that is not in `client_ca` is told
//! by its identifier in the list. One key may have two identifiers, and then its older list is in a set too: so a certificate that is
//! revoked with any set does not pass ([`super::trust`]).
//!
//! # Lists for a distribution point
//! A list may be for the certificates that name one distribution point (`issuingDistributionPoint`). A certificate that
//! names none is not covered by such a list, as in OpenSSL ([`Counting::of_points_alone`]). If a CA has both kinds, a certificate must
//! pass with either in front.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::num_bigint::BigUint;
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::certificates::timestamp;
use super::files::{FileProblem, LIST, PemFile};
use super::sentences;
use super::signature::Signed;
use crate::words::quote::quoted;
use crate::words::small_sort::{SmallCollect as _, SmallSort as _};

/// Combinations of keys: names with two keys each, at a time. More is not a rollover.
const MOST_SETS: usize = 16;

/// The lists that count.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// A certificate must pass with all orders of one set.
    pub(super) sets: Vec<Orders>,
    /// The issuers (DER) with a key that signed only lists for a distribution point.
    pub(super) of_points_alone: BTreeSet<Vec<u8>>,
    /// When the lists are due to be renewed, with the names of their issuers.
    pub(super) due: Vec<(Timestamp, String)>,
}

/// One list for each CA, in one order or two: the verifier takes the first that fits.
pub(super) type Orders = Vec<Vec<CertificateRevocationListDer<'static>>>;

/// One list.
struct List<'d> {
    place: u32,
    line: u32,
    der: &'d [u8],
    /// The issuer's name, in DER.
    issuer: &'d [u8],
    named: String,
    signer: Signer<'d>,
    /// The distribution point that it is for, in DER.
    point: Option<Vec<u8>>,
    issued: Timestamp,
    number: Option<BigUint>,
    due: Option<Timestamp>,
}

/// Which key signed a list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Signer<'d> {
    /// One of `client_ca`, in DER.
    Known(&'d [u8]),
    /// One that is not there, by its identifier in the list, if there is one.
    Unknown(Option<Vec<u8>>),
}

/// Reads the lists of `file`. Warnings are added to `warnings`.
///
/// # Errors
/// Everything that is wrong, each with its line.
pub(super) fn read(
    file: &PemFile,
    authorities: &[X509Certificate<'_>],
    provider: &Arc<CryptoProvider>,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) -> Result<Counting, Vec<FileProblem>> {
    let sections = file.sections(LIST, |kind| kind == SectionKind::Crl).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut lists = Vec::new();
    // The issuers of lists that are errors: that they have no usable one needs no words of its own.
    let mut wrong = BTreeSet::new();
    let mut illegible = false;
    let lines = file.lines_of("X509 CRL").chain(std::iter::repeat(1));
    for ((place, line), (_, der)) in (1..).zip(lines).zip(&sections) {
        let reading = Reading { authorities, provider, now };
        match reading.list(place, line, der) {
            Ok(list) => lists.push(list),
            Err(text) => {
                match issuer(der) {
                    Some(issuer) => drop(wrong.insert(issuer)),
                    None => illegible = true,
                }
                problems.push(file.problem_at(line, format!("revocation list {place} {text}")));
            }
        }
    }
    let lists = newest(lists, file, warnings, &mut problems);
    if !illegible {
        problems.extend(without_list(authorities, &lists, &wrong).map(|text| file.problem(text)));
    }
    for list in &lists {
        if let Some(due) = list.due.filter(|due| *due <= now) {
            let List { place, named, .. } = list;
            let text = format!(
                "revocation list {place} (issuer {named}) was due to be renewed at {due}: the clients of this CA are refused. Write its \
                 newest list"
            );
            warnings.push(file.problem_at(list.line, text));
        }
    }
    let sets = sets(&lists).unwrap_or_else(|text| {
        problems.push(file.problem(text));
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let has_general = |list: &List<'_>| {
        lists.iter().any(|other| {
            other.point.is_none() && (other.issuer, &other.signer) == (list.issuer, &list.signer)
        })
    };
    let of_points_alone =
        lists.iter().filter(|list| !has_general(list)).map(|list| list.issuer.to_vec()).small_collect();
    let due = lists.iter().filter_map(|list| Some((list.due?, list.named.clone()))).collect();
    Ok(Counting { sets, of_points_alone, due })
}

/// The issuer's name, in DER.
fn issuer(list: &[u8]) -> Option<&[u8]> {
    let (_, read) = CertificateRevocationList::from_der(list).ok()?;
    Some(read.tbs_cert_list.issuer.as_raw())
}

/// What is said of each CA of `client_ca` that issued none of the lists. Those in `wrong` are passed over.
fn without_list(
    authorities: &[X509Certificate<'_>],
    lists: &[List<'_>],
    wrong: &BTreeSet<&[u8]>,
) -> impl Iterator<Item = String> {
    let mut seen = BTreeSet::new();
    (1..).zip(authorities).filter_map(move |(place, authority)| {
        let (name, key) = (authority.subject().as_raw(), authority.public_key().raw);
        // A CA that renewed its certificate is there twice, with one key.
        let is_first = seen.insert((name.to_vec(), key.to_vec()));
        let has_list =
            lists.iter().any(|list| list.issuer == name && list.signer == Signer::Known(key));
        if !is_first || has_list || wrong.contains(name) {
            return None;
        }
        let named = quoted(&authority.subject().to_string());
        Some(format!(
            "has no revocation list of {named}, certificate {place} of client_ca: none of the clients of this CA could connect. Add \
             its list, or remove the CA from `client_ca`"
        ))
    })
}

/// What a list is held against.
struct Reading<'r> {
    authorities: &'r [X509Certificate<'r>],
    provider: &'r Arc<CryptoProvider>,
    now: Timestamp,
}

impl<'r> Reading<'r> {
    /// # Errors
    /// What is wrong with it, as the end of a sentence about it.
    fn list(&self, place: u32, line: u32, der: &'r [u8]) -> Result<List<'r>, String> {
        let Ok(([], read)) = CertificateRevocationList::from_der(der) else {
            return Err("is malformed".to_owned());
        };
        let named = quoted(&read.issuer().to_string());
        let of = |text: String| format!("(issuer {named}): {text}");
        if read.version() != Some(X509Version::V2) {
            return Err(of("it is of version 1: a list of version 2 is wanted, with cRLNumber".to_owned()));
        }
        if read.next_update().is_none() {
            return Err(of(
                "it does not say when it is out of date (nextUpdate), which RFC 5280 wants".to_owned()
            ));
        }
        self.usable(der).map_err(of)?;
        let issued = timestamp(read.last_update());
        if issued > self.now {
            return Err(of(format!(
                "it is from the future: it was issued at {issued}. Is the clock of the CA or of this machine wrong?"
            )));
        }
        let issuer = read.tbs_cert_list.issuer.as_raw();
        let signer = self.signer(&read, der).map_err(of)?;
        let mut extensions = read.extensions().iter();
        let point = extensions.find(|found| found.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
        let point = point.map(|found| found.value.to_vec());
        let due = read.next_update().map(timestamp);
        let number = read.crl_number().cloned();
        Ok(List { place, line, der, issuer, named, signer, point, issued, number, due })
    }

    /// Whether the verifier of the handshakes can use it.
    fn usable(&self, der: &[u8]) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        for authority in self.authorities {
            // What cannot be a root was reported already.
            let _ = roots.add(CertificateDer::from(authority.as_raw()));
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(self.provider))
            .with_crls([CertificateRevocationListDer::from(der.to_vec())])
            .build()
            .map(drop)
            .map_err(|error| format!("it cannot be used: {}", sentences::of_verifier(&error)))
    }

    /// The key that signed it, if the CA is in `client_ca`.
    fn signer(&self, list: &CertificateRevocationList<'r>, der: &'r [u8]) -> Result<Signer<'r>, String> {
        let same_name =
            |authority: &&X509Certificate<'_>| authority.subject().as_raw() == list.issuer().as_raw();
        let mut authorities = self.authorities.iter().filter(same_name).peekable();
        if authorities.peek().is_none() {
            let mut extensions = list.tbs_cert_list.extensions().iter();
            let key = extensions.find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    id.key_identifier.as_ref().map(|key| key.0.to_vec())
                }
                _ => None,
            });
            return Ok(Signer::Unknown(key));
        }
        let Some(signed) = Signed::of(der) else {
            return Err("it is malformed".to_owned());
        };
        if !signed.is_known_to(self.provider) {
            return Err(format!(
                "it is signed with {}, which egressd does not accept",
                sentences::algorithm(signed.algorithm)
            ));
        }
        for authority in authorities {
            let key = authority.public_key();
            if signed.verifies(key, self.provider) {
                return match authority.key_usage() {
                    Ok(Some(usage)) if !usage.value.crl_sign() => {
                        Err("the CA that signed it may not sign revocation lists (keyUsage without cRLSign)"
                            .to_owned())
                    }
                    _ => Ok(Signer::Known(key.raw)),
                };
            }
        }
        Err("its signature does not verify: no certificate of client_ca that has its issuer's name has the key that signed it. \
             Write the list that this CA issued, or remove this one"
            .to_owned())
    }
}

impl List<'_> {
    /// What it is a list of.
    fn subject(&self) -> (&[u8], &Signer<'_>, Option<&[u8]>) {
        (self.issuer, &self.signer, self.point.as_deref())
    }

    /// For sorting: the newer one is greater.
    fn age(&self) -> (Timestamp, Option<&BigUint>) {
        (self.issued, self.number.as_ref())
    }

    /// Whether it is newer than `other`, which is not newer than it. A number counts only between lists of the same moment, and only
    /// if both have one.
    fn is_newer_than(&self, other: &Self) -> bool {
        let by_number = || self.number.is_some() && other.number.is_some() && self.number != other.number;
        self.issued != other.issued || by_number()
    }
}

/// Of all lists of the same CA, key and distribution point the newest, newest first; warns of the others.
fn newest<'d>(
    mut lists: Vec<List<'d>>,
    file: &PemFile,
    warnings: &mut Vec<FileProblem>,
    problems: &mut Vec<FileProblem>,
) -> Vec<List<'d>> {
    // Stable: lists of the same age stay in the order of the file.
    lists.small_sort_by(|a, b| b.age().cmp(&a.age()));
    let mut counting: Vec<List<'d>> = Vec::new();
    for list in lists {
        let Some(newer) = counting.iter().find(|newer| newer.subject() == list.subject()) else {
            counting.push(list);
            continue;
        };
        if newer.der == list.der {
            continue;
        }
        let about = format!("revocation list {} (issuer {})", list.place, list.named);
        let other = format!("list {} on line {}", newer.place, newer.line);
        if !newer.is_newer_than(&list) {
            let text = format!(
                "{about} is of the same moment ({}) as {other} and says something else, so that neither is the newer one: \
                 remove one of them",
                list.issued
            );
            problems.push(file.problem_at(list.line, text));
            continue;
        }
        let although = match (&list.number, &newer.number) {
            (Some(older), Some(newer)) if older > newer => ", although its number (cRLNumber) is higher",
            _ => "",
        };
        let text = format!(
            "{about} is not used: {other} is newer ({} after {}){although}. Remove the older one",
            newer.issued, list.issued
        );
        warnings.push(file.problem_at(list.line, text));
    }
    counting
}

/// The sets that a certificate is checked with.
fn sets(lists: &[List<'_>]) -> Result<Vec<Orders>, &'static str> {
    let mut signers: BTreeMap<&[u8], BTreeSet<&Signer<'_>>> = BTreeMap::new();
    for list in lists {
        signers.entry(list.issuer).or_default().insert(&list.signer);
    }
    let mut choices: Vec<BTreeMap<&[u8], &Signer<'_>>> = vec![BTreeMap::new()];
    for (issuer, signers) in signers {
        let mut more = Vec::new();
        for choice in &choices {
            for signer in &signers {
                let mut choice = choice.clone();
                choice.insert(issuer, signer);
                more.push(choice);
            }
        }
        choices = more;
        if choices.len() > MOST_SETS {
            return Err(
                "has lists of too many CAs that share a name and have different keys: remove those of keys that are no \
                        longer in use",
            );
        }
    }
    let orders = |choice: BTreeMap<&[u8], &Signer<'_>>| {
        let chosen: Vec<&List<'_>> =
            lists.iter().filter(|list| choice.get(list.issuer) == Some(&&list.signer)).collect();
        let owned = |lists: &[&List<'_>]| -> Vec<CertificateRevocationListDer<'static>> {
            lists.iter().map(|list| CertificateRevocationListDer::from(list.der.to_vec())).collect()
        };
        let mut general_first = chosen.clone();
        general_first.small_sort_by_key(|list| list.point.is_some());
        let both = |list: &&List<'_>| {
            chosen.iter().any(|other| other.issuer == list.issuer && other.point.is_none())
        };
        let is_mixed = chosen.iter().any(|list| list.point.is_some() && both(list));
        let mut orders = vec![owned(&chosen)];
        orders.extend(is_mixed.then(|| owned(&general_first)));
        orders
    };
    Ok(choices.into_iter().map(orders).collect())
}
