//! The running program: it starts, follows its configuration, can be observed, and ends.

pub mod admin;
pub mod apply;
mod cgroup;
pub mod ending;
pub mod memory;
mod phrases;
mod records;
pub mod reload;
pub mod resources;
pub mod server;
pub mod systemd;
