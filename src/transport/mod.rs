//! How bytes move: sockets and streams, TLS, the relay between two of them, and how they are closed.
//!
//! Not here: what the bytes mean ([`crate::wire`]).

pub mod account;
pub mod allowance;
pub mod cancel;
pub mod client_stream;
pub mod close;
pub mod heads;
pub mod held;
pub mod inner_stream;
pub mod keep_alive;
pub mod meter;
pub mod prefixed;
pub mod proxy_header;
pub mod purse;
pub mod redirected;
pub mod relay;
pub mod response_buffer;
pub mod socket;
pub mod stream;
pub mod target_io;
pub mod target_stream;
pub mod tls;
pub mod turns;
pub mod unix;
