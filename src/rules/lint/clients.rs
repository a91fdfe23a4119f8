//! Which policies no client reaches: earlier ones match all of its clients, or no listener can know them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::cover::{Effect, Neighbours};
use crate::rules::{AddressSet, ClientMatch, Policies, RuleView};

/// So many policies are named that come before another.
const NAMED: usize = 6;

/// A policy that comes before another.
#[derive(Clone, Debug)]
pub struct Rival<'a> {
    name: &'a str,
    identities: Vec<Box<str>>,
    vpc_endpoints: Vec<Box<str>>,
    listeners: Vec<Box<str>>,
    addresses: AddressSet,
}

impl<'a> Rival<'a> {
    /// A policy of this name, for these clients, whose addresses are `addresses`.
    pub fn new(name: &'a str, clients: &ClientMatch, addresses: AddressSet) -> Self {
        let ClientMatch { identities, vpc_endpoints, listeners, networks: _, files: _ } = clients;
        let (identities, vpc_endpoints) = (identities.clone(), vpc_endpoints.clone());
        Rival { name, identities, vpc_endpoints, listeners: listeners.clone(), addresses }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    fn has_listener(&self, listener: Option<&str>) -> bool {
        self.listeners.is_empty()
            || listener.is_some_and(|listener| self.listeners.iter().any(|one| **one == *listener))
    }

    /// Whether one client may be of both policies. One that proves an identity may prove another of another kind: a
    /// certificate has a common name beside its other names.
    pub fn shares_clients(&self, other: &ClientMatch, addresses: &AddressSet, proofs: Proofs) -> bool {
        let share = |mine: &[Box<str>], theirs: &[Box<str>]| {
            let mine: HashSet<&str> = mine.iter().map(AsRef::as_ref).collect();
            theirs.iter().any(|one| mine.contains(&**one))
        };
        let any = |mine: &[Box<str>], theirs: &[Box<str>]| mine.is_empty() || theirs.is_empty();
        let (mine, theirs) = (&self.identities, &other.identities);
        (any(&self.vpc_endpoints, &other.vpc_endpoints) || share(&self.vpc_endpoints, &other.vpc_endpoints))
            && (any(&self.listeners, &other.listeners) || share(&self.listeners, &other.listeners))
            && (any(mine, theirs) || proofs.may_be_of_one(mine, theirs) || share(mine, theirs))
            && self.addresses.meets(addresses)
    }
}

/// By how much the clients of the listeners can prove who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proofs {
    /// By a certificate or by a password.
    Either,
    /// Some listener asks for both.
    Both,
}

impl Proofs {
    /// Whether one client may prove an identity of the one and an identity of another kind of the other.
    fn may_be_of_one(self, one: &[Box<str>], other: &[Box<str>]) -> bool {
        let kinds = |of: &[Box<str>]| -> HashSet<String> {
            of.iter().filter_map(|identity| Some(identity.split_once(':')?.0.to_owned())).collect()
        };
        let (one, other) = (kinds(one), kinds(other));
        let together = |a: &str, b: &str| a != b && (self == Proofs::Both || (a != "user" && b != "user"));
        one.iter().any(|a| other.iter().any(|b| together(a, b)))
    }
}

/// What a listener can know of its clients.
#[derive(Clone, Default, Debug)]
pub struct Entrance {
    /// Its name.
    pub name: Arc<str>,
    /// It asks every client for a password, which proves one of these identities. None: it asks for none.
    pub users: Option<HashSet<Box<str>>>,
    /// It verifies certificates, which may prove every identity but those of users.
    pub certificates: bool,
    /// It learns the endpoints that clients come through.
    pub endpoints: bool,
}

impl Entrance {
    fn proves(&self, identity: &str) -> bool {
        match identity.starts_with("user:") {
            true => self.users.as_ref().is_some_and(|users| users.contains(identity)),
            false => self.certificates,
        }
    }

    /// Whether a client of this kind may come by it.
    fn may_be_for(&self, clients: &ClientMatch) -> bool {
        let known =
            clients.identities.is_empty() || clients.identities.iter().any(|identity| self.proves(identity));
        known
            && (clients.vpc_endpoints.is_empty() || self.endpoints)
            && clients.listener_fits(Some(&self.name))
    }
}

/// Whether a client of this kind may come by one of these listeners.
pub fn may_come(clients: &ClientMatch, entrances: &[Entrance]) -> bool {
    entrances.iter().any(|entrance| entrance.may_be_for(clients))
}

/// Why no client reaches a policy: it names the earlier policies that match all of its clients. `None`: some client may
/// reach it. `addresses` are those of its clients. Without `entrances`, nothing is known of the listeners.
pub fn unreachable(
    earlier: &[Rival<'_>],
    later: &ClientMatch,
    addresses: &AddressSet,
    entrances: &[Entrance],
) -> Option<String> {
    if addresses.is_empty() {
        return None;
    }
    // The common case, and the shortest text.
    let covers = |mine: &[Box<str>], theirs: &[Box<str>]| {
        mine.is_empty() || (!theirs.is_empty() && theirs.iter().all(|one| mine.contains(one)))
    };
    let one = earlier.iter().find(|rival| {
        covers(&rival.identities, &later.identities)
            && covers(&rival.vpc_endpoints, &later.vpc_endpoints)
            && covers(&rival.listeners, &later.listeners)
            && rival.addresses.covers(addresses)
    });
    if let Some(rival) = one {
        return Some(format!("`{}` comes before it and matches all of its clients", rival.name));
    }
    let near: Vec<&Rival<'_>> = earlier.iter().filter(|rival| rival.addresses.meets(addresses)).collect();
    let mut before = vec![false; near.len()];
    let kinds = kinds(later, &near, entrances);
    if kinds.is_empty() {
        return None;
    }
    let endpoints: Vec<Option<&str>> = match later.vpc_endpoints.as_slice() {
        [] => vec![None],
        endpoints => endpoints.iter().map(|endpoint| Some(&**endpoint)).collect(),
    };
    for Kind { listener, naming } in &kinds {
        for endpoint in &endpoints {
            let of_kind = near.iter().enumerate().filter(|(number, rival)| {
                let at = |endpoint: &&str| rival.vpc_endpoints.iter().any(|one| **one == **endpoint);
                (rival.identities.is_empty() || naming.contains(number))
                    && (rival.vpc_endpoints.is_empty() || endpoint.as_ref().is_some_and(at))
                    && rival.has_listener(*listener)
            });
            let of_kind: Vec<(usize, &&Rival<'_>)> = of_kind.collect();
            if !AddressSet::union(of_kind.iter().map(|(_, rival)| &rival.addresses)).covers(addresses) {
                return None;
            }
            for (number, _) in of_kind {
                if let Some(before) = before.get_mut(number) {
                    *before = true;
                }
            }
        }
    }
    let names = near.iter().zip(&before).filter(|(_, before)| **before);
    let names: Vec<String> = names.map(|(rival, _)| format!("`{}`", rival.name)).collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    Some(format!("{names}{more} come before it and together match all of its clients"))
}

/// Clients of a policy that its earlier policies do not tell apart.
#[derive(PartialEq, Eq, Hash)]
struct Kind<'c> {
    /// The listener that they come by; None: any that no earlier policy names.
    listener: Option<&'c str>,
    /// The earlier policies that name their identity, by number.
    naming: Vec<usize>,
}

/// The kinds of a policy's clients. A client of a policy without identities may have none. With `entrances`, there are no other
/// listeners than these.
fn kinds<'c>(later: &'c ClientMatch, near: &[&Rival<'_>], entrances: &'c [Entrance]) -> HashSet<Kind<'c>> {
    let mut naming: HashMap<&str, Vec<usize>> = HashMap::new();
    for (number, rival) in near.iter().enumerate() {
        for identity in &rival.identities {
            naming.entry(identity).or_default().push(number);
        }
    }
    let tells_listeners = near.iter().any(|rival| !rival.listeners.is_empty());
    let ways: Vec<(Option<&str>, Option<&Entrance>)> = match (entrances, later.listeners.as_slice()) {
        ([], []) => vec![(None, None)],
        ([], listeners) => listeners.iter().map(|listener| (Some(&**listener), None)).collect(),
        (entrances, _) => {
            let open = entrances.iter().filter(|entrance| entrance.may_be_for(later));
            open.map(|entrance| (tells_listeners.then_some(&*entrance.name), Some(entrance))).collect()
        }
    };
    let mut kinds = HashSet::new();
    for (listener, entrance) in ways {
        if later.identities.is_empty() {
            kinds.insert(Kind { listener, naming: Vec::new() });
        }
        let proven = later.identities.iter();
        for identity in proven.filter(|identity| entrance.is_none_or(|entrance| entrance.proves(identity))) {
            let naming = naming.get(&**identity).cloned().unwrap_or_default();
            kinds.insert(Kind { listener, naming });
        }
    }
    kinds
}

/// Of each policy, whether some client may reach it.
pub fn reached(policies: &Policies, entrances: &[Entrance]) -> Vec<bool> {
    let mut seen: Vec<Rival<'_>> = Vec::new();
    let of_each = policies.iter().map(|policy| {
        let (clients, addresses) = (&policy.clients, &policy.addresses);
        let is_reached = !addresses.is_empty()
            && (entrances.is_empty() || may_come(clients, entrances))
            && unreachable(&seen, clients, addresses, entrances).is_none();
        seen.push(Rival::new(&policy.name, clients, addresses.clone()));
        is_reached
    });
    of_each.collect()
}

/// The `allow` rules that let something out: neither those that `deny` matches completely or that have expired, nor those of
/// a policy that no client reaches.
pub fn let_out<'p>(policies: &'p Policies, entrances: &[Entrance], now: Timestamp) -> Vec<RuleView<'p>> {
    let mut found = Vec::new();
    for (policy, is_reached) in policies.iter().zip(reached(policies, entrances)) {
        if !is_reached {
            continue;
        }
        let mut neighbours = Neighbours::default();
        let allow = policy.store.ids().filter(|id| !policy.store.rule(*id).is_deny());
        found.extend(allow.filter_map(|id| match neighbours.effect(policy, id, now) {
            Effect::Denied { .. } | Effect::Expired { .. } => None,
            _ => Some(policy.view(id)),
        }));
    }
    found
}
