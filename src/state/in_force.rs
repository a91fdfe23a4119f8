//! The settings in force and the last reload's outcome, as one immutable snapshot that a reload replaces whole.
//!
//! A request takes the settings once and is judged only by them; code that shows both sees values that belong
//! together. Only [`crate::operate::reload`] writes here.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::config::{Config, Finding};

/// What is in force, and since when.
#[derive(Debug)]
pub struct Current(ArcSwap<InForce>);

/// One state of it, which never changes.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The configuration.
    pub config: Arc<Config>,
    /// When it was put in force.
    pub since: Timestamp,
    /// What is probably not meant in it, as logged on stderr. Shared, because every attempt to replace it makes a snapshot.
    pub warnings: Arc<[Finding]>,
    /// The result of the last attempt to replace it; at first, of the start.
    pub last_reload: LastReload,
}

/// The result of one reload.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When it ended.
    pub at: Timestamp,
    /// Why it was refused, warnings included, as logged on stderr; empty: the newest configuration is in force.
    /// Shared, because every attempt makes a snapshot.
    pub refused: Arc<[Finding]>,
}

impl LastReload {
    fn fine(at: Timestamp) -> Self {
        LastReload { at, refused: Arc::from([]) }
    }

    /// Whether the newest configuration is the one in force.
    pub fn is_successful(&self) -> bool {
        self.refused.is_empty()
    }
}

impl Current {
    /// The first configuration, read at `now`.
    pub fn new(config: Config, now: Timestamp) -> Self {
        let (config, warnings, last_reload) = (Arc::new(config), Arc::from([]), LastReload::fine(now));
        Current(ArcSwap::from_pointee(InForce { config, since: now, warnings, last_reload }))
    }

    /// The warnings about what is in force are these.
    pub fn warned(&self, warnings: Vec<Finding>) {
        let now = self.0.load();
        self.0.store(Arc::new(InForce { warnings: warnings.into(), ..InForce::clone(&now) }));
    }

    /// The configuration in force now.
    pub fn load(&self) -> Arc<Config> {
        Arc::clone(&self.0.load().config)
    }

    /// The same, with its history.
    pub fn in_force(&self) -> Arc<InForce> {
        self.0.load_full()
    }

    /// Puts `config` in force, with the warnings about it, and returns the previous one: freeing a policy of a million rules must
    /// not happen on a worker.
    pub fn replace(&self, config: Arc<Config>, warnings: Arc<[Finding]>, now: Timestamp) -> Arc<Config> {
        let last_reload = LastReload::fine(now);
        let old = self.0.swap(Arc::new(InForce { config, since: now, warnings, last_reload }));
        Arc::clone(&old.config)
    }

    /// A reload found that the files still match what is in force.
    pub fn confirm(&self, now: Timestamp) {
        self.tell(LastReload::fine(now));
    }

    /// A reload was refused for these reasons; what is in force stays.
    pub fn refuse(&self, refused: Arc<[Finding]>, now: Timestamp) {
        self.tell(LastReload { at: now, refused });
    }

    fn tell(&self, last_reload: LastReload) {
        let now = self.0.load();
        self.0.store(Arc::new(InForce { last_reload, ..InForce::clone(&now) }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::Severity;

    fn config(text: &str) -> Config {
        config::load_str("egressd.yaml", text, |_| Err(std::io::ErrorKind::NotFound.into()))
            .expect(text)
            .config
    }

    #[test]
    fn the_outcome_stands_beside_the_configuration_and_since_is_when_that_came() {
        let at = |second| Timestamp::from_second(second).expect("a moment");
        let current = Current::new(config("limits: {tunnels: 1}"), at(1));
        let told = |current: &Current| {
            let now = current.in_force();
            let (since, at) = (now.since.as_second(), now.last_reload.at.as_second());
            (now.config.limits.tunnels, since, at, now.last_reload.is_successful())
        };
        assert_eq!(told(&current), (1, 1, 1, true));
        let finding = Finding {
            file: "egressd.yaml".into(),
            line: 3,
            column: 7,
            severity: Severity::Error,
            text: "wrong".to_owned(),
        };
        current.refuse(Arc::from([finding]), at(2));
        assert_eq!(told(&current), (1, 1, 2, false));
        assert_eq!(current.in_force().last_reload.refused[0].to_string(), "egressd.yaml:3:7: error: wrong");
        current.confirm(at(3));
        assert_eq!(told(&current), (1, 1, 3, true));
        let old = current.replace(Arc::new(config("limits: {tunnels: 4}")), Arc::from([]), at(4));
        assert_eq!(old.limits.tunnels, 1);
        assert_eq!(told(&current), (4, 4, 4, true));
        assert_eq!(current.load().limits.tunnels, 4);
    }
}
