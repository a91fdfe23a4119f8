//! Whether GitLab trusts the root of inspection: what lies in its trusted-certs, and whether reconfigure has linked it.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::read::{self, Unread, is_missing};
use crate::commands::doctor::finding::{Finding, FindingState, finding};
use crate::transport::tls::authorities::Authorities;
use crate::words::io_error::reason;
use crate::words::small_sort::SmallSort as _;

/// Most files of a directory that are read; a system has some 300 links.
const MOST_FILES: usize = 2_000;
/// How the names of `egressd ca new` begin.
const OURS: &str = "egressd inspection";

/// The root that should be trusted, and where it was read.
#[derive(Debug)]
pub(crate) struct InspectionRoot {
    file: PathBuf,
    certificate: CertificateDer<'static>,
}

/// Reads the root from its file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn inspection_root(file: &Path) -> Result<InspectionRoot, String> {
    let shown = file.display();
    let pem = fs::read(file)
        .map_err(|error| format!("--inspection-root: cannot read {shown}: {}", reason(&error)))?;
    let authorities =
        Authorities::parse(&pem, |_| {}).map_err(|why| format!("--inspection-root: {shown}: {why}"))?;
    let mut all = authorities.iter();
    match (all.next(), all.next()) {
        (Some(certificate), None) => {
            Ok(InspectionRoot { file: file.to_owned(), certificate: certificate.clone() })
        }
        _ => Err(format!("--inspection-root: {shown}: the file must hold the root alone")),
    }
}

/// What a directory holds.
#[derive(Default)]
struct Held {
    /// Each file with its certificates.
    files: Vec<(PathBuf, Vec<CertificateDer<'static>>)>,
    /// The directory or the first file that could not be read.
    unread: Option<Unread>,
}

/// The certificates of each file in a directory. One that is not there holds none.
fn certificates(directory: &Path) -> Held {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Held::default(),
        Err(error) => {
            return Held { unread: Some(Unread::new(directory, error)), ..Held::default() };
        }
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| !path.is_dir()).take(MOST_FILES).collect();
    files.small_sort();
    let mut held = Held::default();
    for path in files {
        match read::text(&path) {
            Ok(text) => {
                let text = text.unwrap_or_default();
                let found = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).collect();
                held.files.push((path, found));
            }
            Err(unread) => {
                held.unread.get_or_insert(unread);
            }
        }
    }
    held
}

fn is_ours(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, read)| {
        read.subject().iter_common_name().any(|name| name.as_str().is_ok_and(|name| name.starts_with(OURS)))
    })
}

/// The finding about it. `run` is the command that is to run as root if something cannot be read.
pub(super) fn trusted(root: &Path, wanted: Option<&InspectionRoot>, run: &str) -> Finding {
    let told = |state, text: String| finding("trusted", state, text);
    let (given, linked) = (root.join("etc/gitlab/trusted-certs"), root.join("opt/gitlab/embedded/ssl/certs"));
    let matches = |certificate: &CertificateDer<'static>| match wanted {
        Some(wanted) => *certificate == wanted.certificate,
        None => is_ours(certificate),
    };
    let in_given = certificates(&given);
    let matching = in_given.files.into_iter().find(|(_, found)| found.iter().any(matches));
    let Some((file, found)) = matching else {
        if let Some(unread) = in_given.unread {
            let text =
                format!("whether GitLab trusts the root of inspection is not known: {}", unread.told(run));
            return told(FindingState::Open, text);
        }
        let file = wanted.map_or_else(|| "root.crt".to_owned(), |wanted| wanted.file.display().to_string());
        let line = format!(
            "install -m 644 {file} /etc/gitlab/trusted-certs/egressd-inspection.crt && gitlab-ctl reconfigure, on every node"
        );
        return match wanted {
            Some(_) => told(
                FindingState::Wrong,
                format!("{} does not have the root of inspection: {line}", given.display()),
            ),
            None => told(
                FindingState::Open,
                format!(
                    "{} has no root of egressd's inspection, which is needed only for what a rule inspects: {line}",
                    given.display()
                ),
            ),
        };
    };
    let shown = file.display();
    if found.len() > 1 {
        let text = format!(
            "{shown} holds {} certificates, and GitLab takes one from each file: split it, then gitlab-ctl reconfigure",
            found.len()
        );
        return told(FindingState::Wrong, text);
    }
    let in_linked = certificates(&linked);
    if !in_linked.files.iter().any(|(_, found)| found.iter().any(matches)) {
        if let Some(unread) = in_linked.unread {
            let text = format!(
                "{shown} is there; whether GitLab has taken it over is not known: {}",
                unread.told(run)
            );
            return told(FindingState::Open, text);
        }
        let text = format!(
            "{shown} is there, but not in {}, where git and Ruby look: gitlab-ctl reconfigure",
            linked.display()
        );
        return told(FindingState::Wrong, text);
    }
    told(FindingState::Fine, format!("{shown} holds the root of inspection, and GitLab has taken it over"))
}
