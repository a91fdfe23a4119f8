//! Targets that a client should reach without a proxy, and the entry that its `no_proxy` lacks.
//!
//! A request for one of them has one usual cause: the client's `no_proxy` does not name it. No rule is the answer: a
//! rule cannot open a credential endpoint at all, and through the proxy `localhost` is the proxy's own host. All advice
//! (replies, the status page, `explain`, `suggest`) takes its words from here. Not here: egressd's own addresses, which
//! only a running program knows ([`itself`] has the words), and which addresses are
//! closed ([`address`](super::address)).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use super::address::{embedded_v4, never};
use crate::words::target::{Host, Target};

/// A target that belongs into the client's `no_proxy`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoProxy {
    /// What the client asked for.
    host: Host,
    /// Why it is a matter of `no_proxy`.
    pub why: Why,
    /// The entry: a name, a suffix with its dot in front, or an address without brackets.
    pub entry: String,
}

/// Why a target is a matter of the client's `no_proxy`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// A credential or metadata endpoint, or a cloud's resolver, with its description. No rule opens it.
    Endpoint(&'static str),
    /// The client's own host.
    Loopback,
    /// An address where egressd itself listens.
    Itself,
    /// A name inside a Kubernetes cluster.
    Cluster,
    /// A name of multicast DNS.
    Multicast,
    /// The name of a machine inside a cloud's network.
    Cloud,
    /// A name without a dot.
    SingleLabel,
    /// DNS does not know the name.
    Unknown,
}

impl NoProxy {
    /// What the client asked for.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

impl Why {
    /// Whether it is so whatever the rules say. A name of another kind may be listed on purpose, for a target that only
    /// egressd's resolver knows.
    pub fn is_certain(self) -> bool {
        matches!(self, Why::Endpoint(_) | Why::Loopback | Why::Itself)
    }
}

/// What the `no_proxy` of every client should name: its own host, the credential endpoints of Amazon and Google
/// Cloud, and the names of a Kubernetes cluster. A suffix has its dot in front.
pub const EVERYWHERE: &[&str] = &[
    "localhost",
    "127.0.0.1",
    "::1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "metadata.google.internal",
    ".svc",
    ".cluster.local",
];

/// Names of credential endpoints, whose addresses no rule opens.
const ENDPOINT_NAMES: &[(&str, &str)] = &[
    ("metadata.google.internal", "credential endpoint: Google Cloud metadata"),
    ("metadata.goog", "credential endpoint: Google Cloud metadata"),
    ("instance-data.ec2.internal", "credential endpoint: Amazon EC2 metadata"),
    ("metadata.tencentyun.com", "credential endpoint: Tencent Cloud metadata"),
];

/// Suffixes of names that only a client's own network knows. Each is a whole label or more, with what to write into
/// `no_proxy`: the suffix itself where its names come and go.
const SUFFIXES: &[(&str, Why, Entry)] = &[
    ("localhost", Why::Loopback, Entry::Suffix),
    ("localhost.localdomain", Why::Loopback, Entry::Name),
    ("localhost4.localdomain4", Why::Loopback, Entry::Name),
    ("localhost6.localdomain6", Why::Loopback, Entry::Name),
    ("svc", Why::Cluster, Entry::Suffix),
    ("cluster.local", Why::Cluster, Entry::Suffix),
    ("local", Why::Multicast, Entry::Name),
    ("ec2.internal", Why::Cloud, Entry::Suffix),
    ("compute.internal", Why::Cloud, Entry::Suffix),
    ("google.internal", Why::Cloud, Entry::Suffix),
    ("internal.cloudapp.net", Why::Cloud, Entry::Suffix),
];

#[derive(Clone, Copy)]
enum Entry {
    Name,
    Suffix,
}

/// Why a client should reach `host` without a proxy, if that can be told from the host alone.
pub fn no_proxy(host: &Host) -> Option<NoProxy> {
    let of = |why, entry: Cow<'_, str>| Some(NoProxy { host: host.clone(), why, entry: entry.into_owned() });
    match host {
        Host::Address(address) => {
            let why = match never(*address) {
                Some(what) => Why::Endpoint(what),
                None if is_loopback(*address) => Why::Loopback,
                None => return None,
            };
            of(why, address.to_string().into())
        }
        Host::Name(name) => {
            let (why, suffix) = why_name(name.as_str())?;
            of(why, suffix.map_or_else(|| name.as_str().into(), |suffix| format!(".{suffix}").into()))
        }
    }
}

/// The same for a name, with the suffix that is its entry; without one, the entry is the name.
fn why_name(name: &str) -> Option<(Why, Option<&'static str>)> {
    if let Some((_, what)) = ENDPOINT_NAMES.iter().find(|(known, _)| *known == name) {
        return Some((Why::Endpoint(what), None));
    }
    // The longest suffix: `.cluster.local` is no name of multicast DNS.
    let fitting = SUFFIXES.iter().filter(|(suffix, ..)| is_at_or_under(name, suffix));
    if let Some((suffix, why, entry)) = fitting.max_by_key(|(suffix, ..)| suffix.len()) {
        let whole = matches!(entry, Entry::Name) || name == *suffix;
        return Some((*why, (!whole).then_some(*suffix)));
    }
    match name {
        name if is_google_machine(name) => Some((Why::Cloud, None)),
        name if !name.contains('.') => Some((Why::SingleLabel, None)),
        _ => None,
    }
}

/// Whether a name, which is canonical, is a matter of `no_proxy` whatever the rules say. Cheap enough for a million.
pub(super) fn is_certain_name(name: &str) -> bool {
    CERTAIN_ENDS.iter().any(|end| name.ends_with(end))
        && why_name(name).is_some_and(|(why, _)| why.is_certain())
}

/// How the names of endpoints and of loopback end.
const CERTAIN_ENDS: &[&str] =
    &["localhost", "localdomain", "localdomain4", "localdomain6", "internal", "goog", "tencentyun.com"];

/// The same for a target whose name DNS does not know.
pub fn unknown_to_dns(target: &Target) -> Option<NoProxy> {
    no_proxy(&target.host).or_else(|| {
        let Host::Name(name) = &target.host else { return None };
        let (host, entry) = (target.host.clone(), name.as_str().to_owned());
        Some(NoProxy { host, why: Why::Unknown, entry })
    })
}

/// The same for a target that is egressd itself.
pub fn itself(target: &Target) -> NoProxy {
    NoProxy { host: target.host.clone(), why: Why::Itself, entry: bare(&target.host) }
}

/// The host as `no_proxy` has it: an IPv6 address without brackets, which most clients want.
fn bare(host: &Host) -> String {
    match host {
        Host::Name(name) => name.as_str().to_owned(),
        Host::Address(address) => address.to_string(),
    }
}

fn is_at_or_under(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// Google Cloud's machines: `VM.c.PROJECT.internal` and `VM.ZONE.c.PROJECT.internal`.
fn is_google_machine(name: &str) -> bool {
    let mut labels = name.rsplit('.');
    labels.next() == Some("internal") && labels.nth(1) == Some("c") && labels.next().is_some()
}

/// Whether a connection to `address` arrives at the host that makes it, IPv4 inside IPv6 included. Linux treats the
/// unspecified address as loopback.
fn is_loopback(address: IpAddr) -> bool {
    let here = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    match address.to_canonical() {
        IpAddr::V6(v6) if !here(IpAddr::V6(v6)) => embedded_v4(v6).map(IpAddr::V4).any(here),
        address => here(address),
    }
}

/// One line for a person, which begins with the target.
impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoProxy { host, why, entry } = self;
        match why {
            Why::Endpoint(what) => {
                // The registry's rows begin with the kind.
                let (kind, which) = what.split_once(": ").unwrap_or(("credential endpoint", what));
                return write!(
                    f,
                    "{host} is a {kind}, which no rule opens: the client's no_proxy must name it ({which})"
                );
            }
            Why::Loopback => write!(
                f,
                "{host} is the client's own host, but through a proxy it would be the proxy's: the client's no_proxy \
                 must name "
            )?,
            Why::Itself => {
                write!(f, "{host} is where egressd itself listens: the client's no_proxy must name ")?
            }
            Why::Cluster => write!(
                f,
                "{host} is a name inside a Kubernetes cluster, which a client there reaches without a proxy: the \
                 client's no_proxy must name "
            )?,
            Why::Multicast => write!(
                f,
                "{host} is a name of the client's own network (multicast DNS): the client's no_proxy must name "
            )?,
            Why::Cloud => write!(
                f,
                "{host} is a machine inside the cloud's network, which a client there reaches without a proxy: the \
                 client's no_proxy must name "
            )?,
            Why::SingleLabel => write!(
                f,
                "{host} has no dot, so only the client's own search domains or hosts file know it: the client's \
                 no_proxy must name "
            )?,
            Why::Unknown => {
                return write!(
                    f,
                    "DNS says that {host} does not exist: check the spelling; if it is a name of the client's own \
                     network, the client's no_proxy must name it"
                );
            }
        }
        if *entry == bare(host) { f.write_str("it") } else { f.write_str(entry) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(host: &str) -> Option<(String, String)> {
        no_proxy(&Host::parse(host).expect(host)).map(|found| (found.entry.clone(), found.to_string()))
    }

    #[test]
    fn what_only_the_client_should_reach_is_known_with_its_entry() {
        // Host, entry, words.
        let rows = [
            ("169.254.169.254", "169.254.169.254", "credential endpoint, which no rule opens"),
            ("169.254.170.2", "169.254.170.2", "credential endpoint, which no rule opens"),
            ("169.254.170.23", "169.254.170.23", "Amazon EKS Pod Identity"),
            ("169.254.169.253", "169.254.169.253", "is a cloud resolver, which no rule opens"),
            ("100.100.100.200", "100.100.100.200", "Alibaba Cloud metadata"),
            ("168.63.129.16", "168.63.129.16", "Azure WireServer"),
            ("[fd00:ec2::254]", "fd00:ec2::254", "Amazon EC2 metadata"),
            ("[fd00:ec2::23]", "fd00:ec2::23", "Amazon EKS Pod Identity"),
            ("[::ffff:169.254.169.254]", "::ffff:169.254.169.254", "credential endpoint"),
            ("[64:ff9b::a9fe:a9fe]", "64:ff9b::a9fe:a9fe", "credential endpoint"),
            ("metadata.google.internal", "metadata.google.internal", "credential endpoint"),
            ("127.0.0.1", "127.0.0.1", "the client's own host"),
            ("127.9.8.7", "127.9.8.7", "the client's own host"),
            ("0.0.0.0", "0.0.0.0", "the client's own host"),
            ("[::1]", "::1", "the client's own host"),
            ("[::]", "::", "the client's own host"),
            ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1", "the client's own host"),
            ("[64:ff9b::7f00:1]", "64:ff9b::7f00:1", "the client's own host"),
            ("localhost", "localhost", "the client's own host"),
            ("a.b.localhost", ".localhost", "the client's own host"),
            ("localhost.localdomain", "localhost.localdomain", "the client's own host"),
            ("kubernetes.default.svc", ".svc", "inside a Kubernetes cluster"),
            ("a.b.svc.cluster.local", ".cluster.local", "inside a Kubernetes cluster"),
            ("cluster.local", "cluster.local", "inside a Kubernetes cluster"),
            ("printer.local", "printer.local", "multicast DNS"),
            ("ip-10-0-0-1.ec2.internal", ".ec2.internal", "inside the cloud's network"),
            ("ip-10-0-0-1.eu-west-1.compute.internal", ".compute.internal", "inside the cloud's network"),
            ("vm.c.project.internal", "vm.c.project.internal", "inside the cloud's network"),
            ("vm.europe-west1-b.c.project.internal", "vm.europe-west1-b.c.project.internal", "the cloud's"),
            ("gitlab", "gitlab", "has no dot"),
        ];
        for (host, entry, words) in rows {
            let (got, text) = told(host).unwrap_or_else(|| panic!("{host}"));
            assert_eq!(got, entry, "{host}");
            assert!(text.contains(words), "{host}: {text}");
            assert!(text.starts_with(host) && text.contains("the client's no_proxy must name "), "{text}");
            let named = text.contains("must name it") || text.ends_with(&format!("must name {entry}"));
            assert!(named, "{text}");
        }
    }

    #[test]
    fn what_every_client_should_name_is_what_the_advice_names() {
        for entry in EVERYWHERE {
            let host = match (entry.strip_prefix('.'), entry.contains(':')) {
                (Some(suffix), _) => format!("a.b.{suffix}"),
                (None, true) => format!("[{entry}]"),
                (None, false) => (*entry).to_owned(),
            };
            let (advised, _) = told(&host).unwrap_or_else(|| panic!("{entry}: a rule may open it"));
            assert_eq!(advised, *entry);
        }
    }

    #[test]
    fn the_cheap_test_forgets_no_name() {
        let endpoints = ENDPOINT_NAMES.iter().map(|(name, _)| *name);
        let loopback = SUFFIXES.iter().filter(|(_, why, _)| why.is_certain()).map(|(suffix, ..)| *suffix);
        for name in endpoints.chain(loopback) {
            assert!(is_certain_name(name), "{name}");
        }
        assert!(!is_certain_name("git.corp.internal") && !is_certain_name("gitlab"));
    }

    #[test]
    fn what_a_rule_may_open_is_not() {
        for host in [
            "example.com",
            "localhost.example.com",
            "notlocalhost.example",
            "mysvc.example",
            "xsvc.test",
            "git.corp.internal",
            "c.project.internal",
            "local.example",
            "alocal.test",
            "10.1.2.3",
            "8.8.8.8",
            "[fd00::5]",
            "[2001:db8::1]",
            "169.254.1.1",
            "[64:ff9b::808:808]",
        ] {
            assert_eq!(told(host), None, "{host}");
        }
    }

    #[test]
    fn a_name_that_dns_does_not_know_is_named_whole() {
        let unknown = |target: &str| {
            let target = Target::connect(target).expect(target);
            unknown_to_dns(&target).map(|found| (found.entry.clone(), found.to_string()))
        };
        let (entry, text) = unknown("git.corp.example:443").expect("a name");
        assert_eq!(entry, "git.corp.example");
        assert!(text.starts_with("DNS says that git.corp.example does not exist"), "{text}");
        assert!(unknown("a.b.svc:443").is_some_and(|(entry, _)| entry == ".svc"), "the kind is known");
        assert_eq!(unknown("8.8.8.8:443"), None);
    }
}
