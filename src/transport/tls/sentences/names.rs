//! Names for what rustls names by a variant or a number: alerts, algorithms, and the rest in words.

use std::fmt::Debug;

use rustls::AlertDescription;
use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::FromDer;

/// The longest name that is put in words. The longest variants of rustls have some 50 characters.
const MAX_WORDS: usize = 100;

/// The name of an alert in the register of IANA.
pub fn alert_name(alert: AlertDescription) -> String {
    use AlertDescription::*;
    let name = match alert {
        CloseNotify => "close_notify",
        UnexpectedMessage => "unexpected_message",
        BadRecordMac => "bad_record_mac",
        DecryptionFailed => "decryption_failed",
        RecordOverflow => "record_overflow",
        DecompressionFailure => "decompression_failure",
        HandshakeFailure => "handshake_failure",
        NoCertificate => "no_certificate",
        BadCertificate => "bad_certificate",
        UnsupportedCertificate => "unsupported_certificate",
        CertificateRevoked => "certificate_revoked",
        CertificateExpired => "certificate_expired",
        CertificateUnknown => "certificate_unknown",
        IllegalParameter => "illegal_parameter",
        UnknownCA => "unknown_ca",
        AccessDenied => "access_denied",
        DecodeError => "decode_error",
        DecryptError => "decrypt_error",
        ExportRestriction => "export_restriction",
        ProtocolVersion => "protocol_version",
        InsufficientSecurity => "insufficient_security",
        InternalError => "internal_error",
        InappropriateFallback => "inappropriate_fallback",
        UserCanceled => "user_canceled",
        NoRenegotiation => "no_renegotiation",
        MissingExtension => "missing_extension",
        UnsupportedExtension => "unsupported_extension",
        CertificateUnobtainable => "certificate_unobtainable",
        UnrecognisedName => "unrecognized_name",
        BadCertificateStatusResponse => "bad_certificate_status_response",
        BadCertificateHashValue => "bad_certificate_hash_value",
        UnknownPSKIdentity => "unknown_psk_identity",
        CertificateRequired => "certificate_required",
        NoApplicationProtocol => "no_application_protocol",
        EncryptedClientHelloRequired => "ech_required",
        other => return u8::from(other).to_string(),
    };
    name.to_owned()
}

/// The name of an algorithm, or its number where it has none here. `id` is an `AlgorithmIdentifier` of RFC 5280 without its
/// outer header.
pub(in crate::transport::tls) fn algorithm(id: &[u8]) -> String {
    let Ok((_, oid)) = Oid::from_der(id) else { return "an unknown algorithm".to_owned() };
    let number = oid.to_id_string();
    let name = match number.as_str() {
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.4" => "MD5 and RSA",
        "1.2.840.113549.1.1.5" => "SHA-1 and RSA",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.2.840.113549.1.1.11" => "SHA-256 and RSA",
        "1.2.840.113549.1.1.12" => "SHA-384 and RSA",
        "1.2.840.113549.1.1.13" => "SHA-512 and RSA",
        "1.2.840.113549.1.1.14" => "SHA-224 and RSA",
        "1.2.840.10040.4.1" => "DSA",
        "1.2.840.10040.4.3" => "SHA-1 and DSA",
        "1.2.840.10045.2.1" => "an elliptic curve",
        "1.2.840.10045.4.1" => "SHA-1 and ECDSA",
        "1.2.840.10045.4.3.1" => "SHA-224 and ECDSA",
        "1.2.840.10045.4.3.2" => "SHA-256 and ECDSA",
        "1.2.840.10045.4.3.3" => "SHA-384 and ECDSA",
        "1.2.840.10045.4.3.4" => "SHA-512 and ECDSA",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        _ => return format!("the algorithm {number}"),
    };
    name.to_owned()
}

/// The name of a variant in words: `SelectedUnofferedPsk` is "selected unoffered psk". [`MAX_WORDS`] characters at most: a
/// variant may hold what the peer sent.
pub(super) fn words(variant: &impl Debug) -> String {
    let mut words = String::new();
    let mut before = ' ';
    let name = format!("{variant:?}");
    let mut chars = name.chars().take(MAX_WORDS).peekable();
    while let Some(char) = chars.next() {
        let begins = char.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if begins || (char == '(' && before != ' ') {
            words.push(' ');
        }
        // "DHE" stays as it is.
        let in_capitals = |char: &char| char.is_ascii_uppercase();
        let is_word = !in_capitals(&before) && !chars.peek().is_some_and(in_capitals);
        words.push(if is_word { char.to_ascii_lowercase() } else { char });
        before = char;
    }
    words
}
