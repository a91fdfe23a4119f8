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

#[cfg(test)]
mod tests {
    use super::super::make::{Terms, make};
    use super::super::write;
    use super::*;

    #[test]
    fn a_root_signs_only_for_its_hosts_and_not_beyond_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let names =
            |hosts: &[&str]| -> Vec<Name> { hosts.iter().map(|host| Name::parse(host).unwrap()).collect() };
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let of = |hosts: &[Name], open_root| {
            make(&Terms { hosts, open_root, days: 30, root_days: 100, root: None, now }).unwrap()
        };
        let (closed, open) = (directory.path().join("closed"), directory.path().join("open"));
        write::write(&closed, &of(&names(&["git.example.com"]), false)).unwrap();
        write::write(&open, &of(&names(&["git.example.com"]), true)).unwrap();
        for (root, hosts, days, want) in [
            (&closed, &["git.example.com", "a.git.example.com"][..], 90, Ok(())),
            (&closed, &["git.example.com", "example.com"], 90, Err("may not sign for example.com")),
            (&open, &["example.org"], 90, Ok(())),
            (
                &open,
                &["example.org"],
                101,
                Err("expires at 2027-03-10T00:00:00Z, before the authority would"),
            ),
        ] {
            match (read(root, &names(hosts), days, now), want) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(want)) => assert!(error.contains(want), "{error}"),
                (got, want) => panic!("{hosts:?} {days}: {want:?}, got {}", got.is_ok()),
            }
        }
        std::fs::copy(open.join("root.key"), closed.join("root.key")).unwrap();
        let error = read(&closed, &names(&["git.example.com"]), 30, now).err().unwrap();
        assert!(error.contains("does not belong to the certificate in"), "{error}");
        let error = read(&directory.path().join("none"), &[], 30, now).err().unwrap();
        assert!(error.contains("root.crt: there is no such file"), "{error}");
    }
}
