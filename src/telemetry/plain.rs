//! Values that need no escaping, written as their `Display` writes them: each record has a dozen, and the machinery of formatting
//! costs several times what they do.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use uuid::Uuid;

use crate::config::ShortHash;
use crate::words::client::{ClientAddr, PeerAddr};

/// What the table calls `plain` and `time`: never more than letters, digits and `:.-[]`.
pub(in crate::telemetry) trait Plain {
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);
}

impl Plain for Timestamp {
    /// RFC 3339, with six decimals.
    fn write(&self, out: &mut Vec<u8>) {
        static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
        // Writing into a Vec cannot fail; the same holds below.
        let _ = PRINTER.print_timestamp(self, out);
    }
}

impl Plain for Uuid {
    fn write(&self, out: &mut Vec<u8>) {
        let mut text = Uuid::encode_buffer();
        out.extend_from_slice(self.hyphenated().encode_lower(&mut text).as_bytes());
    }
}

impl Plain for ShortHash {
    fn write(&self, out: &mut Vec<u8>) {
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
        for byte in self.0 {
            out.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

impl Plain for IpAddr {
    fn write(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "{self}");
    }
}

impl Plain for SocketAddr {
    fn write(&self, out: &mut Vec<u8>) {
        let SocketAddr::V4(address) = self else {
            let _ = write!(out, "{self}");
            return;
        };
        let mut separator = None;
        for octet in address.ip().octets() {
            out.extend(separator.replace(b'.'));
            digits(out, u64::from(octet));
        }
        out.push(b':');
        digits(out, u64::from(address.port()));
    }
}

impl Plain for ClientAddr {
    fn write(&self, out: &mut Vec<u8>) {
        SocketAddr::from(*self).write(out);
    }
}

impl Plain for PeerAddr {
    fn write(&self, out: &mut Vec<u8>) {
        match *self {
            PeerAddr::Address(address) => address.write(out),
            PeerAddr::User(number) => {
                out.extend_from_slice(b"uid:");
                digits(out, u64::from(number));
            }
        }
    }
}

/// Appends a number.
pub(in crate::telemetry) fn digits(out: &mut Vec<u8>, mut number: u64) {
    // u64::MAX has 20 digits.
    let mut text = [0; 20];
    let mut used = 0;
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        used += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[text.len() - used..]);
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use proptest::prelude::*;

    use super::*;

    fn written(value: &impl Plain) -> String {
        let mut out = Vec::new();
        value.write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    fn same(value: impl Plain + Display) -> Result<(), TestCaseError> {
        prop_assert_eq!(written(&value), value.to_string());
        Ok(())
    }

    proptest! {
        #[test]
        fn each_is_written_as_it_is_displayed(
            ip in any::<IpAddr>(), port in any::<u16>(), id in any::<u128>(), hash in any::<[u8; 6]>(),
            number in any::<u64>(), shift in 0..64u32,
            nanos in -377_705_023_201_000_000_000i128..253_402_207_200_999_999_999,
        ) {
            let address = SocketAddr::new(ip, port);
            same(address)?;
            same(ClientAddr::new(address))?;
            same(PeerAddr::new(address))?;
            same(PeerAddr::user(u32::from(port) << (shift % 17)))?;
            same(Uuid::from_u128(id))?;
            same(ShortHash(hash))?;
            let time = Timestamp::from_nanosecond(nanos).expect("in the range of times");
            prop_assert_eq!(written(&time), format!("{time:.6}"));
            let mut out = Vec::new();
            digits(&mut out, number >> shift);
            prop_assert_eq!(out, (number >> shift).to_string().into_bytes());
        }
    }
}
