//! What is wrong with a client's certificate, in the words of the listener's keys: `client_ca`, `client_crl`.

use rustls::{CertificateError, Error};

use super::certificate::{Holder, of_certificate};
use super::crl::of_crl;
use super::of_error;

/// What is wrong with the certificates that a client showed, as a sentence.
pub fn of_client(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "the client showed no certificate".to_owned(),
        Error::InvalidCertificate(why) => {
            format!("the client's certificate is not valid: {}", tell_certificate(why))
        }
        Error::InvalidCertRevocationList(why) => format!(
            "it cannot be known whether the client's certificate is revoked: the list of its issuer in client_crl cannot be \
             used: {}",
            of_crl(why)
        ),
        other => of_error(other, Holder::Client),
    }
}

fn tell_certificate(why: &CertificateError) -> String {
    use CertificateError::*;
    match why {
        BadSignature => "the CA of client_ca that has its issuer's name did not sign it, or the client does not have its key"
            .to_owned(),
        UnknownIssuer => "it is not issued by a CA of client_ca".to_owned(),
        Revoked => "it is revoked by client_crl".to_owned(),
        UnknownRevocationStatus => "client_crl has no list of its issuer".to_owned(),
        ExpiredRevocationList | ExpiredRevocationListContext { .. } => {
            "the list of its issuer in client_crl is out of date".to_owned()
        }
        other => of_certificate(other, Holder::Client),
    }
}
