//! One line of `access_log.format: ecs` or `ocsf`, by serde_json, which copies nothing of it.
//!
//! Only what egressd writes is read: another program's events of these schemas are no records. Where each field is:
//! [`ECS`](crate::telemetry::record::ECS) and [`OCSF`](crate::telemetry::record::OCSF).

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::entry::Entry;
use super::json::{event, number, text, time};

type Raw<'l> = Option<&'l RawValue>;

/// What neither schema has a field for.
#[derive(Default, Deserialize)]
struct Rest<'l> {
    #[serde(borrow)]
    listener: Raw<'l>,
    #[serde(borrow)]
    method: Raw<'l>,
    #[serde(borrow)]
    sni: Raw<'l>,
    #[serde(borrow)]
    mode: Raw<'l>,
    #[serde(borrow)]
    decision: Raw<'l>,
    #[serde(borrow)]
    tunnel: Raw<'l>,
    #[serde(borrow)]
    protocol: Raw<'l>,
    #[serde(borrow)]
    original: Raw<'l>,
    #[serde(borrow)]
    git: Raw<'l>,
    #[serde(borrow)]
    aws: Raw<'l>,
    #[serde(borrow)]
    suppressed: Raw<'l>,
}

#[derive(Deserialize)]
struct EcsLine<'l> {
    #[serde(borrow, rename = "@timestamp")]
    time: Raw<'l>,
    #[serde(borrow)]
    event: EcsEvent<'l>,
    #[serde(borrow)]
    source: Option<Endpoint<'l>>,
    #[serde(borrow)]
    destination: Option<Endpoint<'l>>,
    #[serde(borrow)]
    user: Option<Named<'l>>,
    #[serde(borrow)]
    http: Option<EcsHttp<'l>>,
    #[serde(borrow)]
    url: Option<EcsUrl<'l>>,
    #[serde(borrow)]
    tls: Option<EcsTls<'l>>,
    #[serde(borrow)]
    rule: Option<EcsRule<'l>>,
    #[serde(borrow)]
    user_agent: Option<EcsUserAgent<'l>>,
    #[serde(borrow)]
    egressd: Rest<'l>,
}

#[derive(Deserialize)]
struct EcsEvent<'l> {
    #[serde(borrow)]
    action: Raw<'l>,
    #[serde(borrow)]
    reason: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct Endpoint<'l> {
    #[serde(borrow)]
    ip: Raw<'l>,
    #[serde(borrow)]
    port: Raw<'l>,
    #[serde(borrow)]
    bytes: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct Named<'l> {
    #[serde(borrow)]
    name: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct EcsHttp<'l> {
    #[serde(borrow)]
    request: Option<EcsRequest<'l>>,
    #[serde(borrow)]
    response: Option<EcsResponse<'l>>,
}

#[derive(Default, Deserialize)]
struct EcsRequest<'l> {
    #[serde(borrow)]
    method: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct EcsResponse<'l> {
    #[serde(borrow)]
    status_code: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct EcsUrl<'l> {
    #[serde(borrow)]
    original: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct EcsTls<'l> {
    #[serde(borrow)]
    client: Option<EcsTlsClient<'l>>,
}

#[derive(Default, Deserialize)]
struct EcsTlsClient<'l> {
    #[serde(borrow)]
    server_name: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct EcsRule<'l> {
    #[serde(borrow)]
    ruleset: Raw<'l>,
    #[serde(borrow)]
    name: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct EcsUserAgent<'l> {
    #[serde(borrow)]
    original: Raw<'l>,
}

/// A line of `format: ecs`.
pub(super) fn ecs(line: &str) -> Option<Entry<'_>> {
    let line: EcsLine<'_> = serde_json::from_str(line).ok()?;
    line.egressd.listener?;
    let (source, destination) = (line.source.unwrap_or_default(), line.destination.unwrap_or_default());
    let http = line.http.unwrap_or_default();
    let rule = line.rule.unwrap_or_default();
    Some(Entry {
        time: time(line.time)?,
        event: Some(event(line.event.action)?),
        client: text(source.ip)?,
        identity: text(line.user.unwrap_or_default().name)?,
        method: text(http.request.unwrap_or_default().method)?,
        target: text(line.url.unwrap_or_default().original)?,
        sni: text(line.tls.unwrap_or_default().client.unwrap_or_default().server_name)?,
        policy: text(rule.ruleset)?,
        rule: text(rule.name)?,
        reason: text(line.event.reason)?,
        upstream: text(destination.ip)?,
        upstream_port: port(destination.port)?,
        user_agent: text(line.user_agent.unwrap_or_default().original)?,
        sent: number(source.bytes)?,
        received: number(destination.bytes)?,
        status: number(http.response.unwrap_or_default().status_code)?,
        ..line.egressd.entry()?
    })
}

#[derive(Deserialize)]
struct OcsfLine<'l> {
    #[serde(borrow)]
    class_uid: Raw<'l>,
    /// A line has one meaning: what has this member is of another schema.
    event: Option<IgnoredAny>,
    #[serde(borrow)]
    metadata: OcsfMetadata<'l>,
    #[serde(borrow)]
    status_code: Raw<'l>,
    #[serde(borrow)]
    status_detail: Raw<'l>,
    #[serde(borrow)]
    src_endpoint: Option<Endpoint<'l>>,
    #[serde(borrow)]
    dst_endpoint: Option<Endpoint<'l>>,
    #[serde(borrow)]
    actor: Option<OcsfActor<'l>>,
    #[serde(borrow)]
    http_request: Option<OcsfRequest<'l>>,
    #[serde(borrow)]
    proxy_http_request: Option<OcsfRequest<'l>>,
    #[serde(borrow)]
    policy: Option<Named<'l>>,
    #[serde(borrow)]
    firewall_rule: Option<Named<'l>>,
    #[serde(borrow)]
    traffic: Option<OcsfTraffic<'l>>,
    #[serde(borrow)]
    unmapped: Rest<'l>,
}

#[derive(Deserialize)]
struct OcsfMetadata<'l> {
    #[serde(borrow)]
    original_time: Raw<'l>,
    #[serde(borrow)]
    event_code: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct OcsfActor<'l> {
    #[serde(borrow)]
    user: Option<Named<'l>>,
}

#[derive(Default, Deserialize)]
struct OcsfRequest<'l> {
    #[serde(borrow)]
    http_method: Raw<'l>,
    #[serde(borrow)]
    url: Option<OcsfUrl<'l>>,
    #[serde(borrow)]
    user_agent: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct OcsfUrl<'l> {
    #[serde(borrow)]
    url_string: Raw<'l>,
}

#[derive(Default, Deserialize)]
struct OcsfTraffic<'l> {
    #[serde(borrow)]
    bytes_out: Raw<'l>,
    #[serde(borrow)]
    bytes_in: Raw<'l>,
}

/// Network Activity and HTTP Activity.
const CLASSES: [u64; 2] = [4001, 4002];

/// A line of `format: ocsf`.
pub(super) fn ocsf(line: &str) -> Option<Entry<'_>> {
    let line: OcsfLine<'_> = serde_json::from_str(line).ok()?;
    line.unmapped.listener?;
    if line.event.is_some() || !CLASSES.contains(&number(line.class_uid)??) {
        return None;
    }
    let upstream = line.dst_endpoint.unwrap_or_default();
    let traffic = line.traffic.unwrap_or_default();
    let request = line.http_request.or(line.proxy_http_request).unwrap_or_default();
    let status = text(line.status_code)?.map(|status| status.decoded().parse().ok());
    Some(Entry {
        time: time(line.metadata.original_time)?,
        event: Some(event(line.metadata.event_code)?),
        client: text(line.src_endpoint.unwrap_or_default().ip)?,
        identity: text(line.actor.unwrap_or_default().user.unwrap_or_default().name)?,
        method: text(request.http_method.or(line.unmapped.method))?,
        target: text(request.url.unwrap_or_default().url_string)?,
        sni: text(line.unmapped.sni)?,
        policy: text(line.policy.unwrap_or_default().name)?,
        rule: text(line.firewall_rule.unwrap_or_default().name)?,
        reason: text(line.status_detail)?,
        upstream: text(upstream.ip)?,
        upstream_port: port(upstream.port)?,
        user_agent: text(request.user_agent)?,
        sent: number(traffic.bytes_out)?,
        received: number(traffic.bytes_in)?,
        status: status.flatten(),
        ..line.unmapped.entry()?
    })
}

impl<'l> Rest<'l> {
    fn entry(&self) -> Option<Entry<'l>> {
        Some(Entry {
            listener: text(self.listener)?,
            mode: text(self.mode)?,
            decision: text(self.decision)?,
            tunnel: text(self.tunnel)?,
            protocol: text(self.protocol)?,
            original: text(self.original)?,
            git: self.git.map(RawValue::get),
            aws: self.aws.map(RawValue::get),
            suppressed: number(self.suppressed)?.unwrap_or(0),
            ..Entry::default()
        })
    }
}

/// A port or null; the outer None: it is neither.
fn port(value: Raw<'_>) -> Option<Option<u16>> {
    match number(value)? {
        Some(port) => u16::try_from(port).ok().map(Some),
        None => Some(None),
    }
}
