//! The variables of a part: a directory with a file for each, as runit's `chpst -e` reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::read::{self, Unread, is_missing};
use crate::commands::env::{ProxyUrl, Settings, ruby};
use crate::words::small_sort::SmallCollect as _;
use crate::words::target::Host;

/// The variables that matter.
#[derive(Debug, Default)]
pub(super) struct Environment {
    values: BTreeMap<&'static str, String>,
    /// Those that may be set or not: their files could not be read.
    unknown: BTreeSet<&'static str>,
    /// The first of these files, or the directory.
    unread: Option<Unread>,
}

/// A variable in both letter cases. git reads `http_proxy` in lower case alone, Ruby and gRPC take the lower case first, and
/// programs in Go (Gitaly, Workhorse, KAS) the upper case first: a stale value in either leads some of them astray.
type Both = [&'static str; 2];

const HTTP: Both = ["http_proxy", "HTTP_PROXY"];
const HTTPS: Both = ["https_proxy", "HTTPS_PROXY"];
const EXCEPTIONS: Both = ["no_proxy", "NO_PROXY"];
const ALL: Both = ["all_proxy", "ALL_PROXY"];

/// What is wrong with a part's variables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    what: What,
    /// The variable, and what it should be in both letter cases.
    variable: Both,
    value: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    /// It is not there. If it is there in capitals, that does not count.
    Missing { capitals: bool },
    /// It leads elsewhere.
    Elsewhere { name: &'static str, found: String },
    /// Its value does not begin with `http://`.
    Scheme { name: &'static str, found: String },
    /// It does not name these hosts.
    NotExempt { names: Vec<&'static str>, hosts: Vec<String> },
    /// It names the host of the mirror, which so goes without the proxy.
    Exempt { names: Vec<&'static str>, host: String },
}

/// What `no_proxy` of a part must name, and must not name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exceptions<'a> {
    /// Reached directly, beside what every client should name.
    pub(super) direct: &'a [Host],
    /// Reached by the proxy.
    pub(super) mirror: &'a Host,
}

impl Environment {
    /// The variables in a directory. None: there is no such directory.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        match fs::metadata(directory) {
            Ok(found) if !found.is_dir() => return None,
            Err(error) if is_missing(&error) => return None,
            Err(error) => {
                let unknown = [HTTP, HTTPS, EXCEPTIONS, ALL].concat().into_iter().small_collect();
                let unread = Some(Unread::new(directory, error));
                return Some(Environment { unknown, unread, ..Environment::default() });
            }
            Ok(_) => {}
        }
        let mut found = Environment::default();
        for name in [HTTP, HTTPS, EXCEPTIONS, ALL].concat() {
            match read::text(&directory.join(name)) {
                Ok(None) => {}
                Ok(Some(text)) => {
                    // chpst takes the first line, without what is blank at its end; an empty file takes a variable away.
                    let value = text.lines().next().unwrap_or_default().trim_end();
                    if !value.is_empty() {
                        found.values.insert(name, value.to_owned());
                    }
                }
                Err(unread) => {
                    found.unknown.insert(name);
                    found.unread.get_or_insert(unread);
                }
            }
        }
        Some(found)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// What could not be read of it.
    pub(super) fn unread(&self) -> Option<&Unread> {
        self.unread.as_ref()
    }

    /// Whether nothing of it could be read.
    pub(super) fn is_unknown(&self) -> bool {
        self.unread.is_some() && self.values.is_empty()
    }

    /// Whether one of its variables names a proxy. None: that could not be read.
    pub(super) fn has_a_proxy(&self) -> Option<bool> {
        let names = [HTTP, HTTPS, ALL].concat();
        if names.iter().any(|name| self.values.contains_key(name)) {
            return Some(true);
        }
        if names.iter().any(|name| self.unknown.contains(name)) { None } else { Some(false) }
    }

    /// What it lacks: of the variables, and of `no_proxy` the hosts that it must name. Of what could not be read nothing is said.
    pub(super) fn problems(&self, settings: &Settings, exceptions: Exceptions<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        for variable in [HTTP, HTTPS] {
            let [name, capital] = variable;
            let value = settings.proxy.url();
            if self.get(name).is_none() && !self.unknown.contains(name) {
                let what = What::Missing { capitals: self.get(capital).is_some() };
                problems.push(Problem { what, variable, value: value.clone() });
            }
            for (name, found) in self.both(variable) {
                let what = differs(name, found, settings);
                problems.extend(what.map(|what| Problem { what, variable, value: value.clone() }));
            }
        }
        self.exceptions(settings, exceptions, &mut problems);
        problems
    }

    /// The values of a variable that are there, the lower case first.
    fn both(&self, variable: Both) -> impl Iterator<Item = (&'static str, &str)> {
        variable.into_iter().filter_map(move |name| Some((name, self.get(name)?)))
    }

    fn exceptions(&self, settings: &Settings, wanted: Exceptions<'_>, problems: &mut Vec<Problem>) {
        let mut must: Vec<Host> = ["localhost", "127.0.0.1", "169.254.169.254"]
            .iter()
            .filter_map(|host| Host::parse(host).ok())
            .collect();
        must.extend(wanted.direct.iter().cloned());
        let lacks = |list: &str| -> Vec<String> {
            must.iter().filter(|host| !exempts(list, host)).map(bare).collect()
        };
        // What both letter cases should be: the list that is there, with what it lacks and without what it must not have.
        let list = self.both(EXCEPTIONS).next().map(|(_, list)| list.to_owned());
        let list = list.unwrap_or_else(|| settings.exceptions.list());
        let entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
        let kept: Vec<&str> = entries.filter(|entry| !exempts(entry, wanted.mirror)).collect();
        let kept = kept.join(",");
        let lacking = lacks(&kept);
        let value = [kept].into_iter().chain(lacking).filter(|part| !part.is_empty());
        let value = value.collect::<Vec<_>>().join(",");
        let mut tell = |what| problems.push(Problem { what, variable: EXCEPTIONS, value: value.clone() });
        let [name, capital] = EXCEPTIONS;
        if self.get(name).is_none() && !self.unknown.contains(name) {
            tell(What::Missing { capitals: self.get(capital).is_some() });
        }
        // Both letter cases in one sentence, if they lack the same.
        let mut told: Vec<(Vec<&'static str>, Vec<String>)> = Vec::new();
        for (name, list) in self.both(EXCEPTIONS) {
            let hosts = lacks(list);
            match told.iter_mut().find(|(_, known)| *known == hosts) {
                _ if hosts.is_empty() => {}
                Some((names, _)) => names.push(name),
                None => told.push((vec![name], hosts)),
            }
        }
        told.into_iter().for_each(|(names, hosts)| tell(What::NotExempt { names, hosts }));
        let names: Vec<&'static str> = self
            .both(EXCEPTIONS)
            .filter(|(_, list)| exempts(list, wanted.mirror))
            .map(|(name, _)| name)
            .collect();
        if !names.is_empty() {
            tell(What::Exempt { names, host: bare(wanted.mirror) });
        }
    }
}

/// Whether a variable leads to another proxy, or is written so that not all programs read it.
fn differs(name: &'static str, found: &str, settings: &Settings) -> Option<What> {
    let shown = without_password(found);
    let Some((scheme, rest)) = found.split_once("://") else {
        return Some(What::Scheme { name, found: shown });
    };
    let place = rest.rsplit('@').next().unwrap_or(rest);
    let there = ProxyUrl::parse(&format!("{scheme}://{place}"), None);
    let same = there.as_ref().is_ok_and(|there| {
        there.tls == settings.proxy.tls
            && there.socks == settings.proxy.socks
            && there.host == settings.proxy.host
            && there.port == settings.proxy.port
    });
    (!same).then_some(What::Elsewhere { name, found: shown })
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
    /// What to write into the part's hash: both letter cases, because one client or the other reads either.
    pub(super) fn lines(&self) -> [String; 2] {
        self.variable.map(|name| format!("{} => {}", ruby(name), ruby(&self.value)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [variable, _] = self.variable;
        match &self.what {
            What::Missing { capitals: false } => write!(f, "{variable} is not set"),
            What::Missing { capitals: true } => {
                write!(
                    f,
                    "{variable} is set in capitals alone, which git does not read of http_proxy and some programs of none"
                )
            }
            What::Elsewhere { name, found } => write!(f, "{name} leads to {found}"),
            What::Scheme { name, found } => {
                write!(f, "{name} is {found}, without http://, which Ruby does not read")
            }
            What::NotExempt { names, hosts } => {
                let does = if names.len() > 1 { "do" } else { "does" };
                write!(f, "{} {does} not name {}", names.join(" and "), hosts.join(" and "))
            }
            What::Exempt { names, host } => {
                let verb = if names.len() > 1 { "name" } else { "names" };
                write!(
                    f,
                    "{} {verb} the mirror's host {host}, which so goes out without the proxy",
                    names.join(" and ")
                )
            }
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
