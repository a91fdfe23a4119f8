//! What was seen of Git inside the tunnels to one target, and the entries of `requests` for it: repositories, refs and accounts.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::Kind;
use crate::commands::logs::LoggedGit;
use crate::rules::Entry;
use crate::rules::aws::AwsRule;
use crate::rules::git::{GitRule, RefPattern, RepositoryPattern};
use crate::words::aws::Account;
use crate::words::git::{Change, Operation};

/// Most refs that are told apart in an entry; more become those below `refs/heads/`, `refs/tags/` and so on.
const REFS: usize = 8;
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
    /// Whether one came without an account.
    without: bool,
    count: u64,
}

/// What repositories of one entry have in common.
type Same = (BTreeSet<Operation>, BTreeSet<String>, BTreeSet<Change>, BTreeSet<Account>);

impl Git {
    /// Adds a request. `room` is how many repositories and refs may still be kept of the whole log. `false`: there is none.
    pub(super) fn add(&mut self, kind: Kind, git: &LoggedGit, room: &mut usize) -> bool {
        let Some(seen) = self.seen.get_mut(kind as usize) else { return false };
        let is_known = seen.contains_key(&*git.repository);
        let Some(operation) = git.operation.filter(|_| is_known || *room > 0) else { return false };
        *room -= usize::from(!is_known);
        let asked = seen.entry(git.repository.as_str().into()).or_default();
        asked.operations.insert(operation);
        asked.count += 1;
        match git.account {
            Some(account) => drop(asked.accounts.insert(account)),
            None => asked.without = true,
        }
        for (name, change) in &git.refs {
            asked.changes.insert(*change);
            if !asked.refs.contains(&**name) && *room > 0 {
                *room -= 1;
                asked.refs.insert(name.as_str().into());
            }
        }
        true
    }

    /// The first kind of which there is a request.
    pub(super) fn kind(&self) -> Option<Kind> {
        let kinds = [Kind::Passed, Kind::WouldDeny, Kind::Denied];
        kinds.into_iter().zip(&self.seen).find(|(_, seen)| !seen.is_empty()).map(|(kind, _)| kind)
    }

    /// The entries of one kind, with how many requests each is for.
    pub(super) fn entries(&self, kind: Kind) -> Vec<(Entry, u64)> {
        let Some(seen) = self.seen.get(kind as usize) else { return Vec::new() };
        let mut same: BTreeMap<Same, (BTreeSet<&str>, u64)> = BTreeMap::new();
        for (repository, asked) in seen {
            let (repositories, count) = same.entry(asked.same()).or_default();
            repositories.insert(repository);
            *count += asked.count;
        }
        same.into_iter()
            .filter_map(|(same, (repositories, count))| Some((entry(&same, &repositories)?, count)))
            .collect()
    }
}

impl Asked {
    fn same(&self) -> Same {
        let mut operations = self.operations.clone();
        if operations.len() > 1 {
            // The others imply it.
            operations.remove(&Operation::List);
        }
        let refs: BTreeSet<String> = match self.refs.len() > REFS {
            false => self.refs.iter().map(ToString::to_string).collect(),
            true => self.refs.iter().map(|name| family(name)).collect(),
        };
        let mut changes = self.changes.clone();
        if !changes.is_empty() {
            changes.extend([Change::Create, Change::Update]);
        }
        let accounts = if self.without { BTreeSet::new() } else { self.accounts.clone() };
        (operations, refs, changes, accounts)
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

fn entry((operations, refs, changes, accounts): &Same, repositories: &BTreeSet<&str>) -> Option<Entry> {
    let operations: Vec<Operation> = operations.iter().copied().collect();
    let mut rule = GitRule::new(&operations);
    let beside = |path: &&str| path.rsplit_once('/').map(|(above, _)| format!("{above}/*"));
    let patterns: BTreeSet<String> = match repositories.len() > REPOSITORIES {
        false => repositories.iter().map(ToString::to_string).collect(),
        true => repositories.iter().filter_map(beside).collect(),
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
