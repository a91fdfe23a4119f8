//! What must hold for any bytes, one check a parser that meets a stranger's. A check panics where it does not hold.
//!
//! Compiled twice: into the fuzz targets, and into the ordinary test that replays the corpus. So it uses egressd's public
//! names alone.
#![allow(dead_code, unreachable_pub, reason = "each fuzz target uses its own part of it")]

pub mod client_hello;
pub mod config;
pub mod log_line;
pub mod proxy_header;
pub mod record;
pub mod request;
pub mod squid_conf;
pub mod target_and_rule;
