//! What a line says of Git and AWS.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::entry::Entry;
use super::json::number;
use crate::telemetry::record::Event;
use crate::words::aws::Account;
use crate::words::git::{Change, Operation};

/// How a text ends that the log cut.
const CUT: char = '…';

/// What a request asked of a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoggedGit {
    /// What was asked; `None`: the log does not know.
    pub operation: Option<Operation>,
    /// Of what.
    pub repository: String,
    /// What a push changes. A log may leave some out.
    pub refs: Vec<(String, Change)>,
    /// How many there were.
    pub ref_count: u64,
    /// The AWS account of the credentials.
    pub account: Option<Account>,
}

#[derive(Deserialize)]
struct GitMembers<'l> {
    operation: Option<String>,
    repository: String,
    #[serde(borrow)]
    ref_count: Option<&'l RawValue>,
    #[serde(default)]
    refs: Vec<RefMembers>,
}

#[derive(Deserialize)]
struct RefMembers {
    name: String,
    change: String,
}

#[derive(Deserialize)]
struct AwsMembers {
    account: Option<String>,
}

impl LoggedGit {
    /// Whether the line has all refs of a push.
    pub fn has_all_refs(&self) -> bool {
        self.ref_count <= self.refs.len() as u64
    }
}

impl Entry<'_> {
    /// What was asked of a repository. `None`: nothing, or the line is not egressd's.
    pub fn git(&self) -> Option<LoggedGit> {
        let git: GitMembers<'_> = serde_json::from_str(self.git?).ok()?;
        let ref_count = number(git.ref_count)?;
        let refs = git.refs.into_iter().filter_map(|each| Some((each.name, Change::named(&each.change)?)));
        let mut refs: Vec<(String, Change)> = refs.collect();
        let all = refs.len() as u64;
        refs.retain(|(name, _)| !name.ends_with(CUT));
        Some(LoggedGit {
            operation: git.operation.as_deref().and_then(Operation::named),
            repository: git.repository,
            ref_count: ref_count.unwrap_or(all).max(all),
            refs,
            account: self.account(),
        })
    }

    /// Whether egressd itself asked for credentials: nothing went out, and git asks again with them. Neither did it pass, nor was it
    /// refused.
    pub fn asks_for_credentials(&self) -> bool {
        self.event == Some(Event::Request)
            && self.status == Some(401)
            && self.upstream.is_none()
            && self.aws.is_none()
            && self.git.is_some()
    }

    /// The AWS account of the credentials, if it is known.
    pub fn account(&self) -> Option<Account> {
        let aws: AwsMembers = serde_json::from_str(self.aws?).ok()?;
        Account::new(aws.account.as_deref()?)
    }
}
