//! A file changed, HUP came or a rule expired: what is in force is read again, and what is open is judged again.
//!
//! A new configuration is checked whole and then replaces the old one whole; refused, the old one stays and the reasons
//! are told. One thread of its own does all of it, because everything here takes its time and must hold up nobody: reading
//! and checking a million rules, judging ten thousand tunnels, freeing what was in force before. It is woken by the
//! kernel's word (`watch`), looks for itself every [`LOOK`], and compares contents every [`CONTENT_LOOK`] (`files`). Not
//! here: how a tunnel is judged (`revoke`).

mod bell;
mod files;
mod mounts;
mod restart;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::bell::{Bell, Rung};
pub use self::files::{Seen, load};
use self::watch::Watch;
use crate::config::{Config, Finding, Loaded, Place, Severity};
use crate::operate::apply::{self, Prepared};
use crate::state::live::rejudge;
use crate::state::shared::Shared;

/// After a word of change so long must pass without another one: editors and the kubelet make several in a row, and
/// a file that is still being written is not read.
const SETTLE: Duration = Duration::from_millis(50);
/// The longest wait for that: somebody may write without end.
const LONGEST_SETTLE: Duration = Duration::from_millis(500);
/// The slow look at the state of every file.
const LOOK: Duration = Duration::from_secs(2);
/// The slowest look, at the content of every file.
const CONTENT_LOOK: Duration = Duration::from_secs(60);
/// A refused configuration is read again so often, changed or not: what it lacked may have been a descriptor.
const RETRY: Duration = Duration::from_secs(30);
/// Rules told by name when they expire; the others are counted.
const EXPIRED_TOLD: usize = 5;

/// Where the configuration in force came from.
#[derive(Debug)]
pub struct Source {
    /// `None`: the embedded default.
    pub file: Option<PathBuf>,
    /// What was read for it.
    pub seen: Seen,
}

/// The running reloader; it ends when this is dropped.
#[derive(Debug)]
pub struct Reloading(Arc<Bell>);

/// How a configuration is read: [`load`], or what a test puts in its place.
type Load = fn(Option<&Path>) -> (Result<Loaded, Vec<Finding>>, Seen);

struct Reloader {
    shared: Arc<Shared>,
    file: Option<PathBuf>,
    load: Load,
    seen: Seen,
    bell: Arc<Bell>,
    watch: Watch,
    /// The moment by which the open tunnels were judged last.
    judged: Timestamp,
    /// When the files were read last.
    read_at: Instant,
    /// When their contents were compared last.
    compared_at: Instant,
    /// What was in force, while requests that were decided by it are on their way.
    retired: Vec<Arc<Config>>,
    /// Files of which it was told that they never change.
    told_mounted: BTreeSet<PathBuf>,
}

/// Starts following the files of the configuration in force, and the expiries of its rules.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(shared: Arc<Shared>, source: Source) -> io::Result<Reloading> {
    let bell = Arc::new(Bell::default());
    let reloading = Reloading(Arc::clone(&bell));
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || Reloader::new(shared, source, bell, load).run())?;
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
    fn new(shared: Arc<Shared>, source: Source, bell: Arc<Bell>, load: Load) -> Self {
        let Source { file, seen } = source;
        let now = Instant::now();
        Reloader {
            judged: shared.current.in_force().since,
            watch: Watch::new(Arc::clone(&bell)),
            shared,
            file,
            load,
            seen,
            bell,
            read_at: now,
            compared_at: now,
            retired: Vec::new(),
            told_mounted: BTreeSet::new(),
        }
    }

    fn run(mut self) {
        self.warn_of_mounts();
        loop {
            // What changed before a directory was watched is not heard of: it is looked at right away.
            let new = self.watch.follow(self.seen.paths());
            let rung = self.bell.wait(if new { Duration::ZERO } else { self.patience() });
            let rung = self.settle(rung);
            if rung.stop {
                return;
            }
            // A bug in reading some configuration must not be the end of reading.
            if catch_unwind(AssertUnwindSafe(|| self.turn(rung))).is_err() {
                self.shared.metrics.panicked();
                self.refuse(
                    vec![self.fault("a fault of egressd while reading it: please report it")],
                    rung.requested,
                );
                if self.bell.wait(RETRY).stop {
                    return;
                }
            }
        }
    }

    /// How long nothing needs to be done if nothing happens.
    fn patience(&self) -> Duration {
        let now = Timestamp::now();
        let expiry = self.shared.current.load().policies.next_expiry(self.judged.min(now));
        let left = expiry.map(|moment| Duration::try_from(moment.duration_since(now)).unwrap_or_default());
        left.map_or(LOOK, |left| left.min(LOOK))
    }

    /// Waits until the changes have come to an end; a request is not kept waiting.
    fn settle(&self, mut rung: Rung) -> Rung {
        let deadline = Instant::now() + LONGEST_SETTLE;
        while rung.changed && !rung.requested && !rung.stop && Instant::now() < deadline {
            rung = self.bell.wait(SETTLE);
        }
        rung
    }

    /// Whatever is due.
    fn turn(&mut self, rung: Rung) {
        self.expire();
        if rung.requested || self.has_changed() {
            self.reload(rung.requested);
        }
        // Freed here and not by the request that ends last: a million rules take long enough to be felt by every tunnel
        // that shares its thread.
        self.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// Whether it is worth reading again.
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

    /// Reads the configuration again and puts it in force, or tells why not.
    fn reload(&mut self, requested: bool) {
        let Some(file) = self.file.clone() else {
            tracing::info!("nothing to reload: the embedded default is in force");
            return;
        };
        let (loaded, seen) = (self.load)(Some(&file));
        self.seen = seen;
        self.read_at = Instant::now();
        self.compared_at = self.read_at;
        self.warn_of_mounts();
        match loaded {
            Err(findings) => self.refuse(findings, requested),
            Ok(loaded) if loaded.config.hash == self.shared.current.load().hash => self.confirm(requested),
            Ok(loaded) => match self.replacement(&file, &loaded) {
                Ok(prepared) => self.replace(loaded, prepared),
                Err(findings) => self.refuse(findings, requested),
            },
        }
    }

    /// What has to be made for a configuration before it can be in force.
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
        let Loaded { config, warnings, .. } = loaded;
        for finding in &warnings {
            tracing::warn!("{finding}");
        }
        let (shared, config) = (Arc::clone(&self.shared), Arc::new(config));
        let mut ended = 0;
        apply::apply(&config, prepared, &shared, || {
            let now = Timestamp::now();
            self.retired.push(shared.current.replace(Arc::clone(&config), now));
            ended = self.judge();
            now
        });
        tracing::info!("configuration {} is in force; {ended} tunnels ended", config.hash.short());
    }

    /// The files say what they said when what is in force was read.
    fn confirm(&self, requested: bool) {
        let mended = !self.shared.current.in_force().last_reload.is_successful();
        let now = Timestamp::now();
        self.shared.current.confirm(now);
        self.shared.metrics.reload_confirmed(now);
        if mended || requested {
            let hash = self.shared.current.load().hash;
            tracing::info!("the configuration is again {}, which is in force", hash.short());
        }
    }

    /// Keeps what is in force and tells why; once, unless somebody asked.
    fn refuse(&self, findings: Vec<Finding>, requested: bool) {
        let shared = &self.shared;
        let told = *shared.current.in_force().last_reload.refused == *findings;
        shared.current.refuse(findings.into(), Timestamp::now());
        shared.metrics.reload_failed();
        if told && !requested {
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
            "the changed configuration is refused; {} stays in force",
            in_force.config.hash.short()
        );
    }

    /// Judges the open tunnels again where a rule has expired since they were judged.
    fn expire(&mut self) {
        let now = Timestamp::now();
        // A clock that was put back comes to the same moment again.
        self.judged = self.judged.min(now);
        let config = self.shared.current.load();
        if config.policies.next_expiry(self.judged).is_none_or(|moment| moment > now) {
            return;
        }
        let since = self.judged;
        let ended = self.judge();
        let expired = config
            .policies
            .rules()
            .filter(|rule| rule.expires().is_some_and(|moment| since < moment && moment <= self.judged));
        let mut more = 0;
        for (index, rule) in expired.enumerate() {
            if index < EXPIRED_TOLD {
                tracing::warn!("{}:{}: the rule {} has expired", rule.file(), rule.line(), rule.text());
            } else {
                more += 1;
            }
        }
        if more > 0 {
            tracing::warn!("{more} more rules have expired");
        }
        tracing::info!("{ended} tunnels ended");
    }

    /// Judges every open tunnel and exchange by what is in force and by the clock, and ends those that would not be let
    /// through. Who was decided before and is not open yet is judged when it is.
    fn judge(&mut self) -> usize {
        self.shared.live.advance();
        let config = self.shared.current.load();
        let now = Timestamp::now();
        self.judged = now;
        let tunnels = self.shared.live.revoke_where(|tunnel| {
            let reason = rejudge::judge(tunnel, &config, now).err()?;
            tracing::debug!(id = %tunnel.facts.id, target = %tunnel.facts.target, "revoked: {reason}");
            Some(reason)
        });
        let exchanges = self.shared.live.revoke_exchanges_where(|exchange| {
            let reason = rejudge::judge_exchange(exchange, &config, now).err()?;
            tracing::debug!(target = %exchange.facts.target, "revoked: {reason}");
            Some(reason)
        });
        tunnels + exchanges
    }

    fn warn_of_mounts(&mut self) {
        for file in mounts::mounted(self.seen.paths()) {
            if !self.told_mounted.contains(&file) {
                let name = file.display();
                tracing::warn!(
                    "{name} is mounted by itself, as Kubernetes does for `subPath`: an update of its volume never reaches \
                     it; mount the directory instead"
                );
                self.told_mounted.insert(file);
            }
        }
    }

    /// What is wrong with the configuration as a whole.
    fn fault(&self, text: &str) -> Finding {
        Finding::error(self.file.as_deref().unwrap_or(Path::new("")), Place::START, text)
    }
}
