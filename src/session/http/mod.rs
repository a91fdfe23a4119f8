//! Plain HTTP: one exchange after the other on a client's connection.

pub mod exchange;
pub mod forward;
