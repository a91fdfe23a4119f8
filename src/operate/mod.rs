//! The program running: it starts, follows its configuration, is looked at, and ends.

pub mod admin;
pub mod apply;
pub mod reload;
pub mod resources;
pub mod server;
