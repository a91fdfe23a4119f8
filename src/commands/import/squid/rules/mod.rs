//! From verdicts to policies: which `allow`, `allow_files` and `deny` say the same.
//!
//! In a policy `deny` always wins, and Squid's first match does not: what lies in a denied part of an allowed suffix
//! cannot be allowed again. It stays denied, and is told. Not here: how the lines look ([`crate::commands::import::draft`]).

mod addresses;
mod content;
mod lists;
mod names;
mod reach;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ipnet::IpNet;

use self::content::{Gathering, PolicyContent};
use self::lists::HostList;
use super::access::Access;
use super::acl::{AclTest, AskedHost};
use super::classes::{self, ClientClass};
use super::files::Files;
use super::table::{Mentioned, VerdictTable};
use super::truth::Truth;
use crate::commands::import::draft::{DraftPolicy, free_name};
use crate::commands::import::notes::{NoteKind, Notes};

/// The classes of one user, each with what is in its policy.
type ClassContents<'a> = Vec<(&'a ClientClass, Rc<PolicyContent>)>;

/// A policy while classes are gathered in it.
struct PolicyGroup {
    name: String,
    networks: Vec<IpNet>,
    users: Vec<String>,
    content: Rc<PolicyContent>,
}

/// Makes the policies, and tells where they differ. `users`: those of the password file.
pub(super) fn policies(
    access: &Access<'_>,
    users: &[String],
    files: &Files,
    notes: &mut Notes,
) -> Vec<DraftPolicy> {
    let mentioned = Mentioned::by(access);
    let lists = lists::of(access, files, notes);
    let classes = classes::of(access, users);
    let mut contents: BTreeMap<Vec<(String, Truth)>, Rc<PolicyContent>> = BTreeMap::new();
    let mut by_user: BTreeMap<Option<String>, ClassContents<'_>> = BTreeMap::new();
    for class in &classes {
        let mut key: Vec<(String, Truth)> =
            class.lists.iter().map(|(name, is)| (name.clone(), *is)).collect();
        key.sort();
        let content = contents.entry(key).or_insert_with(|| {
            let table = VerdictTable::new(access, &mentioned.segments, class);
            Rc::new(content(access, &mentioned, table, &lists, notes))
        });
        by_user.entry(class.user.clone()).or_default().push((class, Rc::clone(content)));
    }
    access.tell(notes);
    differences(access, contents.values().map(Rc::as_ref), notes);
    // Users first: a policy without users fits everybody.
    let nobody = by_user.remove(&None).unwrap_or_default();
    let mut groups: Vec<PolicyGroup> = Vec::new();
    let mut together: Vec<(Vec<String>, ClassContents<'_>)> = Vec::new();
    for (user, rows) in by_user {
        let same = together.iter_mut().find(|(_, other)| {
            other.len() == rows.len() && other.iter().zip(&rows).all(|((_, one), (_, two))| one == two)
        });
        match same {
            Some((users, _)) => users.extend(user),
            None => together.push((user.into_iter().collect(), rows)),
        }
    }
    for (users, rows) in together.into_iter().chain([(Vec::new(), nobody)]) {
        groups.extend(placed(access, &users, &rows));
    }
    let policies = needed(groups);
    if policies.is_empty() {
        let place = access.rules.last().map_or_else(|| access.whole.clone(), |rule| rule.place.clone());
        notes.tell(
            &place,
            NoteKind::Lost,
            "nothing is allowed: `policies` is empty, and every request is denied",
        );
    }
    policies
}

/// What is allowed and denied to one class of clients.
fn content(
    access: &Access<'_>,
    mentioned: &Mentioned,
    mut table: VerdictTable<'_>,
    lists: &[HostList],
    notes: &mut Notes,
) -> PolicyContent {
    let segments = &mentioned.segments;
    let mut gathering = Gathering { access, segments, content: PolicyContent::default(), notes };
    gathering.everything(&table.row(AskedHost::OtherNames));
    names::add(&mut gathering, mentioned, &mut table, lists);
    addresses::add(&mut gathering, mentioned, &mut table);
    let mut content = gathering.content;
    content.allow.sort();
    content.allow.dedup();
    content.deny.sort();
    content.deny.dedup();
    content
}

/// The classes of one set of users, gathered: the first policy that fits a client is the one for its class.
fn placed(
    access: &Access<'_>,
    users: &[String],
    rows: &[(&ClientClass, Rc<PolicyContent>)],
) -> Vec<PolicyGroup> {
    let mut groups: Vec<PolicyGroup> = Vec::new();
    let mut places: Vec<(IpNet, usize)> = Vec::new();
    // Narrow networks come first.
    for (class, content) in rows {
        let inside = places.iter().filter(|(network, _)| class.network.contains(network));
        let least = inside.map(|(_, place)| *place).max().unwrap_or(0);
        let fits = |(number, group): &(usize, &PolicyGroup)| *number >= least && group.content == *content;
        let number = match groups.iter().enumerate().find(fits) {
            Some((number, _)) => number,
            None => {
                let name = name_of(access, class, users);
                groups.push(PolicyGroup {
                    name,
                    networks: Vec::new(),
                    users: users.to_vec(),
                    content: Rc::clone(content),
                });
                groups.len() - 1
            }
        };
        if let Some(group) = groups.get_mut(number) {
            group.networks.retain(|network| !class.network.contains(network));
            group.networks.push(class.network);
        }
        places.push((class.network, number));
    }
    groups
}

/// The list of Squid's that is for these clients.
fn name_of(access: &Access<'_>, class: &ClientClass, users: &[String]) -> String {
    if let [user] = users {
        return short(user);
    }
    // The narrowest network first, then the shortest list.
    let mut lists: Vec<(Reverse<u8>, usize, &str)> = Vec::new();
    for (name, acl) in access.used().into_iter().filter(|(name, _)| *name != "all") {
        let AclTest::Client(networks) = &acl.test else { continue };
        let around = networks.iter().filter(|network| network.contains(&class.network));
        if let Some(longest) = around.map(IpNet::prefix_len).max() {
            lists.push((Reverse(longest), networks.len(), name));
        }
    }
    lists.sort_unstable();
    match lists.first() {
        Some((_, _, name)) => short(name),
        None if users.is_empty() => "everyone".to_owned(),
        None => "users".to_owned(),
    }
}

/// A policy's name has at most 128 characters, and a number may follow.
fn short(name: &str) -> String {
    name.chars().take(100).collect()
}

/// The policies with unique names, without those that allow nothing and keep no client from a later policy.
fn needed(groups: Vec<PolicyGroup>) -> Vec<DraftPolicy> {
    let allows: Vec<(bool, Vec<IpNet>)> =
        groups.iter().map(|group| (!group.content.is_empty(), group.networks.clone())).collect();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut policies = Vec::new();
    for (number, group) in groups.into_iter().enumerate() {
        let mut networks = group.networks;
        if group.content.is_empty() {
            let later = allows
                .iter()
                .skip(number + 1)
                .filter(|(allows, _)| *allows)
                .flat_map(|(_, networks)| networks);
            let later: Vec<&IpNet> = later.collect();
            networks.retain(|network| {
                later.iter().any(|other| other.contains(network) || network.contains(*other))
            });
        }
        if networks.is_empty() {
            continue;
        }
        networks.sort();
        let name = free_name(&group.name, |name| names.contains(name));
        names.insert(name.clone());
        let PolicyContent { allow, files, deny, .. } = (*group.content).clone();
        policies.push(DraftPolicy { name, networks, users: group.users, allow, files, deny });
    }
    policies
}

/// What is carried over and means something else.
fn differences<'c>(
    access: &Access<'_>,
    contents: impl Iterator<Item = &'c PolicyContent>,
    notes: &mut Notes,
) {
    let mut connect: BTreeSet<usize> = BTreeSet::new();
    let (mut http, mut others, mut unless) = (connect.clone(), connect.clone(), connect.clone());
    for content in contents {
        connect.extend(&content.connect);
        http.extend(&content.http);
        others.extend(&content.other_ports);
        unless.extend(&content.unless);
    }
    let place = |number: &usize| access.rule(*number).map(|rule| rule.place.clone());
    if let Some(place) = connect.iter().next().and_then(place) {
        notes.tell(&place, NoteKind::Differs, "inside a tunnel there must be TLS, and the server name that it shows (SNI) must be the host of the CONNECT; Squid looked at neither");
    }
    if let Some(place) = connect.union(&http).next().and_then(place) {
        notes.tell(&place, NoteKind::Differs, "a name must lead to public addresses; for an internal one give the rule, or the policy, `private` with its network; Squid took any");
    }
    for number in others {
        if let Some(place) = place(&number) {
            notes.tell(&place, NoteKind::Differs, "a tunnel to a port other than 443 must carry TLS too; where it carries something else write the rule as tcp://host:port: an opaque tunnel, content not inspected");
        }
    }
    for number in unless {
        if let Some(rule) = access.rules.get(number) {
            let text = format!(
                "{}: each address of a name is judged separately: a denied one is skipped, the others may be dialled",
                rule.shown
            );
            notes.tell(&rule.place, NoteKind::Differs, text);
        }
    }
    for number in connect.union(&http) {
        let literals = access.rules.get(*number).map(|rule| rule.literals.as_slice()).unwrap_or_default();
        for literal in literals.iter().filter(|literal| !literal.negated) {
            let Some(acl) = access.acls.get(&literal.acl) else { continue };
            if let AclTest::Host(hosts) = &acl.test
                && hosts.looks_backwards()
            {
                notes.tell(&acl.place, NoteKind::Differs, "Squid let a literal address through if its PTR name was listed; egressd looks up no PTR names, so a literal address needs its own rule");
            }
        }
    }
}
