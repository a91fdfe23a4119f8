//! What stands in a leaf, and how long it is kept.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::der::SEQUENCE;
use super::*;
use crate::transport::tls::certificates::timestamp;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The leaf of `host` as it is at `now`, in DER.
fn leaf_of(minter: &Minter, host: &Name, now: Timestamp) -> CertificateDer<'static> {
    let lifetime = SignedDuration::try_from(minter.lifetime).unwrap();
    leaf::mint(&minter.authority, &minter.public_key, host, lifetime, now).unwrap().certificate
}

/// Whether webpki accepts the leaf for `host` at `now`, with the root alone trusted.
fn accepted(
    made: &Made,
    minter: &Minter,
    leaf: &CertificateDer<'_>,
    host: &str,
    now: Timestamp,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.root.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap()));
    verifier
        .verify_server_cert(leaf, &minter.authority.chain, &host, &[], now)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Names as targets have them: labels of letters, digits, `-` and `_`, up to the longest.
fn names() -> impl Strategy<Value = Name> {
    let label = prop_oneof![4 => "[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", 1 => "[a-z0-9]{63}", 1 => "xn--[a-z0-9]{1,20}"];
    (proptest::collection::vec(label, 0..4), "[a-z]{2,10}").prop_filter_map(
        "longer than a name",
        |(labels, last)| {
            let labels: Vec<String> = labels.into_iter().chain([last]).collect();
            Name::parse(&labels.join(".")).ok()
        },
    )
}

fn check(made: &Made, minter: &Minter, host: &Name, now: Timestamp) {
    let der = leaf_of(minter, host, now);
    let ([], leaf) = X509Certificate::from_der(&der).unwrap() else { panic!("bytes behind the certificate") };
    let authority = X509Certificate::from_der(&minter.authority.chain[0]).unwrap().1;
    assert_eq!(leaf.version().0, 2);
    assert_eq!(leaf.issuer().as_raw(), authority.subject().as_raw());
    assert_eq!(leaf.subject().iter().count(), 0);
    assert_eq!(leaf.signature_algorithm, leaf.tbs_certificate.signature);
    // Positive, with 128 random bits, and at most 20 octets.
    let serial = leaf.raw_serial();
    assert!(serial.len() == 17 && serial[0] == 1, "{serial:?}");

    let (from, until) = (timestamp(leaf.validity().not_before), timestamp(leaf.validity().not_after));
    assert!(from <= now && now < until, "{from} {now} {until}");
    assert!(from >= minter.authority.not_before() && until <= minter.authority.expires());
    assert!(now.duration_since(from) <= HOUR + SignedDuration::from_secs(1));
    assert!(until.duration_since(now) <= SignedDuration::from_hours(24));

    let mut extensions: Vec<(String, bool)> =
        leaf.extensions().iter().map(|one| (one.oid.to_id_string(), one.critical)).collect();
    extensions.sort();
    let expected = [
        ("2.5.29.14", false),
        ("2.5.29.15", true),
        ("2.5.29.17", true),
        ("2.5.29.19", true),
        ("2.5.29.35", false),
        ("2.5.29.37", false),
    ];
    assert_eq!(extensions, expected.map(|(identifier, critical)| (identifier.to_owned(), critical)));
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names, &[GeneralName::DNSName(host.as_str())]);
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert_eq!(usage.flags, 1, "digitalSignature alone");
    let purpose = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purpose.server_auth && !purpose.any && !purpose.client_auth && purpose.other.is_empty());
    let basic = leaf.basic_constraints().unwrap().unwrap().value;
    assert!(!basic.ca && basic.path_len_constraint.is_none());
    let of_issuer = leaf.iter_extensions().find_map(|one| match one.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(of) => {
            assert!(of.authority_cert_issuer.is_none() && of.authority_cert_serial.is_none());
            of.key_identifier.as_ref().map(|identifier| identifier.0)
        }
        _ => None,
    });
    let (own, above) = (checks::key_identifier(&leaf), checks::key_identifier(&authority));
    assert!(above.is_some() && of_issuer == above && own.is_some_and(|own| own.len() == 20) && own != above);

    assert_eq!(accepted(made, minter, &der, host.as_str(), now), Ok(()));
    assert!(accepted(made, minter, &der, "another.example", now).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_leaf_says_what_clients_want_to_read(host in names(), after in 0_i64..2_200_000_000) {
        // 2020 to 2089: both kinds of time.
        let now = Timestamp::from_second(moment("2020-01-01T00:00:00Z").as_second() + after).unwrap();
        let made = authority(&[]);
        check(&made, &minter(&made), &host, now);
    }
}

#[test]
fn the_kind_of_key_that_the_authority_has_does_not_matter() {
    let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    for key in [p384, rsa(RsaKeySize::_2048), rsa(RsaKeySize::_3072)] {
        let made = authority_of(&key, &["example.com"], |_| {});
        check(&made, &minter(&made), &name("git.example.com"), moment("2026-11-30T07:00:00Z"));
    }
}

#[test]
fn a_leaf_ends_with_its_authority_and_does_not_begin_before_it() {
    let made = authority(&["example.com"]);
    let minter = minter(&made);
    for (now, from, until) in [
        ("2020-01-01T00:30:00Z", "2020-01-01T00:00:00Z", "2020-01-02T00:30:00Z"),
        ("2026-11-30T07:00:00.75Z", "2026-11-30T06:00:00Z", "2026-12-01T07:00:00Z"),
        ("2049-12-31T12:00:00Z", "2049-12-31T11:00:00Z", "2050-01-01T12:00:00Z"),
        ("2089-12-31T23:00:00Z", "2089-12-31T22:00:00Z", "2090-01-01T00:00:00Z"),
    ] {
        let der = leaf_of(&minter, &name("git.example.com"), moment(now));
        let leaf = X509Certificate::from_der(&der).unwrap().1;
        assert_eq!(timestamp(leaf.validity().not_before), moment(from), "{now}");
        assert_eq!(timestamp(leaf.validity().not_after), moment(until), "{now}");
    }
}

#[tokio::test]
async fn there_is_no_leaf_outside_the_constraints_or_the_time_of_the_authority() {
    let minter = minter(&authority(&["example.com"]));
    let at = async |host: &str, now: &str| {
        minter.leaf_at(&name(host), CLIENT, moment(now)).await.map(|leaf| leaf.origin)
    };
    assert_eq!(at("example.com", "2026-11-30T07:00:00Z").await, Ok(Origin::Minted));
    for other in ["evilexample.com", "example.com.evil.test", "com", "xample.com"] {
        assert_eq!(at(other, "2026-11-30T07:00:00Z").await, Err(MintError::NotPermitted), "{other}");
    }
    let (begin, end) = (moment("2020-01-01T00:00:00Z"), moment("2090-01-01T00:00:00Z"));
    assert_eq!(at("example.com", "2019-12-31T23:59:59Z").await, Err(MintError::NotYetValid(begin)));
    assert_eq!(at("example.com", "2090-01-01T00:00:00Z").await, Err(MintError::Expired(end)));
    // What is refused takes no place.
    assert_eq!(minter.kept.len(), 1);
}

#[tokio::test]
async fn a_leaf_is_renewed_in_the_last_third_of_its_life() {
    let minter = minter(&authority(&["example.com"]));
    let host = name("git.example.com");
    let begin = moment("2026-11-30T07:00:00Z");
    let mut seen = Vec::new();
    // The last: a clock that was set back by more than leaves are backdated.
    for (hours, origin) in [
        (0, Origin::Minted),
        (0, Origin::Cached),
        (15, Origin::Cached),
        (16, Origin::Minted),
        (31, Origin::Cached),
        (100, Origin::Minted),
        (98, Origin::Minted),
        (98, Origin::Cached),
    ] {
        let leaf = minter.leaf_at(&host, CLIENT, begin + HOUR * hours).await.unwrap();
        assert_eq!(leaf.origin, origin, "{hours}");
        seen.push(leaf);
    }
    assert!(Arc::ptr_eq(&seen[0].config, &seen[2].config) && !Arc::ptr_eq(&seen[2].config, &seen[3].config));
    assert_eq!(minter.kept.len(), 1);
    // At the end of the authority a new leaf would end at the same time: the old one stays.
    let last = moment("2089-12-31T20:00:00Z");
    assert_eq!(minter.leaf_at(&host, CLIENT, last).await.unwrap().origin, Origin::Minted);
    for minutes in [10, 200, 239] {
        let later = last + SignedDuration::from_mins(minutes);
        assert_eq!(minter.leaf_at(&host, CLIENT, later).await.unwrap().origin, Origin::Cached, "{minutes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_for_one_name_make_one_leaf() {
    let minter = Arc::new(minter(&authority(&["example.com"])));
    let minted = Arc::new(AtomicUsize::new(0));
    for round in 0..20 {
        let host = name(&format!("n{round}.example.com"));
        let callers: Vec<_> = (0..1_000)
            .map(|_| {
                let (minter, minted, host) = (Arc::clone(&minter), Arc::clone(&minted), host.clone());
                tokio::spawn(async move {
                    let leaf = minter.leaf(&host, CLIENT).await.unwrap();
                    if leaf.origin == Origin::Minted {
                        minted.fetch_add(1, Ordering::Relaxed);
                    }
                    leaf.config
                })
            })
            .collect();
        let mut configs = Vec::new();
        for caller in callers {
            configs.push(caller.await.unwrap());
        }
        assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
        assert_eq!(minted.load(Ordering::Relaxed), round + 1);
    }
}

#[test]
fn no_serial_is_given_twice() {
    let serials: HashSet<_> = (0..100_000).map(|_| random_serial().unwrap()).collect();
    assert_eq!(serials.len(), 100_000);
    // Each of the 128 bits varies.
    for bit in 8..17 * 8 {
        let set = serials.iter().filter(|serial| serial[bit / 8] >> (7 - bit % 8) & 1 == 1).count();
        assert!((45_000..55_000).contains(&set), "bit {bit}: {set}");
    }
}

#[test]
fn the_issuer_is_the_subject_of_the_authority_byte_for_byte() {
    // As a directory service names its authorities: two DC, two OU, an RDN of two attributes, three kinds of string.
    let attribute = |last: &[u8], tag: u8, text: &[u8]| {
        der::value(SEQUENCE, &[&der::value(der::OBJECT_IDENTIFIER, &[last]), &der::value(tag, &[text])])
    };
    const DC: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
    let set = |parts: &[&[u8]]| der::value(0x31, parts);
    let subject = der::value(
        SEQUENCE,
        &[
            &set(&[&attribute(DC, 0x16, b"com")]),
            &set(&[&attribute(DC, 0x16, b"corp")]),
            &set(&[&attribute(&[0x55, 4, 11], 0x13, b"PKI")]),
            &set(&[&attribute(&[0x55, 4, 11], 0x1e, b"\0P\0K")]),
            &set(&[
                &attribute(&[0x55, 4, 3], 0x0c, "Prüfstelle".as_bytes()),
                &attribute(&[0x55, 4, 5], 0x13, b"7"),
            ]),
        ],
    );
    let made = with_subject(&subject);
    let minter = minter(&made);
    assert_eq!(*minter.authority.subject, *subject);
    check(&made, &minter, &name("git.example.com"), moment("2026-11-30T07:00:00Z"));
}

/// A root with this subject, which signs leaves itself.
fn with_subject(subject: &[u8]) -> Made {
    let key = KeyPair::generate().unwrap();
    let info = rcgen::PublicKeyData::subject_public_key_info(&key);
    let algorithm = leaf::algorithm(SignatureScheme::ECDSA_NISTP256_SHA256);
    let dates = [moment("2020-01-01T00:00:00Z"), moment("2090-01-01T00:00:00Z")].map(der::time);
    let body = der::value(
        SEQUENCE,
        &[
            &der::value(der::explicit(0), &[&der::value(der::INTEGER, &[&[2]])]),
            &der::value(der::INTEGER, &[&[1]]),
            &algorithm,
            subject,
            &der::value(SEQUENCE, &[&dates[0], &dates[1]]),
            subject,
            &info,
            &der::value(
                der::explicit(3),
                &[&der::value(
                    SEQUENCE,
                    &[
                        &der::extension(&[0x55, 0x1d, 19], true, &der::value(SEQUENCE, &[&[1, 1, 0xff]])),
                        &der::extension(&[0x55, 0x1d, 15], true, &der::value(der::BIT_STRING, &[&[2, 4]])),
                        &der::extension(
                            &[0x55, 0x1d, 14],
                            false,
                            &der::value(der::OCTET_STRING, &[&[7; 20]]),
                        ),
                    ],
                )],
            ),
        ],
    );
    let signature = der::value(der::BIT_STRING, &[&[0], &key.sign(&body).unwrap()]);
    let whole = der::value(SEQUENCE, &[&body, &algorithm, &signature]);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &whole);
    let certificate = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    Made { root: certificate.clone(), certificate, key: key.serialize_pem() }
}
