//! A record as an event of the Open Cybersecurity Schema Framework: Network Activity for tunnels and connections, HTTP Activity
//! for requests.
//!
//! What OCSF has no attribute for is under `unmapped`, by its own name. [`OCSF`] says where each field is; `docs/log.md` and the
//! reader of logs ([`crate::commands::logs`]) are held to it.

use jiff::Timestamp;

use super::super::json::Object;
use super::event::Event;
use super::fields::Record;
use super::schema::{
    LONG, RULE_SOURCE, Verdict, milliseconds_since_1970, write_address, write_last, write_rest, write_url,
};
use crate::words::outcome::Ending;
use crate::words::target::Host;

/// The version of the schema.
pub const OCSF_VERSION: &str = "1.8.0";

/// Where each field of a record is. Two places: an address and its port. `REQUEST` is `http_request` of HTTP Activity, and
/// `proxy_http_request` of Network Activity.
pub const OCSF: &[(&str, &str)] = &[
    ("time", "metadata.original_time"),
    ("id", "metadata.correlation_uid"),
    ("event", "metadata.event_code"),
    ("listener", "unmapped.listener"),
    ("client", "src_endpoint.ip src_endpoint.port"),
    ("peer", "unmapped.peer"),
    ("identity", "actor.user.name"),
    ("method", "REQUEST.http_method"),
    ("target", "REQUEST.url.url_string"),
    ("sni", "unmapped.sni"),
    ("policy", "policy.name"),
    ("mode", "unmapped.mode"),
    ("rule", "firewall_rule.name"),
    ("rule_source", "firewall_rule.uid"),
    ("decision", "unmapped.decision"),
    ("reason", "status_detail"),
    ("upstream", "dst_endpoint.ip dst_endpoint.port"),
    ("upstream_local", "proxy_endpoint.ip proxy_endpoint.port"),
    ("status", "status_code"),
    ("sent", "traffic.bytes_out"),
    ("received", "traffic.bytes_in"),
    ("duration_ms", "unmapped.duration_ms"),
    ("dns_ms", "unmapped.dns_ms"),
    ("connect_ms", "unmapped.connect_ms"),
    ("ending", "unmapped.ending"),
    ("user_agent", "REQUEST.user_agent"),
    ("config", "unmapped.config"),
    ("instance", "proxy_endpoint.hostname"),
    ("protocol", "unmapped.protocol"),
    ("original", "unmapped.original"),
    ("tunnel", "unmapped.tunnel"),
    ("suppressed", "unmapped.suppressed"),
    ("auth_scheme", "unmapped.auth_scheme"),
    ("aws", "unmapped.aws"),
    ("git", "unmapped.git"),
    ("cut", "unmapped.cut"),
];

/// Methods that HTTP Activity knows, with the number of what they do. Another one is under `unmapped`.
const METHODS: [(&[u8], u64); 9] = [
    (b"CONNECT", 1),
    (b"DELETE", 2),
    (b"GET", 3),
    (b"HEAD", 4),
    (b"OPTIONS", 5),
    (b"POST", 6),
    (b"PUT", 7),
    (b"TRACE", 8),
    (b"PATCH", 9),
];

/// What records have of OCSF beside their class.
const PROFILES: [&str; 3] = ["host", "network_proxy", "security_control"];

const OTHER: u64 = 99;
const NETWORK_ACTIVITY: u64 = 4001;
const HTTP_ACTIVITY: u64 = 4002;

impl Record<'_> {
    /// Appends the line, newline included: printable ASCII, shorter than [`LINE_BOUND`](super::LINE_BOUND).
    pub fn write_ocsf(&self, out: &mut Vec<u8>) {
        let known = self.known_method();
        let class = if self.is_http() { HTTP_ACTIVITY } else { NETWORK_ACTIVITY };
        let activity = match class {
            HTTP_ACTIVITY => known.unwrap_or(OTHER),
            _ => self.network_activity(),
        };
        let (action, disposition, severity) = match self.verdict() {
            // Allowed; informational.
            Verdict::Allowed => (1, 1, 1),
            // Allowed, and logged; low.
            Verdict::WouldDeny => (1, 17, 2),
            // Denied, blocked; medium.
            Verdict::Denied => (2, 2, 3),
            // Unknown, an error; low.
            Verdict::Failed => (0, 27, 2),
        };
        let is_failure = matches!(self.verdict(), Verdict::Denied | Verdict::Failed);

        let mut line = Object::open_sparse(out);
        line.number("class_uid", Some(class));
        line.number("category_uid", Some(4));
        line.number("activity_id", Some(activity));
        if class == HTTP_ACTIVITY && activity == OTHER {
            line.whole(|line| line.bytes("activity_name", self.method.as_ref().map(AsRef::as_ref), 64));
        }
        line.number("type_uid", Some(class * 100 + activity));
        line.number("severity_id", Some(severity));
        line.number("status_id", Some(if is_failure { 2 } else { 1 }));
        line.number("action_id", Some(action));
        line.number("disposition_id", Some(disposition));
        line.number("time", Some(milliseconds_since_1970(self.time)));
        let whole = self.duration.map(|duration| duration.as_millis());
        line.number("duration", whole.map(|whole| u64::try_from(whole).unwrap_or(LONG).min(LONG)));
        line.group("metadata", |metadata| {
            write_metadata(&PROFILES, self.time, self.event.as_str(), metadata);
            metadata.plain("correlation_uid", Some(self.id));
        });
        line.shown("status_code", self.status, 8);
        line.word("status_detail", self.reason.map(|reason| reason.as_str()));
        line.group("src_endpoint", |source| write_address(source, self.client.map(Into::into)));
        line.group("dst_endpoint", |target| {
            let name = self.asked_host().and_then(Host::name);
            target.plain_text("hostname", name.map(|name| name.as_str()));
            match self.upstream {
                Some(upstream) => write_address(target, Some(upstream)),
                None if name.is_some() => target.number("port", self.asked_port()),
                None => {}
            }
        });
        line.group("proxy_endpoint", |proxy| {
            proxy.of("instance", |proxy| proxy.bytes("hostname", self.instance.map(str::as_bytes), 256));
            proxy.word("name", Some("egressd"));
            write_address(proxy, self.upstream_local);
        });
        line.group("connection_info", |connection| {
            connection.number("direction_id", Some(2));
            connection.word("protocol_name", Some("tcp"));
        });
        line.group("actor", |actor| {
            actor.group("user", |user| {
                user.of("identity", |user| user.bytes("name", self.identity.map(str::as_bytes), 1024));
            });
        });
        let request = if class == HTTP_ACTIVITY { "http_request" } else { "proxy_http_request" };
        line.group(request, |request| self.write_request(request, known.is_some()));
        if class == HTTP_ACTIVITY {
            line.group("http_response", |response| response.number("code", self.status.map(u64::from)));
        }
        line.group("policy", |policy| {
            policy.of("policy", |policy| policy.bytes("name", self.policy.map(str::as_bytes), 256));
        });
        line.group("firewall_rule", |rule| {
            rule.of("rule", |rule| rule.bytes("name", self.rule.map(str::as_bytes), 1024));
            rule.of("rule_source", |rule| rule.shown("uid", self.rule_source, RULE_SOURCE));
        });
        line.group("traffic", |traffic| {
            traffic.number("bytes_out", self.sent.map(|bytes| bytes.min(LONG)));
            traffic.number("bytes_in", self.received.map(|bytes| bytes.min(LONG)));
        });
        line.rest("unmapped", |rest| {
            if known.is_none() {
                rest.bytes("method", self.method.as_ref().map(AsRef::as_ref), 64);
            }
            rest.bytes("sni", self.sni.as_ref().map(AsRef::as_ref), 1024);
            rest.milliseconds("duration_ms", self.duration);
            write_rest(self, rest);
            write_last(self, rest);
        });
        line.close();
    }

    fn write_request(&self, request: &mut Object<'_>, known: bool) {
        request.plain("uid", Some(self.id));
        if known {
            request.bytes("http_method", self.method.as_ref().map(AsRef::as_ref), 64);
        }
        request.group("url", |url| write_url(self, url, "url_string", "hostname"));
        request.bytes("user_agent", self.user_agent.as_ref().map(AsRef::as_ref), 1024);
    }

    fn known_method(&self) -> Option<u64> {
        let method = self.method?;
        METHODS.iter().find(|(name, _)| *name == method.0).map(|(_, activity)| *activity)
    }

    fn network_activity(&self) -> u64 {
        match (self.event, self.ending) {
            (Event::Open, _) => 1,
            (Event::Close, Some(Ending::ClientReset | Ending::UpstreamReset)) => 3,
            (Event::Close, _) => 2,
            (Event::Error, _) => 4,
            (Event::Deny, _) => 5,
            (Event::Progress, _) => 6,
            _ => OTHER,
        }
    }
}

/// Which program wrote the line, and when.
pub(super) fn write_metadata(
    profiles: &[&'static str],
    time: Timestamp,
    event: &'static str,
    metadata: &mut Object<'_>,
) {
    metadata.word("version", Some(OCSF_VERSION));
    metadata.group("product", |product| {
        product.word("name", Some("egressd"));
        product.word("vendor_name", Some("egressd"));
        product.word("version", Some(env!("CARGO_PKG_VERSION")));
    });
    if !profiles.is_empty() {
        metadata.words("profiles", profiles);
    }
    metadata.plain("original_time", Some(time));
    metadata.word("event_code", Some(event));
}
