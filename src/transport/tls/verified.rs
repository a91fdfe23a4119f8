//! Chains of targets that were verified, so that the next tunnel to a target does not verify the same one again.
//!
//! Whether a chain is good for a name depends on its bytes, the name, the trusted authorities and the time, and on nothing else: no
//! revocation is looked up. So what was found stands for the same bytes and name, until the first of the certificates ends. It belongs
//! to one set of authorities: a reload of those makes another store. That the target has the key, it proves in every handshake anew.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// How long a verification stands at most.
const KEPT: Duration = Duration::from_secs(3600);
/// Most chains.
const MOST: usize = 256;

/// Verifies as rustls does, and remembers what was good.
pub(super) struct Verifier {
    by: Arc<dyn ServerCertVerifier>,
    good: Mutex<HashMap<Key, Span>>,
}

/// SHA-256 over the name and the chain.
type Key = [u8; SHA256_OUTPUT_LEN];

/// When a verification stands: a clock that is set back before it finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    from: UnixTime,
    until: UnixTime,
}

impl Verifier {
    pub(super) fn new(by: Arc<WebPkiServerVerifier>) -> Self {
        Self::over(by)
    }

    fn over(by: Arc<dyn ServerCertVerifier>) -> Self {
        Verifier { by, good: Mutex::default() }
    }

    fn is_good(&self, key: &Key, now: UnixTime) -> bool {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(key).is_some_and(|span| span.from <= now && now < span.until)
    }

    fn keep(&self, key: Key, span: Span) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MOST && !good.contains_key(&key) {
            let first = good.iter().min_by_key(|(_, span)| span.until).map(|(key, _)| *key);
            first.map(|first| good.remove(&first));
        }
        good.insert(key, span);
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = key(leaf, others, name);
        if self.is_good(&key, now) {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.by.verify_server_cert(leaf, others, name, ocsp, now)?;
        if let Some(until) = end(leaf, others, now) {
            self.keep(key, Span { from: now, until });
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by.supported_verify_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// Each part stands behind its length, so that no two chains give the same bytes.
fn key(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], name: &ServerName<'_>) -> Key {
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    // No name of a host is an address.
    part(name.to_str().as_bytes());
    part(leaf);
    others.iter().for_each(|other| part(other));
    let mut key = [0; SHA256_OUTPUT_LEN];
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// Until when the verification of a chain stands: of certificates that a path may not even need, too. `None`: not at all.
fn end(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Option<UnixTime> {
    let mut end = now.as_secs().checked_add(KEPT.as_secs())?;
    for certificate in std::iter::once(leaf).chain(others) {
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        // The last second in which it is valid is within it.
        end = end.min(u64::try_from(read.validity().not_after.timestamp()).ok()?);
    }
    Some(UnixTime::since_unix_epoch(Duration::from_secs(end)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::RootCertStore;

    use super::*;
    use crate::transport::tls::provider::provider;

    const NAMES: [&str; 3] = ["a.test", "b.a.test", "203.0.113.9"];
    /// Where the certificates begin and end, in seconds: before, at and after each edge.
    const BEGINS: [u64; 3] = [1_000_000_000, 1_000_000_500, 1_000_004_000];
    const ENDS: [u64; 3] = [1_000_002_000, 1_000_005_000, 1_000_009_000];

    /// A chain of a target: the leaf, and what it shows beside it.
    type Chain = (CertificateDer<'static>, Vec<CertificateDer<'static>>);

    struct World {
        plain: Arc<WebPkiServerVerifier>,
        chains: Vec<Chain>,
    }

    fn at(second: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(second))
    }

    fn params(names: &[&str], begin: u64, end: u64) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let date = |second: u64| {
            rcgen::date_time_ymd(2001, 9, 9)
                + Duration::from_secs(second - 1_000_000_000)
                + Duration::from_secs(6400)
        };
        (params.not_before, params.not_after) = (date(begin), date(end));
        params
    }

    fn authority(begin: u64, end: u64) -> CertificateParams {
        let mut params = params(&[], begin, end);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn key() -> KeyPair {
        KeyPair::generate().expect("a key")
    }

    fn world() -> World {
        let of =
            |params: CertificateParams| CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let root = of(authority(BEGINS[0], ENDS[2]));
        let stranger = of(authority(BEGINS[0], ENDS[2]));
        let mut chains: Vec<Chain> = Vec::new();
        for (begin, end) in BEGINS.into_iter().zip(ENDS).chain([(BEGINS[0], ENDS[2])]) {
            let middle =
                CertifiedIssuer::signed_by(authority(begin, end), key(), &root).expect("an intermediate");
            for names in [&["a.test"][..], &["*.a.test", "203.0.113.9"]] {
                let leaf = |issuer: &rcgen::Issuer<'_, KeyPair>| {
                    let key = key();
                    params(names, begin, end).signed_by(&key, issuer).expect("a leaf").der().clone()
                };
                let below = params(names, BEGINS[0], ENDS[2])
                    .signed_by(&key(), &middle)
                    .expect("a leaf")
                    .der()
                    .clone();
                let middle = middle.der().clone();
                chains.push((leaf(&root), vec![]));
                chains.push((leaf(&root), vec![middle.clone()]));
                chains.push((leaf(&stranger), vec![]));
                chains.push((below.clone(), vec![middle]));
                chains.push((below, vec![]));
            }
        }
        let mut store = RootCertStore::empty();
        store.add(root.der().clone()).expect("a root");
        let plain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build().expect("roots");
        World { plain, chains }
    }

    fn asked(
        verifier: &dyn ServerCertVerifier,
        (leaf, others): &Chain,
        name: &str,
        second: u64,
    ) -> Result<(), Error> {
        let name = ServerName::try_from(name).expect("a name");
        verifier.verify_server_cert(leaf, others, &name, &[], at(second)).map(|_| ())
    }

    /// Counts what rustls is asked.
    #[derive(Debug)]
    struct Counted(Arc<WebPkiServerVerifier>, AtomicUsize);

    impl ServerCertVerifier for Counted {
        fn verify_server_cert(
            &self,
            leaf: &CertificateDer<'_>,
            others: &[CertificateDer<'_>],
            name: &ServerName<'_>,
            ocsp: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            self.1.fetch_add(1, Relaxed);
            self.0.verify_server_cert(leaf, others, name, ocsp, now)
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls12_signature(message, leaf, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls13_signature(message, leaf, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    }

    /// Whatever was asked before, at whatever time: the verdict is that of rustls without a memory.
    #[test]
    fn the_verdict_is_always_that_of_rustls() {
        let world = world();
        let count = world.chains.len();
        let seconds: Vec<u64> =
            BEGINS.into_iter().chain(ENDS).flat_map(|second| [second - 1, second, second + 1]).collect();
        let step = (0..count, 0..NAMES.len(), 0..seconds.len());
        let (accepted, spared) = (AtomicUsize::new(0), AtomicUsize::new(0));
        proptest!(ProptestConfig::with_cases(64), |(steps in proptest::collection::vec(step, 1..60))| {
            let counted = Arc::new(Counted(Arc::clone(&world.plain), AtomicUsize::new(0)));
            let ours = Verifier::over(Arc::<Counted>::clone(&counted));
            for (chain, name, second) in &steps {
                let of = (&world.chains[*chain], NAMES[*name], seconds[*second]);
                let expected = asked(&*world.plain, of.0, of.1, of.2);
                let got = asked(&ours, of.0, of.1, of.2);
                prop_assert_eq!(&got, &expected, "chain {} for {} at {}", chain, of.1, of.2);
                accepted.fetch_add(usize::from(got.is_ok()), Relaxed);
            }
            spared.fetch_add(steps.len() - counted.1.load(Relaxed), Relaxed);
        });
        assert!(
            accepted.load(Relaxed) > 20 && spared.load(Relaxed) > 0,
            "{accepted:?} accepted, {spared:?} spared"
        );
    }

    #[test]
    fn a_chain_is_verified_once_an_hour_and_each_name_apart() {
        let world = world();
        let whole = world.chains.len() - 10;
        let chain = &world.chains[whole];
        let counted = Arc::new(Counted(Arc::clone(&world.plain), AtomicUsize::new(0)));
        let ours = Verifier::over(Arc::<Counted>::clone(&counted));
        let start = BEGINS[0] + 10;
        let hour = KEPT.as_secs();
        // The second; the name; whether it is good; how often rustls was asked so far.
        let rows = [
            (start, "a.test", true, 1),
            (start + hour - 1, "a.test", true, 1),
            (start + hour, "a.test", true, 2),
            // The clock was set back.
            (start, "a.test", true, 3),
            (start, "b.a.test", false, 4),
            (start, "b.a.test", false, 5),
        ];
        for (second, name, good, times) in rows {
            assert_eq!(asked(&ours, chain, name, second).is_ok(), good, "{name} at {second}");
            assert_eq!(counted.1.load(Relaxed), times, "{name} at {second}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_ends_first_goes_first() {
        let ours = Verifier::over(Arc::new(Counted(world().plain, AtomicUsize::new(0))));
        let of = |number: u64| {
            let mut key = [0; SHA256_OUTPUT_LEN];
            key[..8].copy_from_slice(&number.to_be_bytes());
            key
        };
        for number in 0..2 * MOST as u64 {
            ours.keep(of(number), Span { from: at(0), until: at(10 + number) });
        }
        assert_eq!(ours.good.lock().expect("no panic").len(), MOST);
        assert!(!ours.is_good(&of(MOST as u64 - 1), at(1)) && ours.is_good(&of(MOST as u64), at(1)));
    }
}
