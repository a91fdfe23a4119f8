//! The PROXY protocol, versions 1 and 2: which client is behind a load balancer.
//!
//! [`parse`] follows HAProxy's `proxy-protocol.txt` (2020/03/05) and is stricter where that leaves a choice: numbers have
//! one spelling, a field that does not fit makes the header invalid, and there is exactly one header.
//!
//! Not here: the connection and its deadline ([`crate::transport::proxy_header`]), writing headers, and every TLV but
//! the checksum and the AWS VPC endpoint id.
#![warn(clippy::indexing_slicing)]

mod header;
mod v1;
mod v2;

pub use header::{Header, Parsed};

/// The longest accepted header, in bytes: the fixed part of version 2 and the largest accepted rest.
pub const MAX_HEADER: usize = v2::FIXED + v2::MAX_BODY;

/// Reads the header at the beginning of `bytes`. Every call starts from the beginning. While a header is not complete, that
/// costs at most a look at 107 bytes, so a peer that sends single bytes gains nothing.
pub fn parse(bytes: &[u8]) -> Parsed {
    // Version 1 first: its shortest header is shorter than that of version 2, which matters where there is no byte yet.
    let parsed = if shares_start(bytes, v1::SIGNATURE) {
        v1::parse(bytes)
    } else if shares_start(bytes, v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Parsed::Invalid("no PROXY header")
    };
    match parsed {
        Parsed::Header(header) if bytes.get(header.len..).is_some_and(announces_header) => {
            Parsed::Invalid("more than one PROXY header")
        }
        parsed => parsed,
    }
}

/// Whether `bytes` begin with the whole signature of either version.
pub fn announces_header(bytes: &[u8]) -> bool {
    bytes.starts_with(v1::SIGNATURE) || bytes.starts_with(v2::SIGNATURE)
}

/// Whether one of the two is the beginning of the other.
fn shares_start(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests;
