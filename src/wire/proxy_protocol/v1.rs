//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::header::{Header, Parsed};

/// What a line begins with.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// The longest line, CR and LF included (section 2.1).
const MAX_LINE: usize = 107;
/// `PROXY UNKNOWN` and its end: no line is shorter.
const MIN_LINE: usize = 15;

/// Reads a line that begins with [`SIGNATURE`], as far as it has arrived.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let line = bytes.get(..MAX_LINE).unwrap_or(bytes);
    let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        // The end, CR and LF, is still missing.
        return need_more(line.len() + 2);
    };
    let (text, ending) = line.split_at(end);
    match ending {
        [b'\r', b'\n', ..] => fields(text, end + 2),
        [b'\r'] => need_more(end + 2),
        _ => Parsed::Invalid("a PROXY v1 line that does not end in CR and LF"),
    }
}

fn need_more(least: usize) -> Parsed {
    if least > MAX_LINE {
        return Parsed::Invalid("a PROXY v1 line of more than 107 bytes");
    }
    Parsed::NeedMore(least.max(MIN_LINE))
}

fn fields(text: &[u8], len: usize) -> Parsed {
    let rest = text.get(SIGNATURE.len()..).unwrap_or_default();
    // "The receiver must ignore anything presented before the CRLF is found" (section 2.1).
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Parsed::Header(Header { len, source: None, destination: None, vpc_endpoint: None });
    }
    match std::str::from_utf8(rest).ok().and_then(addresses) {
        Some((source, destination)) => Parsed::Header(Header {
            len,
            source: Some(source),
            destination: Some(destination),
            vpc_endpoint: None,
        }),
        None => Parsed::Invalid("a PROXY v1 line with a malformed field"),
    }
}

/// `TCP4` or `TCP6`, two addresses of that family, two ports, one space between.
fn addresses(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = text.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    Some((SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port)))
}

/// Decimal, no sign, no leading zero: `u16::from_str` takes `+80` and `0080`.
fn port(word: &str) -> Option<u16> {
    let port: u16 = word.parse().ok()?;
    (port.to_string() == word).then_some(port)
}
