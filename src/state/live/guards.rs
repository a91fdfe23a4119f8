//! What keeps a tunnel or an exchange in the registry, from its registration to its drop.
//!
//! An exchange registers before it dials. A sweep that passed before it reached an address has judged only the rules;
//! the generation that [`LiveExchange::reached`] returns shows whether there was such a sweep.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::exchange::{Exchange, ExchangeFacts};
use super::inside::Inside;
use super::registry::{Entry, Generation, Live, Seat};
use super::tunnel::{Tunnel, TunnelFacts};
use crate::transport::cancel::Cancel;
use crate::transport::meter::Meter;
use crate::words::outcome::{Ending, Reason};

/// The result of [`Live::register`]. An enum, so that the second case cannot be overlooked.
#[derive(Debug)]
#[must_use = "it leaves the registry when its guard is dropped, and may have to be judged again"]
pub enum Registration<Guard> {
    /// The policy that decided is still the newest.
    Current(Guard),
    /// There is a newer policy: decide again, before the `200`, and drop the guard if the verdict is now a refusal.
    JudgeAgain(Guard),
}

impl Live {
    /// Puts a tunnel into the registry, where it stays until the guard is dropped. Keep the guard until the last byte
    /// was counted: what `meter` counts later is in no metric.
    pub fn register(
        self: &Arc<Self>,
        facts: TunnelFacts,
        meter: Arc<Meter>,
        cancel: Arc<Cancel>,
        decided: Generation,
    ) -> Registration<LiveTunnel> {
        let (sni, objection, revoked) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let since = Instant::now();
        let tunnel = Arc::new(Tunnel {
            facts,
            meter,
            cancel,
            since,
            sni,
            objection,
            revoked,
            inside: Inside::default(),
        });
        let (place, now) = self.enter(Entry::Tunnel(Arc::clone(&tunnel)), &self.tunnels);
        let guard = LiveTunnel { live: Arc::clone(self), tunnel, place };
        if now == decided { Registration::Current(guard) } else { Registration::JudgeAgain(guard) }
    }

    /// Puts an exchange into the registry, where it stays until the guard is dropped. `kept` is the address of the
    /// connection that will serve it, if there is one already.
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
}

/// Keeps one tunnel in the registry; leaves it on drop.
#[must_use = "the tunnel leaves the registry when this is dropped"]
pub struct LiveTunnel {
    live: Arc<Live>,
    tunnel: Arc<Tunnel>,
    place: Seat,
}

impl LiveTunnel {
    /// The tunnel as the others see it.
    pub fn tunnel(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }

    /// What ends it from outside.
    pub fn cancel(&self) -> &Cancel {
        &self.tunnel.cancel
    }

    /// Its bytes.
    pub fn meter(&self) -> &Meter {
        &self.tunnel.meter
    }

    /// Remembers the server name of the ClientHello. Only once: a second hello must show the same.
    pub fn show_sni(&self, sni: Arc<str>) {
        self.tunnel.sni.get_or_init(|| sni);
    }

    /// Remembers why only report mode lets it pass. A sweep that does not see this has passed: judge by the policy
    /// that is in force after this call, which is the one of that sweep or a newer one.
    pub fn object(&self, reason: Reason) {
        // The lock puts this before or after the sweep.
        let _shard = self.live.shard(usize::from(self.place.shard));
        self.tunnel.objection.get_or_init(|| reason);
    }
}

impl Drop for LiveTunnel {
    fn drop(&mut self) {
        self.live.leave(self.place, &self.live.tunnels);
    }
}

impl fmt::Debug for LiveTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveTunnel").field(&self.tunnel).finish()
    }
}

/// Keeps one plain HTTP exchange in the registry; leaves it on drop.
#[must_use = "the exchange leaves the registry when this is dropped"]
pub struct LiveExchange {
    live: Arc<Live>,
    exchange: Arc<Exchange>,
    place: Seat,
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

    /// Remembers the dialled address. If the returned generation is not the one that admitted the address, a sweep may
    /// have passed without seeing it: judge again.
    pub fn reached(&self, address: IpAddr) -> Generation {
        // The lock puts this before or after a sweep.
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
