//! Which certificates of `client_ca` end a path, where revocation lists are checked.

use super::revocation::{assert_refused, chain, of_year, orders, sub_authority, verdict, year};
use super::*;

/// As with OpenSSL, which builds paths up to the root.
#[test]
fn a_sub_authority_that_stands_in_client_ca_beside_its_root_is_judged_by_the_lists_of_the_root() {
    let root = authority("root");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "middle");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&[100]));
    let key = KeyPair::generate().unwrap();
    let middle = Authority {
        pem: params.signed_by(&key, &root.issuer).unwrap().pem(),
        issuer: Issuer::new(params, key),
    };
    let sub = sub_authority(&middle, "sub");
    let own = root.server();
    let shown = |authority: &Authority| Pair { certificate: authority.pem.clone(), key: String::new() };
    let (of_middle, of_sub) = (of_year(&middle, 2024, 1, &[]), of_year(&sub, 2024, 1, &[]));
    let files = orders(&[&root.pem, &middle.pem, &sub.pem]).into_iter().map(|order| order.concat());
    for ca in files {
        for revoked in [&[][..], &[100]] {
            let of_root = of_year(&root, 2024, 1, revoked);
            let lists = [of_root.as_str(), &of_middle, &of_sub];
            let (middles, subs) = (middle.client(7), sub.client(7));
            let chains: [&[&Pair]; 5] = [
                &[&middles],
                &[&middles, &shown(&middle)],
                &[&subs],
                &[&subs, &shown(&sub)],
                &[&subs, &shown(&sub), &shown(&middle)],
            ];
            for chain in chains {
                match revoked {
                    [] => assert_eq!(verdict(&own, &ca, &lists, chain), Ok(())),
                    _ => assert_refused(verdict(&own, &ca, &lists, chain), "revoked by client_crl"),
                }
            }
            assert_eq!(verdict(&own, &ca, &lists, &[&root.client(7)]), Ok(()));
        }
    }
    // Without its root it is an anchor.
    assert_eq!(verdict(&own, &middle.pem, &[&of_middle], &[&middle.client(7)]), Ok(()));
    // A CA that has the root's name did not certify it.
    let stranger = authority("root");
    let pem = format!("{}{}", stranger.pem, middle.pem);
    let lists = [&of_year(&stranger, 2024, 1, &[100]), &of_middle];
    assert_eq!(verdict(&own, &pem, &lists.map(String::as_str), &[&middle.client(7)]), Ok(()));
}

#[test]
fn a_verdict_ends_with_a_certificate_between_too() {
    let root = authority("root");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "sub");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2027, 1, 1));
    let key = KeyPair::generate().unwrap();
    let sub = Authority {
        pem: params.signed_by(&key, &root.issuer).unwrap().pem(),
        issuer: Issuer::new(params, key),
    };
    let lists = [of_year(&root, 2024, 1, &[]), of_year(&sub, 2024, 1, &[])].concat();
    let own = root.server();
    let both = format!("{}{}", root.pem, sub.pem);
    let tls = ServerTls::from_pem(&mutual(&own, &both, Some(lists)), year(2026)).unwrap().tls;
    let trust = tls.clients().unwrap();
    let chain = chain(&[&sub.client(7)]);
    assert_eq!(trust.judge(&chain, year(2026)), Ok(()));
    let end = year(2027) + jiff::SignedDuration::from_secs(1);
    assert_eq!(chain.changes_at(), Some(end));
    assert!(trust.judge(&chain, end).unwrap_err().contains("expired on 2027"));
}

/// Neither is above the other: both stay anchors, as if each stood alone.
#[test]
fn two_cas_that_certified_each_other_stay_anchors() {
    let (a, b) = (authority("a"), authority("b"));
    let crossed = |of: &Authority, by: &Authority, name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.signed_by(of.issuer.key(), &by.issuer).unwrap().pem()
    };
    let pem = [crossed(&a, &b, "a"), crossed(&b, &a, "b")].concat();
    let own = a.server();
    let lists = [of_year(&a, 2024, 1, &[9]), of_year(&b, 2024, 1, &[9])];
    let lists = [lists[0].as_str(), &lists[1]];
    for ca in [&a, &b] {
        assert_eq!(verdict(&own, &pem, &lists, &[&ca.client(7)]), Ok(()));
        assert_refused(verdict(&own, &pem, &lists, &[&ca.client(9)]), "revoked by client_crl");
    }
}

/// The root revoked one of two sub-authorities that have one name.
#[test]
fn a_revoked_sub_authority_takes_no_client_of_its_namesake_with_it() {
    let root = authority("root");
    let sub = |serial: u8| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "sub");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &root.issuer).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    };
    let (good, bad) = (sub(100), sub(101));
    let own = root.server();
    let shown = |authority: &Authority| Pair { certificate: authority.pem.clone(), key: String::new() };
    let lists = [of_year(&root, 2024, 1, &[101]), of_year(&good, 2024, 1, &[]), of_year(&bad, 2024, 1, &[])];
    let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
    for ca in orders(&[&root.pem, &good.pem, &bad.pem]).into_iter().map(|order| order.concat()) {
        for with_shown in [false, true] {
            let judged = |by: &Authority| {
                let (client, shown) = (by.client(7), shown(by));
                let chain: &[&Pair] = if with_shown { &[&client, &shown] } else { &[&client] };
                verdict(&own, &ca, &lists, chain)
            };
            assert_eq!(judged(&good), Ok(()));
            assert_refused(judged(&bad), "revoked by client_crl");
        }
    }
}
