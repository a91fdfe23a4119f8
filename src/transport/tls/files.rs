//! PEM files: what is in them, and messages where that is not what is needed. Not here: reading them from disk.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject, SectionKind};

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
            .map_err(|error| self.problem(of_pem(&error)))?;
        let found = sections.first().map(|(kind, _)| *kind);
        let mut sections = sections;
        sections.retain(|(kind, _)| is_wanted(*kind));
        if sections.is_empty() {
            return Err(self.problem(format!("holds no {wanted} in PEM form{}", self.found_instead(found))));
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
    fn found_instead(&self, found: Option<SectionKind>) -> &'static str {
        let holds = |text: &str| self.bytes.windows(text.len()).any(|window| window == text.as_bytes());
        match found {
            Some(SectionKind::Certificate) => " but a certificate: are two files swapped?",
            Some(SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey) => {
                " but a private key: are two files swapped?"
            }
            Some(SectionKind::Crl) => " but a certificate revocation list: are two files swapped?",
            Some(SectionKind::Csr) => {
                " but a certificate signing request: use the certificate that the CA issued for it"
            }
            Some(SectionKind::PublicKey) => " but a public key",
            _ if holds("ENCRYPTED") => {
                " but an encrypted key, and egressd has no passphrase for it: `openssl pkey -in FILE -out NEW` decrypts it"
            }
            _ if holds("-----BEGIN") => " but a section of another kind",
            _ if self.bytes.is_empty() => ": it is empty",
            _ if self.bytes.starts_with(&[0x30]) => {
                ": it may be DER, which `openssl x509 -inform der` or `openssl pkey -inform der` converts"
            }
            _ => "",
        }
    }
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
