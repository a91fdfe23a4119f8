//! Connections that came to no request: every one is counted, and the log has them at a bounded rate.

use crate::support::{Egressd, until};
use crate::{assert_closed_without_a_word, listening, refused_connections, wait_for_connections};

#[test]
fn a_flood_is_counted_whole_and_logged_with_the_number_left_out() {
    const FLOOD: u64 = 300;
    let proxy = Egressd::start(&listening("proxy_protocol: {trusted: [127.0.0.0/8]}", &["a.example"]));
    for _ in 0..FLOOD {
        let mut wire = proxy.connect();
        wire.send("GET / HTTP/1.1\r\n\r\n");
        assert_closed_without_a_word(wire);
    }
    wait_for_connections(&proxy, "proxy_header_invalid", FLOOD);
    // Nothing is lost: who is not in a record is in the number of the next.
    let told = |records: &[crate::support::Record]| -> u64 {
        refused_connections(records).iter().map(|record| 1 + record["suppressed"].as_u64().unwrap_or(0)).sum()
    };
    let records = until("all refusals to be told", || {
        let records = proxy.records();
        (told(&records) == FLOOD).then_some(records)
    });
    assert!((records.len() as u64) < FLOOD, "{} records", records.len());
    assert!(records.iter().any(|record| record["suppressed"].is_u64()));
}

#[test]
fn the_number_left_out_is_told_at_the_end_too() {
    let proxy = Egressd::start(&listening("proxy_protocol: {trusted: [192.0.2.0/24]}", &["a.example"]));
    for _ in 0..30 {
        assert_closed_without_a_word(proxy.connect());
    }
    let records = proxy.stop().records;
    let told: u64 = records.iter().map(|record| 1 + record["suppressed"].as_u64().unwrap_or(0)).sum();
    assert_eq!(told, 30, "{records:?}");
}
