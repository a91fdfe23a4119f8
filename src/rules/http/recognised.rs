//! What a request says of itself beyond its method and path: read only where a rule in force asks for it.

use crate::rules::git::Judged;
use crate::words::aws::{AwsRequest, CredentialsError};
use crate::words::git::GitAsk;

/// What was recognised in a request. The session fills it; the rules judge it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recognised {
    /// What it asks of a Git repository; else why it is no request that git's client writes, without a word of its own.
    pub git: Result<GitAsk, Box<str>>,
    /// By whose credentials it comes to AWS.
    pub aws: Result<AwsRequest, CredentialsError>,
    /// What was found out ahead about the changes of a push.
    pub judged: Judged,
}
