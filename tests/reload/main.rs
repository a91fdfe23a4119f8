//! Reload, seen from outside: files change as editors and Kubernetes change them, while tunnels are open.
//!
//! Every wait is for an effect: a metric, a record, a decision.

#[path = "../support/mod.rs"]
mod support;

mod exchanges;
mod identity;
mod inside;
mod many;
mod names;
mod race;
mod refused;
mod requests;
mod revoked;
mod ways;

use support::{Egressd, Origin, Wire, config, until, write};

/// A configuration that allows opaque tunnels to these origins.
fn tunnels_to(origins: &[&Origin]) -> String {
    let rules: Vec<String> = origins.iter().map(|origin| rule(origin)).collect();
    config(&rules.iter().map(String::as_str).collect::<Vec<_>>())
}

fn rule(origin: &Origin) -> String {
    format!("tcp://127.0.0.1:{}", origin.port())
}

/// Overwrites the configuration, in place.
fn configure(proxy: &Egressd, text: &str) {
    write(&proxy.file("egressd.yaml"), text);
}

/// The hash of the configuration in force.
fn in_force(proxy: &Egressd) -> String {
    proxy.metrics().label_values("egressd_config_info", "sha256").concat()
}

fn last_reload_successful(proxy: &Egressd) -> bool {
    proxy.metrics().count("egressd_config_last_reload_successful", &[]) == 1
}

/// Runs `change`, and waits until another configuration is in force: its hash.
fn reloaded(proxy: &Egressd, change: impl FnOnce()) -> String {
    let before = in_force(proxy);
    change();
    until("another configuration to be in force", || Some(in_force(proxy)).filter(|now| *now != before))
}

/// Runs `change`, and waits until it is refused; the configuration in force stays the same.
fn refused(proxy: &Egressd, change: impl FnOnce()) {
    let before = in_force(proxy);
    assert!(last_reload_successful(proxy));
    change();
    until("the change to be refused", || (!last_reload_successful(proxy)).then_some(()));
    assert_eq!(in_force(proxy), before);
}

/// The value of the log's `config` while the configuration with this hash decides.
fn short(hash: &str) -> &str {
    &hash[..12]
}

/// The status of `CONNECT authority`, on a new connection.
fn connect(proxy: &Egressd, authority: &str) -> u16 {
    connect_for_id(proxy, authority).0
}

/// The same, and the request's id.
fn connect_for_id(proxy: &Egressd, authority: &str) -> (u16, String) {
    let mut wire = proxy.connect();
    wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    let reply = wire.read_head();
    (reply.status, reply.id().to_owned())
}

fn is_allowed(proxy: &Egressd, origin: &Origin) -> bool {
    match connect(proxy, &origin.address().to_string()) {
        200 => true,
        403 => false,
        other => panic!("status {other}"),
    }
}

/// Sends a few bytes to an echoing origin and waits for them.
fn ping(tunnel: &mut Wire) {
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
}
