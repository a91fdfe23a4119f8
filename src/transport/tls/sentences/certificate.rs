//! Why a certificate is not valid, as a clause about "it": "it expired on …". Not here: revocation lists.

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::names::{algorithm, words};

/// Most names of a certificate that are shown; it may have a hundred.
const MAX_NAMES: usize = 5;
/// Most characters of one such name.
const MAX_NAME: usize = 100;

/// The side that shows the certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// A target, a parent, or the proxy to `doctor`.
    Server,
    /// A client of a listener.
    Client,
}

impl Holder {
    pub(super) fn noun(self) -> &'static str {
        match self {
            Holder::Server => "server",
            Holder::Client => "client",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Holder::Server => "not issued for servers (serverAuth)",
            Holder::Client => "not issued for clients (clientAuth)",
        }
    }
}

/// Why the certificate is not valid. Most checks are made of its chain as well, and rustls does not say where one failed.
pub fn of_certificate(why: &CertificateError, holder: Holder) -> String {
    use CertificateError::*;
    let text = match why {
        BadEncoding => "it is malformed",
        Expired => "it, or one in its chain, has expired",
        ExpiredContext { not_after, .. } => {
            return format!("it, or one in its chain, expired on {}", time(*not_after));
        }
        NotValidYet => "it, or one in its chain, is not valid yet",
        NotValidYetContext { not_before, .. } => {
            return format!("it, or one in its chain, is not valid yet: not before {}", time(*not_before));
        }
        Revoked => "it, or one in its chain, was revoked",
        UnhandledCriticalExtension => "it has a critical extension that egressd does not know",
        UnknownIssuer => "no trusted authority signed it",
        UnknownRevocationStatus => "there is no revocation list of its issuer",
        ExpiredRevocationList => "the revocation list of its issuer is out of date",
        ExpiredRevocationListContext { next_update, .. } => {
            return format!(
                "the revocation list of its issuer is out of date: it was due to be renewed at {}",
                time(*next_update)
            );
        }
        // Of its chain, and of the handshake, which it signs with its key. A key that is too short looks the same.
        BadSignature => {
            return format!(
                "a signature does not verify: its issuer did not sign it, the {} does not have its key, or an RSA key \
                 has fewer than 2048 bits",
                holder.noun()
            );
        }
        UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            return format!(
                "it, or one in its chain, is signed with {}, which egressd does not accept",
                algorithm(signature_algorithm_id)
            );
        }
        UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            public_key_algorithm_id,
        } => {
            return format!(
                "a signature ({}) does not fit the key that should have made it ({})",
                algorithm(signature_algorithm_id),
                algorithm(public_key_algorithm_id)
            );
        }
        NotValidForName => "it is not for this host",
        NotValidForNameContext { expected, presented } => {
            return of_names(&expected.to_str(), presented);
        }
        InvalidPurpose | InvalidPurposeContext { .. } => return format!("it is {}", holder.purpose()),
        InvalidOcspResponse => "the OCSP response that came with it is not valid",
        Other(other) => return of_webpki(&other.0.to_string(), holder),
        other => return format!("it failed a check ({})", words(other)),
    };
    text.to_owned()
}

/// By the name of webpki's error, which is all that rustls passes on of it.
fn of_webpki(name: &str, holder: Holder) -> String {
    let text = match name {
        "CaUsedAsEndEntity" => return format!("it is that of an authority, not of a {}", holder.noun()),
        "EndEntityUsedAsCa" => "the certificate that signed it is not that of an authority",
        "CertDistrusted" => "its key is distrusted",
        "EmptyEkuExtension" => "its list of purposes (extendedKeyUsage) is empty",
        "ExtensionValueInvalid" | "MalformedExtensions" => "an extension in it is malformed",
        "InvalidSerialNumber" => "its serial number is malformed",
        "MalformedDnsIdentifier" => "a DNS name in it is malformed",
        "InvalidNetworkMaskConstraint" | "MalformedNameConstraint" => {
            "a name constraint in its chain is malformed"
        }
        "NameConstraintViolation" => {
            "an authority in its chain may not sign for this name (name constraints)"
        }
        "PathLenConstraintViolated" => "its chain is longer than an authority in it allows (pathlen)",
        "MaximumNameConstraintComparisonsExceeded"
        | "MaximumPathBuildCallsExceeded"
        | "MaximumPathDepthExceeded"
        | "MaximumSignatureChecksExceeded" => "its chain is too long to be checked",
        "SignatureAlgorithmMismatch" => "it names two signature algorithms that differ",
        "UnsupportedCertVersion" => "it is not an X.509 certificate of version 3",
        "UnsupportedCriticalExtension" => "it has a critical extension that egressd does not know",
        other => return format!("it failed a check ({})", words(&format_args!("{other}"))),
    };
    text.to_owned()
}

/// `presented` are Debug texts of webpki: `DnsName("a.test")`, `IpAddress(203.0.113.9)`, and kinds that no host has.
fn of_names(expected: &str, presented: &[String]) -> String {
    let host = |text: &String| {
        let dns = text.strip_prefix("DnsName(\"").and_then(|text| text.strip_suffix("\")"));
        let name = dns.or_else(|| text.strip_prefix("IpAddress(")?.strip_suffix(')'))?;
        // The peer chose it.
        Some(name.chars().take(MAX_NAME).collect::<String>().escape_debug().to_string())
    };
    let mut names: Vec<String> = presented.iter().filter_map(host).collect();
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    let last = match more {
        0 => names.pop(),
        more => Some(format!("{more} more")),
    };
    match last {
        None => format!("it names no host (subjectAltName), so it is not for {expected}"),
        Some(last) if names.is_empty() => format!("it is for {last}, not for {expected}"),
        Some(last) => format!("it is for {} and {last}, not for {expected}", names.join(", ")),
    }
}

fn time(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}
