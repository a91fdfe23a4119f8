//! The few lines of gitlab.rb that matter: GitLab's own host, where Gitaly is, and which parts have an environment.
//!
//! The file is a program in Ruby, which is not run: what is computed there is not seen.

use std::path::Path;

use super::environment::read_bounded;
use crate::words::target::Host;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct GitLabRb {
    /// The host of `external_url`.
    pub(super) own_host: Option<Host>,
    /// The hosts of `gitaly_address` that are other machines.
    pub(super) gitaly: Vec<Host>,
    lines: Vec<String>,
}

impl GitLabRb {
    /// Without the file, as on a host where it cannot be read, nothing is known.
    pub(super) fn read(path: &Path) -> Self {
        let text = read_bounded(path).unwrap_or_default();
        let lines: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        let mut found = GitLabRb::default();
        for line in &lines {
            if line.starts_with("external_url") {
                found.own_host = urls(line).next().or(found.own_host);
            }
            if line.contains("gitaly_address") {
                for host in urls(line).filter(|host| !is_here(host)) {
                    if !found.gitaly.contains(&host) {
                        found.gitaly.push(host);
                    }
                }
            }
        }
        found.lines = lines;
        found
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

/// The hosts of the URLs between quotes: `tcp://gitaly.internal:8075`.
fn urls(line: &str) -> impl Iterator<Item = Host> + '_ {
    line.split("://").skip(1).filter_map(|rest| {
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
