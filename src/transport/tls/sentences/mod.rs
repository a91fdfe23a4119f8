//! What an error of rustls means, in sentences that a person can act on.
//!
//! rustls shows most of its errors as the name of a variant, as in `Other(OtherError(CaUsedAsEndEntity))`. An error
//! that is logged or written to a terminal passes through here first. A likely error has a sentence of its own. All others,
//! and those that a later rustls adds, are the name of their variant in words.
//!
//! Not here: the reason of a refusal, which each caller chooses.

mod certificate;
mod client;
mod crl;
mod names;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;

use rustls::{AlertDescription, Error, InconsistentKeys, InvalidMessage, PeerIncompatible};

pub use certificate::{Holder, of_certificate};
pub use client::of_client;
pub use crl::{of_crl, of_verifier};
pub use names::alert_name;

pub(super) use names::algorithm;
use names::words;

/// The error of rustls in one of a stream, if there is one.
pub fn inside(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What an error of a stream means, whether TLS found it or the socket. `holder` is the one that shows a certificate.
pub fn of_io(error: &io::Error, holder: Holder) -> String {
    if let Some(found) = inside(error) {
        return of_error(found, holder);
    }
    // The texts of tokio-rustls and rustls for an end that TLS did not announce. A text of our own is left as it is.
    let is_theirs = |text: &str| text == "tls handshake eof" || text.contains("close_notify");
    match error.kind() {
        io::ErrorKind::UnexpectedEof if error.get_ref().is_none_or(|inner| is_theirs(&inner.to_string())) => {
            "the peer closed the connection".to_owned()
        }
        _ => error.to_string(),
    }
}

/// What an error of rustls means. `holder` is the one that shows a certificate.
pub fn of_error(error: &Error, holder: Holder) -> String {
    match error {
        Error::InappropriateMessage { got_type, .. } => out_of_order(got_type),
        Error::InappropriateHandshakeMessage { got_type, .. } => out_of_order(got_type),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the peer did not send TLS".to_owned(),
        Error::InvalidMessage(why) => format!("the peer sent a malformed TLS message ({})", of_message(why)),
        Error::NoCertificatesPresented => "the peer showed no certificate".to_owned(),
        Error::UnsupportedNameType => "no certificate can be checked against a name of this kind".to_owned(),
        Error::DecryptError => "what the peer sent cannot be decrypted".to_owned(),
        Error::PeerIncompatible(why) => of_incompatible(why),
        Error::PeerMisbehaved(why) => format!("the peer broke the rules of TLS ({})", words(why)),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidCertificate(why) => {
            format!("the {}'s certificate is not valid: {}", holder.noun(), of_certificate(why, holder))
        }
        Error::InvalidCertRevocationList(why) => {
            format!("the certificate revocation list cannot be used: {}", of_crl(why))
        }
        Error::PeerSentOversizedRecord => "the peer sent a TLS record that is too long".to_owned(),
        Error::NoApplicationProtocol => {
            "the peer offers only protocols that egressd does not speak here (ALPN): http/1.1 is the one"
                .to_owned()
        }
        Error::FailedToGetCurrentTime => "the system's clock cannot be read".to_owned(),
        Error::FailedToGetRandomBytes => "the system gives no random numbers".to_owned(),
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the private key does not belong to the certificate".to_owned()
        }
        Error::General(text) => text.clone(),
        Error::Other(other) => words(&format_args!("{other}")),
        other => words(other),
    }
}

fn out_of_order(got: &impl Debug) -> String {
    format!("the peer sent a TLS message out of order ({})", words(got))
}

fn of_message(why: &InvalidMessage) -> String {
    match why {
        InvalidMessage::MissingData(what) => format!("{what} is cut short"),
        InvalidMessage::TrailingData(what) => format!("{what} is longer than it should be"),
        InvalidMessage::UnexpectedMessage(what) => format!("unexpected {what}"),
        InvalidMessage::IllegalEmptyList(what) => format!("{what} is empty"),
        other => words(other),
    }
}

fn of_incompatible(why: &PeerIncompatible) -> String {
    use PeerIncompatible::*;
    let lacking = match why {
        ServerDoesNotSupportTls12Or13
        | ServerTlsVersionIsDisabledByOurConfig
        | SupportedVersionsExtensionRequired
        | Tls12NotOffered
        | Tls12NotOfferedOrEnabled => return "the peer does not speak TLS 1.2 or 1.3".to_owned(),
        NoCipherSuitesInCommon => "no cipher suite in common",
        NoKxGroupsInCommon | NamedGroupsExtensionRequired | KeyShareExtensionRequired => {
            "no group for the key exchange in common"
        }
        NoSignatureSchemesInCommon
        | NoCertificateRequestSignatureSchemesInCommon
        | SignatureAlgorithmsExtensionRequired => "no signature scheme in common",
        ExtendedMasterSecretExtensionRequired => "the peer lacks extended_master_secret (RFC 7627)",
        other => return format!("the peer's TLS does not fit egressd's: {}", words(other)),
    };
    format!("the peer's TLS does not fit egressd's: {lacking}")
}

/// The sentence for an alert, with what to look at where the alert says it.
fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription::*;
    let hint = match alert {
        HandshakeFailure => ": it accepts none of what was offered, or wants a certificate",
        ProtocolVersion => ": it does not speak TLS 1.2 or 1.3",
        UnrecognisedName => ": it has no certificate for this name",
        CertificateRequired => ": it wants a certificate",
        UnknownCA => ": it does not trust the authority that signed the certificate",
        CertificateExpired => ": it says that the certificate has expired",
        CertificateRevoked => ": it says that the certificate was revoked",
        NoApplicationProtocol => ": it does not speak HTTP/1.1",
        InternalError => ": it failed on its side",
        _ => "",
    };
    format!("the peer sent the alert {}{hint}", alert_name(alert))
}
