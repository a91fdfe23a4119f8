//! What a verified client certificate proves: `spiffe://…`, `dns:NAME`, `cn:NAME`.
//!
//! A name counts only if it can be read in one way: two SPIFFE ids, two common names, wildcards and control characters give
//! no identity; the certificate's other names still do. Whether the certificate is valid was decided before.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::words::target::Name;

/// SPIFFE-ID, section 2.3.
const MAX_SPIFFE: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;
/// RFC 5280 says 64 (ub-common-name); some CAs ignore that.
const MAX_COMMON_NAME: usize = 256;

/// The identities of a certificate, the most specific first: SPIFFE id, DNS names, common name.
///
/// # Errors
/// The certificate cannot be read.
pub(super) fn identities(der: &CertificateDer<'_>) -> Result<Vec<Box<str>>, &'static str> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| "the client's certificate cannot be read")?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| "the client's certificate has two fields of alternative names, or a malformed one")?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let mut identities = Vec::new();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    // "An X.509 SVID MUST contain exactly one URI SAN" (X509-SVID, section 2).
    if let (Some(uri), None) = (uris.next(), uris.next())
        && is_spiffe(uri)
    {
        identities.push(Box::from(uri));
    }
    for name in names {
        if let GeneralName::DNSName(name) = name
            // In lower case. A wildcard does not name one client, and is not a `Name`.
            && let Ok(name) = Name::parse(name)
        {
            identities.push(format!("dns:{name}").into_boxed_str());
        }
    }
    let mut common_names = certificate.subject().iter_common_name();
    if let (Some(name), None) = (common_names.next(), common_names.next())
        && let Ok(name) = name.as_str()
        && is_common_name(name)
    {
        identities.push(format!("cn:{name}").into_boxed_str());
    }
    Ok(identities)
}

/// Whether this is `spiffe://TRUST-DOMAIN/PATH` in its one spelling (SPIFFE-ID, section 2). Any other never becomes an
/// identity.
pub fn is_spiffe(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else {
        return false;
    };
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    let is_domain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let is_path = |byte: u8| is_domain(byte) || byte.is_ascii_uppercase();
    uri.len() <= MAX_SPIFFE
        && (1..=MAX_TRUST_DOMAIN).contains(&domain.len())
        && domain.bytes().all(is_domain)
        && path.is_none_or(|path| {
            path.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_path))
        })
}

/// Whether this common name becomes an identity.
pub fn is_common_name(name: &str) -> bool {
    (1..=MAX_COMMON_NAME).contains(&name.len()) && name.trim() == name && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn of(common_name: Option<&str>, names: &[SanType]) -> Vec<Box<str>> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = names.to_vec();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        identities(certificate.der()).unwrap()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn every_identity_begins_with_its_kind() {
        type Case<'a> = (Option<&'a str>, Vec<SanType>, &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (None, vec![], &[]),
            (Some("gitaly"), vec![], &["cn:gitaly"]),
            (Some("Git Mirror 7"), vec![], &["cn:Git Mirror 7"]),
            (None, vec![dns("gitaly.corp")], &["dns:gitaly.corp"]),
            (None, vec![dns("GITALY.corp")], &["dns:gitaly.corp"]),
            (None, vec![uri("spiffe://corp/gitaly")], &["spiffe://corp/gitaly"]),
            (
                Some("gitaly"),
                vec![dns("a.corp"), uri("spiffe://corp/ns/Git/sa/x"), dns("b.corp")],
                &["spiffe://corp/ns/Git/sa/x", "dns:a.corp", "dns:b.corp", "cn:gitaly"],
            ),
            // A common name cannot look like another kind: its own kind comes first.
            (Some("dns:gitaly.corp"), vec![], &["cn:dns:gitaly.corp"]),
            // No name, or more than one.
            (None, vec![uri("spiffe://corp/a"), uri("spiffe://corp/b")], &[]),
            (None, vec![uri("spiffe://corp/a"), uri("https://corp/b")], &[]),
            (None, vec![uri("https://corp/a")], &[]),
            (None, vec![dns("*.corp")], &[]),
            (None, vec![dns("a b.corp")], &[]),
            (Some("two\nlines"), vec![], &[]),
            (Some(" padded "), vec![], &[]),
            (Some(""), vec![], &[]),
        ];
        for (common_name, names, expected) in cases {
            let actual = of(*common_name, names);
            assert_eq!(actual.iter().map(AsRef::as_ref).collect::<Vec<_>>(), *expected, "{names:?}");
        }
    }

    #[test]
    fn a_spiffe_id_has_one_spelling() {
        for good in ["spiffe://corp", "spiffe://corp/a", "spiffe://a.b-c_d/1/B/.x"] {
            assert!(is_spiffe(good), "{good}");
        }
        for bad in [
            "spiffe://",
            "spiffe:///a",
            "SPIFFE://corp/a",
            "spiffe://Corp/a",
            "spiffe://corp/",
            "spiffe://corp//a",
            "spiffe://corp/a/",
            "spiffe://corp/./a",
            "spiffe://corp/../a",
            "spiffe://corp:443/a",
            "spiffe://user@corp/a",
            "spiffe://corp/a?b",
            "spiffe://corp/a#b",
            "spiffe://corp/%61",
            "spiffe://corp/a b",
            "spiffe://corp/ä",
        ] {
            assert!(!is_spiffe(bad), "{bad}");
        }
        assert!(!is_spiffe(&format!("spiffe://{}", "a".repeat(256))));
        assert!(!is_spiffe(&format!("spiffe://corp/{}", "a".repeat(2048))));
    }

    #[test]
    fn bytes_that_are_not_a_certificate_have_no_identity() {
        assert!(identities(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])).is_err());
    }
}
