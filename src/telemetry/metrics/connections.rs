//! What became of the connections of a listener before their first request.

use std::fmt;

use prometheus::IntCounter;

/// What happened to a TCP connection to a listener, before its first request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionResult {
    /// It sent something, and may go on.
    Accepted,
    /// It sent nothing and left: a load balancer's health check.
    Probe,
    /// There were too many.
    Limit,
    /// Its address is not in `proxy_protocol.trusted`.
    PeerNotTrusted,
    /// Its PROXY header is missing or malformed.
    ProxyHeaderInvalid,
    /// Its TLS handshake failed, or its certificate was not valid.
    TlsFailed,
}

impl ConnectionResult {
    /// Every one of them.
    pub const ALL: &'static [ConnectionResult] = &[
        ConnectionResult::Accepted,
        ConnectionResult::Probe,
        ConnectionResult::Limit,
        ConnectionResult::PeerNotTrusted,
        ConnectionResult::ProxyHeaderInvalid,
        ConnectionResult::TlsFailed,
    ];

    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            ConnectionResult::Accepted => "accepted",
            ConnectionResult::Probe => "probe",
            ConnectionResult::Limit => "limit",
            ConnectionResult::PeerNotTrusted => "peer_not_trusted",
            ConnectionResult::ProxyHeaderInvalid => "proxy_header_invalid",
            ConnectionResult::TlsFailed => "tls_failed",
        }
    }
}

/// The counters of one listener.
pub struct Connections(pub(super) Box<[IntCounter]>);

impl Connections {
    /// Counts a connection with this result.
    pub fn count(&self, result: ConnectionResult) {
        if let Some(counter) = self.0.get(result as usize) {
            counter.inc();
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}
