//! Why the credentials of a request to AWS are refused.

use thiserror::Error;

/// Why the credentials of a request are refused. Quotes nothing from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CredentialsError {
    /// None. Git asks so at first; egressd answers its discovery with a 401 of its own.
    #[error("no credentials: anyone could have sent it")]
    None,
    /// In more than one place: AWS reads one of them, and not everyone agrees which.
    #[error("credentials in two places: of Authorization, Cookie and the query only one may have them")]
    TwoPlaces,
    /// A cookie, which says nothing of an account.
    #[error("a cookie in place of a signature")]
    Cookie,
    /// Signature version 2 or older: it names neither service nor region.
    #[error("a signature of version 2: sign with version 4")]
    SigV2,
    /// A token, which says nothing of an account.
    #[error("a bearer token, which names no account: sign with version 4")]
    Bearer,
    /// Another scheme.
    #[error("a scheme that names no account: sign with version 4, or send the Git credentials of CodeCommit")]
    OtherScheme,
    /// A user of Basic that is none of AWS's.
    #[error(
        "a user that is neither NAME-at-ACCOUNT, as IAM makes them for Git, nor an access key id with its session token"
    )]
    User,
    /// Not of the form that AWS documents.
    #[error("{0}")]
    Malformed(&'static str),
}
