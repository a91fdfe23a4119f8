//! What of an entry does not fit a request, and how far that is from fitting.

use crate::rules::aws::AwsObjection;
use crate::rules::git::{GitMisfit, GitObjection};
use crate::words::aws::CredentialsError;

/// The entry that came nearest to a request that none fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nearest {
    /// Its number in the list, from 1.
    pub number: usize,
    /// What of it does not fit.
    pub misfit: Misfit,
}

/// What of an entry does not fit a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Misfit {
    /// It does not let the connection become what the request asks for.
    Upgrade,
    /// The method alone.
    Method,
    /// The path.
    Path,
    /// Method and path.
    Both,
    /// What is asked of the repository.
    Git(GitObjection),
    /// It is no request of git's client, with what it is instead; `None`: that is not known.
    NotGit(Option<Box<str>>),
    /// Whose credentials it has, or what they are for.
    Aws(AwsObjection),
    /// That it has no credentials of AWS.
    Credentials(CredentialsError),
    /// That it is not known whose credentials it has.
    UnknownCredentials,
}

/// How far an entry is from a request: of several things that do not fit, the farthest.
pub(super) type Distance = u8;

impl Misfit {
    pub(super) fn distance(&self) -> Distance {
        match self {
            Misfit::Upgrade => 0,
            Misfit::Git(GitObjection { misfit: GitMisfit::Change, .. }) => 1,
            Misfit::Git(GitObjection { misfit: GitMisfit::Ref, .. }) => 2,
            Misfit::Aws(_) | Misfit::Credentials(_) | Misfit::UnknownCredentials => 3,
            Misfit::Git(GitObjection { misfit: GitMisfit::Operation, .. }) => 4,
            Misfit::Method => 5,
            Misfit::Git(GitObjection { misfit: GitMisfit::Repository, .. }) => 6,
            Misfit::Path => 7,
            Misfit::Both => 8,
            Misfit::NotGit(_) => 9,
        }
    }
}
