//! What a request head says once it is read, and what is known of a refused one for the record. Not here: the checks, which
//! are in [`grammar`](super::grammar) and [`framing`](super::framing).

use std::borrow::Cow;

use http::HeaderMap;
use http::uri::PathAndQuery;

use crate::words::outcome::Reason;
use crate::words::target::{Port, Target};

/// Most fields in one head; one more is [`Reason::HeadTooLarge`].
pub const MAX_FIELDS: usize = 100;
/// Most bytes of a `User-Agent` that are kept for the log.
pub const MAX_USER_AGENT: usize = 256;

/// HTTP/1.0 or HTTP/1.1; nothing else passes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// No `Host` needed, no chunked coding either way, and one request a connection unless the client asks for more.
    Http10,
    /// RFC 9112.
    Http11,
}

/// Where a request comes in, which decides the forms of its target that are served (RFC 9112 §3.2).
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub enum Place {
    /// The proxy's own port: CONNECT, and absolute-form to any host.
    #[default]
    Proxy,
    /// A port whose clients do not know of the proxy: origin-form, whose target the `Host` names, and absolute-form of the same.
    Transparent,
    /// Inside a tunnel of plain requests to this target: origin-form, and absolute-form to this target alone.
    Tunnel(Target),
    /// The same inside the TLS of a tunnel, where URIs are `https`.
    Inspected(Target),
}

impl Place {
    /// The target of the tunnel that it is in.
    pub(super) fn tunnel(&self) -> Option<&Target> {
        match self {
            Place::Proxy | Place::Transparent => None,
            Place::Tunnel(of) | Place::Inspected(of) => Some(of),
        }
    }

    /// The scheme of its URIs.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Place::Proxy | Place::Transparent | Place::Tunnel(_) => "http",
            Place::Inspected(_) => "https",
        }
    }

    /// The port that a URI or a `Host` without one means.
    pub(super) fn default_port(&self) -> Port {
        match self {
            Place::Proxy | Place::Transparent | Place::Tunnel(_) => Port::HTTP,
            Place::Inspected(_) => Port::HTTPS,
        }
    }
}

/// What the request line asks for, in the two forms that a forward proxy serves (RFC 9112 §3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestTarget {
    /// CONNECT's authority-form.
    Authority(Target),
    /// An absolute `http://` URI; inside a tunnel also a path, whose authority is the tunnel's target. Inside an inspected
    /// tunnel the scheme is `https`.
    Absolute {
        /// The URI's authority.
        target: Target,
        /// What goes into the origin-form upstream; begins with `/`. It includes the query: for the log use its `path()`.
        path_and_query: PathAndQuery,
    },
}

impl RequestTarget {
    /// Host and port, whatever the form.
    pub fn target(&self) -> &Target {
        match self {
            RequestTarget::Authority(target) | RequestTarget::Absolute { target, .. } => target,
        }
    }
}

/// The body that follows a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Nothing follows.
    None,
    /// This many bytes, by `Content-Length`; may be 0.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
}

impl Framing {
    /// Whether a body follows, even an empty one.
    pub fn has_body(self) -> bool {
        self != Framing::None
    }

    /// Whether a byte of content may follow. RFC 9110 §10.1.1: without content nobody can wait for `100 Continue`.
    pub fn may_have_content(self) -> bool {
        !matches!(self, Framing::None | Framing::Length(0))
    }
}

/// A request head that passed. A decision needs only the other fields; `headers` is for forwarding and credentials.
#[derive(Clone, Debug)]
pub struct Head {
    /// CONNECT if and only if `target` is [`RequestTarget::Authority`].
    pub method: http::Method,
    /// Canonical.
    pub target: RequestTarget,
    /// As the client sent it.
    pub version: Version,
    /// Every field, copied (nothing here keeps the read buffer alive). The values are parts of one copy of the head. Credentials are marked sensitive, so that `Debug`
    /// does not print them. Values may hold `obs-text` (0x80 to 0xff), except in the fields that are checked here.
    pub headers: HeaderMap,
    /// The body that follows.
    pub framing: Framing,
    /// Whether another head may follow on this connection once this request is done.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1). Never where there is no body to
    /// wait with: such an expectation is not passed on.
    pub expect_continue: bool,
    /// The length of the head on the wire.
    pub bytes: usize,
}

/// What a place for a field takes in a [`HeaderMap`], without text.
const SLOT: usize = 112;
/// What name and value of a field take in addition to their bytes: each is an allocation.
const TEXTS: usize = 64;

/// What the places for fields take, the empty ones of a map that has grown, too: it keeps them when its fields have left.
pub fn slots(headers: &HeaderMap) -> usize {
    let repeated = headers.len().saturating_sub(headers.keys_len());
    (headers.capacity() + repeated) * SLOT
}

impl Head {
    /// Its memory: its text, copied, and the map of its fields.
    pub fn cost(&self) -> usize {
        self.bytes + self.headers.len() * TEXTS + slots(&self.headers)
    }
}

/// A refusal at the gate, with what is known of the request for the record.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct RefusedHead {
    /// `bad_request`, `bad_target`, `head_too_large`, `head_timeout`, `method_not_allowed`,
    /// `scheme_not_allowed` or `host_mismatch`.
    pub reason: Reason,
    /// One line that says what is wrong. It holds no byte that the client sent, so it is safe in a reply and a log.
    pub detail: Cow<'static, str>,
    /// The method, where the request line has one.
    pub method: Option<http::Method>,
    /// The target, where it is canonical.
    pub target: Option<RequestTarget>,
    /// The target as it was sent, where it is not canonical: any bytes but a space. The log escapes and cuts it.
    pub malformed: Option<Box<[u8]>>,
    /// At most [`MAX_USER_AGENT`] bytes, not escaped: the log does that.
    pub user_agent: Option<Box<str>>,
}

/// What a check found wrong, before anything is known about the rest of the head.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) detail: Cow<'static, str>,
}

impl Fault {
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Fault { reason, detail: detail.into() }
    }

    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Fault::new(Reason::BadRequest, detail)
    }
}
