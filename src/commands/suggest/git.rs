//! What was seen of Git inside the tunnels to one target, and the entries of `requests` for it: repositories, refs and accounts.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::Kind;
use crate::commands::logs::LoggedGit;
use crate::rules::Entry;
use crate::rules::aws::AwsRule;
use crate::rules::git::{GitRule, RefPattern, RepositoryPattern};
use crate::words::aws::Account;
use crate::words::git::{Change, Operation};
use crate::words::small_sort::SmallCollect as _;

/// Most refs that are told apart in an entry; more become those below `refs/heads/`, `refs/tags/` and so on.
const REFS: usize = 8;
/// Most patterns of refs in an entry.
const MOST_REFS: usize = 100;
/// Most repositories of one kind in a rule; more become all beside them.
const REPOSITORIES: usize = 100;

/// What was asked, by kind and repository.
#[derive(Clone, Default, Debug)]
pub(super) struct Git {
    seen: [BTreeMap<Box<str>, Asked>; 3],
}

#[derive(Clone, Default, Debug)]
struct Asked {
    operations: BTreeSet<Operation>,
    refs: BTreeSet<Box<str>>,
    changes: BTreeSet<Change>,
    accounts: BTreeSet<Account>,
    /// What is not known of some.
    unknown: Unknown,
    count: u64,
}

/// What the log does not say of some requests. An entry then allows less than they asked for, or says so.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Unknown {
    /// By whose account one came.
    account: bool,
    /// Which refs a push changes: all of them, or some.
    refs: bool,
}

impl Unknown {
    /// The comments that stand beside the entry.
    pub(super) fn told(self) -> impl Iterator<Item = &'static str> {
        let account = "; no account on record for some: write the accounts that may under `aws`, or any may";
        let refs = "; the log lacks refs of pushes: add `push` and the refs under `refs`";
        [self.account.then_some(account), self.refs.then_some(refs)].into_iter().flatten()
    }
}

/// What repositories of one entry have in common.
type Same = (BTreeSet<Operation>, BTreeSet<String>, BTreeSet<Change>, BTreeSet<Account>, Unknown);

impl Git {
    /// Adds a request. `room` is how many repositories and refs may still be kept of the whole log. `false`: there is none.
    pub(super) fn add(&mut self, kind: Kind, git: &LoggedGit, room: &mut usize) -> bool {
        let Some(seen) = self.seen.get_mut(kind as usize) else { return false };
        let is_known = seen.contains_key(&*git.repository);
        let Some(operation) = git.operation.filter(|_| is_known || *room > 0) else { return false };
        *room -= usize::from(!is_known);
        let asked = seen.entry(git.repository.as_str().into()).or_default();
        // Before a push git lists the refs, and probes: an entry for a push without refs would allow any ref.
        let is_push = operation == Operation::Push;
        let names_none = is_push && git.refs.is_empty();
        asked.operations.insert(if names_none { Operation::List } else { operation });
        asked.unknown.refs |= is_push && !git.has_all_refs() || names_none && kind == Kind::Denied;
        asked.count += 1;
        match git.account {
            Some(account) => drop(asked.accounts.insert(account)),
            None => asked.unknown.account = true,
        }
        for (name, change) in &git.refs {
            asked.changes.insert(*change);
            if asked.refs.contains(&**name) {
                continue;
            }
            match room.checked_sub(1) {
                Some(left) => {
                    *room = left;
                    asked.refs.insert(name.as_str().into());
                }
                None => asked.unknown.refs = true,
            }
        }
        true
    }

    /// The first kind of which there is a request.
    pub(super) fn kind(&self) -> Option<Kind> {
        let kinds = [Kind::Passed, Kind::WouldDeny, Kind::Denied];
        kinds.into_iter().zip(&self.seen).find(|(_, seen)| !seen.is_empty()).map(|(kind, _)| kind)
    }

    /// The entries of one kind, with how many requests each is for, and what is not known of them.
    pub(super) fn entries(&self, kind: Kind) -> Vec<(Entry, u64, Unknown)> {
        let Some(seen) = self.seen.get(kind as usize) else { return Vec::new() };
        let mut same: BTreeMap<Same, (BTreeSet<&str>, u64)> = BTreeMap::new();
        for (repository, asked) in seen {
            let (repositories, count) = same.entry(asked.same()).or_default();
            repositories.insert(repository);
            *count += asked.count;
        }
        same.into_iter()
            .filter_map(|(same, (repositories, count))| Some((entry(&same, &repositories)?, count, same.4)))
            .collect()
    }
}

impl Asked {
    fn same(&self) -> Same {
        let mut operations = self.operations.clone();
        let mut unknown = self.unknown;
        if self.refs.is_empty() && operations.remove(&Operation::Push) {
            operations.insert(Operation::List);
        }
        if operations.len() > 1 {
            // The others imply it.
            operations.remove(&Operation::List);
        }
        let all: BTreeSet<String> = match self.refs.len() > REFS {
            false => self.refs.iter().map(ToString::to_string).small_collect(),
            true => self.refs.iter().map(|name| family(name)).small_collect(),
        };
        let refs: BTreeSet<String> = all.iter().take(MOST_REFS).cloned().small_collect();
        unknown.refs |= refs.len() < all.len();
        let mut changes = if refs.is_empty() { BTreeSet::new() } else { self.changes.clone() };
        if !changes.is_empty() {
            changes.extend([Change::Create, Change::Update]);
        }
        let accounts = if unknown.account { BTreeSet::new() } else { self.accounts.clone() };
        (operations, refs, changes, accounts, unknown)
    }
}

/// `refs/heads/**` for `refs/heads/a/b`.
fn family(name: &str) -> String {
    let mut parts = name.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(refs), Some(kind), Some(_)) => format!("{refs}/{kind}/**"),
        _ => name.to_owned(),
    }
}

fn entry((operations, refs, changes, accounts, _): &Same, repositories: &BTreeSet<&str>) -> Option<Entry> {
    let operations: Vec<Operation> = operations.iter().copied().collect();
    let mut rule = GitRule::new(&operations);
    let beside = |path: &&str| path.rsplit_once('/').map(|(above, _)| format!("{above}/*"));
    let patterns: BTreeSet<String> = match repositories.len() > REPOSITORIES {
        false => repositories.iter().map(ToString::to_string).small_collect(),
        true => repositories.iter().filter_map(beside).small_collect(),
    };
    // A log may contain any text.
    let patterns = patterns.iter().take(REPOSITORIES).filter(|path| !path.contains("**"));
    let patterns: Vec<RepositoryPattern> =
        patterns.filter_map(|path| RepositoryPattern::parse(path).ok()).collect();
    if patterns.is_empty() {
        return None;
    }
    rule.repositories = Some(patterns.into());
    if !refs.is_empty() {
        let patterns: Vec<RefPattern> = refs.iter().filter_map(|name| RefPattern::parse(name).ok()).collect();
        if patterns.is_empty() {
            return None;
        }
        rule.refs = Some(patterns.into());
        rule.changes = changes.iter().copied().collect();
    }
    let mut aws = AwsRule::default();
    aws.accounts = Some(accounts.iter().copied().collect());
    let aws = (!accounts.is_empty()).then(|| aws.into());
    Some(Entry { git: Some(rule.into()), aws, ..Entry::default() })
}
