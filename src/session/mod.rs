//! What happens to one request, step by step as [`crate::inbound::http1`] calls it: [`admit`] (shutting down? log
//! healthy?) → [`authenticate`] (the password) → [`admit`] (limits) → [`tunnel`] for CONNECT or [`http`] for the rest, each of
//! which asks [`decide`]. A refusal at any step leaves by [`refuse`]; [`request`] has the facts, from the head to the last record.
//!
//! Not here: reading heads ([`crate::inbound`]), and what requests share ([`crate::state`]).

pub mod admit;
pub mod authenticate;
pub mod decide;
pub mod http;
pub mod refuse;
pub mod request;
pub mod tunnel;
