//! What a rule says about requests, from the keys as typed to [`Requests`] and
//! [`HeaderEdits`](crate::rules::HeaderEdits): `requests` and `headers`.
//!
//! The files that these keys name are read here. An error never shows a byte of their content. Not here: which rules may
//! have these keys ([`crate::rules`]).

mod aws;
mod git;
mod headers;
mod lists;
mod position;

use std::sync::Arc;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use self::aws::{AwsFile, aws, judge_lent, signer};
pub(super) use self::git::{ChangeFile, OperationFile};
use self::git::{GitKeys, git};
pub(super) use self::headers::{HeadersFile, headers};
use self::lists::{not_empty, once};
pub(super) use self::position::entry_position;
use super::finding::{Position, Report};
use super::keys::{Key, List, items, value};
use super::named_files::NamedFiles;
use super::secret_files::{Secret, tell_of_readers, user_password};
use super::typed::At;
use super::values::{FilePath, Line, MethodName, Size};
use crate::rules::{Credentials, Entry, PathPattern, Requests};
use crate::words::quote::quoted;

/// Most entries of one rule, and most paths and repositories, and most refs, in all of them: each request is compared with each.
const MAX_ENTRIES: usize = 1_000;

/// Requests that a rule lets through. Every key that is set must fit.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(rename = "Request", deny_unknown_fields))]
pub(super) struct EntryFile {
    /// Methods, in upper case. Left out: any.
    pub(super) methods: List<MethodName>,
    /// Paths without the query. `*` stands for one or more characters within a segment, `/**` at the end for everything below.
    /// Left out: any.
    pub(super) paths: List<Line>,
    /// What the connection may become. Left out: nothing.
    pub(super) upgrade: List<UpgradeFile>,
    /// What may be asked of Git repositories: list, fetch, push. Nothing else fits the entry then.
    pub(super) git: List<OperationFile>,
    /// Paths of Git repositories, as in their URL. `*` and `/**` as in `paths`. Left out: any.
    pub(super) repositories: List<Line>,
    /// Refs that a push may change. `*` stands for one or more characters between two `/`, `/**` at the end for everything below.
    /// Left out: any.
    pub(super) refs: List<Line>,
    /// What a push may do to them: create, update, delete. Left out: create and update.
    pub(super) ref_changes: List<ChangeFile>,
    /// Maximum of bytes of one request of a fetch, inflated. Left out: 1MiB.
    pub(super) negotiation_limit: Key<Size>,
    /// By whose credentials a request may come to AWS. Left out: by any, or without.
    pub(super) aws: Key<AwsFile>,
    /// File with one line USER:PASSWORD, sent as Basic credentials in place of what the client sent.
    pub(super) credentials_file: Key<FilePath>,
}

/// What a connection may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "Upgrade"))]
pub(super) enum UpgradeFile {
    /// A WebSocket. What follows is not looked at.
    Websocket,
}

/// The entries of `requests`.
pub(super) fn requests(
    list: &List<EntryFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Arc<Requests>> {
    let at = list.as_ref()?;
    let written = at.value.as_deref()?;
    if written.is_empty() {
        report.error(
            at.position,
            "`requests` is empty and lets no request through: write at least one entry, such as `{methods: [GET]}`, or \
             remove the key",
        );
    }
    if written.len() > MAX_ENTRIES {
        let text = format!("more than {MAX_ENTRIES} entries: write wider paths, or several rules");
        report.error(at.position, text);
    }
    let mut entries = Vec::with_capacity(written.len());
    let (mut paths, mut refs) = (0, 0);
    for (file, position) in items(list) {
        let entry = entry(file, position, report, files);
        let git = entry.git.as_deref();
        let repositories = git.and_then(|git| git.repositories.as_ref()).map_or(0, |all| all.len());
        paths += entry.paths.as_ref().map_or(0, |paths| paths.len()) + repositories;
        refs += git.and_then(|git| git.refs.as_ref()).map_or(0, |refs| refs.len());
        entries.push(entry);
    }
    if paths > MAX_ENTRIES {
        let text =
            format!("more than {MAX_ENTRIES} paths and repositories: write wider ones, such as `/v1/**`");
        report.error(at.position, text);
    }
    if refs > MAX_ENTRIES {
        let text = format!("more than {MAX_ENTRIES} refs: write wider ones, such as `refs/heads/**`");
        report.error(at.position, text);
    }
    Some(Arc::new(Requests::new(entries)))
}

fn entry(file: &EntryFile, position: Position, report: &Report<'_>, files: &mut NamedFiles<'_>) -> Entry {
    let EntryFile { methods, paths, upgrade, credentials_file, .. } = file;
    let keys = GitKeys {
        git: &file.git,
        repositories: &file.repositories,
        refs: &file.refs,
        ref_changes: &file.ref_changes,
        negotiation_limit: &file.negotiation_limit,
    };
    let git = git(keys, position, report).map(Arc::new);
    let aws_rule = aws(&file.aws, report);
    say_something(file, position, report);
    let methods = methods.as_ref().map(|at| {
        let mut seen: Vec<Box<str>> = Vec::new();
        for (method, position) in items(methods) {
            once(&mut seen, method.0.clone(), "methods", position, report);
        }
        not_empty(at, "methods", "GET", report);
        seen.into_boxed_slice()
    });
    let paths = paths.as_ref().map(|at| {
        not_empty(at, "paths", "/v1/**", report);
        let mut seen: Vec<Box<str>> = Vec::new();
        let mut patterns = Vec::new();
        for at in value(paths).into_iter().flatten() {
            let Some(text) = at.value.as_ref().map(|line| &*line.0) else { continue };
            match PathPattern::parse(text) {
                Ok(pattern) => {
                    once(&mut seen, text.into(), "paths", at.position, report);
                    patterns.push(pattern);
                }
                Err(error) => {
                    report.error(at.inside(text, error.offset), format!("{}: {error}", quoted(text)));
                }
            }
        }
        patterns.into_boxed_slice()
    });
    if let Some(at) = upgrade {
        if git.is_some() {
            report.error(
                at.position,
                "Git uses no WebSocket: remove `upgrade`, or write it in an entry without `git`",
            );
        }
        not_empty(at, "upgrade", "websocket", report);
        let mut seen = Vec::new();
        for (UpgradeFile::Websocket, position) in items(upgrade) {
            once(&mut seen, "websocket".into(), "upgrade", position, report);
        }
    }
    let credentials = credentials_file.as_ref().and_then(|at| credentials(at, report, files));
    if let (Some(rule), Some(lent), Some(at)) = (&aws_rule, &credentials, credentials_file) {
        judge_lent(rule, lent, at.position, report);
    }
    Entry { methods, paths, websocket: upgrade.is_some(), credentials, git, aws: aws_rule.map(Arc::new) }
}

/// An entry without a key would let every request through.
fn say_something(file: &EntryFile, position: Position, report: &Report<'_>) {
    let about_git = [file.git.is_some(), file.repositories.is_some(), file.refs.is_some()].contains(&true)
        || file.ref_changes.is_some()
        || file.negotiation_limit.is_some();
    let about_http = file.methods.is_some() || file.paths.is_some() || file.upgrade.is_some();
    if about_git || about_http || file.aws.is_some() || file.credentials_file.is_some() {
        return;
    }
    let keys = ["methods", "paths", "upgrade", "git", "repositories", "refs", "ref_changes"];
    let others = ["negotiation_limit", "aws", "credentials_file"];
    if !keys.iter().chain(&others).any(|key| report.is_misspelled(position, key)) {
        report.error(
            position,
            "an entry without a key says nothing: write `methods`, `paths`, `upgrade`, `git`, `aws` or `credentials_file`",
        );
    }
}

fn credentials(
    at: &At<FilePath>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Arc<Credentials>> {
    let name = &*at.value.as_ref()?.0;
    let content = files.read(name, at.position, report)?;
    tell_of_readers(Secret::Sent, (files, name), at.position, report);
    match user_password(&content) {
        Ok(text) => {
            let credentials = Credentials::new(name, text);
            let signer = signer(&credentials);
            Some(Arc::new(credentials.signed_by(signer)))
        }
        Err(wrong) => {
            report.error(at.position, wrong);
            None
        }
    }
}

/// Whether an entry names a file with credentials, and where.
pub(super) fn credentials_position(list: &List<EntryFile>) -> Option<Position> {
    items(list).find_map(|(entry, _)| entry.credentials_file.as_ref().map(|at| at.position))
}
