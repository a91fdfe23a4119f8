//! A set of addresses: the networks of a policy's clients, of which a file may list a million.
//!
//! Networks become sorted ranges that neither overlap nor touch. So one binary search says whether an address, or a
//! whole network, is in the set. Not here: rules for addresses, which have an order ([`networks`](super::networks)).

use std::net::IpAddr;

use ipnet::IpNet;

/// The addresses of some networks.
#[derive(Clone, Default, Debug)]
pub struct AddressSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// Sorted ranges, each with its first and its last address.
#[derive(Clone, Default, Debug)]
struct Ranges<A>(Box<[(A, A)]>);

/// What both kinds of address have in common: they are numbers.
trait Number: Copy + Ord {
    /// The next address; the last one has none.
    fn next(self) -> Option<Self>;
}

impl Number for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Number for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl<A: Number> Ranges<A> {
    fn of(mut ranges: Vec<(A, A)>) -> Self {
        ranges.sort_unstable();
        // The one that is kept last takes in what begins inside it or directly after it.
        ranges.dedup_by(|next, last| {
            let joins = last.1.next().is_none_or(|after| next.0 <= after);
            if joins {
                last.1 = last.1.max(next.1);
            }
            joins
        });
        Ranges(ranges.into_boxed_slice())
    }

    /// The range that begins last at or before `address`.
    fn before(&self, address: A) -> Option<&(A, A)> {
        let after = self.0.partition_point(|(first, _)| *first <= address);
        self.0.get(after.checked_sub(1)?)
    }

    /// Whether all of `first` to `last` is in one range.
    fn holds(&self, first: A, last: A) -> bool {
        self.before(first).is_some_and(|(_, end)| last <= *end)
    }

    /// Whether anything of `first` to `last` is in a range.
    fn meets(&self, first: A, last: A) -> bool {
        self.before(last).is_some_and(|(_, end)| first <= *end)
    }
}

impl AddressSet {
    /// The addresses of these networks.
    pub fn of<'n>(networks: impl IntoIterator<Item = &'n IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        AddressSet { v4: Ranges::of(v4), v6: Ranges::of(v6) }
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Whether an address is in it. The caller must unmap IPv4-mapped addresses.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.holds(&IpNet::from(address))
    }

    /// Whether every address of a network is in it.
    pub fn holds(&self, network: &IpNet) -> bool {
        match network {
            IpNet::V4(net) => self.v4.holds(net.network().to_bits(), net.broadcast().to_bits()),
            IpNet::V6(net) => self.v6.holds(net.network().to_bits(), net.broadcast().to_bits()),
        }
    }

    /// Whether every address of the other set is in it.
    pub fn covers(&self, other: &AddressSet) -> bool {
        other.v4.0.iter().all(|(first, last)| self.v4.holds(*first, *last))
            && other.v6.0.iter().all(|(first, last)| self.v6.holds(*first, *last))
    }

    /// Whether the two have an address in common.
    pub fn meets(&self, other: &AddressSet) -> bool {
        // The smaller one is walked through: a file may list a million networks.
        if other.v4.0.len() + other.v6.0.len() > self.v4.0.len() + self.v6.0.len() {
            return other.meets(self);
        }
        other.v4.0.iter().any(|(first, last)| self.v4.meets(*first, *last))
            || other.v6.0.iter().any(|(first, last)| self.v6.meets(*first, *last))
    }

    /// What is in one or the other.
    pub fn union<'s>(sets: impl IntoIterator<Item = &'s AddressSet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for set in sets {
            v4.extend_from_slice(&set.v4.0);
            v6.extend_from_slice(&set.v6.0);
        }
        AddressSet { v4: Ranges::of(v4), v6: Ranges::of(v6) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[test]
    fn the_ends_of_both_families_are_addresses_too() {
        let all = AddressSet::of(&[net("0.0.0.0/0"), net("::/0"), net("255.255.255.255/32")]);
        for text in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(all.contains(text.parse().expect("an address")), "{text}");
        }
        assert!(!AddressSet::of(&[]).contains(IpAddr::from([0, 0, 0, 0])));
        assert!(AddressSet::of(&[]).is_empty() && !all.is_empty());
    }

    /// Networks in a small space, so that they meet.
    fn networks() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 = (0..4_u8, 0..4_u8, 24..=32_u8)
            .prop_map(|(c, d, prefix)| IpNet::new_assert(IpAddr::from([10, 0, c, d << 6]), prefix).trunc());
        let v6 = (0..4_u16, 120..=128_u8).prop_map(|(last, prefix)| {
            IpNet::new_assert(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last << 6]), prefix).trunc()
        });
        prop::collection::vec(prop_oneof![v4, v6], 0..12)
    }

    proptest! {
        #[test]
        fn it_says_what_the_networks_say(one in networks(), two in networks()) {
            let (set, other) = (AddressSet::of(&one), AddressSet::of(&two));
            let mut addresses: Vec<IpAddr> = Vec::new();
            for c in 0..4 {
                addresses.extend((0..=255).map(|d| IpAddr::from([10, 0, c, d])));
                addresses.extend((0..=255).map(|d| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, c as u16 * 64 + d])));
            }
            let within = |networks: &[IpNet], address: &IpAddr| networks.iter().any(|net| net.contains(address));
            for address in &addresses {
                prop_assert_eq!(set.contains(*address), within(&one, address));
            }
            let covers = addresses.iter().all(|address| within(&one, address) || !within(&two, address));
            prop_assert_eq!(set.covers(&other), covers);
            let meets = addresses.iter().any(|address| within(&one, address) && within(&two, address));
            prop_assert_eq!(set.meets(&other), meets);
            let both = AddressSet::union([&set, &other]);
            for address in &addresses {
                prop_assert_eq!(both.contains(*address), within(&one, address) || within(&two, address));
            }
        }
    }
}
