//! Connections of clients that do not know of the proxy: the name that they show decides, and the address that they asked for gains
//! nothing. That address comes here by a PROXY header; tests/e2e has the packet filters.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::scope;

use serde_json::json;

use crate::check::{UNHURRIED, ask};
use crate::inspected_world;
use crate::suite::case::{Case, Expect, Step};
use crate::suite::cases;
use crate::suite::drive::{Patience, drive};
use crate::suite::hello;
use crate::suite::verdict::harmed;
use crate::suite::world::{Place, World};
use crate::support::{
    Authority, Egressd, End, Origin, Record, Wire, client_hello, config, head_of, own_loopback, read, until,
    write,
};
use crate::ways::{pump, target, with_listener};

pub(crate) const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const UNRECOGNIZED_NAME: u8 = 112;

const KEYS: &str = "mode: transparent, proxy_protocol: {trusted: [127.0.0.0/8]}";

/// A configuration whose listener is transparent, with names.
pub(crate) fn transparent(rules: &[&str], more: &str) -> String {
    with_listener(&config(rules), |address| format!("address: \"{address}\", {KEYS}"))
        + "dns: {hosts: {a.test: [127.0.0.1], inner.test: [10.9.9.9], own.test: [127.0.0.1]}}\n"
        + more
}

/// What a balancer sends first: a client asked for this address.
pub(crate) fn header(meant: SocketAddr) -> Vec<u8> {
    format!("PROXY TCP4 127.0.0.1 {} 4711 {}\r\n", meant.ip(), meant.port()).into_bytes()
}

/// A connection whose client asked for this address.
pub(crate) fn meaning(proxy: &Egressd, meant: SocketAddr) -> Wire {
    let mut wire = proxy.connect();
    wire.send(header(meant));
    wire
}

pub(crate) fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}

/// The allowed target at 127.0.0.1, another one at the same port of another address, and egressd.
struct Scene {
    authority: Authority,
    allowed: Origin,
    evil: Origin,
    proxy: Egressd,
}

impl Scene {
    fn new(more: &str) -> Self {
        let authority = Authority::new();
        let allowed = Origin::tls_echo(&authority.issue(&["a.test"]));
        let port = allowed.port();
        let elsewhere = SocketAddr::new(own_loopback().into(), port);
        let evil = Origin::start(elsewhere, |mut stream| stream.write_all(b"evil"));
        let rules = [format!("https://a.test:{port}"), format!("https://inner.test:{port}")];
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let proxy = Egressd::start(&transparent(&rules, more));
        Scene { authority, allowed, evil, proxy }
    }

    /// The address that the clients ask for: it is never to be dialled.
    fn meant(&self) -> SocketAddr {
        self.evil.address()
    }

    fn echo(&self) -> crate::support::TlsStream {
        let mut tls = self.authority.client("a.test", meaning(&self.proxy, self.meant()));
        tls.write_all(b"ping").expect("the tunnel stands");
        let mut said = [0; 4];
        tls.read_exact(&mut said).expect("an echo");
        assert_eq!(&said, b"ping");
        tls
    }
}

#[test]
fn t94_the_name_leads_to_its_own_address_and_never_to_the_one_that_was_asked_for() {
    let scene = Scene::new("");
    drop(scene.echo());
    let target = format!("a.test:{}", scene.allowed.port());
    scene.proxy.record(|record| record["event"] == "close").assert_has(&json!({
        "protocol": "transparent", "method": "CONNECT", "target": target, "original": scene.meant().to_string(), "sni": "a.test",
        "upstream": scene.allowed.address().to_string(), "status": 200, "decision": "allow", "listener": "proxy",
    }));
    // A byte at a time, as over a bad line.
    let mut wire = meaning(&scene.proxy, scene.meant());
    let hello = client_hello(Some("a.test"));
    wire.send_in_pieces(hello.chunks(1), std::time::Duration::ZERO);
    assert_eq!(wire.read_exact(1), [22], "the target's own answer");
    assert_eq!(scene.evil.seen().len(), 0, "nothing reached what was asked for");
    let metrics = scene.proxy.metrics();
    let accepted = [("listener", "proxy"), ("result", "accepted")];
    assert_eq!(metrics.count("egressd_connections_total", &accepted), 2);
}

#[test]
fn t94_what_is_not_allowed_hears_an_alert_or_nothing_and_reaches_nothing() {
    let scene = Scene::new("");
    let two = hello::with(vec![(0, hello::server_names(&[(0, b"a.test"), (0, b"evil.test")]))]);
    let twice = hello::with(vec![hello::sni("a.test"), hello::sni("evil.test")]);
    let address = hello::with(vec![hello::sni("127.0.0.1")]);
    let half = client_hello(Some("a.test"))[..40].to_vec();
    let rows: [(&str, Vec<u8>, Vec<u8>, &str); 10] = [
        (
            "a name that is not listed",
            client_hello(Some("evil.test")),
            alert(ACCESS_DENIED),
            "host_not_allowed",
        ),
        ("no name", client_hello(None), alert(UNRECOGNIZED_NAME), "no_sni"),
        ("two names", two, alert(DECODE_ERROR), "client_hello_malformed"),
        ("a name in each of two extensions", twice, alert(DECODE_ERROR), "client_hello_malformed"),
        ("an address for a name", address, alert(DECODE_ERROR), "client_hello_malformed"),
        (
            "a name that leads inside",
            client_hello(Some("inner.test")),
            alert(ACCESS_DENIED),
            "address_prohibited",
        ),
        ("half a hello", half, alert(DECODE_ERROR), "client_hello_malformed"),
        ("SSH", b"SSH-2.0-x\r\n".to_vec(), Vec::new(), "host_not_allowed"),
        ("FTP", b"USER anonymous\r\n".to_vec(), Vec::new(), "host_not_allowed"),
        ("SSLv2", b"\x80\x2e\x01\x00\x02".to_vec(), Vec::new(), "host_not_allowed"),
    ];
    for (what, bytes, said, reason) in rows {
        let before = scene.proxy.records().len();
        let mut wire = meaning(&scene.proxy, scene.meant());
        wire.send(&bytes);
        wire.finish();
        assert_eq!(wire.read_to_end(), (said, End::Fin), "{what}");
        until(what, || (scene.proxy.records().len() > before).then_some(()));
        let record = scene.proxy.records().pop().expect("the last one");
        // As a CONNECT would have it: what a hello decides comes after the 200.
        let status = if matches!(reason, "host_not_allowed" | "address_prohibited") { 403 } else { 200 };
        record.assert_has(&json!({
            "event": "deny", "reason": reason, "decision": "deny", "status": status, "upstream": null, "protocol": "transparent",
            "original": scene.meant().to_string(),
        }));
    }
    // DNS led it here: nothing tells where it was to go.
    for (bytes, said, reason) in [
        (b"SSH-2.0-x\r\n".to_vec(), Vec::new(), "not_tls"),
        (client_hello(None), alert(UNRECOGNIZED_NAME), "no_sni"),
    ] {
        let mut wire = scene.proxy.connect();
        wire.send([&b"PROXY UNKNOWN\r\n"[..], &bytes].concat());
        assert_eq!(wire.read_to_end(), (said, End::Fin), "{reason}");
        let led = |record: &Record| record["reason"] == reason && record["original"].is_null();
        scene.proxy.record(led).assert_has(&json!({"target": null, "upstream": null}));
    }
    assert_eq!((scene.allowed.seen().len(), scene.evil.seen().len()), (0, 0));
}

#[test]
fn t94_the_host_of_each_request_decides() {
    let web = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let port = web.port();
    let elsewhere = SocketAddr::new(own_loopback().into(), port);
    let evil = Origin::start(elsewhere, |mut stream| stream.write_all(b"evil"));
    let rules = [format!("http://a.test:{port}"), format!("http://inner.test:{port}")];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let proxy = Egressd::start(&transparent(&rules, ""));
    let mut wire = meaning(&proxy, elsewhere);
    wire.send(format!("GET /x?y HTTP/1.1\r\nHost: A.test.:{port}\r\n\r\n"));
    assert_eq!(wire.read_reply().status, 200);
    // The next request of the same connection is for another host.
    wire.send(format!("GET / HTTP/1.1\r\nHost: evil.test:{port}\r\n\r\n"));
    assert_eq!((wire.read_reply().status, wire.read_to_end().1), (403, End::Fin));
    proxy.record(|record| record["event"] == "http").assert_has(&json!({
        "protocol": "transparent", "method": "GET", "target": format!("http://a.test:{port}/x"), "original": elsewhere.to_string(),
        "upstream": web.address().to_string(), "status": 200,
    }));
    let seen = web.seen();
    let sent = String::from_utf8_lossy(&seen[0].bytes).into_owned();
    assert!(sent.starts_with(&format!("GET /x?y HTTP/1.1\r\nhost: a.test:{port}\r\n")), "{sent}");
    let of = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let rows = [
        (of(&format!("evil.test:{port}")), 403, "host_not_allowed"),
        (of("a.test"), 403, "port_not_allowed"),
        (of(&format!("inner.test:{port}")), 403, "address_prohibited"),
        (of(&elsewhere.to_string()), 403, "host_not_allowed"),
        (of(""), 400, "bad_request"),
        (of("a.test, evil.test"), 400, "bad_request"),
        (of(&format!("evil.test@a.test:{port}")), 400, "bad_request"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), 400, "bad_request"),
        (format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\nHost: evil.test\r\n\r\n"), 400, "bad_request"),
        (format!("GET http://evil.test:{port}/ HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n"), 400, "bad_request"),
        (
            format!("GET https://a.test:{port}/ HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n"),
            403,
            "scheme_not_allowed",
        ),
        (ask(&format!("a.test:{port}")), 405, "method_not_allowed"),
        (format!("OPTIONS * HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n"), 405, "method_not_allowed"),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), 400, "bad_request"),
    ];
    for (bytes, status, reason) in rows {
        let mut wire = meaning(&proxy, elsewhere);
        wire.send(&bytes);
        let refused = proxy.refused(wire, status, reason);
        refused.record.assert_has(&json!({"protocol": "transparent", "upstream": null}));
    }
    // Absolute, and of the same host.
    let mut wire = meaning(&proxy, elsewhere);
    wire.send(format!("GET http://a.test:{port}/ HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n"));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(evil.seen().len(), 0);
}

#[test]
fn t94_the_address_that_was_asked_for_is_dialled_where_a_rule_names_it_and_no_name_is_shown() {
    let first = Origin::saying("SSH-2.0-first\r\n");
    let authority = Authority::new();
    let nameless = Origin::tls_echo(&authority.issue(&["a.test"]));
    let rules = [format!("tcp://{}", first.address()), format!("https://{}", nameless.address())];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let proxy = Egressd::start(&transparent(&rules, ""));
    // A server that speaks first, to a client that waits for it; and bytes of neither TLS nor HTTP.
    for bytes in [&b""[..], b"SSH-2.0-x\r\n", b"\0\0"] {
        let mut wire = meaning(&proxy, first.address());
        wire.send(bytes);
        assert_eq!(wire.read_exact(15), b"SSH-2.0-first\r\n");
    }
    proxy.record(|record| record["event"] == "open").assert_has(&json!({
        "target": first.address().to_string(), "original": first.address().to_string(), "upstream": first.address().to_string(),
    }));
    // A name that is shown decides, whatever may pass to the address.
    let mut wire = meaning(&proxy, first.address());
    wire.send(client_hello(Some("evil.test")));
    assert_eq!(wire.read_to_end(), (alert(ACCESS_DENIED), End::Fin));
    let mut wire = meaning(&proxy, first.address());
    wire.send("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    assert_eq!(wire.read_reply().status, 403);
    assert_eq!(first.seen().len(), 3);
    // A hello without a name, as clients send to addresses.
    let mut wire = meaning(&proxy, nameless.address());
    wire.send(client_hello(None));
    assert_eq!(wire.read_exact(1), [22], "the target's own answer");
    // What begins otherwise is not what the rule is for.
    let mut wire = meaning(&proxy, nameless.address());
    wire.send("SSH-2.0-x\r\n");
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    proxy.record(|record| record["reason"] == "not_tls").assert_has(&json!({
        "target": nameless.address().to_string(),
    }));
}

#[test]
fn t95_a_connection_that_would_come_back_is_a_loop() {
    let web = Origin::echo();
    let rules = ["https://own.test:1-65535", "tcp://127.0.0.1:1-65535", "http://own.test:1-65535"];
    let proxy = Egressd::start(&transparent(&rules, ""));
    for own in [proxy.address(), proxy.admin()] {
        let before = proxy.records().len();
        let mut wire = meaning(&proxy, own);
        wire.send(client_hello(Some("own.test")));
        assert_eq!(wire.read_to_end(), (alert(ACCESS_DENIED), End::Fin));
        let mut wire = meaning(&proxy, own);
        wire.send("SSH-2.0-x\r\n");
        assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
        let mut wire = meaning(&proxy, own);
        wire.send(format!("GET / HTTP/1.1\r\nHost: own.test:{}\r\n\r\n", own.port()));
        proxy.refused(wire, 502, "loop");
        let loops =
            || proxy.records().split_off(before).iter().filter(|record| record["reason"] == "loop").count();
        until("all three records", || (loops() == 3).then_some(()));
    }
    // Another port of the same address is none.
    let mut wire = meaning(&proxy, web.address());
    wire.send("\0ping");
    assert_eq!(wire.read_exact(5), b"\0ping");
}

#[test]
fn a_tunnel_is_judged_again_and_ends_with_its_limits_and_with_the_drain() {
    let scene = Scene::new("limits: {tunnels_per_client: 1}\nshutdown: {grace_period: 1s}\n");
    let tls = scene.echo();
    let mut wire = meaning(&scene.proxy, scene.meant());
    wire.send(client_hello(Some("a.test")));
    assert_eq!(wire.read_to_end(), (alert(ACCESS_DENIED), End::Fin));
    scene.proxy.record(|record| record["reason"] == "client_limit_reached");
    drop(tls);
    scene.proxy.record(|record| record["event"] == "close");
    // A rule that goes.
    let revoked = scene.echo();
    let file = scene.proxy.file("egressd.yaml");
    let text = read(&file);
    let port = scene.allowed.port();
    let rule = format!("      - \"https://a.test:{port}\"\n");
    write(&file, text.replace(&rule, ""));
    scene.proxy.record(|record| record["ending"] == "policy_revoked").assert_has(&json!({
        "target": format!("a.test:{port}"), "reason": "host_not_allowed", "original": scene.meant().to_string(),
    }));
    drop(revoked);
    // One with a limit.
    let limited = format!("      - {{to: \"https://a.test:{port}\", upload_limit: 4KiB}}\n");
    write(&file, text.replace(&rule, &limited));
    until("the limit to be in force", || {
        let mut tls = scene.authority.client("a.test", meaning(&scene.proxy, scene.meant()));
        let _ = tls.write_all(&[7; 16 * 1024]);
        scene.proxy.records().iter().any(|record| record["ending"] == "upload_limit").then_some(())
    });
    // The end of the program.
    write(&file, text);
    let _drained = until("the limit to be gone", || {
        let mut tls = scene.authority.client("a.test", meaning(&scene.proxy, scene.meant()));
        tls.write_all(b"ping").ok()?;
        tls.read_exact(&mut [0; 4]).ok()?;
        Some(tls)
    });
    let ended = scene.proxy.stop();
    assert_eq!(ended.code, 0);
    assert!(ended.records.iter().any(|record| record["ending"] == "drained"), "{:?}", ended.records);
    assert_eq!(scene.evil.seen().len(), 0);
}

#[test]
fn where_the_rule_inspects_each_request_is_judged() {
    let world = inspected_world::World::new();
    let site = world.site();
    let port = site.port();
    let rule = format!(
        "{{to: \"https://{}:{port}\", inspect: true, requests: [{{methods: [GET], paths: [\"/open\"]}}]}}",
        inspected_world::HOST
    );
    let text = with_listener(&config(&[&rule]), |address| format!("address: \"{address}\", {KEYS}"));
    let proxy = world.start(&(text + &inspected_world::World::rest()));
    let meant = SocketAddr::new(own_loopback().into(), port);
    let tls = inspected_world::Tls::trusting(Some(&world.inspection));
    let mut inside =
        tls.handshake(meaning(&proxy, meant), inspected_world::HOST).expect("a leaf for the name");
    inside.send(inspected_world::get(port, "/open"));
    assert_eq!(inside.read_reply().status, 200);
    proxy.record(|record| record["event"] == "request").assert_has(&json!({
        "protocol": "transparent", "status": 200, "target": format!("https://{}:{port}/open", inspected_world::HOST),
    }));
    inside.send(inspected_world::get(port, "/closed"));
    assert_eq!(inside.read_reply().status, 403);
    // A client that does not trust the authority says so in its own words.
    assert!(
        inspected_world::Tls::trusting(None)
            .handshake(meaning(&proxy, meant), inspected_world::HOST)
            .is_err()
    );
    proxy.record(|record| record["reason"] == "inspection_distrusted").assert_has(&json!({
        "protocol": "transparent", "original": meant.to_string(),
    }));
    // A target that does not prove its name: an alert, and nothing of the client's went to it.
    let other = Origin::tls_echo(&Authority::new().issue(&[inspected_world::HOST]));
    let elsewhere = Egressd::start_in(
        world.directory(),
        &(with_listener(
            &config(&[&rule.replace(&port.to_string(), &other.port().to_string())]),
            |address| format!("address: \"{address}\", {KEYS}"),
        ) + &inspected_world::World::rest()),
    );
    let mut wire = meaning(&elsewhere, SocketAddr::new(meant.ip(), other.port()));
    wire.send(client_hello(Some(inspected_world::HOST)));
    assert_eq!(wire.read_to_end(), (alert(42), End::Fin));
    elsewhere.record(|record| record["reason"] == "certificate_invalid");
}

/// One connection of the suite: its CONNECT is answered here, and what follows goes on as the client of the listener would send it, who
/// asked for the address `meant` at the port of the CONNECT.
#[expect(clippy::disallowed_methods, reason = "a client of the proxy")]
fn carry(mut client: TcpStream, proxy: SocketAddr, meant: SocketAddr) -> io::Result<()> {
    head_of(&mut client)?;
    let mut line = TcpStream::connect(proxy)?;
    line.write_all(&header(meant))?;
    client.write_all(b"HTTP/1.1 200 ok\r\n\r\n")?;
    pump(client, line)
}

/// Cases that show the gate something behind a CONNECT to the port of TLS, whose verdict does not come from what the CONNECT names.
fn shows_a_hello(case: &Case, world: &World) -> bool {
    let Some(target) = target(case, world) else { return false };
    let begins_with = |step: &Step| match step {
        Step::Send(bytes) | Step::Trickle(bytes, _) => bytes.first().copied(),
        _ => None,
    };
    let first = case.steps.get(2).and_then(begins_with);
    target.ends_with(&format!(":{}", world.tls))
        && first == Some(22)
        && match case.expect {
            Expect::Alert(_, reason) => reason != "sni_mismatch",
            Expect::Close(_) | Expect::Flows => true,
            Expect::Reply(..) | Expect::Late(..) | Expect::Answers(_) => false,
        }
}

#[test]
fn the_gate_holds_for_transparent_connections() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&with_listener(&(world.config() + UNHURRIED), |address| {
        format!("address: {address}, {KEYS}")
    }));
    let shim = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = shim.local_addr().expect("bound");
    let meant = SocketAddr::new(world.ip(Place::Evil), world.tls);
    let mut wrong = String::new();
    let mut held = 0;
    for case in cases::all().iter().filter(|case| shows_a_hello(case, &world)) {
        let (before, records, log) = (world.mark(), proxy.records().len(), proxy.log().len());
        let patience = if case.expect == Expect::Flows { Patience::Heard } else { Patience::Closed };
        let said = scope(|scope| {
            let carried = scope.spawn(|| {
                let (client, _) = shim.accept().expect("the suite connects");
                carry(client, proxy.address(), meant)
            });
            let said =
                drive(at, case, &world, patience).unwrap_or_else(|error| panic!("{}: {error}", case.what));
            let _ = carried.join().expect("no panic");
            said
        });
        let news = world.settled(&before);
        let found = |record: &Record| match case.expect {
            Expect::Alert(_, reason) | Expect::Close(reason) => record["reason"] == reason,
            _ => record["event"] == "close",
        };
        until(&case.what, || proxy.records().iter().skip(records).any(found).then_some(()));
        let as_expected = match case.expect {
            Expect::Alert(description, _) => said.tail == alert(description) && said.end == Some(End::Fin),
            Expect::Close(_) => said.tail.is_empty(),
            _ => (!said.tail.is_empty() || !said.inside.is_empty()) && !news.reached.is_empty(),
        };
        let harm = harmed(case, &world, &said, &news, &proxy.log().as_bytes()[log..]);
        if !as_expected || harm != case.unstoppable {
            let _ = writeln!(wrong, "{}: said {said:?}; reached {news:?}", case.what);
        }
        held += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(held >= 20, "only {held} cases show the gate a hello");
    assert_eq!(proxy.stop().code, 0);
}
