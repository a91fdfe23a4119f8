//! Version 2: a fixed part of 16 bytes, addresses, type-length-value fields.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::header::{Header, Parsed};

/// What a header begins with.
pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
pub(super) const FIXED: usize = 16;
/// The largest accepted length of what follows the fixed part. An NLB sends less than 100 bytes, HAProxy with every option a
/// few hundred; the format would allow 65,535.
pub(super) const MAX_BODY: usize = 4096;

/// PP2_TYPE_CRC32C.
const CRC32C: u8 = 0x03;
/// PP2_TYPE_UNIQUE_ID, of at most 128 bytes (section 2.2.5).
const UNIQUE_ID: u8 = 0x05;
const MAX_UNIQUE_ID: usize = 128;
/// PP2_TYPE_AWS, and its subtype for the id of a VPC endpoint.
const AWS: u8 = 0xEA;
const AWS_VPC_ENDPOINT: u8 = 0x01;
/// `vpce-` and 17 hexadecimal digits today.
const MAX_VPC_ENDPOINT: usize = 64;
/// Two paths of 108 bytes.
const UNIX_ADDRESSES: usize = 216;

pub(super) const BAD_COMMAND: Parsed = Parsed::Invalid("a PROXY v2 header of an unknown version or command");
pub(super) const BAD_FAMILY: Parsed =
    Parsed::Invalid("a PROXY v2 header of a family or transport that is not TCP");
const BAD_LENGTH: Parsed = Parsed::Invalid("a PROXY v2 header of more than 4,096 bytes");
const SHORT: Parsed = Parsed::Invalid("a PROXY v2 header too short for its addresses");

/// Reads a header that begins with [`SIGNATURE`], as far as it has arrived.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Parsed::NeedMore(FIXED);
    };
    let [.., command, family, high, low] = *fixed;
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    if body_len > MAX_BODY {
        return BAD_LENGTH;
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return BAD_COMMAND,
    };
    if !local && !matches!(family, 0x00 | 0x11 | 0x21 | 0x31) {
        return BAD_FAMILY;
    }
    let len = FIXED + body_len;
    let (Some(body), Some(whole)) = (rest.get(..body_len), bytes.get(..len)) else {
        return Parsed::NeedMore(len);
    };
    let mut header = Header { len, source: None, destination: None, vpc_endpoint: None };
    if local {
        // "The receiver ... must discard the protocol block including the family" (section 2.2).
        return Parsed::Header(header);
    }
    let Some((addresses, fields)) = split_addresses(family, body) else {
        return SHORT;
    };
    (header.source, header.destination) = addresses.unzip();
    match read_fields(whole, fields) {
        Ok(vpc_endpoint) => Parsed::Header(Header { vpc_endpoint, ..header }),
        Err(why) => Parsed::Invalid(why),
    }
}

type Addresses = Option<(SocketAddr, SocketAddr)>;

/// The addresses, and what follows them. `None` where the body is shorter than they are.
fn split_addresses(family: u8, body: &[u8]) -> Option<(Addresses, &[u8])> {
    match family {
        0x11 => {
            let ([a, b, c, d, e, f, g, h, ports @ ..], fields) = body.split_first_chunk::<12>()?;
            let source = Ipv4Addr::new(*a, *b, *c, *d);
            let destination = Ipv4Addr::new(*e, *f, *g, *h);
            let (source_port, destination_port) = split_ports(*ports);
            Some((Some(((source, source_port).into(), (destination, destination_port).into())), fields))
        }
        0x21 => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let (ports, fields) = rest.split_first_chunk::<4>()?;
            let (source_port, destination_port) = split_ports(*ports);
            let (source, destination) = (Ipv6Addr::from(*source), Ipv6Addr::from(*destination));
            Some((Some(((source, source_port).into(), (destination, destination_port).into())), fields))
        }
        0x31 => Some((None, body.get(UNIX_ADDRESSES..)?)),
        _ => Some((None, body)),
    }
}

fn split_ports([a, b, c, d]: [u8; 4]) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// Reads all fields; `whole` is the header that holds them. The result is the VPC endpoint.
fn read_fields(whole: &[u8], mut fields: &[u8]) -> Result<Option<Box<str>>, &'static str> {
    let mut vpc_endpoint = None;
    let mut checked = false;
    while let Some((&kind, rest)) = fields.split_first() {
        let (value, after) = split_value(rest).ok_or("a PROXY v2 field longer than its header")?;
        fields = after;
        match kind {
            CRC32C => {
                if std::mem::replace(&mut checked, true) {
                    return Err("a PROXY v2 header with two checksums");
                }
                check(whole, value, after.len())?;
            }
            UNIQUE_ID if value.len() > MAX_UNIQUE_ID => {
                return Err("a PROXY v2 unique id of more than 128 bytes");
            }
            AWS => match value.split_first() {
                None => return Err("a PROXY v2 AWS field without a subtype"),
                Some((&AWS_VPC_ENDPOINT, id)) => {
                    // With two it would be unclear which client it is.
                    if vpc_endpoint.replace(read_vpc_endpoint(id)?).is_some() {
                        return Err("a PROXY v2 header with two VPC endpoint ids");
                    }
                }
                Some(_) => {}
            },
            _ => {}
        }
    }
    Ok(vpc_endpoint)
}

fn split_value(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = rest.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// The id goes to policies and logs, so only what AWS writes is accepted: letters, digits, hyphens.
fn read_vpc_endpoint(id: &[u8]) -> Result<Box<str>, &'static str> {
    if id.is_empty() || id.len() > MAX_VPC_ENDPOINT {
        return Err("a PROXY v2 VPC endpoint id of a wrong length");
    }
    if !id.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
        return Err("a PROXY v2 VPC endpoint id with other bytes than letters, digits and hyphens");
    }
    Ok(id.iter().copied().map(char::from).collect::<String>().into_boxed_str())
}

/// Compares the checksum field `value` with the checksum of the header in which that field is zero (section 2.2.3). `after`
/// is the number of bytes of the header after the field.
fn check(whole: &[u8], value: &[u8], after: usize) -> Result<(), &'static str> {
    let expected =
        value.try_into().map(u32::from_be_bytes).map_err(|_| "a PROXY v2 checksum of a wrong length")?;
    let after = whole.len().saturating_sub(after);
    let before = after.saturating_sub(value.len());
    let sum =
        whole.iter().enumerate().map(|(at, byte)| if (before..after).contains(&at) { 0 } else { *byte });
    if crc32c(sum) == expected { Ok(()) } else { Err("a PROXY v2 header with a wrong checksum") }
}

/// CRC-32C (Castagnoli) as in RFC 4960, appendix B. Bit by bit: a header has a few hundred bytes at most,
/// and is read once.
pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| {
                if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 }
            },
        )
    })
}
