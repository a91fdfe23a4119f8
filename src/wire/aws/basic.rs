//! Credentials of Basic, as CodeCommit takes them: those that IAM makes for Git, and a signature in place of a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::words::aws::{
    AccessKeyId, Account, AwsRequest, CredentialsError, Regions, Signer, codecommit_region,
};

/// The digits of an account.
const ACCOUNT: usize = 12;
/// The characters of a key id.
const KEY_ID: usize = 20;

/// Reads what follows `Basic `.
pub(super) fn read(host: &str, token: &str) -> Result<AwsRequest, CredentialsError> {
    let text = STANDARD
        .decode(token.trim_matches(' '))
        .ok()
        .and_then(|text| String::from_utf8(text).ok())
        .ok_or(CredentialsError::Malformed("Basic credentials that are not base64 of UTF-8"))?;
    let (user, _) =
        text.split_once(':').ok_or(CredentialsError::Malformed("Basic credentials without a colon"))?;
    let signer = signer(user).ok_or(CredentialsError::User)?;
    let regions = codecommit_region(host).map_or(Regions::Unknown, |region| Regions::One(region.into()));
    Ok(AwsRequest { signer, service: "codecommit".into(), regions, signed_fields: Box::default() })
}

/// `AKID`, `AKID%SESSIONTOKEN` or `NAME-at-ACCOUNT`. None is of two of these forms: a name that IAM makes has no `%`, and a key id
/// no `-`.
fn signer(user: &str) -> Option<Signer> {
    let (id, token) = match user.split_once('%') {
        Some((id, token)) => (id, Some(token)),
        None => (user, None),
    };
    if id.len() == KEY_ID
        && let Some(key) = AccessKeyId::new(id)
    {
        let printable = |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        return token.is_none_or(printable).then_some(Signer::Key(key));
    }
    // The last `-at-` counts: a user's name may have one.
    let (rest, account) = user.split_at_checked(user.len().checked_sub(ACCOUNT)?)?;
    let (account, name) = (Account::new(account)?, rest.strip_suffix("-at-")?);
    let of_iam = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'=' | b',' | b'.' | b'@' | b'-')
    };
    (!name.is_empty() && name.bytes().all(of_iam)).then(|| Signer::GitUser { user: user.into(), account })
}
