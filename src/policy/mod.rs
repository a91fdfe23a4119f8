//! What may be reached: rules, pure. No sockets, no clock, no files.

pub mod address;
