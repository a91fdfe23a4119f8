//! The few lines of gitlab.rb that matter: GitLab's own host, where Gitaly is, and which parts have an environment.
//!
//! The file is a program in Ruby, which is not run: what is computed there is not seen.

use std::path::Path;

use super::read::{self, Unread};
use crate::words::quote::quoted;
use crate::words::target::Host;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct GitLabRb {
    /// The host of `external_url`, or else of `internal_api_url`, which a node of Gitaly alone has.
    pub(super) own_host: Option<Host>,
    /// The hosts of `gitaly_address` that are other machines.
    pub(super) gitaly: Vec<Host>,
    /// A `gitaly_address` that tells no host, as it is written.
    pub(super) unclear_gitaly: Option<String>,
    /// Why nothing is known.
    pub(super) nothing: Option<Nothing>,
    lines: Vec<String>,
}

/// Why nothing is known of the file.
#[derive(Debug)]
pub(super) enum Nothing {
    /// There is none.
    Missing,
    Unread(Unread),
}

impl GitLabRb {
    /// Without the file, as on a host where it cannot be read, nothing is known.
    pub(super) fn read(path: &Path) -> Self {
        let (text, nothing) = match read::text(path) {
            Ok(Some(text)) => (text, None),
            Ok(None) => (String::new(), Some(Nothing::Missing)),
            Err(unread) => (String::new(), Some(Nothing::Unread(unread))),
        };
        let lines: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        let mut found = GitLabRb { nothing, ..GitLabRb::default() };
        let mut internal = None;
        for line in &lines {
            if line.starts_with("external_url") {
                found.own_host = urls(line).flatten().next().or(found.own_host);
            }
            if line.contains("internal_api_url") {
                internal = urls(line).flatten().next().or(internal);
            }
            if line.contains("gitaly_address") {
                found.gitaly_address(line);
            }
        }
        found.own_host = found.own_host.or(internal);
        found.lines = lines;
        found
    }

    fn gitaly_address(&mut self, line: &str) {
        let mut hosts = urls(line).peekable();
        if hosts.peek().is_none() && !line.contains("unix:") {
            self.unclear_gitaly.get_or_insert_with(|| quoted(line));
        }
        for host in hosts {
            match host {
                None => {
                    self.unclear_gitaly.get_or_insert_with(|| quoted(line));
                }
                Some(host) if is_here(&host) || self.gitaly.contains(&host) => {}
                Some(host) => self.gitaly.push(host),
            }
        }
    }

    /// Whether a line assigns to this key, such as `gitaly['env']`.
    pub(super) fn sets(&self, key: &str) -> bool {
        let quoted = key.replace('\'', "\"");
        self.lines.iter().any(|line| {
            let rest = line.strip_prefix(key).or_else(|| line.strip_prefix(&quoted));
            rest.is_some_and(|rest| rest.trim_start().starts_with(['=', '[']))
        })
    }
}

/// The hosts of the URLs between quotes: `tcp://gitaly.internal:8075`; `None` for a URL that is computed.
fn urls(line: &str) -> impl Iterator<Item = Option<Host>> + '_ {
    line.split("://").skip(1).map(|rest| {
        let authority = rest.split(['/', '"', '\'', '?', '#']).next()?;
        let place = authority.rsplit('@').next()?;
        let host = match place.strip_prefix('[') {
            Some(rest) => format!("[{}]", rest.split(']').next()?),
            None => place.split(':').next()?.to_owned(),
        };
        Host::parse(&host).ok()
    })
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Name(name) => name.as_str() == "localhost",
        Host::Address(address) => address.is_loopback() || address.is_unspecified(),
    }
}
