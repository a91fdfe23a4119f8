//! Makes the keys and the certificates: a root, and the authority under it. No certificate is made without name constraints,
//! unless it is the root and that was asked for.

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use crate::transport::tls::mint::{NAME_CONSTRAINTS, constraints_of, random_serial};
use crate::words::target::Name;

/// What is to be made.
pub(super) struct Terms<'t> {
    /// At least one.
    pub(super) hosts: &'t [Name],
    pub(super) open_root: bool,
    pub(super) days: u16,
    pub(super) root_days: u16,
    /// The root that is to sign; None: a new one.
    pub(super) root: Option<&'t Pair>,
    pub(super) now: Timestamp,
}

/// The contents of the files, in PEM.
pub(super) struct Made {
    /// A new root, and its last day.
    pub(super) root: Option<(Pair, Date)>,
    pub(super) authority: Pair,
    pub(super) authority_until: Date,
}

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Makes them.
///
/// # Errors
/// No random numbers, or a certificate that cannot be written: a sentence.
pub(super) fn make(terms: &Terms<'_>) -> Result<Made, String> {
    let failed = |error: rcgen::Error| format!("cannot make a certificate: {error}");
    // Clients and rotation have several of them: each needs a name of its own.
    let serial = random_serial().map_err(|error| error.to_string())?;
    let mark: String = serial.iter().skip(1).take(4).map(|byte| format!("{byte:02x}")).collect();

    let key = KeyPair::generate().map_err(failed)?;
    let mut authority = params(&format!("egressd inspection {mark}"), terms, terms.days)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.custom_extensions.push(constraints(terms.hosts));
    let (certificate, root) = match terms.root {
        Some(root) => {
            let root_key = KeyPair::from_pem(&root.key).map_err(failed)?;
            let issuer = Issuer::from_ca_cert_pem(&root.certificate, root_key).map_err(failed)?;
            (authority.signed_by(&key, &issuer).map_err(failed)?, None)
        }
        None => {
            let root_key = KeyPair::generate().map_err(failed)?;
            let mut root = params(&format!("egressd inspection root {mark}"), terms, terms.root_days)?;
            root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
            if !terms.open_root {
                root.custom_extensions.push(constraints(terms.hosts));
            }
            let certificate = root.self_signed(&root_key).map_err(failed)?.pem();
            let signed = authority.signed_by(&key, &Issuer::from_params(&root, &root_key)).map_err(failed)?;
            let pair = Pair { certificate, key: root_key.serialize_pem() };
            (signed, Some((pair, day(terms.now, terms.root_days.into()))))
        }
    };
    Ok(Made {
        root,
        authority: Pair { certificate: certificate.pem(), key: key.serialize_pem() },
        authority_until: day(terms.now, terms.days.into()),
    })
}

fn params(name: &str, terms: &Terms<'_>, days: u16) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number =
        Some(SerialNumber::from_slice(&random_serial().map_err(|error| error.to_string())?));
    let date = |date: Date| {
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    // From yesterday on: clients' clocks are not exact.
    params.not_before = date(day(terms.now, -1));
    params.not_after = date(day(terms.now, days.into()));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Name constraints say nothing of common names, and those of an open root are none: with neither key can anyone sign what
    // authenticates a client, mail or code.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The day so many days later.
fn day(now: Timestamp, days: i64) -> Date {
    let then = now.saturating_add(SignedDuration::from_hours(24 * days)).unwrap_or(now);
    Offset::UTC.to_datetime(then).date()
}

/// The name constraints for these hosts.
fn constraints(hosts: &[Name]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(NAME_CONSTRAINTS, constraints_of(hosts));
    extension.set_criticality(true);
    extension
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use x509_parser::pem::Pem;

    use super::*;
    use crate::transport::tls::PemFile;
    use crate::transport::tls::mint::Authority;

    fn made(open_root: bool) -> Made {
        let hosts = ["git.example.com", "api.example.org"].map(|host| Name::parse(host).unwrap());
        let now = "2026-11-30T00:10:00Z".parse().unwrap();
        make(&Terms { hosts: &hosts, open_root, days: 730, root_days: 3650, root: None, now }).unwrap()
    }

    fn load(pair: &Pair) -> (Authority, Vec<String>) {
        let file =
            |name: &str, text: &str| PemFile { path: PathBuf::from(name), bytes: text.as_bytes().to_vec() };
        let now = "2026-11-30T00:10:00Z".parse().unwrap();
        let loaded =
            Authority::from_pem(&file("ca.crt", &pair.certificate), &file("ca.key", &pair.key), now).unwrap();
        (loaded.authority, loaded.warnings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_authority_is_taken_without_a_comment_and_signs_for_the_hosts_alone() {
        let made = made(false);
        let (authority, warnings) = load(&made.authority);
        assert!(warnings.is_empty(), "{warnings:?}");
        for (host, may) in [
            ("git.example.com", true),
            ("below.git.example.com", true),
            ("api.example.org", true),
            ("example.com", false),
            ("evilgit.example.com", false),
        ] {
            assert_eq!(authority.may_sign_name(&Name::parse(host).unwrap()), may, "{host}");
        }
        assert!(authority.constraints().exclude_addresses());
        assert_eq!(authority.not_before().to_string(), "2026-11-29T00:00:00Z");
        assert_eq!(authority.expires().to_string(), "2028-11-29T00:00:00Z");
        assert_eq!(made.authority_until.to_string(), "2028-11-29");
    }

    #[test]
    fn the_root_has_the_same_constraints_unless_it_is_to_be_open() {
        for open in [false, true] {
            let (root, _) = load(&made(open).root.unwrap().0);
            assert_eq!(root.constraints().limit_names(), !open);
            assert_eq!(root.constraints().exclude_addresses(), !open);
            assert_eq!(root.expires().to_string(), "2036-11-27T00:00:00Z");
        }
    }

    /// As another program reads them: names of every form have a subtree.
    #[test]
    fn constraints_are_critical_and_say_something_of_every_form_of_name() {
        let made = made(false);
        for pair in [made.root.unwrap().0, made.authority] {
            let (_, pem) = x509_parser::pem::parse_x509_pem(pair.certificate.as_bytes()).unwrap();
            let (_, certificate) = x509_parser::parse_x509_certificate(&pem.contents).unwrap();
            let found = certificate.name_constraints().unwrap().expect("constraints");
            assert!(found.critical);
            let shown = |trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| -> Vec<String> {
                trees.iter().flatten().map(|tree| tree.base.to_string()).collect()
            };
            let permitted = shown(&found.value.permitted_subtrees);
            assert_eq!(permitted.len(), 4, "{permitted:?}");
            for name in ["git.example.com", "api.example.org", "RFC822Name(invalid)", "URI(invalid)"] {
                assert!(permitted.iter().any(|tree| tree.contains(name)), "{name}: {permitted:?}");
            }
            assert_eq!(shown(&found.value.excluded_subtrees).len(), 2);
        }
    }

    #[test]
    fn root_and_authority_are_for_servers_alone() {
        for open in [false, true] {
            let made = made(open);
            for pair in [made.root.unwrap().0, made.authority] {
                let (_, pem) = x509_parser::pem::parse_x509_pem(pair.certificate.as_bytes()).unwrap();
                let (_, certificate) = x509_parser::parse_x509_certificate(&pem.contents).unwrap();
                let usage = certificate.extended_key_usage().unwrap().expect("a usage").value.clone();
                assert!(usage.server_auth);
                assert!(!(usage.any || usage.client_auth || usage.email_protection || usage.code_signing));
            }
        }
    }

    #[test]
    fn names_keys_and_serials_are_new_each_time() {
        let mut seen = std::collections::HashSet::new();
        for made in [made(false), made(false)] {
            for pair in [made.root.unwrap().0, made.authority] {
                let (_, pem) = x509_parser::pem::parse_x509_pem(pair.certificate.as_bytes()).unwrap();
                let Pem { contents, .. } = &pem;
                let (_, certificate) = x509_parser::parse_x509_certificate(contents).unwrap();
                assert!(seen.insert(certificate.subject().to_string()));
                assert!(seen.insert(certificate.raw_serial_as_string()));
                assert!(seen.insert(pair.key));
                assert_eq!(certificate.raw_serial().len(), 17);
            }
        }
    }
}
