//! The verdict on every kind of request that a configuration tells apart, for one class of clients.
//!
//! Hosts: each name that is mentioned, what is under it and not mentioned, every network that is mentioned, and all
//! else. Ports: the segments between two that are mentioned. Ways: CONNECT and plain HTTP.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::access::{Access, AccessVerdict};
use super::acl::{Acl, AclTest, AskedHost, RequestKind};
use super::classes::ClientClass;
use super::ports::Segments;
use super::redirected;
use super::truth::Truth;
use crate::words::small_sort::{SmallCollect as _, SmallSort as _};

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
            ["0.0.0.0/0", "::/0"].iter().filter_map(|all| all.parse::<IpNet>().ok()).small_collect();
        let mut ports = Vec::new();
        for (_, acl) in &used {
            match &acl.test {
                AclTest::Host(hosts) => {
                    names.extend(hosts.names());
                    networks.extend(hosts.addresses());
                }
                AclTest::Url(urls) => names.extend(urls.names()),
                AclTest::Destination { addresses, .. } => networks.extend(addresses.networks()),
                AclTest::Port(listed) => ports.extend(listed.iter().copied()),
                _ => {}
            }
        }
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.small_sort_by_key(|name| name.matches('.').count());
        let mut networks: Vec<IpNet> = networks.into_iter().collect();
        networks.small_sort_by_key(IpNet::prefix_len);
        Mentioned { segments: Segments::cut(ports.into_iter()), names, networks }
    }
}

/// The verdicts on one host, by way and segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct VerdictRow(Vec<AccessVerdict>);

impl VerdictRow {
    /// By `way * segments + segment`.
    pub(super) fn get(&self, index: usize) -> Option<(usize, &[usize])> {
        match self.0.get(index)? {
            AccessVerdict::Allowed { by, unless, .. } => Some((*by, unless)),
            AccessVerdict::Denied { .. } => None,
        }
    }

    /// Rules before the one that allows it that might have allowed it too.
    pub(super) fn doubts(&self, index: usize) -> &[(usize, String)] {
        match self.0.get(index) {
            Some(AccessVerdict::Allowed { doubts, .. }) => doubts,
            _ => &[],
        }
    }

    /// Whether something is denied of it that Squid may allow.
    pub(super) fn is_perhaps_allowed(&self) -> bool {
        self.0.iter().any(|verdict| matches!(verdict, AccessVerdict::Denied { perhaps: true, .. }))
    }

    /// The line that it is denied by, where Squid may not deny it.
    pub(super) fn denied_by(&self, index: usize) -> Option<usize> {
        match self.0.get(index)? {
            AccessVerdict::Denied { by, .. } => *by,
            AccessVerdict::Allowed { .. } => None,
        }
    }

    /// Every rule that allows something of it.
    pub(super) fn allowed(&self) -> impl Iterator<Item = (usize, usize, &[usize])> {
        (0..self.0.len()).filter_map(|index| self.get(index).map(|(by, unless)| (index, by, unless)))
    }
}

/// The verdicts for one class.
#[derive(Debug)]
pub(super) struct VerdictTable<'a> {
    access: &'a Access<'a>,
    used: Vec<(&'a str, &'a Acl)>,
    segments: &'a Segments,
    class: &'a ClientClass,
    /// Hosts that no list tells apart have one row.
    rows: HashMap<Vec<Truth>, Rc<VerdictRow>>,
}

impl<'a> VerdictTable<'a> {
    pub(super) fn new(access: &'a Access<'a>, segments: &'a Segments, class: &'a ClientClass) -> Self {
        VerdictTable { access, used: access.used(), segments, class, rows: HashMap::new() }
    }

    /// The verdicts on a host, without those of a rule that says the same of hosts that nothing mentions: such a rule lets
    /// everything out, and what it denies elsewhere is no list of what it is for. What a later rule lists stays allowed.
    pub(super) fn row(&mut self, host: AskedHost<'_>) -> Rc<VerdictRow> {
        let rest = match host {
            AskedHost::OtherNames => return self.whole(host),
            AskedHost::Network(network) if network.prefix_len() == 0 => return self.whole(host),
            AskedHost::Network(IpNet::V4(_)) => AskedHost::Network(IpNet::V4(Ipv4Net::default())),
            AskedHost::Network(IpNet::V6(_)) => AskedHost::Network(IpNet::V6(Ipv6Net::default())),
            AskedHost::Name(_) | AskedHost::Below(_) => AskedHost::OtherNames,
        };
        let asked_rest = rest;
        let (row, rest) = (self.whole(host), self.whole(rest));
        if rest.allowed().next().is_none() {
            return row;
        }
        let requests = |host| self.requests(host);
        let asked: Vec<_> = requests(host).zip(requests(asked_rest)).collect();
        let verdicts =
            asked.iter().enumerate().map(|(index, (one, all))| match (row.get(index), rest.get(index)) {
                (Some((by, unless)), Some((open, _))) if by == open => {
                    match self.access.listed_after(by, one, all) {
                        Some(by) => {
                            let doubts = row.doubts(index).to_vec();
                            AccessVerdict::Allowed { by, unless: unless.to_vec(), doubts }
                        }
                        None => {
                            self.access.doubt(row.doubts(index));
                            AccessVerdict::Denied { perhaps: false, by: None }
                        }
                    }
                }
                _ => row.0.get(index).cloned().unwrap_or(AccessVerdict::Denied { perhaps: false, by: None }),
            });
        Rc::new(VerdictRow(verdicts.collect()))
    }

    /// What the lists say of a host: hosts with one key have one row, for every client.
    pub(super) fn key(&self, host: AskedHost<'_>) -> Vec<Truth> {
        let mut key: Vec<Truth> = self.used.iter().filter_map(|(_, acl)| acl.test.of_host(host)).collect();
        key.push(Truth::from(matches!(host, AskedHost::Network(_))));
        for (_, acl) in &self.used {
            if let AclTest::Url(urls) = &acl.test {
                key.extend(
                    self.requests(host).map(|request| urls.fits(request.connect, host, request.ports)),
                );
            }
        }
        key
    }

    /// The requests for a host, in the order of a row.
    fn requests<'r>(&'r self, host: AskedHost<'r>) -> impl Iterator<Item = RequestKind<'r>> {
        WAYS.iter().flat_map(move |connect| {
            self.segments.iter().map(move |(_, ports)| RequestKind {
                client: &self.class.lists,
                takes: self.class.takes,
                hello: true,
                connect: *connect,
                ports,
                host,
            })
        })
    }

    fn whole(&mut self, host: AskedHost<'_>) -> Rc<VerdictRow> {
        let key = self.key(host);
        if let Some(row) = self.rows.get(&key) {
            return Rc::clone(row);
        }
        let verdicts = self.requests(host).map(|request| redirected::verdict(self.access, &request));
        let row = Rc::new(VerdictRow(verdicts.collect()));
        self.rows.insert(key, Rc::clone(&row));
        row
    }
}
