//! What clients see of an authority and its leaves. Here: an authority to test with.

mod authorities;
mod leaves;
mod sessions;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, SigningKey as _, date_time_ymd,
};

use super::*;
use crate::transport::tls::PemFile;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DAY: Duration = Duration::from_secs(86_400);

/// A root, and the files of an authority below it.
struct Made {
    root: String,
    certificate: String,
    key: String,
}

/// What `egressd ca new` makes, but for the dates: 2020 to 2090.
fn params(name: &str, permitted: &[&str], below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    if !permitted.is_empty() {
        let all = ["0.0.0.0/0", "::/0"].map(|all| all.parse::<IpNet>().unwrap());
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted
                .iter()
                .map(|name| GeneralSubtree::DnsName((*name).to_owned()))
                .collect(),
            excluded_subtrees: all
                .map(|all| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(all.addr(), 0)))
                .to_vec(),
        });
    }
    params
}

/// An authority with `key`, after `change`.
fn authority_of(key: &KeyPair, permitted: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Made {
    let root_key = KeyPair::generate().unwrap();
    let root = params("a root", &[], 1);
    let root_certificate = root.self_signed(&root_key).unwrap().pem();
    let mut own = params("an authority", permitted, 0);
    change(&mut own);
    let certificate = own.signed_by(key, &Issuer::new(root, root_key)).unwrap().pem();
    Made { root: root_certificate, certificate, key: key.serialize_pem() }
}

fn authority(permitted: &[&str]) -> Made {
    authority_of(&KeyPair::generate().unwrap(), permitted, |_| {})
}

fn load(made: &Made) -> Result<LoadedAuthority, Vec<String>> {
    let file =
        |name: &str, text: &str| PemFile { path: PathBuf::from(name), bytes: text.as_bytes().to_vec() };
    Authority::from_pem(&file("ca.crt", &made.certificate), &file("ca.key", &made.key), Timestamp::now())
        .map_err(|problems| problems.iter().map(|problem| format!("{}:{problem}", problem.line)).collect())
}

fn minter(made: &Made) -> Minter {
    Minter::new(load(made).unwrap().authority, DAY).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}
