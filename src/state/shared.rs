//! What every connection shares: settings in force, registries, counters. Built once, by [`crate::operate::server`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::config::Config;
use crate::outbound::dial::OwnAddresses;
use crate::outbound::resolve::Resolver;
use crate::outbound::route::Route;
use crate::state::allowed::Allowed;
use crate::state::budgets::Budgets;
use crate::state::distrust::Distrusts;
use crate::state::drain::Drain;
use crate::state::hellos::Hellos;
use crate::state::history::History;
use crate::state::in_force::Current;
use crate::state::limits::Occupancy;
use crate::state::limits::connections::OpenConnections;
use crate::state::limits::kept::KeptConnections;
use crate::state::limits::readers::Readers;
use crate::state::limits::unnamed::Unnamed;
use crate::state::listener::Listener;
use crate::state::live::{Generation, Live};
use crate::state::passwords::PasswordVerifier;
use crate::state::recent::Recent;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::transport::held::HeldBytes;
use crate::transport::turns::Turns;

/// One for the whole program.
#[derive(Debug)]
pub struct Shared {
    /// The settings and the policy in force.
    pub current: Current,
    /// Resolves names; replaced by a reload of `dns`.
    pub resolver: ArcSwap<Resolver>,
    /// The routes to targets; replaced by a reload of `upstream_proxy`, `certificates` or the list of hosts to verify.
    pub route: ArcSwap<Route>,
    /// The addresses on which egressd itself listens: never a target.
    pub own: OwnAddresses,
    /// What clients may still upload by rules with a budget; outlives reloads.
    pub budgets: Arc<Budgets>,
    /// Requests in progress.
    pub occupancy: Arc<Occupancy>,
    /// The limit of open descriptors; `limits.tunnels` cannot exceed what it allows.
    pub descriptors: u64,
    /// The number of tunnels that descriptors and memory allow; changes with a reload.
    pub tunnels_carried: AtomicUsize,
    /// The memory that is held for peers.
    pub held: Arc<HeldBytes>,
    /// Verifies passwords, for all listeners that ask for them.
    pub passwords: PasswordVerifier,
    /// Connections open.
    pub connections: Arc<OpenConnections>,
    /// Those of clients that no policy can match: they take no place of a client that may use the proxy.
    pub strangers: Arc<OpenConnections>,
    /// Those of balancers that have not named their client yet: they take no place of a client either.
    pub unnamed: Arc<Unnamed>,
    /// Connections to targets that are kept for a client's next plain request.
    pub kept: Arc<KeptConnections>,
    /// Clients whose long requests to Git are read.
    pub readers: Arc<Readers>,
    /// Tunnels open.
    pub live: Arc<Live>,
    /// The access log.
    pub log: AccessLog,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The stage of the shutdown.
    pub drain: Drain,
    /// The host's name, for the log's `instance`.
    pub instance: Box<str>,
    /// When the program started.
    pub started: Timestamp,
    /// The listeners, in the order of the file.
    pub listeners: Box<[Arc<Listener>]>,
    /// Turns at TLS handshakes.
    pub handshakes: Arc<Turns>,
    /// What was recently refused.
    pub recent: Recent,
    /// Who went where.
    pub allowed: Allowed,
    /// The last hour in numbers.
    pub history: History,
    /// Which clients did not accept the certificate of an inspected tunnel.
    pub distrusts: Distrusts,
    /// The hellos of transparent connections whose targets have not answered.
    pub hellos: Hellos,
}

/// The configuration that judges a request and its generation, taken together.
#[derive(Clone)]
pub(crate) struct Snapshot {
    /// Read before `config`, so that a reload between the two is noticed.
    pub(crate) generation: Generation,
    pub(crate) config: Arc<Config>,
}

impl Shared {
    /// The configuration that judges a request from here on.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let generation = self.live.generation();
        Snapshot { generation, config: self.current.load() }
    }

    /// Tunnels and exchanges that may be open under `config`.
    pub fn most_tunnels(&self, config: &Config) -> usize {
        config.limits.tunnels.min(self.tunnels_carried.load(Ordering::Relaxed))
    }

    /// The resolver in force.
    pub fn resolver(&self) -> Arc<Resolver> {
        self.resolver.load_full()
    }

    /// The route in force.
    pub fn route(&self) -> Arc<Route> {
        self.route.load_full()
    }
}
