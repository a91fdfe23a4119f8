//! A draft of an egressd configuration: the readers of other proxies' configurations fill it, `emit` writes it, and
//! `check` holds it to what egressd's own reader takes.
//!
//! It knows nothing of the other proxy but the lines that its parts come from. Not here: how a part is found
//! ([`crate::commands::import::squid`]).

mod check;
mod emit;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

pub(super) use self::check::check;
pub(super) use self::emit::scalar;
use super::notes::SourceLine;
use crate::rules::{HostPattern, RuleText};

/// Everything that will be written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// By what command, and from which file: for the first line of the text.
    origin: String,
    /// Every policy has `mode: report`: it lets through, and logs what it would deny.
    pub(super) report: bool,
    pub(super) listeners: Vec<DraftListener>,
    /// The first line that names a port, whether or not it became a listener.
    pub(super) ports: Option<SourceLine>,
    pub(super) policies: Vec<DraftPolicy>,
    /// The policies that there would be without these lines, each with its text: written as comments.
    pub(super) held_back: Vec<DraftPolicy>,
    pub(super) held_by: Vec<(SourceLine, String)>,
    settings: BTreeMap<Setting, SettingValue>,
    /// Lines of the password file that have to leave it before egressd reads it.
    pub(super) refused_users: BTreeSet<u32>,
    pub(super) dns_servers: Option<(SourceLine, Vec<String>)>,
    /// What is reached without the parent.
    pub(super) except: Vec<Exception>,
    /// What alone is reached through it; the rest is added to `except` once it is known.
    pub(super) parent_for: Option<ParentFor>,
    /// The addresses of names that are not looked up.
    pub(super) dns_hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Headers to remove from plain requests. None: the key is not written.
    pub(super) removed_headers: Option<Vec<String>>,
}

/// A value, and the line that it comes from.
#[derive(Clone, Debug)]
pub(super) struct SettingValue {
    pub(super) place: SourceLine,
    pub(super) text: String,
}

/// Hosts that are reached without the parent.
#[derive(Clone, Debug)]
pub(super) struct Exception {
    /// The line that says so.
    pub(super) line: SourceLine,
    /// The lines of the list of hosts.
    pub(super) lists: BTreeSet<SourceLine>,
    /// As in the configuration.
    pub(super) hosts: Vec<String>,
}

/// The hosts that alone go through the parent.
#[derive(Clone, Debug)]
pub(super) struct ParentFor {
    /// The lines that say so.
    pub(super) lines: Vec<SourceLine>,
    /// The line that denies the parent all else.
    pub(super) rest: Option<SourceLine>,
    /// The lines of the lists of hosts.
    pub(super) lists: BTreeSet<SourceLine>,
    /// As in the configuration.
    pub(super) hosts: Vec<String>,
}

impl ParentFor {
    fn patterns(&self) -> impl Iterator<Item = HostPattern> {
        self.hosts.iter().filter_map(|host| pattern(host))
    }

    /// Whether some of a pattern goes through the parent.
    pub(super) fn meets(&self, host: &HostPattern) -> bool {
        self.patterns().any(|one| one.meets(host))
    }

    /// Whether all of it does.
    pub(super) fn covers(&self, host: &str) -> bool {
        pattern(host).is_some_and(|host| self.patterns().any(|one| one.covers(&host)))
    }
}

/// A host as `except` has it: networks stand without brackets there.
fn pattern(host: &str) -> Option<HostPattern> {
    let network = host.parse::<IpNet>().map(HostPattern::Network);
    network.or_else(|_| HostPattern::parse(host)).ok()
}

/// A key that has one value, in the order in which they are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Setting {
    /// The password file of every listener.
    UsersFile,
    DnsTimeout,
    UpstreamProxy,
    ConnectTimeout,
    IdleTimeout,
    MaxLifetime,
    TunnelsPerClient,
    HeadBytes,
    HeadTimeout,
    KeepaliveTimeout,
    ResponseTimeout,
    StallTimeout,
    LogOutput,
    LogFormat,
    GracePeriod,
}

impl Setting {
    /// Its section and its name in that section.
    fn key(self) -> (&'static str, &'static str) {
        match self {
            Setting::UsersFile => ("basic_auth", "users_file"),
            Setting::DnsTimeout => ("dns", "timeout"),
            Setting::UpstreamProxy => ("upstream_proxy", "url"),
            Setting::ConnectTimeout => ("tunnel", "connect_timeout"),
            Setting::IdleTimeout => ("tunnel", "idle_timeout"),
            Setting::MaxLifetime => ("tunnel", "max_lifetime"),
            Setting::TunnelsPerClient => ("limits", "tunnels_per_client"),
            Setting::HeadBytes => ("limits", "head_bytes"),
            Setting::HeadTimeout => ("limits", "head_timeout"),
            Setting::KeepaliveTimeout => ("http", "keepalive_timeout"),
            Setting::ResponseTimeout => ("http", "response_timeout"),
            Setting::StallTimeout => ("http", "stall_timeout"),
            Setting::LogOutput => ("access_log", "output"),
            Setting::LogFormat => ("access_log", "format"),
            Setting::GracePeriod => ("shutdown", "grace_period"),
        }
    }
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub(super) struct DraftListener {
    pub(super) place: SourceLine,
    pub(super) name: String,
    pub(super) address: String,
    /// Connections are redirected there; nobody can be asked for a password.
    pub(super) transparent: bool,
    /// The networks that must send a PROXY header. Empty: no client may send one.
    pub(super) trusted: Vec<String>,
    pub(super) tls: Option<ListenerTls>,
}

/// The files of a listener's TLS.
#[derive(Clone, Debug)]
pub(super) struct ListenerTls {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) client_ca: Option<String>,
    pub(super) client_crl: Option<String>,
}

impl ListenerTls {
    /// Whether `path` is one of its files.
    fn names(&self, path: &str) -> bool {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref(), self.client_crl.as_ref()]
            .into_iter()
            .flatten()
            .any(|file| file == path)
    }
}

/// Which clients may reach what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DraftPolicy {
    pub(super) name: String,
    pub(super) networks: Vec<IpNet>,
    pub(super) networks_files: Vec<ListFile>,
    /// The other proxy lets its clients out nowhere, so they are denied in report mode too.
    pub(super) shut: bool,
    pub(super) users: Vec<String>,
    /// By which listeners they come; empty: by any.
    pub(super) listeners: Vec<String>,
    pub(super) allow: Vec<DraftRule>,
    pub(super) files: Vec<AllowFile>,
    pub(super) deny: Vec<DraftRule>,
    pub(super) deny_files: Vec<ListFile>,
}

/// A rule, and the line that it comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct DraftRule {
    pub(super) place: SourceLine,
    pub(super) text: String,
    /// The network that is opened for this rule, because not all of it is public.
    pub(super) private: Option<IpNet>,
}

/// A file of rules that allow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct AllowFile {
    pub(super) list: ListFile,
    pub(super) schemes: Vec<&'static str>,
}

/// A file with one entry a line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ListFile {
    pub(super) place: SourceLine,
    pub(super) path: String,
    /// It has no content, which egressd refuses: its line is a comment.
    pub(super) empty: bool,
}

/// `name`, or `name-2` and so on where that is taken.
pub(super) fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|count| format!("{name}-{count}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

impl Draft {
    /// An empty one. `origin`: by what command, and from which file.
    pub(super) fn new(origin: String, report: bool) -> Self {
        Draft { origin, report, ..Draft::default() }
    }

    pub(super) fn get(&self, setting: Setting) -> Option<&SettingValue> {
        self.settings.get(&setting)
    }

    /// Sets the value, or removes it where there is none.
    pub(super) fn set(&mut self, setting: Setting, value: Option<SettingValue>) {
        match value {
            Some(value) => drop(self.settings.insert(setting, value)),
            None => drop(self.settings.remove(&setting)),
        }
    }

    /// Whether every client is asked for a password of a file.
    pub(super) fn asks_passwords(&self) -> bool {
        self.get(Setting::UsersFile).is_some()
    }

    /// Whether the clients of a policy are asked for one.
    fn asks(&self, policy: &DraftPolicy) -> bool {
        let by_name = |name: &String| self.listeners.iter().find(|listener| listener.name == *name);
        let redirected = |name| by_name(name).is_some_and(|listener| listener.transparent);
        self.asks_passwords() && (policy.listeners.is_empty() || !policy.listeners.iter().all(redirected))
    }

    pub(super) fn take(&mut self, setting: Setting) -> Option<SettingValue> {
        self.settings.remove(&setting)
    }

    /// The hosts of every rule that allows, those in files included.
    pub(super) fn allowed_hosts(&self, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Vec<HostPattern> {
        let mut hosts: Vec<HostPattern> = Vec::new();
        let mut add = |text: &str| hosts.extend(RuleText::parse(text).ok().map(|rule| rule.host));
        let mut files: BTreeSet<&str> = BTreeSet::new();
        for policy in &self.policies {
            policy.allow.iter().for_each(|rule| add(&rule.text));
            files.extend(policy.files.iter().map(|file| file.list.path.as_str()));
        }
        for path in files {
            // What cannot be read was told.
            let content = read(Path::new(path)).unwrap_or_default();
            for line in String::from_utf8_lossy(&content).lines() {
                add(line.split('#').next().unwrap_or_default().trim());
            }
        }
        hosts
    }

    /// The files with one entry a line, as often as policies name them.
    fn lists(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().flat_map(|policy| {
            let allow = policy.files.iter().map(|file| &file.list);
            allow.chain(&policy.deny_files).chain(&policy.networks_files).map(|list| list.path.as_str())
        })
    }

    /// Whether some rule lets plain HTTP out.
    pub(super) fn allows_plain_http(&self) -> bool {
        self.policies.iter().any(|policy| {
            policy.allow.iter().any(|rule| rule.text.starts_with("http://"))
                || policy.files.iter().any(|file| file.schemes.contains(&"http"))
        })
    }

    /// Whether names are denied by the addresses that they lead to.
    pub(super) fn denies_networks(&self) -> bool {
        let is_network =
            |rule: &DraftRule| rule.text.parse::<IpNet>().is_ok() || rule.text.parse::<IpAddr>().is_ok();
        self.policies.iter().any(|policy| policy.deny.iter().any(is_network))
    }
}
