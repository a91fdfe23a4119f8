//! What a scrape shows.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use uuid::Uuid;

use super::super::access_log::{Json, OnLogFailure, Options, Output, WriterHandle};
use super::super::record::{Event, Record};
use super::*;
use crate::rules::Scheme;
use crate::state::live::{Live, LiveTunnel, Registration, TunnelFacts};
use crate::transport::cancel::Cancel;
use crate::transport::meter::Meter;
use crate::words::client::Client;
use crate::words::target::Target;

struct Nowhere;

impl Output for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn name(&self) -> String {
        "nowhere".to_owned()
    }
}

pub(crate) fn metrics() -> (Metrics, Arc<Live>, AccessLog, WriterHandle) {
    let options = Options::new(10, OnLogFailure::Deny);
    let (log, handle) = AccessLog::start(Box::new(Nowhere), Box::new(Json), options).expect("started");
    let live = Live::new();
    (
        Metrics::new(Arc::clone(&live), log.clone(), HeldBytes::unlimited()).expect("registered"),
        live,
        log,
        handle,
    )
}

fn tunnel(live: &Arc<Live>, policy: &str, meter: &Arc<Meter>) -> LiveTunnel {
    let address = "10.0.0.1:1".parse().expect("an address");
    let facts = TunnelFacts {
        id: Uuid::nil(),
        client: Arc::new(Client::direct(address)),
        proof: Arc::default(),
        target: Target::connect("git.example:443").expect("a target"),
        policy: policy.into(),
        rule: None,
        listener: "proxy".into(),
        upstream: address,
        by_parent: false,
        scheme: Scheme::Https,
        inspected: false,
        started: Timestamp::UNIX_EPOCH,
    };
    match live.register(facts, Arc::clone(meter), Cancel::new(), live.generation()) {
        Registration::Current(guard) | Registration::JudgeAgain(guard) => guard,
    }
}

fn configured(metrics: &Metrics, sha256: &str, policies: &[&str], rules: &[(&str, &str)]) {
    let policies: Vec<Arc<str>> = policies.iter().map(|policy| Arc::from(*policy)).collect();
    metrics.configured(Configured {
        sha256: sha256.to_owned(),
        loaded_at: Timestamp::from_millisecond(1_772_366_400_500).expect("a moment"),
        policies,
        rules: Box::new(rules.iter().copied()),
        labels: rules.iter().map(|(policy, rule)| (Arc::from(*policy), Arc::from(*rule))).collect(),
        rule_expiries: rules
            .iter()
            .map(|(policy, rule)| (Arc::from(*policy), Arc::from(*rule), 1_900_000_000.0))
            .collect(),
    });
}

/// The value of one series, by its name and labels as they are shown.
pub(super) fn value(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[track_caller]
fn shows(metrics: &Metrics, rows: &[(&str, f64)]) {
    let text = metrics.render().expect("rendered");
    for (series, want) in rows {
        assert_eq!(value(&text, series), Some(*want), "{series} in\n{text}");
    }
}

#[test]
fn every_series_is_there_with_help_and_type() {
    let (metrics, live, _log, _handle) = metrics();
    let policy: Arc<str> = "gitaly".into();
    configured(&metrics, "0123456789abcdef", &["gitaly"], &[("gitaly", "codecommit")]);
    metrics.request(Some(&policy), None, Some(Decision::Deny), Some(Reason::HostNotAllowed.into()));
    metrics.connections(&"proxy".into());
    metrics.expiries.set(&"proxy".into(), Timestamp::UNIX_EPOCH, Some(Timestamp::UNIX_EPOCH));
    let guard = tunnel(&live, "gitaly", &Arc::default());
    let text = metrics.render().expect("rendered");
    let wanted = [
        ("egressd_requests_total", "counter"),
        ("egressd_auth_challenges_total", "counter"),
        ("egressd_tunnels_active", "gauge"),
        ("egressd_tunnels_total", "counter"),
        ("egressd_bytes_total", "counter"),
        ("egressd_tunnel_duration_seconds", "histogram"),
        ("egressd_dns_lookup_duration_seconds", "histogram"),
        ("egressd_connect_duration_seconds", "histogram"),
        ("egressd_setup_duration_seconds", "histogram"),
        ("egressd_connections_total", "counter"),
        ("egressd_config_last_reload_successful", "gauge"),
        ("egressd_config_last_reload_success_timestamp_seconds", "gauge"),
        ("egressd_config_info", "gauge"),
        ("egressd_rule_expires_timestamp_seconds", "gauge"),
        ("egressd_rule_last_used_timestamp_seconds", "gauge"),
        ("egressd_certificate_expires_timestamp_seconds", "gauge"),
        ("egressd_client_crl_expires_timestamp_seconds", "gauge"),
        ("egressd_access_log_records_total", "counter"),
        ("egressd_access_log_queue_records", "gauge"),
        ("egressd_access_log_available", "gauge"),
        ("egressd_held_bytes", "gauge"),
        ("egressd_memory_limit_bytes", "gauge"),
        ("egressd_tunnels_limit", "gauge"),
        ("egressd_ready", "gauge"),
        ("egressd_build_info", "gauge"),
        ("egressd_panics_total", "counter"),
        ("egressd_addresses_refused_total", "counter"),
        ("process_cpu_seconds_total", "counter"),
        ("process_open_fds", "gauge"),
        ("process_max_fds", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_virtual_memory_bytes", "gauge"),
        ("process_start_time_seconds", "gauge"),
        ("process_threads", "gauge"),
    ];
    for (name, kind) in wanted {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
    }
    let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(families, wanted.len(), "{text}");
    drop(guard);
}

#[test]
fn requests_count_once_by_policy_rule_decision_and_reason() {
    let (metrics, ..) = metrics();
    let (policy, rule): (Arc<str>, Arc<str>) = ("gitaly".into(), "codecommit".into());
    let request =
        |policy, rule, decision, reason: Option<Cause>| metrics.request(policy, rule, decision, reason);
    request(Some(&policy), Some(&rule), Some(Decision::Allow), None);
    request(Some(&policy), Some(&rule), Some(Decision::Allow), None);
    request(Some(&policy), Some(&rule), Some(Decision::Deny), Some(Reason::ConnectRefused.into()));
    request(Some(&policy), None, Some(Decision::WouldDeny), Some(Reason::HostNotAllowed.into()));
    request(None, None, Some(Decision::Deny), Some(Cause::ClientGone));
    shows(
        &metrics,
        &[
            (r#"egressd_requests_total{policy="gitaly",rule="codecommit",decision="allow",reason=""}"#, 2.0),
            (
                r#"egressd_requests_total{policy="gitaly",rule="codecommit",decision="deny",reason="connect_refused"}"#,
                1.0,
            ),
            (
                r#"egressd_requests_total{policy="gitaly",rule="",decision="would_deny",reason="host_not_allowed"}"#,
                1.0,
            ),
            (r#"egressd_requests_total{policy="",rule="",decision="deny",reason="client_gone"}"#, 1.0),
        ],
    );
}

#[test]
fn names_that_join_to_the_same_text_are_different_series() {
    let (metrics, ..) = metrics();
    for (policy, rule) in [("a", "bc"), ("ab", "c")] {
        metrics.request(Some(&policy.into()), Some(&rule.into()), Some(Decision::Allow), None);
    }
    shows(
        &metrics,
        &[
            (r#"egressd_requests_total{policy="a",rule="bc",decision="allow",reason=""}"#, 1.0),
            (r#"egressd_requests_total{policy="ab",rule="c",decision="allow",reason=""}"#, 1.0),
        ],
    );
}

#[test]
fn bytes_move_while_they_flow_and_stay_when_the_tunnel_ends() {
    let (metrics, live, ..) = metrics();
    let meter = Arc::new(Meter::default());
    let guard = tunnel(&live, "p", &meter);
    meter.add_sent(10);
    meter.add_received(4);
    let active = r#"egressd_tunnels_active{policy="p"}"#;
    let sent = r#"egressd_bytes_total{policy="p",direction="sent"}"#;
    let received = r#"egressd_bytes_total{policy="p",direction="received"}"#;
    shows(&metrics, &[(active, 1.0), (sent, 10.0), (received, 4.0)]);
    meter.add_sent(1);
    drop(guard);
    metrics.tunnel_ended(&"p".into(), Ending::ClientClosed, Duration::from_secs(2));
    shows(
        &metrics,
        &[
            (active, 0.0),
            (sent, 11.0),
            (received, 4.0),
            (r#"egressd_tunnels_total{ending="client_closed",policy="p"}"#, 1.0),
            (r#"egressd_tunnel_duration_seconds_bucket{le="1"}"#, 0.0),
            (r#"egressd_tunnel_duration_seconds_bucket{le="5"}"#, 1.0),
            ("egressd_tunnel_duration_seconds_sum", 2.0),
        ],
    );
}

#[test]
fn series_are_there_with_zeros_before_anything_happened() {
    let (metrics, ..) = metrics();
    configured(&metrics, "00", &["p"], &[]);
    metrics.connections(&"proxy".into());
    shows(
        &metrics,
        &[
            (r#"egressd_tunnels_active{policy="p"}"#, 0.0),
            (r#"egressd_tunnels_total{ending="policy_revoked",policy="p"}"#, 0.0),
            (r#"egressd_bytes_total{policy="p",direction="received"}"#, 0.0),
            (r#"egressd_dns_lookup_duration_seconds_count{result="dns_timeout"}"#, 0.0),
            (r#"egressd_connect_duration_seconds_count{result="success"}"#, 0.0),
            (r#"egressd_connections_total{listener="proxy",result="tls_failed"}"#, 0.0),
            (r#"egressd_access_log_records_total{result="lost"}"#, 0.0),
            ("egressd_access_log_queue_records", 0.0),
            (r#"egressd_held_bytes{kind="hello"}"#, 0.0),
            (r#"egressd_held_bytes{kind="dns"}"#, 0.0),
            ("egressd_auth_challenges_total", 0.0),
        ],
    );
}

#[test]
fn what_is_observed_is_shown() {
    let (metrics, _live, log, handle) = metrics();
    metrics.auth_challenge();
    metrics.panicked();
    metrics.addresses_refused(2);
    metrics.setup(Duration::from_micros(400));
    metrics.dns(Ok(()), Duration::from_millis(3));
    metrics.dns(Err(Reason::DnsTimeout), Duration::from_secs(5));
    metrics.dns(Err(Reason::BadRequest), Duration::ZERO);
    metrics.connect(Err(Reason::ConnectRefused), Duration::from_millis(1));
    metrics.connect(Err(Reason::Loop), Duration::ZERO);
    let listener = metrics.connections(&"proxy".into());
    for result in ConnectionResult::ALL {
        listener.count(*result);
    }
    listener.count(ConnectionResult::Probe);
    let at = |second| Timestamp::from_second(second).expect("a moment");
    metrics.expiries.set(&"gone".into(), at(1_900_000_000), Some(at(1_800_000_000)));
    metrics.expiries.set(&"gone".into(), at(1_900_000_000), None);
    metrics.expiries.set(&"proxy".into(), at(1_900_000_000), Some(at(1_700_000_000)));
    let record = Record::new(Event::Error, Timestamp::UNIX_EPOCH, Uuid::nil(), "proxy");
    log.reserve().expect("room").write(&record);
    let _ = handle.finish(Duration::from_secs(20));
    shows(
        &metrics,
        &[
            ("egressd_auth_challenges_total", 1.0),
            ("egressd_panics_total", 1.0),
            ("egressd_addresses_refused_total", 2.0),
            (r#"egressd_setup_duration_seconds_bucket{le="0.0005"}"#, 1.0),
            (r#"egressd_dns_lookup_duration_seconds_count{result="success"}"#, 1.0),
            (r#"egressd_dns_lookup_duration_seconds_count{result="dns_timeout"}"#, 1.0),
            (r#"egressd_dns_lookup_duration_seconds_count{result="dns_failed"}"#, 1.0),
            (r#"egressd_connect_duration_seconds_count{result="connect_refused"}"#, 1.0),
            (r#"egressd_connect_duration_seconds_count{result="connect_unreachable"}"#, 1.0),
            (r#"egressd_connections_total{listener="proxy",result="accepted"}"#, 1.0),
            (r#"egressd_connections_total{listener="proxy",result="probe"}"#, 2.0),
            (r#"egressd_certificate_expires_timestamp_seconds{listener="proxy"}"#, 1_900_000_000.0),
            (r#"egressd_client_crl_expires_timestamp_seconds{listener="proxy"}"#, 1_700_000_000.0),
            (r#"egressd_access_log_records_total{result="written"}"#, 1.0),
        ],
    );
    assert!(metrics.render().expect("rendered").contains(&format!(
        "egressd_build_info{{revision=\"{}\",version=\"{}\"}} 1\n",
        option_env!("EGRESSD_REVISION").unwrap_or("unknown"),
        env!("CARGO_PKG_VERSION")
    )));
}

#[test]
fn a_reload_takes_the_series_of_vanished_rules_and_policies_away() {
    let (metrics, live, ..) = metrics();
    configured(&metrics, "aa", &["p", "q"], &[("p", "old"), ("p", "kept"), ("q", "old")]);
    for (policy, rule) in [("p", "old"), ("p", "kept"), ("q", "old")] {
        metrics.request(Some(&policy.into()), Some(&rule.into()), Some(Decision::Allow), None);
        metrics.request(
            Some(&policy.into()),
            None,
            Some(Decision::Deny),
            Some(Reason::HostNotAllowed.into()),
        );
        metrics.tunnel_ended(&policy.into(), Ending::ClientClosed, Duration::ZERO);
        drop(tunnel(&live, policy, &Arc::default()));
    }
    metrics.request(None, None, Some(Decision::Deny), Some(Reason::ClientNotAllowed.into()));
    metrics.reload_failed();
    shows(
        &metrics,
        &[
            ("egressd_config_last_reload_successful", 0.0),
            (r#"egressd_config_info{sha256="aa"}"#, 1.0),
            (r#"egressd_rule_expires_timestamp_seconds{policy="p",rule="old"}"#, 1_900_000_000.0),
        ],
    );
    configured(&metrics, "bb", &["p"], &[("p", "kept")]);
    shows(
        &metrics,
        &[
            ("egressd_config_last_reload_successful", 1.0),
            ("egressd_config_last_reload_success_timestamp_seconds", 1_772_366_400.5),
            (r#"egressd_config_info{sha256="bb"}"#, 1.0),
            (r#"egressd_requests_total{policy="p",rule="kept",decision="allow",reason=""}"#, 1.0),
            (r#"egressd_requests_total{policy="p",rule="",decision="deny",reason="host_not_allowed"}"#, 2.0),
            (r#"egressd_requests_total{policy="",rule="",decision="deny",reason="client_not_allowed"}"#, 1.0),
            (r#"egressd_tunnels_total{ending="client_closed",policy="p"}"#, 2.0),
        ],
    );
    let text = metrics.render().expect("rendered");
    for gone in ["\"aa\"", "\"old\"", "policy=\"q\""] {
        assert!(!text.contains(gone), "{gone} in\n{text}");
    }
}

#[test]
fn t69_label_values_are_escaped() {
    let (metrics, ..) = metrics();
    metrics.request(Some(&"a\"b\\c\nd".into()), None, Some(Decision::Allow), None);
    let text = metrics.render().expect("rendered");
    assert!(text.contains(r#"policy="a\"b\\c\nd""#), "{text}");
}

#[test]
fn a_scrape_amid_a_reload_sees_one_configuration() {
    let (metrics, ..) = metrics();
    configured(&metrics, "aa", &["p"], &[]);
    let scraping = std::sync::Barrier::new(2);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| {
            scraping.wait();
            for hash in ["bb", "aa"].iter().cycle().take_while(|_| !done.load(Ordering::SeqCst)) {
                configured(&metrics, hash, &["p"], &[]);
            }
        });
        scraping.wait();
        // Without the rest of a scrape, which takes so long that it would rarely meet the moment.
        let shown = || {
            let families = metrics.at_scrape.collect();
            let config = families.iter().find(|family| family.name() == "egressd_config_info");
            config.map_or(0, |family| family.get_metric().len())
        };
        let seen: std::collections::BTreeSet<usize> = (0..20_000).map(|_| shown()).collect();
        done.store(true, Ordering::SeqCst);
        reloading.join().expect("no panic");
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1]);
    });
}
