//! The JSON behind the status page: `/api/status`, `/api/tunnels`, `/api/decisions`, `/api/allowed`, `/api/policy`.
//!
//! Each answer is bounded: lists have a `total` and are cut to `limit`. Everything is made outside the workers, from
//! snapshots and in chunks, so that no tunnel notices. Strings are not escaped: code that shows them must escape them.

mod allowed;
mod decisions;
mod policy;
mod query;
mod refusals;
mod status;
mod tunnels;

use serde::Serialize;

pub(super) use self::query::{Endpoint, Query};
use crate::state::shared::Shared;

/// The body. May take a while: do not call it on a worker.
pub(super) fn answer(asked: Endpoint, query: &Query, shared: &Shared) -> Vec<u8> {
    match asked {
        Endpoint::Status => body(&status::of(shared)),
        Endpoint::Tunnels => body(&tunnels::of(query, &shared.live, &shared.current.load().policies)),
        Endpoint::Decisions => body(&decisions::of(query, shared)),
        Endpoint::Allowed => body(&allowed::of(query, shared)),
        Endpoint::Policy => body(&policy::of(query, shared)),
    }
}

fn body(answer: &impl Serialize) -> Vec<u8> {
    // It would fail for maps with keys that are not text, and there are none.
    let mut body = serde_json::to_vec(answer).unwrap_or_default();
    body.push(b'\n');
    body
}
