//! Whether a request is accepted at all, whatever its target: the stage of the shutdown, the log's health, the limits.
//!
//! The code that reads requests calls this before anything is decided. Not here: the client's identity
//! ([`crate::session::authenticate`]) and the rules ([`crate::session::decide`]).

use std::time::Instant;

use crate::config::Config;
use crate::session::request::Request;
use crate::state::limits::{Caps, Slot};
use crate::state::shared::Shared;
use crate::words::outcome::Reason;

/// Whether requests are served at all.
///
/// # Errors
/// [`Reason::Draining`], [`Reason::LogUnavailable`].
pub(crate) fn able(request: &Request<'_>, shared: &Shared) -> Result<(), Reason> {
    if shared.drain.is_closed() {
        return Err(Reason::Draining);
    }
    recordable(request)
}

/// Whether the log has a place for the request's record: nothing is answered without one, not even what is malformed.
///
/// # Errors
/// [`Reason::LogUnavailable`].
pub(crate) fn recordable(request: &Request<'_>) -> Result<(), Reason> {
    if request.can_be_recorded() { Ok(()) } else { Err(Reason::LogUnavailable) }
}

/// Gives the request one of the places in total and one of its client's; it keeps them until the slot is dropped.
///
/// # Errors
/// [`Reason::LimitReached`], [`Reason::ClientLimitReached`], [`Reason::ClientRateLimited`].
pub(crate) fn take_slot(request: &Request<'_>, config: &Config, shared: &Shared) -> Result<Slot, Reason> {
    let caps = Caps {
        total: config.limits.tunnels.min(shared.tunnels_carried),
        per_client: config.limits.tunnels_per_client,
        per_second: config.limits.requests_per_second_per_client,
    };
    shared.occupancy.take(request.client().address.ip(), caps, Instant::now())
}

/// Counts a request that is refused anyway against its client's rate.
///
/// # Errors
/// [`Reason::ClientRateLimited`].
pub(crate) fn within_rate(request: &Request<'_>, config: &Config, shared: &Shared) -> Result<(), Reason> {
    let per_second = config.limits.requests_per_second_per_client;
    shared.occupancy.count(request.client().address.ip(), per_second, Instant::now())
}
