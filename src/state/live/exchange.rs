//! Plain HTTP exchanges in the registry: their bytes count while they flow, and a reload judges them again as it
//! does tunnels. They are listed nowhere.
//!
//! An exchange registers before it dials, so the address that it reached comes later: [`LiveExchange::reached`]. A sweep that
//! passed before that has judged the rules alone; the generation that `reached` returns tells whether one did.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{Entry, Generation, Live, Place, Registration};
use crate::transport::cancel::Cancel;
use crate::transport::meter::Meter;
use crate::words::client::Client;
use crate::words::outcome::{Ending, Reason};
use crate::words::target::{Host, Target};

/// What is known of an exchange from its decision on.
#[derive(Debug)]
pub struct ExchangeFacts {
    /// Who asks; shared with the connection.
    pub client: Arc<Client>,
    /// What was asked for.
    pub target: Target,
    /// The policy that decided, as in the metrics.
    pub policy: Arc<str>,
    /// Whether a parent proxy is asked in place of the target.
    pub by_parent: bool,
}

/// One live exchange, as a reload sees it.
#[derive(Debug)]
pub struct Exchange {
    /// What does not change.
    pub facts: ExchangeFacts,
    pub(super) meter: Arc<Meter>,
    cancel: Cancel,
    /// The target's address, or the parent's.
    upstream: Mutex<Option<IpAddr>>,
    revoked: OnceLock<Reason>,
}

impl Exchange {
    /// The address that the policy has to admit, once there is one: what was dialled; behind a parent, which no rule
    /// judges, the address that the client wrote, if it was one.
    pub fn judged_address(&self) -> Option<IpAddr> {
        match (self.facts.by_parent, &self.facts.target.host) {
            // A plain value: a panic elsewhere leaves it as true as it was.
            (false, _) => *self.upstream.lock().unwrap_or_else(PoisonError::into_inner),
            (true, Host::Address(address)) => Some(*address),
            (true, Host::Name(_)) => None,
        }
    }

    /// Ends it with `policy_revoked`, for this reason.
    pub fn revoke(&self, reason: Reason) {
        // Before it is told to end: it records this.
        self.revoked.get_or_init(|| reason);
        self.cancel.cancel(Ending::PolicyRevoked);
    }

    /// Why it was revoked, if it was.
    pub fn revoked(&self) -> Option<Reason> {
        self.revoked.get().copied()
    }
}

impl Live {
    /// Puts an exchange into the registry, where it stays until the guard is dropped. `kept` is the address of the
    /// connection that will serve it, where there is one already.
    pub fn register_exchange(
        self: &Arc<Self>,
        facts: ExchangeFacts,
        meter: Arc<Meter>,
        kept: Option<IpAddr>,
        decided: Generation,
    ) -> Registration<LiveExchange> {
        let exchange = Arc::new(Exchange {
            facts,
            meter,
            cancel: Cancel::default(),
            upstream: Mutex::new(kept),
            revoked: OnceLock::new(),
        });
        let (place, now) = self.enter(Entry::Exchange(Arc::clone(&exchange)), &self.exchanges);
        let guard = LiveExchange { live: Arc::clone(self), exchange, place };
        if now == decided { Registration::Current(guard) } else { Registration::JudgeAgain(guard) }
    }

    /// Ends with `policy_revoked` every exchange for which `judge` gives a reason; the rest never notice. Tells how many.
    pub fn revoke_exchanges_where(&self, mut judge: impl FnMut(&Exchange) -> Option<Reason>) -> usize {
        let mut revoked = 0;
        let exchanges = |entry: &Entry| match entry {
            Entry::Exchange(exchange) => Some(Arc::clone(exchange)),
            Entry::Tunnel(_) => None,
        };
        self.visit(exchanges, |exchange| {
            if exchange.cancel.ending().is_none()
                && let Some(reason) = judge(exchange)
            {
                exchange.revoke(reason);
                revoked += 1;
            }
        });
        revoked
    }
}

/// Keeps one plain HTTP exchange in the registry; leaves it on drop.
#[must_use = "the exchange leaves the registry when this is dropped"]
pub struct LiveExchange {
    live: Arc<Live>,
    exchange: Arc<Exchange>,
    place: Place,
}

impl LiveExchange {
    /// The exchange as a reload sees it.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Waits until it is ended from outside.
    pub async fn cancelled(&self) -> Ending {
        self.exchange.cancel.cancelled().await
    }

    /// Remembers the address that was dialled. Where the generation that comes back is not the one that admitted the
    /// address, a sweep may have passed without seeing it: judge again.
    pub fn reached(&self, address: IpAddr) -> Generation {
        // The lock puts this before a sweep or behind it.
        let _shard = self.live.shard(usize::from(self.place.shard));
        *self.exchange.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        self.live.generation()
    }
}

impl Drop for LiveExchange {
    fn drop(&mut self) {
        self.live.leave(self.place, &self.live.exchanges);
    }
}
