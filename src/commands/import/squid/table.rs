//! The verdict on every kind of request that a configuration tells apart, for one class of clients.
//!
//! Hosts: each name that is mentioned, what is under it and not mentioned, every network that is mentioned, and all
//! else. Ports: the segments between two that are mentioned. Ways: CONNECT and plain HTTP.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::access::{Access, Verdict};
use super::acl::{Acl, Asked, Question, Test};
use super::classes::Class;
use super::ports::Segments;
use super::truth::Truth;

/// CONNECT, then plain HTTP.
pub(super) const WAYS: [bool; 2] = [true, false];

/// What the lists mention.
#[derive(Debug)]
pub(super) struct Mentioned {
    pub(super) segments: Segments,
    /// Wider ones first.
    pub(super) names: Vec<String>,
    /// Wider ones first; the whole of IPv4 and of IPv6 at the beginning.
    pub(super) networks: Vec<IpNet>,
}

impl Mentioned {
    pub(super) fn by(access: &Access<'_>) -> Self {
        let used = access.used();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut networks: BTreeSet<IpNet> =
            ["0.0.0.0/0", "::/0"].iter().filter_map(|all| all.parse().ok()).collect();
        let mut ports = Vec::new();
        for (_, acl) in &used {
            match &acl.test {
                Test::Host(hosts) => {
                    names.extend(hosts.names());
                    networks.extend(hosts.addresses());
                }
                Test::Destination(listed) => networks.extend(listed.iter().map(IpNet::trunc)),
                Test::Port(listed) => ports.extend(listed.iter().copied()),
                _ => {}
            }
        }
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.sort_by_key(|name| name.matches('.').count());
        let mut networks: Vec<IpNet> = networks.into_iter().collect();
        networks.sort_by_key(IpNet::prefix_len);
        Mentioned { segments: Segments::cut(ports.into_iter()), names, networks }
    }
}

/// The verdicts on one host, by way and segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row(Vec<Verdict>);

impl Row {
    /// By `way * segments + segment`.
    pub(super) fn get(&self, index: usize) -> Option<(usize, &[usize])> {
        match self.0.get(index)? {
            Verdict::Allowed { by, unless, .. } => Some((*by, unless)),
            Verdict::Denied => None,
        }
    }

    /// Rules before the one that allows it that might have allowed it too.
    pub(super) fn doubts(&self, index: usize) -> &[(usize, String)] {
        match self.0.get(index) {
            Some(Verdict::Allowed { doubts, .. }) => doubts,
            _ => &[],
        }
    }

    /// Every rule that allows something of it.
    pub(super) fn allowed(&self) -> impl Iterator<Item = (usize, usize, &[usize])> {
        (0..self.0.len()).filter_map(|index| self.get(index).map(|(by, unless)| (index, by, unless)))
    }
}

/// The verdicts for one class.
#[derive(Debug)]
pub(super) struct Table<'a> {
    access: &'a Access<'a>,
    used: Vec<(&'a str, &'a Acl)>,
    segments: &'a Segments,
    class: &'a Class,
    /// Hosts that no list tells apart have one row.
    rows: HashMap<Vec<Truth>, Rc<Row>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(access: &'a Access<'a>, segments: &'a Segments, class: &'a Class) -> Self {
        Table { access, used: access.used(), segments, class, rows: HashMap::new() }
    }

    /// The verdicts on a host, save those of a rule that says the same of hosts that nothing mentions: such a rule lets
    /// everything out, and what it denies elsewhere is no list of what it is for.
    pub(super) fn row(&mut self, host: Asked<'_>) -> Rc<Row> {
        let rest = match host {
            Asked::OtherNames => return self.whole(host),
            Asked::Network(network) if network.prefix_len() == 0 => return self.whole(host),
            Asked::Network(IpNet::V4(_)) => Asked::Network(IpNet::V4(Ipv4Net::default())),
            Asked::Network(IpNet::V6(_)) => Asked::Network(IpNet::V6(Ipv6Net::default())),
            Asked::Name(_) | Asked::Below(_) => Asked::OtherNames,
        };
        let (row, rest) = (self.whole(host), self.whole(rest));
        if rest.allowed().next().is_none() {
            return row;
        }
        let verdicts = (0..row.0.len()).map(|index| match (row.get(index), rest.get(index)) {
            (Some((by, _)), Some((all, _))) if by == all => {
                self.access.doubt(row.doubts(index));
                Verdict::Denied
            }
            _ => row.0.get(index).cloned().unwrap_or(Verdict::Denied),
        });
        Rc::new(Row(verdicts.collect()))
    }

    fn whole(&mut self, host: Asked<'_>) -> Rc<Row> {
        let mut key: Vec<Truth> = self
            .used
            .iter()
            .filter_map(|(_, acl)| {
                Some(match (&acl.test, host) {
                    (Test::Host(hosts), Asked::Name(name)) => hosts.has(name),
                    (Test::Host(hosts), Asked::Below(name)) => hosts.has_below(name),
                    (Test::Host(hosts), Asked::OtherNames) => hosts.has_others(),
                    (Test::Host(hosts), Asked::Network(network)) => hosts.has_network(&network),
                    (Test::Destination(listed), Asked::Network(network)) => {
                        Truth::from(listed.iter().any(|listed| listed.contains(&network)))
                    }
                    _ => return None,
                })
            })
            .collect();
        key.push(Truth::from(matches!(host, Asked::Network(_))));
        if let Some(row) = self.rows.get(&key) {
            return Rc::clone(row);
        }
        let questions =
            WAYS.iter().flat_map(|connect| self.segments.iter().map(move |(_, (port, _))| (*connect, port)));
        let verdicts = questions.map(|(connect, port)| {
            self.access.judge(&Question { client: &self.class.lists, connect, port, host })
        });
        let row = Rc::new(Row(verdicts.collect()));
        self.rows.insert(key, Rc::clone(&row));
        row
    }
}
