//! The keys of seals: Ed25519 (RFC 8032), in PEM files as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`
//! write them (RFC 8410). An error never shows a byte of a file.

use std::fmt;
use std::fmt::Write as _;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::{self, PemObject, SectionKind};

/// What is in front of the 32 bytes of an Ed25519 key in its DER (RFC 8410 §4).
const ALGORITHM: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The secret half: it signs.
pub struct SealKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// The public half: it proves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    bytes: [u8; 32],
    fingerprint: Box<str>,
}

impl SealKey {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn generate() -> Result<Self, String> {
        let pair = Ed25519KeyPair::generate().map_err(|_| "no key could be made".to_owned())?;
        SealKey::new(pair)
    }

    /// The key in a PEM file.
    ///
    /// # Errors
    /// What is there instead, and what to write.
    pub fn from_pem(content: &[u8]) -> Result<Self, String> {
        if memchr::memmem::find(content, b"ENCRYPTED").is_some() {
            return Err(
                "holds an encrypted key, and nobody is there to type its passphrase: write it without one, by `openssl \
                 pkey -in KEY -out seal.key`"
                    .to_owned(),
            );
        }
        let sections = sections(content)?;
        let key = match sections.as_slice() {
            [(SectionKind::PrivateKey, key)] => key,
            [] => return Err(format!("holds no private key in PEM form: {MAKE}")),
            [(SectionKind::PublicKey, _)] => {
                return Err(format!(
                    "holds the public key, which is for `egressd verify`: name the private one; {MAKE}"
                ));
            }
            [(_, _)] => return Err(format!("holds something else than a private key in PKCS#8: {MAKE}")),
            _ => return Err(format!("holds more than one key: {MAKE}")),
        };
        let pair = Ed25519KeyPair::from_pkcs8(key)
            .map_err(|_| format!("holds a private key of another kind than Ed25519: {MAKE}"))?;
        SealKey::new(pair)
    }

    fn new(pair: Ed25519KeyPair) -> Result<Self, String> {
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| "has no public key".to_owned())?;
        Ok(SealKey { public: PublicKey::new(bytes), pair })
    }

    /// As a PEM file.
    ///
    /// # Errors
    /// The key cannot be written: a bug.
    pub fn to_pem(&self) -> Result<String, String> {
        // The first version of PKCS#8 is what other programs read.
        let document = self.pair.to_pkcs8v1().map_err(|_| "the key cannot be written".to_owned())?;
        Ok(pem("PRIVATE KEY", document.as_ref()))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature, which is always the same for the same bytes.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }
}

const MAKE: &str = "`egressd seal new --out DIR` makes a pair";

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl PartialEq for SealKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for SealKey {}

impl PublicKey {
    fn new(bytes: [u8; 32]) -> Self {
        let mut fingerprint = String::with_capacity(64);
        for byte in aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der(&bytes)).as_ref() {
            // Writing into a String cannot fail.
            let _ = write!(fingerprint, "{byte:02x}");
        }
        PublicKey { bytes, fingerprint: fingerprint.into() }
    }

    /// The keys in a PEM file, at least one.
    ///
    /// # Errors
    /// What is there instead, and what to write.
    pub fn from_pem(content: &[u8]) -> Result<Vec<Self>, String> {
        let sections = sections(content)?;
        if sections.is_empty() {
            return Err(
                "holds no public key in PEM form: name the seal.pub that `egressd seal new` made".to_owned()
            );
        }
        sections.into_iter().map(|(kind, key)| {
            match kind {
                SectionKind::PublicKey => {}
                SectionKind::PrivateKey => {
                    return Err("holds a private key, which belongs to egressd alone: name the seal.pub beside it".to_owned());
                }
                _ => return Err("holds something else than public keys".to_owned()),
            }
            let bytes = key.strip_prefix(&ALGORITHM).and_then(|bytes| bytes.try_into().ok());
            bytes.map(PublicKey::new).ok_or_else(|| "holds a public key of another kind than Ed25519".to_owned())
        })
        .collect()
    }

    /// As a PEM file.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &der(&self.bytes))
    }

    /// SHA-256 of its DER form, in hex: `openssl pkey -pubin -in seal.pub -outform DER | sha256sum`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether its secret half signed these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.bytes).verify(bytes, signature).is_ok()
    }
}

fn der(bytes: &[u8; 32]) -> Vec<u8> {
    [&ALGORITHM[..], bytes].concat()
}

fn sections(content: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, String> {
    PemObject::pem_slice_iter(content)
        .collect::<Result<_, pem::Error>>()
        .map_err(|_| "is not a PEM file".to_owned())
}

fn pem(label: &str, der: &[u8]) -> String {
    // Both kinds of key fit on one line, of at most 64 characters (RFC 7468 §2).
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_survives_its_files() {
        let key = SealKey::generate().expect("a key");
        let secret = key.to_pem().expect("a file");
        assert!(secret.lines().all(|line| line.len() <= 64), "{}", secret.lines().count());
        let again = SealKey::from_pem(secret.as_bytes()).expect("its own file");
        assert_eq!(again, key);
        let public = PublicKey::from_pem(key.public().to_pem().as_bytes()).expect("its own file");
        assert_eq!(public, [key.public().clone()]);
        assert!(public.first().expect("one").has_signed(b"text", &again.sign(b"text")));
        assert!(!public.first().expect("one").has_signed(b"Text", &again.sign(b"text")));
        assert!(!format!("{key:?}").contains("pair"));
    }

    #[test]
    fn any_other_file_is_told_apart() {
        let key = SealKey::generate().expect("a key");
        let (secret, public) = (key.to_pem().expect("a file"), key.public().to_pem());
        let ec = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAA\n-----END PUBLIC KEY-----\n";
        for (content, as_secret, as_public) in [
            (public.as_str(), "holds the public key", ""),
            (&secret, "", "holds a private key"),
            ("hello", "holds no private key", "holds no public key"),
            (&format!("{secret}{secret}"), "more than one key", "holds a private key"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "another kind than Ed25519",
                "private key",
            ),
            ("-----BEGIN PRIVATE KEY-----\n!\n", "not a PEM file", "not a PEM file"),
            (ec, "holds the public key", "another kind than Ed25519"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "something else",
                "something else",
            ),
        ] {
            let told = |got: Result<(), String>, want: &str| match got {
                Ok(()) => assert_eq!(want, "", "{content}"),
                Err(error) => assert!(!want.is_empty() && error.contains(want), "{content}: {error}"),
            };
            told(SealKey::from_pem(content.as_bytes()).map(|_| ()), as_secret);
            told(PublicKey::from_pem(content.as_bytes()).map(|_| ()), as_public);
        }
    }
}
