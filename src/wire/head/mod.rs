//! The strict grammar of request heads: reads the bytes of one head from an untrusted client, and says whether it is a
//! well-formed, unambiguous request that a forward proxy can serve.
//!
//! It is stricter than RFC 9112 and than any HTTP library, because requests are smuggled through what two programs read
//! differently: only CRLF ends a line, nothing is folded, nothing is repaired, the framing is one `Content-Length` or one
//! `chunked`, and there is one way to name the host. [`lines`] finds where a head ends and checks what can be checked
//! before that. [`grammar`] reads a whole head. [`framing`] finds how much body follows and what `Connection` nominates.
//! [`body`] follows that body, so that the next head on the connection begins where it should.
//!
//! Not here: the socket, the deadline and the buffer ([`crate::transport::heads`]); whether the target is allowed
//! ([`crate::rules`]); what the reply looks like ([`crate::session::refuse`]); passwords.

mod body;
mod fields;
mod framing;
mod grammar;
mod lines;
mod request;
#[cfg(test)]
mod tests;

pub use body::{BodyError, BodyFollower, Piece};
pub use fields::is_token_byte;
pub use framing::connection_options;
pub use grammar::{MAX_METHOD, cut_short, parse, parse_at};
pub use lines::{HeadLines, TLS_HANDSHAKE};
pub use request::{
    Framing, Head, MAX_FIELDS, MAX_USER_AGENT, Place, RefusedHead, RequestTarget, Version, slots,
};
