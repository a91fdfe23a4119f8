//! egressd: a forward proxy that lets out only what is listed.
//!
//! Floors, imports only downward:
//!
//! | floor | modules |
//! |---|---|
//! | assembly | `cli`, `server`, `reload` |
//! | errands, without serving | `cases`, `diff`, `doctor`, `explain`, `import`, `logbook`, `suggest`, `summary` |
//! | story | `accept`, `entrance`, `proxy`, `proof`, `tunnel`, `exchange`, `refuse`, `admin` |
//! | what the story shares | `shared`, `listener`, `request`, `reply`, `revoke`, `refusals` |
//! | mechanism | `budget`, `cancel`, `connections`, `current`, `dial`, `drain`, `flood`, `forward`, `head`, `hello_gate`, `history`, `limits`, `linger`, `live`, `parent`, `peers`, `pipe`, `proxy_protocol`, `recent`, `relay`, `resolve`, `resources`, `route`, `socket`, `stream`, `telemetry`, `upstream`, `upstream_tls`, `verify` |
//! | settings | `config` |
//! | what settings hold, as loaded | `early`, `password`, `tls` |
//! | rules, pure | `policy`, `client_hello`, `server_hello`, `logformat` |
//! | words | `target`, `client`, `outcome`, `meter` |
//!
//! One connection, from accept to close: [`accept`] takes a place → [`entrance`] reads the PROXY header and shakes hands →
//! [`proxy`] reads a head through the gate in [`head`] → [`tunnel`] asks [`policy`], looks up, dials what was admitted,
//! answers `200`, reads the ClientHello, relays → drops give everything back. Plain HTTP goes through [`exchange`] instead,
//! and back to the next head.

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
pub mod doctor;
pub mod drain;
pub mod early;
pub mod entrance;
pub mod exchange;
pub mod explain;
pub mod flood;
pub mod forward;
pub mod head;
pub mod hello_gate;
pub mod history;
pub mod import;
pub mod limits;
pub mod linger;
pub mod listener;
pub mod live;
pub mod logbook;
pub mod logformat;
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
pub mod recent;
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
pub mod suggest;
pub mod summary;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod upstream;
pub mod upstream_tls;
pub mod verify;
