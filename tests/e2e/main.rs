//! The main use with real programs: git, curl, nginx, dnsmasq, HAProxy and Prometheus with the real binary.
//!
//! `tests/run` installs the programs and runs this. A missing program is a failure; it never skips a test. As root the Git
//! server listens on port 443 as it would in production; otherwise on a high port, which the rules then name.

#[path = "../support/mod.rs"]
mod support;

mod authority;
mod balancer;
mod browser;
mod codecommit;
mod compiled;
mod curl;
mod default_config;
mod differential;
mod directives;
mod dns;
mod doctor;
mod doctor_host;
mod env;
mod families;
mod git;
mod git_backend;
mod git_kept;
mod git_random;
mod git_server;
mod git_told;
mod inside;
mod inspected;
mod inspected_table;
mod lifecycle;
mod listeners;
mod lost;
mod moving_over;
mod network;
mod packages;
mod prometheus;
mod report;
mod retry;
mod revocation;
mod s3;
mod seals;
mod shared_state;
mod socks;
mod squid;
mod squid_lists;
mod squid_log;
mod squid_random;
mod status_page;
mod terminal;
mod told;
mod tool;
mod transparent;
mod who;
mod whole_system;
