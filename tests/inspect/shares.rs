//! Handshakes with targets at once are shared out by client: one whose targets are silent is not felt by another.

use serde_json::json;

use crate::support::{Egressd, Origin, Wire, config, until};
use crate::world::{HOST, Site, World, get};

/// Open files for egressd, and the handshakes at once that they allow.
const DESCRIPTORS: usize = 400;
const HANDSHAKES: usize = 6;

/// egressd with few handshakes at once. Any name under `silent.test` is at a target that says nothing.
fn with_few_handshakes(world: &World, site: &Site, silent: &Origin, timeout: &str) -> Egressd {
    let inspecting = |host: &str, port: u16| format!("{{to: \"https://{host}:{port}\", inspect: true}}");
    let names: String = (0..4 * HANDSHAKES).map(|n| format!(", n{n}.silent.test: [127.0.0.1]")).collect();
    let rest = World::rest().replace("b.test: [127.0.0.1]", &format!("b.test: [127.0.0.1]{names}"));
    let text = config(&[&inspecting(HOST, site.port()), &inspecting("*.silent.test", silent.port())])
        + &rest
        + &format!("tunnel: {{connect_timeout: {timeout}}}\n");
    Egressd::start_with_descriptors(world.directory(), text, DESCRIPTORS)
}

/// One client asks for far more tunnels to silent targets than there are handshakes.
fn hold_every_handshake(proxy: &Egressd, silent: &Origin) -> Vec<Wire> {
    let held = (0..4 * HANDSHAKES)
        .map(|number| {
            let mut wire = Wire::connect_from([127, 0, 7, 81].into(), proxy.address());
            let authority = format!("n{number}.silent.test:{}", silent.port());
            wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
            wire
        })
        .collect();
    until("a handshake in every place", || {
        let hellos = silent.seen().iter().filter(|seen| !seen.bytes.is_empty()).count();
        (hellos >= HANDSHAKES).then_some(())
    });
    held
}

#[test]
fn silent_targets_of_one_client_are_not_felt_by_another() {
    let world = World::new();
    let (site, silent) = (world.site(), Origin::silent());
    let proxy = with_few_handshakes(&world, &site, &silent, "10m");
    let held = hold_every_handshake(&proxy, &silent);
    // From another address.
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/"));
    assert_eq!(wire.read_reply().status, 200);
    let ended = |record: &crate::support::Record| record["event"] == "error" || record["event"] == "deny";
    assert!(!proxy.records().iter().any(ended), "the attack is still held");
    drop(held);
    // All of it comes back: each connection ends with its client.
    until("all handshakes to be given up", || silent.seen().iter().all(|seen| seen.ended).then_some(()));
}

#[test]
fn a_handshake_without_a_place_in_time_says_nothing_of_the_target() {
    let world = World::new();
    let (site, silent) = (world.site(), Origin::silent());
    let proxy = with_few_handshakes(&world, &site, &silent, "3s");
    let held = hold_every_handshake(&proxy, &silent);
    for mut wire in held {
        let reply = wire.read_reply();
        let told = (reply.status, reply.reason().expect("a refusal").to_owned());
        assert!(
            [(502, "upstream_not_tls".to_owned()), (503, "local_resources".to_owned())].contains(&told),
            "{told:?}"
        );
    }
    proxy
        .record(|record| record["reason"] == "local_resources")
        .assert_has(&json!({"event": "error", "status": 503}));
    proxy
        .record(|record| record["reason"] == "upstream_not_tls")
        .assert_has(&json!({"event": "error", "status": 502}));
}
