//! One policy: which clients it is for, what happens to requests that it denies, and its rules with the indexes that
//! find them.
//!
//! Not here: how it is built ([`builder`](super::builder)), how it is searched ([`search`](super::search)), and what it
//! decides ([`decide`](super::decide)).

use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use super::address_set::AddressSet;
use super::clients::ClientMatch;
use super::labels::Labels;
use super::names::NameTable;
use super::networks::Networks;
use super::options::RuleOptions;
use super::rule::{Scheme, Schemes};
use super::store::{Rule, RuleId, Store};
use crate::words::client::Client;

/// What happens to a request that the rules deny.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Mode {
    /// It is denied.
    #[default]
    Enforce,
    /// It is allowed, logged and counted, if only the rules or the ClientHello are against it.
    Report,
}

impl Mode {
    /// The word in configuration and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Report => "report",
        }
    }
}

/// The list of a policy that a file belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileList {
    /// `allow` and `deny`: the configuration itself.
    Inline,
    /// A rule set that `allow` names.
    Set,
    /// `allow_files`.
    Allow,
    /// `deny_files`.
    Deny,
}

/// A file that rules come from.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: Arc<str>,
    pub(super) label: Arc<str>,
    /// What its lines do.
    pub(super) list: FileList,
}

/// Options as set, with what a permit takes from them.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) given: RuleOptions,
    pub(super) name: Option<Arc<str>>,
    /// The rule's own and its policy's.
    pub(super) private: Arc<[IpNet]>,
    /// The schemes by which egressd looks at each request because of them.
    pub(super) looks: Schemes,
}

/// One policy: which clients it is for, and its rules.
#[derive(Debug)]
pub struct Policy {
    pub(super) name: Arc<str>,
    pub(super) mode: Mode,
    pub(super) clients: ClientMatch,
    /// The networks of `clients`.
    pub(super) addresses: AddressSet,
    pub(super) private: Arc<[IpNet]>,
    pub(super) addresses_by_sni: bool,
    pub(super) files: Vec<File>,
    pub(super) options: Vec<Options>,
    /// Whether any of them make egressd look at requests.
    pub(super) looks: bool,
    pub(super) store: Store,
    pub(super) names: NameTable,
    pub(super) labels: Labels,
    pub(super) networks: Networks,
    pub(super) allows: usize,
    /// The number of `deny` rules for addresses and networks; addresses from lookups are compared with them too.
    pub(super) denied_networks: usize,
}

impl Policy {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Which clients it is for.
    pub fn clients(&self) -> &ClientMatch {
        &self.clients
    }

    /// The addresses of its clients.
    pub fn addresses(&self) -> &AddressSet {
        &self.addresses
    }

    /// Non-public networks that every rule may reach.
    pub fn private(&self) -> &[IpNet] {
        &self.private
    }

    /// Whether the name in the ClientHello decides on a CONNECT to an address that no rule names.
    pub fn addresses_by_sni(&self) -> bool {
        self.addresses_by_sni
    }

    /// The file that it is written in, by the name that the configuration gives.
    pub fn file(&self) -> Option<&str> {
        self.files.iter().find(|file| file.list == FileList::Inline).map(|file| &*file.path)
    }

    /// The rule sets that it takes rules from, as `set:NAME@VERSION`.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|file| file.list == FileList::Set).map(|file| &*file.path)
    }

    /// The allow files that it takes rules from, by the names that the configuration gives.
    pub fn allow_files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|file| file.list == FileList::Allow).map(|file| &*file.path)
    }

    /// Whether it is for this client: of each kind that is set, one must match.
    pub(super) fn fits(&self, client: &Client) -> bool {
        self.addresses.contains(client.address.ip())
            && self.clients.identity_fits(client)
            && self.clients.vpc_endpoint_fits(client)
            && self.clients.listener_fits(client.listener.as_deref())
    }

    /// How many rules it has, `allow` and `deny`.
    pub fn rule_count(&self) -> usize {
        self.store.len()
    }

    pub(super) fn options_of(&self, rule: RuleId) -> Option<&Options> {
        self.options.get(self.store.rule(rule).options as usize)
    }

    /// Whether each request that the rule allows by `scheme` is looked at because of its options.
    pub(super) fn looks(&self, rule: &Rule, scheme: Scheme) -> bool {
        self.options.get(rule.options as usize).is_some_and(|options| options.looks.contains(scheme))
    }

    pub(super) fn expires(&self, rule: &Rule) -> Option<Timestamp> {
        self.options.get(rule.options as usize)?.given.expires
    }
}
