//! The whole threat catalogue: every row has at least one test whose name contains its number, and that sends the bytes to a
//! running egressd. The rows, the attacks and the world in which they are sent are in `suite`, so that `tests/threats/run`
//! can send the same bytes to other proxies. The result of each row is in SECURITY.md, which is generated from here.

#[path = "../support/mod.rs"]
mod support;

mod by_sni;
mod bytes;
mod check;
mod counted;
mod ech;
mod ends;
mod git;
#[path = "../inspect/git_bodies.rs"]
#[allow(dead_code, reason = "it is that of tests/inspect, which uses all of it")]
mod git_bodies;
mod heads;
mod identity;
mod in_step;
mod inside;
mod inspected;
#[path = "../inspect/world.rs"]
#[allow(dead_code, reason = "it is that of tests/inspect, which uses all of it")]
mod inspected_world;
mod limits;
mod memory;
mod minting;
mod replicas;
mod settings;
mod shares;
mod silence;
mod socks;
mod suite;
mod transparent;
mod unix_path;
mod way;
mod ways;
