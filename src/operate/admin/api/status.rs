//! `/api/status`: health, the configuration in force and since when, what needs attention, and the last hour.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::ready::not_ready;
use super::policy;
use super::policy::Rule;
use super::query::cut;
use crate::config::{Config, Finding, OnLogFailure};
use crate::operate::{apply, memory};
use crate::rules::{Mode, Policy};
use crate::state::history::{INTERVAL, Sample};
use crate::state::in_force::InForce;
use crate::state::shared::Shared;
use crate::telemetry::metrics::VerdictCounts;
use crate::transport::purse::bank::OnFailure;
use crate::transport::tls::ClientTrust;
use crate::words::client::Protocol;
use crate::words::counted::counted;
use crate::words::small_sort::SmallSort as _;

/// Findings of a refused reload that are shown; stderr has all of them.
const FINDINGS: usize = 50;
/// Policies in report mode that are named.
const REPORTING: usize = 5;
/// Rules with an expiry that are shown, the earliest first.
const EXPIRING: usize = 100;
/// A rule or a certificate needs attention from this long before it expires.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// A revocation list, from this long before it is due: many CAs issue one for a week or less, and renew it in time.
const LIST_SOON: SignedDuration = SignedDuration::from_hours(24);

#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    revision: &'static str,
    instance: String,
    now: Timestamp,
    started: Timestamp,
    /// Why `/readyz` answers 503; none if it answers 200.
    not_ready: Option<&'static str>,
    draining: bool,
    config: Configuration,
    listeners: Vec<Listener>,
    limits: LimitsView,
    access_log: Log,
    /// The store in which replicas count upload budgets together; none if there is none.
    shared_state: Option<Store>,
    tunnels: usize,
    exchanges: usize,
    /// Kinds of refusals and failures in the last 24 hours.
    refused_kinds: usize,
    verdicts: VerdictCounts,
    /// What is probably wrong, one line each.
    warnings: Vec<String>,
    expiring: Expiring,
    history: History,
}

#[derive(Serialize)]
struct Configuration {
    sha256: String,
    since: Timestamp,
    /// The built-in configuration is in force: no file was given.
    default: bool,
    files: Vec<String>,
    policies: usize,
    rules: usize,
    /// The first policies in report mode: they let out every host.
    report_mode: Vec<String>,
    /// How many there are.
    report_mode_total: usize,
    last_reload: LastReload,
}

#[derive(Serialize)]
struct LastReload {
    at: Timestamp,
    successful: bool,
    /// How many findings there were.
    total: usize,
    findings: Vec<Told>,
}

#[derive(Serialize)]
struct Told {
    file: String,
    line: u32,
    column: u32,
    severity: String,
    text: String,
}

#[derive(Serialize)]
struct Listener {
    name: String,
    address: String,
    /// `http`, `socks5`; or `transparent` alone.
    protocols: Vec<&'static str>,
    proxy_protocol: bool,
    tls: bool,
    client_certificates: bool,
    basic_auth: bool,
    certificate_expires: Option<Timestamp>,
}

#[derive(Serialize)]
struct LimitsView {
    /// The configured number, or less if descriptors or memory allow less.
    tunnels: usize,
    tunnels_configured: usize,
    descriptors: u64,
    descriptors_open: Option<u64>,
    /// Bytes that may be held for peers, and that are.
    memory: usize,
    memory_held: usize,
}

#[derive(Serialize)]
struct Log {
    available: bool,
    unavailable_seconds: Option<f64>,
    on_failure: &'static str,
    queued: usize,
    written: u64,
    lost: u64,
    /// The last seal on the output; none if the log is not sealed.
    seal: Option<SealView>,
}

/// What `egressd verify --expect` reads, if somebody keeps it.
#[derive(Serialize)]
struct SealView {
    boot: String,
    number: u64,
    /// The last sealed record; none if no record is sealed yet.
    seq: Option<u64>,
    hash: String,
    key: String,
    time: Timestamp,
}

#[derive(Serialize)]
struct Store {
    url: String,
    /// Whether it answers; none if nothing is asked, because no rule has a budget.
    up: Option<bool>,
    since_seconds: f64,
    /// Why it does not.
    why: Option<String>,
    on_failure: &'static str,
    replicas: Option<u32>,
}

#[derive(Serialize)]
struct Expiring {
    /// How many rules have an expiry, including expired ones.
    total: usize,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
struct History {
    interval_seconds: u64,
    samples: Vec<Sample>,
}

pub(super) fn of(shared: &Shared) -> Status {
    let in_force = shared.current.in_force();
    let config = &*in_force.config;
    let now = Timestamp::now();
    let expiring = expiring(config);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("EGRESSD_REVISION").unwrap_or("unknown"),
        instance: cut(&shared.instance),
        now,
        started: shared.started,
        not_ready: not_ready(shared),
        draining: shared.drain.is_going(),
        config: configuration(&in_force),
        listeners: config.listeners.iter().map(listener).collect(),
        limits: limits(config, shared),
        access_log: log(config, shared),
        shared_state: store(config, shared),
        tunnels: shared.live.tunnels(),
        exchanges: shared.live.exchanges(),
        refused_kinds: shared.recent.kinds(now),
        verdicts: shared.metrics.verdicts(),
        warnings: warnings(&in_force, shared, &expiring, now),
        expiring,
        history: History { interval_seconds: INTERVAL.as_secs(), samples: shared.history.samples() },
    }
}

fn configuration(in_force: &InForce) -> Configuration {
    let (config, last) = (&in_force.config, &in_force.last_reload);
    let findings = if last.is_successful() { &in_force.warnings } else { &last.refused };
    let reporting: Vec<&Policy> =
        config.policies.iter().filter(|policy| policy.mode() == Mode::Report).collect();
    Configuration {
        sha256: config.hash.to_string(),
        since: in_force.since,
        default: config.files.is_empty(),
        files: config.files.iter().take(FINDINGS).map(|file| cut(&file.display().to_string())).collect(),
        policies: config.policies.iter().count(),
        rules: config.policies.iter().map(Policy::rule_count).sum(),
        report_mode: reporting.iter().take(REPORTING).map(|policy| cut(policy.name())).collect(),
        report_mode_total: reporting.len(),
        last_reload: LastReload {
            at: last.at,
            successful: last.is_successful(),
            total: findings.len(),
            findings: findings.iter().take(FINDINGS).map(told).collect(),
        },
    }
}

fn told(finding: &Finding) -> Told {
    Told {
        file: cut(&finding.file),
        line: finding.line,
        column: finding.column,
        severity: finding.severity.to_string(),
        text: cut(&finding.text),
    }
}

fn listener(listener: &crate::config::Listener) -> Listener {
    let tls = listener.tls.as_ref().map(|tls| &tls.server);
    Listener {
        name: listener.name.to_string(),
        address: listener.address.to_string(),
        protocols: listener.protocols.iter().map(Protocol::as_str).collect(),
        proxy_protocol: listener.proxy_protocol.is_some(),
        tls: tls.is_some(),
        client_certificates: tls.is_some_and(crate::transport::tls::ServerTls::verifies_clients),
        basic_auth: listener.basic_auth.is_some(),
        certificate_expires: tls.map(crate::transport::tls::ServerTls::expires),
    }
}

fn limits(config: &Config, shared: &Shared) -> LimitsView {
    LimitsView {
        tunnels: shared.most_tunnels(config),
        tunnels_configured: config.limits.tunnels,
        descriptors: shared.descriptors,
        descriptors_open: open_descriptors(),
        memory: shared.held.limit(),
        memory_held: shared.held.sum(),
    }
}

/// From Linux 6.2 on, the directory's size is their number; before that they are counted.
fn open_descriptors() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match std::fs::metadata(DIRECTORY).ok()?.len() {
        0 => u64::try_from(std::fs::read_dir(DIRECTORY).ok()?.count()).ok(),
        some => Some(some),
    }
}

fn log(config: &Config, shared: &Shared) -> Log {
    let counts = shared.log.counts();
    Log {
        available: shared.log.is_available(),
        unavailable_seconds: shared.log.unavailable_for().as_ref().map(Duration::as_secs_f64),
        on_failure: match config.access_log.on_failure {
            OnLogFailure::Deny => "deny",
            OnLogFailure::Continue => "continue",
        },
        queued: counts.queued,
        written: counts.written,
        lost: counts.lost,
        seal: shared.log.last_seal().map(|last| SealView {
            boot: last.boot.to_string(),
            number: last.number,
            seq: last.records.checked_sub(1),
            hash: last.hash.to_string(),
            key: last.key.to_string(),
            time: last.time,
        }),
    }
}

fn store(config: &Config, shared: &Shared) -> Option<Store> {
    let settings = config.shared_state.as_ref()?;
    let told = shared.budgets.store()?.standing().told();
    Some(Store {
        url: cut(&settings.url.to_string()),
        up: told.up,
        since_seconds: told.since.as_secs_f64(),
        why: told.why.map(|why| cut(&why)),
        on_failure: match settings.on_failure {
            OnFailure::Deny => "deny",
            OnFailure::Local => "local",
        },
        replicas: settings.replicas,
    })
}

fn expiring(config: &Config) -> Expiring {
    // There are nearly always none, and up to a million rules to search.
    if config.policies.next_expiry(Timestamp::MIN).is_none() {
        return Expiring { total: 0, rules: Vec::new() };
    }
    let mut rules: Vec<_> = config.policies.rules().filter(|rule| rule.expires().is_some()).collect();
    rules.small_sort_by_key(|rule| rule.expires());
    let total = rules.len();
    Expiring { total, rules: rules.into_iter().take(EXPIRING).map(policy::Rule::of).collect() }
}

fn warnings(in_force: &InForce, shared: &Shared, expiring: &Expiring, now: Timestamp) -> Vec<String> {
    let config = &*in_force.config;
    let mut warnings = Vec::new();
    for listener in &shared.listeners {
        if let Some(told) = listener.hidden_clients() {
            warnings.push(format!("listener {}: {told}", listener.name));
        }
    }
    if config.files.is_empty() {
        warnings.push("the built-in configuration is in force: no file was given".to_owned());
    }
    warnings.extend(apply::reduction(config, shared));
    warnings.extend(memory::reduced_accounts(shared.held.limit(), config));
    warnings.extend(memory::beyond(config));
    let told = shared.budgets.store().map(|store| store.standing().told());
    if let Some(told) = told.filter(|told| told.up == Some(false)) {
        let why = told.why.as_deref().unwrap_or("it has not answered yet");
        let meanwhile = match config.shared_state.as_ref().map(|store| store.on_failure) {
            Some(OnFailure::Local) => "each replica has its part of them",
            Some(OnFailure::Deny) | None => "what has one is refused once its lease is used up",
        };
        warnings.push(cut(&format!("the store of the upload budgets cannot be asked ({why}): {meanwhile}")));
    }
    let counts = shared.log.counts();
    if counts.lost > 0 {
        warnings.push(counted(counts.lost, "access log record was lost", "access log records were lost"));
    }
    for listener in &config.listeners {
        let expires = listener.tls.as_ref().map(|tls| tls.server.expires());
        if let Some(moment) = expires.filter(|moment| moment.duration_since(now) < SOON) {
            let word = if moment < now { "expired at" } else { "expires at" };
            warnings.push(format!("the certificate of listener {} {word} {moment}", listener.name));
        }
        let trust = listener.tls.as_ref().and_then(|tls| tls.server.clients());
        for (due, issuer) in trust.map(ClientTrust::lists_due).unwrap_or_default() {
            let left = due.duration_since(now);
            let list = format!("the revocation list of {issuer} (client_crl of listener {})", listener.name);
            if left < SignedDuration::ZERO {
                warnings.push(format!(
                    "{list} was due to be renewed at {due}: the clients of this CA are refused"
                ));
            } else if left < LIST_SOON {
                warnings.push(format!("{list} is due to be renewed at {due}"));
            }
        }
    }
    let soon =
        |rule: &&Rule| rule.expires.is_some_and(|moment| moment > now && moment.duration_since(now) < SOON);
    match expiring.rules.iter().filter(soon).count() {
        0 => {}
        number => {
            warnings.push(format!("{} within 14 days", counted(number, "rule expires", "rules expire")))
        }
    }
    let found = &in_force.warnings;
    warnings.extend(found.iter().take(FINDINGS).map(|finding| cut(&finding.to_string())));
    if let Some(more @ 1..) = found.len().checked_sub(FINDINGS) {
        warnings.push(format!(
            "{} on stderr, and by `egressd check`",
            counted(more, "more warning is", "more warnings are")
        ));
    }
    warnings
}
