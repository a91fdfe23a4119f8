//! The settings in force, as one immutable snapshot that a reload swaps whole.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Config;

/// The configuration in force. A request takes it once and is judged wholly by it.
#[derive(Debug)]
pub struct Current(ArcSwap<Config>);

impl Current {
    /// The first configuration.
    pub fn new(config: Config) -> Self {
        Current(ArcSwap::from_pointee(config))
    }

    /// The configuration in force now.
    pub fn load(&self) -> Arc<Config> {
        self.0.load_full()
    }

    /// Puts `config` in force, and returns what was: freeing a policy of a million rules is not a worker's work.
    pub fn replace(&self, config: Config) -> Arc<Config> {
        self.0.swap(Arc::new(config))
    }
}
