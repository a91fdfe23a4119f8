//! The registry of what is being served: live tunnels and plain HTTP exchanges.
//!
//! Admin shows it, a reload judges it again, a drain ends it, and a scrape counts its bytes, so that none of these
//! needs to know a tunnel. A tunnel is in the registry as long as its [`LiveTunnel`] is kept. Not here: who is
//! allowed (`policy`), what a reload does (`reload`), and the relay.
//!
//! # Bytes are counted once
//! Each shard holds its live meters and, per policy, the bytes of those that left. Leaving adds the meter to the
//! latter under the shard's lock, and a scrape reads both under the same lock: whatever the order, a byte is in one of
//! the two, so that the sum never goes backwards and never counts twice.
//!
//! # The race with a reload
//! A request decided by the old policy may register after the sweep of a reload has passed. So: a request reads
//! [`Live::generation`] *before* it takes the policy; a reload publishes the new policy, *then* calls
//! [`Live::advance`], then sweeps. A registration that comes before the sweep is seen by it; one that comes after it
//! sees that the generation moved, and is told to be judged again ([`Registration::JudgeAgain`]). A rule's expiry is the
//! same race with the clock, and goes the same way.

mod exchange;
mod guards;
mod registry;
pub mod rejudge;
#[cfg(test)]
mod tests;
mod tunnel;
mod usage;

pub use exchange::{Exchange, ExchangeFacts};
pub use guards::{LiveExchange, LiveTunnel, Registration};
pub use registry::{Generation, Live};
pub use tunnel::{Tunnel, TunnelFacts};
