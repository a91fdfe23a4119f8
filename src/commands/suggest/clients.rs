//! The clients in a log as the narrowest useful networks: pods and hosts of one subnet come and go.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use ipnet::IpNet;

/// Most networks that are kept.
const MOST: usize = 256;
/// IPv4 clients that share a prefix of this length become one network.
const NEAR_V4: u8 = 24;
/// One IPv6 client: a client that has one address of a /64 can have any of them.
const NEAR_V6: u8 = 64;

/// Clients of one kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    /// By the network around them: the only address seen in it, or none if there are several.
    near: BTreeMap<IpNet, Option<IpAddr>>,
    /// There were more, and no room for them.
    pub(super) more: bool,
}

impl Clients {
    pub(super) fn add(&mut self, client: IpAddr) {
        let client = client.to_canonical();
        let prefix = if client.is_ipv4() { NEAR_V4 } else { NEAR_V6 };
        // No prefix is longer than its address.
        let Ok(network) = IpNet::new(client, prefix).map(|network| network.trunc()) else { return };
        self.add_near(network, Some(client));
    }

    pub(super) fn merge(&mut self, other: &Clients) {
        self.more |= other.more;
        for (network, only) in &other.near {
            self.add_near(*network, *only);
        }
    }

    fn add_near(&mut self, network: IpNet, client: Option<IpAddr>) {
        let has_place = self.near.len() < MOST;
        match self.near.entry(network) {
            Entry::Occupied(mut known) if *known.get() != client => drop(known.insert(None)),
            Entry::Occupied(_) => {}
            Entry::Vacant(free) if has_place => drop(free.insert(client)),
            Entry::Vacant(_) => self.more = true,
        }
    }

    /// The address of a client that is alone in its /24, the /24 if there are several, and the /64 for IPv6.
    pub(super) fn networks(&self) -> Vec<IpNet> {
        let written = |(network, only): (&IpNet, &Option<IpAddr>)| match only {
            Some(only @ IpAddr::V4(_)) => IpNet::from(*only),
            _ => *network,
        };
        self.near.iter().map(written).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(addresses: &[&str]) -> Clients {
        let mut clients = Clients::default();
        addresses.iter().for_each(|address| clients.add(address.parse().expect(address)));
        clients
    }

    fn networks(clients: &Clients) -> Vec<String> {
        clients.networks().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_is_itself_and_several_of_a_subnet_are_the_subnet() {
        let some = clients(&["10.0.1.7", "10.0.1.7", "203.0.113.9", "10.0.2.1", "10.0.2.200", "2001:db8::1"]);
        assert_eq!(networks(&some), ["10.0.1.7/32", "10.0.2.0/24", "203.0.113.9/32", "2001:db8::/64"]);
        let mut merged = some.clone();
        merged.merge(&clients(&["10.0.1.7", "203.0.113.1", "192.0.2.1"]));
        let want = ["10.0.1.7/32", "10.0.2.0/24", "192.0.2.1/32", "203.0.113.0/24", "2001:db8::/64"];
        assert_eq!(networks(&merged), want);
        assert!(!merged.more);
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        let mut many = Clients::default();
        for number in 0..=MOST {
            many.add(IpAddr::from([10, (number / 256) as u8, (number % 256) as u8, 1]));
        }
        assert!(many.more);
        assert_eq!(many.networks().len(), MOST);
        let mut merged = many.clone();
        merged.more = false;
        merged.merge(&clients(&["192.0.2.1"]));
        assert!(merged.more);
    }
}
