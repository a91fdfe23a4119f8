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
    /// A user and a password that came as two fields, which is another form than [`parse_basic`] reads, with the same meaning.
    ///
    /// # Errors
    /// What is wrong with them; quotes nothing.
    pub fn of(user: &[u8], password: &[u8]) -> Result<Self, &'static str> {
        if user.contains(&b':') {
            return Err("a user name with a colon, which no user has");
        }
        Credentials::of_text([user, b":", password].concat())
    }

    /// From `USER:PASSWORD`.
    fn of_text(text: Vec<u8>) -> Result<Self, &'static str> {
        let text = String::from_utf8(text)
            .unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect());
        let (user, password) = text.split_once(':').ok_or("credentials without a colon")?;
        if user.is_empty() {
            return Err("credentials without a user");
        }
        if user.len() > MAX_USER {
            return Err("a user name of more than 255 bytes");
        }
        // RFC 7617, section 2. For some hash libraries a NUL also ends the password. In ISO-8859-1 0x80 to 0x9f are control
        // characters, too: such bytes are of no charset that is known here.
        if text.chars().any(char::is_control) {
            return Err("credentials with control characters");
        }
        Ok(Credentials { user: user.into(), password: Password(password.into()) })
    }

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

/// Reads `Basic BASE64`: canonical base64 with padding, in it text without control characters, with a colon.
///
/// The text is UTF-8, as the 407 says. RFC 7617 §2.1 leaves the charset open to clients that do not heed that: Python's
/// requests, aiohttp and boto3 send ISO-8859-1, in which every byte is a character. So what is not UTF-8 is read as that, user
/// and password alike. There is one reading, and so at most one verification, however the bytes are chosen; and a pair is the
/// same pair, in the cache too, by whichever of the two it comes.
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
    Credentials::of_text(text).map_err(BasicError::Malformed)
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
            // 0xff, 0xe4 0xf6 and 0xff 0x3a 0xe4 are not UTF-8: ISO-8859-1.
            (b"Basic YTr/", Ok(("a", "\u{ff}"))),
            (b"Basic YTrk9g==", Ok(("a", "\u{e4}\u{f6}"))),
            (b"Basic /zrk", Ok(("\u{ff}", "\u{e4}"))),
            // The same password in UTF-8.
            (b"Basic YTrDpMO2", Ok(("a", "\u{e4}\u{f6}"))),
            // The Euro sign of Windows.
            (b"Basic YTqA", Err(malformed("credentials with control characters"))),
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

    /// Every text that ISO-8859-1 can write, character by character and at random, is the same pair by either charset; and a
    /// byte string has one reading, whatever it is.
    #[test]
    fn a_pair_is_the_same_in_utf_8_and_in_iso_8859_1() {
        let read = |bytes: &[u8]| {
            parse_basic(format!("Basic {}", STANDARD.encode(bytes)).as_bytes())
                .map(|read| format!("{}:{}", read.user, read.password.0))
        };
        // Those above the control characters.
        for code in 0xa0..=0xff_u8 {
            let text = format!("u{c}:p{c}", c = char::from(code));
            let latin1 = [&b"u"[..], &[code], b":p", &[code]].concat();
            assert_eq!(read(text.as_bytes()).as_ref(), Ok(&text), "{code:#x} in UTF-8");
            assert_eq!(read(&latin1).as_ref(), Ok(&text), "{code:#x} in ISO-8859-1");
        }
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u8
        };
        let (mut utf8, mut latin1, mut refused) = (0, 0, 0);
        for length in (0..40).cycle().take(20_000) {
            let bytes: Vec<u8> = b"u:"
                .iter()
                .copied()
                .chain((0..length).map(|_| match random() {
                    // Half of it pairs of which UTF-8 is made.
                    byte @ ..=127 => byte | 0x20,
                    byte => byte,
                }))
                .collect();
            match (read(&bytes), std::str::from_utf8(&bytes)) {
                (Ok(text), Ok(same)) => {
                    assert_eq!(text, same);
                    utf8 += 1;
                }
                (Ok(text), Err(_)) => {
                    let codes: Vec<u32> = text.chars().map(u32::from).collect();
                    assert_eq!(codes, bytes.iter().map(|byte| u32::from(*byte)).collect::<Vec<_>>());
                    latin1 += 1;
                }
                (Err(error), _) => {
                    assert_eq!(error, BasicError::Malformed("credentials with control characters"));
                    assert!(bytes.iter().any(|byte| matches!(byte, 0..0x20 | 0x7f..0xa0)), "{bytes:?}");
                    refused += 1;
                }
            }
        }
        assert!(utf8 > 100 && latin1 > 100 && refused > 100, "{utf8} {latin1} {refused}");
    }

    #[test]
    fn no_password_is_shown() {
        let shown = format!("{:?}", parse_basic(b"Basic Z2l0YWx5OnNlc2FtZQ==").unwrap());
        assert_eq!(shown, "Credentials { user: \"gitaly\", password: Password(…) }");
    }
}
