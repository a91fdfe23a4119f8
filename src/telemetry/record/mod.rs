//! What the access log says of one event, and its JSON line.
//!
//! A [`Record`] borrows everything: it is put together where the event happens, turned into a line at once and gone.
//! Not here: how lines reach the output (`access_log`), and how values are escaped (`json`).

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::json::Object;
use crate::config::ShortHash;
use crate::rules::{Mode, RuleSource};
use crate::wire::head::Version;
use crate::words::client::{ClientAddr, PeerAddr};
use crate::words::outcome::{Decision, Ending, Reason};
use crate::words::target::Target;

/// A line with its newline is shorter than this: container runtimes cut longer ones in two.
pub const LINE_BOUND: usize = 16 * 1024;

/// The longest each value may be, in bytes as written. They add up to less than [`LINE_BOUND`] whatever is sent: the
/// assertion below counts the rest, which is our own words and numbers.
mod longest {
    pub(super) const NAME: usize = 256;
    pub(super) const METHOD: usize = 64;
    pub(super) const IDENTITY: usize = 1024;
    pub(super) const TARGET: usize = 4096;
    pub(super) const SNI: usize = 1024;
    pub(super) const RULE: usize = 1024;
    pub(super) const SOURCE: usize = 2048;
    pub(super) const USER_AGENT: usize = 1024;
    /// The largest of an address with its port, a time and an id.
    pub(super) const PLAIN: usize = 64;
}

const _: () = {
    use longest::*;
    // listener, policy, config, instance
    let names = 4 * NAME;
    let strangers = METHOD + IDENTITY + TARGET + SNI + USER_AGENT;
    // time, id, client, peer, upstream, upstream_local; six numbers and five words of at most 40 bytes; 30 members'
    // names, quotes and commas of at most 24; `cut` naming all of them.
    let rest = 6 * PLAIN + 11 * 40 + 30 * 24 + 30 * 24;
    assert!(names + strangers + RULE + SOURCE + rest < LINE_BOUND);
};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A tunnel, or a plain request with a body, is about to pass its first byte.
    Open,
    /// A tunnel still lives.
    Progress,
    /// A tunnel ended.
    Close,
    /// A plain HTTP exchange ended.
    Http,
    /// Refused by policy, form or identity.
    Deny,
    /// Failed for another reason, or the client left before a verdict.
    Error,
}

impl Event {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Open => "open",
            Event::Progress => "progress",
            Event::Close => "close",
            Event::Http => "http",
            Event::Deny => "deny",
            Event::Error => "error",
        }
    }

    /// The event of a request that ended without a tunnel or an exchange.
    pub fn of(cause: Cause) -> Self {
        match cause {
            Cause::Refused(reason) if reason.is_denial() => Event::Deny,
            Cause::Refused(_) | Cause::ClientGone => Event::Error,
        }
    }
}

/// Why a request did not go through: a refusal of ours, or nobody left to refuse.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// egressd said no.
    Refused(Reason),
    /// The client left before a verdict.
    ClientGone,
}

impl Cause {
    /// The word in the log and the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Refused(reason) => reason.as_str(),
            Cause::ClientGone => "client_gone",
        }
    }
}

impl From<Reason> for Cause {
    fn from(reason: Reason) -> Self {
        Cause::Refused(reason)
    }
}

/// Bytes as a stranger sent them: any length, any value. They are escaped and cut only when written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raw<'a>(pub &'a [u8]);

impl<'a> From<&'a str> for Raw<'a> {
    fn from(text: &'a str) -> Self {
        Raw(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Raw<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Raw(bytes)
    }
}

/// What was asked for. Whatever the form, a query and a fragment are never written: they carry tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked<'a> {
    /// `CONNECT host:port`, canonical.
    Connect(&'a Target),
    /// Plain HTTP: the canonical authority, and the path as it was sent.
    Http {
        /// Host and port.
        target: &'a Target,
        /// From the first `/` on; everything from a `?` or `#` on is left out.
        path: Raw<'a>,
        /// There was a query, which is not told.
        query: bool,
    },
    /// The request target as it was sent, where it was refused for its form. Of user information in front of an `@`
    /// the password is masked.
    Malformed(Raw<'a>),
}

/// One event. Start from [`Record::new`]; what does not apply stays `None` and is written as `null`.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When it happened.
    pub time: Timestamp,
    /// UUIDv7 of the request; the same in the reply's `X-Request-Id`.
    pub id: Uuid,
    /// What happened.
    pub event: Event,
    /// The listener's name.
    pub listener: &'a str,
    /// Who asked.
    pub client: Option<ClientAddr>,
    /// Who connected.
    pub peer: Option<PeerAddr>,
    /// The first proven identity, with its kind.
    pub identity: Option<&'a str>,
    /// The request's method.
    pub method: Option<Raw<'a>>,
    /// What was asked for.
    pub target: Option<Asked<'a>>,
    /// The host name in the ClientHello.
    pub sni: Option<Raw<'a>>,
    /// The policy that decided.
    pub policy: Option<&'a str>,
    /// Its mode.
    pub mode: Option<Mode>,
    /// The text of the rule that decided.
    pub rule: Option<&'a str>,
    /// Its `file:line`.
    pub rule_source: Option<&'a RuleSource>,
    /// The verdict.
    pub decision: Option<Decision>,
    /// Why it was, or in report mode would have been, refused.
    pub reason: Option<Cause>,
    /// The address that was dialled.
    pub upstream: Option<SocketAddr>,
    /// Our own address towards it.
    pub upstream_local: Option<SocketAddr>,
    /// The HTTP status the client saw.
    pub status: Option<u16>,
    /// Bytes from the client that went upstream.
    pub sent: Option<u64>,
    /// Bytes from upstream that went to the client.
    pub received: Option<u64>,
    /// From the head read to now.
    pub duration: Option<Duration>,
    /// The lookup.
    pub dns: Option<Duration>,
    /// The dial.
    pub connect: Option<Duration>,
    /// How a tunnel ended.
    pub ending: Option<Ending>,
    /// The request's `User-Agent`.
    pub user_agent: Option<Raw<'a>>,
    /// First 12 hex digits of the hash of what decided.
    pub config: Option<ShortHash>,
    /// Host name of this replica.
    pub instance: Option<&'a str>,
    /// How many records like this one were left out before it, where their rate is bounded.
    pub suppressed: Option<u64>,
    /// Bytes of our own reply, which `received` does not count: for Squid's formats alone.
    pub reply: Option<u64>,
    /// The response's `Content-Type`: for Squid's formats alone.
    pub content_type: Option<Raw<'a>>,
    /// The request's version: for Squid's formats alone.
    pub version: Option<Version>,
}

/// A new request's id: UUIDv7 (RFC 9562 §5.7), so that ids sort by time.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

impl<'a> Record<'a> {
    /// A record of which nothing but this is known.
    pub fn new(event: Event, time: Timestamp, id: Uuid, listener: &'a str) -> Self {
        Record {
            time,
            id,
            event,
            listener,
            client: None,
            peer: None,
            identity: None,
            method: None,
            target: None,
            sni: None,
            policy: None,
            mode: None,
            rule: None,
            rule_source: None,
            decision: None,
            reason: None,
            upstream: None,
            upstream_local: None,
            status: None,
            sent: None,
            received: None,
            duration: None,
            dns: None,
            connect: None,
            ending: None,
            user_agent: None,
            config: None,
            instance: None,
            suppressed: None,
            reply: None,
            content_type: None,
            version: None,
        }
    }

    /// Appends the JSON line, newline included: printable ASCII, shorter than [`LINE_BOUND`], every member present in
    /// the order of the specification. A value that was cut ends in `…` and is named in `cut`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut line = Object::open(out);
        line.shown("time", Some(format_args!("{:.6}", self.time)), longest::PLAIN);
        line.shown("id", Some(self.id.as_hyphenated()), longest::PLAIN);
        line.word("event", Some(self.event.as_str()));
        line.bytes("listener", Some(self.listener.as_bytes()), longest::NAME);
        line.shown("client", self.client, longest::PLAIN);
        line.shown("peer", self.peer, longest::PLAIN);
        line.bytes("identity", self.identity.map(str::as_bytes), longest::IDENTITY);
        line.bytes("method", self.method.map(|raw| raw.0), longest::METHOD);
        match self.target {
            Some(asked) => asked.write_json(&mut line),
            None => line.null("target"),
        }
        line.bytes("sni", self.sni.map(|raw| raw.0), longest::SNI);
        line.bytes("policy", self.policy.map(str::as_bytes), longest::NAME);
        line.word("mode", self.mode.map(Mode::as_str));
        line.bytes("rule", self.rule.map(str::as_bytes), longest::RULE);
        line.shown("rule_source", self.rule_source, longest::SOURCE);
        line.word("decision", self.decision.map(Decision::as_str));
        line.word("reason", self.reason.map(Cause::as_str));
        line.shown("upstream", self.upstream, longest::PLAIN);
        line.shown("upstream_local", self.upstream_local, longest::PLAIN);
        line.number("status", self.status.map(u64::from));
        line.number("sent", self.sent);
        line.number("received", self.received);
        line.milliseconds("duration_ms", self.duration);
        line.milliseconds("dns_ms", self.dns);
        line.milliseconds("connect_ms", self.connect);
        line.word("ending", self.ending.map(Ending::as_str));
        line.bytes("user_agent", self.user_agent.map(|raw| raw.0), longest::USER_AGENT);
        line.shown("config", self.config, longest::PLAIN);
        line.bytes("instance", self.instance.map(str::as_bytes), longest::NAME);
        line.number("suppressed", self.suppressed);
        line.cut_names("cut");
        line.close();
    }
}

impl Asked<'_> {
    fn write_json(&self, line: &mut Object<'_>) {
        match self {
            Asked::Connect(target) => line.shown("target", Some(target), longest::TARGET),
            Asked::Http { target, path, query: _ } => line.text("target", longest::TARGET, |text| {
                use std::fmt::Write as _;
                // `Text` never fails: it cuts.
                let _ = write!(text, "http://{target}");
                text.push_bytes(without_query(path.0));
            }),
            Asked::Malformed(raw) => line.text("target", longest::TARGET, |text| {
                let (before, masked, after) = without_password(without_query(raw.0));
                text.push_bytes(before);
                if masked {
                    text.push_bytes(b"***");
                }
                text.push_bytes(after);
            }),
        }
    }
}

/// A target that was refused for its form, as it may be shown: without query and password.
pub fn without_secrets(raw: &[u8]) -> Vec<u8> {
    let (before, masked, after) = without_password(without_query(raw));
    [before, if masked { b"***" } else { b"" }, after].concat()
}

pub(super) fn without_query(target: &[u8]) -> &[u8] {
    target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

/// Takes the password out of `[scheme://]user:password@host…`: what stands before it, whether there was one, and what
/// follows from the `@` on. The user stays: `allowed.example@evil.example` is an attack that should be seen.
pub(super) fn without_password(target: &[u8]) -> (&[u8], bool, &[u8]) {
    let none = (target, false, [].as_slice());
    let start = target.windows(3).position(|window| window == b"://").map_or(0, |at| at + 3);
    let (_, rest) = target.split_at(start);
    let authority = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
    let Some(at) = authority.iter().rposition(|byte| *byte == b'@') else { return none };
    let Some(colon) = authority.iter().take(at).position(|byte| *byte == b':') else { return none };
    let (before, _) = target.split_at(start + colon + 1);
    let (_, after) = target.split_at(start + at);
    (before, true, after)
}

#[cfg(test)]
mod tests;
