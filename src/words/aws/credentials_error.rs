//! Why the credentials of a request to AWS are refused.

use thiserror::Error;

/// Why the credentials of a request are refused. Quotes nothing from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CredentialsError {
    /// None. Git asks so at first; egressd answers its discovery with a 401 of its own.
    #[error("no credentials: anyone could have sent it")]
    None,
    /// In more than one place: AWS reads one of them, and not everyone agrees which.
    #[error(
        "credentials in two places: of Authorization, Cookie, other fields and the query only one may have them"
    )]
    TwoPlaces,
    /// A session's token without a signature of its key, or more than one.
    #[error(
        "a session token that does not go with the signature: one, beside an `Authorization` by a key of a session (ASIA…)"
    )]
    Token,
    /// In a field that no rule can judge.
    #[error(
        "credentials in another field than Authorization: sign with version 4 in Authorization or in the query"
    )]
    Elsewhere,
    /// A body of parts: S3 takes uploads by browsers whose credentials are among them.
    #[error(
        "a body of parts (multipart/…), by which S3 takes uploads with credentials among the parts: upload by PUT, signed in \
         Authorization or in the query"
    )]
    Parts,
    /// A form with credentials in it, or a body with them that some service may read as a form.
    #[error("credentials in a form: sign with version 4 in Authorization, and leave them out of the body")]
    Form,
    /// A form that is too long to be read.
    #[error("a form of more than 2 MiB, or of more than 50,000 fields, whose names are not read")]
    LongForm,
    /// A body of no known type that is too long to be read.
    #[error(
        "a body of more than 2 MiB, or of more than 50,000 fields, that some services read as a form, because its Content-Type does not          say what it is: send one that does, such as application/octet-stream or application/json"
    )]
    LongUnnamed,
    /// A form, or a body of no known type, in which names are not what they look like.
    #[error(
        "a form, or a body whose Content-Type does not say what it is, with a Content-Encoding or a charset other than UTF-8: send it          as it is, in UTF-8"
    )]
    CodedForm,
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

impl CredentialsError {
    /// Whether they are, or may be, in the body: there they go on, whatever is sent in place of others.
    pub fn is_in_the_body(self) -> bool {
        use CredentialsError::{CodedForm, Form, LongForm, LongUnnamed, Parts};
        matches!(self, Parts | Form | LongForm | LongUnnamed | CodedForm)
    }
}
