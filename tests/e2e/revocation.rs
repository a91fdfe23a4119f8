//! Revocation lists, with OpenSSL as the judge: over generated sets of lists, egressd accepts a client's certificate exactly where
//! `openssl verify -crl_check_all` does. `tests/long/revocation` does this for more sets.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Authority, Egressd, config, directory, run, until, write};
use crate::tool::{Ran, tool};

const NAME: &str = "proxy.test";
const MUTUAL: &str = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt, client_crl: ca.crl}";

/// How many sets are tried. Set `EGRESSD_TEST_REVOCATION_SETS` for more.
fn sets() -> u64 {
    let set = std::env::var("EGRESSD_TEST_REVOCATION_SETS").ok();
    set.map_or(40, |text| text.parse().expect("EGRESSD_TEST_REVOCATION_SETS is a number"))
}

/// The same numbers for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % sides
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.roll(end + 1));
        }
    }
}

/// One CA.
struct Ca {
    name: String,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    key_id: Vec<u8>,
    /// The root that certified it; none: it is a root.
    under: Option<usize>,
}

/// A client's certificate.
struct Leaf {
    ca: usize,
    serial: u8,
    certificate: String,
    key: String,
}

/// One revocation list of the set.
struct List {
    ca: usize,
    pem: String,
}

/// What one CA's newest list is like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Newest {
    Good,
    Missing,
    Future,
    Expired,
    Forged,
}

/// Some CAs, clients and lists.
struct Set {
    cas: Vec<Ca>,
    leaves: Vec<Leaf>,
    lists: Vec<List>,
    newest: Vec<Newest>,
}

impl Set {
    fn of(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut set = Set { cas: vec![], leaves: vec![], lists: vec![], newest: vec![] };
        for root in 0..=dice.roll(2) {
            set.ca(&mut dice, &format!("root {root}"), None);
        }
        if dice.roll(4) == 0 {
            // A CA that got a new key and kept its name.
            set.ca(&mut dice, "root 0", None);
        }
        let roots = set.cas.len();
        let subs = dice.roll(3);
        for sub in 0..subs {
            let under = dice.roll(roots);
            set.ca(&mut dice, &format!("sub {sub}"), Some(under));
        }
        if subs > 0 && dice.roll(3) == 0 {
            let under = dice.roll(roots);
            set.ca(&mut dice, "sub 0", Some(under));
        }
        for ca in 0..set.cas.len() {
            for _ in 0..3 {
                let serial = u8::try_from(set.leaves.len() + 100).expect("fewer than 155");
                let (certificate, key) = set.issue(ca, serial);
                set.leaves.push(Leaf { ca, serial, certificate, key });
            }
        }
        for ca in 0..set.cas.len() {
            set.lists_of(ca, &mut dice);
        }
        dice.shuffle(&mut set.lists);
        set
    }

    fn ca(&mut self, dice: &mut Dice, name: &str, under: Option<usize>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        params.serial_number =
            Some(SerialNumber::from_slice(&[u8::try_from(self.cas.len() + 1).expect("few")]));
        let key_id: Vec<u8> = (0..20).map(|_| u8::try_from(dice.roll(256)).expect("a byte")).collect();
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.clone());
        let key = KeyPair::generate().expect("a key");
        let certificate = match under {
            None => params.self_signed(&key),
            Some(root) => params.signed_by(&key, &self.cas[root].issuer),
        };
        let pem = certificate.expect("a certificate").pem();
        self.cas.push(Ca { name: name.to_owned(), issuer: Issuer::new(params, key), pem, key_id, under });
    }

    /// A client's certificate with those that it comes with, and its key.
    fn issue(&self, ca: usize, serial: u8) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, format!("client {serial}"));
        params.serial_number = Some(SerialNumber::from_slice(&[0, serial]));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let ca = &self.cas[ca];
        let certificate = params.signed_by(&key, &ca.issuer).expect("a certificate").pem();
        let chain = ca.under.map_or(String::new(), |_| ca.pem.clone());
        (certificate + &chain, key.serialize_pem())
    }

    /// One to three lists of a CA, each revoking some of what it issued; the newest one may be unusable.
    fn lists_of(&mut self, ca: usize, dice: &mut Dice) {
        let kinds = [Newest::Missing, Newest::Future, Newest::Expired, Newest::Forged];
        let newest = kinds.get(dice.roll(14)).copied().unwrap_or(Newest::Good);
        // There must be one list at least.
        let newest = if ca == 0 && newest == Newest::Missing { Newest::Good } else { newest };
        self.newest.push(newest);
        if newest == Newest::Missing {
            return;
        }
        // The third certificate of each CA is never revoked.
        let clients =
            self.leaves.iter().filter(|leaf| leaf.ca == ca).take(2).map(|leaf| vec![0, leaf.serial]);
        let subs = (0..self.cas.len()).filter(|sub| self.cas[*sub].under == Some(ca));
        let subs = subs.map(|sub| vec![u8::try_from(sub + 1).expect("few")]);
        let issued: Vec<Vec<u8>> = clients.chain(subs).collect();
        let versions = 1 + dice.roll(3);
        for version in 0..versions {
            let is_newest = version + 1 == versions;
            let year = 2000 + 5 * i32::try_from(version).expect("small");
            let revoked_certs = issued.iter().filter(|_| dice.roll(3) == 0).map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: date_time_ymd(year, 1, 1),
                reason_code: None,
                invalidity_date: None,
            });
            let mut params = CertificateRevocationListParams {
                this_update: date_time_ymd(year, 1, 1),
                // An older list is out of date no later than a newer one.
                next_update: date_time_ymd(if newest == Newest::Expired { year + 5 } else { 2990 }, 1, 1),
                crl_number: SerialNumber::from_slice(&[u8::try_from(version + 1).expect("small")]),
                issuing_distribution_point: None,
                revoked_certs: revoked_certs.collect(),
                key_identifier_method: KeyIdMethod::PreSpecified(self.cas[ca].key_id.clone()),
            };
            let mut signer = &self.cas[ca].issuer;
            let forger;
            match newest {
                Newest::Future if is_newest => params.this_update = date_time_ymd(2980, 1, 1),
                Newest::Forged if is_newest => {
                    // The same name, and another key that says it is the CA's.
                    let mut same = CertificateParams::default();
                    let name = self.cas[ca].name.as_str();
                    same.distinguished_name.remove(DnType::CommonName);
                    same.distinguished_name.push(DnType::CommonName, name);
                    same.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                    same.key_usages = vec![KeyUsagePurpose::CrlSign];
                    forger = Issuer::new(same, KeyPair::generate().expect("a key"));
                    signer = &forger;
                }
                _ => {}
            }
            let pem = params.signed_by(signer).and_then(|list| list.pem()).expect("a list");
            self.lists.push(List { ca, pem });
        }
    }

    fn write_cas(&self, at: &Path) {
        let pem = |is_root: bool| -> String {
            self.cas.iter().filter(|ca| ca.under.is_none() == is_root).map(|ca| ca.pem.as_str()).collect()
        };
        write(&at.join("ca.crt"), pem(true));
        write(&at.join("subs.crt"), pem(false));
    }

    /// What `openssl verify` says of this client with these lists: nothing if it accepts it.
    fn verified(&self, at: &Path, leaf: &Leaf, lists: &str, check: &str) -> Result<(), String> {
        write(&at.join("leaf.crt"), &leaf.certificate);
        write(&at.join("lists.pem"), lists);
        let mut openssl = tool("openssl", at);
        openssl.current_dir(at).args(["verify", check, "-CAfile", "ca.crt", "-CRLfile", "lists.pem"]);
        if self.cas.iter().any(|ca| ca.under.is_some()) {
            openssl.args(["-untrusted", "subs.crt"]);
        }
        let ran = Ran::of(openssl.arg("leaf.crt"));
        match ran.code {
            Some(0) => Ok(()),
            Some(2) => Err(ran.stderr),
            _ => panic!("{ran:?}"),
        }
    }
}

/// The lists that `check` calls errors, by their place; the lines are right.
fn refused(at: &Path, lists: &[&List]) -> BTreeSet<usize> {
    let file = at.join("egressd.yaml");
    let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut places = BTreeSet::new();
    for finding in text.lines().filter(|line| line.contains(": error: ")) {
        let (place, why) = finding.split_once(": error: revocation list ").expect("only lists are wrong");
        let number: usize = why.split(' ').next().expect("a number").parse().expect("a number");
        let line = 1 + lists[..number - 1].iter().map(|list| list.pem.lines().count()).sum::<usize>();
        assert!(place.ends_with(&format!("ca.crl:{line}:1")), "{finding}: not line {line}");
        places.insert(number - 1);
    }
    let code = if places.is_empty() { 0 } else { 78 };
    assert_eq!(output.status.code(), Some(code), "{text}");
    places
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
}

fn try_set(seed: u64, seen: &mut Seen) {
    let (set, server, oracle) = (Set::of(seed), Authority::new(), directory());
    let directory = files(&server);
    let at = directory.path().to_owned();
    set.write_cas(&at);
    set.write_cas(oracle.path());
    let mut lists: Vec<&List> = set.lists.iter().collect();
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
            let is_known = set.cas[list.ca].under.is_none();
            let kind = kinds.iter().find(|kind| said.contains(**kind) && (is_known || **kind == kinds[0]));
            seen.errors.extend(kind.map(ToString::to_string));
            kind.is_some()
        })
        .collect();
    write(&at.join("ca.crl"), all(&lists));
    assert_eq!(refused(&at, &lists), wrong, "the lists that are errors");
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
        assert_eq!(refused(&at, &lists), BTreeSet::new(), "without those that were errors");
    }

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
    assert!(seen.accepted > 0);
    let all = |kinds: &[&str]| -> BTreeSet<String> { kinds.iter().map(ToString::to_string).collect() };
    assert_eq!(seen.errors, all(&["CRL is not yet valid", "CRL signature failure"]));
    let wanted =
        ["certificate revoked", "unable to get certificate CRL", "CRL has expired", "CRL signature failure"];
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
