//! What happens to one request: the client's identity, the decision, the tunnel or exchange that serves it, or the
//! refusal.
//!
//! In this order: [`admit`] (is egressd shutting down, can it be logged?) → [`authenticate`] (the password, if the listener
//! asks for one) → [`admit`] again (limits) → [`decide`] → [`tunnel`] for CONNECT, [`http`] for plain HTTP. A request that fails
//! at any step leaves by [`refuse`]. [`request`] has its facts, from the head to its last record.
//!
//! Not here: reading heads ([`crate::inbound`]), and what requests share ([`crate::state`]).

pub mod admit;
pub mod authenticate;
pub mod decide;
pub mod http;
pub mod refuse;
pub mod request;
pub mod tunnel;
