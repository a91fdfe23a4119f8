//! The authority for inspection: its files are read here, so that the checked bytes are the bytes that are used and hashed.
//! Not here: what they mean ([`crate::transport::tls::mint`]), and which rules inspect.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::file::InspectionFile;
use super::finding::{Position, Report};
use super::keys::{HOUR, Key, duration, required};
use super::named_files::NamedFiles;
use super::settings::Inspection;
use super::typed::At;
use super::values::FilePath;
use crate::transport::tls::mint::{Authority, LoadedAuthority, Minter};
use crate::transport::tls::{FileProblem, PemFile};

const DAY: Duration = Duration::from_secs(86_400);
/// Clients' clocks are not exact, and a leaf costs less than its handshake: neither less nor more would help.
const LIFETIME: RangeInclusive<Duration> = HOUR..=Duration::from_secs(7 * 86_400);

/// The authority that `key` means.
pub(super) fn inspection(
    key: &Key<InspectionFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Inspection> {
    let at = key.as_ref()?;
    let file = at.value.as_ref()?;
    let certificate = required(report, &file.certificate, at.position, "certificate", "certificate: ca.crt");
    let key = required(report, &file.key, at.position, "key", "key: ca.key");
    let certificate = certificate.and_then(|at| pem(at, report, files));
    let key = key.and_then(|at| pem(at, report, files));
    let lifetime = duration(report, &file.leaf_lifetime, "leaf_lifetime", DAY, LIFETIME);
    let (certificate, key) = (certificate?, key?);
    let tell = |problem: FileProblem, is_error: bool| {
        let report = report.of(&problem.file.display().to_string());
        let position = Position { line: problem.line, column: 1 };
        match is_error {
            true => report.error(position, problem.text),
            false => report.warning(position, problem.text),
        }
    };
    let LoadedAuthority { authority, warnings } = Authority::from_pem(&certificate, &key, Timestamp::now())
        .map_err(|problems| problems.into_iter().for_each(|problem| tell(problem, true)))
        .ok()?;
    warnings.into_iter().for_each(|problem| tell(problem, false));
    match Minter::new(authority, lifetime) {
        Ok(minter) => Some(Inspection { minter: Arc::new(minter) }),
        Err(why) => {
            report.error(at.position, format!("inspection cannot be set up: {why}"));
            None
        }
    }
}

fn pem(at: &At<FilePath>, report: &Report<'_>, files: &mut NamedFiles<'_>) -> Option<PemFile> {
    let name = &*at.value.as_ref()?.0;
    let bytes = files.read(name, at.position, report)?;
    Some(PemFile { path: files.path(name), bytes })
}
