//! What an entry says about Git: `git`, `repositories`, `refs`, `ref_changes` and `negotiation_limit`.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::finding::{Position, Report};
use super::super::keys::{Key, List, items, value};
use super::super::typed::At;
use super::super::values::{Line, Size};
use super::lists::{not_empty, once};
use crate::rules::git::{GitRule, NEGOTIATION_LIMIT, RefPattern, RepositoryPattern};
use crate::words::git::{Change, Operation};
use crate::words::quote::quoted;
use crate::words::units::Size as Shown;

/// Less holds no request of a fetch. The most are 335,000 ids: more would be held, inflated and read for each request.
const NEGOTIATION: std::ops::RangeInclusive<u64> = 1 << 10..=16 << 20;

/// What may be asked of a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "GitOperation"))]
pub(in crate::config) enum OperationFile {
    /// Which refs there are.
    List,
    /// To read objects: clone, fetch, pull. Implies list.
    Fetch,
    /// To change refs and store objects. Implies list.
    Push,
}

impl OperationFile {
    /// The operation that the word is for.
    pub(in crate::config) fn operation(self) -> Operation {
        match self {
            OperationFile::List => Operation::List,
            OperationFile::Fetch => Operation::Fetch,
            OperationFile::Push => Operation::Push,
        }
    }
}

/// What a push does to a ref.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "RefChange"))]
pub(in crate::config) enum ChangeFile {
    /// It is new.
    Create,
    /// It points elsewhere then. Whether its history is rewritten cannot be seen.
    Update,
    /// It goes.
    Delete,
}

impl ChangeFile {
    /// The change that the word is for.
    pub(in crate::config) fn change(self) -> Change {
        match self {
            ChangeFile::Create => Change::Create,
            ChangeFile::Update => Change::Update,
            ChangeFile::Delete => Change::Delete,
        }
    }
}

/// The keys of an entry that are about Git.
#[derive(Clone, Copy, Debug)]
pub(super) struct GitKeys<'f> {
    pub(super) git: &'f List<OperationFile>,
    pub(super) repositories: &'f List<Line>,
    pub(super) refs: &'f List<Line>,
    pub(super) ref_changes: &'f List<ChangeFile>,
    pub(super) negotiation_limit: &'f Key<Size>,
}

/// What the entry at `position` says about Git.
pub(super) fn git(keys: GitKeys<'_>, position: Position, report: &Report<'_>) -> Option<GitRule> {
    let GitKeys { git, repositories, refs, ref_changes, negotiation_limit } = keys;
    let Some(at) = git else {
        let beside = [
            ("repositories", repositories.as_ref().map(|at| at.position)),
            ("refs", refs.as_ref().map(|at| at.position)),
            ("ref_changes", ref_changes.as_ref().map(|at| at.position)),
            ("negotiation_limit", negotiation_limit.as_ref().map(|at| at.position)),
        ];
        for (key, at) in beside {
            if let (Some(at), false) = (at, report.is_misspelled(position, "git")) {
                report.error(
                    at,
                    format!(
                        "`{key}` is about Git: write `git: [fetch]` or `git: [push]` beside it, or remove it"
                    ),
                );
            }
        }
        return None;
    };
    not_empty(at, "git", "fetch", report);
    let operations = operations(git, report);
    let mut rule = GitRule::new(&operations);
    rule.repositories = repositories.as_ref().map(|at| {
        not_empty(at, "repositories", "/v1/repos/NAME", report);
        patterns(repositories, "repositories", report, |text| match path_of(text) {
            Some(path) => Err((0, format!("a repository is written by the path of its URL: write `{path}`"))),
            None => RepositoryPattern::parse(text).map_err(|error| (error.offset, error.to_string())),
        })
    });
    rule.refs = refs.as_ref().map(|at| {
        not_empty(at, "refs", "refs/heads/main", report);
        patterns(refs, "refs", report, |text| RefPattern::parse(text).map_err(|error| (0, error.to_string())))
    });
    if let Some(at) = ref_changes {
        not_empty(at, "ref_changes", "create, update", report);
        if !operations.is_empty() && !operations.contains(&Operation::Push) {
            report.error(
                at.position,
                "`ref_changes` is about pushes, and this entry allows none: write `push` under `git`, or remove it",
            );
        }
        rule.changes = changes(ref_changes, report);
    }
    rule.negotiation_limit = limit(negotiation_limit, report);
    Some(rule)
}

/// The path that was meant, of a URL or a name; `None`: it is one.
fn path_of(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("://") {
        return Some(rest.split_once('/').map_or("/NAME".to_owned(), |(_, path)| format!("/{path}")));
    }
    (!text.starts_with('/')).then(|| match text.contains('/') {
        true => format!("/{text}"),
        false => format!("/v1/repos/{text}` on CodeCommit, elsewhere `/GROUP/{text}"),
    })
}

fn operations(git: &List<OperationFile>, report: &Report<'_>) -> Vec<Operation> {
    let mut seen = Vec::new();
    let named = items(git).map(|(operation, position)| {
        let operation = operation.operation();
        once(&mut seen, operation.as_str().into(), "git", position, report);
        operation
    });
    named.collect()
}

/// In the order of their words: it means nothing.
fn changes(list: &List<ChangeFile>, report: &Report<'_>) -> Box<[Change]> {
    let mut seen = Vec::new();
    let mut named: Vec<Change> = Vec::new();
    for (change, position) in items(list) {
        let change = change.change();
        once(&mut seen, change.as_str().into(), "ref_changes", position, report);
        named.push(change);
    }
    Change::ALL.into_iter().filter(|change| named.contains(change)).collect()
}

fn patterns<P>(
    list: &List<Line>,
    key: &str,
    report: &Report<'_>,
    parse: impl Fn(&str) -> Result<P, (usize, String)>,
) -> Box<[P]> {
    let mut seen: Vec<Box<str>> = Vec::new();
    let mut patterns = Vec::new();
    for at in value(list).into_iter().flatten() {
        let At { value: Some(Line(text)), position, .. } = at else { continue };
        match parse(text) {
            Ok(pattern) => {
                once(&mut seen, text.clone(), key, *position, report);
                patterns.push(pattern);
            }
            Err((offset, error)) => {
                report.error(at.inside(text, offset), format!("{}: {error}", quoted(text)));
            }
        }
    }
    patterns.into()
}

fn limit(key: &Key<Size>, report: &Report<'_>) -> u64 {
    let Some(At { value: Some(Size(bytes)), position, .. }) = key else { return NEGOTIATION_LIMIT };
    if !NEGOTIATION.contains(bytes) {
        let (from, to) = (Shown(*NEGOTIATION.start()), Shown(*NEGOTIATION.end()));
        report.error(
            *position,
            format!("`negotiation_limit` must be from {from} to {to}, not {}", Shown(*bytes)),
        );
    }
    *bytes
}
