//! Who asked: the clients in a log, by their address and the identity that they proved, and which policies were theirs.
//!
//! Exact: a network that nobody logged is in no policy, unless the person asks for it. Not here: which of them ask for the
//! same ([`groups`](super::groups)).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::kind::Kind;
use crate::commands::logs::{Entry, Text};

/// Most clients that are kept of those that were let through; half as many of those that were only denied.
const MOST: usize = 20_000;
/// Most policies of one client whose names are kept.
const POLICIES: usize = 4;
/// IPv4 clients that share a prefix of this length are one, if clients are rounded up.
const NEAR_V4: u8 = 24;
/// The same for IPv6.
const NEAR_V6: u8 = 64;

/// One client, by its number.
pub(super) type Who = u32;

/// What is known of one client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Asker {
    /// Its address, or the network around it. None: the log does not say.
    pub(super) network: Option<IpNet>,
    /// The identity that it proved, with its kind.
    pub(super) identity: Option<Box<str>>,
}

/// All clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Askers {
    /// Whether clients of one network are one.
    round_up: bool,
    known: HashMap<Asker, Who>,
    policies: Vec<BTreeSet<Box<str>>>,
    /// By the kind of their first request.
    kept: [usize; 3],
}

impl Askers {
    pub(super) fn new(round_up: bool) -> Self {
        Askers { round_up, ..Askers::default() }
    }

    /// The client of a line, which is of this kind. None: there is no room for another client.
    pub(super) fn note(&mut self, entry: &Entry<'_>, kind: Kind) -> Option<Who> {
        let asker = self.asker(entry);
        let who = match self.known.get(&asker) {
            Some(who) => *who,
            None => {
                let most = if kind == Kind::Passed { MOST } else { MOST / 2 };
                let kept = self.kept.get_mut(kind as usize).filter(|kept| **kept < most)?;
                *kept += 1;
                let who = Who::try_from(self.policies.len()).ok()?;
                self.policies.push(BTreeSet::new());
                self.known.insert(asker, who);
                who
            }
        };
        if let (Some(policy), Some(policies)) = (entry.policy, self.policies.get_mut(who as usize)) {
            let policy = policy.decoded();
            if policies.len() < POLICIES && !policies.contains(&*policy) {
                policies.insert(policy.into());
            }
        }
        Some(who)
    }

    /// The client of a line, if another line had it.
    pub(super) fn find(&self, entry: &Entry<'_>) -> Option<Who> {
        self.known.get(&self.asker(entry)).copied()
    }

    fn asker(&self, entry: &Entry<'_>) -> Asker {
        let network = entry.client_ip().map(|address| match self.round_up {
            true => around(address),
            false => IpNet::from(address.to_canonical()),
        });
        let identity = entry.identity.map(Text::decoded).map(|identity| match entry.brief {
            // Squid writes the name alone.
            true => format!("user:{identity}").into(),
            false => identity.into(),
        });
        Asker { network, identity }
    }

    /// Every client, with its number and the policies that were its own.
    pub(super) fn all(&self) -> impl Iterator<Item = (Who, &Asker, &BTreeSet<Box<str>>)> {
        self.known.iter().filter_map(|(asker, who)| Some((*who, asker, self.policies.get(*who as usize)?)))
    }

    /// Whether the log names a client at all.
    pub(super) fn are_named(&self) -> bool {
        self.known.keys().any(|asker| asker.network.is_some())
    }
}

fn around(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    let prefix = if address.is_ipv4() { NEAR_V4 } else { NEAR_V6 };
    // No prefix is longer than its address.
    IpNet::new(address, prefix).map_or_else(|_| IpNet::from(address), |network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(askers: &mut Askers, client: &str, identity: &str, kind: Kind) -> Option<Who> {
        let line = format!(r#"{{"event":"deny","client":"{client}:1","identity":{identity},"policy":"p"}}"#);
        askers.note(&Entry::parse(line.as_bytes()).expect("a record"), kind)
    }

    #[test]
    fn an_address_is_a_client_and_a_network_only_if_asked_for() {
        for (round_up, want) in [(false, [0, 1, 2, 3, 4, 0]), (true, [0, 0, 1, 2, 2, 0])] {
            let mut askers = Askers::new(round_up);
            let clients =
                ["10.0.0.1", "10.0.0.200", "10.0.1.1", "[2001:db8::1]", "[2001:db8::2]", "[::ffff:10.0.0.1]"];
            let found = clients.map(|client| asker(&mut askers, client, "null", Kind::Passed));
            assert_eq!(found, want.map(Some), "{round_up}");
        }
        let mut askers = Askers::new(true);
        let found = ["null", "\"dns:a\"", "\"dns:b\"", "null"];
        let found = found.map(|identity| asker(&mut askers, "10.0.0.1", identity, Kind::Passed));
        assert_eq!(found, [0, 1, 2, 0].map(Some), "an identity tells clients of one address apart");
    }

    #[test]
    fn so_many_are_kept_and_those_that_were_only_denied_displace_none() {
        let mut askers = Askers::new(false);
        let address = |number: usize| format!("[2001:db8::{number:x}]");
        let kept =
            (0..MOST).filter(|number| asker(&mut askers, &address(*number), "null", Kind::Denied).is_some());
        assert_eq!(kept.count(), MOST / 2);
        assert!(asker(&mut askers, "10.0.0.1", "null", Kind::Passed).is_some());
        assert!(asker(&mut askers, &address(1), "null", Kind::Denied).is_some(), "it is known");
    }
}
