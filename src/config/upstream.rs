//! What is between egressd and a target: a parent proxy, and the authorities that verify certificates.
//!
//! The files are read here and their contents are part of the configuration, so that the checked bytes are the bytes
//! that are used, and a reload picks up a changed file. Not here: the system's own store of authorities, which is not a
//! file of the configuration.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::file::{CertificatesFile, UpstreamProxyFile};
use super::finding::Report;
use super::keys::{Key, List, items, required, value};
use super::named_files::NamedFiles;
use super::policies::WrittenPolicies;
use super::secret_files::{Secret, tell_of_readers, user_password};
use super::typed::At;
use super::values::{FilePath, HostOrNetwork};
use crate::rules::{HostPattern, HostSet, MAX_INNER_STARS, lint};
use crate::transport::tls::authorities::{Authorities, Roots};
use crate::words::target::{Host, Port};

/// A parent proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamProxy {
    /// Whether egressd connects to it with TLS.
    pub tls: bool,
    /// Its name or address.
    pub host: Host,
    /// Its port.
    pub port: Port,
    /// The credentials that it requires.
    pub credentials: Option<Credentials>,
    /// CA bundle that verifies it; None: [`Certificates::roots`]. Only with `tls`.
    pub ca: Option<Authorities>,
    /// Targets that are reached without it.
    pub except: Arc<HostSet>,
}

/// `USER:PASSWORD`. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Box<str>);

impl Credentials {
    /// One line that was checked.
    pub(super) fn new(line: &str) -> Self {
        Credentials(line.into())
    }

    /// `USER:PASSWORD`, for the `Basic` scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Which certificate authorities are trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificates {
    /// For `verify_certificate` and an https parent.
    pub roots: Roots,
}

/// The parent that `key` means.
pub(super) fn proxy(
    key: &Key<UpstreamProxyFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<UpstreamProxy> {
    let at = key.as_ref()?;
    let file = at.value.as_ref()?;
    let url = required(report, &file.url, at.position, "url", "url: \"http://proxy.corp:3128\"");
    let credentials = file.credentials_file.as_ref().and_then(|at| {
        let content = read(at, report, files)?;
        tell_of_readers(Secret::Parent, (files, &at.value.as_ref()?.0), at.position, report);
        credentials(&content).map_err(|text| report.error(at.position, text)).ok()
    });
    let ca = file.ca.as_ref().and_then(|at| authorities(at, report, files));
    let url_at = url?;
    let url = &url_at.value.as_ref()?.0;
    if let (Some(ca), false) = (&file.ca, url.tls) {
        report.error(ca.position, "`ca` needs an https parent: write https:// in `url`, or remove `ca`");
    }
    if let (Some(credentials), false) = (&file.credentials_file, url.tls) {
        report.warning(
            credentials.position,
            "the password is sent to an http parent in cleartext: write https:// in `url`",
        );
    }
    let confusable = url.host.name().and_then(|name| lint::confusable(name.as_str()));
    if let Some(found) = confusable {
        report.warning(url_at.position, format!("the host {found}"));
    }
    report.warning(
        url_at.position,
        match value(&file.except).is_none_or(Vec::is_empty) {
            true => {
                "the parent resolves names, so `private`, `deny` networks, the block on metadata endpoints and `dns` no \
                 longer limit what a name resolves to: make the parent refuse internal addresses; egressd still checks \
                 names, ports, ClientHellos and literal addresses"
            }
            false => {
                "the parent resolves all names that are not under `except`, so for these `private`, `deny` networks, the block on \
                 metadata endpoints and `dns` no longer limit what a name resolves to: make the parent refuse internal addresses; \
                 egressd still checks names, ports, ClientHellos and literal addresses"
            }
        },
    );
    let except = Arc::new(except(&file.except, report));
    Some(UpstreamProxy { tls: url.tls, host: url.host.clone(), port: url.port, credentials, ca, except })
}

/// Warns of each policy that judges addresses by the name in the ClientHello, where a parent looks that name up.
pub(super) fn tell_names_of_a_parent(written: &[WrittenPolicies<'_>]) {
    let all = written.iter().flat_map(|file| items(file.list).map(move |(policy, _)| (policy, file)));
    for (policy, file) in all {
        if let Some(At { value: Some(true), position, .. }) = &policy.addresses_by_sni {
            file.report.warning(
                *position,
                "with `upstream_proxy` the parent looks up the name that a ClientHello shows, and reaches what it finds: make the parent refuse \
                 internal addresses, or put the names under `except`",
            );
        }
    }
}

/// The hosts that are reached directly.
fn except(list: &List<HostOrNetwork>, report: &Report<'_>) -> HostSet {
    let mut patterns: Vec<HostPattern> = Vec::new();
    let mut stars = 0;
    let mut seen = HashSet::new();
    for (HostOrNetwork(pattern), position) in items(list) {
        if !seen.insert(pattern) {
            report.warning(position, format!("`{pattern}` is listed twice: remove one of them"));
            continue;
        }
        if let HostPattern::Labels(_) = pattern {
            stars += 1;
            if stars == MAX_INNER_STARS + 1 {
                report.error(
                    position,
                    format!(
                        "more than {MAX_INNER_STARS} patterns with a `*` inside: write the names, or `*.name` for all names under one"
                    ),
                );
            }
        }
        patterns.push(pattern.clone());
    }
    HostSet::new(patterns)
}

/// The authorities that `key` means.
pub(super) fn certificates(
    key: &Key<CertificatesFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Certificates {
    let roots = match value(key).and_then(|file| file.roots.as_ref()) {
        Some(at) if at.value.as_ref().is_some_and(|path| &*path.0 != "system") => {
            authorities(at, report, files).map(Roots::Authorities)
        }
        _ => None,
    };
    Certificates { roots: roots.unwrap_or(Roots::System) }
}

pub(super) fn authorities(
    at: &At<FilePath>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Authorities> {
    let content = read(at, report, files)?;
    Authorities::parse(&content, |text| report.warning(at.position, text))
        .map_err(|text| report.error(at.position, text))
        .ok()
}

pub(super) fn read(at: &At<FilePath>, report: &Report<'_>, files: &mut NamedFiles<'_>) -> Option<Vec<u8>> {
    files.read(&at.value.as_ref()?.0, at.position, report)
}

/// An error never shows a byte of the content.
fn credentials(content: &[u8]) -> Result<Credentials, String> {
    user_password(content).map(Credentials::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_one_line_of_user_and_password() {
        let rows = [
            ("user:secret\n", Ok("user:secret")),
            ("user:secret", Ok("user:secret")),
            ("user:secret\r\n", Ok("user:secret")),
            ("\u{feff}user:secret\n", Ok("user:secret")),
            ("user:a:b c ", Ok("user:a:b c ")),
            ("user:", Ok("user:")),
            ("üser:pässword", Ok("üser:pässword")),
            ("secret\n", Err("there is no USER: before the password")),
            (":secret", Err("there is no USER: before the password")),
            ("user:a\nuser:b\n", Err("the file has more than one line")),
            ("\nuser:a\n", Err("the file has more than one line")),
            ("user:a\tb", Err("the file contains a control character")),
        ];
        for (content, want) in rows {
            match (credentials(content.as_bytes()), want) {
                (Ok(got), Ok(want)) => assert_eq!(got.as_str(), want, "{content:?}"),
                (Err(got), Err(want)) => {
                    assert_eq!(got, format!("{want}: write one line USER:PASSWORD"), "{content:?}");
                }
                (got, want) => panic!("{content:?}: {got:?}, not {want:?}"),
            }
        }
        let told = credentials(b"user:\xff\xfe").expect_err("not text");
        assert_eq!(told, "the file is not UTF-8 text: write one line USER:PASSWORD");
    }

    #[test]
    fn credentials_are_shown_nowhere() {
        let credentials = credentials(b"user:secret").expect("fine");
        let debug = format!("{credentials:?}");
        assert!(!debug.contains("user") && !debug.contains("secret"), "{debug}");
    }
}
