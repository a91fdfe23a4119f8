//! Replies of the admin listener, each with headers that keep a browser from treating it as anything else.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::page::Document;

/// A reply that is not a page may load, run and frame nothing.
const NOTHING: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

/// Plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=utf-8", HeaderValue::from_static(NOTHING), body.into())
}

/// JSON.
pub(super) fn json(body: Vec<u8>) -> Response<Full<Bytes>> {
    reply(StatusCode::OK, "application/json", HeaderValue::from_static(NOTHING), body.into())
}

/// The page, which may run the one script that it holds.
pub(super) fn html(document: &'static Document) -> Response<Full<Bytes>> {
    let policy = HeaderValue::from_static(&document.security_policy);
    reply(StatusCode::OK, "text/html; charset=utf-8", policy, Bytes::from_static(document.html.as_bytes()))
}

fn reply(
    status: StatusCode,
    kind: &'static str,
    security_policy: HeaderValue,
    body: Bytes,
) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, security_policy);
    let fixed = |value| HeaderValue::from_static(value);
    for (name, value) in [
        (CONTENT_TYPE, fixed(kind)),
        (CACHE_CONTROL, fixed("no-store")),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (REFERRER_POLICY, fixed("no-referrer")),
        (X_FRAME_OPTIONS, fixed("DENY")),
        (HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin")),
        (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
    ] {
        headers.insert(name, value);
    }
    reply
}
