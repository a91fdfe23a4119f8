//! What was recognised in a request, as its record says it.

use std::sync::Arc;

use crate::telemetry::record::{LoggedAws, LoggedGit, Negotiated};
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
}

/// By whose credentials it comes to AWS.
#[derive(Debug)]
pub(crate) struct SeenAws {
    pub(crate) account: Option<Account>,
    pub(crate) access_key: Option<AccessKeyId>,
    pub(crate) service: Box<str>,
    pub(crate) regions: Regions,
}

impl SeenGit {
    /// For the record.
    pub(super) fn logged(&self) -> LoggedGit<'_> {
        LoggedGit {
            operation: self.operation,
            repository: self.repository.as_str(),
            changes: &self.changes,
            negotiated: self.negotiated,
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
