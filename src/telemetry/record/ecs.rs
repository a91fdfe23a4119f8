//! A record as a document of the Elastic Common Schema.
//!
//! What ECS has no field for is under `egressd`, by its own name. [`ECS`] says where each field is; `docs/log.md` and the reader
//! of logs ([`crate::commands::logs`]) are held to it. The last value of a line is the list of those that were cut.

use super::super::json::Object;
use super::event::Event;
use super::fields::Record;
use super::schema::{LONG, RULE_SOURCE, Verdict, write_address, write_last, write_rest, write_url};
use crate::words::target::Host;

/// The version of the schema.
pub const ECS_VERSION: &str = "9.4.0";

/// Where each field of a record is. Two places: an address and its port.
pub const ECS: &[(&str, &str)] = &[
    ("time", "@timestamp"),
    ("id", "http.request.id"),
    ("event", "event.action"),
    ("listener", "egressd.listener"),
    ("client", "source.ip source.port"),
    ("peer", "egressd.peer"),
    ("identity", "user.name"),
    ("method", "http.request.method"),
    ("target", "url.original"),
    ("sni", "tls.client.server_name"),
    ("policy", "rule.ruleset"),
    ("mode", "egressd.mode"),
    ("rule", "rule.name"),
    ("rule_source", "rule.id"),
    ("decision", "egressd.decision"),
    ("reason", "event.reason"),
    ("upstream", "destination.ip destination.port"),
    ("upstream_local", "source.nat.ip source.nat.port"),
    ("status", "http.response.status_code"),
    ("sent", "source.bytes"),
    ("received", "destination.bytes"),
    ("duration_ms", "event.duration"),
    ("dns_ms", "egressd.dns_ms"),
    ("connect_ms", "egressd.connect_ms"),
    ("ending", "egressd.ending"),
    ("user_agent", "user_agent.original"),
    ("config", "egressd.config"),
    ("instance", "observer.hostname"),
    ("protocol", "egressd.protocol"),
    ("original", "egressd.original"),
    ("tunnel", "egressd.tunnel"),
    ("suppressed", "egressd.suppressed"),
    ("auth_scheme", "egressd.auth_scheme"),
    ("aws", "egressd.aws"),
    ("git", "egressd.git"),
    ("cut", "egressd.cut"),
];

impl Record<'_> {
    /// Appends the line, newline included: printable ASCII, shorter than [`LINE_BOUND`](super::LINE_BOUND).
    pub fn write_ecs(&self, out: &mut Vec<u8>) {
        let mut line = Object::open_sparse(out);
        line.plain("@timestamp", Some(self.time));
        line.group("ecs", |ecs| ecs.word("version", Some(ECS_VERSION)));
        line.group("event", |event| self.write_event(event));
        line.group("source", |source| {
            write_address(source, self.client.map(Into::into));
            source.number("bytes", self.sent.map(|bytes| bytes.min(LONG)));
            source.group("nat", |nat| write_address(nat, self.upstream_local));
        });
        line.group("client", |client| write_address(client, self.client.map(Into::into)));
        line.group("destination", |destination| {
            let name = self.asked_host().and_then(Host::name);
            destination.plain_text("domain", name.map(|name| name.as_str()));
            match self.upstream {
                Some(upstream) => write_address(destination, Some(upstream)),
                None => destination.number("port", self.asked_port()),
            }
            destination.number("bytes", self.received.map(|bytes| bytes.min(LONG)));
        });
        line.group("network", |network| {
            network.word("direction", Some("outbound"));
            network.word("transport", Some("tcp"));
        });
        line.group("user", |user| {
            user.of("identity", |user| user.bytes("name", self.identity.map(str::as_bytes), 1024));
        });
        line.group("http", |http| {
            http.group("request", |request| {
                request.plain("id", Some(self.id));
                request.bytes("method", self.method.as_ref().map(AsRef::as_ref), 64);
            });
            http.group("response", |response| response.number("status_code", self.status.map(u64::from)));
        });
        line.group("url", |url| write_url(self, url, "original", "domain"));
        line.group("tls", |tls| {
            tls.group("client", |client| {
                client.of("sni", |client| {
                    client.bytes("server_name", self.sni.as_ref().map(AsRef::as_ref), 1024);
                });
            });
        });
        line.group("rule", |rule| {
            rule.of("policy", |rule| rule.bytes("ruleset", self.policy.map(str::as_bytes), 256));
            rule.of("rule", |rule| rule.bytes("name", self.rule.map(str::as_bytes), 1024));
            rule.of("rule_source", |rule| rule.shown("id", self.rule_source, RULE_SOURCE));
        });
        line.group("user_agent", |agent| {
            let user_agent = self.user_agent.as_ref().map(AsRef::as_ref);
            agent.of("user_agent", |agent| agent.bytes("original", user_agent, 1024));
        });
        line.group("observer", |observer| write_observer(self.instance, observer));
        line.rest("egressd", |rest| {
            write_rest(self, rest);
            write_last(self, rest);
        });
        line.close();
    }

    fn write_event(&self, event: &mut Object<'_>) {
        let http = self.is_http();
        event.word("kind", Some("event"));
        event.words("category", if http { &["network", "web"] } else { &["network"] });
        let begins = if http { "access" } else { "connection" };
        let happened: &[&'static str] = match self.event {
            Event::Open => &["start", "allowed"],
            Event::Close => &["end"],
            Event::Http | Event::Request => &["allowed"],
            Event::Deny => &["denied"],
            // The category of a tunnel has no `error`.
            Event::Error if http => &["error"],
            _ => &["info"],
        };
        let types: Vec<&'static str> = [begins].into_iter().chain(happened.iter().copied()).collect();
        event.words("type", &types);
        let outcome = match self.verdict() {
            Verdict::Allowed | Verdict::WouldDeny => "success",
            Verdict::Denied | Verdict::Failed => "failure",
        };
        event.word("outcome", Some(outcome));
        event.word("action", Some(self.event.as_str()));
        event.word("dataset", Some("egressd.access"));
        event.word("module", Some("egressd"));
        event.word("reason", self.reason.map(|reason| reason.as_str()));
        // In nanoseconds.
        let duration = self.duration.map(|duration| duration.as_micros().saturating_mul(1000));
        event.number("duration", duration.map(|nanos| u64::try_from(nanos).unwrap_or(LONG).min(LONG)));
    }
}

/// Which replica wrote the line.
pub(super) fn write_observer(instance: Option<&str>, observer: &mut Object<'_>) {
    observer.of("instance", |observer| observer.bytes("hostname", instance.map(str::as_bytes), 256));
    observer.word("product", Some("egressd"));
    observer.word("type", Some("proxy"));
    observer.word("version", Some(env!("CARGO_PKG_VERSION")));
}
