//! egressd: a forward proxy that lets out only what is listed.
//!
//! Floors, imports only downward:
//!
//! | floor | modules |
//! |---|---|
//! | assembly | `cli`, `server` |
//! | story | `listener`, `proxy`, `tunnel`, `admin` |
//! | mechanism | `head`, `resolve`, `dial`, `relay`, `live`, `telemetry`, … |
//! | settings | `config` |
//! | rules, pure | `policy`, `client_hello` |
//! | words | `target`, `client`, `outcome`, `meter` |
//!
//! One connection, from accept to close: [`listener`] takes a place → [`proxy`] reads a head through the gate in
//! [`head`] → `tunnel` asks [`policy`], looks up, dials what was admitted, answers `200`, reads the ClientHello, relays →
//! drops give everything back.

pub mod cases;
pub mod client;
pub mod config;
pub mod diff;
pub mod explain;
pub mod head;
pub mod meter;
pub mod outcome;
pub mod password;
pub mod policy;
pub mod proxy_protocol;
pub mod target;
pub mod tls;
