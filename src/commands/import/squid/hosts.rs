//! Sets of hosts: what `dstdomain`, `dstdom_regex` and `ssl::server_name` list.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::regex::{Pattern, Patterns, written};
use super::truth::Truth;
use crate::words::small_sort::SmallSort as _;

/// A set of hosts, of which some may be unknown.
#[derive(Clone, Debug)]
pub(super) struct HostSet {
    exact: HashSet<String>,
    below: HashSet<String>,
    addresses: HashSet<IpNet>,
    /// Ends of addresses that are written as the target: Squid takes `.0.9` for a domain that 10.0.0.9 is under.
    tails: Vec<String>,
    patterns: Patterns,
    /// Those whose names are all among the above: of a name they say nothing more.
    complete: Box<Patterns>,
    /// Names that the other patterns fit, with others.
    written: Vec<String>,
    /// Whether patterns fit names that are not written in them.
    others: Truth,
    /// Whether hosts are in the set of which nothing is known.
    unread: Truth,
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
            tails: Vec::new(),
            patterns: Patterns::default(),
            complete: Box::default(),
            written: Vec::new(),
            others: Truth::No,
            unread: Truth::No,
            literals: if backwards { Truth::Maybe } else { Truth::No },
        }
    }

    /// Squid looks up no PTR names for it, as a later line says.
    pub(super) fn never_look_backwards(&mut self) {
        self.literals = Truth::No;
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

    /// Adds an end of addresses, which begins with a dot.
    pub(super) fn add_tail(&mut self, tail: &str) {
        self.tails.push(tail.to_owned());
    }

    pub(super) fn add_pattern(&mut self, pattern: &Pattern) {
        if pattern.others == Truth::No {
            for named in &pattern.names {
                self.add(&named.name, named.itself, named.below);
            }
            return self.complete.add(pattern);
        }
        self.others = self.others.max(pattern.others);
        self.written.extend(pattern.names.iter().map(|named| named.name.clone()));
        self.patterns.add(pattern);
    }

    /// It may hold further hosts.
    pub(super) fn unknown(&mut self) {
        self.unread = Truth::Maybe;
    }

    /// Everything is added: from here on there are answers.
    pub(super) fn seal(&mut self) {
        self.patterns.seal();
        self.complete.seal();
    }

    /// The whole set as egressd writes hosts, in order. None: some of it is not known, or has no such form.
    pub(super) fn plain(&self) -> Option<Vec<String>> {
        let is_known = self.unread == Truth::No && self.others == Truth::No && self.tails.is_empty();
        if !is_known || !self.written.is_empty() {
            return None;
        }
        let names = self.exact.iter().map(|name| match self.below.contains(name) {
            true => format!(".{name}"),
            false => name.clone(),
        });
        let below =
            self.below.iter().filter(|name| !self.exact.contains(*name)).map(|name| format!("*.{name}"));
        let addresses = self.addresses.iter().map(ToString::to_string);
        let mut all: Vec<String> = names.chain(below).chain(addresses).collect();
        all.small_sort();
        Some(all)
    }

    /// Every name that is mentioned.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().chain(&self.below).chain(&self.written).map(String::as_str)
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
        self.patterns.name(name).max(self.unread)
    }

    /// Whether the names under it are that no set mentions.
    pub(super) fn has_below(&self, name: &str) -> Truth {
        if self.below.contains(name) || parents(name).any(|parent| self.below.contains(parent)) {
            return Truth::Yes;
        }
        self.patterns.below(name).max(self.unread)
    }

    /// Whether names are that no set mentions.
    pub(super) fn has_others(&self) -> Truth {
        self.others.max(self.unread)
    }

    /// Whether the addresses of a network are that no set mentions.
    pub(super) fn has_network(&self, network: &IpNet) -> Truth {
        let whole = network.prefix_len() == network.max_prefix_len();
        if self.addresses.contains(network) {
            return Truth::Yes;
        }
        let text = written(network.addr());
        let by_tail = match self.tails.iter().any(|tail| !whole || text.ends_with(tail)) {
            true if whole => Truth::Yes,
            true => Truth::Maybe,
            false => Truth::No,
        };
        let by_pattern = self.patterns.network(network).max(self.complete.network(network));
        by_pattern.max(by_tail).max(self.literals).max(self.unread)
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
