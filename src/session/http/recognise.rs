//! What a request asks of a Git repository, and by whose credentials it comes to AWS, as far as its head tells. It is read only
//! where the rule in force asks for it.
//!
//! What its body says follows ([`super::git`]), where that decides.

use std::sync::Arc;

use http::HeaderMap;

use crate::rules::git::Judged;
use crate::rules::{MatchedEntry, Recognised, Requests};
use crate::session::http::git::ahead::{self, Ahead};
use crate::session::http::git_fields as fields;
use crate::session::request::seen::{Seen, SeenAws, SeenGit};
use crate::wire::aws;
use crate::wire::git::classify_for;
use crate::wire::head::{Head, RequestTarget};
use crate::words::aws::{Account, AwsRequest, CredentialsError};
use crate::words::git::{Asks, Content, GitAsk};
use crate::words::target::{Host, Target};

/// Reads the head of a request to `target`.
pub(super) fn recognise(head: &Head, target: &Target) -> Arc<Recognised> {
    let host = target.host.to_string();
    let (path, query) = match &head.target {
        RequestTarget::Absolute { path_and_query, .. } => (path_and_query.path(), path_and_query.query()),
        RequestTarget::Authority(_) => ("", None),
    };
    let fields = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    Arc::new(Recognised {
        git: git(head.method.as_str(), &host, path, query, &head.headers),
        aws: aws::read(&host, query, fields),
        judged: Judged::default(),
    })
}

fn git(
    method: &str,
    host: &str,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<GitAsk, Box<str>> {
    let request = classify_for(host, method, path, query).map_err(|error| error.to_string())?;
    fields::check(request.asks, headers)?;
    Ok(GitAsk { request, content: Content::Unread })
}

/// The same for a request whose body goes on unread, because no entry in force asks for it: a reload may bring one that judges what
/// the body says, and that must not take it for judged.
pub(super) fn body_unread(by_head: Arc<Recognised>, head: &Head) -> Arc<Recognised> {
    let (of_git, form) = (ahead::decides(&by_head).is_some(), ahead::form(head).is_some());
    if !of_git && !form {
        return by_head;
    }
    let Recognised { git, aws, judged } = (*by_head).clone();
    let git = if of_git { Err("a request whose body was not read: send it again".into()) } else { git };
    Arc::new(Recognised { git, aws: if form { Err(CredentialsError::Form) } else { aws }, judged })
}

/// What the record says of it. `by_head` was recognised first; `known` with what the body says.
pub(super) fn seen(
    by_head: &Recognised,
    known: &Recognised,
    ahead: Option<&Ahead>,
    requests: &Requests,
) -> Seen {
    let git = by_head.git.as_ref().ok().filter(|_| requests.asks_git()).map(|ask| {
        let content = known.git.as_ref().map_or(&Content::Unread, |known| &known.content);
        SeenGit {
            repository: ask.request.repository.clone(),
            operation: match content {
                Content::Does(operation) => Some(*operation),
                Content::Unread | Content::Probe | Content::Changes(_) => ask.request.operation(),
            },
            changes: ahead.and_then(Ahead::changes).cloned().unwrap_or_default(),
            negotiated: ahead.and_then(Ahead::negotiated),
            options: ahead.and_then(Ahead::options),
        }
    });
    let aws = known.aws.as_ref().ok().filter(|_| requests.asks_aws());
    Seen { git, aws: aws.map(|aws| seen_aws(aws, account(aws, requests))) }
}

/// What the record says of credentials that are sent in place of the client's, if an entry judges them.
pub(super) fn lent(entry: &MatchedEntry, host: &Host) -> Option<SeenAws> {
    let aws = entry.credentials.as_ref()?.lent_to(&host.to_string())?;
    Some(seen_aws(&aws, entry.account))
}

fn seen_aws(aws: &AwsRequest, account: Option<Account>) -> SeenAws {
    let (service, regions) = (aws.service.clone(), aws.regions.clone());
    SeenAws { account, access_key: aws.access_key(), service, regions }
}

/// Whether it is the first request of git, which has no credentials, and an entry judges those of the client.
pub(super) fn asks_for_credentials(recognised: &Recognised, requests: &Requests) -> bool {
    let is_discovery =
        recognised.git.as_ref().is_ok_and(|ask| matches!(ask.request.asks, Asks::Discovery(_)));
    let lacks = recognised.aws == Err(CredentialsError::None);
    let mut entries = requests.entries().iter();
    is_discovery && lacks && entries.any(|entry| entry.aws.is_some() && entry.credentials.is_none())
}

/// The account whose credentials a request carries, as far as its key or the rule tells.
fn account(aws: &AwsRequest, requests: &Requests) -> Option<Account> {
    requests.entries().iter().filter_map(|entry| entry.aws.as_ref()).find_map(|rule| rule.account_of(aws))
}
