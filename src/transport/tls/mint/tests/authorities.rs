//! What is told of an authority's files at load, and for which names it may sign.

use rcgen::{ExtendedKeyUsagePurpose, PKCS_ECDSA_P521_SHA512, PKCS_ED25519};

use super::*;
use crate::words::target::Host;

fn errors(made: &Made) -> Vec<String> {
    match load(made) {
        Ok(loaded) => panic!("usable: {:?}", loaded.warnings),
        Err(errors) => errors,
    }
}

fn warnings(made: &Made) -> Vec<String> {
    let loaded = load(made).unwrap_or_else(|errors| panic!("{errors:?}"));
    loaded.warnings.iter().map(|problem| format!("{}:{problem}", problem.line)).collect()
}

fn changed(change: impl FnOnce(&mut CertificateParams)) -> Made {
    authority_of(&KeyPair::generate().unwrap(), &["example.com"], change)
}

/// `found` is one line that begins so.
#[track_caller]
fn one(found: &[String], begin: &str) {
    assert!(found.len() == 1 && found[0].starts_with(begin), "{begin}: {found:#?}");
}

#[test]
fn an_authority_with_which_all_is_well_is_not_commented() {
    let made = authority(&["example.com"]);
    assert!(warnings(&made).is_empty(), "{:?}", warnings(&made));
}

#[test]
fn an_authority_whose_leaves_no_client_accepts_is_refused() {
    let no_ca = changed(|params| params.is_ca = IsCa::ExplicitNoCa);
    one(&errors(&no_ca), "1:ca.crt: certificate 1 is not that of an authority (CA:TRUE)");
    let usage = changed(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    one(
        &errors(&usage),
        "1:ca.crt: certificate 1 may not sign certificates (its key usage lacks keyCertSign)",
    );
    let purpose = changed(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    one(&errors(&purpose), "1:ca.crt: certificate 1 may not sign for servers");
    for also in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any] {
        let purpose = changed(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, also];
        });
        assert!(warnings(&purpose).is_empty());
    }
}

#[test]
fn what_is_sent_with_the_authority_has_to_lead_upwards() {
    let (made, other) = (authority(&["example.com"]), authority(&["example.com"]));
    let with = |more: &str| Made {
        root: made.root.clone(),
        certificate: format!("{}{more}", made.certificate),
        key: made.key.clone(),
    };
    let second = made.certificate.lines().count() + 1;
    one(&warnings(&with(&made.root)), &format!("{second}:ca.crt: certificate 2 is a root: clients have it"));
    // Its own root has the same name as the other's: names are all that is compared.
    let foreign = errors(&with(&other.certificate));
    let begin = format!("{second}:ca.crt: certificate 2 is not the issuer of certificate 1");
    assert!(foreign.iter().any(|line| line.starts_with(&begin)), "{foreign:#?}");
    let swapped = Made { certificate: format!("{}{}", made.root, made.certificate), ..with("") };
    one(
        &errors(&swapped),
        "1:ca.crt: the certificate that signs must come first; the key belongs to certificate 2",
    );

    // Three levels; the one in the middle allows none below it.
    let (top, middle, own) =
        (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for (allowed, is_good) in [(0, false), (1, true)] {
        let issuer = Issuer::new(params("top", &[], 2), &top);
        let upper = params("middle", &["example.com"], allowed);
        let upper_certificate = upper.signed_by(&middle, &issuer).unwrap().pem();
        let lower =
            params("own", &["example.com"], 0).signed_by(&own, &Issuer::new(upper, &middle)).unwrap().pem();
        let made = Made {
            root: String::new(),
            certificate: format!("{lower}{upper_certificate}"),
            key: own.serialize_pem(),
        };
        match is_good {
            true => assert!(warnings(&made).is_empty()),
            false => one(
                &errors(&made),
                &format!(
                    "{}:ca.crt: certificate 2 allows fewer authorities below it",
                    lower.lines().count() + 1
                ),
            ),
        }
    }
}

#[test]
fn the_key_has_to_be_one_that_clients_accept_and_the_certificates() {
    let made = authority(&["example.com"]);
    let with = |key: String| Made { root: String::new(), certificate: made.certificate.clone(), key };
    let other = KeyPair::generate().unwrap().serialize_pem();
    one(&errors(&with(other.clone())), "1:ca.key: does not belong to the certificate in ca.crt");
    one(&errors(&with(format!("{other}{}", made.key))), "1:ca.key: holds more than one private key");
    one(
        &errors(&with(made.certificate.clone())),
        "1:ca.key: holds no private key in PEM form but a certificate",
    );
    for kind in [&PKCS_ED25519, &PKCS_ECDSA_P521_SHA512] {
        let made = authority_of(&KeyPair::generate_for(kind).unwrap(), &["example.com"], |_| {});
        one(
            &errors(&made),
            "1:ca.key: holds a key of a kind with which many clients accept no signature (Ed25519, P-521)",
        );
    }
    // Both files are told of at once.
    let none = Made { root: String::new(), certificate: "nothing".to_owned(), key: "nothing".to_owned() };
    assert_eq!(errors(&none).len(), 2);
}

#[test]
fn what_its_operator_may_regret_is_a_warning() {
    let now = Timestamp::now();
    let date = |days: i64| {
        let then = now + SignedDuration::from_hours(24 * days);
        let date = jiff::tz::Offset::UTC.to_datetime(then).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let expired = changed(|params| params.not_after = date(-1));
    one(&warnings(&expired), "1:ca.crt: certificate 1 expired at ");
    let early = changed(|params| params.not_before = date(2));
    one(&warnings(&early), "1:ca.crt: certificate 1 is not valid before ");
    let soon = changed(|params| params.not_after = date(29));
    one(&warnings(&soon), "1:ca.crt: certificate 1 expires at ");
    assert!(warnings(&changed(|params| params.not_after = date(32))).is_empty());

    let free = changed(|params| params.name_constraints = None);
    one(&warnings(&free), "1:ca.crt: certificate 1 has no name constraints");
    let everything = changed(|params| {
        params
            .name_constraints
            .as_mut()
            .unwrap()
            .permitted_subtrees
            .push(GeneralSubtree::DnsName(String::new()));
    });
    one(&warnings(&everything), "1:ca.crt: certificate 1 has no name constraints");
    for keep in 0..2 {
        let addresses = changed(|params| {
            let excluded = &mut params.name_constraints.as_mut().unwrap().excluded_subtrees;
            *excluded = vec![excluded[keep].clone()];
        });
        one(&warnings(&addresses), "1:ca.crt: certificate 1 does not exclude addresses");
    }
    let usage = changed(|params| params.key_usages = vec![]);
    one(&warnings(&usage), "1:ca.crt: certificate 1 has no key usage");

    let key = KeyPair::generate().unwrap();
    let root = params("a root", &["example.com"], 0).self_signed(&key).unwrap().pem();
    let made = Made { root: root.clone(), certificate: root, key: key.serialize_pem() };
    one(&warnings(&made), "1:ca.crt: certificate 1 is a root, so the root's key is here");
}

#[test]
fn name_constraints_count_by_labels() {
    let excluding = |permitted: &[&str], excluded: &[&str]| {
        let made = authority_of(&KeyPair::generate().unwrap(), permitted, |params| {
            let constraints = params
                .name_constraints
                .get_or_insert(NameConstraints { permitted_subtrees: vec![], excluded_subtrees: vec![] });
            let excluded = excluded.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned()));
            constraints.excluded_subtrees.extend(excluded);
        });
        load(&made).unwrap().authority
    };
    type Hosts = &'static [&'static str];
    let cases: [(Hosts, Hosts, Hosts, Hosts); 6] = [
        (
            &["example.com"],
            &[],
            &["example.com", "a.example.com", "a.b.example.com"],
            &["evilexample.com", "com"],
        ),
        (&["Example.COM"], &[], &["a.example.com"], &["example.org"]),
        (&[".example.com"], &[], &["a.example.com"], &["example.com"]),
        (&["a.example", "b.example"], &[], &["a.example", "x.b.example"], &["c.example"]),
        (
            &["example.com"],
            &["secret.example.com"],
            &["a.example.com"],
            &["secret.example.com", "x.secret.example.com"],
        ),
        (&[], &["example.com"], &["example.org"], &["example.com", "a.example.com"]),
    ];
    for (permitted, excluded, yes, no) in cases {
        let authority = excluding(permitted, excluded);
        for host in yes {
            assert!(authority.may_sign(&Host::parse(host).unwrap()), "{permitted:?} {excluded:?} {host}");
        }
        for host in no {
            assert!(!authority.may_sign(&Host::parse(host).unwrap()), "{permitted:?} {excluded:?} {host}");
        }
        for address in ["203.0.113.9", "[2001:db8::1]"] {
            assert!(!authority.may_sign(&Host::parse(address).unwrap()));
        }
    }
}

#[test]
fn all_names_below_one_are_permitted_only_if_none_is_kept_out() {
    let of = |permitted: &[&str], excluded: &[&str]| {
        let made = authority_of(&KeyPair::generate().unwrap(), permitted, |params| {
            if let Some(constraints) = &mut params.name_constraints {
                let excluded = excluded.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned()));
                constraints.excluded_subtrees.extend(excluded);
            }
        });
        load(&made).unwrap().authority
    };
    type Hosts = &'static [&'static str];
    let cases: [(Hosts, Hosts, &str, [bool; 2]); 8] = [
        (&["example.com"], &[], "example.com", [true, true]),
        (&["example.com"], &[], "a.example.com", [true, true]),
        (&["a.example.com"], &[], "example.com", [false, false]),
        (&[".example.com"], &[], "example.com", [true, false]),
        (&["example.com"], &["secret.a.example.com"], "a.example.com", [false, false]),
        (&["example.com"], &["secret.a.example.com"], "b.example.com", [true, true]),
        (&["example.com"], &["example.com"], "a.example.com", [false, false]),
        (&["xample.com"], &[], "example.com", [false, false]),
    ];
    for (permitted, excluded, base, want) in cases {
        let authority = of(permitted, excluded);
        let constraints = authority.constraints();
        let got = [false, true].map(|itself| constraints.permit_all_below(base, itself));
        assert_eq!(got, want, "{permitted:?} {excluded:?} {base}");
    }
}
