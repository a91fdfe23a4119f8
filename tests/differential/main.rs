//! A strict origin and a forgiving one read what egressd forwards as one and the same request. The test sends generated odd
//! heads through a running egressd. `tests/e2e/differential.rs` sends more of them, and adds the reading of a real server.

#[path = "../support/mod.rs"]
mod support;

mod heads;
mod inspected;
mod readers;
mod socks5;
mod strict_origin;

use heads::Scheme;
use support::Egressd;

#[test]
fn what_is_forwarded_is_one_request_to_a_strict_and_to_a_forgiving_reader() {
    let origin = strict_origin::start();
    let authority = origin.address().to_string();
    let proxy = Egressd::start(&strict_origin::configuration(&authority));
    let requests = strict_origin::requests(1_500, &authority, Scheme::Http);
    let statuses = strict_origin::ask_all(&proxy, &requests);
    strict_origin::arrived(&origin, &requests, &statuses);
}

/// Each in a tunnel of its own, whose TLS egressd opens on both sides.
#[test]
fn what_is_forwarded_inside_an_inspected_tunnel_is_one_request_too() {
    let inspected = inspected::Inspected::start();
    let requests = strict_origin::requests(1_500, &inspected.authority, Scheme::Https);
    let statuses = inspected.ask_all(&requests);
    inspected.arrived(&requests, &statuses);
}

/// The forgiving reader really forgives: otherwise it would prove nothing.
#[test]
fn the_readers_differ_where_servers_do() {
    for (bytes, requests) in [
        (&b"GET / HTTP/1.1\nHost: a\n\n"[..], 1),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n", 2),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n", 1),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 1),
    ] {
        assert!(!matches!(readers::strict(bytes), Ok(Some(_))), "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!(readers::lenient(bytes).len(), requests, "{:?}", String::from_utf8_lossy(bytes));
    }
}
