//! Revocation lists, with OpenSSL as the judge: over generated sets of lists, egressd accepts a client's certificate exactly where
//! `openssl verify -crl_check_all` does. `tests/long/revocation` does this for more sets.

mod set;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Authority, Egressd, config, directory, run, until, write};
use crate::tool::{Ran, tool};
use set::{Leaf, List, Set};

const NAME: &str = "proxy.test";
const MUTUAL: &str = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt, client_crl: ca.crl}";

/// How many sets are tried. Set `EGRESSD_TEST_REVOCATION_SETS` for more.
fn sets() -> u64 {
    let set = std::env::var("EGRESSD_TEST_REVOCATION_SETS").ok();
    set.map_or(40, |text| text.parse().expect("EGRESSD_TEST_REVOCATION_SETS is a number"))
}

/// The lists that `check` calls errors, and the CAs of `client_ca` whose list it misses, by their places; the lines are right.
fn refused(at: &Path, lists: &[&List]) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let file = at.join("egressd.yaml");
    let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut places, mut lacking) = (BTreeSet::new(), BTreeSet::new());
    for finding in text.lines().filter(|line| line.contains(": error: ")) {
        if let Some((_, about)) = finding.split_once("ca.crl:1:1: error: has no revocation list of ") {
            let (_, certificate) = about.split_once("certificate ").expect("its place");
            let place: usize = certificate.split(' ').next().expect("a number").parse().expect("a number");
            lacking.insert(place - 1);
            continue;
        }
        let (place, why) = finding.split_once(": error: revocation list ").expect("only lists are wrong");
        let number: usize = why.split(' ').next().expect("a number").parse().expect("a number");
        let line = 1 + lists[..number - 1].iter().map(|list| list.pem.lines().count()).sum::<usize>();
        assert!(place.ends_with(&format!("ca.crl:{line}:1")), "{finding}: not line {line}");
        places.insert(number - 1);
    }
    let code = if places.is_empty() && lacking.is_empty() { 0 } else { 78 };
    assert_eq!(output.status.code(), Some(code), "{text}");
    (places, lacking)
}

/// The CAs of `client_ca` of which there is no list, by their places there. One of whose name a list is wrong is not told.
fn lacking(set: &Set, lists: &[&List], wrong: &BTreeSet<usize>) -> BTreeSet<usize> {
    let known = |ca: usize| {
        lists.iter().enumerate().any(|(place, list)| match wrong.contains(&place) {
            true => set.cas[list.ca].name == set.cas[ca].name,
            false => list.ca == ca,
        })
    };
    set.listed().into_iter().enumerate().filter(|(_, ca)| !known(*ca)).map(|(place, _)| place).collect()
}

/// Whether a client with this certificate gets through the handshake.
fn is_let_in(proxy: &Egressd, server: &Authority, leaf: &Leaf) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(server.der().clone()).expect("an authority");
    let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes()).map(|der| der.expect("PEM"));
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.collect(), key)
        .expect("its key");
    let name = ServerName::try_from(NAME).expect("a name");
    let wire = proxy.connect();
    let peer = wire.local().to_string();
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = StreamOwned::new(connection, wire.into_stream());
    let _ = stream.write_all(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n");
    let mut reply = Vec::new();
    let end = stream.read_to_end(&mut reply);
    if reply.starts_with(b"HTTP/1.1 403 ") {
        return true;
    }
    assert!(reply.is_empty() && end.is_err(), "{}", String::from_utf8_lossy(&reply));
    // The first ten a second are written one by one; the rest is counted.
    until("the record", || {
        let records = proxy.records();
        let known = records.iter().find(|record| record["peer"] == peer.as_str());
        match known {
            Some(record) => {
                record.assert_has(&json!({"event": "deny", "reason": "client_certificate_invalid"}));
                Some(())
            }
            None => records.iter().any(|record| !record["suppressed"].is_null()).then_some(()),
        }
    });
    false
}

fn listening() -> String {
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let text = config(&["a.example"]);
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    text.replace(bare, &format!("{{name: proxy, address: 127.0.0.1:0, {MUTUAL}}}"))
}

fn files(server: &Authority) -> TempDir {
    let directory = directory();
    let own = server.issue(&[NAME]);
    write(&directory.path().join("tls.crt"), &own.pem);
    write(&directory.path().join("tls.key"), &own.key_pem);
    write(&directory.path().join("server.crt"), server.pem());
    write(&directory.path().join("egressd.yaml"), listening());
    directory
}

/// What all sets showed together: a generator that makes only easy sets would show nothing.
#[derive(Default, Debug)]
struct Seen {
    accepted: usize,
    refused: BTreeSet<String>,
    errors: BTreeSet<String>,
    /// CAs of `client_ca` without a list.
    missed: usize,
}

fn try_set(seed: u64, seen: &mut Seen) {
    let (mut set, server, oracle) = (Set::of(seed), Authority::new(), directory());
    let directory = files(&server);
    let at = directory.path().to_owned();
    set.write_cas(&at);
    set.write_cas(oracle.path());
    let all_lists = std::mem::take(&mut set.lists);
    let mut lists: Vec<&List> = all_lists.iter().collect();
    let all = |lists: &[&List]| -> String { lists.iter().map(|list| list.pem.as_str()).collect() };

    // Which lists are wrong, each by itself.
    let clean = |ca: usize| set.leaves.iter().filter(|leaf| leaf.ca == ca).nth(2).expect("three of each");
    let wrong: BTreeSet<usize> = (0..lists.len())
        .filter(|place| {
            let list = lists[*place];
            let said = set
                .verified(oracle.path(), clean(list.ca), &list.pem, "-crl_check")
                .err()
                .unwrap_or_default();
            let kinds = ["CRL is not yet valid", "CRL signature failure"];
            // The signature of a list of a CA that only the clients show is checked in the handshake.
            let is_known = set.cas[list.ca].is_listed;
            let kind = kinds.iter().find(|kind| said.contains(**kind) && (is_known || **kind == kinds[0]));
            seen.errors.extend(kind.map(ToString::to_string));
            kind.is_some()
        })
        .collect();
    write(&at.join("ca.crl"), all(&lists));
    let missed = lacking(&set, &lists, &wrong);
    seen.missed += missed.len();
    assert_eq!(
        refused(&at, &lists),
        (wrong.clone(), missed),
        "the lists that are errors, and those that are missing"
    );
    if !wrong.is_empty() {
        let mut place = 0;
        lists.retain(|_| {
            place += 1;
            !wrong.contains(&(place - 1))
        });
        if lists.is_empty() {
            return;
        }
        write(&at.join("ca.crl"), all(&lists));
    }
    let none = BTreeSet::new();
    let missed = lacking(&set, &lists, &none);
    let listed = set.listed();
    missed.iter().for_each(|place| set.unlist(listed[*place]));
    if set.listed().is_empty() {
        return;
    }
    set.write_cas(&at);
    set.write_cas(oracle.path());
    assert_eq!(refused(&at, &lists), (none.clone(), none), "without what was an error");

    let text = all(&lists);
    let proxy = Egressd::start_at(directory, &at.join("egressd.yaml"));
    for leaf in &set.leaves {
        let oracle_says = set.verified(oracle.path(), leaf, &text, "-crl_check_all");
        let let_in = is_let_in(&proxy, &server, leaf);
        assert_eq!(let_in, oracle_says.is_ok(), "client {}: openssl says {oracle_says:?}", leaf.serial);
        match oracle_says {
            Ok(()) => {
                seen.accepted += 1;
                assert_eq!(set.verified(oracle.path(), leaf, &text, "-crl_check"), Ok(()));
            }
            Err(said) => seen
                .refused
                .extend(said.lines().find_map(|line| Some(line.split_once("lookup: ")?.1.to_owned()))),
        }
    }
}

#[test]
fn the_verdict_on_a_certificate_is_openssls_for_any_set_of_lists() {
    let mut seen = Seen::default();
    let (sets, begun) = (sets(), std::time::Instant::now());
    for seed in 1..=sets {
        println!("set {seed}");
        try_set(seed, &mut seen);
    }
    println!("{sets} sets in {:.0?}: {seen:?}", begun.elapsed());
    assert!(seen.accepted > 0 && seen.missed > 0);
    let all = |kinds: &[&str]| -> BTreeSet<String> { kinds.iter().map(ToString::to_string).collect() };
    assert_eq!(seen.errors, all(&["CRL is not yet valid", "CRL signature failure"]));
    let wanted = [
        "certificate revoked",
        "unable to get certificate CRL",
        "CRL has expired",
        "CRL signature failure",
        // Of a CA that was taken from `client_ca`, because it has no list.
        "unable to get local issuer certificate",
    ];
    assert_eq!(seen.refused, all(&wanted));
}

/// Lists of OpenSSL's own making that egressd does not use, each with what `check` says of it.
#[test]
fn a_list_of_a_kind_that_egressd_does_not_use_is_an_error_with_its_place() {
    let server = Authority::new();
    let directory = files(&server);
    let at = directory.path();
    write(
        &at.join("ca.cnf"),
        "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ncrlnumber = number\ndefault_md = sha256\ndefault_crl_days = 30\n\
         [first]\ndatabase = index.txt\ndefault_md = sha256\ndefault_crl_days = 30\n\
         [req]\ndistinguished_name = dn\n[dn]\n[complete]\nauthorityKeyIdentifier = keyid\n\
         [delta]\n2.5.29.27 = critical,DER:02:01:01\n\
         [indirect]\nissuingDistributionPoint = critical,@indirect_point\n\
         [indirect_point]\nfullname = URI:http://ca/a.crl\nindirectCRL = TRUE\n\
         [reasons]\nissuingDistributionPoint = critical,@reasons_point\n\
         [reasons_point]\nfullname = URI:http://ca/a.crl\nonlysomereasons = keyCompromise\n\
         [nameless]\nissuingDistributionPoint = critical,@nameless_point\n[nameless_point]\nonlyuser = TRUE\n\
         [attribute]\nissuingDistributionPoint = critical,@attribute_point\n\
         [attribute_point]\nfullname = URI:http://ca/a.crl\nonlyAA = TRUE\n\
         [unknown]\n1.2.3.4 = critical,DER:05:00\n",
    );
    write(&at.join("index.txt"), "");
    write(&at.join("number"), "01\n");
    let openssl = |arguments: &[&str]| Ran::ok(tool("openssl", at).current_dir(at).args(arguments));
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key"]);
    let request = ["req", "-x509", "-config", "ca.cnf", "-key", "ca.key", "-subj", "/CN=ca", "-days", "30"];
    let authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "subjectKeyIdentifier=hash"];
    openssl(&[&request[..], &authority, &["-out", "ca.crt"]].concat());
    let issue = |extensions: &str| -> String {
        let list = [
            "ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "ca.key", "-cert", "ca.crt", "-out", "list.crl",
        ];
        match extensions {
            // A list without extensions is of version 1.
            "" => openssl(&[&list[..], &["-name", "first"]].concat()),
            kind => openssl(&[&list[..], &["-crlexts", kind]].concat()),
        };
        fs::read_to_string(at.join("list.crl")).expect("it was made")
    };
    let check = || {
        let file = at.join("egressd.yaml");
        let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let complete = issue("complete");
    write(&at.join("ca.crl"), &complete);
    fs::set_permissions(at.join("tls.key"), Permissions::from_mode(0o600)).expect("it is ours");
    assert_eq!(check(), (Some(0), String::new()));
    let rows = [
        ("", "it is of version 1: a list of version 2 is wanted"),
        ("delta", "it is a delta list: a complete one is wanted"),
        ("indirect", "it is an indirect list: a list of each CA is wanted"),
        (
            "reasons",
            "it is for some reasons of revocation alone (onlySomeReasons): a complete list is wanted",
        ),
        ("nameless", "it is for a part of the certificates that has no name"),
        ("attribute", "it is malformed"),
        ("unknown", "it has a critical extension that egressd does not know"),
    ];
    for (kind, why) in rows {
        write(&at.join("ca.crl"), format!("{complete}{}", issue(kind)));
        let (code, text) = check();
        let line = 1 + complete.lines().count();
        assert_eq!(code, Some(78), "{kind}: {text}");
        assert_eq!(text.lines().count(), 1, "{kind}: {text}");
        let place = format!("ca.crl:{line}:1: error: revocation list 2 (issuer `CN=ca`): it ");
        assert!(text.contains(&place) && text.contains(why), "{kind}: {text}");
    }
}

#[test]
fn openssl_resumes_no_session_where_a_certificate_is_wanted() {
    let server = Authority::new();
    let directory = files(&server);
    let at = directory.path().to_owned();
    write(&at.join("ca.crt"), server.pem());
    write(&at.join("ca.crl"), server.crl(&[7]));
    for (name, serial) in [("gone", 7), ("stays", 8)] {
        let own = server.issue_client(serial, name, None);
        write(&at.join(format!("{name}.crt")), &own.pem);
        write(&at.join(format!("{name}.key")), &own.key_pem);
    }
    let open = listening().replace(", client_ca: ca.crt, client_crl: ca.crl", "");
    write(&at.join("egressd.yaml"), &open);
    let proxy = Egressd::start_at(directory, &at.join("egressd.yaml"));
    // Sends a CONNECT, and keeps its session in a file or begins with the one that it kept.
    let ask = |client: &str, version: &str, session: &str| -> Ran {
        let script = format!(
            "printf 'CONNECT evil.example:443 HTTP/1.1\\r\\nHost: evil.example:443\\r\\n\\r\\n' | \
             openssl s_client -connect {} -servername {NAME} -CAfile server.crt -cert {client}.crt -key {client}.key \
             {version} {session} -ign_eof",
            proxy.address(),
        );
        Ran::of(tool("bash", &at).current_dir(&at).args(["-c", &script]))
    };
    let is_served = |ran: &Ran| ran.stdout.contains("HTTP/1.1 403 ");
    let asked = [("-tls1_2", "gone"), ("-tls1_2", "stays"), ("-tls1_3", "gone"), ("-tls1_3", "stays")];
    // No certificate is wanted: a session is kept, and resumed.
    for (version, client) in asked {
        let ran = ask(client, version, &format!("-sess_out {client}{version}"));
        assert!(is_served(&ran) && ran.stdout.contains("New, "), "{ran:?}");
        let ran = ask(client, version, &format!("-sess_in {client}{version}"));
        assert!(is_served(&ran) && ran.stdout.contains("Reused, "), "{ran:?}");
    }
    // Now one is wanted: no session leads past it, and none is given.
    write(&at.join("egressd.yaml"), listening());
    proxy.signal(Signal::HUP);
    proxy.says("is in force; 0 tunnels and exchanges ended");
    for (version, client) in asked {
        let ran =
            ask(client, version, &format!("-sess_in {client}{version} -sess_out {client}{version}.new"));
        assert_eq!(is_served(&ran), client == "stays", "{client} {version}: {ran:?}");
        assert_eq!(
            ran.stderr.contains("certificate revoked"),
            client == "gone",
            "{client} {version}: {ran:?}"
        );
        assert!(!ran.stdout.contains("Reused, "), "{ran:?}");
        assert!(
            !at.join(format!("{client}{version}.new")).exists(),
            "{client} {version}: a session was given"
        );
    }
}
