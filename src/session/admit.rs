//! Whether a request is accepted at all, whatever its target: the stage of the shutdown, the log's health, the limits.
//!
//! The code that reads requests calls this before anything is decided. Not here: the client's identity
//! ([`crate::session::authenticate`]) and the rules ([`crate::session::decide`]).

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::session::refuse::Refused;
use crate::session::request::Request;
use crate::state::limits::{Caps, Slot};
use crate::state::shared::Shared;
use crate::transport::held::{Holder, NoRoom};
use crate::words::outcome::Reason;

/// How long a request may wait for memory: longer than [`crate::transport::held`] has patience with what does not move.
const MEMORY_WAIT: Duration = Duration::from_secs(3);
/// The same for a client that holds little: others end for it, which may take its time on a busy processor.
const MEMORY_WAIT_LITTLE: Duration = Duration::from_secs(10);

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

/// Waits until there is memory for a request, if memory is short: connections that do not move end for it.
///
/// # Errors
/// [`NoRoom`]: none came free, because all move.
pub(crate) async fn memory(holder: &Holder) -> Result<(), NoRoom> {
    holder.moves();
    if holder.may_begin() {
        return Ok(());
    }
    // Boxed: it is rare.
    let patience = if holder.is_heavy() { MEMORY_WAIT } else { MEMORY_WAIT_LITTLE };
    Box::pin(holder.admitted(patience)).await
}

/// What a client is told that does not get any, or no longer.
pub(crate) const SHORT_OF_MEMORY: &str = "the proxy is short of memory: try again, or raise limits.memory";

/// The refusal for want of memory.
pub(crate) fn short_of_memory() -> Refused {
    Refused::new(Reason::LimitReached, SHORT_OF_MEMORY)
}

/// Gives the request one of the places in total and one of its client's; it keeps them until the slot is dropped.
///
/// # Errors
/// [`Reason::LimitReached`], [`Reason::ClientLimitReached`], [`Reason::ClientRateLimited`].
pub(crate) fn take_slot(request: &Request<'_>, config: &Config, shared: &Shared) -> Result<Slot, Reason> {
    let total = shared.most_tunnels(config);
    let caps = Caps {
        total,
        // With a low limit fewer: it is meant.
        last: shared.connections.last().min(total / 8),
        per_client: config.limits.tunnels_per_client,
        per_second: config.limits.requests_per_second_per_client,
    };
    shared.occupancy.take(request.account(config), caps, Instant::now())
}

/// Counts a request that is refused anyway against its client's rate.
///
/// # Errors
/// [`Reason::ClientRateLimited`].
pub(crate) fn within_rate(request: &Request<'_>, config: &Config, shared: &Shared) -> Result<(), Reason> {
    let per_second = config.limits.requests_per_second_per_client;
    shared.occupancy.count(request.account(config), per_second, Instant::now())
}
