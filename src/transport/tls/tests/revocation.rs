//! Which revocation lists count, and for how long a verdict on a client's certificates holds.

use rcgen::{CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope};

use super::*;
use crate::transport::held::{HeldBytes, Kind};

/// Midnight of the first day of this year.
pub(super) fn year(year: i32) -> Timestamp {
    format!("{year}-01-01T00:00:00Z").parse().unwrap()
}

/// Of 2024, 2025, …
pub(super) fn of_year(ca: &Authority, year: i32, number: u8, revoked: &[u8]) -> String {
    ca.list(revoked, |params| {
        params.this_update = date_time_ymd(year, 1, 1);
        params.crl_number = SerialNumber::from_slice(&[number]);
    })
}

/// What `check` says: errors, or else warnings.
fn told(own: &Pair, ca: &str, lists: &[&str]) -> (bool, Vec<String>) {
    let place = |problem: FileProblem| format!("{}:{problem}", problem.line);
    match ServerTls::from_pem(&mutual(own, ca, Some(lists.concat())), year(2026)) {
        Ok(loaded) => (true, loaded.warnings.into_iter().map(place).collect()),
        Err(problems) => (false, problems.into_iter().map(place).collect()),
    }
}

pub(super) fn chain(certificates: &[&Pair]) -> ClientChain {
    let ders: Vec<CertificateDer<'_>> = certificates
        .iter()
        .map(|pair| CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap())
        .collect();
    ClientChain::new(&ders)
}

/// The verdict of a listener with these files on a client with this certificate, in 2026.
pub(super) fn verdict(own: &Pair, ca: &str, lists: &[&str], client: &[&Pair]) -> Result<(), String> {
    let tls = ServerTls::from_pem(&mutual(own, ca, Some(lists.concat())), year(2026)).unwrap().tls;
    tls.clients().unwrap().judge(&chain(client), year(2026)).map_err(|why| why.to_string())
}

pub(super) fn assert_refused(verdict: Result<(), String>, why: &str) {
    let text = verdict.unwrap_err();
    assert!(text.contains(why), "{why}: {text}");
}

/// Every order of these.
pub(super) fn orders<'a>(lists: &[&'a str]) -> Vec<Vec<&'a str>> {
    let Some((first, rest)) = lists.split_first() else { return vec![vec![]] };
    orders(rest)
        .into_iter()
        .flat_map(|order| {
            (0..=order.len()).map(move |place| {
                let mut order = order.clone();
                order.insert(place, *first);
                order
            })
        })
        .collect()
}

#[test]
fn of_the_lists_of_a_ca_the_newest_counts_in_any_order() {
    let (ca, other) = (authority("ca"), authority("other"));
    let own = ca.server();
    let both = format!("{}{}", ca.pem, other.pem);
    let (old, middle) = (of_year(&ca, 2023, 1, &[1, 3]), of_year(&ca, 2024, 2, &[2, 3]));
    let (new, others) = (of_year(&ca, 2025, 3, &[3]), of_year(&other, 2022, 1, &[7]));
    for order in orders(&[&old, &middle, &new, &others]) {
        assert_eq!(verdict(&own, &both, &order, &[&ca.client(1)]), Ok(()), "taken off the list");
        assert_eq!(verdict(&own, &both, &order, &[&ca.client(2)]), Ok(()), "taken off the list");
        assert_refused(verdict(&own, &both, &order, &[&ca.client(3)]), "revoked by client_crl");
        assert_refused(verdict(&own, &both, &order, &[&other.client(7)]), "revoked by client_crl");
        assert_eq!(verdict(&own, &both, &order, &[&other.client(3)]), Ok(()));
    }
    // Of one second, the number decides.
    let (first, second) = (of_year(&ca, 2024, 1, &[]), of_year(&ca, 2024, 2, &[1]));
    for order in orders(&[&first, &second]) {
        assert_refused(verdict(&own, &ca.pem, &order, &[&ca.client(1)]), "revoked by client_crl");
    }
}

#[test]
fn an_older_list_is_warned_of_and_two_that_contradict_each_other_are_an_error() {
    let ca = authority("ca");
    let own = ca.server();
    let lines = |list: &str| u32::try_from(list.lines().count()).unwrap();
    let (old, new) = (of_year(&ca, 2023, 4, &[]), of_year(&ca, 2025, 3, &[1]));
    let text = |list: u32, line: u32, newer: u32, on: u32| {
        format!(
            "{line}:clients.crl: revocation list {list} (issuer `CN=ca`) is not used: list {newer} on line {on} is newer \
             (2025-01-01T00:00:00Z after 2023-01-01T00:00:00Z), although its number (cRLNumber) is higher. Remove the \
             older one"
        )
    };
    let second = 1 + lines(&old);
    assert_eq!(told(&own, &ca.pem, &[&old, &new]), (true, vec![text(1, 1, 2, second)]));
    assert_eq!(told(&own, &ca.pem, &[&new, &old]), (true, vec![text(2, 1 + lines(&new), 1, 1)]));
    assert_eq!(told(&own, &ca.pem, &[&new, &new]), (true, vec![]), "twice the same");
    let (one, two) = (of_year(&ca, 2025, 3, &[1]), of_year(&ca, 2025, 3, &[2]));
    for order in [[&one, &two], [&two, &one]] {
        let (loads, told) = told(&own, &ca.pem, &[order[0], order[1]]);
        assert!(!loads && told.len() == 1 && told[0].contains("neither is the newer one"), "{told:?}");
    }
}

#[test]
fn a_list_that_cannot_be_relied_on_is_an_error_with_its_line() {
    let (ca, other) = (authority("ca"), authority("other"));
    // The same name, another key.
    let forger = authority("ca");
    let no_signer = {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "no signer");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        // rcgen does not sign with a key that may not.
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Authority { pem, issuer: Issuer::new(params, key) }
    };
    let own = ca.server();
    let trusted = format!("{}{}", ca.pem, other.pem);
    let good = of_year(&other, 2024, 1, &[]);
    let line = 1 + good.lines().count();
    let future = of_year(&ca, 2027, 1, &[]);
    let tampered = {
        // One bit of the signature, which ends the list.
        let list = of_year(&ca, 2024, 1, &[]);
        let der = rustls::pki_types::CertificateRevocationListDer::from_pem_slice(list.as_bytes()).unwrap();
        let mut der = der.to_vec();
        *der.last_mut().unwrap() ^= 1;
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(&der);
        format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")
    };
    let unsigned = "its signature does not verify: no certificate of client_ca that has its issuer's name";
    let cases = [
        (&future, "`CN=ca`): it is from the future: it was issued at 2027-01-01T00:00:00Z"),
        (&of_year(&forger, 2024, 1, &[]), unsigned),
        (&tampered, unsigned),
    ];
    for (bad, why) in cases {
        let begin = format!("{line}:clients.crl: revocation list 2 (issuer ");
        let (loads, texts) = told(&own, &trusted, &[&good, bad]);
        assert!(!loads && texts.len() == 1 && texts[0].starts_with(&begin), "{why}: {texts:?}");
        assert!(texts[0].contains(why), "{why}: {texts:?}");
        // Beside a good one of the same CA too.
        assert!(!told(&own, &trusted, &[bad, &of_year(&ca, 2025, 9, &[])]).0, "{why}");
    }
    let (loads, texts) = told(&own, &no_signer.pem, &[&of_year(&no_signer, 2024, 1, &[])]);
    let why = "may not sign revocation lists (keyUsage without cRLSign)";
    assert!(!loads && texts.len() == 1 && texts[0].contains(why), "{texts:?}");
    assert_eq!(told(&own, &trusted, &[&good, &future, &tampered]).1.len(), 2, "all at once");
}

#[test]
fn a_ca_with_a_new_key_and_its_old_name_has_a_list_of_each() {
    let (before, after) = (authority("ca"), authority("ca"));
    let own = before.server();
    let both = format!("{}{}", before.pem, after.pem);
    let (old, new) = (of_year(&before, 2025, 9, &[1]), of_year(&after, 2024, 1, &[2]));
    for order in orders(&[&old, &new]) {
        assert_refused(verdict(&own, &both, &order, &[&before.client(1)]), "revoked by client_crl");
        assert_eq!(verdict(&own, &both, &order, &[&before.client(2)]), Ok(()));
        assert_eq!(verdict(&own, &both, &order, &[&after.client(1)]), Ok(()));
        assert_refused(verdict(&own, &both, &order, &[&after.client(2)]), "revoked by client_crl");
    }
    // A list of one of them says nothing of the other.
    let (loads, texts) = told(&own, &both, &[&old]);
    assert!(
        !loads && texts.len() == 1 && texts[0].contains("of `CN=ca`, certificate 2 of client_ca"),
        "{texts:?}"
    );
}

#[test]
fn a_ca_of_client_ca_without_a_list_is_an_error_that_names_it() {
    let (ca, other) = (authority("ca"), authority("other"));
    let sub = sub_authority(&ca, "sub");
    let own = ca.server();
    let lacks = |name: &str, place: u32| {
        format!(
            "1:clients.crl: has no revocation list of `CN={name}`, certificate {place} of client_ca: none of the clients of this CA \
             could connect. Add its list, or remove the CA from `client_ca`"
        )
    };
    let (of_ca, of_other, of_sub) =
        (of_year(&ca, 2024, 1, &[]), of_year(&other, 2024, 1, &[]), of_year(&sub, 2024, 1, &[]));
    // The CAs of `client_ca`, the lists, and what is lacking.
    let rows: &[(&[&Authority], &[&String], &[String])] = &[
        (&[&ca], &[&of_ca], &[]),
        (&[&ca], &[&of_ca, &of_other], &[]),
        (&[&ca], &[&of_other], &[lacks("ca", 1)]),
        (&[&ca, &other], &[&of_ca], &[lacks("other", 2)]),
        (&[&other, &ca], &[&of_other], &[lacks("ca", 2)]),
        (&[&ca, &sub], &[&of_sub], &[lacks("ca", 1)]),
        (&[&sub, &ca], &[&of_ca], &[lacks("sub", 1)]),
        (&[&ca, &other], &[&of_sub], &[lacks("ca", 1), lacks("other", 2)]),
        // Its certificate was renewed: one key, one list.
        (&[&ca, &ca, &other], &[&of_ca], &[lacks("other", 3)]),
    ];
    for (cas, lists, lacking) in rows {
        let pem: String = cas.iter().map(|ca| ca.pem.as_str()).collect();
        let lists: Vec<&str> = lists.iter().map(|list| list.as_str()).collect();
        assert_eq!(told(&own, &pem, &lists), (lacking.is_empty(), lacking.to_vec()));
    }
    // A list that is an error is told of by itself.
    let future = of_year(&ca, 2027, 1, &[]);
    let (_, texts) = told(&own, &ca.pem, &[&future]);
    assert!(texts.len() == 1 && texts[0].contains("it is from the future"), "{texts:?}");
}

/// The certificates of such a CA come with the certificates of the clients.
#[test]
fn a_sub_authority_with_a_new_key_has_a_list_of_each_too_and_a_revoked_certificate_passes_in_no_set() {
    let root = authority("root");
    let own = root.server();
    let (before, after) = (sub_authority(&root, "sub"), sub_authority(&root, "sub"));
    let pair = |sub: &Authority| Pair { certificate: sub.pem.clone(), key: String::new() };
    let (of_root, old, new) =
        (root.crl(&[], 3024), of_year(&before, 2025, 9, &[1]), of_year(&after, 2024, 1, &[2]));
    for order in orders(&[&of_root, &old, &new]) {
        for (sub, revoked, good) in [(&before, 1, 2), (&after, 2, 1)] {
            let chain = |serial: u8| verdict(&own, &root.pem, &order, &[&sub.client(serial), &pair(sub)]);
            assert_refused(chain(revoked), "revoked by client_crl");
            assert_eq!(chain(good), Ok(()));
        }
    }
    // One key by two identifiers: which of its lists is the newer one cannot be told from them.
    let other_identifier = before.list(&[], |params| {
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]);
        params.this_update = date_time_ymd(2023, 1, 1);
    });
    for order in orders(&[&of_root, &old, &other_identifier]) {
        let chain = |serial: u8| verdict(&own, &root.pem, &order, &[&before.client(serial), &pair(&before)]);
        assert_refused(chain(1), "revoked by client_crl");
        assert_eq!(chain(2), Ok(()));
    }
}

fn at_point(ca: &Authority, year: i32, point: &str, revoked: &[u8]) -> String {
    ca.list(revoked, |params| {
        params.this_update = date_time_ymd(year, 1, 1);
        params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec![point.to_owned()] },
            scope: None::<CrlScope>,
        });
    })
}

#[test]
fn a_list_for_a_distribution_point_covers_the_certificates_that_name_it() {
    let ca = authority("ca");
    let own = ca.server();
    let client = |serial: u8, point: Option<&str>| {
        ca.issue(|params| {
            params.serial_number = Some(SerialNumber::from_slice(&[serial]));
            params.crl_distribution_points = point
                .map(|point| CrlDistributionPoint { uris: vec![point.to_owned()] })
                .into_iter()
                .collect();
        })
    };
    let (a, b) = ("http://ca/a.crl", "http://ca/b.crl");
    let (of_a, of_b, of_all) =
        (at_point(&ca, 2025, a, &[1]), at_point(&ca, 2024, b, &[2]), of_year(&ca, 2023, 1, &[3]));
    for order in orders(&[&of_a, &of_b]) {
        assert_refused(verdict(&own, &ca.pem, &order, &[&client(1, Some(a))]), "revoked");
        assert_eq!(verdict(&own, &ca.pem, &order, &[&client(1, Some(b))]), Ok(()));
        assert_refused(verdict(&own, &ca.pem, &order, &[&client(2, Some(b))]), "revoked");
        // Which of the two would it be in? It was revoked in one, and another list says nothing of it.
        for serial in [1, 2, 9] {
            assert_refused(
                verdict(&own, &ca.pem, &order, &[&client(serial, None)]),
                "client_crl has no list of its issuer",
            );
        }
        assert!(verdict(&own, &ca.pem, &order, &[&client(9, Some("http://ca/c.crl"))]).is_err());
    }
    for order in orders(&[&of_a, &of_b, &of_all]) {
        assert_refused(verdict(&own, &ca.pem, &order, &[&client(1, Some(a))]), "revoked");
        assert_refused(verdict(&own, &ca.pem, &order, &[&client(2, Some(b))]), "revoked");
        assert_refused(verdict(&own, &ca.pem, &order, &[&client(3, None)]), "revoked");
        assert_eq!(verdict(&own, &ca.pem, &order, &[&client(9, None)]), Ok(()));
        // A CA gives a number once: one that is in any of its lists is revoked.
        assert_refused(verdict(&own, &ca.pem, &order, &[&client(1, None)]), "revoked");
    }
}

#[test]
fn under_a_ca_with_pathlen_0_there_is_no_sub_authority() {
    let root = |path_len| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(path_len);
        let key = KeyPair::generate().unwrap();
        Authority { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    };
    let rows = [
        (BasicConstraints::Unconstrained, true),
        (BasicConstraints::Constrained(1), true),
        (BasicConstraints::Constrained(0), false),
    ];
    for (path_len, may) in rows {
        let root = root(path_len);
        let sub = sub_authority(&root, "sub");
        let of_sub = Pair { certificate: sub.pem.clone(), key: String::new() };
        let own = root.server();
        let tls = acceptor(&mutual(&own, &root.pem, None));
        let trust = tls.clients().unwrap();
        assert_eq!(trust.has_sub_authorities(), may);
        assert_eq!(trust.judge(&chain(&[&root.client(1)]), year(2026)), Ok(()));
        assert_eq!(trust.judge(&chain(&[&sub.client(1), &of_sub]), year(2026)).is_ok(), may);
    }
}

#[test]
fn a_verdict_holds_until_something_begins_or_ends() {
    let ca = authority("ca");
    let own = ca.server();
    let client = ca.issue(|params| {
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
    });
    let list = ca.list(&[], |params| params.next_update = date_time_ymd(2028, 1, 1));
    let tls = acceptor(&mutual(&own, &ca.pem, Some(list)));
    let trust = tls.clients().unwrap();
    let chain = chain(&[&client]);
    let second = jiff::SignedDuration::from_secs(1);
    let mut rows = vec![
        (year(2025) - second, Err("is not valid yet"), Some(year(2025))),
        (year(2025), Ok(()), Some(year(2028))),
        (year(2028) - second, Ok(()), Some(year(2028))),
        (year(2028), Err("the list of its issuer in client_crl is out of date"), Some(year(2030) + second)),
        (year(2030), Err("out of date"), Some(year(2030) + second)),
        (year(2030) + second, Err("expired on 2030"), None),
    ];
    // A clock that was set back changes the verdict back.
    rows.extend(rows.clone().into_iter().rev());
    for (now, want, until) in rows {
        match (trust.judge(&chain, now), want) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(part)) => assert!(text.contains(part), "{now}: {text}"),
            other => panic!("{now}: {other:?}"),
        }
        assert_eq!(chain.changes_at(), until, "{now}");
    }
    // Other trust, other verdict: nothing is remembered across it.
    let other = acceptor(&mutual(&own, &authority("other").pem, None));
    assert!(trust.judge(&chain, year(2026)).is_ok());
    assert!(other.clients().unwrap().judge(&chain, year(2026)).is_err());
    assert!(trust.judge(&chain, year(2026)).is_ok());
}

const VERSIONS: [&[&rustls::SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

#[tokio::test]
async fn where_clients_are_verified_no_session_is_resumed() {
    let ca = authority("ca");
    let (own, client) = (ca.server(), ca.client(7));
    for versions in VERSIONS {
        for (pem, kind) in [
            (mutual(&own, &ca.pem, None), rustls::HandshakeKind::Full),
            (pem(&own), rustls::HandshakeKind::Resumed),
        ] {
            let acceptor = acceptor(&pem);
            let connector = connector_of(&ca, Some(&client), versions);
            meet(&acceptor, connector.clone()).await.0.unwrap();
            let again = meet(&acceptor, connector).await.0.unwrap();
            assert_eq!(again.stream.get_ref().1.handshake_kind(), Some(kind));
        }
    }
}

#[tokio::test]
async fn a_session_that_a_client_kept_leads_past_no_new_trust() {
    let (ca, other) = (authority("ca"), authority("other"));
    let (own, client) = (ca.server(), ca.client(7));
    let listed = |revoked: &[u8]| mutual(&own, &ca.pem, Some(ca.crl(revoked, 3024)));
    for versions in VERSIONS {
        // What was in force, and is now.
        for (before, after) in [
            (listed(&[]), listed(&[7])),
            (listed(&[]), mutual(&own, &other.pem, None)),
            // It did not ask for certificates before, so that sessions could be resumed.
            (pem(&own), listed(&[7])),
        ] {
            let (before, after) = (acceptor(&before), acceptor(&after));
            let connector = connector_of(&ca, Some(&client), versions);
            for _ in 0..2 {
                assert!(meet(&before, connector.clone()).await.0.is_ok());
            }
            let (reason, text) = reason_and_text(meet(&after, connector).await.0);
            assert_eq!(reason, Some(Reason::ClientCertificateInvalid), "{text}");
        }
    }
}

#[tokio::test]
async fn a_list_that_only_a_handshake_can_check_is_about_the_clients_certificate() {
    let root = authority("root");
    let own = root.server();
    // The list is of a sub-authority that is not in `client_ca`, and another key signed it.
    let (sub, forger) = (sub_authority(&root, "sub"), authority("sub"));
    let lists = [root.crl(&[], 3024), forger.crl(&[], 3024)].concat();
    let mut client = sub.client(7);
    client.certificate += &sub.pem;
    let acceptor = acceptor(&mutual(&own, &root.pem, Some(lists)));
    let (outcome, shown) = meet(&acceptor, connector(&root, Some(&client))).await;
    let (reason, text) = reason_and_text(outcome);
    assert_eq!((reason, shown), (Some(Reason::ClientCertificateInvalid), None));
    assert!(
        text.contains("the list of its issuer in client_crl cannot be used: its signature does not verify"),
        "{text}"
    );
}

/// An authority that `root` certified.
pub(super) fn sub_authority(root: &Authority, name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    Authority { pem: params.signed_by(&key, &root.issuer).unwrap().pem(), issuer: Issuer::new(params, key) }
}

/// t71: a client may show what it likes with its certificate.
#[test]
fn of_the_certificates_that_a_client_shows_those_on_a_path_are_kept_and_counted() {
    let (root, stranger) = (authority("root"), authority("stranger"));
    let below = |above: &Authority, name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &above.issuer).unwrap().pem();
        let pair = Pair { certificate: pem.clone(), key: key.serialize_pem() };
        (Authority { pem, issuer: Issuer::new(params, key) }, pair)
    };
    let (first, of_first) = below(&root, "first");
    let (second, of_second) = below(&first, "second");
    let (own, junk, other) = (second.client(1), stranger.client(2), stranger.client(3));
    let kept = |certificates: &[&Pair]| {
        let chain = chain(certificates);
        let (own, others) = chain.split().unwrap();
        (own.len(), others.len(), chain.fingerprint())
    };
    let (length, others, print) = kept(&[&own, &of_second, &of_first]);
    assert_eq!(others, 2);
    // Those between may come in any order, and their place among strangers changes nothing but the order.
    assert_eq!(kept(&[&own, &junk, &of_second, &other, &of_first, &junk]), (length, 2, print));
    assert_eq!(kept(&[&own, &of_first, &junk, &of_second]).1, 2);
    assert_eq!(kept(&[&own, &of_first, &junk]).1, 0, "nothing that it shows issued it");
    let server = root.server();
    let tls = acceptor(&mutual(&server, &root.pem, None));
    for shown in [&[&own, &junk, &of_first, &of_second][..], &[&own, &of_second, &of_first]] {
        assert_eq!(tls.clients().unwrap().judge(&chain(shown), year(2026)), Ok(()));
    }
    let budget = HeldBytes::unlimited();
    let counted = chain(&[&own, &junk, &of_second]).counted(&budget);
    assert!(
        budget.of(Kind::Tls) > 2 * length && budget.of(Kind::Tls) < 4 * length,
        "{}",
        budget.of(Kind::Tls)
    );
    drop(counted);
    assert_eq!(budget.sum(), 0);
}
