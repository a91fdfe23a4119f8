//! egressd: a forward proxy that lets out only what is listed.
//!
//! The rooms of the house, one above the other. Imports go only downward, which `tests/floors` checks:
//!
//! | room | what is inside |
//! |---|---|
//! | [`commands`] | one folder or file a command |
//! | [`operate`] | the program running: server, reload, resources, admin |
//! | [`inbound`] | where clients come in: accept, PROXY header and TLS, the loop over a client's heads |
//! | [`session`] | what becomes of one request: who asks, whether it may, tunnel or exchange, refusal |
//! | [`state`] | what requests share: configuration in force, what is open, limits, budgets, passwords |
//! | [`telemetry`] | what is told: access log, metrics, diagnostics |
//! | [`outbound`] | how a target is reached: route, DNS, dial, parent proxy, its certificate |
//! | [`config`] | what was configured: file, checks, and what they make |
//! | [`transport`] | how bytes move: streams, TLS, relay, close |
//! | [`wire`] | what bytes mean: parsers of slices |
//! | [`rules`] | what the rules say, pure |
//! | [`words`] | the words that every room uses |

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
