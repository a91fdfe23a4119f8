//! What a connection has by being open: one of the places in total, and one of its client's.
//!
//! A client that no policy can match takes no place of one that may use the proxy, nor does a balancer's connection before its
//! header names the client. And clients with few connections have places that others cannot take. Not here: memory
//! ([`crate::inbound::accept`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

use crate::config::{Config, Limits};
use crate::state::limits::connections::OpenConnection;
use crate::state::limits::unnamed::UnnamedPlace;
use crate::state::limits::{Crowded, Presence};
use crate::state::listener::Listener;
use crate::state::shared::Shared;
use crate::words::client::{ClientAddr, PeerAddr};

/// Whether any policy can match the client, as far as its address and its listener tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// A policy can.
    Expected,
    /// None can: its requests are refused. It has a short time for its first one, and takes no place of an expected
    /// client.
    Stranger,
}

/// The time that a client has which no policy can match: it is told why, if it asks at once.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(1);

impl Standing {
    fn of(address: IpAddr, listener: &Listener, config: &Config) -> Standing {
        if config.policies.may_match(address, &listener.name) {
            Standing::Expected
        } else {
            Standing::Stranger
        }
    }

    /// The time that such a client has for what others may take `timeout` for.
    pub(crate) fn within(self, timeout: Duration) -> Duration {
        match self {
            Standing::Expected => timeout,
            Standing::Stranger => timeout.min(STRANGER_TIMEOUT),
        }
    }
}

/// So many times all other tasks may go on first: to be woken, and to read.
const TURNS: usize = 4;

/// What a connection has by being open. Dropping it gives all back.
#[must_use = "the place goes back when this is dropped"]
pub(crate) enum Place {
    /// A balancer's, whose header was not read yet.
    Unnamed(UnnamedPlace),
    /// A client's.
    Of(OfClient),
}

/// A client's connection.
pub(crate) struct OfClient {
    pub(crate) standing: Standing,
    _place: OpenConnection,
    /// Counts it for its client.
    _presence: Presence,
}

/// What there was none of for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    /// Places for clients that no policy can match.
    Strangers,
    /// Places for all others.
    Places,
    /// Places of this one client.
    Client,
    /// Places for balancers that have not named their client.
    Unnamed,
    /// Memory.
    Memory,
}

impl Full {
    /// Why it is closed, if that is recorded. Of clients that no policy can match it is only counted: any stranger can make as many as it likes.
    /// And of one client's own connections it was said once.
    pub(crate) fn why(self) -> Option<&'static str> {
        match self {
            Full::Strangers | Full::Client => None,
            Full::Places => Some(
                "all places for connections are taken (limits.tunnels, or what open files and memory carry of it)",
            ),
            Full::Unnamed => {
                Some("too many connections have sent no PROXY header, and this one was silent for long")
            }
            Full::Memory => {
                Some("memory is short, and nothing that does not move is left to end (limits.memory)")
            }
        }
    }
}

impl Place {
    /// For a connection that was just accepted. Behind a PROXY header the client is not known yet, and the peer is a load balancer.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) async fn accepted(
        peer: PeerAddr,
        listener: &Listener,
        shared: &Arc<Shared>,
    ) -> Result<Place, Full> {
        let config = shared.current.load();
        if listener.settings(&config).proxy_protocol.is_none() {
            return OfClient::new(ClientAddr::of_peer(peer), listener, shared, &config).map(Place::Of);
        }
        drop(config);
        // After a burst, headers may be there that nobody has read yet. No peer is waited for.
        for _ in 0..TURNS {
            if shared.unnamed.has_room() {
                break;
            }
            yield_now().await;
        }
        shared.unnamed.enter(peer.ip(), Instant::now()).map(Place::Unnamed).ok_or(Full::Unnamed)
    }

    /// Resolves when another connection needs the place more; never for a client's.
    pub(crate) async fn ended(&self) {
        match self {
            Place::Unnamed(place) => place.ended().await,
            Place::Of(_) => std::future::pending().await,
        }
    }

    /// It is this client's.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn named(
        &mut self,
        client: ClientAddr,
        listener: &Listener,
        shared: &Shared,
    ) -> Result<Standing, Full> {
        let of = match self {
            Place::Of(of) => return Ok(of.standing),
            Place::Unnamed(_) => OfClient::new(client, listener, shared, &shared.current.load())?,
        };
        let standing = of.standing;
        *self = Place::Of(of);
        Ok(standing)
    }

    /// Whether any policy can match its client, as far as that is known.
    pub(crate) fn standing(&self) -> Standing {
        match self {
            Place::Of(of) => of.standing,
            Place::Unnamed(_) => Standing::Expected,
        }
    }
}

impl OfClient {
    fn new(client: ClientAddr, listener: &Listener, shared: &Shared, config: &Config) -> Result<Self, Full> {
        let standing = Standing::of(client.ip(), listener, config);
        let Limits { tunnels_per_client: per_client, .. } = config.limits;
        let address = config.limits.client(client);
        let entered = shared.occupancy.enter(address, per_client, Instant::now());
        let (presence, others) = entered.map_err(|Crowded { most, first }| {
            if first {
                let who = match client {
                    ClientAddr::Address(_) => address.to_string(),
                    ClientAddr::User(number) => PeerAddr::user(number).to_string(),
                };
                tracing::warn!(
                    "listener {}: {who} has {most} connections open, the most that limits.tunnels_per_client allows ({per_client} and {} \
                     more): further ones are closed",
                    listener.name,
                    most.saturating_sub(per_client)
                );
            }
            Full::Client
        })?;
        let (places, full) = match standing {
            Standing::Expected => (&shared.connections, Full::Places),
            Standing::Stranger => (&shared.strangers, Full::Strangers),
        };
        let place = places.enter(others).ok_or(full)?;
        Ok(OfClient { standing, _place: place, _presence: presence })
    }
}
