//! Certificates in PEM files: read, with warnings about their dates. Not here: what they are used for.

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::files::{FileProblem, PemFile};

pub(super) fn read_certificate<'a>(
    file: &PemFile,
    place: u32,
    der: &'a [u8],
) -> Result<X509Certificate<'a>, FileProblem> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(file.problem(format!("certificate {place} is malformed"))),
    }
}

pub(super) fn warn_of_dates(
    file: &PemFile,
    place: u32,
    certificate: &X509Certificate<'_>,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) {
    let validity = certificate.validity();
    let (from, until) = (timestamp(validity.not_before), timestamp(validity.not_after));
    if until <= now {
        warnings.push(file.problem(format!("certificate {place} expired at {until}")));
    } else if from > now {
        warnings.push(file.problem(format!("certificate {place} is not valid before {from}")));
    }
}

/// A time that cannot be represented becomes the earliest or the latest time that can.
pub(super) fn timestamp(time: ASN1Time) -> Timestamp {
    let seconds = time.timestamp();
    let edge = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(edge)
}
