//! A set of hosts, by patterns and networks: which of them a target is of is all that it tells.
//!
//! For lists that do not decide whether a target may be reached, such as the exceptions of a parent proxy. A name costs a look-up for each of its
//! labels, however long the list is; patterns with a `*` inside are compared one by one, so there are few of them. Not here: the rules of
//! a policy ([`search`](super::search)).

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::address_set::AddressSet;
use super::label_pattern::LabelPattern;
use super::pattern::HostPattern;
use crate::words::target::{Host, Name};

/// Most patterns with a `*` inside a name.
pub const MAX_INNER_STARS: usize = 100;

/// Hosts.
#[derive(Clone, Debug, Default)]
pub struct HostSet {
    /// As written, in order.
    written: Vec<HostPattern>,
    names: HashSet<Arc<str>>,
    /// Names under these.
    under: HashSet<Arc<str>>,
    labels: Vec<LabelPattern>,
    addresses: AddressSet,
}

impl HostSet {
    /// The hosts that one of these matches.
    pub fn new(patterns: impl IntoIterator<Item = HostPattern>) -> Self {
        let mut set = HostSet::default();
        let mut networks: Vec<IpNet> = Vec::new();
        for pattern in patterns {
            match &pattern {
                HostPattern::Exact(name) => {
                    set.names.insert(name.shared());
                }
                HostPattern::Under(name) => {
                    set.under.insert(name.shared());
                }
                HostPattern::UnderOrSelf(name) => {
                    set.names.insert(name.shared());
                    set.under.insert(name.shared());
                }
                HostPattern::Labels(pattern) => set.labels.push(pattern.clone()),
                HostPattern::Address(address) => networks.push((*address).into()),
                HostPattern::Network(network) => networks.push(*network),
            }
            set.written.push(pattern);
        }
        set.addresses = AddressSet::of(&networks);
        set
    }

    /// Whether `host` is one of them. An address is only if it is written as one: names are never looked up for this.
    pub fn contains(&self, host: &Host) -> bool {
        match host {
            Host::Address(address) => self.has_address(*address),
            Host::Name(name) => self.has_name(name),
        }
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(address.to_canonical())
    }

    fn has_name(&self, name: &Name) -> bool {
        let is_under = || {
            let mut rest = name.as_str();
            while let Some((_, suffix)) = rest.split_once('.') {
                if self.under.contains(suffix) {
                    return true;
                }
                rest = suffix;
            }
            false
        };
        self.names.contains(name.as_str())
            || (!self.under.is_empty() && is_under())
            || self.labels.iter().any(|pattern| pattern.matches(name.as_str()))
    }

    /// The patterns, as written.
    pub fn iter(&self) -> impl Iterator<Item = &HostPattern> {
        self.written.iter()
    }

    /// Whether it has no pattern.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }
}

/// The same patterns in the same order.
impl PartialEq for HostSet {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for HostSet {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(texts: &[&str]) -> HostSet {
        HostSet::new(texts.iter().map(|text| HostPattern::parse(text).expect(text)))
    }

    #[test]
    fn a_host_is_of_the_set_if_one_of_its_patterns_matches_it() {
        let set = set(&[
            "a.example",
            "*.under.example",
            ".both.example",
            "x-*.labels.example",
            "10.0.0.0/8",
            "[fd00::]/8",
        ]);
        let rows = [
            ("a.example", true),
            ("A.EXAMPLE.", true),
            ("b.a.example", false),
            ("under.example", false),
            ("a.b.under.example", true),
            ("eunder.example", false),
            ("both.example", true),
            ("a.both.example", true),
            ("x-1.labels.example", true),
            ("x-1.y.labels.example", false),
            ("10.255.0.1", true),
            ("[::ffff:10.1.1.1]", true),
            ("11.0.0.1", false),
            ("[fd12::1]", true),
            ("[fe80::1]", false),
        ];
        for (host, want) in rows {
            assert_eq!(set.contains(&Host::parse(host).expect(host)), want, "{host}");
        }
    }

    proptest! {
        /// The indexes say what the patterns say one by one.
        #[test]
        fn a_set_matches_what_its_patterns_match(
            patterns in proptest::collection::vec(
                ("[ab]|\\*|\\.|[ab*]{2}", proptest::collection::vec("[ab]|a\\*", 0..3)),
                0..6,
            ),
            host in proptest::collection::vec("[ab]{1,2}", 1..5),
        ) {
            let texts = patterns.iter().map(|(first, labels)| match first.as_str() {
                "." => format!(".{}", [labels.clone(), vec!["b".into(), "test".into()]].concat().join(".")),
                first => [vec![first.to_owned()], labels.clone(), vec!["b".into(), "test".into()]].concat().join("."),
            });
            let patterns: Vec<HostPattern> = texts.filter_map(|text| HostPattern::parse(&text).ok()).collect();
            let host = Host::parse(&format!("{}.b.test", host.join("."))).expect("a name");
            let want = patterns.iter().any(|pattern| pattern.matches(&host));
            prop_assert_eq!(HostSet::new(patterns.clone()).contains(&host), want, "{:?} {}", patterns, host);
        }
    }
}
