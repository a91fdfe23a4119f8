//! Every series that egressd offers to Prometheus.
//!
//! Labels come from the configuration and from our own lists of words, never from a request: the functions here take
//! the shared labels of a policy and a rule, and enums, so that a hostile client cannot increase the number of series.
//! What other code already counts (live tunnels, their bytes, the log's records) is read at the scrape and not counted
//! twice. Not here: the listener that serves it ([`crate::operate::admin`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use self::at_scrape::{AtScrape, Shown};
use self::configured::{Configured, policies_of};
pub use self::expiries::Expiries;
pub use self::inspection::Inspection;
use self::log_seals::LogSeals;
use self::report_mode::ReportMode;
pub use self::requests::RequestCount;
use self::requests::Tables;
pub use self::rule_use::RuleUse;
use self::rule_use::rule_uses;
use self::totals::SETUP_SECONDS;
use super::access_log::AccessLog;
use super::record::Cause;
use crate::config::Config;
use crate::outbound::dial::{DialError, Dialled};
use crate::transport::held::HeldBytes;
use crate::words::git::Change;
use crate::words::outcome::{Class, Decision, Ending, Reason};
use crate::words::small_sort::SmallSort as _;

mod at_scrape;
mod budget_accounts;
mod configured;
mod connections;
mod expiries;
mod inspection;
mod log_seals;
mod ref_changes;
mod report_mode;
mod requests;
mod rule_use;
mod totals;
mod usage;

pub use self::budget_accounts::{BudgetAccounts, BudgetSource};
pub use self::connections::{ConnectionResult, Connections};
pub use self::totals::{SetupCounts, VerdictCounts};
pub use self::usage::{PolicyUsage, UsageSource};

/// From a fetch of one ref to a connection that was kept for a day.
const TUNNEL_SECONDS: &[f64] =
    &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];

/// The Content-Type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What a reason says about the way to a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// A lookup failed.
    Lookup,
    /// A dial failed.
    Dial,
    /// Nothing.
    Neither,
}

fn way(reason: Reason) -> Way {
    match reason.class() {
        Class::Lookup => Way::Lookup,
        Class::Connect | Class::Resources => Way::Dial,
        Class::Connection
        | Class::Form
        | Class::Challenge
        | Class::Credentials
        | Class::Client
        | Class::NotListed
        | Class::Expired
        | Class::Denied
        | Class::Request
        | Class::Upload
        | Class::Address
        | Class::NoTls
        | Class::ServerName
        | Class::Hello
        | Class::Inspection
        | Class::Certificate
        | Class::TargetNotTls
        | Class::Rate
        | Class::ClientLimit
        | Class::Limit
        | Class::Upstream
        | Class::Service => Way::Neither,
    }
}

/// The possible results of a lookup or a dial; each series exists from the start, so that `rate()` sees the first
/// failure.
fn results(of: Way) -> impl Iterator<Item = Result<(), Reason>> {
    let failures = Reason::ALL.iter().filter(move |reason| way(**reason) == of);
    std::iter::once(Ok(())).chain(failures.map(|reason| Err(*reason)))
}

/// The result as it is counted: a failure that does not belong to this step counts as `other`.
fn known(of: Way, result: Result<(), Reason>, other: Reason) -> Result<(), Reason> {
    result.map_err(|reason| if way(reason) == of { reason } else { other })
}

/// All counters. One for the whole program.
pub struct Metrics {
    registry: Registry,
    usage: Arc<dyn UsageSource>,
    requests: Arc<Tables>,
    at_scrape: AtScrape,
    auth_challenges: IntCounter,
    tunnels: IntCounterVec,
    tunnel_duration: Histogram,
    dns_duration: HistogramVec,
    connect_duration: HistogramVec,
    setup_duration: Histogram,
    connections: IntCounterVec,
    panics: IntCounter,
    addresses_refused: IntCounter,
    report_mode: ReportMode,
    ready: IntGauge,
    reload_successful: IntGauge,
    reload_success_time: Gauge,
    /// What expires.
    pub expiries: Expiries,
    /// The authority for inspection.
    pub inspection: Inspection,
}

impl Metrics {
    /// All series, registered in a separate registry. `usage`, `log` and `held` are read at each scrape.
    ///
    /// # Errors
    /// If two series have the same name, or a name is not valid: a mistake in this file.
    pub fn new(
        usage: Arc<impl UsageSource + 'static>,
        log: AccessLog,
        held: Arc<HeldBytes>,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let requests = Arc::new(Tables::default());
        let usage: Arc<dyn UsageSource> = usage;
        let log_seals = LogSeals::new(log.clone())?;
        let at_scrape = AtScrape::new(Arc::clone(&usage), log, Arc::clone(&requests), held)?;
        let build = IntGaugeVec::new(
            Opts::new("egressd_build_info", "The running egressd's version and source revision; always 1."),
            &["version", "revision"],
        )?;
        let revision = option_env!("EGRESSD_REVISION").unwrap_or("unknown");
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1);

        let metrics = Metrics {
            auth_challenges: IntCounter::new(
                "egressd_auth_challenges_total",
                "Requests answered with 407 because they carried no credentials; most clients then ask again with them.",
            )?,
            tunnels: IntCounterVec::new(
                Opts::new("egressd_tunnels_total", "Tunnels that passed bytes and ended, by how they ended."),
                &["policy", "ending"],
            )?,
            tunnel_duration: Histogram::with_opts(
                HistogramOpts::new(
                    "egressd_tunnel_duration_seconds",
                    "Lifetime of tunnels, from the request's head to the end.",
                )
                .buckets(TUNNEL_SECONDS.to_vec()),
            )?,
            dns_duration: HistogramVec::new(
                HistogramOpts::new(
                    "egressd_dns_lookup_duration_seconds",
                    "Name lookups, cache hits included, by their result.",
                )
                .buckets(SETUP_SECONDS.to_vec()),
                &["result"],
            )?,
            connect_duration: HistogramVec::new(
                HistogramOpts::new(
                    "egressd_connect_duration_seconds",
                    "Time to connect to a target, over all its addresses, by the result.",
                )
                .buckets(SETUP_SECONDS.to_vec()),
                &["result"],
            )?,
            setup_duration: Histogram::with_opts(
                HistogramOpts::new(
                    "egressd_setup_duration_seconds",
                    "From the complete head of a CONNECT to its 200: decision, lookup and dial.",
                )
                .buckets(SETUP_SECONDS.to_vec()),
            )?,
            connections: IntCounterVec::new(
                Opts::new(
                    "egressd_connections_total",
                    "TCP connections to a listener, by what happened to them before a request was read.",
                ),
                &["listener", "result"],
            )?,
            panics: IntCounter::new(
                "egressd_panics_total",
                "Tasks of egressd that panicked; each is a bug, and its request was denied.",
            )?,
            addresses_refused: IntCounter::new(
                "egressd_addresses_refused_total",
                "Addresses from lookups that were not dialled because they are prohibited.",
            )?,
            ready: IntGauge::new(
                "egressd_ready",
                "The answer of /readyz, whether a load balancer may send new connections: 1, or 0 while draining or while the access log fails.",
            )?,
            reload_successful: IntGauge::new(
                "egressd_config_last_reload_successful",
                "Whether the newest configuration is the one in use: 1, or 0 if it was refused.",
            )?,
            reload_success_time: Gauge::new(
                "egressd_config_last_reload_success_timestamp_seconds",
                "When the start or a reload last found that the files match the configuration in use, in seconds since the epoch.",
            )?,
            report_mode: ReportMode::new()?,
            expiries: Expiries::new()?,
            inspection: Inspection::new()?,
            registry,
            usage,
            requests,
            at_scrape,
        };
        let all: Vec<Box<dyn Collector>> = vec![
            Box::new(build),
            Box::new(metrics.at_scrape.clone()),
            Box::new(log_seals),
            Box::new(metrics.auth_challenges.clone()),
            Box::new(metrics.tunnels.clone()),
            Box::new(metrics.tunnel_duration.clone()),
            Box::new(metrics.dns_duration.clone()),
            Box::new(metrics.connect_duration.clone()),
            Box::new(metrics.setup_duration.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.panics.clone()),
            Box::new(metrics.addresses_refused.clone()),
            Box::new(metrics.report_mode.clone()),
            Box::new(metrics.ready.clone()),
            Box::new(metrics.reload_successful.clone()),
            Box::new(metrics.reload_success_time.clone()),
            Box::new(ProcessCollector::for_self()),
        ];
        for collector in
            all.into_iter().chain(metrics.expiries.collectors()).chain(metrics.inspection.collectors())
        {
            metrics.registry.register(collector)?;
        }
        for result in results(Way::Lookup) {
            metrics.dns_duration.with_label_values(&[result_word(result)]);
        }
        for result in results(Way::Dial) {
            metrics.connect_duration.with_label_values(&[result_word(result)]);
        }
        Ok(metrics)
    }

    /// The text of a scrape, in [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// If the series contradict each other: a mistake in this file.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    // --- requests and tunnels

    /// A request got its final verdict: call it once for each. `policy` and `rule` if there is one; no `decision` if
    /// it failed before the rules were applied.
    pub fn request(
        &self,
        policy: Option<&Arc<str>>,
        rule: Option<&Arc<str>>,
        decision: Option<Decision>,
        reason: Option<Cause>,
    ) {
        self.requests.all.count(policy, rule, decision, reason, Timestamp::now());
    }

    /// The same at `now` for a request inside a tunnel, which is counted here alone.
    pub fn inspected_request(
        &self,
        now: Timestamp,
        policy: Option<&Arc<str>>,
        rule: Option<&Arc<str>>,
        decision: Option<Decision>,
        reason: Option<Cause>,
    ) {
        self.requests.inside.count(policy, rule, decision, reason, now);
    }

    /// A tunnel that this rule let through is still open, or ended at `now`.
    pub fn rule_in_use(&self, policy: &Arc<str>, rule: &Arc<str>, now: Timestamp) {
        self.requests.all.still_used(policy, rule, now);
    }

    /// The changes of one push got their verdict.
    pub fn ref_changes(
        &self,
        policy: &Arc<str>,
        rule: &Arc<str>,
        decision: Decision,
        changes: impl Iterator<Item = Change>,
    ) {
        self.requests.ref_changes.count(policy, rule, decision, changes);
    }

    /// A 407 to a request without credentials, which is not a verdict yet.
    pub fn auth_challenge(&self) {
        self.auth_challenges.inc();
    }

    /// A CONNECT was answered with 200, this long after its head was read.
    pub fn setup(&self, took: Duration) {
        self.setup_duration.observe(took.as_secs_f64());
    }

    /// A tunnel that passed bytes ended.
    pub fn tunnel_ended(&self, policy: &Arc<str>, ending: Ending, lived: Duration) {
        self.tunnels.with_label_values(&[policy, ending.as_str()]).inc();
        self.tunnel_duration.observe(lived.as_secs_f64());
    }

    /// A name was looked up; `Err` with one of the `dns_*` reasons; any other reason counts as `dns_failed`.
    pub fn dns(&self, result: Result<(), Reason>, took: Duration) {
        let known = known(Way::Lookup, result, Reason::DnsFailed);
        self.dns_duration.with_label_values(&[result_word(known)]).observe(took.as_secs_f64());
    }

    /// The result of one dial, including its lookup if there was one.
    pub fn dialled(&self, result: &Result<Dialled, DialError>, by_name: bool) {
        match result {
            Ok(dialled) => {
                if by_name {
                    self.dns(Ok(()), dialled.dns);
                }
                self.connect(Ok(()), dialled.connect);
            }
            Err(error) => {
                if let Some(took) = error.dns {
                    let of_dns = way(error.reason) == Way::Lookup;
                    // If something was dialled or judged, DNS had returned an address.
                    let answered = error.connect.is_some() || error.denied.count > 0;
                    self.dns(if of_dns || !answered { Err(error.reason) } else { Ok(()) }, took);
                }
                if let Some(took) = error.connect {
                    self.connect(Err(error.reason), took);
                }
            }
        }
    }

    /// A target was dialled; `Err` with a `connect_*` reason or `local_resources`; any other reason counts as
    /// `connect_unreachable`.
    pub fn connect(&self, result: Result<(), Reason>, took: Duration) {
        let known = known(Way::Dial, result, Reason::ConnectUnreachable);
        self.connect_duration.with_label_values(&[result_word(known)]).observe(took.as_secs_f64());
    }

    /// Looked-up addresses were dropped because they are prohibited.
    pub fn addresses_refused(&self, count: usize) {
        self.addresses_refused.inc_by(count as u64);
    }

    /// A task panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// The counters of one listener, which it keeps.
    pub fn connections(&self, listener: &Arc<str>) -> Connections {
        let counter =
            |result: &ConnectionResult| self.connections.with_label_values(&[listener, result.as_str()]);
        Connections(ConnectionResult::ALL.iter().map(counter).collect())
    }

    // --- configuration

    /// `config` was put in force at `now`, by the start or by a reload. Series of removed policies and rules
    /// disappear.
    pub fn in_force(&self, config: &Config, now: Timestamp) {
        self.report_mode.in_force(config);
        self.configured(Configured::of(config, now));
    }

    fn configured(&self, new: Configured<'_>) {
        self.at_scrape.set_shown(Shown {
            sha256: new.sha256,
            policies: new.policies.clone(),
            rules: new.labels,
            rule_expiries: new.rule_expiries,
        });
        let keep = |policy: &str| policy.is_empty() || new.policies.iter().any(|known| **known == *policy);
        self.requests.retain(keep, new.rules);
        self.usage.retain_policies(&keep);
        for policy in policies_of(&self.tunnels).iter().filter(|policy| !keep(policy)) {
            for ending in Ending::ALL {
                // An error means that there is none, which is fine.
                let _ = self.tunnels.remove_label_values(&[policy, ending.as_str()]);
            }
        }
        for policy in &new.policies {
            for ending in Ending::ALL {
                self.tunnels.with_label_values(&[policy, ending.as_str()]);
            }
        }
        self.reload_confirmed(new.loaded_at);
    }

    /// A reload succeeded: the files match the configuration in force.
    pub fn reload_confirmed(&self, now: Timestamp) {
        self.reload_success_time.set(now.as_millisecond() as f64 / 1_000.0);
        self.reload_successful.set(1);
    }

    /// A reload was refused; the configuration in use stays.
    pub fn reload_failed(&self) {
        self.reload_successful.set(0);
    }

    /// The configuration that is put in force allows so many tunnels and exchanges.
    pub fn tunnels_limit(&self, tunnels: usize) {
        self.at_scrape.set_tunnels_limit(tunnels);
    }

    /// The answer of `/readyz`; set before each scrape.
    pub fn ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// Requests since the start, over all policies, including removed ones.
    pub fn verdicts(&self) -> VerdictCounts {
        self.requests.all.verdicts()
    }

    /// The same for requests inside tunnels, which are counted apart.
    pub fn verdicts_inside(&self) -> VerdictCounts {
        self.requests.inside.verdicts()
    }

    /// Setups since the start.
    pub fn setup_counts(&self) -> SetupCounts {
        SetupCounts::of(&self.setup_duration)
    }

    /// At most `most` of the series of `egressd_requests_total`, those with the most requests first, and how many
    /// there are.
    pub fn requests_by_rule(&self, most: usize) -> (Vec<RequestCount>, usize) {
        let mut rows = self.requests.all.rows();
        rows.small_sort_by_key(|row| std::cmp::Reverse(row.count));
        let all = rows.len();
        rows.truncate(most);
        (rows, all)
    }

    /// How each rule was used, by policy and label; with rules that were not used since the start, as far as they are
    /// shown.
    pub fn rules_used(&self) -> Vec<RuleUse> {
        self.at_scrape.with_rules(|rules| rule_uses(&self.requests, rules))
    }
}

fn result_word(result: Result<(), Reason>) -> &'static str {
    match result {
        Ok(()) => "success",
        Err(reason) => reason.as_str(),
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
