//! The value of `Proxy-Authorization`, strictly (RFC 7617, RFC 9110 section 11).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::auth_scheme::AuthScheme;

/// The longest value that is accepted, in bytes. The head has its own, larger limit.
const MAX_VALUE: usize = 2048;
/// The longest user name, in bytes: it goes to logs and policies.
pub(crate) const MAX_USER: usize = 255;

/// A user and a password, as a client sent them.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Not empty; no colon, no control characters.
    pub user: Box<str>,
    /// May be empty.
    pub password: Password,
}

/// Never shown: `Debug` prints dots, there is no `Display`, and it is only compared by its hash.
#[derive(Clone)]
pub struct Password(Box<str>);

/// Why a value is not accepted as credentials. Quotes nothing from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BasicError {
    /// A scheme other than Basic: the client is asked for credentials as if it had sent none.
    #[error("a scheme other than Basic")]
    OtherScheme(AuthScheme),
    /// Basic, and malformed.
    #[error("{0}")]
    Malformed(&'static str),
}

impl Credentials {
    /// What policies and the log call this user: `user:NAME`.
    pub fn identity(&self) -> Box<str> {
        format!("user:{}", self.user).into_boxed_str()
    }
}

impl Password {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Reads `Basic BASE64`: canonical base64 with padding, in it UTF-8 without control characters, with a colon.
///
/// # Errors
/// See [`BasicError`].
pub fn parse_basic(value: &[u8]) -> Result<Credentials, BasicError> {
    let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(BasicError::OtherScheme(AuthScheme::of(value)));
    }
    if value.len() > MAX_VALUE {
        return Err(BasicError::Malformed("credentials of more than 2,048 bytes"));
    }
    // RFC 9110, section 11.4: scheme and token are separated by one or more spaces.
    let token = value.get(scheme.len()..).unwrap_or_default().trim_ascii_start();
    let text =
        STANDARD.decode(token).map_err(|_| BasicError::Malformed("credentials that are not base64"))?;
    let text =
        String::from_utf8(text).map_err(|_| BasicError::Malformed("credentials that are not UTF-8"))?;
    let (user, password) =
        text.split_once(':').ok_or(BasicError::Malformed("credentials without a colon"))?;
    if user.is_empty() {
        return Err(BasicError::Malformed("credentials without a user"));
    }
    if user.len() > MAX_USER {
        return Err(BasicError::Malformed("a user name of more than 255 bytes"));
    }
    // RFC 7617, section 2. For some hash libraries a NUL also ends the password.
    if text.chars().any(char::is_control) {
        return Err(BasicError::Malformed("credentials with control characters"));
    }
    Ok(Credentials { user: user.into(), password: Password(password.into()) })
}

#[cfg(test)]
pub(crate) fn credentials(user: &str, password: &str) -> Credentials {
    Credentials { user: user.into(), password: Password(password.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_one_spelling() {
        type Case<'a> = (&'a [u8], Result<(&'a str, &'a str), BasicError>);
        let malformed = BasicError::Malformed;
        let cases: &[Case<'_>] = &[
            (b"Basic Z2l0YWx5OnNlc2FtZQ==", Ok(("gitaly", "sesame"))),
            (b"basic Z2l0YWx5OnNlc2FtZQ==", Ok(("gitaly", "sesame"))),
            (b"BASIC   Z2l0YWx5OnNlc2FtZQ==", Ok(("gitaly", "sesame"))),
            // The first colon ends the user; RFC 7617's own example has UTF-8.
            (b"Basic YTpiOmM=", Ok(("a", "b:c"))),
            (b"Basic dGVzdDoxMjPCow==", Ok(("test", "123\u{a3}"))),
            (b"Basic YTo=", Ok(("a", ""))),
            (b"Basic Og==", Err(malformed("credentials without a user"))),
            (b"Basic OmI=", Err(malformed("credentials without a user"))),
            (b"Basic YWI=", Err(malformed("credentials without a colon"))),
            (b"Basic ", Err(malformed("credentials without a colon"))),
            (b"Basic", Err(malformed("credentials without a colon"))),
            (b"Basic YTpiOmM", Err(malformed("credentials that are not base64"))),
            (b"Basic YTpiOm-_", Err(malformed("credentials that are not base64"))),
            // The unused bits of the last character are set.
            (b"Basic YTp=", Err(malformed("credentials that are not base64"))),
            (b"Basic YTpiOmM= ", Err(malformed("credentials that are not base64"))),
            (b"Basic YTpi OmM=", Err(malformed("credentials that are not base64"))),
            (b"Basic YTpiOmM=,", Err(malformed("credentials that are not base64"))),
            (b"Basic YTr/", Err(malformed("credentials that are not UTF-8"))),
            (b"Basic YTpiAA==", Err(malformed("credentials with control characters"))),
            (b"Basic YQo6Yg==", Err(malformed("credentials with control characters"))),
            (b"BasicYTpiOmM=", Err(BasicError::OtherScheme(AuthScheme::Other))),
            (b"Bearer YTpiOmM=", Err(BasicError::OtherScheme(AuthScheme::Bearer))),
            (b"Negotiate", Err(BasicError::OtherScheme(AuthScheme::Negotiate))),
            (b" Basic YTpiOmM=", Err(BasicError::OtherScheme(AuthScheme::Other))),
            (b"", Err(BasicError::OtherScheme(AuthScheme::Other))),
        ];
        for (value, expected) in cases {
            let actual = parse_basic(value);
            let actual = actual.as_ref().map(|read| (read.user.as_ref(), read.password.0.as_ref()));
            assert_eq!(actual, expected.as_ref().map(|pair| *pair), "{:?}", String::from_utf8_lossy(value));
        }
        let value = |user: usize, password: usize| {
            let text = format!("{}:{}", "u".repeat(user), "p".repeat(password));
            parse_basic(format!("Basic {}", STANDARD.encode(text)).as_bytes()).map(|_| ())
        };
        assert_eq!(value(255, 1000), Ok(()));
        assert_eq!(value(256, 1), Err(malformed("a user name of more than 255 bytes")));
        assert_eq!(value(1, 1600), Err(malformed("credentials of more than 2,048 bytes")));
    }

    #[test]
    fn no_password_is_shown() {
        let shown = format!("{:?}", parse_basic(b"Basic Z2l0YWx5OnNlc2FtZQ==").unwrap());
        assert_eq!(shown, "Credentials { user: \"gitaly\", password: Password(…) }");
    }
}
