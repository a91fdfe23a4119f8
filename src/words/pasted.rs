//! What a person pasted where one host is wanted: a URL, a path, an address for ssh, a pattern, a network.
//!
//! A parser of hosts can say only which character it does not accept. Here it is said what the text is, and which host it names.
//! Not here: what is accepted ([`target`](super::target)); this is asked only after a refusal.

use std::fmt;
use std::net::IpAddr;

use super::target::{Host, Port, split_port};

/// What the text is, with the host that it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Pasted {
    /// A URL: its host and, if it is written, its port.
    Url(Place),
    /// A host with a path.
    Path(Place),
    /// A host with a user.
    User(Place),
    /// `user@host:path` or `ssh://…`: the host, and the port of ssh unless another is written.
    Ssh(Place),
    /// For many hosts: one of them.
    Pattern(Place),
    /// `10.0.0.0/8`.
    Network,
}

/// A host, and the port if it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) port: Option<Port>,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_port(text).ok()?;
        let port = port.map(Port::parse).transpose().ok()?;
        Some(Place { host: Host::parse(host).ok()?, port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

/// What `text` is, if it is none of the hosts that are accepted, and more than a misspelt one.
pub(crate) fn pasted(text: &str) -> Option<Pasted> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text),
    };
    if scheme.is_none() && is_network(text) {
        return Some(Pasted::Network);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if scheme.is_none()
        && user.is_some()
        && let Some((host, after)) = place.split_once(':')
        && Port::parse(after).is_err()
    {
        return Some(Pasted::Ssh(Place { port: Port::new(22), ..Place::parse(host)? }));
    }
    let Some(found) = Place::parse(place) else {
        let plain = scheme.is_none() && user.is_none() && path.is_empty();
        return if plain { pattern(place) } else { None };
    };
    match scheme.as_deref() {
        Some("ssh" | "git+ssh" | "ssh+git") => {
            Some(Pasted::Ssh(Place { port: found.port.or_else(|| Port::new(22)), ..found }))
        }
        Some(_) => Some(Pasted::Url(found)),
        None if user.is_some() => Some(Pasted::User(found)),
        None if !path.is_empty() => Some(Pasted::Path(found)),
        None => None,
    }
}

fn is_network(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok() && length.parse::<u8>().is_ok()
    })
}

/// `*.name`, `.name` or `a-*.name`, with a name that it stands for.
fn pattern(text: &str) -> Option<Pasted> {
    let example = match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
        Some(name) => format!("www.{name}"),
        None if text.contains('*') && text.contains('.') => text.to_owned(),
        None => return None,
    };
    Place::parse(&example.replace('*', "a")).map(Pasted::Pattern)
}

/// The end of a sentence about the text, for a reader who wants a host and perhaps a port.
impl fmt::Display for Pasted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pasted::Url(place) => write!(f, "this is a URL: write its host, `{place}`"),
            Pasted::Path(place) => write!(f, "a path is no part of it: write `{place}`"),
            Pasted::User(place) => write!(f, "a user is no part of it: write `{place}`"),
            Pasted::Ssh(place) => write!(f, "this is an address for ssh: write its host, `{place}`"),
            Pasted::Pattern(place) => {
                write!(f, "a pattern is for many hosts: write one of them, as in `{place}`")
            }
            Pasted::Network => f.write_str("a network is for many hosts: write one address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::words::target::Target;

    #[test]
    fn what_was_pasted_is_told_with_its_host() {
        let rows = [
            ("https://a.example", "this is a URL: write its host, `a.example`"),
            ("HTTPS://A.Example:8443/x?y#z", "this is a URL: write its host, `a.example:8443`"),
            ("https://me:secret@a.example/x", "this is a URL: write its host, `a.example`"),
            ("http://[fd00::1]:80/", "this is a URL: write its host, `[fd00::1]:80`"),
            ("ftp://a.example/", "this is a URL: write its host, `a.example`"),
            ("a.example/x", "a path is no part of it: write `a.example`"),
            ("a.example:8443/x", "a path is no part of it: write `a.example:8443`"),
            ("a.example?x", "a path is no part of it: write `a.example`"),
            ("me@a.example", "a user is no part of it: write `a.example`"),
            ("me@a.example:443", "a user is no part of it: write `a.example:443`"),
            ("git@a.example:me/x.git", "this is an address for ssh: write its host, `a.example:22`"),
            ("git@a.example:x.git", "this is an address for ssh: write its host, `a.example:22`"),
            ("ssh://git@a.example/x.git", "this is an address for ssh: write its host, `a.example:22`"),
            (
                "ssh://git@a.example:2222/x.git",
                "this is an address for ssh: write its host, `a.example:2222`",
            ),
            ("*.a.example", "a pattern is for many hosts: write one of them, as in `www.a.example`"),
            (".a.example", "a pattern is for many hosts: write one of them, as in `www.a.example`"),
            ("git.*.a.example", "a pattern is for many hosts: write one of them, as in `git.a.a.example`"),
            ("10.0.0.0/8", "a network is for many hosts: write one address"),
            ("[fd00::]/8", "a network is for many hosts: write one address"),
        ];
        for (text, want) in rows {
            let told = pasted(text).unwrap_or_else(|| panic!("{text}")).to_string();
            assert_eq!(told, want, "{text}");
            assert!(!told.contains("secret"), "{told}");
        }
        for text in
            ["", "a.example", "a.example:443", "a b", "bücher.example", "a..example", "*", "https://", "10.1"]
        {
            assert_eq!(pasted(text), None, "{text}");
        }
    }

    proptest! {
        /// The host that is named can be written in place of the text.
        #[test]
        fn what_is_named_is_a_host(text in "[a-z.*:/@?#0-9\\[\\]-]{0,24}|(https?|ssh|ftp)://\\PC{0,20}") {
            if let Some(Pasted::Url(place) | Pasted::Path(place) | Pasted::User(place) | Pasted::Ssh(place) | Pasted::Pattern(place)) = pasted(&text) {
                prop_assert!(Target::of_uri(&place.to_string(), Port::HTTPS).is_ok(), "{place}");
                prop_assert_eq!(Place::parse(&place.to_string()), Some(place));
            }
        }
    }
}
