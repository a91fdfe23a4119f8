//! Where clients come in: a connection is accepted, says who it speaks for, and its requests are read one by one.
//!
//! Not here: what becomes of a request (`session`).

pub mod accept;
pub mod enter;
pub mod http1;
