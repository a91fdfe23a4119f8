//! The root of an earlier `ca new`, which is to sign another authority: read, and asked whether it may.

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::make::Pair;
use super::write::{ROOT, ROOT_KEY};
use crate::transport::tls::PemFile;
use crate::transport::tls::mint::Authority;
use crate::words::io_error::reason;
use crate::words::target::Name;

/// The root in `directory`, if it may sign an authority for `hosts` that lasts for `days`.
///
/// # Errors
/// A sentence.
pub(super) fn read(directory: &Path, hosts: &[Name], days: u16, now: Timestamp) -> Result<Pair, String> {
    let read = |name: &str| {
        let path = directory.join(name);
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {}", path.display(), reason(&error)))?;
        Ok::<_, String>((PemFile { path, bytes: text.clone().into_bytes() }, text))
    };
    let (certificate_file, certificate) = read(ROOT)?;
    let (key_file, key) = read(ROOT_KEY)?;
    let loaded = Authority::from_pem(&certificate_file, &key_file, now)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let root = loaded.authority;
    if let Some(host) = hosts.iter().find(|host| !root.constraints().permit_all_below(host.as_str(), true)) {
        return Err(format!(
            "the root in {} may not sign for {host}, by its name constraints: make a new root, without --root",
            directory.display()
        ));
    }
    let until =
        now.saturating_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX);
    if until > root.expires() {
        return Err(format!(
            "the root in {} expires at {}, before the authority would: write fewer --days, or make a new root",
            directory.display(),
            root.expires()
        ));
    }
    Ok(Pair { certificate, key })
}
