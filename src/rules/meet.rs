//! Which hosts two patterns have in common: whether some host fits both, and whether one fits all that the other fits.
//!
//! For code that compares rules without a request. Not here: ports, schemes, and which of two rules decides
//! ([`search`](super::search)).

use ipnet::IpNet;

use super::lint::may_meet;
use super::pattern::{HostPattern, network_of};

impl HostPattern {
    /// Whether some host fits both. It may say so too often for two patterns with several `*`, but it never says no by
    /// mistake.
    pub fn meets(&self, other: &HostPattern) -> bool {
        use HostPattern::{Address, Exact, Labels, Network, Under, UnderOrSelf};
        match (self, other) {
            (Address(_) | Network(_), _) | (_, Address(_) | Network(_)) => {
                let nets: (Option<IpNet>, Option<IpNet>) = (network_of(self), network_of(other));
                matches!(nets, (Some(one), Some(two)) if one.contains(&two) || two.contains(&one))
            }
            (Exact(one), Exact(two)) => one == two,
            (Exact(name), Labels(pattern)) | (Labels(pattern), Exact(name)) => pattern.matches(name.as_str()),
            (Labels(one), Labels(two)) => may_meet(one.as_str(), two.as_str()),
            (Exact(name), Under(base)) | (Under(base), Exact(name)) => is_under(name.as_str(), base.as_str()),
            (Exact(name), UnderOrSelf(base)) | (UnderOrSelf(base), Exact(name)) => {
                name == base || is_under(name.as_str(), base.as_str())
            }
            (Under(one) | UnderOrSelf(one), Under(two) | UnderOrSelf(two)) => {
                one == two || is_under(one.as_str(), two.as_str()) || is_under(two.as_str(), one.as_str())
            }
            (Labels(pattern), Under(base)) | (Under(base), Labels(pattern)) => {
                may_be_under(pattern.as_str(), base.as_str())
            }
            (Labels(pattern), UnderOrSelf(base)) | (UnderOrSelf(base), Labels(pattern)) => {
                pattern.matches(base.as_str()) || may_be_under(pattern.as_str(), base.as_str())
            }
        }
    }

    /// Whether every host that fits the other fits this one. It may say no too often for patterns with a `*` inside, but it
    /// never says yes by mistake.
    pub fn covers(&self, other: &HostPattern) -> bool {
        use HostPattern::{Address, Exact, Labels, Network, Under, UnderOrSelf};
        match (self, other) {
            (Address(_) | Network(_), _) | (_, Address(_) | Network(_)) => {
                let nets: (Option<IpNet>, Option<IpNet>) = (network_of(self), network_of(other));
                matches!(nets, (Some(wide), Some(narrow)) if wide.contains(&narrow))
            }
            (Exact(one), Exact(two)) => one == two,
            (Exact(_), _) => false,
            (Labels(pattern), Exact(name)) => pattern.matches(name.as_str()),
            (Labels(one), Labels(two)) => one == two,
            (Labels(_), Under(_) | UnderOrSelf(_)) => false,
            (Under(base) | UnderOrSelf(base), Labels(pattern)) => is_under(pattern.as_str(), base.as_str()),
            (Under(base), Exact(name) | UnderOrSelf(name)) => is_under(name.as_str(), base.as_str()),
            (UnderOrSelf(base), Exact(name) | UnderOrSelf(name))
            | (Under(base) | UnderOrSelf(base), Under(name)) => {
                name == base || is_under(name.as_str(), base.as_str())
            }
        }
    }
}

fn is_under(name: &str, base: &str) -> bool {
    name.strip_suffix(base).is_some_and(|head| head.ends_with('.'))
}

/// Whether some name of the pattern is under `base`: its last labels may be those of `base`, and it has more.
fn may_be_under(pattern: &str, base: &str) -> bool {
    let more = pattern.split('.').count().saturating_sub(base.split('.').count());
    let mut tail = pattern;
    for _ in 0..more {
        let Some((_, rest)) = tail.split_once('.') else { return false };
        tail = rest;
    }
    more > 0 && may_meet(tail, base)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::words::target::Host;

    const PATTERNS: [&str; 22] = [
        "a.test",
        "b.test",
        "a.b.test",
        "a.a.b.test",
        "*.test.example",
        ".a.test",
        "*.a.test",
        "*.b.test",
        ".b.test",
        "*.a.b.test",
        "a.*.x.test",
        "*.*.a.test",
        "a*.b.test",
        "*a.b.test",
        "a*a.b.test",
        "a.*b.b.test",
        "*.a.*.b.test",
        "192.0.2.1",
        "192.0.2.0/24",
        "192.0.0.0/16",
        "[2001:db8::1]",
        "[2001:db8::]/32",
    ];

    proptest! {
        /// What a host shows is never contradicted.
        #[test]
        fn a_host_that_fits_both_shows_that_they_meet(
            one in select(PATTERNS.to_vec()),
            other in select(PATTERNS.to_vec()),
            labels in prop::collection::vec(select(vec!["a", "b", "ab", "ba", "x", "aa"]), 0..5),
            address in select(vec!["192.0.2.1", "192.0.2.9", "192.0.9.9", "9.9.9.9", "[2001:db8::1]", "[2001:db8::2]"]),
        ) {
            let name = [labels.as_slice(), &["test"]].concat().join(".");
            let (one, other) = (HostPattern::parse(one).expect(one), HostPattern::parse(other).expect(other));
            for host in [name.as_str(), address] {
                let host = Host::parse(host).expect("a host");
                let fits = (one.matches(&host), other.matches(&host));
                if fits == (true, true) {
                    prop_assert!(one.meets(&other) && other.meets(&one), "{one} {other} {host}");
                }
                if one.covers(&other) && fits.1 {
                    prop_assert!(fits.0, "{one} covers {other}, but not {host}");
                }
            }
            if one.covers(&other) {
                prop_assert!(one.meets(&other), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_apart_does_not_meet() {
        let rows = [
            ("a.test", "b.test"),
            ("*.a.test", "a.test"),
            ("*.a.test", "*.b.test"),
            ("a*.b.test", "x.b.test"),
            ("a*.b.test", "*.a.test"),
            ("a*.b.test", "*.a.b.test"),
            ("192.0.2.1", "*.b.test"),
            ("192.0.2.0/24", "192.0.3.0/24"),
        ];
        for (one, other) in rows {
            let (first, second) =
                (HostPattern::parse(one).expect(one), HostPattern::parse(other).expect(other));
            assert!(!first.meets(&second) && !second.meets(&first), "{one} {other}");
        }
    }
}
