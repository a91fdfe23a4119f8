//! PEM files: what is in them, and messages where that is not what is needed. Not here: reading them from disk.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use x509_parser::asn1_rs::Any;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// The kinds of sections that are looked for, as messages name them.
pub(super) const CERTIFICATE: &str = "certificate";
pub(super) const KEY: &str = "private key";
pub(super) const LIST: &str = "certificate revocation list";

/// The files of one listener. Each is read once, so that what is checked is what is used.
#[derive(Clone, Debug)]
pub struct TlsPem {
    /// The certificate and its chain, the listener's own first.
    pub certificate: PemFile,
    /// Its private key.
    pub key: PemFile,
    /// The CAs of client certificates. If it is set, a client certificate is required.
    pub client_ca: Option<PemFile>,
    /// What these CAs have revoked.
    pub client_crl: Option<PemFile>,
}

/// A file and its bytes.
#[derive(Clone)]
pub struct PemFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// The content. It may be a private key, so `Debug` does not show it.
    pub bytes: Vec<u8>,
}

/// What is wrong with a file. The text quotes nothing from the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileProblem {
    /// The file.
    pub file: PathBuf,
    /// The line that it is about, counted from 1; 1 if it is about the whole file.
    pub line: u32,
    /// What is wrong, and where possible what to do.
    pub text: String,
}

impl FileProblem {
    pub(super) fn new(file: &Path, line: u32, text: impl Into<String>) -> Self {
        FileProblem { file: file.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.text)
    }
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFile").field("path", &self.path).field("len", &self.bytes.len()).finish()
    }
}

impl PemFile {
    /// The sections of a kind, at least one. `wanted` names the kind in messages.
    pub(super) fn sections(
        &self,
        wanted: &str,
        is_wanted: impl Fn(SectionKind) -> bool,
    ) -> Result<Vec<(SectionKind, Vec<u8>)>, FileProblem> {
        let sections: Vec<(SectionKind, Vec<u8>)> = PemObject::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| match self.is_encrypted() {
                true => self.problem(format!("holds no {wanted} in PEM form{ENCRYPTED}")),
                false => self.problem(of_pem(&error)),
            })?;
        let found = sections.first().map(|(kind, _)| *kind);
        let mut sections = sections;
        sections.retain(|(kind, _)| is_wanted(*kind));
        if sections.is_empty() {
            let instead = self.found_instead(wanted, found);
            return Err(self.problem(format!("holds no {wanted} in PEM form{instead}")));
        }
        Ok(sections)
    }

    /// The lines on which sections with this label begin, in the order of [`PemFile::sections`].
    pub(super) fn lines_of(&self, label: &str) -> impl Iterator<Item = u32> {
        let begin = format!("-----BEGIN {label}-----").into_bytes();
        (1..)
            .zip(self.bytes.split(|byte| *byte == b'\n'))
            .filter(move |(_, line)| line.starts_with(&begin))
            .map(|(number, _)| number)
    }

    /// A problem of the whole file.
    pub(super) fn problem(&self, text: impl Into<String>) -> FileProblem {
        self.problem_at(1, text)
    }

    /// A problem of what begins on this line.
    pub(super) fn problem_at(&self, line: u32, text: impl Into<String>) -> FileProblem {
        FileProblem::new(&self.path, line, text)
    }

    /// What the file holds instead: swapped names and passphrases are the usual mistakes.
    fn found_instead(&self, wanted: &str, found: Option<SectionKind>) -> String {
        let text = match found {
            Some(SectionKind::Certificate) => " but a certificate: are two files swapped?",
            Some(SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey) => {
                " but a private key: are two files swapped?"
            }
            Some(SectionKind::Crl) => " but a certificate revocation list: are two files swapped?",
            Some(SectionKind::Csr) => {
                " but a certificate signing request: use the certificate that the CA issued for it"
            }
            Some(SectionKind::PublicKey) => " but a public key",
            _ if self.is_encrypted() => ENCRYPTED,
            _ if self.holds("-----BEGIN") => " but a section of another kind",
            _ if self.bytes.is_empty() => ": it is empty",
            _ => return in_der(&self.bytes, wanted).unwrap_or_default(),
        };
        text.to_owned()
    }

    /// A key with a passphrase, in the form of PKCS #8 or in OpenSSL's own, which has a header in the section (`Proc-Type`).
    fn is_encrypted(&self) -> bool {
        self.holds("ENCRYPTED")
    }

    fn holds(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

const ENCRYPTED: &str = " but an encrypted key, and egressd has no passphrase for it: `openssl pkey -in FILE -out NEW` decrypts it";

/// What to do about a file that is not PEM but its binary form, DER. `wanted` is [`CERTIFICATE`], [`KEY`] or [`LIST`].
pub(super) fn in_der(bytes: &[u8], wanted: &str) -> Option<String> {
    if !bytes.starts_with(&[0x30]) {
        return None;
    }
    let is = |kind: &str| match kind {
        CERTIFICATE => matches!(X509Certificate::from_der(bytes), Ok(([], _))),
        LIST => matches!(CertificateRevocationList::from_der(bytes), Ok(([], _))),
        _ => false,
    };
    if let Some(other) = [CERTIFICATE, LIST].into_iter().find(|kind| *kind != wanted && is(kind)) {
        return Some(format!(" but a {other} in DER form: are two files swapped?"));
    }
    // SEQUENCE { INTEGER 3, …: a PFX (RFC 7292, section 4). A key has another version.
    let content = Any::from_der(bytes).map(|(_, outer)| outer.data);
    if content.is_ok_and(|content| content.starts_with(&[2, 1, 3, 0x30])) {
        let part = match wanted {
            KEY => "-nocerts",
            CERTIFICATE => "-nokeys",
            _ => return Some(" but a PKCS #12 file, which has none".to_owned()),
        };
        return Some(format!(
            " but a PKCS #12 file: `openssl pkcs12 -in FILE {part} -nodes -out NEW` converts it"
        ));
    }
    let command = match wanted {
        KEY => "pkey",
        LIST => "crl",
        _ => "x509",
    };
    Some(format!(": it may be DER, which `openssl {command} -inform der -in FILE -out NEW` converts"))
}

/// Quotes nothing from the file: it may be a key.
fn of_pem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no END line: the file is cut off",
        pem::Error::IllegalSectionStart { .. } => "a PEM section begins with a malformed BEGIN line",
        pem::Error::Base64Decode(_) => "a PEM section is not valid base64",
        _ => "is not valid PEM",
    }
}
