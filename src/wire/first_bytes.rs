//! What a connection's first bytes are, when they are not what the listener speaks: for the reply, the record and the
//! diagnostics. Nothing is decided by it but how a refusal is told.

use super::head::is_token_byte;
use super::tls_record::HANDSHAKE;

/// The longest registered method, `UPDATEREDIRECTREF`, has 17 characters.
const MAX_METHOD: usize = 32;
/// The first bytes of a PROXY header of version 2.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoken {
    /// A TLS record with a handshake message.
    Tls,
    /// A method and a space: HTTP, of any version.
    Http,
    /// SOCKS, version 4 or 5.
    Socks,
    /// SSH.
    Ssh,
    /// The header of a load balancer, version 1 or 2.
    ProxyHeader,
    /// Something else.
    Other,
}

/// What these first bytes of a connection are. `None`: that takes more bytes, at most 33 in total.
pub fn spoken(bytes: &[u8]) -> Option<Spoken> {
    match *bytes.first()? {
        HANDSHAKE => return Some(Spoken::Tls),
        4 | 5 => return Some(Spoken::Socks),
        b'\r' if bytes.starts_with(PROXY_V2) => return Some(Spoken::ProxyHeader),
        b'\r' if PROXY_V2.starts_with(bytes) => return None,
        _ => {}
    }
    if bytes.starts_with(b"SSH-") {
        return Some(Spoken::Ssh);
    }
    let word = bytes.split(|byte| !is_token_byte(*byte)).next().unwrap_or_default();
    match bytes.get(word.len()) {
        _ if word.len() > MAX_METHOD => Some(Spoken::Other),
        None => None,
        Some(b' ') if word == b"PROXY" => Some(Spoken::ProxyHeader),
        Some(b' ') if !word.is_empty() => Some(Spoken::Http),
        Some(_) => Some(Spoken::Other),
    }
}

/// What a connection carries whose client does not know of the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// TLS: a ClientHello comes.
    Tls,
    /// HTTP: a request line, or what goes on for too long to be none.
    Http,
    /// Something else.
    Other,
}

/// What these first bytes of such a connection begin. `None`: that takes more bytes, and `seen` of these have been looked at. Other
/// protocols begin with a word, too (`USER`, `NICK`, `get`), so the whole line decides, unless it has more than `most` bytes.
pub fn carried(bytes: &[u8], seen: usize, most: usize) -> Option<Carried> {
    match spoken(bytes)? {
        Spoken::Tls => return Some(Carried::Tls),
        Spoken::Http => {}
        Spoken::Socks | Spoken::Ssh | Spoken::ProxyHeader | Spoken::Other => return Some(Carried::Other),
    }
    let fresh = bytes.get(seen..).unwrap_or_default();
    let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\r' | b'\t');
    let Some(end) = fresh.iter().position(is_control) else {
        return (bytes.len() >= most).then_some(Carried::Http);
    };
    let (line, rest) = bytes.split_at_checked(seen + end)?;
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let is_http = rest.first() == Some(&b'\n') && version.starts_with(b"HTTP/");
    Some(if is_http { Carried::Http } else { Carried::Other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_a_request_from_other_protocols() {
        let rows: &[(&[u8], Option<Carried>)] = &[
            (b"\x16", Some(Carried::Tls)),
            (b"GET / HTTP/1.1\r\n", Some(Carried::Http)),
            (b"GET / HTTP/1.1\nHost", Some(Carried::Http)),
            (b"PRI * HTTP/2.0\r\n", Some(Carried::Http)),
            (b"GET / HTTP/1.1", None),
            (b"GET /\r\n", Some(Carried::Other)),
            (b"USER anonymous\r\n", Some(Carried::Other)),
            (b"0032git-upload-pack /a.git\0host=a.test\0", Some(Carried::Other)),
            (b"NICK me\nUSER", Some(Carried::Other)),
            (b"SSH-2.0-x\r\n", Some(Carried::Other)),
            (b"\x05\x01\x00", Some(Carried::Other)),
            (b"*1\r\n", Some(Carried::Other)),
            (b"", None),
            (b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Some(Carried::Http)),
        ];
        for (bytes, expected) in rows {
            let shown = bytes.escape_ascii();
            assert_eq!(carried(bytes, 0, 64), *expected, "{shown}");
            // A byte at a time, each looked at once.
            let stepwise =
                (0..=bytes.len()).find_map(|end| carried(&bytes[..end], end.saturating_sub(1), 64));
            assert_eq!(stepwise, *expected, "{shown}");
        }
    }

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let long = [&b"A".repeat(33)[..], b" "].concat();
        let rows: &[(&[u8], Spoken)] = &[
            (b"\x16\x03\x01\x02\x00", Spoken::Tls),
            (b"CONNECT a.test:443 HTTP/1.1\r\n", Spoken::Http),
            (b"GET / HTTP/1.0\r\n", Spoken::Http),
            (b"PRI * HTTP/2.0\r\n", Spoken::Http),
            (b"x! ", Spoken::Http),
            (b"\x05\x01\x00", Spoken::Socks),
            (b"\x04\x01\x00\x50", Spoken::Socks),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Spoken::Ssh),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Spoken::ProxyHeader),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Spoken::ProxyHeader),
            (b"\r\n\r\nGET / HTTP/1.1", Spoken::Other),
            (b"EHLO\r\n", Spoken::Other),
            (b" GET", Spoken::Other),
            (b"\x80\x2e\x01", Spoken::Other),
            (b"\0", Spoken::Other),
            (&long, Spoken::Other),
        ];
        for (bytes, expected) in rows {
            let shown = bytes.escape_ascii();
            assert_eq!(spoken(bytes), Some(*expected), "{shown}");
            // However many bytes come at once, nothing else is said before.
            let first =
                (0..=bytes.len()).find_map(|length| spoken(&bytes[..length]).map(|said| (length, said)));
            let (length, said) = first.expect("the whole tells");
            assert_eq!(said, *expected, "{shown}");
            assert!(length <= MAX_METHOD + 1, "{shown}: {length} bytes");
        }
        for unclear in [&b""[..], b"C", b"SSH", b"PROXY", b"\r\n\r\n\0\r\nQUI", &b"A".repeat(32)] {
            assert_eq!(spoken(unclear), None, "{}", unclear.escape_ascii());
        }
    }
}
