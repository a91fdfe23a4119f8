//! What a rule changes in a request and in its response, beyond what belongs to this hop
//! ([`rewrite`](super::forward)): fields that would change what the rule judged, fields of `headers`, credentials that are kept
//! here.
//!
//! A field that the request's own signature covers is never touched: the request is refused instead.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALT_SVC, AUTHORIZATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::rules::{HeaderEdits, Permit};
use crate::session::http::git_fields::FixedFields;
use crate::session::http::round::Mark;
use crate::wire::aws::{self, Signed};
use crate::wire::head::{Framing, Head, RequestTarget, Version};
use crate::wire::query::decoded_leniently;
use crate::words::outcome::Decision;

/// Fields by which servers and frameworks let a client change the method, the path or the host that they then act on.
const OVERRIDES: [&str; 15] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-http-host-override",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-original-path",
    "x-original-host",
    "x-rewrite-url",
    "x-rewrite-uri",
    "x-override-url",
    "x-http-path-override",
    "x-waws-unencoded-url",
    "x-host",
];

/// The same: those that begin with it.
const OVERRIDES_OF_ENVOY: &str = "x-envoy-original-";

/// Fields that programs which pass fields on as variables may take for another: the framing, and the variable `HTTP_PROXY`.
const VARIABLES: [&str; 3] = ["transfer-encoding", "content-length", "proxy"];

/// Parts of a query that are credentials, or the signature that goes with them; those that begin with one of these.
const QUERY_PREFIXES: [&str; 2] = ["x-amz-", "x-goog-"];
const QUERY_CREDENTIALS: [&str; 8] = [
    "awsaccesskeyid",
    "googleaccessid",
    "signature",
    "access_token",
    "oauth_token",
    "private_token",
    "job_token",
    "deploy_token",
];

/// Fields that are the client's own credentials.
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "cookie",
    "cookie2",
    "x-amz-security-token",
    "private-token",
    "job-token",
    "deploy-token",
];

/// Where Git LFS asks for the addresses and the credentials of uploads and downloads, and where GitLab keeps the objects. Servers
/// read the rest of the path in more than one way.
const LFS: [&str; 2] = ["/info/lfs/", "/gitlab-lfs/"];

/// What a rule changes.
#[derive(Default, Debug)]
pub(crate) struct Changes {
    /// The request came inside the TLS of a tunnel.
    pub(super) inspected: bool,
    /// The rule judges requests.
    judged: bool,
    edits: Option<Arc<HeaderEdits>>,
    /// What files keep is sent: not with a request that only report mode lets pass.
    lends: bool,
    /// Sent as `Authorization`.
    credentials: Option<HeaderValue>,
    /// The connection may become a WebSocket.
    pub(super) websocket: bool,
    /// What the client's signature covers, unless it goes with the credentials that ours replace.
    signed: Signed,
    /// Of a request to Git: its fields.
    fixed: Option<FixedFields>,
    /// What is sent in place of the body, which was read before.
    content: Option<Bytes>,
    /// By which it is known if it comes back.
    pub(super) mark: Mark,
}

impl Changes {
    /// By what permits the request.
    pub(crate) fn by(permit: &Permit, head: &Head, inspected: bool) -> Self {
        let entry = permit.entry.as_ref();
        let mut changes = Changes {
            inspected,
            judged: permit.requests.is_some(),
            edits: permit.headers.clone(),
            lends: permit.decision == Decision::Allow,
            credentials: entry
                .and_then(|entry| entry.credentials.as_ref())
                .map(|credentials| credentials.basic()),
            // RFC 9110 section 7.8: HTTP/1.0 has no upgrades.
            websocket: permit.websocket && head.version == Version::Http11,
            signed: Signed::default(),
            fixed: None,
            content: None,
            mark: Mark::default(),
        };
        if !changes.authorizes() {
            let authorization = head.headers.get_all(AUTHORIZATION).into_iter().map(HeaderValue::as_bytes);
            changes.signed = Signed::of(authorization, path_of(head).query());
        }
        changes
    }

    /// Only these fields go on, and no trailers.
    pub(super) fn fix(&mut self, fixed: FixedFields) {
        self.fixed = Some(fixed);
    }

    /// All fields go on: report mode lets the request pass.
    pub(super) fn unfix(&mut self) {
        self.fixed = None;
    }

    /// This is the body that goes on.
    pub(super) fn send(&mut self, content: Bytes) {
        self.content = Some(content);
    }

    /// The body that goes on in place of the client's.
    pub(super) fn content(&self) -> Option<&Bytes> {
        self.content.as_ref()
    }

    /// Whether the client's trailers may go on.
    pub(super) fn passes_trailers(&self) -> bool {
        self.fixed.is_none() && self.content.is_none()
    }

    /// How the body that goes on is framed.
    pub(super) fn framing(&self, head: &Head) -> Framing {
        self.content.as_ref().map_or(head.framing, |content| Framing::Length(content.len() as u64))
    }

    /// Whether a byte of a body may go on.
    pub(super) fn has_content(&self, head: &Head) -> bool {
        self.framing(head).may_have_content()
    }

    /// Whether the target gets credentials of ours.
    fn authorizes(&self) -> bool {
        self.credentials.is_some() || self.edits.as_ref().is_some_and(|edits| edits.authorizes())
    }

    /// Whether the field is taken out of a request, or replaced. Servers may read `X_Name` as `X-Name`, so both are one name here.
    fn touches(&self, name: &str) -> bool {
        let same = |other: &str| same_field(name, other);
        // The framing under its own names is written anew, whatever the rule says.
        let is_variable = VARIABLES.into_iter().any(same) && (name == "proxy" || !VARIABLES.contains(&name));
        let overrides = OVERRIDES.into_iter().any(same) || begins_as(name, OVERRIDES_OF_ENVOY);
        (self.judged && (overrides || is_variable))
            || self.fixed.is_some_and(|fixed| !fixed.keeps(name))
            || self.edits.iter().flat_map(|edits| edits.names()).any(|name| same(name.as_str()))
            || (self.authorizes() && is_credential(name))
    }

    /// Why the request cannot be sent as the rule wants it: one line for a person. Report mode lets it pass, and lends it nothing
    /// ([`Changes::lend_nothing`]).
    pub(crate) fn refuse(&self, head: &Head) -> Option<String> {
        if self.judged
            && [Method::GET, Method::HEAD].contains(&head.method)
            && head.framing.may_have_content()
        {
            return Some(format!("{} has no body where a rule has `requests`", head.method));
        }
        // RFC 6455 section 4.1. A body would end among the first frames.
        if self.websocket && (head.method != Method::GET || head.framing.may_have_content()) {
            return Some("a WebSocket is asked for by a GET without a body".to_owned());
        }
        if self.authorizes() {
            let path = decoded_leniently(path_of(head).path()).to_ascii_lowercase();
            return LFS.into_iter().any(|lfs| path.contains(lfs)).then(|| {
                "what Git LFS asks for is not sent with credentials of egressd's: its answers give out others, and an upload with \
                 them belongs to no ref: push without large files"
                    .to_owned()
            });
        }
        let names = head.headers.keys().map(HeaderName::as_str);
        let edited = self.edits.iter().flat_map(|edits| edits.names()).map(HeaderName::as_str);
        let touched = names.filter(|name| self.touches(name) || tells_of_proxies(name)).chain(edited);
        let fixed: Vec<HeaderName> =
            self.fixed.map(|fixed| fixed.changes(&head.headers).collect()).unwrap_or_default();
        let touched = touched.chain(fixed.iter().map(HeaderName::as_str));
        let covered = touched.into_iter().find(|name| self.signed.covers(name))?;
        Some(format!(
            "the request's signature covers {covered}, which is not sent on as it is: sign the request without it"
        ))
    }

    /// Whether the client's signature covers the body: it then goes on as it came, or not at all.
    pub(super) fn body_is_signed(&self) -> bool {
        self.signed.covers_body()
    }

    /// The request is let pass by report mode alone.
    pub(crate) fn lend_nothing(&mut self) {
        self.lends = false;
    }

    /// Changes the fields of a request.
    pub(super) fn request(&self, headers: &mut HeaderMap) {
        // A field that is covered is here in report mode alone. A list that cannot be read protects none there, and nothing tells of
        // proxies.
        let is_touched = |name: &HeaderName| {
            tells_of_proxies(name.as_str())
                || (self.touches(name.as_str()) && !self.signed.lists(name.as_str()))
        };
        let touched: Vec<HeaderName> = headers.keys().filter(|name| is_touched(name)).cloned().collect();
        for name in &touched {
            headers.remove(name);
        }
        if let Some(fixed) = self.fixed {
            fixed.write(headers, |name| self.signed.lists(name));
        }
        let set = self.edits.iter().flat_map(|edits| &edits.set);
        for field in set.filter(|field| self.lends || field.file.is_none()) {
            if !self.signed.lists(field.name.as_str()) {
                headers.insert(field.name.clone(), field.value.clone());
            }
        }
        if let Some(credentials) = self.credentials.as_ref().filter(|_| self.lends) {
            headers.insert(AUTHORIZATION, credentials.clone());
        }
    }

    /// Takes what the head may not have out of its trailers.
    pub(super) fn request_trailers(&self, trailers: &mut HeaderMap) {
        if !self.passes_trailers() {
            trailers.clear();
        }
        // Credentials have no place there (RFC 9110 §6.5.1), and nobody judges them.
        let goes = |name: &str| self.touches(name) || (self.judged && aws::is_credential(name));
        let touched: Vec<HeaderName> = trailers.keys().filter(|name| goes(name.as_str())).cloned().collect();
        for name in &touched {
            trailers.remove(name);
        }
    }

    /// The path and the query for the target: without the client's credentials where ours are sent.
    pub(super) fn path(&self, path: PathAndQuery) -> PathAndQuery {
        let Some(query) = path.query().filter(|_| self.authorizes()) else { return path };
        let is_credential = |pair: &str| {
            let name = decoded_leniently(pair.split_once('=').map_or(pair, |(name, _)| name));
            let name = name.trim();
            QUERY_CREDENTIALS.into_iter().any(|other| same_field(name, other))
                || QUERY_PREFIXES.into_iter().any(|prefix| begins_as(name, prefix))
        };
        // Some servers end a pair at `;` too. A whole pair goes first: `;` may be part of its value.
        let pairs = query.split('&').filter(|pair| !is_credential(pair));
        let kept: Vec<String> = pairs
            .map(|pair| pair.split(';').filter(|part| !is_credential(part)).collect::<Vec<_>>().join(";"))
            .collect();
        let kept = kept.join("&");
        if kept == query {
            return path;
        }
        let kept = match kept.is_empty() {
            true => path.path().to_owned(),
            false => format!("{}?{kept}", path.path()),
        };
        // A part of what was valid is valid; if not, the query goes as a whole.
        PathAndQuery::try_from(kept)
            .or_else(|_| PathAndQuery::try_from(path.path().to_owned()))
            .unwrap_or_else(|_| PathAndQuery::from_static("/"))
    }

    /// Changes the fields of a response, or its trailers.
    pub(super) fn response(&self, headers: &mut HeaderMap) {
        self.answers().change(headers);
    }

    /// What is changed in every answer, interim ones too.
    pub(super) fn answers(&self) -> Answers {
        Answers { leads_away: self.inspected || self.judged, authorized: self.authorizes() }
    }

    /// Whether the target refused credentials of ours.
    pub(super) fn are_refused(&self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED && self.lends && self.authorizes()
    }
}

/// What is changed in answers.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Answers {
    /// `Alt-Svc` would lead the client past the inspection.
    leads_away: bool,
    /// What belongs to credentials of ours is not the client's.
    authorized: bool,
}

impl Answers {
    /// Changes the fields of an answer, or its trailers.
    pub(super) fn change(self, headers: &mut HeaderMap) {
        if self.leads_away {
            headers.remove(ALT_SVC);
        }
        if self.authorized {
            for name in [WWW_AUTHENTICATE, SET_COOKIE, HeaderName::from_static("authentication-info")] {
                headers.remove(name);
            }
        }
    }
}

fn path_of(head: &Head) -> &PathAndQuery {
    static NONE: std::sync::OnceLock<PathAndQuery> = std::sync::OnceLock::new();
    match &head.target {
        RequestTarget::Absolute { path_and_query, .. } => path_and_query,
        RequestTarget::Authority(_) => NONE.get_or_init(|| PathAndQuery::from_static("/")),
    }
}

/// The client's own credentials.
fn is_credential(name: &str) -> bool {
    CREDENTIALS.into_iter().any(|other| same_field(name, other))
}

/// Programs that pass fields on as variables (CGI, WSGI) make one name of names that differ in such characters.
pub(super) fn same_field(one: &str, other: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    one.len() == other.len() && one.bytes().map(fold).eq(other.bytes().map(fold))
}

/// The same for the beginning of a name.
fn begins_as(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| same_field(start, prefix))
}

/// Whether the field tells where a request comes from: every request is sent on without it, also where it is written with `_`.
pub(super) fn tells_of_proxies(name: &str) -> bool {
    ["proxy-", "x-forwarded", "x-upstream-https-proxy"].into_iter().any(|prefix| begins_as(name, prefix))
        || ["forwarded", "via", "x-real-ip"].into_iter().any(|field| same_field(name, field))
}
