//! egressd: a forward proxy that allows only listed targets, verifies them, and records every request.
//!
//! The folders, from the top down. Imports go only downward, which `tests/floors` checks:
//!
//! | folder | what is inside |
//! |---|---|
//! | [`commands`] | one folder or file per command |
//! | [`operate`] | the program running: server, reload, resources, admin |
//! | [`inbound`] | where clients come in: accept, PROXY header and TLS, the loop over a client's heads |
//! | [`session`] | what happens to one request: which client sends it, whether it may, tunnel or exchange, refusal |
//! | [`state`] | what requests share: configuration in force, what is open, limits, budgets, passwords |
//! | [`telemetry`] | what is reported: access log, metrics, diagnostics |
//! | [`outbound`] | how a target is reached: route, DNS, dial, parent proxy, its certificate |
//! | [`config`] | what was configured: the file, its checks, and the result |
//! | [`transport`] | how bytes move: streams, TLS, relay, close |
//! | [`wire`] | what bytes mean: parsers that work on slices |
//! | [`rules`] | what the rules say, without I/O |
//! | [`words`] | the terms that every folder uses |

pub mod commands;
pub mod config;
pub mod inbound;
pub mod operate;
pub mod outbound;
pub mod rules;
pub mod session;
pub mod state;
pub mod telemetry;
pub mod transport;
pub mod wire;
pub mod words;
