//! What happens to one request: the client's identity, the decision, the tunnel or exchange that serves it, or the
//! refusal.
//!
//! Not here: reading heads ([`crate::inbound`]), and what requests share ([`crate::state`]).

pub mod admit;
pub mod authenticate;
pub mod decide;
pub mod http;
pub mod refuse;
pub mod request;
pub mod tunnel;
