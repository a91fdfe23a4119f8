//! Series that are read at the moment of the scrape. Their sources are handed in by `operate/server`: `telemetry` is below
//! `state`, so what `state` counts implements [`UsageSource`] (in [`super::usage`]), or a trait like it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::super::access_log::AccessLog;
use super::super::otlp::OtlpCounts;
use super::requests::{RequestCount, Tables};
use super::rule_use::rule_uses;
use super::usage::{PolicyUsage, UsageSource};
use crate::transport::held::{HeldBytes, Kind};

/// One family: its name, help text and labels; it makes the samples.
pub(super) struct Family {
    desc: Desc,
    kind: MetricType,
}

impl Family {
    pub(super) fn new(name: &str, help: &str, labels: &[&str], kind: MetricType) -> prometheus::Result<Self> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Ok(Family { desc: Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?, kind })
    }

    pub(super) fn desc(&self) -> &Desc {
        &self.desc
    }

    /// `values` are the label values in the order of the labels, and the sample's value.
    pub(super) fn collect<'v, const N: usize>(
        &self,
        values: impl IntoIterator<Item = ([&'v str; N], f64)>,
    ) -> MetricFamily {
        let samples = values.into_iter().map(|(values, value)| self.sample(&values, value)).collect();
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric(samples);
        family
    }

    fn sample(&self, values: &[&str], value: f64) -> Metric {
        let pair = |(name, value): (&String, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value((*value).to_owned());
            pair
        };
        let labels = self.desc.variable_labels.iter().zip(values).map(pair).collect();
        let mut metric = Metric::from_label(labels);
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }
}

/// Cheap to clone: the registry has one, and [`super::Metrics`] the other.
#[derive(Clone)]
pub(super) struct AtScrape(Arc<Shared>);

struct Shared {
    usage: Arc<dyn UsageSource>,
    log: AccessLog,
    requests: Arc<Tables>,
    shown: RwLock<Shown>,
    requests_total: Family,
    inspected_total: Family,
    ref_changes_total: Family,
    tunnels_active: Family,
    bytes_total: Family,
    rule_expires: Family,
    rule_last_used: Family,
    config: Family,
    log_records: Family,
    otlp_records: Family,
    log_queue: Family,
    log_available: Family,
    held: Arc<HeldBytes>,
    held_bytes: Family,
    memory_limit: Family,
    tunnels_limit: Family,
    tunnels_now: AtomicUsize,
}

/// The data of the configuration in force. Replaced whole: a concurrent scrape sees the old or the new one, and never
/// none.
#[derive(Default)]
pub(super) struct Shown {
    /// Empty before the first.
    pub(super) sha256: String,
    pub(super) policies: Vec<Arc<str>>,
    /// Policy and label of its rules, or of the first of them.
    pub(super) rules: Vec<(Arc<str>, Arc<str>)>,
    /// Policy, rule label and expiry in seconds since the epoch; each label once.
    pub(super) rule_expiries: Vec<(Arc<str>, Arc<str>, f64)>,
}

impl AtScrape {
    pub(super) fn new(
        usage: Arc<dyn UsageSource>,
        log: AccessLog,
        requests: Arc<Tables>,
        held: Arc<HeldBytes>,
    ) -> prometheus::Result<Self> {
        use MetricType::{COUNTER, GAUGE};
        Ok(AtScrape(Arc::new(Shared {
            usage,
            log,
            requests,
            shown: RwLock::default(),
            requests_total: Family::new(
                "egressd_requests_total",
                "Requests, each counted once with its final verdict, by the policy and rule that decided.",
                &["policy", "rule", "decision", "reason"],
                COUNTER,
            )?,
            inspected_total: Family::new(
                "egressd_inspected_requests_total",
                "Requests inside tunnels, each counted once with its final verdict, by the policy and rule that decided.",
                &["policy", "rule", "decision", "reason"],
                COUNTER,
            )?,
            ref_changes_total: Family::new(
                "egressd_git_ref_changes_total",
                "Changes of refs in pushes that were judged by rules with git, by what happens to the ref and the push's verdict.",
                &["policy", "rule", "change", "decision"],
                COUNTER,
            )?,
            tunnels_active: Family::new("egressd_tunnels_active", "Tunnels open now.", &["policy"], GAUGE)?,
            bytes_total: Family::new(
                "egressd_bytes_total",
                "Bytes that clients sent to and received from targets; counted while they flow.",
                &["policy", "direction"],
                COUNTER,
            )?,
            rule_expires: Family::new(
                "egressd_rule_expires_timestamp_seconds",
                "When the rule stops matching, in seconds since the epoch; only for rules that expire.",
                &["policy", "rule"],
                GAUGE,
            )?,
            rule_last_used: Family::new(
                "egressd_rule_last_used_timestamp_seconds",
                "When the rule last let a request through, or denied one if it is a deny rule, in seconds since the epoch; 0 if not since the start.",
                &["policy", "rule"],
                GAUGE,
            )?,
            config: Family::new(
                "egressd_config_info",
                "The hash of the configuration in use with all files it names; always 1.",
                &["sha256"],
                GAUGE,
            )?,
            log_records: Family::new(
                "egressd_access_log_records_total",
                "Access log records: written, or lost (on_failure: continue, or the program ended first).",
                &["result"],
                COUNTER,
            )?,
            otlp_records: Family::new(
                "egressd_otlp_records_total",
                "Copies of access log records for the OTLP receiver (access_log.otlp): exported, dropped (there was no room), rejected (the receiver does not want them), lost (the program ended first).",
                &["result"],
                COUNTER,
            )?,
            log_queue: Family::new(
                "egressd_access_log_queue_records",
                "Access log records that wait for the output.",
                &[],
                GAUGE,
            )?,
            log_available: Family::new(
                "egressd_access_log_available",
                "Whether requests can be recorded: 1, or 0 while the output fails or stalls or the queue is full.",
                &[],
                GAUGE,
            )?,
            held,
            held_bytes: Family::new(
                "egressd_held_bytes",
                "Bytes of memory held for clients and targets, by what they are; their sum stays under egressd_memory_limit_bytes.",
                &["kind"],
                GAUGE,
            )?,
            memory_limit: Family::new(
                "egressd_memory_limit_bytes",
                "Most bytes that are held for clients and targets: limits.memory, or a part of the cgroup's memory; less while the cgroup is nearly full.",
                &[],
                GAUGE,
            )?,
            tunnels_limit: Family::new(
                "egressd_tunnels_limit",
                "Tunnels and exchanges that may be open: limits.tunnels, or less if descriptors or memory carry less.",
                &[],
                GAUGE,
            )?,
            tunnels_now: AtomicUsize::new(0),
        })))
    }

    pub(super) fn set_tunnels_limit(&self, tunnels: usize) {
        self.0.tunnels_now.store(tunnels, Ordering::Relaxed);
    }

    pub(super) fn set_shown(&self, shown: Shown) {
        *self.0.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Hands out policy and label of the configuration's rules, or of the first of them.
    pub(super) fn with_rules<T>(&self, read: impl FnOnce(&[(Arc<str>, Arc<str>)]) -> T) -> T {
        read(&self.0.shown.read().unwrap_or_else(PoisonError::into_inner).rules)
    }

    /// By policy; a policy that is configured but was never used is included with zeros.
    fn usage(&self) -> Vec<PolicyUsage> {
        let mut usage = self.0.usage.usage();
        let shown = self.0.shown.read().unwrap_or_else(PoisonError::into_inner);
        for policy in &shown.policies {
            if !usage.iter().any(|known| known.policy == *policy) {
                let policy = Arc::clone(policy);
                usage.push(PolicyUsage { policy, tunnels: 0, sent: 0, received: 0 });
            }
        }
        usage
    }
}

/// The labels and the value of one series of requests.
fn series(row: &RequestCount) -> ([&str; 4], f64) {
    ([&*row.policy, &*row.rule, row.decision, row.reason], row.count as f64)
}

// Counters are whole numbers that Prometheus reads as floating point: exact to 2^53, 8 PiB.
impl Collector for AtScrape {
    fn desc(&self) -> Vec<&Desc> {
        let Shared {
            requests_total,
            inspected_total,
            ref_changes_total,
            tunnels_active,
            bytes_total,
            rule_expires,
            rule_last_used,
            config,
            log_records,
            otlp_records,
            log_queue,
            log_available,
            held_bytes,
            memory_limit,
            tunnels_limit,
            ..
        } = &*self.0;
        [
            requests_total,
            inspected_total,
            ref_changes_total,
            tunnels_active,
            bytes_total,
            rule_expires,
            rule_last_used,
            config,
            log_records,
            otlp_records,
            log_queue,
            log_available,
            held_bytes,
            memory_limit,
            tunnels_limit,
        ]
        .map(|family| &family.desc)
        .to_vec()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let shared = &*self.0;
        let (rows, inspected) = (shared.requests.all.rows(), shared.requests.inside.rows());
        let changes = shared.requests.ref_changes.rows();
        let usage = self.usage();
        let counts = shared.log.counts();
        let shown = shared.shown.read().unwrap_or_else(PoisonError::into_inner);
        let used = rule_uses(&shared.requests, &shown.rules);
        vec![
            shared.requests_total.collect(rows.iter().map(series)),
            shared.inspected_total.collect(inspected.iter().map(series)),
            shared.ref_changes_total.collect(
                changes
                    .iter()
                    .map(|row| ([&*row.policy, &*row.rule, row.change, row.decision], row.count as f64)),
            ),
            shared.tunnels_active.collect(usage.iter().map(|usage| ([&*usage.policy], usage.tunnels as f64))),
            shared.bytes_total.collect(usage.iter().flat_map(|usage| {
                let policy = &*usage.policy;
                [([policy, "sent"], usage.sent as f64), ([policy, "received"], usage.received as f64)]
            })),
            shared
                .rule_expires
                .collect(shown.rule_expiries.iter().map(|(policy, rule, at)| ([&**policy, &**rule], *at))),
            shared.rule_last_used.collect(used.iter().map(|used| {
                let last = used.last_used.map_or(0.0, |last| last.as_second() as f64);
                ([&*used.policy, &*used.rule], last)
            })),
            shared.config.collect(Some(([&*shown.sha256], 1.0)).filter(|([hash], _)| !hash.is_empty())),
            shared
                .log_records
                .collect([(["written"], counts.written as f64), (["lost"], counts.lost as f64)]),
            shared.otlp_records.collect(shared.log.copies().into_iter().flat_map(|copies| {
                let OtlpCounts { exported, dropped, rejected, lost } = copies;
                [("exported", exported), ("dropped", dropped), ("rejected", rejected), ("lost", lost)]
                    .map(|(result, count)| ([result], count as f64))
            })),
            shared.log_queue.collect([([], counts.queued as f64)]),
            shared.log_available.collect([([], f64::from(u8::from(shared.log.is_available())))]),
            shared
                .held_bytes
                .collect(Kind::ALL.iter().map(|kind| ([kind.as_str()], shared.held.of(*kind) as f64))),
            shared.memory_limit.collect([([], shared.held.in_force() as f64)]),
            shared.tunnels_limit.collect([([], shared.tunnels_now.load(Ordering::Relaxed) as f64)]),
        ]
    }
}
