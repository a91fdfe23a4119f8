//! What the certificates of inspected tunnels cost.
//!
//! `cargo bench --bench mint` prints, for each kind of key that an authority may have, the microseconds of this thread's CPU
//! for a new leaf, and then for one that is kept; last, the MiB of resident memory that 10,000 names take. CPU figures are the
//! median of nine rounds.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use egressd::transport::tls::PemFile;
use egressd::transport::tls::mint::{Authority, Minter};
use egressd::words::target::Name;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize,
};

const ROUNDS: usize = 9;
const NAMES: usize = 10_000;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn minter(key: &KeyPair) -> Minter {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.self_signed(key).expect("a certificate").pem();
    let file = |name: &str, text: String| PemFile { path: PathBuf::from(name), bytes: text.into_bytes() };
    let certificate = file("ca.crt", certificate);
    let loaded = Authority::from_pem(&certificate, &file("ca.key", key.serialize_pem()), Timestamp::now());
    Minter::new(loaded.expect("usable").authority, Duration::from_secs(86_400)).expect("a key")
}

/// The CPU of this thread so far.
fn cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(told.split(' ').next().and_then(|text| text.parse().ok()).expect("a number"))
}

/// Resident memory, in bytes.
fn resident() -> usize {
    let told = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = told.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a number");
    pages * 4096
}

fn names(prefix: &str, count: usize) -> Vec<Name> {
    (0..count)
        .map(|number| Name::parse(&format!("{prefix}{number}.eu-west-1.example.com")).expect("a name"))
        .collect()
}

/// Microseconds for each of `names`: the median of the rounds.
fn each(minter: &Minter, rounds: &[Vec<Name>]) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut costs: Vec<f64> = rounds
        .iter()
        .map(|names| {
            let before = cpu();
            for name in names {
                runtime.block_on(minter.leaf(name, CLIENT)).expect("a leaf");
            }
            (cpu() - before).as_secs_f64() * 1e6 / names.len() as f64
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

fn main() {
    let kinds = [
        ("P-256", KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)),
        ("P-384", KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)),
        ("RSA 2048", KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)),
        ("RSA 4096", KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)),
    ];
    for (kind, key) in kinds {
        let minter = minter(&key.expect("a key"));
        let new: Vec<_> = (0..ROUNDS).map(|round| names(&format!("n{round}-"), 200)).collect();
        let minted = each(&minter, &new);
        // A clock tick is longer than 200 look-ups.
        let again: Vec<_> = std::iter::repeat_n(new.concat(), 100).flatten().collect();
        let kept = each(&minter, &[again]);
        println!("{kind}: {minted:.1} µs for a new leaf, {kept:.2} µs for one that is kept");
    }
    let minter = minter(&KeyPair::generate().expect("a key"));
    let all = names("a-bucket-with-a-name-", NAMES);
    let before = resident();
    each(&minter, &[all]);
    println!("{NAMES} names: {:.1} MiB", (resident() - before) as f64 / f64::from(1 << 20));
}
