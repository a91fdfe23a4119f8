//! A file changed, HUP came or a rule expired: what is in force is read again, and what is open is judged again.
//!
//! A new configuration is checked whole and then replaces the old one whole; refused, the old one stays and the reason is
//! told. Changes are noticed in two ways: by the kernel's word on each directory that holds a named file (a ConfigMap swaps
//! the `..data` link there, and a watch on the file itself would die with the old one), and by a slow look at
//! every file, for file systems that send no word. Not here: how a tunnel is judged (`revoke`).

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::config::{self, Config, Loaded, LogOutput};
use crate::outcome::Ending;
use crate::resolve::Resolver;
use crate::revoke;
use crate::route::Route;
use crate::shared::Shared;
use crate::telemetry::access_log;
use crate::telemetry::metrics::{Configured, Metrics};

/// After a word of change: editors and the kubelet make several changes in a row.
const SETTLE: Duration = Duration::from_millis(50);
/// The slow look.
const LOOK: Duration = Duration::from_secs(2);
/// The slow look while a refused configuration waits to be mended: it reads everything.
const LOOK_WHILE_REFUSED: Duration = Duration::from_secs(10);
/// The kernel's clock for files is behind by this at most.
const CLOCK_STEP: Duration = Duration::from_millis(20);
/// Clocks are stepped: an expiry is never slept for longer than this in one go.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// Asks for a reload from outside: HUP, or a test.
#[derive(Debug, Default)]
pub struct Requested(Notify);

impl Requested {
    /// As soon as possible, and whether or not a file changed.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// What came of a reload.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In force.
    Replaced,
    /// The files say what they said.
    Unchanged,
    /// Refused: each line says why. The old configuration stays.
    Refused(Vec<String>),
}

/// Watches the files of the configuration that was read from `file`, not before `read_at`, until the task is dropped.
/// Without a file, only expiries are watched.
pub async fn run(shared: Arc<Shared>, file: Option<PathBuf>, read_at: SystemTime, requested: Arc<Requested>) {
    let changed = Arc::new(Notify::new());
    let mut watch = Watch::new(Arc::clone(&changed));
    let mut judged = Timestamp::now();
    let mut seen = look(&shared.current.load().files);
    if seen.iter().flatten().any(|state| state.changed_since(read_at)) {
        // Perhaps after it was read: then the first look finds a change.
        seen.clear();
    }
    // What was refused last. It may have named files that the configuration in force does not, so until it is mended
    // nothing that can be looked at tells whether reading again is worth it.
    let mut refused = Vec::new();
    loop {
        watch.follow(&shared.current.load().files);
        let mut again = !refused.is_empty();
        tokio::select! {
            () = changed.notified() => {
                tokio::time::sleep(SETTLE).await;
            }
            () = requested.0.notified() => {
                again = true;
                refused.clear();
            }
            () = tokio::time::sleep(if refused.is_empty() { LOOK } else { LOOK_WHILE_REFUSED }) => {}
            () = next_expiry(&shared, judged) => {
                judged = Timestamp::now();
                let revoked = sweep(&shared).await;
                tracing::info!("a rule expired; {revoked} tunnels ended");
                continue;
            }
        }
        // Before reading: what changes while it is read is then seen as changed the next time.
        let files = shared.current.load().files.clone();
        let now = look(&files);
        if file.is_none() || (now == seen && !again) {
            continue;
        }
        seen = now;
        refused = match reload(&shared, file.as_deref(), &refused).await {
            Outcome::Refused(lines) => lines,
            Outcome::Replaced | Outcome::Unchanged => Vec::new(),
        };
    }
}

/// Reads the configuration again and puts it in force, or tells why not: once, where `told` is the same.
async fn reload(shared: &Arc<Shared>, file: Option<&Path>, told: &[String]) -> Outcome {
    let path = file.map(Path::to_owned);
    let loaded = tokio::task::spawn_blocking(move || config::load(path.as_deref())).await;
    let outcome = match loaded {
        Ok(Ok(loaded)) => replace(shared, loaded),
        Ok(Err(findings)) => Outcome::Refused(findings.iter().map(ToString::to_string).collect()),
        Err(panic) => Outcome::Refused(vec![format!("a fault of egressd while reading: {panic}")]),
    };
    match &outcome {
        Outcome::Replaced => {
            let revoked = sweep(shared).await;
            let config = shared.current.load();
            tracing::info!("configuration {} is in force; {revoked} tunnels ended", config.hash.short());
        }
        Outcome::Unchanged => {
            count(&shared.metrics, &shared.current.load());
            tracing::debug!("the configuration is unchanged");
        }
        Outcome::Refused(lines) => {
            shared.metrics.reload_failed();
            if lines == told {
                return outcome;
            }
            for line in lines {
                tracing::error!("{line}");
            }
            let hash = shared.current.load().hash;
            tracing::error!("the changed configuration is refused; {} stays in force", hash.short());
        }
    }
    outcome
}

fn replace(shared: &Shared, loaded: Loaded) -> Outcome {
    let Loaded { config, warnings } = loaded;
    let old = shared.current.load();
    let fixed = needs_restart(&old, &config);
    if !fixed.is_empty() {
        return Outcome::Refused(fixed);
    }
    if old.hash == config.hash {
        return Outcome::Unchanged;
    }
    for finding in &warnings {
        tracing::warn!("{finding}");
    }
    // A resolver and a route that nothing changes for keep what they know.
    let resolver = (*shared.resolver().settings() != config.dns).then(|| Resolver::new(&config.dns));
    let route = (!shared.route().serves(&config)).then(|| Route::new(&config));
    let (resolver, route) = match (resolver.transpose(), route.transpose()) {
        (Ok(resolver), Ok(route)) => (resolver, route),
        (Err(error), _) => return Outcome::Refused(vec![format!("dns: {error}")]),
        (_, Err(error)) => return Outcome::Refused(vec![error.to_string()]),
    };
    if let Some(resolver) = resolver {
        shared.resolver.store(Arc::new(resolver));
    }
    if let Some(route) = route {
        shared.route.store(Arc::new(route));
    }
    shared.log.set_places(access_log::Options::places_for(config.limits.tunnels.min(shared.tunnels_carried)));
    count(&shared.metrics, &config);
    let replaced = shared.current.replace(config);
    // Only now: whoever registers a tunnel decided by the old policy from here on is told to judge again.
    shared.live.advance();
    drop(old);
    // Freeing a million rules takes long enough to be felt by a tunnel that shares the thread.
    tokio::task::spawn_blocking(move || drop(replaced));
    Outcome::Replaced
}

/// Tells the metrics of a configuration that was taken into use.
pub(crate) fn count(metrics: &Metrics, config: &Config) {
    let policies: Vec<Arc<str>> = config.policies.iter().map(|policy| Arc::clone(policy.name())).collect();
    let labels: HashSet<(&str, &str)> =
        config.policies.rules().map(|rule| (&**rule.policy().name(), rule.label())).collect();
    let expiries: Vec<(Arc<str>, Arc<str>, f64)> = config
        .policies
        .rules()
        .filter_map(|rule| {
            let at = rule.expires()?.as_second() as f64;
            Some((Arc::clone(rule.policy().name()), Arc::from(rule.label()), at))
        })
        .collect();
    metrics.configured(&Configured {
        sha256: &config.hash.to_string(),
        loaded_at: Timestamp::now().as_second() as f64,
        policies: &policies,
        has_rule: &|policy, rule| rule.is_empty() || labels.contains(&(policy, rule)),
        rule_expiries: &expiries,
    });
}

/// What cannot change while running, each as a line.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fixed = |same: bool, what: &str| {
        if !same {
            lines.push(format!("{what} changed, which needs a restart: restart, or change it back"));
        }
    };
    let listening = |config: &Config| -> Vec<_> {
        let listeners = config.listeners.iter();
        listeners.map(|l| (l.name.clone(), l.address, l.tls.is_some(), l.proxy_protocol.is_some())).collect()
    };
    fixed(listening(old) == listening(new), "listeners (name, address, tls or proxy_protocol)");
    fixed(old.admin.address == new.admin.address, "admin.address");
    fixed(old.admin.proxy_protocol.is_some() == new.admin.proxy_protocol.is_some(), "admin.proxy_protocol");
    fixed(output(old) == output(new), "access_log.output");
    fixed(old.access_log.format == new.access_log.format, "access_log.format");
    fixed(old.access_log.on_failure == new.access_log.on_failure, "access_log.on_failure");
    fixed(old.log == new.log, "log");
    lines
}

fn output(config: &Config) -> &LogOutput {
    &config.access_log.output
}

/// Judges every live tunnel by the configuration in force and ends those that it would not let through.
async fn sweep(shared: &Arc<Shared>) -> usize {
    let shared = Arc::clone(shared);
    // Off the workers: judging ten thousand tunnels takes milliseconds that no tunnel's setup should wait for.
    let swept = tokio::task::spawn_blocking(move || {
        let config = shared.current.load();
        let now = Timestamp::now();
        shared.live.cancel_where(Ending::PolicyRevoked, |tunnel| revoke::judge(tunnel, &config, now).is_err())
    });
    swept.await.unwrap_or_default()
}

/// Ready at the first moment after `judged` at which a rule of the configuration in force expires.
async fn next_expiry(shared: &Shared, judged: Timestamp) {
    let config = shared.current.load();
    let Some(moment) = config.policies.next_expiry(judged) else {
        return std::future::pending().await;
    };
    drop(config);
    loop {
        let left = moment.duration_since(Timestamp::now());
        let Ok(left) = Duration::try_from(left) else { return };
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_NAP)).await;
    }
}

/// What tells one state of a file from another without reading it; `None` where there is none. The change time is
/// the kernel's own: an editor that keeps the modification time is noticed all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since the epoch.
    changed: (i64, i64),
}

impl State {
    fn changed_since(&self, moment: SystemTime) -> bool {
        // The kernel stamps files with a coarse clock: some milliseconds late.
        let moment = moment.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(CLOCK_STEP);
        i64::try_from(moment.as_secs())
            .is_ok_and(|seconds| self.changed >= (seconds, i64::from(moment.subsec_nanos())))
    }
}

fn look(files: &[PathBuf]) -> Vec<Option<State>> {
    let state = |file: &PathBuf| {
        let meta = std::fs::metadata(file).ok()?;
        let changed = (meta.ctime(), meta.ctime_nsec());
        Some(State { device: meta.dev(), inode: meta.ino(), size: meta.size(), changed })
    };
    files.iter().map(state).collect()
}

/// The kernel's word on the directories of the named files.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
}

impl Watch {
    fn new(changed: Arc<Notify>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, and our own reading must not wake us.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                changed.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(
                    "no word of file changes from the kernel: {error}; looking every {LOOK:?} instead"
                );
            })
            .ok();
        Watch { watcher, directories: BTreeSet::new() }
    }

    /// Watches exactly the directories of `files`. What cannot be watched is found by the slow look.
    fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> =
            files.iter().filter_map(|file| Some(directory(file)?.to_owned())).collect();
        for gone in self.directories.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.directories) {
            let _ = watcher.watch(new, RecursiveMode::NonRecursive);
        }
        self.directories = wanted;
    }
}

fn directory(file: &Path) -> Option<&Path> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}
