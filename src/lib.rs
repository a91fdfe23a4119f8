//! egressd: a forward proxy that lets out only what is listed.
//!
//! Floors, imports only downward:
//!
//! | floor | modules |
//! |---|---|
//! | assembly | `cli`, `server` |
//! | story | `listener`, `entrance`, `proxy`, `proof`, `tunnel`, `admin` |
//! | mechanism | `head`, `resolve`, `dial`, `relay`, `live`, `telemetry`, … |
//! | settings | `config` |
//! | proofs | `tls`, `password`: what certificates, keys and users files mean |
//! | rules, pure | `policy`, `client_hello` |
//! | words | `target`, `client`, `outcome`, `meter` |
//!
//! One connection, from accept to close: [`listener`] takes a place → [`entrance`] reads the PROXY header and makes the
//! TLS handshake → [`proxy`] reads a head through the gate in [`head`], and [`proof`] its password → `tunnel` asks [`policy`], looks up, dials what was admitted, answers `200`, reads the ClientHello, relays →
//! drops give everything back.

pub mod accept;
pub mod admin;
pub mod budget;
pub mod cancel;
pub mod cases;
pub mod cli;
pub mod client;
pub mod client_hello;
pub mod config;
pub mod connections;
pub mod current;
pub mod dial;
pub mod diff;
pub mod drain;
pub mod early;
pub mod entrance;
pub mod exchange;
pub mod explain;
pub mod forward;
pub mod head;
pub mod hello_gate;
pub mod limits;
pub mod linger;
pub mod listener;
pub mod live;
pub mod meter;
pub mod outcome;
pub mod parent;
pub mod password;
pub mod peers;
pub mod pipe;
pub mod policy;
pub mod proof;
pub mod proxy;
pub mod proxy_protocol;
pub mod refusals;
pub mod refuse;
pub mod relay;
pub mod reload;
pub mod reply;
pub mod request;
pub mod resolve;
pub mod resources;
pub mod revoke;
pub mod route;
pub mod server;
pub mod server_hello;
pub mod shared;
pub mod socket;
pub mod stream;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod upstream;
pub mod upstream_tls;
pub mod verify;
