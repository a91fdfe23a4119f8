//! The whole threat catalogue: every row as at least one test whose name carries its number, sent as bytes to a running
//! egressd. The rows, the attacks and the world in which they are sent stand in `suite`, so that `tests/threats/run` can
//! point the same bytes at other proxies; what each row comes to stands in SECURITY.md, made from here.

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod check;
mod ends;
mod heads;
mod in_step;
mod limits;
mod settings;
mod suite;
mod way;
