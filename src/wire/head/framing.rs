//! How much body follows a head (RFC 9112 §6), and what its `Connection` field nominates (RFC 9110 §7.6.1).
//!
//! A body is exactly one of: none, one `Content-Length`, one `Transfer-Encoding: chunked`. What two readers could take
//! differently is refused, even where RFC 9112 allows repair, because requests are smuggled that way.

use http::HeaderMap;
use http::header::CONNECTION;

use super::fields::{all, at_most_one, is_token_byte};
use super::request::{Fault, Framing, Version};

/// Most bytes of one body. Larger ones overflow the signed arithmetic of some programs.
pub(super) const MAX_BODY: u64 = i64::MAX as u64;

/// Fields that `Connection` must not nominate: a nominated field is removed on the way, and decisions, ours or the origin's,
/// depend on these.
const PROTECTED: [&str; 24] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "proxy-authorization",
    "range",
    "transfer-encoding",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-request-id",
];

/// The framing of a request with these fields.
pub(super) fn of(
    fields: &[httparse::Header<'_>],
    version: Version,
    method: &http::Method,
) -> Result<Framing, Fault> {
    let length = at_most_one(fields, "content-length", "more than one Content-Length field")?;
    let coding = at_most_one(fields, "transfer-encoding", "more than one Transfer-Encoding field")?;
    if *method == http::Method::CONNECT {
        // RFC 9110 §9.3.6 gives a body of CONNECT no meaning: what follows the head are the tunnel's bytes. One
        // `Content-Length: 0`, which some clients send, says the same; every other length, and every coding, contradicts it.
        return match (length, coding) {
            (None | Some(b"0"), None) => Ok(Framing::None),
            _ => Err(Fault::bad_request(
                "CONNECT has no body: no Content-Length but exactly 0, no Transfer-Encoding",
            )),
        };
    }
    match (length, coding) {
        (None, None) => Ok(Framing::None),
        (Some(_), Some(_)) => {
            Err(Fault::bad_request("Content-Length together with Transfer-Encoding: one or the other"))
        }
        (Some(digits), None) => content_length(digits).map(Framing::Length),
        (None, Some(_)) if version == Version::Http10 => {
            Err(Fault::bad_request("Transfer-Encoding in an HTTP/1.0 request"))
        }
        // Only in lower case, although codings are case-insensitive: some readers miss other spellings.
        (None, Some(b"chunked")) => Ok(Framing::Chunked),
        (None, Some(_)) => {
            Err(Fault::bad_request("a Transfer-Encoding other than exactly 'chunked', in lower case"))
        }
    }
}

fn content_length(digits: &[u8]) -> Result<u64, Fault> {
    let plain = digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || !digits.starts_with(b"0"));
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| plain)
        .and_then(|text| text.parse().ok())
        .filter(|&length| length <= MAX_BODY)
        .ok_or_else(|| {
            Fault::bad_request("the Content-Length is not one decimal number, or is larger than 2^63-1")
        })
}

/// Whether the client wants to go on with the connection after this request: in HTTP/1.1 unless it says `close`, in HTTP/1.0
/// only if it says `keep-alive` (RFC 9112 §9.3). `Proxy-Connection`, which curl sends and no standard defines, is read in the
/// same way.
///
/// RFC 9112 §9.3 advises proxies against the second, because a still older proxy before us may pass the word on without
/// understanding it, and then wait for our close. It would wait for `http.keepalive_timeout`; ApacheBench and old libraries
/// would otherwise make us dial for each of their requests.
pub(super) fn keeps_connection(fields: &[httparse::Header<'_>], version: Version) -> Result<bool, Fault> {
    let (mut closes, mut keeps) = (false, version == Version::Http11);
    for value in all(fields, "connection").chain(all(fields, "proxy-connection")) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            // Empty elements are allowed in lists (RFC 9110 §5.6.1.2).
            if !option.iter().copied().all(is_token_byte) {
                return Err(Fault::bad_request("the Connection field is not a list of tokens"));
            }
            if PROTECTED.iter().any(|name| option.eq_ignore_ascii_case(name.as_bytes())) {
                return Err(Fault::bad_request(
                    "the Connection field nominates a field that must not be removed",
                ));
            }
            closes |= option.eq_ignore_ascii_case(b"close");
            keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    Ok(keeps && !closes)
}

/// The options of every `Connection` field: names of fields to remove before forwarding, and `close`. Byte by byte, so
/// that an option which is no token hides none of the others; it comes as it was sent.
pub fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}
