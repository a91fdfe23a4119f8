//! Who the client is: the PROXY protocol, TLS with client certificates, passwords, and how policies use them, with the
//! real process.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod balancer;
mod by_listener;
mod certificates;
mod passwords;
mod refusals;
mod socks5;
mod together;
mod unanswered;
mod unix;
mod wrong_protocol;

use support::{Egressd, Record, Wire, config, until};

/// A configuration whose listener has these keys in addition to its name and address.
fn listening(keys: &str, rules: &[&str]) -> String {
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let text = config(rules);
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    text.replace(bare, &format!("{{name: proxy, address: 127.0.0.1:0, {keys}}}"))
}

/// The same with these policies, as items of the list.
fn deciding(keys: &str, policies: &str) -> String {
    let text = listening(keys, &[]);
    let (before, _) = text.split_once("policies:\n").expect("`config` has policies");
    format!("{before}policies:\n{policies}")
}

fn connect_to(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

/// Waits until `count` connections had this result.
fn wait_for_connections(proxy: &Egressd, result: &str, count: u64) {
    until(&format!("{count} connections to be counted as {result}"), || {
        (connections(proxy, result) == count).then_some(())
    });
}

fn connections(proxy: &Egressd, result: &str) -> u64 {
    proxy.metrics().count("egressd_connections_total", &[("listener", "proxy"), ("result", result)])
}

/// The records of connections that ended before any request.
fn refused_connections(records: &[Record]) -> Vec<&Record> {
    records.iter().filter(|record| record["method"].is_null() && record["event"] == "deny").collect()
}

/// Asserts that the connection ended without any reply.
fn assert_closed_without_a_word(mut wire: Wire) {
    let (bytes, _) = wire.read_to_end();
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
}
