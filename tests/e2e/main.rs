//! The main job with real parts: git, curl, nginx, dnsmasq, HAProxy and Prometheus through the real binary.
//!
//! `tests/run` installs the parts and runs this; a part that is missing is a failure and never a test left out. As
//! root the Git server listens on port 443 as it would outside; else on a high port, which the rules then name.

#[path = "../support/mod.rs"]
mod support;

mod balancer;
mod browser;
mod curl;
mod default_config;
mod differential;
mod dns;
mod doctor;
mod families;
mod git;
mod git_server;
mod lifecycle;
mod listeners;
mod lost;
mod moving_over;
mod network;
mod packages;
mod prometheus;
mod retry;
mod squid_log;
mod status_page;
mod tool;
mod who;
mod whole_system;
