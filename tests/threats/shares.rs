//! The rows about what clients share: one of them must not be felt by another.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::check::ask;
use crate::support::{Egressd, Kind, Names, Origin, Says, Wire, any_port, config, until};

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
