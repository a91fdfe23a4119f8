//! What is between a permitted request and its target, tested through a running egressd: upload budgets, the target's
//! certificate, a parent proxy.

#[path = "../support/mod.rs"]
mod support;

mod budget;
mod certificate;
mod except;
mod parent;
