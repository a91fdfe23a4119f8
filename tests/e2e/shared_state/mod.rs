//! `shared_state`: replicas behind HAProxy that share one upload budget in a real Redis, with everything that can happen to either of them
//! meanwhile. Together they never send more than the budget.

#![allow(clippy::disallowed_methods, reason = "a test dials its own listeners")]

mod load;
#[path = "../../../src/state/budgets/shared/model.rs"]
mod model;
mod script;
mod store;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Authority, Egressd, Origin, any_port, directory, head_of, until, write};
use load::{Load, Sink};
use store::{Kept, Sentinel, Store, delayed};

/// What all replicas together may send; `tests/long/shared_state` lets them send more.
fn budget() -> u64 {
    std::env::var("SHARED_BUDGET").ok().and_then(|text| text.parse().ok()).unwrap_or(16 << 20)
}

/// What a replica may have leased and not sent: its largest block, and the one that it asks for meanwhile.
fn lease() -> u64 {
    2 * (budget() / 64).min(16 << 20)
}

fn replica(sink: &Sink, budget: &str, store: &str) -> Egressd {
    Egressd::start(&configured(sink, budget, store))
}

fn configured(sink: &Sink, budget: &str, store: &str) -> String {
    let rule = format!("{{to: \"tcp://{}\", upload_budget: {budget}}}", sink.address);
    format!("{}shared_state: {{{store}}}\n", crate::support::config(&[&rule]))
}

fn of_three(sink: &Sink, url: &str) -> String {
    configured(sink, &format!("{}B/24h", budget()), &format!("url: \"{url}\", replicas: 3"))
}

fn replicas(sink: &Sink, url: &str) -> Vec<Egressd> {
    let text = of_three(sink, url);
    (0..3).map(|_| Egressd::start(&text)).collect()
}

fn is_up(replica: &Egressd) -> bool {
    let metrics = replica.metrics();
    metrics.has("egressd_shared_state_up") && metrics.count("egressd_shared_state_up", &[]) == 1
}

fn up(replica: &Egressd) {
    until("the store to answer", || is_up(replica).then_some(()));
}

/// All of the budget arrives, but for what the replicas hold; and never more.
fn assert_together(sink: &Sink, most: u64) {
    let arrived = sink.arrived();
    assert!(arrived <= most, "{arrived} bytes arrived of {most}");
    assert!(arrived >= budget() - 3 * lease(), "{arrived} bytes arrived of {}", budget());
}

fn status(replica: &Egressd) -> Value {
    serde_json::from_str(&replica.get("/api/status").body).expect("JSON")
}

#[test]
fn three_replicas_behind_a_balancer_send_one_budget() {
    let (sink, store) = (Sink::start(), Store::start(Kept::Nothing));
    let replicas = replicas(&sink, &store.url());
    Load::start(&replicas, &sink).until_spent(budget() - 3 * lease());
    assert_together(&sink, budget());
    let store = &status(&replicas[0])["shared_state"];
    assert_eq!(
        (&store["up"], &store["on_failure"], &store["replicas"]),
        (&json!(true), &json!("deny"), &json!(3))
    );
}

#[test]
fn a_replica_that_is_killed_takes_with_it_what_it_had_leased_and_no_more() {
    let (sink, store) = (Sink::start(), Store::start(Kept::Nothing));
    let replicas = replicas(&sink, &store.url());
    let load = Load::start(&replicas, &sink);
    load.until_arrived(budget() / 4);
    replicas[0].signal(Signal::KILL);
    load.until_spent(budget() - 3 * lease());
    assert_together(&sink, budget());
}

#[test]
fn a_store_that_is_started_again_with_its_data_counts_on() {
    let (sink, mut store) = (Sink::start(), Store::start(Kept::All));
    let replicas = replicas(&sink, &store.url());
    let load = Load::start(&replicas, &sink);
    load.until_arrived(budget() / 4);
    store.restart();
    load.until_spent(budget() - 3 * lease());
    assert_together(&sink, budget());
}

#[test]
fn a_store_that_lost_everything_is_told_what_was_sent() {
    let (sink, mut store) = (Sink::start(), Store::start(Kept::Nothing));
    let replicas = replicas(&sink, &store.url());
    let load = Load::start(&replicas, &sink);
    load.until_arrived(budget() / 2);
    store.restart();
    load.until_spent(budget() - 3 * lease());
    assert_together(&sink, budget());
    replicas[0].says("the store was started again, or is another");
}

/// The exception: nobody can tell what a dead replica sent.
#[test]
fn only_what_a_dead_replica_sent_and_the_store_lost_can_be_sent_again() {
    let (sink, mut store) = (Sink::start(), Store::start(Kept::Nothing));
    let replicas = replicas(&sink, &store.url());
    let alone = Load::start(&replicas[..1], &sink);
    alone.until_arrived(budget() / 4);
    alone.stop();
    let of_the_dead = sink.arrived();
    replicas[0].signal(Signal::KILL);
    store.restart();
    Load::start(&replicas[1..], &sink).until_spent(of_the_dead + budget() - 3 * lease());
    assert_together(&sink, budget() + of_the_dead);
}

#[test]
fn a_slow_store_costs_time_and_nothing_else() {
    let (sink, store) = (Sink::start(), Store::start(Kept::Nothing));
    let address = delayed(store.address, Duration::from_secs(2));
    let replicas = replicas(&sink, &format!("redis://{address}/0"));
    Load::start(&replicas, &sink).until_spent(budget() - 3 * lease());
    assert_together(&sink, budget());
}

#[test]
fn a_store_whose_clock_is_set_gives_nothing_away() {
    for offset in ["-3600", "+3600"] {
        let (sink, store) = (Sink::start(), Store::start(Kept::Clock));
        let replicas = replicas(&sink, &store.url());
        let load = Load::start(&replicas, &sink);
        load.until_arrived(budget() / 4);
        store.set_clock(offset);
        load.until_spent(budget() - 3 * lease());
        assert_together(&sink, budget());
    }
}

/// The clock that it lost its data with was two days behind: by the next one, all that was sent is out of the window.
#[test]
fn a_store_that_lost_everything_and_has_another_clock_is_told_when_it_was_sent() {
    let (sink, mut store) = (Sink::start(), Store::start(Kept::Clock));
    store.set_clock("-172800");
    store.restart();
    let replicas = replicas(&sink, &store.url());
    let load = Load::start(&replicas, &sink);
    load.until_arrived(budget() / 2);
    store.stop();
    store.set_clock("+0");
    store.start_again();
    load.until_spent(budget() - 3 * lease());
    assert_together(&sink, budget());
}

#[test]
fn the_clocks_of_replicas_do_not_matter() {
    let (sink, store) = (Sink::start(), Store::start(Kept::Nothing));
    let text = of_three(&sink, &store.url());
    let replicas: Vec<Egressd> = ["-3600", "+0", "+3600"]
        .into_iter()
        .map(|offset| {
            let home = directory();
            let file = home.path().join("egressd.yaml");
            write(&file, &text);
            let mut command = crate::support::command();
            command.arg("run").arg("--config").arg(&file);
            store::set_clock(&mut command, home.path(), offset);
            Egressd::spawn(home, command)
        })
        .collect();
    Load::start(&replicas, &sink).until_spent(budget() - 3 * lease());
    assert_together(&sink, budget());
}

#[test]
fn after_a_failover_by_sentinel_the_new_master_is_told() {
    let sink = Sink::start();
    let mut sentinel = Sentinel::start();
    let replicas = replicas(&sink, &sentinel.url());
    let load = Load::start(&replicas, &sink);
    load.until_arrived(budget() / 4);
    sentinel.kill_master();
    load.until_spent(budget() - 3 * lease());
    assert_together(&sink, budget());
}

#[test]
fn without_the_store_deny_refuses_what_is_not_leased() {
    let (sink, mut store) = (Sink::start(), Store::start(Kept::Nothing));
    let deny = replica(&sink, "300KB/24h", &format!("url: \"{}\"", store.url()));
    up(&deny);
    deny.tunnel(&sink.address.to_string()).send([1; 100]);
    until("the bytes to arrive", || (sink.arrived() == 100).then_some(()));
    store.stop();
    until("the store to be missed", || (!is_up(&deny)).then_some(()));
    // Of the lease, if it was not given back meanwhile, and then nothing.
    let refusal = until("a refusal", || {
        let mut wire = deny.connect();
        wire.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", sink.address));
        let reply = wire.read_head();
        if reply.status == 200 {
            wire.send([1; 1000]);
        }
        (reply.status != 200).then_some(reply)
    });
    assert_eq!((refusal.status, refusal.reason()), (503, Some("shared_state_unavailable")));
    assert_eq!(refusal.header("retry-after"), Some("5"));
    assert!(sink.arrived() <= 8192, "no more than the lease: {}", sink.arrived());
    assert_eq!(deny.get("/readyz").status, 200, "other traffic goes on");
    let status = status(&deny);
    assert!(status["warnings"].to_string().contains("cannot be asked"), "{status}");
    assert_eq!(status["shared_state"]["up"], false);
}

#[test]
fn a_store_that_hangs_is_missed_and_counts_on_afterwards() {
    let (sink, store) = (Sink::start(), Store::start(Kept::Nothing));
    let deny = replica(&sink, "300KB/24h", &format!("url: \"{}\"", store.url()));
    up(&deny);
    let asks = || {
        let mut wire = deny.connect();
        wire.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", sink.address));
        let reply = wire.read_head();
        if reply.status == 200 {
            // The end of the budget is a reset.
            wire.send([1; 1000]);
            wire.finish();
            let _ = wire.read_to_end();
        }
        reply
    };
    assert_eq!(asks().status, 200);
    store.signal(Signal::STOP);
    let refusal = until("a refusal", || Some(asks()).filter(|reply| reply.status != 200));
    assert_eq!((refusal.status, refusal.reason()), (503, Some("shared_state_unavailable")));
    assert!(!is_up(&deny));
    store.signal(Signal::CONT);
    up(&deny);
    // What it was asked before it hung, it does now. On a busy machine it may be missed once more meanwhile.
    let refusal = until("all of the budget to be used", || Some(asks()).filter(|reply| reply.status == 403));
    assert_eq!(refusal.reason(), Some("upload_budget"));
    let arrived = sink.arrived();
    assert!((200_000..=300_000).contains(&arrived), "{arrived}");
}

#[test]
fn without_the_store_local_goes_on_with_its_share_and_tells_it_later() {
    let (sink, mut store) = (Sink::start(), Store::start(Kept::Nothing));
    let keys = format!("url: \"{}\", on_failure: local, replicas: 3", store.url());
    let local = replica(&sink, "900KB/24h", &keys);
    up(&local);
    local.tunnel(&sink.address.to_string()).send([1; 100]);
    until("the bytes to arrive", || (sink.arrived() == 100).then_some(()));
    store.stop();
    until("the store to be missed", || (!is_up(&local)).then_some(()));
    let send = |bytes: usize| {
        let mut tunnel = local.connect();
        tunnel.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", sink.address));
        if tunnel.read_head().status == 200 {
            // The end of the budget is a reset.
            tunnel.send(vec![1; bytes]);
            tunnel.finish();
            let _ = tunnel.read_to_end();
        }
    };
    // A third of what was left, and nothing more.
    send(800_000);
    local.record(|record| record["event"] == "close" && record["ending"] == "upload_limit");
    until("its share to arrive", || (sink.arrived() > 290_000).then_some(()));
    assert!(sink.arrived() <= 300_000 + 8192, "{}", sink.arrived());

    store.start_again();
    up(&local);
    until("all of the budget to arrive", || {
        send(300_000);
        (sink.arrived() >= 900_000 - 100).then_some(())
    });
    assert!(sink.arrived() <= 900_000, "{}", sink.arrived());
}

#[test]
fn plain_requests_count_together_and_what_does_not_fit_is_not_begun() {
    let origin = Origin::start(any_port(), |mut conversation| {
        let head = head_of(&mut conversation)?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let length = length.unwrap_or(if head.contains("chunked") { u64::MAX } else { 0 });
        std::io::copy(&mut (&mut conversation).take(length), &mut std::io::sink())?;
        conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    });
    let mut store = Store::start(Kept::Nothing);
    let rule = format!("{{to: \"http://{}\", upload_budget: 100KB/24h}}", origin.address());
    let text = format!("{}shared_state: {{url: \"{}\"}}\n", crate::support::config(&[&rule]), store.url());
    let (first, second) = (Egressd::start(&text), Egressd::start(&text));
    let head =
        |length: &str| format!("PUT http://{0}/ HTTP/1.1\r\nHost: {0}\r\n{length}\r\n", origin.address());
    let post = |replica: &Egressd, bytes: usize| {
        let mut wire = replica.connect();
        wire.send([head(&format!("Content-Length: {bytes}\r\n")).as_bytes(), &vec![1; bytes]].concat());
        wire.read_reply().status
    };
    assert_eq!(post(&first, 60_000), 200);
    second.refuses(head("Content-Length: 60000\r\n"), 403, "upload_budget");
    // What the first has leased beyond that is at most two blocks of 4 KiB.
    assert_eq!(post(&second, 25_000), 200);
    assert_eq!(origin.seen().len(), 2, "what does not fit reaches no target");
    // Of a chunked body nobody knows before how long it is.
    let mut wire = second.connect();
    wire.send(head("Transfer-Encoding: chunked\r\n"));
    wire.send([b"4e20\r\n".as_slice(), &[1; 20_000], b"\r\n0\r\n\r\n"].concat());
    second.refused(wire, 403, "upload_budget");
    let arrived = || origin.seen().iter().map(|seen| seen.bytes.len()).sum::<usize>();
    assert!(arrived() <= 100_000, "{}", arrived());
    store.stop();
    until("the store to be missed", || (!is_up(&first)).then_some(()));
    until("what is leased to be used", || {
        let mut wire = first.connect();
        wire.send(head(""));
        Some(wire.read_reply()).filter(|reply| reply.status == 503)
    });
    first.refuses(head(""), 503, "shared_state_unavailable");
}

#[test]
fn what_is_leased_and_not_used_is_for_the_others() {
    let (sink, store) = (Sink::start(), Store::start(Kept::Nothing));
    let keys = format!("url: \"{}\"", store.url());
    let start = || replica(&sink, "100KB/24h", &keys);
    let (first, second, third) = (start(), start(), start());
    let send = |replica: &Egressd, bytes: usize| {
        let mut tunnel = replica.tunnel(&sink.address.to_string());
        tunnel.send(vec![1; bytes]);
        tunnel.finish();
        let _ = tunnel.read_to_end();
    };
    send(&first, 1000);
    // One ends in order, the other has a lease that it no longer uses.
    assert_eq!(first.stop().code, 0);
    send(&second, 1000);
    let left = || store.counted();
    until("the unused leases to come back", || (left() == 2000).then_some(()));
    send(&third, 98_000);
    until("all of it to arrive", || (sink.arrived() == 100_000).then_some(()));
}

#[test]
fn with_tls_and_a_password_and_a_new_one_without_a_restart() {
    let authority = Authority::new();
    let (sink, home) = (Sink::start(), directory());
    let mut store = Store::start_with_tls(&authority, "one");
    write(&home.path().join("ca.crt"), authority.pem());
    write(&home.path().join("store.cred"), "default:one\n");
    let keys = format!("url: \"{}\", ca: ca.crt, credentials_file: store.cred", store.url());
    let replica = Egressd::start_in(home, &configured(&sink, "100KB/1h", &keys));
    up(&replica);
    replica.tunnel(&sink.address.to_string()).send("1");
    until("the byte to arrive", || (sink.arrived() == 1).then_some(()));
    store.set_password("two");
    store.restart();
    until("the password to be refused", || (!is_up(&replica)).then_some(()));
    assert!(!replica.stderr().contains("default:one"), "{}", replica.stderr());
    write(&replica.file("store.cred"), "default:two\n");
    up(&replica);
    // A store that proves another name is not spoken to.
    let other = Authority::new();
    write(&replica.file("ca.crt"), other.pem());
    until("the certificate to be refused", || {
        status(&replica)["shared_state"]["why"].as_str().filter(|why| why.contains("TLS handshake")).map(drop)
    });
}

#[test]
fn a_cluster_has_the_accounts_on_its_nodes() {
    let sink = Sink::start();
    let cluster = store::Cluster::start();
    let keys = format!("url: \"{}\"", cluster.url());
    let replica = replica(&sink, "100KB/1h", &keys);
    up(&replica);
    replica.tunnel(&sink.address.to_string()).send(vec![1; 5000]);
    until("the bytes to arrive", || (sink.arrived() == 5000).then_some(()));
    assert_eq!(cluster.accounts(), 1);
}

/// The user that docs/operations.md shows may do all that egressd does, and nothing else.
#[test]
fn the_rights_that_the_documentation_names_are_enough() {
    let (sink, store) = (Sink::start(), Store::start(Kept::Nothing));
    let page = std::fs::read_to_string("docs/operations.md").expect("in the repository");
    let (_, rights) = page.split_once("`ACL SETUSER egressd ").expect("it names them");
    let (rights, _) = rights.split_once('`').expect("a closing quote");
    let rights = rights.replace(">PASSWORD", ">secret");
    let rights: Vec<&str> = rights.split_whitespace().collect();
    store.ask(&[&["ACL", "SETUSER", "egressd"], &rights[..]].concat());
    let home = directory();
    write(&home.path().join("store.cred"), "egressd:secret\n");
    let keys = format!("url: \"{}\", credentials_file: store.cred", store.url());
    let replica = Egressd::start_in(home, &configured(&sink, "100KB/1h", &keys));
    up(&replica);
    replica.tunnel(&sink.address.to_string()).send(vec![1; 5000]);
    until("the bytes to arrive", || (sink.arrived() == 5000).then_some(()));
    let denied = store.ask(&["ACL", "LOG"]);
    assert!(matches!(&denied, redis::Value::Array(all) if all.is_empty()), "{denied:?}");
}

#[test]
fn without_budgets_nothing_is_sent_and_a_policy_that_forgets_is_told() {
    let (sink, store) = (Sink::start(), Store::start(Kept::Nothing));
    store.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let rule = format!("tcp://{}", sink.address);
    let text = format!("{}shared_state: {{url: \"{}\"}}\n", crate::support::config(&[&rule]), store.url());
    let idle = Egressd::start(&text);
    idle.tunnel(&sink.address.to_string()).send("1");
    until("the byte to arrive", || (sink.arrived() == 1).then_some(()));
    assert!(!idle.metrics().has("egressd_shared_state_up"));
    until("only this test to be connected", || (store.clients() == 1).then_some(()));
    // A reload that brings a budget begins to ask.
    write(
        &idle.file("egressd.yaml"),
        text.replace(&format!("\"{rule}\""), &format!("{{to: \"{rule}\", upload_budget: 1KB/1h}}")),
    );
    up(&idle);
    idle.says("maxmemory-policy allkeys-lru");
}
