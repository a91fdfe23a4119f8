//! The rows about the path to a target: loops, a parent, name servers and targets that fail.

use std::io::{self, Read, Write};

use serde_json::json;

use crate::check::ask;
use crate::suite::case::{connect, get};
use crate::suite::hello;
use crate::suite::world::{Place, World};
use crate::support::{Egressd, End, Origin, any_port, config, own_loopback, until};

#[test]
fn t44_its_own_listeners_are_out_of_reach_for_every_rule() {
    let rules = [
        "tcp://127.0.0.1:1-65535",
        "tcp://[::ffff:7f00:1]:1-65535",
        "tcp://own.test:1-65535",
        "http://127.0.0.1:1-65535",
    ];
    let more = "dns: {hosts: {own.test: [127.0.0.1]}}\n";
    let proxy = Egressd::start(&(config(&rules) + more));
    for own in [proxy.admin(), proxy.address()] {
        let port = own.port();
        for spelling in [own.to_string(), format!("own.test:{port}"), format!("[::ffff:7f00:1]:{port}")] {
            proxy.refuses(ask(&spelling), 502, "loop");
        }
        proxy.refuses(format!("GET http://{own}/metrics HTTP/1.1\r\nHost: {own}\r\n\r\n"), 502, "loop");
    }
    // A Via that names egressd proves nothing: the client wrote it, and no request goes out with it.
    assert_eq!(proxy.metrics().count("egressd_requests_total", &[("reason", "loop")]), 8);
}

#[test]
fn t44_its_own_listeners_are_a_loop_whether_or_not_private_opens_them() {
    let rules = ["tcp://127.0.0.1:1-65535", "tcp://own.test:1-65535", "http://127.0.0.1:1-65535"];
    let closed = config(&rules).replace("    private: [127.0.0.0/8]\n", "");
    let proxy = Egressd::start(&(closed + "dns: {hosts: {own.test: [127.0.0.1]}}\n"));
    for own in [proxy.admin(), proxy.address()] {
        for spelling in [own.to_string(), format!("own.test:{}", own.port())] {
            proxy.refuses(ask(&spelling), 502, "loop");
        }
        proxy.refuses(format!("GET http://{own}/metrics HTTP/1.1\r\nHost: {own}\r\n\r\n"), 502, "loop");
    }
    // Another port of the same host is closed for its address.
    proxy.refuses(ask("127.0.0.1:9"), 403, "address_prohibited");
}

#[test]
fn t47_with_a_parent_what_is_known_here_is_still_checked_here() {
    let parent = Origin::silent();
    let world = World::on_loopback();
    let text = world.config_allowing(&[
        "tcp://*.amazonaws.com:22",
        "tcp://10.0.0.0/8:22",
        "tcp://169.254.169.254:80",
    ]) + &format!("upstream_proxy: {{url: \"http://{}\"}}\n", parent.address());
    let proxy = Egressd::start(&text);
    let mark = world.mark();
    proxy.refuses(ask("evil.test:22"), 403, "host_not_allowed");
    proxy.refuses(ask("10.1.2.3:22"), 403, "address_prohibited");
    proxy.refuses(ask("169.254.169.254:80"), 403, "address_prohibited");
    assert!(parent.seen().is_empty(), "a denial reached the parent");
    // The parent resolves a name and checks its address: egressd does not ask.
    let mut wire = proxy.connect();
    wire.send(ask("v4-10-0-0-1.amazonaws.com:22"));
    until("the parent to be asked", || {
        let seen = parent.seen();
        let asked = seen
            .iter()
            .any(|seen| seen.bytes.starts_with(b"CONNECT v4-10-0-0-1.amazonaws.com:22 HTTP/1.1\r\n"));
        asked.then_some(())
    });
    assert!(world.now(&mark).asked.is_empty(), "{:?}", world.now(&mark).asked);
}

#[test]
fn name_servers_that_are_dead_slow_lying_or_flapping() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&world.config().replace("timeout: 5s", "timeout: 700ms"));
    let mark = world.mark();
    for (host, status, reason) in [
        ("nx.amazonaws.com", 502, "dns_no_such_name"),
        ("fails.amazonaws.com", 502, "dns_failed"),
        ("slow.amazonaws.com", 504, "dns_timeout"),
        ("lies.amazonaws.com", 502, "dns_failed"),
    ] {
        let refused = proxy.refuses(world.fill(&connect(host)), status, reason);
        refused.record.assert_has(
            &json!({"event": "error", "upstream": null, "target": format!("{host}:{}", world.tls)}),
        );
        proxy.refuses(world.fill(&get(format!("http://{host}:{{WEB}}/"), "")), status, reason);
    }
    assert!(world.settled(&mark).reached.is_empty());
    // It recovers by itself: a failure is cached for some seconds at most.
    until("the name that was refused once to be found", || {
        let mut wire = proxy.connect();
        wire.send(world.fill(&connect("flaps.amazonaws.com")));
        (wire.read_head().status == 200).then_some(())
    });
    // Without any name server: the request neither hangs nor passes.
    let dead = world
        .config()
        .replace(&world.name_server().to_string(), "127.0.0.1:1")
        .replace("timeout: 5s", "timeout: 1s");
    let proxy = Egressd::start(&dead);
    let mark = world.mark();
    let mut wire = proxy.connect();
    wire.send(world.fill(&connect("{OK}")));
    let reply = wire.read_reply();
    assert!(["dns_failed", "dns_timeout"].contains(&reply.reason().expect("a refusal")), "{reply:?}");
    proxy
        .record(|record| record["id"] == reply.id())
        .assert_has(&json!({"event": "error", "upstream": null}));
    assert!(world.settled(&mark).reached.is_empty());
}

/// An egressd with a rule that allows opaque tunnels to this target.
fn before(origin: &Origin, more: &str) -> Egressd {
    Egressd::start(
        &(config(&[&format!("tcp://{}", origin.address()), &format!("http://{}", origin.address())]) + more),
    )
}

#[test]
fn targets_that_reset_stall_half_close_or_are_not_there() {
    // A reset stays a reset.
    let origin = Origin::start(any_port(), |mut conversation| {
        conversation.read_exact(&mut [0; 4])?;
        conversation.reset()
    });
    let proxy = before(&origin, "");
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send("ping");
    assert_eq!(tunnel.read_to_end(), (Vec::new(), End::Reset));
    proxy
        .record(|record| record["event"] == "close")
        .assert_has(&json!({"ending": "upstream_reset", "sent": 4}));

    // A half-close is passed on, and the other half goes on.
    let origin = Origin::start(any_port(), |mut conversation| {
        conversation.write_all(b"said")?;
        conversation.finish()?;
        io::copy(&mut conversation, &mut io::sink())?;
        Ok(())
    });
    let proxy = before(&origin, "");
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    assert_eq!(tunnel.read_to_end(), (b"said".to_vec(), End::Fin));
    tunnel.send("still here");
    tunnel.finish();
    assert_eq!(origin.wait_ended(0).bytes, b"still here");
    proxy
        .record(|record| record["event"] == "close")
        .assert_has(&json!({"ending": "upstream_closed", "sent": 10, "received": 4}));

    // Silence is bounded, in a tunnel and in an answer; an answer that stops inside its body is not presented as complete.
    let origin = Origin::silent();
    let proxy = before(
        &origin,
        "tunnel: {idle_timeout: 1s}\nhttp: {response_timeout: 300ms, stall_timeout: 300ms}\n",
    );
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send("ping");
    assert!(tunnel.read_to_end().0.is_empty());
    proxy.record(|record| record["ending"] == "idle_timeout");
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address());
    proxy.refuses(&request, 504, "upstream_timeout");
    let origin = Origin::start(any_port(), |mut conversation| {
        // Without a request it would not be an answer.
        conversation.read_exact(&mut [0; 4])?;
        conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
        io::copy(&mut conversation, &mut io::sink())?;
        Ok(())
    });
    let proxy = before(&origin, "http: {stall_timeout: 300ms}\n");
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address());
    let mut wire = proxy.connect();
    wire.send(&request);
    let (bytes, _) = wire.read_to_end();
    assert!(bytes.ends_with(b"\r\n\r\nhalf"), "{}", String::from_utf8_lossy(&bytes));
    proxy.record(|record| record["event"] == "http" && record["reason"] == "upstream_timeout");

    // Nothing listens.
    let gone = std::net::SocketAddr::new(own_loopback().into(), 9);
    let proxy = Egressd::start(&config(&[&format!("tcp://{gone}")]));
    proxy.refuses(ask(&gone.to_string()), 502, "connect_refused");
}

#[test]
fn t36_between_check_and_dial_there_is_no_second_question() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&world.config());
    let mark = world.mark();
    let mut tunnel = proxy.tunnel(&format!("rebind.amazonaws.com:{}", world.tls));
    tunnel.send(hello::naming(b"rebind.amazonaws.com"));
    assert!(!tunnel.read_exact(1).is_empty());
    let asked = world.now(&mark).asked;
    assert_eq!(asked.len(), 2, "one question for each family: {asked:?}");
    let opened = proxy.record(|record| record["event"] == "open");
    assert_eq!(opened["upstream"], format!("{}:{}", world.ip(Place::Ok), world.tls));
}

#[test]
fn t39_no_rule_opens_an_endpoint_of_credentials() {
    for address in ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]"]
    {
        let rules = [format!("tcp://{address}:80"), format!("http://{address}")];
        let world = World::on_loopback();
        let text = world
            .config_allowing(&[&rules[0], &rules[1]])
            .replace("private: [", "private: [169.254.0.0/16, \"fd00::/8\", ");
        let proxy = Egressd::start(&text);
        proxy.refuses(ask(&format!("{address}:80")), 403, "address_prohibited");
        proxy.refuses(
            format!("GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            403,
            "address_prohibited",
        );
    }
}

#[test]
fn t38_private_opens_one_network_to_one_rule() {
    let world = World::on_loopback();
    let inside = world.ip(Place::Private);
    let tls = world.tls;
    let open = format!("{{to: \"https://private.amazonaws.com:{tls}\", private: [\"{inside}/32\"]}}");
    let proxy = Egressd::start(&world.config_allowing(&[&open, &format!("*.amazonaws.com:{tls}")]));
    let mut tunnel = proxy.tunnel(&format!("private.amazonaws.com:{tls}"));
    tunnel.send(hello::real("private.amazonaws.com"));
    assert!(!tunnel.read_exact(1).is_empty());
    proxy.refuses(world.fill(&connect("internal-x.elb.amazonaws.com")), 403, "address_prohibited");
}
