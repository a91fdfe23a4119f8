//! Builds a policy from rules, one by one.
//!
//! Fills in what a rule leaves out (an `allow` rule means `https` and the scheme's own port, a `deny` rule any),
//! enforces the limits, and builds the indexes once at the end. Not here: reading files, and the line of an error
//! ([`crate::config`]).

use std::sync::Arc;

use ipnet::IpNet;

use super::address_set::AddressSet;
use super::clients::ClientMatch;
use super::labels::Labels;
use super::names::{NameTable, hash};
use super::networks::Networks;
use super::options::RuleOptions;
use super::pattern::network_of;
use super::policy::{File, FileList, Mode, Options, Policy};
use super::rule::{RuleText, Scheme, Schemes};
use super::store::{Kind, NONE, NewRule, RuleId, Store};

/// Maximum number of exact names, suffixes, addresses and networks in one policy.
pub const MAX_RULES: usize = 1_000_000;
/// Maximum number of patterns with a `*` inside the name in one policy. Their cost grows faster than their number.
pub const MAX_PATTERNS: usize = 1_000;

/// A file that rules come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId(u16);

/// Options that one or more rules share. The default is no options at all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OptionsId(u32);

impl OptionsId {
    /// Those that were given to [`PolicyBuilder::options`] after `number` others.
    pub(super) fn nth(number: u32) -> Self {
        OptionsId(number)
    }
}

/// Where a rule was written.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Its file.
    pub file: FileId,
    /// Its line, from 1.
    pub line: u32,
    /// In the configuration itself or in a set that it names, not in an allow file. Such a rule comes before an equally specific rule of a file.
    pub inline: bool,
    /// As written, without a comment or spaces around it.
    pub text: &'a str,
}

/// Why a rule cannot be added to a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An `allow` rule for `tcp` without a port.
    #[error("a tcp rule needs its port: write `{0}:PORT`, as in `tcp://git.example.com:22`")]
    TcpPort(String),
    /// An `allow` rule for no scheme at all.
    #[error("the rule has no scheme: list at least one of https, http and tcp")]
    NoScheme,
    /// [`MAX_RULES`].
    #[error("more than {MAX_RULES} names, suffixes and networks in one policy: move some to another policy")]
    TooManyRules,
    /// [`MAX_PATTERNS`].
    #[error(
        "more than {MAX_PATTERNS} patterns with a `*` inside the name in one policy: write `*.name` for everything \
         under a name, or list the names"
    )]
    TooManyPatterns,
    /// More than 65,535 files.
    #[error("the rules of one policy come from more than 65535 files: merge some of them")]
    TooManyFiles,
    /// More than 4 GiB of text, or one text of more than 64 KiB.
    #[error("the texts of the rules are too large: move some rules to another policy")]
    TooLarge,
    /// The patterns cannot be compiled together.
    #[error("the patterns with a `*` inside the name are too complex together: {0}")]
    Patterns(String),
}

/// A policy while its rules are added.
#[derive(Debug)]
pub struct PolicyBuilder {
    policy: Policy,
    patterns: Vec<RuleId>,
    too_many_files: bool,
}

impl PolicyBuilder {
    /// A policy without rules, which allows nothing. `private` has the networks that every rule of it may reach.
    pub fn new(name: &str, clients: ClientMatch, mode: Mode, private: Vec<IpNet>) -> Self {
        let addresses = AddressSet::of(&clients.networks);
        let mut builder = PolicyBuilder {
            policy: Policy {
                name: name.into(),
                mode,
                clients,
                addresses,
                private: private.into(),
                addresses_by_sni: false,
                files: Vec::new(),
                options: Vec::new(),
                looks: false,
                store: Store::default(),
                names: NameTable::default(),
                labels: Labels::default(),
                networks: Networks::default(),
                allows: 0,
                denied_networks: 0,
            },
            patterns: Vec::new(),
            too_many_files: false,
        };
        builder.options(RuleOptions::default()); // OptionsId::default()
        builder
    }

    /// A CONNECT to an address that no rule names is judged by the name in its ClientHello.
    #[must_use]
    pub fn judging_addresses_by_sni(mut self, by_sni: bool) -> Self {
        self.policy.addresses_by_sni = by_sni;
        self
    }

    /// The addresses of the policy's clients.
    pub fn addresses(&self) -> &AddressSet {
        &self.policy.addresses
    }

    /// Registers the configuration itself as a file that rules come from. The log's `rule_source` shows this path.
    pub fn inline(&mut self, path: &str) -> FileId {
        self.add_file(path, FileList::Inline)
    }

    /// Registers a rule set, as `set:NAME@VERSION`, which the log's `rule_source` shows.
    pub fn set(&mut self, name: &str) -> FileId {
        self.add_file(name, FileList::Set)
    }

    /// Registers an allow file. The log's `rule_source` shows this path, and its last part is the metric label of the
    /// rules in the file.
    pub fn file(&mut self, path: &str) -> FileId {
        self.add_file(path, FileList::Allow)
    }

    /// Registers a deny file, in the same way.
    pub fn deny_file(&mut self, path: &str) -> FileId {
        self.add_file(path, FileList::Deny)
    }

    fn add_file(&mut self, path: &str, list: FileList) -> FileId {
        let files = &mut self.policy.files;
        let Ok(id) = u16::try_from(files.len()) else {
            self.too_many_files = true; // `build` says so
            return FileId(u16::MAX);
        };
        let base = path.rsplit('/').next().unwrap_or(path);
        files.push(File { path: path.into(), label: base.into(), list });
        FileId(id)
    }

    /// Options for one rule, or for all lines of an allow file.
    pub fn options(&mut self, options: RuleOptions) -> OptionsId {
        let private = options.private.iter().chain(&*self.policy.private).copied().collect();
        let name: Option<Arc<str>> = options.name.as_deref().map(Arc::from);
        let id = OptionsId(u32::try_from(self.policy.options.len()).unwrap_or(u32::MAX));
        let looks = options.looks();
        self.policy.looks |= !looks.is_empty();
        self.policy.options.push(Options { given: options, name, private, looks });
        id
    }

    /// Adds an `allow` rule; `schemes` is used if the rule has no scheme ([`Schemes::HTTPS`] unless an allow file sets
    /// others).
    ///
    /// # Errors
    /// [`BuildError`]; the rule is not added then.
    pub fn allow(
        &mut self,
        rule: &RuleText,
        schemes: Schemes,
        origin: Origin<'_>,
        options: OptionsId,
    ) -> Result<(), BuildError> {
        let schemes = rule.scheme.map_or(schemes, Schemes::from);
        if schemes.is_empty() {
            return Err(BuildError::NoScheme);
        }
        if schemes.contains(Scheme::Tcp) && rule.ports.is_none() {
            return Err(BuildError::TcpPort(rule.to_string()));
        }
        self.add(rule, schemes, origin, options, false)?;
        self.policy.allows += 1;
        Ok(())
    }

    /// Adds a `deny` rule; a missing scheme or port means any.
    ///
    /// # Errors
    /// [`BuildError`]; the rule is not added then.
    pub fn deny(&mut self, rule: &RuleText, origin: Origin<'_>) -> Result<(), BuildError> {
        let schemes = rule.scheme.map_or(Schemes::ALL, Schemes::from);
        self.add(rule, schemes, origin, OptionsId::default(), true)?;
        if Kind::of(&rule.host) == Kind::Address {
            self.policy.denied_networks += 1;
        }
        Ok(())
    }

    fn add(
        &mut self,
        rule: &RuleText,
        schemes: Schemes,
        origin: Origin<'_>,
        options: OptionsId,
        deny: bool,
    ) -> Result<(), BuildError> {
        let is_pattern = Kind::of(&rule.host) == Kind::Labels;
        if is_pattern && self.patterns.len() == MAX_PATTERNS {
            return Err(BuildError::TooManyPatterns);
        }
        let store = &mut self.policy.store;
        if !is_pattern && store.len() - self.patterns.len() == MAX_RULES {
            return Err(BuildError::TooManyRules);
        }
        let new = NewRule {
            text: origin.text,
            host: &rule.host,
            schemes,
            ports: rule.ports,
            file: origin.file.0,
            line: origin.line,
            inline: origin.inline,
            deny,
            options: options.0,
        };
        let id = store.push(&new).ok_or(BuildError::TooLarge)?;
        if is_pattern {
            self.patterns.push(id);
        } else if let Some(network) = network_of(&rule.host) {
            self.policy.networks.push(network, id);
        }
        Ok(())
    }

    /// Builds the indexes.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Policy, BuildError> {
        let PolicyBuilder { mut policy, mut patterns, too_many_files } = self;
        if too_many_files {
            return Err(BuildError::TooManyFiles);
        }
        policy.store.shrink();
        policy.networks.build(&mut policy.store);
        policy.names = index_names(&mut policy.store);
        policy.store.sort_patterns(&mut patterns);
        policy.labels = Labels::build(&patterns, &policy.store)
            .map_err(|error| BuildError::Patterns(error.to_string()))?;
        Ok(policy)
    }
}

/// Indexes exact names and suffixes by name; the rules for one name are chained.
fn index_names(store: &mut Store) -> NameTable {
    let named = |kind| matches!(kind, Kind::Exact | Kind::Under | Kind::UnderOrSelf);
    let count = store.ids().filter(|&id| named(store.rule(id).kind())).count();
    let mut table = NameTable::with_room_for(count);
    let mut shared: Vec<RuleId> = Vec::new(); // the second rule of each name with more than one
    for id in store.ids() {
        if !named(store.rule(id).kind()) {
            continue;
        }
        let name = store.name(id);
        if let Some(head) = table.insert(hash(name), id, |other| store.name(other) == name) {
            if store.rule(head).next == NONE {
                shared.push(id);
            }
            store.prepend(id, head);
        }
    }
    for id in shared {
        let name = store.name(id);
        let hash = hash(name);
        let Some(head) = table.find(hash, |other| store.name(other) == name) else { continue };
        let first = store.sort_chain(head);
        let name = store.name(id);
        table.insert(hash, first, |other| store.name(other) == name);
    }
    table
}
