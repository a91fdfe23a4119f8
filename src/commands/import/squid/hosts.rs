//! Sets of hosts: what `dstdomain`, `dstdom_regex` and `ssl::server_name` list.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::truth::Truth;

/// A set of hosts, of which some may be unknown.
#[derive(Clone, Debug)]
pub(super) struct HostSet {
    exact: HashSet<String>,
    below: HashSet<String>,
    addresses: HashSet<IpNet>,
    /// Whether a name that is not listed is in the set.
    rest: Truth,
    /// Whether an address that is not listed is in the set.
    literals: Truth,
}

impl HostSet {
    /// An empty set; with `backwards`, Squid looks up the PTR names of unlisted addresses, so they are not known.
    pub(super) fn new(backwards: bool) -> Self {
        HostSet {
            exact: HashSet::new(),
            below: HashSet::new(),
            addresses: HashSet::new(),
            rest: Truth::No,
            literals: if backwards { Truth::Maybe } else { Truth::No },
        }
    }

    /// Whether Squid looks up the PTR names of addresses for it.
    pub(super) fn looks_backwards(&self) -> bool {
        self.literals == Truth::Maybe
    }

    /// Adds a name (canonical), everything under it, or both.
    pub(super) fn add(&mut self, name: &str, itself: bool, below: bool) {
        if itself {
            self.exact.insert(name.to_owned());
        }
        if below {
            self.below.insert(name.to_owned());
        }
    }

    pub(super) fn add_address(&mut self, address: IpAddr) {
        self.addresses.insert(IpNet::from(address.to_canonical()));
    }

    /// It may hold further hosts.
    pub(super) fn unknown(&mut self) {
        self.rest = Truth::Maybe;
        self.literals = Truth::Maybe;
    }

    /// Every name that is mentioned.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().chain(&self.below).map(String::as_str)
    }

    /// Every address that is mentioned.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().copied()
    }

    /// Whether the name itself is in the set.
    pub(super) fn has(&self, name: &str) -> Truth {
        if self.exact.contains(name) || parents(name).any(|parent| self.below.contains(parent)) {
            return Truth::Yes;
        }
        self.rest
    }

    /// Whether the names under it are that no set mentions.
    pub(super) fn has_below(&self, name: &str) -> Truth {
        if self.below.contains(name) || parents(name).any(|parent| self.below.contains(parent)) {
            return Truth::Yes;
        }
        self.rest
    }

    /// Whether names are that no set mentions.
    pub(super) fn has_others(&self) -> Truth {
        self.rest
    }

    /// Whether the addresses of a network are that no set mentions.
    pub(super) fn has_network(&self, network: &IpNet) -> Truth {
        if self.addresses.contains(network) { Truth::Yes } else { self.literals }
    }
}

/// `b.c` and `c` of `a.b.c`.
pub(super) fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.split_once('.'), |(_, rest)| rest.split_once('.')).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_ends_at_label_boundaries() {
        let mut set = HostSet::new(true);
        set.add("example.com", true, true);
        set.add("one.test", true, false);
        set.add_address([203, 0, 113, 9].into());
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        let rows = [
            (set.has("example.com"), Truth::Yes),
            (set.has("a.b.example.com"), Truth::Yes),
            (set.has("evilexample.com"), Truth::No),
            (set.has_below("one.test"), Truth::No),
            (set.has("one.test"), Truth::Yes),
            (set.has_others(), Truth::No),
            (set.has_network(&net("203.0.113.9/32")), Truth::Yes),
            (set.has_network(&net("203.0.113.0/24")), Truth::Maybe),
        ];
        for (number, (got, want)) in rows.into_iter().enumerate() {
            assert_eq!(got, want, "row {number}");
        }
        set.unknown();
        assert_eq!(set.has("evilexample.com"), Truth::Maybe);
    }
}
