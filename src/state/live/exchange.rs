//! Plain HTTP exchanges in the registry: their bytes count while they flow, and a reload judges them again as it does
//! tunnels. They are not listed anywhere.
//!
//! An exchange registers before it dials, so its address is added later ([`super::LiveExchange::reached`]).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::Method;
use http::uri::PathAndQuery;

use crate::rules::{HttpRequest, Recognised, Upgrade};
use crate::state::live::revoked::Revoked;
use crate::state::proof::Proof;
use crate::transport::cancel::Cancel;
use crate::transport::meter::Meter;
use crate::words::client::Client;
use crate::words::outcome::Reason;
use crate::words::target::{Host, Target};

/// What is known about an exchange from its decision on.
#[derive(Debug)]
pub struct ExchangeFacts {
    /// The client; shared with the connection.
    pub client: Arc<Client>,
    /// What proved who it is.
    pub proof: Arc<Proof>,
    /// What was asked for.
    pub target: Target,
    /// The policy that decided, as in the metrics.
    pub policy: Arc<str>,
    /// Whether a parent proxy is asked instead of the target.
    pub by_parent: bool,
    /// What it asks for.
    pub asks: Asked,
}

/// A request as rules judge it, kept for as long as it is under way.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its path and query, as they were sent.
    pub path: PathAndQuery,
    /// What it asks to make of its connection.
    pub upgrade: Upgrade,
    /// Whether it came in a tunnel whose TLS egressd opened.
    pub inspected: bool,
    /// What was recognised in it, where a rule asked for it.
    pub recognised: Option<Arc<Recognised>>,
}

impl Asked {
    /// For the rules.
    pub fn request(&self) -> HttpRequest<'_> {
        let Asked { method, path, upgrade, inspected, recognised } = self;
        HttpRequest {
            method: method.as_str(),
            path: path.path(),
            query: path.query(),
            upgrade: *upgrade,
            inspected: *inspected,
            recognised: recognised.as_deref(),
        }
    }
}

/// One live exchange, as a reload sees it.
#[derive(Debug)]
pub struct Exchange {
    /// What does not change.
    pub facts: ExchangeFacts,
    pub(super) meter: Arc<Meter>,
    pub(super) cancel: Cancel,
    /// The target's address, or the parent's.
    pub(super) upstream: Mutex<Option<IpAddr>>,
    pub(super) revoked: OnceLock<Revoked>,
}

impl Exchange {
    /// The address that the policy has to admit, once there is one: the dialled address. Behind a parent proxy, which
    /// no rule judges, it is the address that the client wrote, if it wrote one.
    pub fn judged_address(&self) -> Option<IpAddr> {
        match (self.facts.by_parent, &self.facts.target.host) {
            // A plain value: a panic elsewhere leaves it correct.
            (false, _) => *self.upstream.lock().unwrap_or_else(PoisonError::into_inner),
            (true, Host::Address(address)) => Some(*address),
            (true, Host::Name(_)) => None,
        }
    }

    /// Ends it because it is no longer allowed.
    pub fn revoke(&self, revoked: impl Into<Revoked>) {
        // Before it is told to end: the exchange records this.
        let first = self.revoked.get_or_init(|| revoked.into());
        self.cancel.cancel(first.ending);
    }

    /// Why it was revoked, if it was.
    pub fn revoked(&self) -> Option<Reason> {
        self.revoked.get().map(|revoked| revoked.reason)
    }
}
