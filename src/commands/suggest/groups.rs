//! Clients that asked for the same, under the same policies: each group becomes one policy.
//!
//! A policy is for every client at its networks with one of its identities. So a group has clients of several identities only if
//! each of them came from all of its networks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use super::askers::Asker;
use super::kind::Kind;
use super::lines::Line;
use crate::words::small_sort::SmallSort as _;

/// Most policies that are written: a person reads them.
const MOST: usize = 1_000;
/// The name where the log has none.
const UNNAMED: &str = "suggested";
/// The longest name of a policy, in characters, without the number at its end.
const LONGEST: usize = 120;

/// One policy to write.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// The policies that were the clients' own, if there are several.
    pub(super) merged: Vec<Box<str>>,
    /// Exactly the clients' networks; empty if the log names no client.
    pub(super) networks: Vec<IpNet>,
    /// One of them must be proven; empty: none.
    pub(super) identities: Vec<Box<str>>,
    pub(super) lines: Vec<Line>,
}

/// What clients of one group have in common: their policies, and what they asked for.
type Same = (BTreeSet<Box<str>>, Vec<String>);

/// Clients with one identity that have everything in common.
#[derive(Default)]
struct Members {
    networks: BTreeSet<IpNet>,
    lines: Vec<Line>,
}

/// Gathers clients.
#[derive(Default)]
pub(super) struct Gathering(HashMap<Same, BTreeMap<Option<Box<str>>, Members>>);

impl Gathering {
    /// Adds a client with the rules for it.
    pub(super) fn add(&mut self, asker: &Asker, policies: &BTreeSet<Box<str>>, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let same = (policies.clone(), lines.iter().map(Line::identity).collect());
        let members = self.0.entry(same).or_default().entry(asker.identity.clone()).or_default();
        members.networks.extend(asker.network);
        if members.lines.is_empty() {
            members.lines = lines;
            return;
        }
        for (line, other) in members.lines.iter_mut().zip(&lines) {
            line.merge(other);
        }
    }

    /// The groups in the order of their policies, and how many clients had no room in them. The first policy that is for a client
    /// decides alone, so those that want an identity come first, and those for the more exact kind of identity before others:
    /// the log names the first identity of a client, and it may have more.
    pub(super) fn groups(self) -> (Vec<Group>, usize) {
        let mut all: Vec<(BTreeSet<Box<str>>, Group)> = Vec::new();
        for ((policies, _), members) in self.0 {
            for (networks, (identities, lines)) in by_networks(members) {
                let merged: Vec<Box<str>> = policies.iter().filter(|_| policies.len() > 1).cloned().collect();
                let networks = networks.into_iter().collect();
                all.push((
                    policies.clone(),
                    Group { name: String::new(), merged, networks, identities, lines },
                ));
            }
        }
        all.small_sort_by_cached_key(|(policies, group)| {
            let lines = group.lines.iter();
            let kind = lines.clone().map(|line| line.kind).min().unwrap_or(Kind::Denied);
            let seen = lines.map(|line| &line.seen);
            let requests: u64 = seen.map(|seen| seen.passed + seen.would_deny + seen.denied).sum();
            (
                rank(&group.identities),
                policies.clone(),
                kind,
                Reverse(requests),
                group.networks.clone(),
                group.identities.clone(),
            )
        });
        let beyond = all.split_off(all.len().min(MOST));
        let beyond = beyond.iter().map(|(_, group)| group.networks.len() * group.identities.len().max(1));
        let beyond = beyond.sum();
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut groups = Vec::new();
        for (policies, mut group) in all {
            group.name = new_name(policies.first().map_or(UNNAMED, |first| first), &names);
            names.insert(group.name.clone());
            group.networks = IpNet::aggregate(&group.networks);
            groups.push(group);
        }
        (groups, beyond)
    }
}

/// Identities, and what those who have one of them asked for.
type Together = (Vec<Box<str>>, Vec<Line>);

/// Clients of several identities are one group where they came from the same networks.
fn by_networks(members: BTreeMap<Option<Box<str>>, Members>) -> Vec<(BTreeSet<IpNet>, Together)> {
    let mut found: BTreeMap<(bool, BTreeSet<IpNet>), Together> = BTreeMap::new();
    for (identity, Members { networks, lines }) in members {
        let (identities, all) =
            found.entry((identity.is_some(), networks)).or_insert_with(|| (Vec::new(), Vec::new()));
        identities.extend(identity);
        if all.is_empty() {
            *all = lines;
            continue;
        }
        for (line, other) in all.iter_mut().zip(&lines) {
            line.merge(other);
        }
    }
    found.into_iter().map(|((_, networks), group)| (networks, group)).collect()
}

/// The order of identities in a client that has several: those of its certificate come first, the most exact of them first.
fn rank(identities: &[Box<str>]) -> usize {
    const KINDS: [&str; 4] = ["spiffe://", "dns:", "cn:", "user:"];
    let of = |identity: &str| KINDS.iter().position(|kind| identity.starts_with(kind));
    match identities.first() {
        None => KINDS.len() + 1,
        Some(first) => of(first).unwrap_or(KINDS.len()),
    }
}

/// `name`, or with a number at its end if it is taken. A log may contain any text.
fn new_name(name: &str, taken: &BTreeSet<String>) -> String {
    let is_name = !name.trim().is_empty() && !name.contains(char::is_control);
    let name: String = if is_name { name } else { UNNAMED }.chars().take(LONGEST).collect();
    let with_numbers = (2..).map(|number: usize| format!("{name}-{number}"));
    std::iter::once(name.clone()).chain(with_numbers).find(|name| !taken.contains(name)).unwrap_or(name)
}
