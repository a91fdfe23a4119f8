//! The entry that is offered for a refused request: for it alone, whatever its query.

use std::sync::Arc;

use super::super::path::PathPattern;
use super::misfit::Misfit;
use super::request::{HttpRequest, Upgrade};
use super::requests::Entry;
use crate::rules::aws::AwsRule;
use crate::rules::git::{GitRule, RefPattern, RepositoryPattern};
use crate::words::aws::Regions;
use crate::words::git::{Asks, Content, GitAsk, Lfs, Operation, RefChange, Service};
use crate::words::small_sort::SmallSort as _;

/// Longer paths are for no person to read.
const LONGEST: usize = 256;
/// More refs are for no person to read.
const MOST_REFS: usize = 8;

impl Entry {
    /// The entry for this request alone, in place of `nearest`, of which `misfit` does not fit; `None`: none can be written, or it
    /// would be too long to be of use, or would let more through than is known of the request.
    pub(in crate::rules) fn for_request(
        request: &HttpRequest<'_>,
        nearest: &Entry,
        misfit: &Misfit,
    ) -> Option<Entry> {
        let recognised = request.recognised;
        let (credentials, aws) = match (&nearest.aws, recognised.map(|recognised| &recognised.aws)) {
            (None, _) => (None, None),
            (Some(_), _) if matches!(misfit, Misfit::Credentials(_) | Misfit::UnknownCredentials) => {
                return None;
            }
            // They are not the client's.
            (Some(rule), _) if nearest.credentials.is_some() => {
                (nearest.credentials.clone(), Some(Arc::clone(rule)))
            }
            (Some(rule), Some(Ok(sent))) => {
                let mut own = AwsRule::default();
                own.accounts = match &rule.accounts {
                    Some(_) => Some([rule.account_of(sent)?].into()),
                    None => None,
                };
                own.services = rule.services.as_ref().map(|_| [sent.service.clone()].into());
                own.regions = match (&rule.regions, &sent.regions) {
                    (None, _) => None,
                    (Some(_), Regions::One(region)) => Some([region.clone()].into()),
                    (Some(_), Regions::Set(_) | Regions::Unknown) => return None,
                };
                let own = own.with_key_accounts(rule.key_accounts().to_vec()).ok()?;
                (None, Some(Arc::new(own)))
            }
            (Some(rule), _) => (None, Some(Arc::clone(rule))),
        };
        let git = match recognised.map(|recognised| &recognised.git) {
            Some(Ok(ask)) if nearest.git.is_some() => Some(Arc::new(for_ask(ask, nearest.git.as_deref()?)?)),
            _ if is_of_git(request.path) && nearest.git.is_some() => return None,
            _ => None,
        };
        if git.is_some() {
            return Some(Entry { credentials, git, aws, ..Entry::default() });
        }
        let path = Some(request.path).filter(|path| path.len() <= LONGEST && !path.contains('*'))?;
        Some(Entry {
            methods: Some([request.method.into()].into()),
            paths: Some([PathPattern::parse(path).ok()?].into()),
            websocket: request.upgrade == Upgrade::Websocket,
            credentials,
            git: None,
            aws,
        })
    }
}

/// What Git's server reads by itself: an entry for the path would let it through with any body.
fn is_of_git(path: &str) -> bool {
    ["/git-", "/info/", "/objects/", "/HEAD", "-lfs/"].iter().any(|part| path.contains(part))
}

/// For one request of git's client. What is not known of it yet is as `nearest` says.
fn for_ask(ask: &GitAsk, nearest: &GitRule) -> Option<GitRule> {
    let repository = ask.request.repository.as_str();
    // With `.git` it is no repository of its service: a pattern for it would be one for another.
    if repository.len() > LONGEST || repository.contains('*') || repository.ends_with(".git") {
        return None;
    }
    let operation = match (&ask.content, ask.request.operation()) {
        (Content::Does(operation), _) => *operation,
        (_, Some(operation)) => operation,
        (Content::Changes(_), _) => Operation::Push,
        (Content::Unread | Content::Probe, None) => match ask.request.asks {
            Asks::Lfs(Lfs::Batch) | Asks::Rpc(Service::UploadPack) => Operation::Fetch,
            _ => return None,
        },
    };
    // Who lists refs is about to fetch, unless the rule knows nothing but lists.
    let operation = match operation {
        Operation::List if nearest.operations() != [Operation::List] => Operation::Fetch,
        _ => operation,
    };
    let mut rule = GitRule::new(&[operation]);
    rule.repositories = Some([RepositoryPattern::parse(repository).ok()?].into());
    rule.negotiation_limit = nearest.negotiation_limit;
    match &ask.content {
        Content::Changes(changes) => {
            if changes.len() > MOST_REFS {
                return None;
            }
            let pattern = |change: &RefChange| RefPattern::parse(change.name.as_str()).ok();
            rule.refs = Some(changes.iter().map(pattern).collect::<Option<_>>()?);
            rule.changes = nearest.changes.clone();
            for change in changes.iter().map(RefChange::change) {
                if !rule.changes.contains(&change) {
                    rule.changes = rule.changes.iter().copied().chain([change]).collect();
                    rule.changes.small_sort();
                }
            }
        }
        Content::Unread | Content::Probe | Content::Does(_) if operation == Operation::Push => {
            // Without refs it would let any through.
            rule.refs = Some(nearest.refs.clone()?);
            rule.changes = nearest.changes.clone();
        }
        Content::Unread | Content::Probe | Content::Does(_) => {}
    }
    Some(rule)
}
