//! One leaf: the certificate that a client of an inspected tunnel sees, for one name and signed by the authority.
//!
//! The bytes are written here, because the issuer must be the authority's subject byte for byte: clients compare it so, and
//! a writer that makes it anew from parsed parts loses what real authorities have, such as two `DC` or two `OU`.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use jiff::{SignedDuration, Timestamp};
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::authority::Authority;
use super::der::{self, BIT_STRING, INTEGER, OCTET_STRING, SEQUENCE};
use super::error::MintError;
use crate::words::target::Name;

/// How long before it is made a leaf begins: clients' clocks are not exact.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

// Contents of object identifiers.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

/// A leaf and its dates.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// The public key of leaves, as a certificate has it.
#[derive(Debug)]
pub(super) struct PublicKey {
    info: Box<[u8]>,
    identifier: [u8; 20],
}

impl PublicKey {
    /// `info` is the SubjectPublicKeyInfo.
    pub(super) fn new(info: &[u8]) -> Self {
        // RFC 7093 section 2 has several ways; any is good that differs from key to key. A hash over all of the field.
        let hash: [u8; 32] = Sha256::digest(info).into();
        let mut identifier = [0; 20];
        identifier.copy_from_slice(hash.first_chunk::<20>().unwrap_or(&[0; 20]));
        PublicKey { info: info.into(), identifier }
    }
}

/// Whether the authority may sign for `name`, and now.
///
/// # Errors
/// [`MintError`].
pub(super) fn may_mint(authority: &Authority, name: &Name, now: Timestamp) -> Result<(), MintError> {
    if !authority.may_sign_name(name) {
        return Err(MintError::NotPermitted);
    }
    if now >= authority.expires() {
        return Err(MintError::Expired(authority.expires()));
    }
    if now < authority.not_before() {
        return Err(MintError::NotYetValid(authority.not_before()));
    }
    Ok(())
}

/// Makes the leaf of `name`.
///
/// # Errors
/// [`MintError`]: the authority may not sign for the name, or not now, or cannot.
pub(super) fn mint(
    authority: &Authority,
    key: &PublicKey,
    name: &Name,
    lifetime: SignedDuration,
    now: Timestamp,
) -> Result<Leaf, MintError> {
    may_mint(authority, name, now)?;
    let whole = |moment: Timestamp| Timestamp::from_second(moment.as_second()).unwrap_or(moment);
    let not_before =
        whole(now.saturating_sub(BACKDATED).unwrap_or(Timestamp::MIN)).max(authority.not_before());
    let not_after = whole(now.saturating_add(lifetime).unwrap_or(Timestamp::MAX)).min(authority.expires());

    let algorithm = algorithm(authority.scheme);
    let body = der::value(
        SEQUENCE,
        &[
            // Version 3.
            &der::value(der::explicit(0), &[&der::value(INTEGER, &[&[2]])]),
            &der::value(INTEGER, &[&random_serial()?]),
            &algorithm,
            &authority.subject,
            &der::value(SEQUENCE, &[&der::time(not_before), &der::time(not_after)]),
            // No subject: the name is in the field that clients read, and may be longer than the 64 characters of a CN.
            &der::value(SEQUENCE, &[]),
            &key.info,
            &der::value(der::explicit(3), &[&extensions(authority, key, name)]),
        ],
    );
    let signer = authority.key.choose_scheme(&[authority.scheme]).ok_or(MintError::Signature)?;
    let signature = signer.sign(&body).map_err(|_| MintError::Signature)?;
    // The first octet: no unused bits in the last one.
    let signature = der::value(BIT_STRING, &[&[0], &signature]);
    let certificate = der::value(SEQUENCE, &[&body, &algorithm, &signature]).into();
    Ok(Leaf { certificate, not_before, not_after })
}

/// 128 random bits behind an octet that keeps the number positive, and its encoding of one length (RFC 5280 section 4.1.2.2
/// allows 20 octets).
///
/// # Errors
/// [`MintError::Random`].
pub(crate) fn random_serial() -> Result<[u8; 17], MintError> {
    let mut serial = [1; 17];
    let [_, random @ ..] = &mut serial;
    SystemRandom::new().fill(random).map_err(|_| MintError::Random)?;
    Ok(serial)
}

pub(super) fn algorithm(scheme: SignatureScheme) -> Vec<u8> {
    let (identifier, parameters): (_, &[u8]) = match scheme {
        SignatureScheme::ECDSA_NISTP384_SHA384 => (ECDSA_SHA384, &[]),
        // RFC 4055 section 5: NULL.
        SignatureScheme::RSA_PKCS1_SHA256 => (RSA_SHA256, &[5, 0]),
        _ => (ECDSA_SHA256, &[]),
    };
    der::value(SEQUENCE, &[&der::value(der::OBJECT_IDENTIFIER, &[identifier]), parameters])
}

fn extensions(authority: &Authority, key: &PublicKey, name: &Name) -> Vec<u8> {
    let issuer = authority.key_identifier.as_ref().map_or_else(Vec::new, |identifier| {
        let identifier = der::value(SEQUENCE, &[&der::value(der::implicit(0), &[identifier])]);
        der::extension(AUTHORITY_KEY_IDENTIFIER, false, &identifier)
    });
    let own = der::value(OCTET_STRING, &[&key.identifier]);
    let names = der::value(SEQUENCE, &[&der::value(der::implicit(2), &[name.as_str().as_bytes()])]);
    let purpose = der::value(SEQUENCE, &[&der::value(der::OBJECT_IDENTIFIER, &[SERVER_AUTH])]);
    der::value(
        SEQUENCE,
        &[
            // Critical, because there is no subject (RFC 5280 section 4.2.1.6).
            &der::extension(SUBJECT_ALTERNATIVE_NAME, true, &names),
            // digitalSignature: the first of eight bits, and seven unused.
            &der::extension(KEY_USAGE, true, &der::value(BIT_STRING, &[&[7, 0x80]])),
            &der::extension(EXTENDED_KEY_USAGE, false, &purpose),
            // Not an authority's: the default, which DER leaves out.
            &der::extension(BASIC_CONSTRAINTS, true, &der::value(SEQUENCE, &[])),
            &der::extension(SUBJECT_KEY_IDENTIFIER, false, &own),
            &issuer,
        ],
    )
}
