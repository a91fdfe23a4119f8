//! `git` of an entry of `requests`: who may list, fetch and push what, and which refs may change how.
//!
//! That a push does not rewrite history cannot be seen on the wire, nor where a symbolic ref of the server leads: nothing here
//! says so. Not here: how requests are read ([`wire::git`](crate::wire::git)).

mod compare;
mod judged;
mod lint;
mod pattern;

pub use self::judged::{Judged, Judging};
pub use self::lint::{Door, doors, doubts};
pub use self::pattern::{RefPattern, RefPatternError, RepositoryPattern};
use crate::words::git::{
    Asks, Change, Content, GitAsk, GitRequest, Lfs, Operation, RefChange, Repository, Service,
};
use crate::words::outcome::Reason;
use crate::words::quote::quoted;

/// The bound of one request of a fetch, inflated, if the configuration names none.
pub const NEGOTIATION_LIMIT: u64 = 1 << 20;

/// What an entry says about Git.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GitRule {
    operations: Box<[Operation]>,
    /// Repositories; left out: any.
    pub repositories: Option<Box<[RepositoryPattern]>>,
    /// Refs that a push may change; left out: any.
    pub refs: Option<Box<[RefPattern]>>,
    /// What a push may do to them.
    pub changes: Box<[Change]>,
    /// The most bytes of one request of a fetch, inflated.
    pub negotiation_limit: u64,
}

/// Why a request does not fit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GitObjection {
    /// What does not fit.
    pub misfit: GitMisfit,
    /// What is so, and what to write.
    pub text: String,
}

/// What of an entry does not fit; the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GitMisfit {
    /// What happens to a ref: `ref_not_allowed`.
    Change,
    /// A ref: `ref_not_allowed`.
    Ref,
    /// What is done with the repository: `git_not_allowed`.
    Operation,
    /// The repository: `git_not_allowed`.
    Repository,
}

impl GitRule {
    /// An entry with `git: [operations]` and nothing else: any repository and ref, `create` and `update`.
    pub fn new(operations: &[Operation]) -> Self {
        GitRule {
            operations: operations.into(),
            repositories: None,
            refs: None,
            changes: [Change::Create, Change::Update].into(),
            negotiation_limit: NEGOTIATION_LIMIT,
        }
    }

    /// The operations, as written.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether it allows the operation. A client that fetches or pushes asks for the list of refs first, so fetch and push imply list.
    pub fn allows(&self, operation: Operation) -> bool {
        self.operations.contains(&operation) || (operation == Operation::List && !self.operations.is_empty())
    }

    /// Whether requests to read go out in a form that says nothing of the client: who may push says what they like anyway.
    pub fn fixes_reads(&self) -> bool {
        !self.allows(Operation::Push)
    }

    /// Whether it lets a request through as far as its head tells. Where the body decides
    /// ([`GitRequest::operation`] is `None`), one of the operations that it may be is enough: ask [`GitRule::may_do`] once it is
    /// read.
    ///
    /// # Errors
    /// What does not fit.
    pub fn may(&self, request: &GitRequest) -> Result<(), GitObjection> {
        let possible: &[Operation] = match (request.operation(), request.asks) {
            (Some(Operation::List), _) => &[Operation::List],
            (Some(Operation::Fetch), _) => &[Operation::Fetch],
            (Some(Operation::Push), _) => &[Operation::Push],
            (None, Asks::Lfs(Lfs::Batch)) => &[Operation::Fetch, Operation::Push],
            (None, Asks::Rpc(Service::UploadPack)) => &[Operation::List, Operation::Fetch],
            // Every other kind tells.
            (None, _) => &[],
        };
        let asked = possible.iter().find(|operation| self.allows(**operation)).or(possible.last());
        self.may_do(&request.repository, asked.copied().unwrap_or(Operation::Push))?;
        if request.asks == Asks::Lfs(Lfs::Upload) { self.may_upload() } else { Ok(()) }
    }

    /// Whether it lets through what is asked, as far as that is known.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, ask: &GitAsk) -> Result<(), GitObjection> {
        self.may(&ask.request)?;
        match &ask.content {
            Content::Unread | Content::Probe => Ok(()),
            Content::Does(operation) => {
                self.may_do(&ask.request.repository, *operation)?;
                // A batch of large files: nothing else says in its body that it pushes.
                if *operation == Operation::Push { self.may_upload() } else { Ok(()) }
            }
            Content::Changes(changes) => self.may_push(changes.iter()),
        }
    }

    /// The same where it is known which change is the first that it refuses.
    pub(in crate::rules) fn fits_as(&self, ask: &GitAsk, refused: Option<usize>) -> Result<(), GitObjection> {
        let Content::Changes(changes) = &ask.content else { return self.fits(ask) };
        self.may(&ask.request)?;
        refused.and_then(|number| changes.get(number)).map_or(Ok(()), |change| self.may_change(change))
    }

    /// Whether it lets this be done with the repository.
    ///
    /// # Errors
    /// What does not fit.
    pub fn may_do(&self, repository: &Repository, operation: Operation) -> Result<(), GitObjection> {
        let path = || quoted(repository.as_str());
        if self
            .repositories
            .as_ref()
            .is_some_and(|all| !all.iter().any(|pattern| pattern.matches(repository)))
        {
            // Where a server opens both, a repository has no `.git` here.
            let instead = match repository.as_str().ends_with(".git") {
                true => "the service has no repository whose name ends with `.git`: take `.git` off the URL",
                false => "write it under `repositories`",
            };
            let text = format!("{} is not allowed for {}: {instead}", operation.as_str(), path());
            return Err(GitObjection { misfit: GitMisfit::Repository, text });
        }
        if !self.allows(operation) {
            let word = operation.as_str();
            let text = format!("{word} is not allowed for {}: write `{word}` under `git`", path());
            return Err(GitObjection { misfit: GitMisfit::Operation, text });
        }
        Ok(())
    }

    /// Whether it lets large files be uploaded, where it allows pushes. An object of Git LFS belongs to no ref, and lies on the server
    /// before any ref changes. So a rule that bounds which branches may change, or lets refs be deleted alone, lets none be stored.
    fn may_upload(&self) -> Result<(), GitObjection> {
        let every_branch = |patterns: &[RefPattern]| {
            let branches = RefPattern::parse("refs/heads/**");
            branches.is_ok_and(|branches| patterns.iter().any(|pattern| pattern.covers(&branches)))
        };
        if self.refs.as_ref().is_some_and(|patterns| !every_branch(patterns)) {
            let text = "an upload of Git LFS belongs to no ref, so it is allowed only where every branch may change: write \
                        `refs/heads/**` under `refs`, or push without large files";
            return Err(GitObjection { misfit: GitMisfit::Ref, text: text.to_owned() });
        }
        if !self.changes.iter().any(|change| matches!(change, Change::Create | Change::Update)) {
            let text = "an upload of Git LFS stores something, and `ref_changes` lets refs be deleted alone: write `update` there";
            return Err(GitObjection { misfit: GitMisfit::Change, text: text.to_owned() });
        }
        Ok(())
    }

    /// Whether it lets a push through, whose head [`GitRule::may`] let through: each change must fit.
    ///
    /// # Errors
    /// The first change that does not fit.
    pub fn may_push<'c>(&self, changes: impl IntoIterator<Item = &'c RefChange>) -> Result<(), GitObjection> {
        changes.into_iter().try_for_each(|change| self.may_change(change))
    }

    /// Whether it lets one ref be changed so. This also tells which refs of a refused push are to blame.
    ///
    /// # Errors
    /// What does not fit.
    pub fn may_change(&self, change: &RefChange) -> Result<(), GitObjection> {
        let (name, word) = (|| quoted(change.name.as_str()), change.change().as_str());
        if self.refs.as_ref().is_some_and(|all| !all.iter().any(|pattern| pattern.matches(&change.name))) {
            let text = format!("{word} of {} is not allowed: write the ref under `refs`", name());
            return Err(GitObjection { misfit: GitMisfit::Ref, text });
        }
        if !self.changes.contains(&change.change()) {
            let text = format!("{word} of {} is not allowed: write `{word}` under `ref_changes`", name());
            return Err(GitObjection { misfit: GitMisfit::Change, text });
        }
        Ok(())
    }
}

impl GitMisfit {
    /// The reason of the refusal.
    pub fn reason(self) -> Reason {
        match self {
            GitMisfit::Change | GitMisfit::Ref => Reason::RefNotAllowed,
            GitMisfit::Operation | GitMisfit::Repository => Reason::GitNotAllowed,
        }
    }
}

#[cfg(test)]
mod tests;
