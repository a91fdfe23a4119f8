//! The variables of a part: a directory with a file for each, as runit's `chpst -e` reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::commands::env::{ProxyUrl, Settings, ruby};
use crate::words::target::Host;

/// Most bytes of a file that are read.
const MOST: u64 = 1 << 20;

/// The text of a file, of which no more than [`MOST`] is read. None: there is none, or it cannot be read.
pub(super) fn read_bounded(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The variables that matter.
#[derive(Debug)]
pub(super) struct Environment(BTreeMap<&'static str, String>);

const NAMES: [&str; 7] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy"];

/// What is wrong with a part's variables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// A variable is not there, and should have this value. If it is there in capitals, that does not count.
    Missing { name: &'static str, value: String, capitals: bool },
    /// Its value leads elsewhere.
    Elsewhere { name: &'static str, found: String, value: String },
    /// Its value does not begin with `http://`.
    Scheme { name: &'static str, found: String, value: String },
    /// `no_proxy` does not name these hosts.
    NotExempt { hosts: Vec<String>, list: String },
}

impl Environment {
    pub(super) fn read(directory: &Path) -> Self {
        let mut found = BTreeMap::new();
        for name in NAMES {
            let Some(text) = read_bounded(&directory.join(name)) else { continue };
            // chpst takes the first line, without what is blank at its end; an empty file takes a variable away.
            let value = text.lines().next().unwrap_or_default().trim_end();
            if !value.is_empty() {
                found.insert(name, value.to_owned());
            }
        }
        Environment(found)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether one of its variables names a proxy.
    pub(super) fn has_a_proxy(&self) -> bool {
        ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"]
            .iter()
            .any(|name| self.0.contains_key(name))
    }

    /// What it lacks: of the variables, and of `no_proxy` the hosts in `direct` and those that every client should name.
    pub(super) fn problems(&self, settings: &Settings, direct: &[Host]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let url = settings.proxy.url();
        for (name, capital) in [("http_proxy", "HTTP_PROXY"), ("https_proxy", "HTTPS_PROXY")] {
            match self.get(name) {
                None => problems.push(Problem::Missing {
                    name,
                    value: url.clone(),
                    capitals: self.get(capital).is_some(),
                }),
                Some(found) => problems.extend(Self::differs(name, found, settings)),
            }
            // Go and Ruby read the capitals, too, and some programs read them first.
            if let Some(found) = self.get(capital) {
                problems.extend(Self::differs(capital, found, settings));
            }
        }
        let wanted = settings.exceptions.list();
        let Some(list) = self.get("no_proxy") else {
            let mut value = wanted;
            for host in direct {
                value += &format!(",{}", bare(host));
            }
            problems.push(Problem::Missing {
                name: "no_proxy",
                value,
                capitals: self.get("NO_PROXY").is_some(),
            });
            return problems;
        };
        let mut must: Vec<Host> = ["localhost", "127.0.0.1", "169.254.169.254"]
            .iter()
            .filter_map(|host| Host::parse(host).ok())
            .collect();
        must.extend(direct.iter().cloned());
        let hosts: Vec<String> = must.iter().filter(|host| !exempts(list, host)).map(bare).collect();
        if !hosts.is_empty() {
            problems.push(Problem::NotExempt { hosts, list: list.to_owned() });
        }
        problems
    }

    /// Whether a variable leads to another proxy, or is written so that not all programs read it.
    fn differs(name: &'static str, found: &str, settings: &Settings) -> Option<Problem> {
        let value = settings.proxy.url();
        let shown = without_password(found);
        let Some((scheme, rest)) = found.split_once("://") else {
            return Some(Problem::Scheme { name, found: shown, value });
        };
        let place = rest.rsplit('@').next().unwrap_or(rest);
        let there = ProxyUrl::parse(&format!("{scheme}://{place}"), None);
        let same = there.as_ref().is_ok_and(|there| {
            there.tls == settings.proxy.tls
                && there.host == settings.proxy.host
                && there.port == settings.proxy.port
        });
        (!same).then_some(Problem::Elsewhere { name, found: shown, value })
    }
}

/// A proxy's URL as it may be shown.
fn without_password(url: &str) -> String {
    let shown = match url.rsplit_once('@') {
        Some((before, place)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://…@{place}")
        }
        None => url.to_owned(),
    };
    shown.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A host as `no_proxy` has it.
fn bare(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_string(),
        Host::Address(address) => address.to_string(),
    }
}

/// Whether an entry names the host: what curl, Go and Ruby agree on, as docs/clients.md has measured it. `.corp` is no entry for
/// `corp` itself to Go and Ruby, and `*.corp` is none at all to curl and Ruby.
fn exempts(list: &str, host: &Host) -> bool {
    list.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        match host {
            Host::Name(name) => {
                let entry = entry.to_ascii_lowercase();
                let below = if entry.starts_with('.') { entry.clone() } else { format!(".{entry}") };
                name.as_str() == entry || name.as_str().ends_with(&below)
            }
            Host::Address(address) => {
                let one = entry.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                one.is_ok_and(|one| one == *address)
                    || entry.parse::<IpNet>().is_ok_and(|network| network.contains(address))
            }
        }
    })
}

impl Problem {
    /// What to write into the part's hash.
    pub(super) fn line(&self) -> String {
        let (name, value) = match self {
            Problem::Missing { name, value, .. }
            | Problem::Elsewhere { name, value, .. }
            | Problem::Scheme { name, value, .. } => (*name, value.clone()),
            Problem::NotExempt { hosts, list } => ("no_proxy", format!("{list},{}", hosts.join(","))),
        };
        format!("{} => {}", ruby(name), ruby(&value))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing { name, capitals: false, .. } => write!(f, "{name} is not set"),
            Problem::Missing { name, capitals: true, .. } => {
                write!(
                    f,
                    "{name} is set in capitals alone, which git does not read of http_proxy and some programs of none"
                )
            }
            Problem::Elsewhere { name, found, .. } => write!(f, "{name} leads to {found}"),
            Problem::Scheme { name, found, .. } => {
                write!(f, "{name} is {found}, without http://, which Ruby does not read")
            }
            Problem::NotExempt { hosts, .. } => write!(f, "no_proxy does not name {}", hosts.join(" and ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_if_git_ruby_and_go_read_it_alike() {
        for (list, host, want) in [
            ("a.example,gitlab.example.com", "gitlab.example.com", true),
            ("a.example, GitLab.example.com", "gitlab.example.com", true),
            ("example.com", "gitlab.example.com", true),
            (".example.com", "gitlab.example.com", true),
            (".example.com", "example.com", false),
            ("*.example.com", "gitlab.example.com", false),
            ("ab.example.com", "gitlab.example.com", false),
            ("le.com", "gitlab.example.com", false),
            ("*", "gitlab.example.com", true),
            ("", "gitlab.example.com", false),
            ("10.0.0.0/8", "10.20.0.9", true),
            ("10.20.0.9", "10.20.0.9", true),
            ("10.20.0.90", "10.20.0.9", false),
            ("[fd00::9]", "[fd00::9]", true),
            ("fd00::9", "[fd00::9]", true),
        ] {
            assert_eq!(exempts(list, &Host::parse(host).expect(host)), want, "{list} for {host}");
        }
    }
}
