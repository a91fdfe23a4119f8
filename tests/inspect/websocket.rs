//! Connections that become WebSockets: only where an entry says so, and only into that; inside the tunnels of `http` rules, too.

use std::io::{Read, Write};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Egressd, End, Origin, Wire, any_port, config, head_of, until, write};
use crate::world::{Got, HOST, Inner, Site, World};

const ASKS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const SWITCHES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const ALLOWED: &str = ", requests: [{paths: [\"/ws\"], upgrade: [websocket]}, {methods: [GET]}]";

/// Switches where it is asked to, says `hello` at once, and then echoes.
fn echoing(world: &World) -> Site {
    let issued = world.targets.issue(&[HOST]);
    Site::serving(issued.server_config(), |got: &Got, stream: &mut Inner| {
        if got.field("upgrade") != Some("websocket") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            stream.flush()?;
            return Ok(true);
        }
        stream.write_all(format!("{SWITCHES}hello").as_bytes())?;
        stream.flush()?;
        let mut buffer = [0; 1024];
        loop {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(false);
            }
            stream.write_all(&buffer[..read])?;
            stream.flush()?;
        }
    })
}

fn request(port: u16, path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n{fields}\r\n")
}

#[test]
fn after_a_101_that_an_entry_allows_bytes_flow_both_ways() {
    let world = World::new();
    let site = echoing(&world);
    let proxy = world.egressd(&site, ALLOWED);
    let mut wire = world.inside(&proxy, site.port());
    // The first frame comes with the request.
    wire.send(request(site.port(), "/ws", ASKS) + "first");
    let head = wire.read_head();
    assert_eq!(
        (head.status, head.header("upgrade"), head.header("connection")),
        (101, Some("websocket"), Some("upgrade"))
    );
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(wire.read_exact(10), b"hellofirst");
    wire.send("second");
    assert_eq!(wire.read_exact(6), b"second");
    let got = site.got().pop().expect("one");
    assert_eq!(got.field("connection"), Some("upgrade"));
    wire.stream_mut().conn.send_close_notify();
    wire.send("");
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    let request = proxy.record(|record| record["event"] == "request");
    request.assert_has(&json!({"status": 101, "decision": "allow", "reason": null}));
    let close = proxy.record(|record| record["event"] == "close");
    close.assert_has(&json!({"ending": "client_closed", "id": request["tunnel"]}));
    assert!(close.number("sent") >= request.number("sent") + 11, "{close:?} {request:?}");
}

#[test]
fn what_no_entry_allows_is_refused_and_no_other_protocol_is_ever_switched_to() {
    let world = World::new();
    let site = echoing(&world);
    let proxy = world.egressd(&site, ALLOWED);
    let port = site.port();
    for (path, fields) in [
        ("/other", ASKS.to_owned()),
        ("/ws", ASKS.replace("websocket\r\nSec", "h2c\r\nSec")),
        ("/ws", ASKS.replace("websocket\r\nSec", "websocket, h2c\r\nSec")),
    ] {
        let mut wire = world.inside(&proxy, port);
        wire.send(request(port, path, &fields));
        proxy.refused(wire, 403, "upgrade_not_allowed");
    }
    assert_eq!(site.got().len(), 0);
    // Without `requests` there is no entry that could allow one.
    let proxy = world.egressd(&site, "");
    let mut wire = world.inside(&proxy, port);
    wire.send(request(port, "/ws", ASKS));
    proxy.refused(wire, 403, "upgrade_not_allowed");
    assert_eq!(site.got().len(), 0);
}

#[test]
fn a_websocket_is_asked_for_by_a_get_without_a_body_in_http_1_1() {
    let world = World::new();
    let site = echoing(&world);
    let proxy = world.egressd(&site, ALLOWED);
    let port = site.port();
    for (method, fields) in
        [("POST", ASKS.to_owned()), ("GET", format!("{ASKS}Content-Length: 5\r\n")), ("PUT", ASKS.to_owned())]
    {
        let mut wire = world.inside(&proxy, port);
        wire.send(request(port, "/ws", &fields).replacen("GET", method, 1));
        proxy.refused(wire, 403, "request_not_allowed");
    }
    assert_eq!(site.got().len(), 0);
    // To a client of HTTP/1.0 there is no 101: the target is not asked for one.
    let mut wire = world.inside(&proxy, port);
    wire.send(request(port, "/ws", ASKS).replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(site.got().pop().expect("one").field("upgrade"), None);
}

#[test]
fn a_target_that_switches_without_being_asked_or_to_something_else_is_not_followed() {
    let world = World::new();
    let config = world.targets.issue(&[HOST]).server_config();
    let site = Site::start(config, |got| {
        let to = if got.head.starts_with("GET /ws") { "h2c" } else { "websocket" };
        format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {to}\r\nConnection: Upgrade\r\n\r\n")
            .into_bytes()
    });
    let proxy = world.egressd(&site, ALLOWED);
    for (path, fields) in [("/ws", ASKS), ("/", "")] {
        let mut wire = world.inside(&proxy, site.port());
        wire.send(request(site.port(), path, fields));
        proxy.refused(wire, 502, "upstream_bad_response");
    }
}

#[test]
fn a_target_that_does_not_switch_answers_as_it_likes() {
    let world = World::new();
    let site = Site::ok(&world.targets.issue(&[HOST]));
    let proxy = world.egressd(&site, ALLOWED);
    let mut wire = world.inside(&proxy, site.port());
    for _ in 0..2 {
        wire.send(request(site.port(), "/ws", ASKS));
        assert_eq!(wire.read_reply().status, 200);
    }
}

#[test]
fn a_reload_that_no_longer_allows_the_websocket_ends_it() {
    let world = World::new();
    let site = echoing(&world);
    let text = World::config(site.port(), ALLOWED);
    let proxy = world.start(&text);
    let mut wire = world.inside(&proxy, site.port());
    wire.send(request(site.port(), "/ws", ASKS));
    assert_eq!(wire.read_head().status, 101);
    assert_eq!(wire.read_exact(5), b"hello");
    write(&proxy.file("egressd.yaml"), text.replace(", upgrade: [websocket]", ""));
    proxy.signal(Signal::HUP);
    wire.read_to_end();
    proxy.record(|record| record["event"] == "close").assert_has(&json!({
        "ending": "policy_revoked", "reason": "upgrade_not_allowed",
    }));
}

#[test]
fn the_tunnel_of_an_http_rule_may_hold_one_too() {
    let origin = Origin::start(any_port(), |mut conversation| {
        head_of(&mut conversation)?;
        conversation.write_all(SWITCHES.as_bytes())?;
        std::io::copy(&mut conversation, &mut std::io::sink()).map(drop)
    });
    let authority = origin.address().to_string();
    for (options, allowed) in
        [(", requests: [{upgrade: [websocket]}]", true), (", requests: [{methods: [GET]}]", false)]
    {
        let proxy = Egressd::start(&config(&[&format!("{{to: \"http://{authority}\"{options}}}")]));
        let mut wire: Wire = proxy.tunnel(&authority);
        wire.send(format!("GET /ws HTTP/1.1\r\nHost: {authority}\r\n{ASKS}\r\n"));
        if allowed {
            assert_eq!(wire.read_head().status, 101);
            let before = origin.seen().last().expect("one").bytes.len();
            wire.send("a frame");
            until("the frame to arrive", || {
                let seen = origin.seen();
                seen.last()
                    .expect("one")
                    .bytes
                    .get(before..)
                    .is_some_and(|rest| rest == b"a frame")
                    .then_some(())
            });
        } else {
            proxy.refused(wire, 403, "upgrade_not_allowed");
        }
    }
}
