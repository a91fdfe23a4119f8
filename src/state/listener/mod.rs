//! One listener, as its connections see it: its name, its settings, its counters. Accepting is `accept`'s.

pub mod flood;
pub mod hidden;

use std::sync::{Arc, OnceLock};

use crate::config::{self, Config};
use crate::state::listener::flood::Flood;
use crate::state::listener::hidden::Peers;
use crate::telemetry::metrics::{ConnectionResult, Connections, Metrics};
use crate::words::client::PeerAddr;

/// One listener, as its connections see it.
#[derive(Debug)]
pub struct Listener {
    /// From the configuration.
    pub name: Arc<str>,
    /// Its place in [`Config::listeners`].
    index: usize,
    /// Its counters.
    pub(crate) connections: Connections,
    /// How much its strangers had written of late.
    pub(crate) flood: Flood,
    /// Whether a balancer hides the clients; None where one that does not is spoken to.
    peers: Option<Peers>,
    /// That one does, once it looked so.
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

    /// What `config` says of it.
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

    /// What speaks for a balancer that hides the clients.
    pub fn hidden_clients(&self) -> Option<&str> {
        self.hidden.get().map(String::as_str)
    }
}

/// Tells the metrics of the certificates that the listeners show from now on.
pub(crate) fn count_certificates(metrics: &Metrics, config: &Config) {
    for listener in &config.listeners {
        if let Some(tls) = &listener.tls {
            metrics.certificate_expires(&listener.name, tls.server.expires().as_second() as f64);
        }
    }
}
