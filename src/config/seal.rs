//! The key that seals the access log: its file is read here, so that the checked bytes are the bytes that are used and hashed.
//! Not here: what a seal is ([`crate::wire::seal`]).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::file::SealFile;
use super::finding::Report;
use super::keys::{HOUR, Key, SECOND, duration, required};
use super::named_files::NamedFiles;
use super::secret_files::{Secret, tell_of_readers};
use super::settings::{LogFormat, Seal};
use crate::wire::seal::key::SealKey;
use crate::words::quote::quoted;

/// More often would say no more: a record that is not sealed yet is lost by a kill alone.
const EVERY: RangeInclusive<Duration> = SECOND..=HOUR;

/// How the log is sealed, by `key`. `format` is that of its lines.
pub(super) fn seal(
    key: &Key<SealFile>,
    format: &LogFormat,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Seal> {
    let at = key.as_ref()?;
    let file = at.value.as_ref()?;
    if let Some(why) = cannot_be_sealed(format) {
        report.error(at.position, why);
    }
    let every = duration(report, &file.every, "every", 10 * SECOND, EVERY);
    let named = required(report, &file.key, at.position, "key", "key: seal.key")?;
    let name = &*named.value.as_ref()?.0;
    let content = files.read(name, named.position, report)?;
    tell_of_readers(Secret::SealKey, (files, name), named.position, report);
    match SealKey::from_pem(&content) {
        Ok(key) => Some(Seal { key: Arc::new(key), every }),
        Err(why) => {
            let file = quoted(&files.path(name).display().to_string());
            report.error(named.position, format!("the file {file} {why}"));
            None
        }
    }
}

/// Why a log in this format has no seals.
fn cannot_be_sealed(format: &LogFormat) -> Option<&'static str> {
    match format {
        LogFormat::Json | LogFormat::Ecs | LogFormat::Ocsf => None,
        LogFormat::Squid | LogFormat::Custom(_) => Some(
            "only lines of JSON have room for their place and a canonical form to sign, and Squid's formats have neither: remove \
             `format` or `seal`",
        ),
    }
}
