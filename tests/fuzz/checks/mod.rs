//! What must hold for any bytes: one check for each parser that reads untrusted bytes. A check panics where this fails.
//!
//! Compiled twice: into the fuzz targets, and into the ordinary test that replays the corpus. So it uses only public names
//! of egressd.
#![allow(dead_code, unreachable_pub, reason = "each fuzz target uses its own part of it")]

pub mod client_hello;
pub mod config;
pub mod credentials;
pub mod git;
pub mod log_line;
pub mod path_rule;
pub mod proxy_header;
pub mod record;
pub mod request;
pub mod socks5;
pub mod squid_conf;
pub mod target_and_rule;
