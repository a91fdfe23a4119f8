//! What is removed from a head and added to it on its way through (RFC 9110 §7.6). Pure functions.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};

use crate::outbound::parent::Parent;
use crate::rules::Upgrade;
use crate::session::http::changes::{Changes, same_field, tells_of_proxies};
use crate::wire::head::{Framing, Head, RequestTarget, connection_options};
use crate::words::target::Port;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

const HOPS: usize = 9;
/// Fields of one connection, whatever `Connection` says.
const HOP_BY_HOP: [HeaderName; HOPS] = [
    CONNECTION,
    KEEP_ALIVE,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];

/// The request for the target: origin-form, `Host` from the URI, nothing about this hop or the client. For a parent
/// proxy: absolute-form, and the fields that the parent expects. `headers` are those of the head, taken out of it so that they are
/// held once.
pub(super) fn request(
    head: &Head,
    mut headers: HeaderMap,
    remove: &[HeaderName],
    parent: Option<&Parent>,
    changes: &Changes,
) -> Request<()> {
    let trailers_wanted = te_trailers(&headers);
    Nominated::by(&headers).strip(&mut headers);
    // An internal address must not be shown outside, and a client's statement about it is worth nothing: that goes, too.
    changes.request(&mut headers);
    for name in remove.iter().chain([&CONTENT_LENGTH, &HOST]) {
        headers.remove(name);
    }
    changes.mark.write(&mut headers);
    if !head.expect_continue {
        headers.remove(EXPECT);
    }
    if changes.websocket {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else if trailers_wanted && changes.passes_trailers() {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    match changes.framing(head) {
        Framing::None => {}
        Framing::Length(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        // hyper sends a GET without a body unless this field is set.
        Framing::Chunked => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    let target = head.target.target();
    let default = if changes.inspected { Port::HTTPS } else { Port::HTTP };
    let host = if target.port == default { target.host.to_string() } else { target.to_string() };
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = match parent {
        None => Uri::from(changes.path(path(&head.target))),
        Some(_) => absolute(&host, path(&head.target)),
    };
    if let Some(authorization) = parent.and_then(Parent::authorization) {
        headers.insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    // Canonical hosts are visible ASCII.
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert(HOST, host);
    }
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

/// The path of an absolute-form target; `/` for any other form, which the caller does not forward.
fn path(target: &RequestTarget) -> PathAndQuery {
    match target {
        RequestTarget::Absolute { path_and_query, .. } => path_and_query.clone(),
        RequestTarget::Authority(_) => PathAndQuery::from_static("/"),
    }
}

/// Canonical hosts are authorities; if one is not, the parent gets only a path and refuses.
fn absolute(host: &str, path: PathAndQuery) -> Uri {
    let absolute = Uri::builder().scheme(Scheme::HTTP).authority(host).path_and_query(path.clone()).build();
    absolute.unwrap_or_else(|_| Uri::from(path))
}

/// The fields that the `Connection` field of a head nominates: they belong to that connection, in the head and in the
/// trailers (RFC 9110 §7.6.1).
pub(super) struct Nominated {
    names: Vec<HeaderName>,
    /// Whether every nomination is a name. If one is not, nobody knows which field it would remove.
    pub(super) is_readable: bool,
}

impl Nominated {
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let mut nominated = Nominated { names: Vec::new(), is_readable: true };
        for option in connection_options(headers) {
            match HeaderName::from_bytes(option) {
                // A response may not remove its own framing; a request that tries is refused at the gate.
                Ok(name) if name == CONTENT_LENGTH => {}
                Ok(name) => nominated.names.push(name),
                Err(_) => nominated.is_readable = false,
            }
        }
        nominated
    }

    /// Removes what belongs to one connection: these fields, and those that always do.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        for name in &self.names {
            headers.remove(name);
        }
        // Most heads have few fields, and none of these: to compare them is less work than to look for each.
        let mut found = [false; HOPS];
        for name in headers.keys() {
            for (found, of_hop) in found.iter_mut().zip(&HOP_BY_HOP) {
                *found |= name == of_hop;
            }
        }
        for (_, of_hop) in found.iter().zip(&HOP_BY_HOP).filter(|(found, _)| **found) {
            headers.remove(of_hop);
        }
    }
}

fn te_trailers(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TE).into_iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
}

/// Why a response that hyper could read must not be passed on. A parent's 407 is not handled here.
/// `websocket`: the request asked for one.
pub(super) fn unfit(response: &Response<hyper::body::Incoming>, websocket: bool) -> Option<&'static str> {
    let upgrades = response.headers().get_all(UPGRADE).iter().map(HeaderValue::as_bytes);
    let switches = websocket && Upgrade::of(upgrades) == Upgrade::Websocket;
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).into_iter();
    let coding_is_fit = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    match response.status().as_u16() {
        _ if !Nominated::by(response.headers()).is_readable => {
            Some("the Connection field of the target's response is not a list of field names")
        }
        101 if !switches => Some("the target switched to another protocol without being asked"),
        // Only a proxy asks for a proxy's password, and that proxy is us.
        407 => Some("the target asked for a proxy's password"),
        _ if !coding_is_fit => Some("the target answered in a transfer coding that was not requested"),
        _ if response.headers().contains_key(TRANSFER_ENCODING)
            && response.headers().contains_key(CONTENT_LENGTH) =>
        {
            Some("the target answered with Content-Length together with Transfer-Encoding")
        }
        _ => None,
    }
}

/// Trailers as they may be passed on: none that the head nominated, no fields that only a head may have (RFC 9110
/// §6.5.1).
pub(super) fn trailers(mut trailers: HeaderMap, nominated: &Nominated) -> HeaderMap {
    nominated.strip(&mut trailers);
    let refused: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| {
            let same = |field: HeaderName| same_field(name.as_str(), field.as_str());
            tells_of_proxies(name.as_str())
                || [CONTENT_LENGTH, TRANSFER_ENCODING, HOST, EXPECT, TRAILER].into_iter().any(same)
        })
        .cloned()
        .collect();
    for name in &refused {
        trailers.remove(name);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use std::time::Duration;

    use super::*;
    use crate::transport::heads::{HeadLimits, read_head};
    use crate::transport::held::Lease;

    async fn head(text: &str) -> Head {
        let limits = HeadLimits { bytes: 16 * 1024, timeout: Duration::from_secs(1) };
        let head = read_head(&mut text.as_bytes(), &mut BytesMut::new(), &mut Lease::alone(), &limits).await;
        head.expect("well-formed").expect("not empty")
    }

    fn lines(request: &Request<()>) -> Vec<String> {
        let field = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("ASCII in these tests"))
        };
        let mut lines: Vec<String> = request.headers().iter().map(field).collect();
        lines.sort();
        lines
    }

    /// t46, t52, t53, t61
    #[tokio::test]
    async fn nothing_of_this_hop_and_nothing_of_who_asked_leaves() {
        let head = head(
            "POST http://OK.test:80/p?q HTTP/1.1\r\nHost: ok.test\r\nConnection: close, X-Hop, TE\r\nX-Hop: 1\r\n\
             Keep-Alive: 5\r\nProxy-Connection: close\r\nProxy-Authorization: Basic c2VjcmV0\r\nProxy-Foo: x\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: x\r\nTE: trailers, gzip\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: a\r\n\
             X-Real-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nVia: 1.1 inner\r\nX-Upstream-Https-Proxy: http://evil.test\r\n\
             X_Forwarded_For: 10.0.0.1\r\nX_Real_IP: 10.0.0.1\r\nProxy_Authorization: a\r\nX-Forwarded_Host: a\r\n\
             User-Agent: git\r\nReferer: http://inner/\r\nExpect: 100-continue\r\nContent-Length: 3\r\nAuthorization: Basic b2s=\r\n\
             Accept: a\r\nAccept: b\r\n\r\n",
        )
        .await;
        let remove = [http::header::USER_AGENT, http::header::REFERER];
        let request = request(&head, head.headers.clone(), &remove, None, &Changes::default());
        assert_eq!(request.uri(), "/p?q");
        assert_eq!(
            lines(&request),
            [
                "accept: a",
                "accept: b",
                "authorization: Basic b2s=",
                "connection: te",
                "content-length: 3",
                "expect: 100-continue",
                "host: ok.test",
                "te: trailers",
            ]
        );
    }

    #[tokio::test]
    async fn host_is_the_uris() {
        for (uri, host) in [
            ("http://OK.test.", "ok.test"),
            ("http://ok.test:80/", "ok.test"),
            ("http://ok.test:8080/", "ok.test:8080"),
            ("http://[2001:DB8::1]:81/", "[2001:db8::1]:81"),
        ] {
            let head = head(&format!("GET {uri} HTTP/1.0\r\n\r\n")).await;
            let request = request(&head, head.headers.clone(), &[], None, &Changes::default());
            assert_eq!(request.headers()[HOST], host, "{uri}");
        }
    }

    #[test]
    fn a_response_cannot_nominate_its_framing_away() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("content-length, x-hop, upgrade"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        Nominated::by(&headers).strip(&mut headers);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-kept"]);
    }

    #[test]
    fn trailers_hold_nothing_that_a_head_decides_by() {
        let mut headers = HeaderMap::new();
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "via",
            "proxy-authorization",
            "x-checksum",
            "content_length",
            "transfer_encoding",
            "proxy_authorization",
            "x_forwarded_host",
            "x_real_ip",
        ] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        headers.insert("x-hop", HeaderValue::from_static("1"));
        let mut head = HeaderMap::new();
        head.insert(CONNECTION, HeaderValue::from_static("X-Hop"));
        let kept = trailers(headers, &Nominated::by(&head));
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-checksum"]);
    }

    /// Whatever else stands in the field: a name in it is honoured, and what is no name is noticed.
    #[test]
    fn an_option_that_is_no_name_hides_no_other() {
        let rows: [(&[u8], bool); 12] = [
            (b"x-secret", true),
            (b"X-SECRET , close", true),
            (b",, x-secret,", true),
            (b"x-secret, \xd2", false),
            (b"\xd2,x-secret", false),
            (b"\xff\xfe, close\t,\tx-secret", false),
            (b"x-secret, a b", false),
            (b"close; x, x-secret", false),
            (b"\"x-other\", x-secret", false),
            (b"x-secret, :", false),
            (b"x-secret, @", false),
            (b"x-secret, \xc3\xa9", false),
        ];
        for (value, is_readable) in rows {
            let mut headers = HeaderMap::new();
            headers.append(CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.append(CONNECTION, HeaderValue::from_bytes(value).expect("a value"));
            headers.insert("x-secret", HeaderValue::from_static("1"));
            let nominated = Nominated::by(&headers);
            nominated.strip(&mut headers);
            assert!(headers.is_empty(), "{value:?} left {headers:?}");
            assert_eq!(nominated.is_readable, is_readable, "{value:?}");
        }
    }
}
