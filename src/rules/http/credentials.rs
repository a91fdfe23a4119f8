//! What is sent to a target in place of the client's own credentials. Nothing prints them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::words::aws::{AwsRequest, Regions, Signer, codecommit_region};

/// `USER:PASSWORD` of a file, for the `Basic` scheme (RFC 7617).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    file: Box<str>,
    user_password: Box<str>,
    /// Whose they are, if they are AWS's.
    signer: Option<Signer>,
}

impl Credentials {
    /// `user_password` from `file`, which is named as in the configuration. It is one line of printable text with a colon.
    pub fn new(file: &str, user_password: &str) -> Self {
        Credentials { file: file.into(), user_password: user_password.into(), signer: None }
    }

    /// Says whose they are, if they are AWS's.
    pub fn signed_by(self, signer: Option<Signer>) -> Self {
        Credentials { signer, ..self }
    }

    /// What a request that gets them says of itself to AWS, at `host`, which is a canonical name; `None`: they are not AWS's.
    pub fn lent_to(&self, host: &str) -> Option<AwsRequest> {
        let regions = codecommit_region(host).map_or(Regions::Unknown, |region| Regions::One(region.into()));
        let (signer, service) = (self.signer.clone()?, "codecommit".into());
        Some(AwsRequest { signer, service, regions, signed_fields: Box::default() })
    }

    /// The file, as the configuration names it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The part before the first colon.
    pub fn user(&self) -> &str {
        self.user_password.split_once(':').map_or("", |(user, _)| user)
    }

    /// The value of `Authorization`, marked so that nothing prints it.
    pub fn basic(&self) -> HeaderValue {
        let value = format!("Basic {}", STANDARD.encode(self.user_password.as_bytes()));
        // Base64 is always a valid value.
        let mut value = HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_sent_as_basic_and_never_printed() {
        let credentials = Credentials::new("push.cred", "Aladdin:open sesame");
        let value = credentials.basic();
        // RFC 7617 §2.
        assert_eq!(value.as_bytes(), b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(credentials.user(), "Aladdin");
        let printed = format!("{credentials:?} {credentials:#?} {value:?}");
        assert!(printed.contains("push.cred"), "{printed}");
        for secret in ["Aladdin", "sesame", "QWxh"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}
