//! The grammar of one whole head: request line, fields, target, host.
//!
//! Two readers must agree on every head that passes: the checks here and httparse. The fields of httparse are used only where
//! its request line is, byte for byte, the one that was read here.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use super::fields::{all, at_most_one, is_token};
use super::framing;
use super::request::{Fault, Head, MAX_FIELDS, MAX_USER_AGENT, Place, RefusedHead, RequestTarget, Version};
use crate::words::outcome::Reason;
use crate::words::target::{Host, Method, Port, Target, TargetError};

/// Longest method. The longest registered one, `UPDATEREDIRECTREF`, has 17 characters.
pub const MAX_METHOD: usize = 32;

/// `method SP request-target SP HTTP-version` (RFC 9112 §3), of the right form and not yet understood.
pub(super) struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// `line` is without its CRLF.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Fault> {
        if line.starts_with(b"PROXY ") {
            return Err(Fault::bad_request(
                "a PROXY protocol header on a listener that expects none, or a second one",
            ));
        }
        if line.starts_with(b"SSH-") {
            return Err(Fault::bad_request("this is an HTTP proxy port, and the client spoke SSH"));
        }
        let mut parts = line.split(|&byte| byte == b' ');
        let (method, target, version) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(method), Some(target), Some(version), None) => (method, target, version),
            (Some(_), Some(_), None, _) => {
                return Err(Fault::bad_request(
                    "the request line has no HTTP version: HTTP/0.9 is not served",
                ));
            }
            _ => {
                return Err(Fault::bad_request(
                    "the request line is not: method, one space, target, one space, version",
                ));
            }
        };
        if !is_token(method) {
            return Err(Fault::bad_request("the method is not a token"));
        }
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            b"HTTP/2.0" => return Err(Fault::bad_request("HTTP/2 is not served: HTTP/1.1 only")),
            _ => return Err(Fault::bad_request("the version is neither HTTP/1.1 nor HTTP/1.0")),
        };
        if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return Err(Fault::new(
                Reason::BadTarget,
                "the target has a character that is not visible ASCII: write %XX, or the A-label of a host",
            ));
        }
        match (std::str::from_utf8(method), std::str::from_utf8(target)) {
            (Ok(method), Ok(target)) => Ok(RequestLine { method, target, version }),
            _ => Err(Fault::bad_request("the request line is not ASCII")),
        }
    }

    fn method(&self) -> Result<http::Method, Fault> {
        let refused = |detail| Err(Fault::new(Reason::MethodNotAllowed, detail));
        if self.method.len() > MAX_METHOD {
            return refused("the method is longer than 32 characters");
        }
        // Methods are case-sensitive (RFC 9110 §9.1), but some origins ignore case: no spelling of these passes.
        for name in ["TRACE", "TRACK", "PRI"] {
            if self.method.eq_ignore_ascii_case(name) {
                return refused("this method is not served by the proxy");
            }
        }
        if self.method.eq_ignore_ascii_case("CONNECT") && self.method != "CONNECT" {
            return refused("CONNECT is written in upper case");
        }
        http::Method::from_bytes(self.method.as_bytes())
            .map_err(|_| Fault::bad_request("the method is not a token"))
    }

    fn target(&self, method: &http::Method, place: &Place) -> Result<RequestTarget, Fault> {
        let bad = |detail| Err(Fault::new(Reason::BadTarget, detail));
        if method == http::Method::CONNECT {
            if place.tunnel().is_some() {
                return Err(Fault::new(Reason::MethodNotAllowed, "CONNECT is not served inside a tunnel"));
            }
            if *place == Place::Transparent {
                return Err(Fault::new(
                    Reason::MethodNotAllowed,
                    "this listener is for clients that do not know of the proxy: name another one in the client's settings",
                ));
            }
            if self.target.contains(['/', '?', '#']) {
                return bad("CONNECT takes host:port, not a URI or a path");
            }
            return Target::connect(self.target).map(RequestTarget::Authority).map_err(bad_target);
        }
        if self.target == "*" {
            let detail = "the target '*' asks about the server itself, which a proxy does not serve";
            return match *method {
                http::Method::OPTIONS => Err(Fault::new(Reason::MethodNotAllowed, detail)),
                _ => bad(detail),
            };
        }
        if self.target.starts_with('/') {
            if let Some(of) = place.tunnel() {
                return self.path_within(of);
            }
            return bad(
                "this is a forward proxy: it takes http://host/path or CONNECT host:port, not a path",
            );
        }
        let Some((scheme, rest)) = self.target.split_once(':') else {
            return bad("the target is neither an http:// URI nor CONNECT's host:port");
        };
        if !is_scheme(scheme) {
            return bad("the target is neither an http:// URI nor CONNECT's host:port");
        }
        if !scheme.eq_ignore_ascii_case(place.scheme()) {
            // `example.com:80` can be read as a scheme (RFC 3986 §3.1), but it is meant as an authority.
            return match (rest.bytes().all(|byte| byte.is_ascii_digit()), place) {
                (true, _) => bad("host:port is a target for CONNECT only: write http://host/path"),
                // The scheme is a part of what the target is (RFC 9110 §4.3.3).
                (false, Place::Inspected(of)) => Err(another_host(of)),
                (false, Place::Proxy | Place::Transparent | Place::Tunnel(_)) => Err(Fault::new(
                    Reason::SchemeNotAllowed,
                    "only http:// is forwarded: use CONNECT for https, and nothing else is served",
                )),
            };
        }
        let Some(rest) = rest.strip_prefix("//") else {
            return bad("the target is not http://host/path");
        };
        if rest.contains('#') {
            return bad("a fragment ('#') does not belong in a request target");
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = Target::of_uri(authority, place.default_port()).map_err(bad_target)?;
        if let Some(of) = place.tunnel() {
            same_host(&target, of)?;
        }
        let path_and_query = match path {
            "" => PathAndQuery::from_static("/"),
            _ if path.starts_with('/') => path_and_query(path)?,
            _ => path_and_query(&format!("/{path}"))?,
        };
        // RFC 9112 §3.2.4: without a path this is `OPTIONS *` to the origin.
        if path.is_empty() && *method == http::Method::OPTIONS {
            return Err(Fault::new(
                Reason::MethodNotAllowed,
                "OPTIONS needs a path: 'OPTIONS *' is not served",
            ));
        }
        Ok(RequestTarget::Absolute { target, path_and_query })
    }

    /// Origin-form (RFC 9112 §3.2.1) inside a tunnel to `of`.
    fn path_within(&self, of: &Target) -> Result<RequestTarget, Fault> {
        if self.target.contains('#') {
            let detail = "a fragment ('#') does not belong in a request target";
            return Err(Fault::new(Reason::BadTarget, detail));
        }
        let target = Target { method: Method::Http, ..of.clone() };
        Ok(RequestTarget::Absolute { target, path_and_query: path_and_query(self.target)? })
    }
}

/// Inside a tunnel to `of`, no other host or port may be named.
fn same_host(named: &Target, of: &Target) -> Result<(), Fault> {
    match named.host == of.host && named.port == of.port {
        true => Ok(()),
        false => Err(another_host(of)),
    }
}

fn another_host(of: &Target) -> Fault {
    // The tunnel's target is canonical, and was allowed.
    let detail = format!("inside a tunnel to {of}, Host and URI must name that host and port");
    Fault::new(Reason::HostMismatch, detail)
}

fn path_and_query(text: &str) -> Result<PathAndQuery, Fault> {
    match PathAndQuery::try_from(text) {
        Ok(parsed) if parsed.as_str() == text => Ok(parsed),
        _ => Err(Fault::new(
            Reason::BadTarget,
            "the path or query has a character that a URI may not have: write it as %XX",
        )),
    }
}

fn bad_target(error: TargetError) -> Fault {
    Fault::new(Reason::BadTarget, error.to_string())
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Reads a whole head: request line, fields and the empty line, up to the end that [`HeadLines`](super::HeadLines) found.
///
/// # Errors
/// The head is not well-formed, or could be read in two ways. The position in the stream is then lost.
pub fn parse(head: &[u8]) -> Result<Head, Box<RefusedHead>> {
    parse_at(head, &Place::Proxy)
}

/// The same for a head that came in at `place`.
///
/// # Errors
/// As [`parse`].
pub fn parse_at(head: &[u8], place: &Place) -> Result<Head, Box<RefusedHead>> {
    check(head, place).map_err(|fault| describe(fault, head, place))
}

/// The refusal of a head that is no longer waited for. `bytes` are the part of it that arrived.
pub fn cut_short(reason: Reason, detail: &'static str, bytes: &[u8], place: &Place) -> Box<RefusedHead> {
    describe(Fault::new(reason, detail), bytes, place)
}

fn check(head: &[u8], place: &Place) -> Result<Head, Fault> {
    // One copy for the values of all fields: a copy of the fields then costs no more than that of their places.
    let text = Bytes::copy_from_slice(head);
    let head = &text[..];
    let mut lines = lines(head);
    let line = RequestLine::parse(lines.next().unwrap_or_default())?;
    for field in lines {
        field_line(field)?;
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let fields = tokenize(head, &line, &mut fields)?;
    let method = line.method()?;
    let by_host;
    let place = match place {
        Place::Transparent if line.target.starts_with('/') => {
            by_host = Place::Tunnel(named(fields)?);
            &by_host
        }
        _ => place,
    };
    let target = line.target(&method, place)?;
    host(fields, &target, line.version, place)?;
    let framing = framing::of(fields, line.version, &method)?;
    let keep_alive = framing::keeps_connection(fields, line.version)?;
    let expect_continue =
        expectation(fields)? && line.version == Version::Http11 && framing.may_have_content();
    at_most_one(fields, "proxy-authorization", "more than one Proxy-Authorization field")?;
    // RFC 9110 §7.6.2: at 0 a proxy would have to answer OPTIONS itself, which no client needs.
    if method == http::Method::OPTIONS && all(fields, "max-forwards").next().is_some() {
        return Err(Fault::new(Reason::MethodNotAllowed, "OPTIONS with Max-Forwards is not served"));
    }
    Ok(Head {
        method,
        target,
        version: line.version,
        headers: header_map(&text, fields)?,
        framing,
        keep_alive,
        expect_continue,
        bytes: head.len(),
    })
}

/// The lines of a head up to its empty line, without their CRLF.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

fn field_line(line: &[u8]) -> Result<(), Fault> {
    if line.first().is_some_and(|&byte| byte == b' ' || byte == b'\t') {
        return Err(Fault::bad_request(
            "a line that begins with white space: folded fields are not accepted",
        ));
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Err(Fault::bad_request("a field without a colon"));
    };
    let name = line.get(..colon).unwrap_or_default();
    if name.last().is_some_and(|&byte| byte == b' ' || byte == b'\t') {
        return Err(Fault::bad_request("white space between a field's name and its colon"));
    }
    match is_token(name) {
        true => Ok(()),
        false => Err(Fault::bad_request("the name of a field is not a token")),
    }
}

/// The second reader. What it refuses is refused, and so is what it reads differently.
fn tokenize<'head, 'space>(
    head: &'head [u8],
    line: &RequestLine<'_>,
    space: &'space mut [httparse::Header<'head>],
) -> Result<&'space [httparse::Header<'head>], Fault> {
    let mut request = httparse::Request::new(space);
    let status = request.parse(head).map_err(|error| match error {
        httparse::Error::TooManyHeaders => {
            Fault::new(Reason::HeadTooLarge, "the request head has more than 100 fields")
        }
        _ => Fault::bad_request("the head is not well-formed HTTP/1.1"),
    })?;
    let minor = match line.version {
        Version::Http10 => 0,
        Version::Http11 => 1,
    };
    let agrees = status == httparse::Status::Complete(head.len())
        && request.method == Some(line.method)
        && request.path == Some(line.target)
        && request.version == Some(minor);
    match agrees {
        true => Ok(request.headers),
        false => Err(Fault::bad_request("the head is not well-formed HTTP/1.1")),
    }
}

/// RFC 9112 §3.2: exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0. Its form is checked, and in an absolute-form
/// request it must name the host of the URI (RFC 9112 §3.2.2 would ignore it, but a difference is an attack or a bug). No
/// decision ever depends on it.
fn host(
    fields: &[httparse::Header<'_>],
    target: &RequestTarget,
    version: Version,
    place: &Place,
) -> Result<(), Fault> {
    let Some(value) = at_most_one(fields, "host", "more than one Host field")? else {
        return match version {
            Version::Http10 => Ok(()),
            Version::Http11 => Err(Fault::bad_request("the Host field is missing")),
        };
    };
    // Inside a tunnel, nearly all are its target's own text, whose parse is known: the target.
    if let Some(Target { host: Host::Name(name), port, .. }) = place.tunnel()
        && value == name.as_str().as_bytes()
        && *port == place.default_port()
    {
        return Ok(());
    }
    let host = std::str::from_utf8(value).ok();
    let host = host.and_then(|text| Target::of_uri(text, place.default_port()).ok());
    let Some(host) = host else {
        return Err(Fault::bad_request("the Host field is not one host, with or without a port"));
    };
    if let Some(of) = place.tunnel() {
        return same_host(&host, of);
    }
    match target {
        RequestTarget::Absolute { target, .. } if *target != host => {
            Err(Fault::bad_request("the Host field names another host or port than the request target"))
        }
        _ => Ok(()),
    }
}

/// The target that the `Host` names, for a client that does not know of the proxy.
fn named(fields: &[httparse::Header<'_>]) -> Result<Target, Fault> {
    let Some(value) = at_most_one(fields, "host", "more than one Host field")? else {
        return Err(Fault::bad_request("the Host field is missing, which names the target"));
    };
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| Target::of_uri(text, Port::HTTP).ok())
        .ok_or_else(|| Fault::bad_request("the Host field is not one host, with or without a port"))
}

/// Whether there is `Expect: 100-continue`, the only expectation that exists (RFC 9110 §10.1.1).
fn expectation(fields: &[httparse::Header<'_>]) -> Result<bool, Fault> {
    match at_most_one(fields, "expect", "more than one Expect field")? {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Fault::bad_request("an expectation other than 100-continue")),
    }
}

/// The map of the fields of the head `text`.
fn header_map(text: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Fault::bad_request("the name of a field is not a token"))?;
        let mut value = HeaderValue::from_maybe_shared(text.slice_ref(field.value))
            .map_err(|_| Fault::bad_request("a control character in the request head"))?;
        if [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(&name) {
            value.set_sensitive(true);
        }
        headers.append(name, value);
    }
    Ok(headers)
}

/// What a record can say about a refused head: its method, its target and its `User-Agent`, as far as the bytes that arrived
/// show them. Done only on refusals, so that it costs nothing for a good head.
pub(super) fn describe(fault: Fault, head: &[u8], place: &Place) -> Box<RefusedHead> {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r"));
    // A line that is incomplete, or does not end with CRLF, is not quoted: it may be anything.
    let first = lines.next().flatten();
    let line = first.and_then(|line| RequestLine::parse(line).ok());
    let method = line
        .as_ref()
        .filter(|line| line.method.len() <= MAX_METHOD)
        .and_then(|line| http::Method::from_bytes(line.method.as_bytes()).ok());
    let target = line.zip(method.as_ref()).and_then(|(line, method)| line.target(method, place).ok());
    let malformed = match target {
        Some(_) => None,
        None => first.and_then(|line| line.split(|&byte| byte == b' ').nth(1)).map(Box::from),
    };
    let user_agent = lines.flatten().take_while(|line| !line.is_empty()).find_map(user_agent);
    let Fault { reason, detail } = fault;
    Box::new(RefusedHead { reason, detail, method, target, malformed, user_agent })
}

fn user_agent(line: &[u8]) -> Option<Box<str>> {
    let (name, value) = line.split_at_checked("user-agent:".len())?;
    if !name.eq_ignore_ascii_case(b"user-agent:") {
        return None;
    }
    let value = value.trim_ascii();
    let cut = value.get(..MAX_USER_AGENT).unwrap_or(value);
    Some(String::from_utf8_lossy(cut).into())
}
