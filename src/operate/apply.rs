//! Applies a configuration to the running program, by the same steps at the start and at a reload.
//!
//! Code that reads its settings with each request needs nothing here: it takes the snapshot in
//! [`crate::state::in_force`]. This file is for code that keeps something made from the configuration. A new part of
//! the configuration does not compile until [`apply`] says what to do with it. Not here: what a running server cannot
//! change, which [`crate::operate::reload`] refuses, and judging open tunnels again, which it does between the steps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use crate::config::{Config, Dns};
use crate::operate::memory;
use crate::operate::resources::{self, Share};
use crate::outbound::resolve::Resolver;
use crate::outbound::route::Route;
use crate::state::budgets::shared::Settings;
use crate::state::listener;
use crate::state::shared::Shared;
use crate::telemetry::access_log::Options;
use crate::telemetry::{self, diagnostics};
use crate::transport::tls::client::TrustError;
use crate::transport::tls::mint::Authority;

/// Why something that a configuration needs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// No resolver could be made from `dns` and the system's files.
    #[error("cannot set up DNS: {0}")]
    Dns(String),
    /// A rule or a parent proxy needs authorities to trust, and there are none.
    #[error("cannot set up upstreams: {0}")]
    Trust(#[from] TrustError),
}

/// What a configuration needs in addition to itself: everything that can fail, made before anything is changed.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) route: Arc<Route>,
    /// How the store of budgets is reached.
    pub(crate) store: Option<Settings>,
}

/// Makes what `config` needs. Whatever is serving already goes on, with what it knows, if its settings stay the same.
///
/// # Errors
/// [`PrepareError`].
pub(crate) fn prepare(config: &Config, serving: Option<&Shared>) -> Result<Prepared, PrepareError> {
    let resolver = match serving.map(Shared::resolver) {
        Some(resolver) if *resolver.settings() == config.dns => resolver,
        _ => Arc::new(resolver(&config.dns)?),
    };
    let route = match serving.map(Shared::route) {
        Some(route) if route.serves(config) => route,
        _ => Arc::new(Route::new(config)?),
    };
    Ok(Prepared { resolver, route, store: Settings::new(config)? })
}

fn resolver(settings: &Dns) -> Result<Resolver, PrepareError> {
    Resolver::new(settings).map_err(|error| PrepareError::Dns(error.to_string()))
}

/// What to tell an operator if fewer tunnels are carried than are configured.
pub(crate) fn reduction(config: &Config, shared: &Shared) -> Option<String> {
    let by_memory = memory::tunnels(shared.held.limit(), config);
    let by_descriptors = Share::of(shared.descriptors, config.limits.tunnels).tunnels;
    // The smaller number is in force.
    if by_memory < by_descriptors {
        memory::reduced_limit(shared.held.limit(), config)
    } else {
        resources::reduced_limit(shared.descriptors, config.limits.tunnels)
    }
}

/// Applies `config`: nothing fails from here on. `put_in_force` makes it the configuration that judges new requests.
/// It is called after everything they need is ready, and before the metrics report the configuration.
pub(crate) fn apply(
    config: &Config,
    prepared: Prepared,
    shared: &Shared,
    put_in_force: impl FnOnce() -> Timestamp,
) {
    let Config {
        // Used through the resolver and the route that were prepared.
        dns: _,
        upstream_proxy,
        certificates: _,
        limits,
        access_log,
        log,
        // Read from the snapshot, where they are used.
        listeners: _,
        admin: _,
        policies: _,
        // So is this; a reload has let it take over what the old one keeps.
        inspection,
        // Used by the client of the store; so is whether any rule has a budget.
        shared_state: _,
        tunnel: _,
        http: _,
        shutdown: _,
        // Reported by the metrics below, and followed by the reloader.
        hash: _,
        files: _,
        named: _,
    } = config;
    shared.resolver.store(prepared.resolver);
    shared.route.store(prepared.route);
    diagnostics::follow(*log);
    shared.log.set_on_failure(access_log.on_failure);
    shared.log.set_seal(access_log.seal.as_ref());
    // Squid's formats name a parent proxy, so they depend on `upstream_proxy` too.
    shared.log.set_format(telemetry::format(
        &access_log.format,
        upstream_proxy.as_ref().map(|parent| Arc::clone(&parent.except)),
        shared.log.lines(),
    ));
    if let (Some(store), Some(settings)) = (shared.budgets.store(), prepared.store) {
        store.follow(settings);
    }
    let memory = memory::limit(config);
    shared.budgets.set_most(memory::accounts(memory, config));
    shared.held.set_limit(memory);
    shared.log.set_memory(memory);
    let share = Share::of(shared.descriptors, limits.tunnels.min(memory::tunnels(memory, config)));
    let carried_before = shared.tunnels_carried.swap(share.tunnels, Ordering::Relaxed);
    shared.metrics.tunnels_limit(share.tunnels);
    shared.log.set_places(Options::places_for(share.tunnels));
    shared.strangers.set_cap(share.strangers, 0);
    shared.kept.set_cap(share.kept);
    // Said at the start, and whenever the setting changes.
    let is_new = shared.connections.set_cap(share.connections, share.last)
        || shared.current.load().limits.tunnels != limits.tunnels
        || carried_before != share.tunnels
        || shared.current.load().limits.budget_accounts != limits.budget_accounts;
    if let Some(reduced) = reduction(config, shared).filter(|_| is_new) {
        tracing::warn!("{reduced}");
    }
    if let Some(reduced) = memory::reduced_accounts(memory, config).filter(|_| is_new) {
        tracing::warn!("{reduced}");
    }
    if let Some(beyond) = memory::beyond(config).filter(|_| is_new) {
        tracing::warn!("{beyond}");
    }

    let since = put_in_force();
    shared.log.reload_copies();
    shared.metrics.in_force(config, since);
    listener::count_certificates(&shared.metrics, config);
    let authority = inspection.as_ref().map(|inspection| inspection.minter.authority());
    shared.metrics.inspection.authority_expires(authority.map(Authority::expires));
}
