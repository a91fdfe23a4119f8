//! The scheme of credentials (RFC 9110 §11.1), by the names that are known.

/// Declares the schemes with their names.
macro_rules! schemes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A scheme of credentials. What is not a known name is [`AuthScheme::Other`] and never repeated: some clients send a
        /// token without any scheme, and then the first word is a secret.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum AuthScheme {
            $($(#[$doc])* $variant,)*
            /// None of these.
            Other,
        }

        impl AuthScheme {
            /// Those with a name.
            pub const KNOWN: &'static [AuthScheme] = &[$(AuthScheme::$variant,)*];

            /// Its registered name; `other` for one without.
            pub fn as_str(self) -> &'static str {
                match self { $(AuthScheme::$variant => $name,)* AuthScheme::Other => "other" }
            }
        }
    };
}

// IANA's registry of HTTP authentication schemes, and three that are in use without it.
schemes! {
    /// RFC 7617: the one that is accepted.
    Basic = "Basic",
    /// RFC 6750.
    Bearer = "Bearer",
    /// RFC 9729.
    Concealed = "Concealed",
    /// RFC 7616.
    Digest = "Digest",
    /// RFC 9449.
    Dpop = "DPoP",
    /// RFC 9635.
    Gnap = "GNAP",
    /// RFC 7486.
    Hoba = "HOBA",
    /// RFC 8120.
    Mutual = "Mutual",
    /// RFC 4559.
    Negotiate = "Negotiate",
    /// RFC 5849.
    OAuth = "OAuth",
    /// RFC 9577.
    PrivateToken = "PrivateToken",
    /// RFC 7804.
    ScramSha1 = "SCRAM-SHA-1",
    /// RFC 7804.
    ScramSha256 = "SCRAM-SHA-256",
    /// RFC 8292.
    Vapid = "vapid",
    /// Microsoft's, never registered.
    Ntlm = "NTLM",
    /// Never registered.
    Kerberos = "Kerberos",
    /// Of AWS's signatures.
    Aws4 = "AWS4-HMAC-SHA256",
}

impl AuthScheme {
    /// The scheme of the value of an `Authorization` or `Proxy-Authorization` field.
    pub fn of(value: &[u8]) -> Self {
        let name = value.split(|byte| *byte == b' ').next().unwrap_or_default();
        let known =
            AuthScheme::KNOWN.iter().find(|known| name.eq_ignore_ascii_case(known.as_str().as_bytes()));
        known.copied().unwrap_or(AuthScheme::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_known_by_its_name_and_nothing_else_is_repeated() {
        for known in AuthScheme::KNOWN {
            let name = known.as_str();
            for value in [
                name.to_owned(),
                format!("{name} x"),
                name.to_uppercase(),
                format!("{} YII=", name.to_lowercase()),
            ] {
                assert_eq!(AuthScheme::of(value.as_bytes()), *known, "{value}");
            }
        }
        for value in [
            "",
            " Bearer x",
            "Bearer\tx",
            "Bearer,x",
            "BearerX",
            "ghp_0123456789",
            "Basic=",
            "\u{1b}[2J",
            "other",
        ] {
            assert_eq!(AuthScheme::of(value.as_bytes()), AuthScheme::Other, "{value:?}");
        }
    }
}
