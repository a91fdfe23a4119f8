//! The fields of one head as httparse gives them, and the token, which is the form of names, methods and options.

use super::request::Fault;

/// Whether it may stand in a token (RFC 9110 §5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// The values of every field called `name`, in order; `name` in any case.
pub(super) fn all<'a>(fields: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The value of a field that may occur at most once.
pub(super) fn at_most_one<'a>(
    fields: &'a [httparse::Header<'a>],
    name: &'a str,
    detail: &'static str,
) -> Result<Option<&'a [u8]>, Fault> {
    let mut values = all(fields, name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Fault::bad_request(detail)),
    }
}
