//! What the client of the store is told: the configuration, made ready for use.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::config::{Config, SharedState};
use crate::transport::purse::bank::WithoutStore;
use crate::transport::tls::authorities::Roots;
use crate::transport::tls::client::{TrustError, client_config};

/// How the store is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) store: SharedState,
    roots: Roots,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Whether any rule has a budget: without one, nothing is sent.
    pub(super) is_needed: bool,
}

impl Settings {
    /// Those of `config`; `None`: it has no store.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(config: &Config) -> Result<Option<Self>, TrustError> {
        let Some(store) = &config.shared_state else { return Ok(None) };
        let roots = config.certificates.roots.clone();
        let tls = match store.url.tls {
            true => Some(Arc::new(client_config(store.ca.as_ref(), &roots)?)),
            false => None,
        };
        let is_needed = config.policies.has_budgets();
        Ok(Some(Settings { store: store.clone(), roots, tls, is_needed }))
    }

    /// Whether nothing has to be done anew.
    pub(super) fn is_like(&self, other: &Settings) -> bool {
        (&self.store, &self.roots, self.is_needed) == (&other.store, &other.roots, other.is_needed)
    }

    /// What holds while it does not answer.
    pub(super) fn without_store(&self) -> WithoutStore {
        let SharedState { on_failure, replicas, .. } = &self.store;
        WithoutStore { on_failure: *on_failure, replicas: replicas.unwrap_or(1) }
    }
}
