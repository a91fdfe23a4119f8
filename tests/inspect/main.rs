//! Inspected tunnels, tested through a running egressd: the order of the two handshakes, certificates of targets, requests inside,
//! what is changed in them, WebSockets, and how such tunnels end.

#[path = "../support/mod.rs"]
mod support;

mod aws;
mod changed;
mod clients;
mod exchanges;
mod git;
mod git_bodies;
mod git_report;
mod git_said;
mod inside;
mod lasting;
mod lent;
mod page;
mod reloads;
mod rotation;
mod shares;
mod suggests;
mod targets;
mod websocket;
mod world;
