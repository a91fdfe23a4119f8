//! `egressd run`: loads the configuration, logs what it lets out, and serves.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver};

use super::{CONFIGURATION_REFUSED, FAILED, FINE};
use crate::config::{Config, Finding, Listener, Loaded};
use crate::operate::ending::Signal;
use crate::operate::reload::{self, Source};
use crate::operate::resources;
use crate::operate::server::{Server, StartError};
use crate::operate::systemd::passed::Misfits;
use crate::operate::systemd::{Manager, Passed};
use crate::rules::Mode;
use crate::rules::lint::{self, Entrance};
use crate::telemetry::diagnostics;
use crate::telemetry::metrics::Metrics;
use crate::words::counted::counted;

/// Rules that are logged one by one at start. The rest is only counted: a list may have a million rules.
const RULES_LOGGED: usize = 20;

pub(super) fn run(file: Option<&Path>) -> u8 {
    // First of all, because no other thread may run yet.
    let passed = Passed::take();
    let manager = Manager::from_environment().unwrap_or_else(|why| {
        eprintln!("egressd: {why}");
        Manager::default()
    });
    let (loaded, seen) = reload::load(file);
    let Loaded { config, warnings, positions } = match loaded {
        Ok(loaded) => loaded,
        Err(findings) => {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
            eprintln!("egressd: the configuration is invalid; nothing was started");
            manager.failed("the configuration is invalid, and the log says where; nothing was started");
            return CONFIGURATION_REFUSED;
        }
    };
    let _guard = match diagnostics::start(config.log) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("egressd: cannot start diagnostics: {error}");
            return FAILED;
        }
    };
    let passed = match passed {
        Ok(passed) => passed,
        Err(misfits) => return refuse_sockets(&misfits, &manager),
    };
    for finding in &warnings {
        tracing::warn!("{finding}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(resources::workers())
        .thread_name("egressd")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start the runtime: {error}");
            return FAILED;
        }
    };
    let log = file.map(|file| (file, positions.of_key("access_log.output")));
    let log =
        log.map(|(file, at)| format!("{}:{}:{}: ", file.display(), at.line, at.column)).unwrap_or_default();
    let source = Source { file: file.map(Path::to_owned), seen };
    runtime.block_on(serve((config, warnings), passed, &log, source, manager))
}

/// The sockets that were passed are not what the configuration says: as wrong as the configuration itself, and starting again would not help.
fn refuse_sockets(misfits: &Misfits, manager: &Manager) -> u8 {
    misfits.0.iter().for_each(|misfit| tracing::error!("{misfit}"));
    manager.failed("the sockets that were passed do not fit the configuration, and the log says why; nothing was started");
    CONFIGURATION_REFUSED
}

/// `log` is the place of `access_log.output` in the file, for an error about it.
async fn serve(
    (config, warnings): (Config, Vec<Finding>),
    passed: Passed,
    log: &str,
    source: Source,
    manager: Manager,
) -> u8 {
    let signals = match listen_for_signals() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot listen for signals: {error}");
            return FAILED;
        }
    };
    let told = what_is_let_out(&config, source.file.as_deref());
    let server = match Server::bind_with(config, passed).await {
        Ok(server) => server,
        Err(StartError::Passed(misfits)) => return refuse_sockets(&misfits, &manager),
        Err(error) => {
            let place = if matches!(error, StartError::Log { .. }) { log } else { "" };
            tracing::error!("{place}{error}");
            manager.failed(&error);
            return FAILED;
        }
    };
    server.warned(warnings);
    count_panics(server.metrics());
    for (name, address) in server.listeners() {
        tracing::info!("listening on {address} (listener {name})");
    }
    for (name, path) in server.sockets() {
        tracing::info!("listening on unix:{} (listener {name})", path.display());
    }
    if let Some(address) = server.admin() {
        tracing::info!("admin on {address}");
    }
    for line in told {
        tracing::info!("{line}");
    }
    match server.run(source, signals, manager.clone()).await {
        Ok(()) => FINE,
        Err(error) => {
            tracing::error!("{error}");
            manager.failed(&error);
            FAILED
        }
    }
}

/// A panic ends only its own task. It is logged as an error and counted, so that the operator notices.
fn count_panics(metrics: &Arc<Metrics>) {
    let metrics = Arc::clone(metrics);
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panicked();
        tracing::error!("a bug in egressd, please report it: {panic}");
    }));
}

/// One line for the file, then one per rule, so that a pod's log shows what the pod was allowed to let out.
fn what_is_let_out(config: &Config, file: Option<&Path>) -> Vec<String> {
    let from = file.map_or_else(|| "the built-in default".to_owned(), |file| file.display().to_string());
    let mut lines = vec![format!("configuration {} from {from}", config.hash.short())];
    let entrances: Vec<Entrance> = config.listeners.iter().map(Listener::entrance).collect();
    let reached = lint::reached(&config.policies, &entrances);
    let reached = config.policies.iter().zip(reached).filter(|(_, is)| *is).map(|(policy, _)| policy);
    let reporting = reached.filter(|policy| policy.mode() == Mode::Report);
    lines.extend(
        reporting.map(|policy| {
            format!("policy {} lets out every host, because it is in report mode", policy.name())
        }),
    );
    let mut allowed = lint::let_out(&config.policies, &entrances, Timestamp::now());
    allowed.retain(|rule| rule.policy().mode() == Mode::Enforce);
    for rule in allowed.iter().take(RULES_LOGGED) {
        let (policy, text) = (rule.policy().name(), rule.text());
        lines.push(format!("policy {policy} lets out {text} ({}:{})", rule.file(), rule.line()));
    }
    if allowed.len() > RULES_LOGGED {
        lines.push(format!("and {}", counted(allowed.len() - RULES_LOGGED, "more rule", "more rules")));
    }
    if lines.len() == 1 {
        lines.push("no rule allows anything: every request will be refused".to_owned());
    }
    lines
}

fn listen_for_signals() -> std::io::Result<Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(4);
    for (kind, meaning) in [
        (SignalKind::terminate(), Signal::Terminate),
        (SignalKind::interrupt(), Signal::Terminate),
        (SignalKind::hangup(), Signal::HangUp),
    ] {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                // Waits if HUPs have filled the channel, so that no TERM is lost.
                let _ = sender.send(meaning).await;
            }
        });
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn what_is_told_at_the_start_is_what_passes() {
        let told = |policies: &str| {
            let text = format!("policies:\n{policies}");
            let config = config::load_str("c.yaml", &text, |_| Ok(Vec::new())).expect(policies).config;
            let mut lines = what_is_let_out(&config, None);
            lines.remove(0);
            lines
        };
        let rows: &[(&str, &[&str])] = &[
            ("  - {name: p, allow: [a.example]}", &["policy p lets out a.example (c.yaml:2)"]),
            (
                "  - {name: p, mode: report, allow: [a.example]}",
                &["policy p lets out every host, because it is in report mode"],
            ),
            (
                "  - {name: p, allow: ['*.a.example', b.example], deny: [.a.example]}",
                &["policy p lets out b.example (c.yaml:2)"],
            ),
            (
                "  - {name: p, allow: [{to: a.example, expires: 2001-01-01}]}",
                &["no rule allows anything: every request will be refused"],
            ),
            (
                "  - {name: p, allow: [a.example]}\n  - {name: q, allow: [b.example]}",
                &["policy p lets out a.example (c.yaml:2)"],
            ),
            // No listener proves it.
            (
                "  - {name: p, clients: {identities: ['user:a']}, allow: [a.example]}\n  - {name: q, allow: [b.example]}",
                &["policy q lets out b.example (c.yaml:3)"],
            ),
            (
                "  - {name: p, clients: {vpc_endpoints: [vpce-0a]}, mode: report}",
                &["no rule allows anything: every request will be refused"],
            ),
        ];
        for (policies, want) in rows {
            assert_eq!(told(policies), *want, "{policies}");
        }
    }
}
