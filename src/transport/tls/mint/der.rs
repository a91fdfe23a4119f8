//! Writes DER (X.690), as far as a certificate needs it. Not here: reading it, which is x509-parser's.

use jiff::Timestamp;
use jiff::tz::Offset;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The tag of a field that is numbered by its context, and holds another value.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// The tag of a field that is numbered by its context, and holds bytes.
pub(super) const fn implicit(number: u8) -> u8 {
    0x80 | number
}

/// A value of this tag, with these parts one after another as its content.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut der = Vec::with_capacity(length + 6);
    der.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let long = bytes.iter().copied().skip_while(|byte| *byte == 0);
            // At most eight bytes.
            der.push(0x80 | u8::try_from(long.clone().count()).unwrap_or(8));
            der.extend(long);
        }
    }
    for part in parts {
        der.extend_from_slice(part);
    }
    der
}

/// An extension of a certificate (RFC 5280 section 4.1): `identifier` is the content of its object identifier.
pub(super) fn extension(identifier: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let identifier = value(OBJECT_IDENTIFIER, &[identifier]);
    let content = value(OCTET_STRING, &[content]);
    // FALSE is the default, and DER leaves a default out.
    let critical = if critical { value(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    value(SEQUENCE, &[&identifier, &critical, &content])
}

/// A time of a certificate, in whole seconds: UTCTime until 2049, then GeneralizedTime (RFC 5280 section 4.1.2.5).
pub(super) fn time(moment: Timestamp) -> Vec<u8> {
    let time = Offset::UTC.to_datetime(moment);
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    match time.year() {
        year @ 1950..2050 => {
            value(UTC_TIME, &[format!("{:02}", year.rem_euclid(100)).as_bytes(), rest.as_bytes()])
        }
        year => value(GENERALIZED_TIME, &[format!("{year:04}").as_bytes(), rest.as_bytes()]),
    }
}
