//! From classes of clients to policies: which classes share one, in which order they stand, and what they are called.
//!
//! Not here: what is in a policy ([`super::content`]).

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use ipnet::IpNet;

use super::super::access::Access;
use super::super::acl::AclTest;
use super::super::classes::ClientClass;
use super::client_files::ClientFile;
use super::content::PolicyContent;
use crate::commands::import::draft::{DraftPolicy, free_name};
use crate::rules::AddressSet;
use crate::words::small_sort::SmallSort as _;

/// The classes of one user, each with what is in its policy; and what is in that of a client that is added to each file of
/// networks.
#[derive(Default)]
pub(super) struct ClassContents<'a> {
    pub(super) classes: Vec<(&'a ClientClass, Rc<PolicyContent>)>,
    pub(super) files: Vec<Option<Rc<PolicyContent>>>,
}

impl ClassContents<'_> {
    /// Whether two users get the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.classes.len() == other.classes.len()
            && self.classes.iter().zip(&other.classes).all(|((_, one), (_, two))| one.is_like(two))
            && self.files.iter().zip(&other.files).all(|(one, two)| match (one, two) {
                (Some(one), Some(two)) => one.is_like(two),
                (one, two) => one.is_none() && two.is_none(),
            })
    }
}

/// A policy while classes are gathered in it.
pub(super) struct PolicyGroup {
    networks: Vec<IpNet>,
    /// Files of networks, by number.
    files: BTreeSet<usize>,
    users: Vec<String>,
    content: Rc<PolicyContent>,
}

impl PolicyGroup {
    /// Its networks, those of its files included.
    fn listed(&self, files: &[ClientFile]) -> Vec<IpNet> {
        let of_files = self.files.iter().filter_map(|file| files.get(*file)).flat_map(|file| &file.networks);
        self.networks.iter().chain(of_files).copied().collect()
    }
}

/// The classes of one set of users, gathered: the first policy that fits a client is the one for its class.
pub(super) fn placed(users: &[String], rows: &ClassContents<'_>, files: &[ClientFile]) -> Vec<PolicyGroup> {
    let mut groups: Vec<PolicyGroup> = Vec::new();
    let mut places: Vec<(IpNet, usize)> = Vec::new();
    let new = |content: &Rc<PolicyContent>| PolicyGroup {
        networks: Vec::new(),
        files: BTreeSet::new(),
        users: users.to_vec(),
        content: Rc::clone(content),
    };
    // Narrow networks come first.
    for (class, content) in &rows.classes {
        let inside = places.iter().filter(|(network, _)| class.network.contains(network));
        let least = inside.map(|(_, place)| *place).max().unwrap_or(0);
        let fits =
            |(number, group): &(usize, &PolicyGroup)| *number >= least && group.content.is_like(content);
        // The whole of both families is one policy where it can be.
        let mut all = groups.iter().enumerate();
        let like = if class.network.prefix_len() == 0 { all.rfind(fits) } else { all.find(fits) };
        let number = match like {
            Some((number, _)) => number,
            None => {
                groups.push(new(content));
                groups.len() - 1
            }
        };
        if let Some(group) = groups.get_mut(number) {
            group.networks.retain(|network| !class.network.contains(network));
            group.networks.push(class.network);
        }
        places.push((class.network, number));
    }
    let mut denied: Vec<PolicyGroup> = Vec::new();
    let mut unlisted: Vec<PolicyGroup> = Vec::new();
    for (number, (file, content)) in files.iter().zip(&rows.files).enumerate() {
        let Some(content) = content else { continue };
        let shut = |content: &PolicyContent| content.is_empty() && !content.open;
        let within = |network: &IpNet| file.networks.iter().any(|listed| listed.contains(network));
        let mut inside = rows.classes.iter().filter(|(class, _)| within(&class.network));
        if shut(content) && inside.all(|(_, content)| shut(content)) {
            // A client that is added to it is denied, whatever else lists it, as long as no other policy comes first.
            let mut group = new(content);
            group.files.insert(number);
            denied.push(group);
            continue;
        }
        let place_of =
            |network: &IpNet| places.iter().find(|(placed, _)| placed == network).map(|(_, at)| *at);
        let last = file.networks.iter().map(place_of).collect::<Option<Vec<usize>>>();
        let Some(last) = last.map(|places| places.into_iter().max()) else { continue };
        let like = |(_, group): &(usize, &mut PolicyGroup)| group.content.is_like(content);
        let group = match last {
            Some(last) => groups.iter_mut().enumerate().nth(last).filter(like),
            None => groups.iter_mut().enumerate().rfind(like),
        };
        match group {
            Some((_, group)) => {
                group.networks.retain(|network| !file.networks.contains(network));
                group.files.insert(number);
            }
            // It lists nobody yet.
            None if last.is_none() => {
                let mut group = new(content);
                group.files.insert(number);
                unlisted.push(group);
            }
            None => {}
        }
    }
    drop_repeated(&mut groups, files);
    let everybody = |group: &PolicyGroup| group.networks.iter().any(|network| network.prefix_len() == 0);
    let at = groups.iter().position(everybody).unwrap_or(groups.len());
    groups.splice(at..at, unlisted);
    for group in &mut groups {
        let listed = |network: &IpNet| {
            denied.iter().flat_map(|group| &group.files).any(|file| files[*file].networks.contains(network))
        };
        if group.content.is_empty() {
            group.networks.retain(|network| !listed(network));
        }
    }
    denied.into_iter().chain(groups).collect()
}

/// Takes out of each group the networks whose clients get the same from the next one that is for them.
fn drop_repeated(groups: &mut [PolicyGroup], files: &[ClientFile]) {
    let sets: Vec<AddressSet> = groups.iter().map(|group| AddressSet::of(&group.listed(files))).collect();
    let contents: Vec<Rc<PolicyContent>> = groups.iter().map(|group| Rc::clone(&group.content)).collect();
    for (number, group) in groups.iter_mut().enumerate() {
        let own = Rc::clone(&group.content);
        group.networks.retain(|network| {
            let one = AddressSet::of([network]);
            let later = sets.iter().zip(&contents).skip(number + 1).find(|(set, _)| set.meets(&one));
            !later.is_some_and(|(set, content)| set.covers(&one) && content.is_like(&own))
        });
    }
}

/// The policies of these listeners with unique names, without those that allow nothing and keep no client from a later policy; and the
/// files of networks that stay. `others`: whether another policy has this name.
pub(super) fn needed(
    access: &Access<'_>,
    (groups, listeners): (Vec<PolicyGroup>, Vec<String>),
    files: &[ClientFile],
    report: bool,
    others: impl Fn(&str) -> bool,
) -> (Vec<DraftPolicy>, HashSet<usize>) {
    let allows: Vec<(bool, AddressSet)> = groups
        .iter()
        .map(|group| {
            let lets_out = !group.content.is_empty() || (report && group.content.open);
            (lets_out, AddressSet::of(&group.listed(files)))
        })
        .collect();
    let names = Names::of(access);
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut policies = Vec::new();
    let mut kept: HashSet<usize> = HashSet::new();
    for (number, mut group) in groups.into_iter().enumerate() {
        if !allows.get(number).is_some_and(|(lets_out, _)| *lets_out) {
            let later: Vec<&AddressSet> = allows
                .iter()
                .skip(number + 1)
                .filter(|(lets_out, _)| *lets_out)
                .map(|(_, set)| set)
                .collect();
            group.networks.retain(|network| {
                let network = AddressSet::of([network]);
                later.iter().any(|later| later.meets(&network))
            });
            if later.is_empty() {
                group.files.clear();
            }
        }
        if group.networks.is_empty() && group.files.is_empty() {
            continue;
        }
        group.networks.small_sort();
        let name = names.of_group(&group, &AddressSet::of(&group.listed(files)), files);
        let at: Vec<&str> = [&*name].into_iter().chain(listeners.iter().map(String::as_str)).collect();
        let name = free_name(&short(&at.join("-")), |name| taken.contains(name) || others(name));
        taken.insert(name.clone());
        kept.extend(&group.files);
        let content = &group.content;
        policies.push(DraftPolicy {
            name,
            networks: group.networks,
            networks_files: group
                .files
                .iter()
                .filter_map(|file| files.get(*file))
                .map(|file| file.file.clone())
                .collect(),
            shut: content.is_empty() && !content.open,
            users: group.users,
            listeners: listeners.clone(),
            allow: content.allow.clone(),
            files: content.files.clone(),
            deny: content.deny.clone(),
            deny_files: content.deny_files.clone(),
        });
    }
    (policies, kept)
}

/// The lists of clients, by which policies are called.
struct Names<'a> {
    /// Each with its key, and its name.
    lists: Vec<(&'a str, &'a str, AddressSet)>,
    everybody: AddressSet,
}

impl<'a> Names<'a> {
    fn of(access: &'a Access<'a>) -> Self {
        let used = access.used().into_iter().filter(|(key, _)| *key != "all");
        let lists = used.filter_map(|(key, acl)| match &acl.test {
            AclTest::Client(listed) => Some((key, acl.name.as_str(), AddressSet::of(&listed.certain()))),
            _ => None,
        });
        let all: [IpNet; 2] = [ipnet::Ipv4Net::default().into(), ipnet::Ipv6Net::default().into()];
        Names { lists: lists.collect(), everybody: AddressSet::of(&all) }
    }

    /// The list of Squid's that has exactly these clients, or the lists that have them together.
    fn of_group(&self, group: &PolicyGroup, addresses: &AddressSet, files: &[ClientFile]) -> String {
        if let [user] = group.users.as_slice() {
            return short(user);
        }
        let same = |list: &AddressSet| list.covers(addresses) && addresses.covers(list);
        if same(&self.everybody) {
            return if group.users.is_empty() { "everyone" } else { "users" }.to_owned();
        }
        if addresses.is_empty() {
            let file = group.files.iter().next().and_then(|file| files.get(*file));
            return file
                .and_then(|file| file.acls.iter().next())
                .and_then(|file_key| self.lists.iter().find(|(key, ..)| key == file_key))
                .map_or_else(|| "clients".to_owned(), |(_, name, _)| short(name));
        }
        if let Some((_, name, _)) = self.lists.iter().find(|(.., list)| same(list)) {
            return short(name);
        }
        let inside: Vec<&(&str, &str, AddressSet)> =
            self.lists.iter().filter(|(.., list)| !list.is_empty() && addresses.covers(list)).collect();
        if (2..=3).contains(&inside.len()) && same(&AddressSet::union(inside.iter().map(|(.., list)| list))) {
            return short(&inside.iter().map(|(_, name, _)| *name).collect::<Vec<&str>>().join("-"));
        }
        if group.users.is_empty() { "clients" } else { "users" }.to_owned()
    }
}

/// A policy's name has at most 128 characters, and a number may follow.
fn short(name: &str) -> String {
    name.chars().take(100).collect()
}
