//! One listener, as its connections see it: its name, its settings, its counters. Not here: accepting
//! ([`crate::inbound::accept`]).

pub mod certificates;
pub(crate) mod challenges;
pub mod flood;
pub mod hidden_clients;

use std::sync::{Arc, OnceLock};

use crate::config::{self, Config};
use crate::state::listener::certificates::Certificates;
use crate::state::listener::challenges::Challenges;
use crate::state::listener::flood::Flood;
use crate::state::listener::hidden_clients::Peers;
use crate::state::proof::Proof;
use crate::telemetry::metrics::{ConnectionResult, Connections, Metrics};
use crate::transport::tls::{ClientChain, ClientTrust};
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
    /// The 407s without an answer.
    pub(crate) challenges: Arc<Challenges>,
    /// Looks for a balancer that hides the clients; None with PROXY protocol, which shows them.
    peers: Option<Peers>,
    /// The finding about such a balancer, once there is one.
    hidden: OnceLock<String>,
    /// What its clients showed.
    certificates: Certificates,
    /// The proof of a client that showed no certificate.
    without_certificate: Arc<Proof>,
}

impl Listener {
    /// The listener at `index` of [`Config::listeners`].
    pub fn new(index: usize, settings: &config::Listener, metrics: &Metrics) -> Self {
        Listener {
            name: Arc::clone(&settings.name),
            index,
            connections: metrics.connections(&settings.name),
            flood: Flood::default(),
            challenges: Arc::default(),
            // Nobody is hidden behind a unix socket: its peers are of this machine.
            peers: (settings.proxy_protocol.is_none() && settings.address.ip().is_some())
                .then(Peers::default),
            hidden: OnceLock::new(),
            certificates: Certificates::default(),
            without_certificate: Arc::new(Proof::of_connection(index, None)),
        }
    }

    /// Its settings in `config`.
    pub(crate) fn settings<'c>(&self, config: &'c Config) -> &'c config::Listener {
        config.listeners.get(self.index).expect("a reload that changes the listeners is refused")
    }

    /// What proves the client of a connection that showed these certificates, or none.
    pub(crate) fn proof(&self, chain: Option<ClientChain>) -> Arc<Proof> {
        match chain {
            None => Arc::clone(&self.without_certificate),
            Some(chain) => Arc::new(Proof::of_connection(self.index, Some(self.certificates.share(chain)))),
        }
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
            let lists = tls.server.clients().map(ClientTrust::lists_due).unwrap_or_default();
            let due = lists.iter().map(|(due, _)| *due).min();
            metrics.expiries.set(&listener.name, tls.server.expires(), due);
        }
    }
}
