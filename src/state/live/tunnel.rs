//! One live tunnel: what is known about it, and what ends it from outside.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::rules::Scheme;
use crate::state::live::inside::{Inside, InsideRequest};
use crate::state::live::revoked::Revoked;
use crate::state::proof::Proof;
use crate::transport::cancel::Cancel;
use crate::transport::meter::Meter;
use crate::words::client::Client;
use crate::words::outcome::{Ending, Reason};
use crate::words::target::{Host, Target};

/// What is known about a tunnel for its whole life: what to show, and what is needed to judge it again.
#[derive(Debug)]
pub struct TunnelFacts {
    /// The request's id, as in the log and `X-Request-Id`.
    pub id: Uuid,
    /// The client; shared with the connection.
    pub client: Arc<Client>,
    /// What proved who it is.
    pub proof: Arc<Proof>,
    /// What was asked for.
    pub target: Target,
    /// The policy that decided, as in the metrics.
    pub policy: Arc<str>,
    /// The metric label of the rule that decided; none in report mode if no rule matched.
    pub rule: Option<Arc<str>>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The address that was dialled.
    pub upstream: SocketAddr,
    /// Whether that is the address of a parent proxy.
    pub by_parent: bool,
    /// The scheme of its rule: what its content must be.
    pub scheme: Scheme,
    /// Whether egressd opened its TLS, and reads the requests in it.
    pub inspected: bool,
    /// When the request was read.
    pub started: Timestamp,
}

impl TunnelFacts {
    /// The address that the policy has to admit: the dialled address. Behind a parent proxy, which no rule judges, it
    /// is the address that the client wrote, if it wrote one.
    pub fn judged_address(&self) -> Option<IpAddr> {
        match (self.by_parent, &self.target.host) {
            (false, _) => Some(self.upstream.ip()),
            (true, Host::Address(address)) => Some(*address),
            (true, Host::Name(_)) => None,
        }
    }
}

/// One live tunnel, as admin, reload and drain see it.
#[derive(Debug)]
pub struct Tunnel {
    /// What does not change.
    pub facts: TunnelFacts,
    /// Its bytes so far.
    pub meter: Arc<Meter>,
    pub(super) cancel: Arc<Cancel>,
    pub(super) since: Instant,
    pub(super) sni: OnceLock<Arc<str>>,
    pub(super) objection: OnceLock<Reason>,
    pub(super) revoked: OnceLock<Revoked>,
    pub(super) inside: Inside,
}

impl Tunnel {
    /// The host name in its ClientHello, escaped if it is not a valid name; none before that, and none for `tcp`.
    pub fn sni(&self) -> Option<&str> {
        self.sni.get().map(AsRef::as_ref)
    }

    /// What report mode ignored in its first bytes; none before that, and none for `tcp`.
    pub fn objection(&self) -> Option<Reason> {
        self.objection.get().copied()
    }

    /// Ends it because it is no longer allowed, unless something else ended it before.
    pub fn revoke(&self, revoked: impl Into<Revoked>) {
        // Before it is told to end: the tunnel records this.
        let first = self.revoked.get_or_init(|| revoked.into());
        self.cancel(first.ending);
    }

    /// Why it was revoked, if it was.
    pub fn revoked(&self) -> Option<Reason> {
        self.revoked.get().map(|revoked| revoked.reason)
    }

    /// A request inside it ended.
    pub fn served(&self, request: InsideRequest) {
        self.inside.note(request);
    }

    /// How many requests inside it ended, and the last of them, the last one first.
    pub fn requests(&self) -> (u64, Vec<InsideRequest>) {
        self.inside.seen()
    }

    /// How long it has been registered, by the monotonic clock.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends it with `ending`, unless something else ended it before.
    pub fn cancel(&self, ending: Ending) {
        self.cancel.cancel(ending);
    }

    /// The ending it was given, if any: it may still be closing.
    pub fn ending(&self) -> Option<Ending> {
        self.cancel.ending()
    }
}
