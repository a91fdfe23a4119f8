//! Every error that a person may meet, and its sentence.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    CertRevocationListError, CertificateError, ContentType, ExtendedKeyPurpose, HandshakeType, OtherError,
    PeerMisbehaved,
};

use super::*;

/// 2020-01-01T00:00:00Z.
const NEW_YEAR: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_577_836_800));
/// `AlgorithmIdentifier`s without their outer header: SHA-1 and RSA, an elliptic curve, a private number.
const SHA1_RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0];
const CURVE: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x0a];
const PRIVATE: &[u8] = &[6, 3, 0x2b, 6, 1];

/// As rustls passes an error of webpki on.
fn webpki(name: &'static str) -> OtherError {
    OtherError(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(name)))
}

#[test]
fn a_certificate_that_is_not_valid_has_a_sentence() {
    use CertificateError::*;
    let names = |presented: &[&str]| NotValidForNameContext {
        expected: ServerName::try_from("c.test").unwrap(),
        presented: presented.iter().map(ToString::to_string).collect(),
    };
    let many: Vec<String> = (0..8).map(|number| format!("DnsName(\"h{number}.test\")")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases = [
        (BadEncoding, "it is malformed"),
        (Expired, "it, or one in its chain, has expired"),
        (
            ExpiredContext { time: NEW_YEAR, not_after: NEW_YEAR },
            "it, or one in its chain, expired on 2020-01-01T00:00:00Z",
        ),
        (NotValidYet, "it, or one in its chain, is not valid yet"),
        (
            NotValidYetContext { time: NEW_YEAR, not_before: NEW_YEAR },
            "it, or one in its chain, is not valid yet: not before 2020-01-01T00:00:00Z",
        ),
        (Revoked, "it, or one in its chain, was revoked"),
        (UnhandledCriticalExtension, "it has a critical extension that egressd does not know"),
        (UnknownIssuer, "no trusted authority signed it"),
        (UnknownRevocationStatus, "there is no revocation list of its issuer"),
        (ExpiredRevocationList, "the revocation list of its issuer is out of date"),
        (
            ExpiredRevocationListContext { time: NEW_YEAR, next_update: NEW_YEAR },
            "the revocation list of its issuer is out of date: it was due to be renewed at 2020-01-01T00:00:00Z",
        ),
        (
            BadSignature,
            "a signature does not verify: its issuer did not sign it, the server does not have its key, or an RSA key \
             has fewer than 2048 bits",
        ),
        (
            UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: SHA1_RSA.to_vec(),
                supported_algorithms: vec![],
            },
            "it, or one in its chain, is signed with SHA-1 and RSA, which egressd does not accept",
        ),
        (
            UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: PRIVATE.to_vec(),
                supported_algorithms: vec![],
            },
            "it, or one in its chain, is signed with the algorithm 1.3.6.1, which egressd does not accept",
        ),
        (
            UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: SHA1_RSA.to_vec(),
                public_key_algorithm_id: CURVE.to_vec(),
            },
            "a signature (SHA-1 and RSA) does not fit the key that should have made it (an elliptic curve)",
        ),
        (NotValidForName, "it is not for this host"),
        (names(&["DnsName(\"a.test\")"]), "it is for a.test, not for c.test"),
        (
            names(&["DnsName(\"a.test\")", "UniformResourceIdentifier(\"x:y\")", "IpAddress(203.0.113.9)"]),
            "it is for a.test and 203.0.113.9, not for c.test",
        ),
        (names(&["DirectoryName"]), "it names no host (subjectAltName), so it is not for c.test"),
        (names(&many), "it is for h0.test, h1.test, h2.test, h3.test, h4.test and 3 more, not for c.test"),
        (names(&["DnsName(\"a\nb\")"]), "it is for a\\nb, not for c.test"),
        (InvalidPurpose, "it is not issued for servers (serverAuth)"),
        (
            InvalidPurposeContext { required: ExtendedKeyPurpose::ServerAuth, presented: vec![] },
            "it is not issued for servers (serverAuth)",
        ),
        (InvalidOcspResponse, "the OCSP response that came with it is not valid"),
        (ApplicationVerificationFailure, "it failed a check (application verification failure)"),
        (Other(webpki("CaUsedAsEndEntity")), "it is that of an authority, not of a server"),
        (Other(webpki("EndEntityUsedAsCa")), "the certificate that signed it is not that of an authority"),
        (Other(webpki("MaximumPathDepthExceeded")), "its chain is too long to be checked"),
        (
            Other(webpki("NameConstraintViolation")),
            "an authority in its chain may not sign for this name (name constraints)",
        ),
        (Other(webpki("UnsupportedCertVersion")), "it is not an X.509 certificate of version 3"),
        (Other(webpki("SomethingOfNextYear")), "it failed a check (something of next year)"),
    ];
    for (error, sentence) in cases {
        assert_eq!(of_certificate(&error, Holder::Server), sentence, "{error:?}");
    }
    let of_client = |error| of_certificate(&error, Holder::Client);
    assert_eq!(of_client(InvalidPurpose), "it is not issued for clients (clientAuth)");
    assert_eq!(of_client(Other(webpki("CaUsedAsEndEntity"))), "it is that of an authority, not of a client");
}

#[test]
fn a_revocation_list_that_cannot_be_used_has_a_sentence() {
    use CertRevocationListError::*;
    let cases = [
        (BadSignature, "its signature does not verify: the CA that has its issuer's name did not sign it"),
        (IssuerInvalidForCrl, "its issuer may not sign revocation lists (keyUsage cRLSign)"),
        (ParseError, "it is malformed"),
        (UnsupportedDeltaCrl, "it is a delta list: a complete one is wanted"),
        (
            UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: SHA1_RSA.to_vec(),
                supported_algorithms: vec![],
            },
            "it is signed with SHA-1 and RSA, which egressd does not accept",
        ),
        (
            Other(webpki("UnsupportedRevocationReasonsPartitioning")),
            "it is for some reasons of revocation alone (onlySomeReasons): a complete list is wanted",
        ),
        (
            Other(webpki("UnsupportedCrlIssuingDistributionPoint")),
            "it is for a part of the certificates that has no name (issuingDistributionPoint without fullName): a complete list is \
             wanted",
        ),
    ];
    for (error, sentence) in cases {
        assert_eq!(crl::of_crl(&error), sentence, "{error:?}");
    }
}

#[test]
fn a_handshake_that_failed_has_a_sentence() {
    let cases = [
        (
            Error::InappropriateMessage { expect_types: vec![], got_type: ContentType::ApplicationData },
            "the peer sent a TLS message out of order (application data)",
        ),
        (
            Error::InappropriateHandshakeMessage { expect_types: vec![], got_type: HandshakeType::Finished },
            "the peer sent a TLS message out of order (finished)",
        ),
        (InvalidMessage::InvalidContentType.into(), "the peer did not send TLS"),
        (
            InvalidMessage::MissingData("ServerHello").into(),
            "the peer sent a malformed TLS message (ServerHello is cut short)",
        ),
        (
            InvalidMessage::NoSignatureSchemes.into(),
            "the peer sent a malformed TLS message (no signature schemes)",
        ),
        (Error::NoCertificatesPresented, "the peer showed no certificate"),
        (Error::DecryptError, "what the peer sent cannot be decrypted"),
        (PeerIncompatible::Tls12NotOffered.into(), "the peer does not speak TLS 1.2 or 1.3"),
        (
            PeerIncompatible::NoCipherSuitesInCommon.into(),
            "the peer's TLS does not fit egressd's: no cipher suite in common",
        ),
        (
            PeerIncompatible::NullCompressionRequired.into(),
            "the peer's TLS does not fit egressd's: null compression required",
        ),
        (
            PeerMisbehaved::SelectedUnofferedCipherSuite.into(),
            "the peer broke the rules of TLS (selected unoffered cipher suite)",
        ),
        (
            Error::AlertReceived(AlertDescription::CertificateUnknown),
            "the peer sent the alert certificate_unknown",
        ),
        (
            Error::AlertReceived(AlertDescription::UnrecognisedName),
            "the peer sent the alert unrecognized_name: it has no certificate for this name",
        ),
        (Error::AlertReceived(AlertDescription::Unknown(200)), "the peer sent the alert 200"),
        (
            CertificateError::UnknownIssuer.into(),
            "the server's certificate is not valid: no trusted authority signed it",
        ),
        (
            CertRevocationListError::ParseError.into(),
            "the certificate revocation list cannot be used: it is malformed",
        ),
        (
            Error::NoApplicationProtocol,
            "the peer offers only protocols that egressd does not speak here (ALPN): http/1.1 is the one",
        ),
        (Error::General("a reason".to_owned()), "a reason"),
        (Error::HandshakeNotComplete, "handshake not complete"),
    ];
    for (error, sentence) in cases {
        assert_eq!(of_error(&error, Holder::Server), sentence, "{error:?}");
        assert_eq!(of_io(&io::Error::other(error), Holder::Server), sentence);
    }
}

#[test]
fn an_error_of_the_stream_that_is_not_one_of_tls_keeps_its_text() {
    let closed = "the peer closed the connection";
    let ended = |text: &str| io::Error::new(io::ErrorKind::UnexpectedEof, text.to_owned());
    let cases = [
        (ended("tls handshake eof"), closed),
        (ended("peer closed connection without sending TLS close_notify: see the docs"), closed),
        (io::ErrorKind::UnexpectedEof.into(), closed),
        (ended("a text of our own"), "a text of our own"),
        (io::Error::other("anything else"), "anything else"),
    ];
    for (error, sentence) in cases {
        assert_eq!(of_io(&error, Holder::Server), sentence);
    }
}
