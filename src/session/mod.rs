//! What becomes of one request: who asks, whether it may, the tunnel or the exchange that serves it, the refusal where not.
//!
//! Not here: how a head comes in (`inbound`), and what requests share (`state`).

pub mod admit;
pub mod authenticate;
pub mod decide;
pub mod http;
pub mod refuse;
pub mod request;
pub mod tunnel;
