//! The hosts that the lists mention, in groups of which each member has the same verdict for every client.
//!
//! A list of a hundred thousand names is a few groups. Of a group whose first member says nothing that is about it alone, the
//! others need not be asked about, for any client.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::super::acl::AskedHost;
use super::super::hosts::parents;
use super::super::table::{Mentioned, VerdictTable};
use super::super::truth::Truth;
use super::lists::{HostLists, Stay};

/// In which files a host is listed: the number of such a combination of files.
type Listed = usize;

/// A host that is in no file.
const NOWHERE: Listed = 0;

/// The files of a host, each by its number, with whether what is under the host is listed too.
pub(super) type InFiles = Vec<(usize, bool)>;

/// A name that is mentioned.
#[derive(Debug)]
pub(super) struct NameEntry<'a> {
    pub(super) name: &'a str,
    /// The nearest name above it that is mentioned.
    pub(super) parent: Option<usize>,
    /// A name under it is mentioned.
    pub(super) has_inner: bool,
    allow: Listed,
    deny: Listed,
    pub(super) group: usize,
}

/// A network that is mentioned.
#[derive(Debug)]
pub(super) struct NetworkEntry {
    pub(super) network: IpNet,
    /// The narrowest network around it that is mentioned.
    pub(super) parent: Option<usize>,
    allow: Listed,
    deny: Listed,
    pub(super) group: usize,
}

/// All of them, wider ones first.
#[derive(Debug)]
pub(super) struct Index<'a> {
    pub(super) names: Vec<NameEntry<'a>>,
    pub(super) networks: Vec<NetworkEntry>,
    pub(super) groups: usize,
    combinations: Vec<InFiles>,
    /// Of each file, a member of every group in it: a name with whether what is under it is listed, or a network.
    pub(super) members: Vec<Vec<(AskedHost<'a>, bool)>>,
}

/// What the members of a group have in common. Names that have names under them are groups of their own.
type GroupKey = (usize, usize, Listed, Listed, Option<usize>, Option<usize>);

impl<'a> Index<'a> {
    pub(super) fn of(mentioned: &'a Mentioned, table: &VerdictTable<'_>, lists: &HostLists) -> Self {
        let numbers: HashMap<&str, usize> =
            mentioned.names.iter().enumerate().map(|(number, name)| (name.as_str(), number)).collect();
        let mut keys: HashMap<Vec<Truth>, usize> = HashMap::new();
        let mut key = |host: AskedHost<'_>| {
            let next = keys.len();
            *keys.entry(table.key(host)).or_insert(next)
        };
        let mut groups: HashMap<GroupKey, usize> = HashMap::new();
        let mut group = |key: GroupKey| {
            let next = groups.len();
            *groups.entry(key).or_insert(next)
        };
        let files = Files::all(lists);
        let parents: Vec<Option<usize>> = mentioned
            .names
            .iter()
            .map(|name| parents(name).find_map(|parent| numbers.get(parent).copied()))
            .collect();
        let inner: HashSet<usize> = parents.iter().flatten().copied().collect();
        let mut members: Vec<HashMap<usize, (AskedHost<'a>, bool)>> =
            lists.lists.iter().map(|_| HashMap::new()).collect();
        let mut names = Vec::with_capacity(mentioned.names.len());
        for (number, name) in mentioned.names.iter().enumerate() {
            let (allow, deny) = files.of_name(name);
            let alone = inner.contains(&number).then_some(number);
            let pair = (key(AskedHost::Name(name)), key(AskedHost::Below(name)));
            let parent = parents.get(number).copied().flatten();
            let group = group((pair.0, pair.1, allow, deny, parent, alone));
            for (file, below) in files.of(allow).iter().chain(files.of(deny)) {
                if let Some(members) = members.get_mut(*file) {
                    members.entry(group).or_insert((AskedHost::Name(name), *below));
                }
            }
            names.push(NameEntry { name, parent, has_inner: alone.is_some(), allow, deny, group });
        }
        let at: HashMap<IpNet, usize> =
            mentioned.networks.iter().enumerate().map(|(number, network)| (*network, number)).collect();
        let lengths: Vec<u8> = {
            let mut lengths: Vec<u8> = mentioned.networks.iter().map(IpNet::prefix_len).collect();
            lengths.dedup();
            lengths
        };
        let mut networks = Vec::with_capacity(mentioned.networks.len());
        for network in &mentioned.networks {
            let (allow, deny) = files.of_network(network);
            let wider = lengths.iter().rev().filter(|length| **length < network.prefix_len());
            let parent = wider
                .filter_map(|length| IpNet::new(network.addr(), *length).ok())
                .find_map(|around| at.get(&around.trunc()).copied());
            let whole = network.prefix_len() == network.max_prefix_len();
            let alone = if whole { None } else { at.get(network).copied() };
            let group = group((key(AskedHost::Network(*network)), usize::MAX, allow, deny, parent, alone));
            for (file, _) in files.of(allow).iter().chain(files.of(deny)) {
                if let Some(members) = members.get_mut(*file) {
                    members.entry(group).or_insert((AskedHost::Network(*network), false));
                }
            }
            networks.push(NetworkEntry { network: *network, parent, allow, deny, group });
        }
        let members = members.into_iter().map(|members| members.into_values().collect()).collect();
        let groups = groups.len();
        Index { names, networks, groups, combinations: files.combinations, members }
    }

    /// The files that a name is allowed by, and those that it is denied by.
    pub(super) fn files_of_name(&self, entry: &NameEntry<'_>) -> [&[(usize, bool)]; 2] {
        [entry.allow, entry.deny].map(|listed| self.combination(listed))
    }

    /// The same for a network.
    pub(super) fn files_of_network(&self, entry: &NetworkEntry) -> [&[(usize, bool)]; 2] {
        [entry.allow, entry.deny].map(|listed| self.combination(listed))
    }

    fn combination(&self, listed: Listed) -> &[(usize, bool)] {
        self.combinations.get(listed).map(Vec::as_slice).unwrap_or_default()
    }
}

/// In which files each host is listed.
struct Files<'l> {
    combinations: Vec<InFiles>,
    allow: HashMap<&'l str, Listed>,
    deny: HashMap<&'l str, Listed>,
    allow_networks: HashMap<IpNet, Listed>,
    deny_networks: HashMap<IpNet, Listed>,
}

impl<'l> Files<'l> {
    fn all(lists: &'l HostLists) -> Self {
        let mut combinations = Combinations { all: vec![Vec::new()], longer: HashMap::new() };
        let (mut allow, mut deny) = (HashMap::new(), HashMap::new());
        let (mut allow_networks, mut deny_networks) = (HashMap::new(), HashMap::new());
        for (number, list) in lists.lists.iter().enumerate() {
            let denies = list.denies && list.stay == Stay::File;
            let uses =
                [(list.allows, &mut allow, &mut allow_networks), (denies, &mut deny, &mut deny_networks)];
            for (_, names, networks) in uses.into_iter().filter(|(used, _, _)| *used) {
                for (name, below) in &list.names {
                    let listed: &mut Listed = names.entry(name.as_str()).or_insert(NOWHERE);
                    *listed = combinations.with(*listed, (number, *below));
                }
                for address in &list.addresses {
                    let listed: &mut Listed = networks.entry(IpNet::from(*address)).or_insert(NOWHERE);
                    *listed = combinations.with(*listed, (number, false));
                }
            }
        }
        Files { combinations: combinations.all, allow, deny, allow_networks, deny_networks }
    }

    fn of_name(&self, name: &str) -> (Listed, Listed) {
        let listed = |files: &HashMap<&str, Listed>| files.get(name).copied().unwrap_or(NOWHERE);
        (listed(&self.allow), listed(&self.deny))
    }

    fn of_network(&self, network: &IpNet) -> (Listed, Listed) {
        let listed = |files: &HashMap<IpNet, Listed>| files.get(network).copied().unwrap_or(NOWHERE);
        (listed(&self.allow_networks), listed(&self.deny_networks))
    }

    fn of(&self, listed: Listed) -> &[(usize, bool)] {
        self.combinations.get(listed).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The combinations of files that hosts are in, of which there are few.
struct Combinations {
    all: Vec<InFiles>,
    /// Of a combination and a further file, the one with both.
    longer: HashMap<(Listed, (usize, bool)), Listed>,
}

impl Combinations {
    fn with(&mut self, listed: Listed, file: (usize, bool)) -> Listed {
        let Combinations { all, longer } = self;
        *longer.entry((listed, file)).or_insert_with(|| {
            let mut files = all.get(listed).cloned().unwrap_or_default();
            match files.iter_mut().find(|(number, _)| *number == file.0) {
                Some((_, below)) => *below |= file.1,
                None => files.push(file),
            }
            all.push(files);
            all.len() - 1
        })
    }
}
