//! Bodies that are forms. The older services of AWS read their parameters from the query and from such a body alike, credentials
//! among them; S3 takes uploads by browsers whose credentials are parts of the body.

use super::query;
use crate::words::aws::CredentialsError;

/// The longest form that is read: a message of 256 KiB, encoded, has three times as many bytes.
pub const MAX_FORM: usize = 1 << 20;

/// The most fields of one form: each costs more to look at than its bytes.
const MAX_FIELDS: usize = 10_000;

/// Whether a body with these values of `Content-Type` is read as parameters, by anyone.
pub fn is_form<'v>(mut types: impl Iterator<Item = &'v [u8]>) -> bool {
    types.any(|value| holds(value, b"urlencoded"))
}

/// Whether a body of this type has parts.
pub(super) fn has_parts(value: &[u8]) -> bool {
    holds(value, b"multipart") || holds(value, b"form-data")
}

fn holds(value: &[u8], word: &[u8]) -> bool {
    value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// Whether a form, which is there whole, has no credentials in it.
///
/// # Errors
/// It has some, or cannot be read.
pub fn check_form(body: &[u8]) -> Result<(), CredentialsError> {
    let separators = body.iter().filter(|byte| matches!(byte, b'&' | b';')).count();
    if body.len() > MAX_FORM || separators >= MAX_FIELDS {
        return Err(CredentialsError::LongForm);
    }
    let body = std::str::from_utf8(body).map_err(|_| CredentialsError::Form)?;
    match query::find(body) {
        Ok(None) => Ok(()),
        Ok(Some(_)) | Err(_) => Err(CredentialsError::Form),
    }
}
