//! The rows about what clients share: one of them must not be felt by another.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use rustix::process::Signal;

use crate::check::ask;
use crate::support::{Egressd, Kind, Names, Origin, Says, Wire, any_port, config, until, write};

/// What egressd's resolver may have on the wire at once.
const QUESTIONS: usize = 256;

#[test]
fn t76_a_slow_zone_is_felt_by_the_client_that_asks_for_it_alone() {
    let origin = Origin::echo();
    let names = Names::start(any_port(), |question, _| match question.name.as_str() {
        "ok.test" | "also.test" => Says::Addresses(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
        _ => Says::Silence,
    });
    let port = origin.port();
    let rules = ["https://*.slow.test", &format!("tcp://ok.test:{port}"), &format!("tcp://also.test:{port}")];
    let text = config(&rules)
        + "limits: {requests_per_second_per_client: 100000}\n"
        + &format!("dns: {{servers: [\"{}\"], timeout: 60s}}\n", names.address());
    let proxy = Egressd::start(&text);
    let asked = || {
        let asked = names.asked().into_iter().filter(|question| question.kind == Kind::A);
        asked.map(|question| question.name).collect::<BTreeSet<String>>()
    };

    // More names than there are places; each is asked for twice, for A and AAAA, and waits for a minute.
    let held: Vec<Wire> = (0..QUESTIONS)
        .map(|number| {
            let mut wire = proxy.connect();
            wire.send(ask(&format!("n{number}.slow.test:443")));
            wire
        })
        .collect();
    until("the attack to hold every place", || (asked().len() >= QUESTIONS / 2).then_some(()));

    // From another address. The test's own deadline is half of the time for which the places are held.
    let mut quiet = Wire::connect_from([127, 0, 7, 76].into(), proxy.address());
    quiet.send(ask(&format!("ok.test:{port}")));
    assert_eq!(quiet.read_head().status, 200);
    assert!(proxy.records().iter().all(|record| record["event"] == "open"), "the attack is still held");

    // The questions die with those who asked: the same address has its places again.
    drop(held);
    proxy.tunnel(&format!("also.test:{port}"));
    until("a record of each that left", || {
        let gone = |record: &&crate::support::Record| record["reason"] == "client_gone";
        (proxy.records().iter().filter(gone).count() == QUESTIONS).then_some(())
    });
}

/// What a client may send of one rule, and how many accounts there are.
const BUDGET: usize = 1000;
const ACCOUNTS: usize = 32;

/// A list of so many names with a budget each, all of them at `origin`.
fn long_list(origin: &Origin, rules: usize, accounts: usize) -> String {
    let port = origin.port();
    let rules: Vec<String> = (0..rules)
        .map(|n| format!("{{to: \"tcp://n{n}.test:{port}\", upload_budget: {BUDGET}B/1h}}"))
        .collect();
    let hosts: Vec<String> = (0..rules.len()).map(|n| format!("n{n}.test: [127.0.0.1]")).collect();
    config(&rules.iter().map(String::as_str).collect::<Vec<_>>())
        + &format!("dns: {{hosts: {{{}}}}}\n", hosts.join(", "))
        + &format!("limits: {{requests_per_second_per_client: 100000, budget_accounts: {accounts}}}\n")
}

/// A tunnel of the client at 127.0.8.`last` to one of the names.
fn tunnel(proxy: &Egressd, last: u8, origin: &Origin, rule: usize) -> (u16, Wire) {
    let mut wire = Wire::connect_from([127, 0, 8, last].into(), proxy.address());
    wire.send(ask(&format!("n{rule}.test:{}", origin.port())));
    (wire.read_head().status, wire)
}

/// Sends as much as egressd takes of `bytes`, and returns how much comes back.
fn send(mut wire: Wire, bytes: usize) -> usize {
    wire.send(vec![7; bytes]);
    wire.finish();
    wire.read_to_end().0.len()
}

#[test]
fn t77_one_client_with_a_long_list_takes_no_other_clients_budget() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&long_list(&origin, 8 * ACCOUNTS, ACCOUNTS));
    let (_, first) = tunnel(&proxy, 1, &origin, 0);
    assert_eq!(send(first, BUDGET), BUDGET);
    // Every other rule of its list: far more than there are accounts.
    for rule in 1..8 * ACCOUNTS {
        let (status, wire) = tunnel(&proxy, 1, &origin, rule);
        if status == 200 {
            send(wire, 1);
        }
    }
    let used = || proxy.metrics().count("egressd_upload_budget_accounts", &[]);
    assert_eq!(used(), ACCOUNTS as u64);

    // Others have a place each, and their whole budget.
    for quiet in 2..10 {
        let (status, wire) = tunnel(&proxy, quiet, &origin, 0);
        assert_eq!(status, 200, "client {quiet}");
        assert_eq!(send(wire, BUDGET), BUDGET, "client {quiet}");
    }
    assert_eq!(used(), ACCOUNTS as u64);
    let merged = proxy.metrics().count("egressd_upload_budget_accounts_merged_total", &[]);
    assert!(merged >= 8, "{merged} merged");
    // It gained nothing: what it sent by the first rule still counts, merged or not.
    let mut again = Wire::connect_from([127, 0, 8, 1].into(), proxy.address());
    again.send(ask(&format!("n0.test:{}", origin.port())));
    let refused = again.read_reply();
    let reason = refused.reason();
    assert!(reason == Some("upload_budget") || reason == Some("budget_table_full"), "{refused:?}");
}

#[test]
fn t77_where_every_place_has_a_client_the_next_is_told_so_and_a_larger_table_helps_at_once() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&long_list(&origin, 2, ACCOUNTS));
    let port = origin.port();
    // Each has a tunnel from its account.
    let open: Vec<_> = (1..=ACCOUNTS)
        .map(|last| {
            let (status, wire) = tunnel(&proxy, u8::try_from(last).expect("few"), &origin, 0);
            assert_eq!(status, 200, "client {last}");
            wire
        })
        .collect();
    let next = || {
        let mut wire = Wire::connect_from([127, 0, 8, 200].into(), proxy.address());
        wire.send(ask(&format!("n0.test:{port}")));
        wire
    };
    let refused = proxy.refused(next(), 503, "budget_table_full");
    assert_eq!(refused.reply.header("retry-after"), Some("60"));
    let status = refused.reply.header("proxy-status").expect("every refusal has it");
    assert!(status.contains("error=connection_limit_reached"), "{status}");
    assert!(refused.reply.body.contains("limits.budget_accounts"), "{}", refused.reply.body);
    assert_eq!(proxy.metrics().count("egressd_upload_budget_accounts_limit", &[]), ACCOUNTS as u64);
    // A client that has an account is served, by another rule too.
    assert_eq!(tunnel(&proxy, 1, &origin, 1).0, 200);

    write(&proxy.file("egressd.yaml"), long_list(&origin, 2, 2 * ACCOUNTS));
    proxy.signal(Signal::HUP);
    until("the larger table to be in force", || {
        (proxy.metrics().count("egressd_upload_budget_accounts_limit", &[]) == 2 * ACCOUNTS as u64)
            .then_some(())
    });
    assert_eq!(next().read_head().status, 200);
    drop(open);
}

/// As many clients as there are places, and more: without tunnels, they keep nobody out, and what they sent counts for each client that comes.
#[test]
fn t77_a_fleet_of_clients_keeps_no_other_client_out_and_nobody_sends_more_than_its_budget() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&long_list(&origin, 2, ACCOUNTS));
    for last in 1..=3 * ACCOUNTS {
        let (status, wire) = tunnel(&proxy, u8::try_from(last).expect("few"), &origin, 0);
        assert_eq!((status, send(wire, 10)), (200, 10), "client {last}");
    }
    let used = proxy.metrics().count("egressd_upload_budget_accounts", &[]);
    assert_eq!(used, ACCOUNTS as u64);
    let (status, wire) = tunnel(&proxy, 250, &origin, 0);
    assert_eq!(status, 200);
    // It begins with what was sent from those that were given up, and that is little.
    assert_eq!(send(wire, BUDGET / 2), BUDGET / 2);
    // The first one was given up, too, and its ten bytes are still among what counts: a whole budget is more than it may send.
    let (status, wire) = tunnel(&proxy, 1, &origin, 0);
    assert_eq!(status, 200);
    assert!(send(wire, BUDGET) < BUDGET);
}
