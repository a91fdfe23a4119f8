//! When a file changes, HUP comes, or a rule or a client's certificate expires: reads the configuration again, has [`crate::operate::apply`] put it in
//! force, and judges everything open again ([`crate::state::live::rejudge`]).
//!
//! A new configuration is checked whole and then replaces the old one whole. If it is refused, the old one stays and
//! the reasons are logged. One separate thread does all of this, because it all takes time and must not delay anything
//! else: reading and checking a million rules, judging ten thousand tunnels, freeing the previous configuration. The
//! kernel's notifications wake it ([`watch`]); in addition it looks at the files every [`LOOK`], and compares their
//! contents every [`CONTENT_LOOK`] ([`files`]). Not here: how a tunnel is judged ([`crate::state::live::rejudge`]).

mod files;
mod lost;
mod mounts;
mod restart;
#[cfg(test)]
mod tests;
mod wakeups;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use self::files::{Seen, load};
use self::lost::LostIdentities;
use self::wakeups::{Wakeup, Wakeups};
use self::watch::Watch;
use crate::config::{Config, Finding, Loaded, Position, Severity};
use crate::operate::apply::{self, Prepared};
use crate::operate::systemd::Manager;
use crate::state::live::Revoked;
use crate::state::live::rejudge::{self, Objection};
use crate::state::shared::Shared;
use crate::words::client::Client;
use crate::words::counted::counted;

/// After a notification of a change, this long must pass without another one: editors and the kubelet make several in
/// a row, and a file that is still being written must not be read.
const SETTLE: Duration = Duration::from_millis(50);
/// The longest wait for that: a file may be written without end.
const LONGEST_SETTLE: Duration = Duration::from_millis(500);
/// Time between two looks at the state (`stat`) of every file.
const LOOK: Duration = Duration::from_secs(2);
/// Time between two looks at the content of every file.
const CONTENT_LOOK: Duration = Duration::from_secs(60);
/// How often a refused configuration is read again, changed or not: it may only have lacked a descriptor.
const RETRY: Duration = Duration::from_secs(30);
/// Expired rules that are logged by name; the others are counted.
const EXPIRED_NAMED: usize = 5;

/// Where the configuration in force came from.
#[derive(Debug)]
pub struct Source {
    /// `None`: the built-in configuration.
    pub file: Option<PathBuf>,
    /// The files that were read for it.
    pub seen: Seen,
}

/// The running reloader; it ends when this is dropped.
#[derive(Debug)]
pub struct Reloading(Arc<Wakeups>);

/// How a configuration is read: [`load`], or its replacement in a test.
type Load = fn(Option<&Path>) -> (Result<Loaded, Vec<Finding>>, Seen);

struct Reloader {
    shared: Arc<Shared>,
    file: Option<PathBuf>,
    load: Load,
    seen: Seen,
    wakeups: Arc<Wakeups>,
    watch: Watch,
    /// The time by which the open tunnels were last judged.
    judged: Timestamp,
    /// When the files were last read.
    read_at: Instant,
    /// When their contents were last compared.
    compared_at: Instant,
    /// Previous configurations, kept while requests that they decided are still in progress.
    retired: Vec<Arc<Config>>,
    /// Files that were already reported as never changing.
    reported_mounted: BTreeSet<PathBuf>,
    /// Is told of each reload.
    manager: Manager,
}

/// Starts following the files of the configuration in force, and the expiries of its rules.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(shared: Arc<Shared>, source: Source, manager: Manager) -> io::Result<Reloading> {
    let wakeups = Arc::new(Wakeups::default());
    let reloading = Reloading(Arc::clone(&wakeups));
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || Reloader { manager, ..Reloader::new(shared, source, wakeups, load) }.run())?;
    Ok(reloading)
}

impl Reloading {
    /// Asks for a reload as soon as possible, whether or not a file changed.
    pub fn request(&self) {
        self.0.request();
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Reloader {
    fn new(shared: Arc<Shared>, source: Source, wakeups: Arc<Wakeups>, load: Load) -> Self {
        let Source { file, seen } = source;
        let now = Instant::now();
        Reloader {
            judged: shared.current.in_force().since,
            watch: Watch::new(Arc::clone(&wakeups)),
            shared,
            file,
            load,
            seen,
            wakeups,
            read_at: now,
            compared_at: now,
            retired: Vec::new(),
            reported_mounted: BTreeSet::new(),
            manager: Manager::default(),
        }
    }

    fn run(mut self) {
        self.warn_of_mounts();
        loop {
            // A change before a directory was watched goes unnoticed: look at once.
            self.watch.look_into(self.seen.folders());
            let new = self.watch.follow(self.seen.paths());
            let wakeup = self.wakeups.wait(if new { Duration::ZERO } else { self.patience() });
            let wakeup = self.settle(wakeup);
            if wakeup.stop {
                return;
            }
            // A bug in reading one configuration must not be the end of all reading.
            if catch_unwind(AssertUnwindSafe(|| self.turn(wakeup))).is_err() {
                self.shared.metrics.panicked();
                self.refuse(
                    vec![self.fault("a bug in egressd while reading it: please report it")],
                    wakeup.requested,
                );
                self.manager.reloaded(&self.shared.current.in_force());
                if self.wakeups.wait(RETRY).stop {
                    return;
                }
            }
        }
    }

    /// How long to wait if nothing happens.
    fn patience(&self) -> Duration {
        let now = Timestamp::now();
        let expiry = self.shared.current.load().policies.next_expiry(self.judged.min(now));
        let expiry = expiry.into_iter().chain(self.shared.live.changes_at()).min();
        let left = expiry.map(|moment| Duration::try_from(moment.duration_since(now)).unwrap_or_default());
        left.map_or(LOOK, |left| left.min(LOOK))
    }

    /// Waits until the changes have ended; a request for a reload does not wait.
    fn settle(&self, mut wakeup: Wakeup) -> Wakeup {
        let deadline = Instant::now() + LONGEST_SETTLE;
        while wakeup.changed && !wakeup.requested && !wakeup.stop && Instant::now() < deadline {
            wakeup = self.wakeups.wait(SETTLE);
        }
        wakeup
    }

    /// Does whatever is due.
    fn turn(&mut self, wakeup: Wakeup) {
        self.expire();
        if wakeup.requested || self.has_changed() {
            self.manager.reloading();
            self.reload(wakeup.requested);
            self.manager.reloaded(&self.shared.current.in_force());
        }
        // Freed here and not by the request that ends last: freeing a million rules takes so long that every tunnel on
        // the same thread would notice.
        self.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// Whether the configuration should be read again.
    fn has_changed(&mut self) -> bool {
        if self.seen.differ() {
            return true;
        }
        let refused = !self.shared.current.in_force().last_reload.is_successful();
        if refused && self.read_at.elapsed() >= RETRY {
            return true;
        }
        if self.compared_at.elapsed() < CONTENT_LOOK {
            return false;
        }
        self.compared_at = Instant::now();
        self.seen.contents_differ()
    }

    /// Reads the configuration again and puts it in force, or logs why it does not.
    fn reload(&mut self, requested: bool) {
        let Some(file) = self.file.clone() else {
            tracing::info!("nothing to reload: the built-in configuration is in force");
            return;
        };
        let (loaded, seen) = (self.load)(Some(&file));
        self.seen = seen;
        self.read_at = Instant::now();
        self.compared_at = self.read_at;
        self.warn_of_mounts();
        match loaded {
            Err(findings) => self.refuse(findings, requested),
            Ok(loaded) if loaded.config.hash == self.shared.current.load().hash => {
                // Some depend on the clock.
                self.shared.current.warned(loaded.warnings);
                self.confirm(requested);
            }
            Ok(loaded) => match self.replacement(&file, &loaded) {
                Ok(prepared) => self.replace(loaded, prepared),
                Err(findings) => self.refuse(findings, requested),
            },
        }
    }

    /// Makes what a configuration needs before it can be in force.
    fn replacement(&self, file: &Path, loaded: &Loaded) -> Result<Prepared, Vec<Finding>> {
        let fixed = restart::needed(&self.shared.current.load(), loaded, file);
        if !fixed.is_empty() {
            return Err(fixed);
        }
        apply::prepare(&loaded.config, Some(&self.shared))
            .map_err(|error| vec![self.fault(&error.to_string())])
    }

    /// Puts the configuration in force, and ends what it no longer allows.
    fn replace(&mut self, loaded: Loaded, prepared: Prepared) {
        let Loaded { mut config, warnings, .. } = loaded;
        for finding in &warnings {
            tracing::warn!("{finding}");
        }
        if let (Some(new), Some(old)) = (&mut config.inspection, &self.shared.current.load().inspection) {
            new.keep(old);
        }
        let (shared, config) = (Arc::clone(&self.shared), Arc::new(config));
        let mut ended = 0;
        apply::apply(&config, prepared, &shared, || {
            let now = Timestamp::now();
            self.retired.push(shared.current.replace(Arc::clone(&config), warnings.into(), now));
            ended = self.rejudge_all();
            now
        });
        let ended = counted(ended, "tunnel or exchange", "tunnels and exchanges");
        tracing::info!("configuration {} is in force; {ended} ended", config.hash.short());
    }

    /// The files have the same content as the configuration in force.
    fn confirm(&self, requested: bool) {
        let fixed = !self.shared.current.in_force().last_reload.is_successful();
        let now = Timestamp::now();
        self.shared.current.confirm(now);
        self.shared.metrics.reload_confirmed(now);
        if fixed || requested {
            let hash = self.shared.current.load().hash;
            tracing::info!("the files match configuration {}, which is in force", hash.short());
        }
    }

    /// Keeps the configuration in force and logs why; only once, unless a reload was requested.
    fn refuse(&self, findings: Vec<Finding>, requested: bool) {
        let shared = &self.shared;
        let is_logged = *shared.current.in_force().last_reload.refused == *findings;
        shared.current.refuse(findings.into(), Timestamp::now());
        shared.metrics.reload_failed();
        if is_logged && !requested {
            return;
        }
        let in_force = shared.current.in_force();
        for finding in &*in_force.last_reload.refused {
            match finding.severity {
                Severity::Error => tracing::error!("{finding}"),
                Severity::Warning => tracing::warn!("{finding}"),
            }
        }
        tracing::error!(
            "the changed configuration is refused; configuration {} stays in force",
            in_force.config.hash.short()
        );
    }

    /// Judges the open tunnels again if a rule, or what proves the identity of one of them, has expired since they were last
    /// judged.
    fn expire(&mut self) {
        let now = Timestamp::now();
        // A clock that was set back reaches the same time again.
        self.judged = self.judged.min(now);
        let config = self.shared.current.load();
        let rules = config.policies.next_expiry(self.judged);
        if rules.into_iter().chain(self.shared.live.changes_at()).min().is_none_or(|moment| moment > now) {
            return;
        }
        let since = self.judged;
        let ended = self.rejudge_all();
        let expired = config
            .policies
            .rules()
            .filter(|rule| rule.expires().is_some_and(|moment| since < moment && moment <= self.judged));
        let mut more = 0;
        for (index, rule) in expired.enumerate() {
            if index < EXPIRED_NAMED {
                tracing::warn!("{}:{}: the rule {} has expired", rule.file(), rule.line(), rule.text());
            } else {
                more += 1;
            }
        }
        if more > 0 {
            tracing::warn!("{} expired", counted(more, "more rule has", "more rules have"));
        }
        tracing::info!("{} ended", counted(ended, "tunnel or exchange", "tunnels and exchanges"));
    }

    /// Judges every open tunnel and exchange by the configuration in force and the clock, and ends those that would
    /// not be allowed now. A request that was decided before and is not open yet is judged when it opens.
    fn rejudge_all(&mut self) -> usize {
        self.shared.live.advance();
        let config = self.shared.current.load();
        let now = Timestamp::now();
        self.judged = now;
        let mut lost = LostIdentities::default();
        let mut revoked = |client: &Client, objection: Objection| {
            if let Objection::Identity(why) = &objection {
                lost.note(client, why);
            }
            Revoked::from(&objection)
        };
        let tunnels = self.shared.live.revoke_where(|tunnel| {
            let facts = &tunnel.facts;
            let revoked = revoked(&facts.client, rejudge::still_allowed(tunnel, &config, now).err()?);
            tracing::debug!(id = %facts.id, target = %facts.target, "{}: {}", revoked.ending, revoked.reason);
            Some(revoked)
        });
        let exchanges = self.shared.live.revoke_exchanges_where(|exchange| {
            let facts = &exchange.facts;
            let revoked =
                revoked(&facts.client, rejudge::exchange_still_allowed(exchange, &config, now).err()?);
            tracing::debug!(target = %facts.target, "{}: {}", revoked.ending, revoked.reason);
            Some(revoked)
        });
        lost.tell();
        tunnels + exchanges
    }

    fn warn_of_mounts(&mut self) {
        for file in mounts::mounted(self.seen.paths()) {
            if !self.reported_mounted.contains(&file) {
                let name = file.display();
                tracing::warn!(
                    "{name} is mounted as a single file, as Kubernetes does for `subPath`: an update of its volume never \
                     reaches it; mount the directory instead"
                );
                self.reported_mounted.insert(file);
            }
        }
    }

    /// A finding about the configuration as a whole.
    fn fault(&self, text: &str) -> Finding {
        Finding::error(self.file.as_deref().unwrap_or(Path::new("")), Position::START, text)
    }
}
