//! `/api/decisions`: what was recently refused or failed, with the rule that would allow it, and all requests by rule.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::query::{Query, cut};
use super::refusals::{self, Choices, Domain, Listed};
use crate::rules::{DeniedRequest, NewEntry, Policy, Recorded, Remedy, no_proxy};
use crate::session::refuse::reply;
use crate::state::recent::{AskedFor, Group};
use crate::state::shared::Shared;
use crate::telemetry::metrics::{RequestCount, VerdictCounts};
use crate::telemetry::record::Cause;
use crate::wire::auth_scheme::AuthScheme;
use crate::words::outcome::{Decision, Reason};
use crate::words::target::{Host, Method, Target};

#[derive(Serialize)]
pub(super) struct Decisions {
    now: Timestamp,
    /// Requests since the start, including those of policies that were removed.
    verdicts: VerdictCounts,
    /// How many groups there are.
    total: usize,
    /// How many of them are as the query asks.
    matching: usize,
    /// How many of these are listed, on all pages: `per_domain` leaves some out.
    listed: usize,
    /// What was refused or failed, the most recent first; or by domain, the one with the most recent first.
    refused: Vec<RefusedGroup>,
    /// The domains of these, in this order.
    domains: Vec<Domain>,
    /// What the parameters may be.
    choices: Choices,
    /// How many series of `egressd_requests_total` there are.
    requests_total: usize,
    /// Those with the most requests.
    requests: Vec<RequestCount>,
}

#[derive(Serialize)]
struct RefusedGroup {
    /// The same in each answer, until a restart.
    key: String,
    /// The registrable domain of the target, or what stands for it.
    domain: String,
    /// `deny`, `error`, or `would_deny` of report mode.
    kind: &'static str,
    target: Option<String>,
    /// `CONNECT` or `http`; none if the target is malformed or missing.
    method: Option<&'static str>,
    /// The request, if a rule allows the connection and not this request on it: `PUT /v1/x`.
    request: Option<String>,
    /// What was recognised in the last one: what it asks of Git, and by whose credentials.
    recognised: Option<String>,
    reason: &'static str,
    policy: Option<String>,
    rule: Option<String>,
    listener: String,
    count: u64,
    first: Timestamp,
    last: Timestamp,
    /// The id of the last one's record in the log.
    id: Option<String>,
    /// The last one's client.
    client: Option<String>,
    clients: Vec<String>,
    more_clients: bool,
    identity: Option<String>,
    sni: Option<String>,
    /// The scheme of the last one's credentials, which were refused.
    auth_scheme: Option<&'static str>,
    /// The rules in force allow it.
    allowed_now: bool,
    /// What the reason means, whatever the request.
    meaning: &'static str,
    advice: String,
    allow: Option<Allow>,
}

/// What would allow it.
#[derive(Serialize)]
struct Allow {
    /// The line to paste into the list.
    line: String,
    /// The rule alone, as a line of an allow file; none if it needs options.
    rule: Option<String>,
    /// Where to paste it.
    place: String,
    warnings: Vec<String>,
}

pub(super) fn of(query: &Query, shared: &Shared) -> Decisions {
    let now = Timestamp::now();
    let page = refusals::page(query, shared.recent.groups(now));
    let (requests, requests_total) = shared.metrics.requests_by_rule(query.limit);
    Decisions {
        now,
        verdicts: shared.metrics.verdicts(),
        total: page.total,
        matching: page.matching,
        listed: page.listed,
        refused: page.refused.iter().map(|one| shown(one, shared, now)).collect(),
        domains: page.domains,
        choices: page.choices,
        requests_total,
        requests,
    }
}

fn shown(one: &Listed, shared: &Shared, now: Timestamp) -> RefusedGroup {
    let group = &*one.group;
    let config = shared.current.load();
    let policy = group.policy.as_deref();
    let remedy = match (&group.asked, group.cause) {
        (AskedFor::Target(target), Cause::Refused(reason)) => remedy(group, target, reason, shared, now),
        _ => Remedy::default(),
    };
    let allow = remedy.line().map(|line| {
        let owner = config.policies.iter().find(|known| policy == Some(known.name()));
        let main = config.files.first().map(|file| file.display().to_string());
        let file = main.as_deref().map(|main| owner.and_then(Policy::file).unwrap_or(main));
        Allow {
            line,
            rule: remedy.rule.clone().filter(|_| remedy.options.is_none()),
            place: match &remedy.entry {
                Some(entry) => place_of_entry(entry),
                None => place(owner, file.unwrap_or("the configuration"), remedy.first),
            },
            warnings: remedy.warnings.clone(),
        }
    });
    let general = match group.cause {
        Cause::Refused(reason) => reply::advice(reason),
        Cause::ClientGone => "the client left before there was a verdict",
    };
    RefusedGroup {
        key: format!("{:016x}", one.number),
        domain: one.domain.clone(),
        kind: refusals::kind(group),
        method: match &group.asked {
            AskedFor::Target(target) => Some(match target.method {
                Method::Connect => "CONNECT",
                Method::Http => "http",
            }),
            AskedFor::Malformed(_) | AskedFor::Nothing => None,
        },
        target: (group.asked != AskedFor::Nothing).then(|| group.asked.to_string()),
        request: group.asks().map(|asks| format!("{} {}", asks.method, asks.path)),
        recognised: group.recognised.as_deref().map(str::to_owned),
        reason: group.cause.as_str(),
        policy: policy.map(str::to_owned),
        rule: group.rule.as_deref().map(cut),
        listener: group.listener.to_string(),
        count: group.count,
        first: group.first,
        last: group.last,
        id: (group.id != Uuid::nil()).then(|| group.id.to_string()),
        client: group.client.map(|client| client.to_string()),
        clients: group.clients.iter().map(ToString::to_string).collect(),
        more_clients: group.more_clients,
        identity: group.identity.as_deref().map(str::to_owned),
        sni: group.sni.as_deref().map(str::to_owned),
        auth_scheme: group.auth_scheme.map(AuthScheme::as_str),
        allowed_now: remedy.allowed_now,
        meaning: general,
        // Of a request whose rule asks what it is, the rules told its client more than its method and path tell them now.
        advice: remedy
            .advice
            .or(group.told.as_ref().map(|(told, _)| told.to_string()))
            .unwrap_or_else(|| general.to_owned()),
        allow,
    }
}

fn remedy(group: &Group, target: &Target, reason: Reason, shared: &Shared, now: Timestamp) -> Remedy {
    let config = shared.current.load();
    if group.expected {
        let advice = "`egressd doctor` asked for it to be refused, or a client that sends its User-Agent: no rule is needed";
        return Remedy { advice: Some(advice.to_owned()), ..Remedy::default() };
    }
    if is_itself(target, shared) {
        return Remedy { advice: Some(no_proxy::itself(target).to_string()), ..Remedy::default() };
    }
    if config.upstream_proxy.as_ref().is_some_and(|parent| !parent.except.contains(&target.host))
        && let Some(advice) = reply::advice_for_parent(reason)
    {
        return Remedy { advice: Some(advice.to_owned()), ..Remedy::default() };
    }
    let offered = group.told.as_ref().and_then(|(_, entry)| entry.as_deref());
    let request = group.asks().map(|asks| DeniedRequest {
        method: asks.method,
        path: asks.path,
        within: asks.within,
        offered,
    });
    let recorded = Recorded {
        policy: group.policy.as_deref(),
        reason,
        would_deny: group.decision == Some(Decision::WouldDeny),
        target,
        sni: group.sni.as_deref(),
        request,
    };
    config.policies.remedy_of_record(recorded, now)
}

/// Whether the target is an address of ours.
fn is_itself(target: &Target, shared: &Shared) -> bool {
    match target.host {
        Host::Address(address) => shared.own.holds(SocketAddr::new(address, target.port.get())),
        Host::Name(_) => false,
    }
}

pub(super) fn place_of_entry(entry: &NewEntry) -> String {
    match &entry.rule {
        Some(rule) => format!("under `requests` of `{}` ({})", rule.text, rule.source),
        None => "under `requests` of the rule".to_owned(),
    }
}

fn place(policy: Option<&Policy>, file: &str, first: bool) -> String {
    let Some(policy) = policy else { return format!("under `allow` of a policy in {file}") };
    if first {
        return format!("as the first line under `allow` of policy `{}` in {file}", policy.name());
    }
    let mut lists: Vec<&str> = policy.allow_files().collect();
    lists.truncate(3);
    let also = match lists.as_slice() {
        [] => String::new(),
        lists => format!(", or without the `- ` into {}", lists.join(" or ")),
    };
    format!("under `allow` of policy `{}` in {file}{also}", policy.name())
}
