//! What the lines of [`ecs`](super::ecs) and [`ocsf`](super::ocsf) have in common: which longest values they have, and what a
//! record says in their words.
//!
//! Both leave out what has no value, because their schemas have types that `null` is none of. Both have less room for long values
//! than JSON's own lines, because the names around them are longer.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::super::json::Object;
use super::event::Event;
use super::fields::Record;
use super::target::{LoggedTarget, scheme, without_query};
use crate::words::outcome::Decision;
use crate::words::target::Host;

/// Most bytes of values as written, where they differ from [`fields`](super::fields).
pub(super) const TARGET: usize = 3072;
pub(super) const RULE_SOURCE: usize = 1024;
pub(super) const GIT: usize = 2048;
/// A path that is longer stands in the whole target alone.
const PATH: usize = 1024;

/// Most that a schema's `long` can be.
pub(super) const LONG: u64 = i64::MAX as u64;

/// How a request went, as schemas see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It was let through.
    Allowed,
    /// Report mode let it through.
    WouldDeny,
    /// It was refused by policy, form or identity.
    Denied,
    /// It failed for another reason.
    Failed,
}

impl Record<'_> {
    /// How it went, as far as this record knows.
    pub(super) fn verdict(&self) -> Verdict {
        match (self.event, self.decision) {
            (Event::Deny, _) => Verdict::Denied,
            (Event::Error, _) => Verdict::Failed,
            (_, Some(Decision::WouldDeny)) => Verdict::WouldDeny,
            _ => Verdict::Allowed,
        }
    }

    /// Whether it is about an HTTP request, and not about a tunnel or a connection.
    pub(super) fn is_http(&self) -> bool {
        matches!(self.event, Event::Http | Event::Request)
            || self.method.is_some_and(|method| method.0 != b"CONNECT")
    }

    /// The host that was asked for, if the target has one.
    pub(super) fn asked_host(&self) -> Option<&Host> {
        match self.target? {
            LoggedTarget::Connect(target) | LoggedTarget::Http { target, .. } => Some(&target.host),
            LoggedTarget::Malformed(_) => None,
        }
    }

    /// The port that was asked for.
    pub(super) fn asked_port(&self) -> Option<u64> {
        match self.target? {
            LoggedTarget::Connect(target) | LoggedTarget::Http { target, .. } => {
                Some(u64::from(target.port.get()))
            }
            LoggedTarget::Malformed(_) => None,
        }
    }
}

/// Writes the target whole as `whole`, and its parts beside it: `scheme`, what `host` is called, `port`, `path`.
pub(super) fn write_url(record: &Record<'_>, url: &mut Object<'_>, whole: &'static str, host: &'static str) {
    let Some(target) = &record.target else { return };
    url.of("target", |url| target.write_json(url, whole, TARGET));
    url.shown(host, record.asked_host(), TARGET);
    url.number("port", record.asked_port());
    if let LoggedTarget::Http { path, tls, .. } = target {
        url.word("scheme", Some(scheme(*tls)));
        let path = Some(without_query(path.0)).filter(|path| !path.is_empty());
        url.whole(|url| url.bytes("path", path, PATH));
    }
}

/// An address and its port.
pub(super) fn write_address(to: &mut Object<'_>, address: Option<SocketAddr>) {
    to.plain("ip", address.map(|address| address.ip()));
    to.number("port", address.map(|address| u64::from(address.port())));
}

/// Values that neither schema has a field for, under their own names. `cut` comes last, and what may be long just before it.
pub(super) fn write_rest(record: &Record<'_>, to: &mut Object<'_>) {
    to.bytes("listener", Some(record.listener.as_bytes()), 256);
    to.plain("peer", record.peer);
    to.word("mode", record.mode.map(|mode| mode.as_str()));
    to.word("decision", record.decision.map(Decision::as_str));
    to.milliseconds("dns_ms", record.dns);
    to.milliseconds("connect_ms", record.connect);
    to.word("ending", record.ending.map(|ending| ending.as_str()));
    to.plain("config", record.config);
    to.word("protocol", record.protocol.map(|protocol| protocol.as_str()));
    to.plain("original", record.original);
    to.plain("tunnel", record.tunnel);
    to.number("suppressed", record.suppressed);
    to.word("auth_scheme", record.auth_scheme.map(|scheme| scheme.as_str()));
    if let Some(aws) = &record.aws {
        aws.write_json(to, "aws", 512);
    }
}

/// The end of [`write_rest`]: what takes the room that is left, and the names of all that was cut.
pub(super) fn write_last(record: &Record<'_>, to: &mut Object<'_>) {
    if let Some(git) = &record.git {
        git.write_json(to, "git", GIT);
    }
    to.cut_names("cut");
}

/// The time as OCSF counts it.
pub(super) fn milliseconds_since_1970(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}
