//! One listener, as its connections see it: its name, its settings, its counters. Not here: accepting
//! ([`crate::inbound::accept`]).

pub mod flood;
pub mod hidden_clients;

use std::sync::{Arc, OnceLock};

use crate::config::{self, Config};
use crate::state::listener::flood::Flood;
use crate::state::listener::hidden_clients::Peers;
use crate::telemetry::metrics::{ConnectionResult, Connections, Metrics};
use crate::words::client::PeerAddr;

/// One listener, as its connections see it.
#[derive(Debug)]
pub struct Listener {
    /// From the configuration.
    pub name: Arc<str>,
    /// Its position in [`Config::listeners`].
    index: usize,
    /// Its counters.
    pub(crate) connections: Connections,
    /// The recent records that untrusted clients caused.
    pub(crate) flood: Flood,
    /// Looks for a balancer that hides the clients; None with PROXY protocol, which shows them.
    peers: Option<Peers>,
    /// The finding about such a balancer, once there is one.
    hidden: OnceLock<String>,
}

impl Listener {
    /// The listener at `index` of [`Config::listeners`].
    pub fn new(index: usize, settings: &config::Listener, metrics: &Metrics) -> Self {
        Listener {
            name: Arc::clone(&settings.name),
            index,
            connections: metrics.connections(&settings.name),
            flood: Flood::default(),
            peers: settings.proxy_protocol.is_none().then(Peers::default),
            hidden: OnceLock::new(),
        }
    }

    /// Its settings in `config`.
    pub(crate) fn settings<'c>(&self, config: &'c Config) -> &'c config::Listener {
        config.listeners.get(self.index).expect("a reload that changes the listeners is refused")
    }

    /// A connection came to its first request.
    pub(crate) fn accepted(&self, peer: PeerAddr) {
        self.connections.count(ConnectionResult::Accepted);
        if let Some(few) = self.peers.as_ref().and_then(|peers| peers.saw(peer.ip())) {
            tracing::warn!("listener {}: {few}", self.name);
            self.hidden.get_or_init(|| few.to_string());
        }
    }

    /// The finding about a balancer that hides the clients.
    pub fn hidden_clients(&self) -> Option<&str> {
        self.hidden.get().map(String::as_str)
    }
}

/// Gives the metrics the certificates that the listeners show from now on.
pub(crate) fn count_certificates(metrics: &Metrics, config: &Config) {
    for listener in &config.listeners {
        if let Some(tls) = &listener.tls {
            metrics.certificate_expires(&listener.name, tls.server.expires().as_second() as f64);
        }
    }
}
