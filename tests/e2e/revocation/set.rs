//! Generated CAs, clients and revocation lists, and what OpenSSL says of them.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::support::write;
use crate::tool::{Ran, tool};

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
pub(crate) struct Ca {
    pub(crate) name: String,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    key_id: Vec<u8>,
    /// The root that certified it; none: it is a root.
    pub(crate) under: Option<usize>,
    /// Whether it stands in `client_ca`: each root does, and some that are under one.
    pub(crate) is_listed: bool,
}

/// A client's certificate.
pub(crate) struct Leaf {
    pub(crate) ca: usize,
    pub(crate) serial: u8,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// One revocation list of the set.
pub(crate) struct List {
    pub(crate) ca: usize,
    pub(crate) pem: String,
}

/// What one CA's newest list is like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Newest {
    Good,
    Missing,
    Future,
    Expired,
    Forged,
}

/// Some CAs, clients and lists.
pub(crate) struct Set {
    pub(crate) cas: Vec<Ca>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) lists: Vec<List>,
}

impl Set {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut set = Set { cas: vec![], leaves: vec![], lists: vec![] };
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
        let is_chosen = dice.roll(3) == 0;
        // Of two with one name, both or none: a list of the other one would look as if its signature were wrong.
        let twin = self.cas.iter().find(|ca| ca.name == name).map(|ca| ca.is_listed);
        let is_listed = under.is_none() || twin.unwrap_or(is_chosen);
        let issuer = Issuer::new(params, key);
        self.cas.push(Ca { name: name.to_owned(), issuer, pem, key_id, under, is_listed });
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

    /// The places of the CAs in `client_ca`, in its order.
    pub(crate) fn listed(&self) -> Vec<usize> {
        (0..self.cas.len()).filter(|ca| self.cas[*ca].is_listed).collect()
    }

    /// Takes a CA from `client_ca`, and those that are there under it, with those that have the name of one of these.
    pub(crate) fn unlist(&mut self, root: usize) {
        self.cas[root].is_listed = false;
        let under: Vec<String> =
            self.cas.iter().filter(|ca| ca.under == Some(root)).map(|ca| ca.name.clone()).collect();
        let subs = self.cas.iter_mut().filter(|ca| ca.under.is_some() && under.contains(&ca.name));
        subs.for_each(|ca| ca.is_listed = false);
    }

    pub(crate) fn write_cas(&self, at: &Path) {
        let pem = |wanted: fn(&&Ca) -> bool| -> String {
            self.cas.iter().filter(wanted).map(|ca| ca.pem.as_str()).collect()
        };
        write(&at.join("ca.crt"), pem(|ca| ca.is_listed));
        write(&at.join("subs.crt"), pem(|ca| ca.under.is_some()));
    }

    /// What `openssl verify` says of this client with these lists: nothing if it accepts it.
    pub(crate) fn verified(&self, at: &Path, leaf: &Leaf, lists: &str, check: &str) -> Result<(), String> {
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
