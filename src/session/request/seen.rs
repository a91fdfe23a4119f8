//! What was recognised in a request, as its record says it.

use std::fmt;
use std::sync::Arc;

use crate::telemetry::record::{LoggedAws, LoggedGit, Negotiated, PushOptions};
use crate::words::aws::{AccessKeyId, Account, Regions};
use crate::words::git::{Operation, RefChange, Repository};

/// What was recognised in a request.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) git: Option<SeenGit>,
    pub(crate) aws: Option<SeenAws>,
}

/// What it asks of a Git repository.
#[derive(Debug)]
pub(crate) struct SeenGit {
    pub(crate) repository: Repository,
    /// As far as it is known.
    pub(crate) operation: Option<Operation>,
    /// Of a push, as far as they could be read.
    pub(crate) changes: Arc<[RefChange]>,
    pub(crate) negotiated: Option<Negotiated>,
    /// Of a push.
    pub(crate) options: Option<PushOptions>,
}

/// By whose credentials it comes to AWS.
#[derive(Debug)]
pub(crate) struct SeenAws {
    pub(crate) account: Option<Account>,
    pub(crate) access_key: Option<AccessKeyId>,
    pub(crate) service: Box<str>,
    pub(crate) regions: Regions,
}

/// A few words for the status page: `push of /own: update refs/heads/main and 3 more; by account 123456789012`.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(git) = &self.git {
            write!(f, "{} of {}", git.operation.map_or("request", Operation::as_str), git.repository)?;
            if let Some(first) = git.changes.first() {
                write!(f, ": {} {}", first.change().as_str(), first.name)?;
            }
            match git.changes.len().saturating_sub(1) {
                0 => {}
                more => write!(f, " and {more} more")?,
            }
        }
        if let Some(aws) = &self.aws {
            let between = if self.git.is_some() { "; " } else { "" };
            match (aws.account, aws.access_key) {
                (Some(account), _) => write!(f, "{between}by account {account}")?,
                (None, Some(key)) => write!(f, "{between}by the key {key}")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

impl SeenGit {
    /// For the record.
    pub(super) fn logged(&self) -> LoggedGit<'_> {
        LoggedGit {
            operation: self.operation,
            repository: self.repository.as_str(),
            changes: &self.changes,
            negotiated: self.negotiated,
            options: self.options,
        }
    }
}

impl SeenAws {
    /// For the record.
    pub(super) fn logged(&self) -> LoggedAws<'_> {
        LoggedAws {
            account: self.account,
            access_key: self.access_key,
            service: &self.service,
            regions: &self.regions,
        }
    }
}
