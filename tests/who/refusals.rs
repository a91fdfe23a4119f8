//! Refusals that an untrusted client can cause without end: each is counted, and the log records them at a bounded rate.

use serde_json::json;

use crate::passwords::{basic, connect_as, files};
use crate::support::{Egressd, Record, Wire, config, until};
use crate::{assert_closed_without_a_word, listening, refused_connections, wait_for_connections};

/// How many refusals these records report.
fn told<'r>(records: impl IntoIterator<Item = &'r Record>) -> u64 {
    records.into_iter().map(|record| 1 + record["suppressed"].as_u64().unwrap_or(0)).sum()
}

/// Waits until the records for this reason report `count` refusals, and returns the records, which are fewer.
fn wait_for_told(proxy: &Egressd, reason: &str, count: u64) -> Vec<Record> {
    let records = until("all refusals to be told", || {
        let mut records = proxy.records();
        records.retain(|record| record["reason"] == reason);
        (told(&records) == count).then_some(records)
    });
    assert!((records.len() as u64) < count, "{} records", records.len());
    assert!(records.iter().any(|record| record["suppressed"].is_u64()));
    records
}

#[test]
fn a_flood_is_counted_completely_and_logged_with_the_number_left_out() {
    const FLOOD: u64 = 300;
    let proxy = Egressd::start(&listening("proxy_protocol: {trusted: [127.0.0.0/8]}", &["a.example"]));
    for _ in 0..FLOOD {
        let mut wire = proxy.connect();
        wire.send("GET / HTTP/1.1\r\n\r\n");
        assert_closed_without_a_word(wire);
    }
    wait_for_connections(&proxy, "proxy_header_invalid", FLOOD);
    // Nothing is lost: a refusal without its own record is in the number of the next record.
    let records = wait_for_told(&proxy, "proxy_header_invalid", FLOOD);
    assert_eq!(refused_connections(&records).len(), records.len());
}

#[test]
fn a_flood_of_wrong_passwords_is_counted_completely_and_logged_with_the_number_left_out() {
    const FLOOD: u64 = 300;
    let passwords = "basic_auth: {users_file: users.htpasswd}";
    let proxy = Egressd::start_in(files(), &listening(passwords, &["a.example"]));
    // The same user and password, which is hashed once: this test is about the rate of the log, not of the hashes.
    let guess = connect_as("a.example:443", &basic("gitaly", "incorrect-donkey"));
    let mut ids = Vec::new();
    for _ in 0..FLOOD / 3 {
        let mut wire = proxy.connect();
        for _ in 0..3 {
            wire.send(&guess);
            let reply = wire.read_reply();
            assert_eq!((reply.status, reply.reason()), (407, Some("auth_failed")), "{reply:?}");
            ids.push(reply.id().to_owned());
        }
    }
    let failed = [("decision", "deny"), ("reason", "auth_failed")];
    assert_eq!(proxy.metrics().count("egressd_requests_total", &failed), FLOOD);
    for record in wait_for_told(&proxy, "auth_failed", FLOOD) {
        record.assert_has(&json!({"event": "deny", "decision": "deny", "status": 407, "identity": null}));
        // The record is for one request, or it reports many.
        assert_eq!(record["suppressed"].is_null(), ids.iter().any(|id| record["id"] == id.as_str()));
        assert!(record.text("client").starts_with("127.0.0.1:"), "{record:?}");
    }
}

#[test]
fn a_client_that_asks_too_often_does_not_fill_the_log() {
    const FLOOD: u64 = 200;
    let proxy = Egressd::start(&(config(&[]) + "limits: {requests_per_second_per_client: 1}\n"));
    for _ in 0..FLOOD {
        let mut wire: Wire = proxy.connect();
        wire.send(crate::connect_to("a.example:443"));
        assert!([403, 429].contains(&wire.read_reply().status));
    }
    let metrics = proxy.metrics();
    let limited = metrics.count("egressd_requests_total", &[("reason", "client_rate_limited")]);
    assert_eq!(metrics.count("egressd_requests_total", &[]), FLOOD);
    for record in wait_for_told(&proxy, "client_rate_limited", limited) {
        record.assert_has(&json!({"event": "error", "decision": null, "status": 429}));
    }
}

/// Behind a balancer all clients come to one listener: the first refusals of each client are logged, even if another client
/// is noisy.
#[test]
fn a_noisy_client_hides_no_other_clients_first_refusals() {
    let text = listening("proxy_protocol: {trusted: [127.0.0.0/8]}", &[])
        + "limits: {requests_per_second_per_client: 1}\n";
    let proxy = Egressd::start(&text);
    let ask = |client: &str| {
        let mut wire: Wire = proxy.connect();
        wire.send(format!(
            "PROXY TCP4 {client} 10.0.0.9 4711 3128\r\n{}",
            crate::connect_to("a.example:443")
        ));
        wire.read_reply().status
    };
    for round in 0..100 {
        let status = ask("10.0.0.1");
        assert!(status == 429 || round == 0 || status == 403, "{status}");
    }
    let quiet: Vec<u16> = (0..3).map(|_| ask("10.0.0.2")).collect();
    assert!(quiet.contains(&429), "{quiet:?}");
    let limited = quiet.iter().filter(|status| **status == 429).count();
    let told = until("every refusal of the quiet client is told", || {
        let told: Vec<Record> = proxy
            .records()
            .into_iter()
            .filter(|record| record["reason"] == "client_rate_limited")
            .filter(|record| record.text("client").starts_with("10.0.0.2:"))
            .collect();
        (told.len() >= limited).then_some(told)
    });
    assert!(told.iter().all(|record| record["suppressed"].is_null()), "{told:?}");
    assert_eq!(told.len(), limited);
}

/// Something that is not a request counts against its client's rate like a request.
#[test]
fn malformed_heads_beyond_the_rate_are_429_and_do_not_fill_the_log() {
    const FLOOD: u64 = 200;
    let proxy = Egressd::start(&(config(&[]) + "limits: {requests_per_second_per_client: 1}\n"));
    let mut malformed = 0;
    for _ in 0..FLOOD {
        let mut wire: Wire = proxy.connect();
        wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        match wire.read_reply().status {
            400 => malformed += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert!((1..FLOOD / 2).contains(&malformed), "{malformed} were told what is wrong with them");
    assert_eq!(proxy.metrics().count("egressd_requests_total", &[]), FLOOD);
    wait_for_told(&proxy, "client_rate_limited", FLOOD - malformed);
    let refused = proxy.records().into_iter().filter(|record| record["reason"] == "bad_target").count();
    assert_eq!(refused as u64, malformed);
}

#[test]
fn the_number_left_out_is_logged_at_the_end_too() {
    let proxy = Egressd::start(&listening("proxy_protocol: {trusted: [192.0.2.0/24]}", &["a.example"]));
    for _ in 0..30 {
        assert_closed_without_a_word(proxy.connect());
    }
    let records = proxy.stop().records;
    assert_eq!(told(&records), 30, "{records:?}");
}
