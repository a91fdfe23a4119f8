//! Whether this replica should be sent new connections: what `/readyz` says.

use std::time::Duration;

use crate::config::OnLogFailure;
use crate::state::shared::Shared;
use crate::words::outcome::Reason;

/// How long the log must have failed before a load balancer is told to send requests elsewhere.
const UNREADY_AFTER: Duration = Duration::from_secs(5);

/// Why a load balancer should send new connections elsewhere.
pub(super) fn not_ready(shared: &Shared) -> Option<&'static str> {
    if shared.drain.is_going() {
        Some(Reason::Draining.as_str())
    } else if shared.current.load().access_log.on_failure == OnLogFailure::Deny
        && shared.log.unavailable_for().is_some_and(|lasts| lasts >= UNREADY_AFTER)
    {
        Some(Reason::LogUnavailable.as_str())
    } else {
        None
    }
}
