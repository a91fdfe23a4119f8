//! The registry of what is being served: live tunnels and plain HTTP exchanges.
//!
//! Admin shows it, a reload judges it again, a drain ends it, and a scrape counts its bytes, so that none of these
//! needs to know a tunnel. A tunnel is in the registry as long as its [`LiveTunnel`] is kept. Not here: which requests
//! are allowed ([`crate::rules`]), what a reload does ([`crate::operate::reload`]), and the relay
//! ([`crate::transport::relay`]).
//!
//! # Bytes are counted once
//! Each shard holds its live meters and, for each policy, the bytes of those that left. Leaving adds the meter to the
//! latter under the shard's lock, and a scrape reads both under the same lock: in any order, a byte is in exactly one
//! of the two. So the sum never goes backwards and never counts a byte twice.
//!
//! # The race with a reload
//! A request that was decided by the old policy may register after the sweep of a reload has passed. So: a request
//! reads [`Live::generation`] *before* it takes the policy; a reload publishes the new policy, *then* calls
//! [`Live::advance`], then sweeps. A registration before the sweep is seen by it. A registration after the sweep sees
//! that the generation moved, and must be judged again ([`Registration::JudgeAgain`]). A rule's expiry is the same
//! race with the clock, with the same solution, and so is the end of a certificate: it is noted when an entry
//! registers ([`Live::changes_at`]), and the sweep notes it for those that stay.

mod exchange;
mod guards;
mod inside;
mod registry;
pub mod rejudge;
mod revoked;
#[cfg(test)]
mod tests;
mod tunnel;
mod usage;

pub use exchange::{Asked, Exchange, ExchangeFacts};
pub use guards::{LiveExchange, LiveTunnel, Registration};
pub use inside::InsideRequest;
pub use registry::{Generation, Live};
pub use revoked::Revoked;
pub use tunnel::{Tunnel, TunnelFacts};
