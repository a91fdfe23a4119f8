//! A CONNECT to an address in a policy with `addresses_by_sni`: the name in the ClientHello decides, and the address gains nothing.

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::json;

use crate::check::ask;
use crate::support::socks;
use crate::support::{Authority, Egressd, End, Origin, client_hello, config, own_loopback, until, write};

const ACCESS_DENIED: u8 = 49;
const UNRECOGNIZED_NAME: u8 = 112;

fn by_sni(rules: &[&str], more: &str) -> String {
    let text = config(rules);
    let with = text
        .replace("    private: [127.0.0.0/8]\n", "    private: [127.0.0.0/8]\n    addresses_by_sni: true\n");
    assert_ne!(with, text, "`config` looks otherwise now");
    let listener = "{name: proxy, address: 127.0.0.1:0}";
    with.replace(listener, "{name: proxy, address: 127.0.0.1:0, protocols: [http, socks5]}")
        + "dns: {hosts: {a.test: [127.0.0.1], inner.test: [10.9.9.9]}}\n"
        + more
}

fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}

/// The allowed target at 127.0.0.1, another one at the same port of another address, and egressd.
fn scene() -> (Authority, Origin, Origin, SocketAddr, Egressd) {
    let authority = Authority::new();
    let allowed = Origin::tls_echo(&authority.issue(&["a.test"]));
    let elsewhere = SocketAddr::new(own_loopback().into(), allowed.port());
    let evil = Origin::start(elsewhere, |mut stream| stream.write_all(b"evil"));
    let rules =
        [format!("https://a.test:{}", allowed.port()), format!("https://inner.test:{}", allowed.port())];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let proxy = Egressd::start(&by_sni(&rules, ""));
    (authority, allowed, evil, elsewhere, proxy)
}

#[test]
fn t93_the_name_leads_to_its_own_address_and_never_to_the_one_that_was_written() {
    let (authority, allowed, evil, elsewhere, proxy) = scene();
    for way in ["http", "socks5"] {
        let mut wire = proxy.connect();
        match way {
            "http" => {
                wire.send(ask(&elsewhere.to_string()));
                assert_eq!(wire.read_head().status, 200);
            }
            _ => assert_eq!(socks::ask(&mut wire, &elsewhere.to_string()), 0),
        }
        let mut tls = authority.client("a.test", wire);
        tls.write_all(b"ping").expect("the tunnel stands");
        let mut said = [0; 4];
        tls.read_exact(&mut said).expect("an echo");
        assert_eq!(&said, b"ping");
        drop(tls);
        proxy.record(|record| record["event"] == "close" && record["protocol"] == way).assert_has(&json!({
            "target": format!("a.test:{}", allowed.port()), "original": elsewhere.to_string(), "sni": "a.test",
            "upstream": allowed.address().to_string(), "status": 200, "decision": "allow",
        }));
    }
    // The hello comes with the request.
    let mut wire = proxy.connect();
    wire.send([ask(&elsewhere.to_string()).into_bytes(), client_hello(Some("a.test"))].concat());
    assert_eq!(wire.read_head().status, 200);
    assert_eq!(wire.read_exact(1), [22], "the target's own answer");
    assert_eq!(evil.seen().len(), 0, "nothing reached what was written");
}

#[test]
fn t93_what_the_name_does_not_allow_is_an_alert_and_reaches_nothing() {
    let (_authority, allowed, evil, elsewhere, proxy) = scene();
    let rows: [(&str, Vec<u8>, Vec<u8>, &str); 6] = [
        (
            "a name that is not listed",
            client_hello(Some("evil.test")),
            alert(ACCESS_DENIED),
            "host_not_allowed",
        ),
        ("no name", client_hello(None), alert(UNRECOGNIZED_NAME), "no_sni"),
        (
            "a name that leads inside",
            client_hello(Some("inner.test")),
            alert(ACCESS_DENIED),
            "address_prohibited",
        ),
        ("no TLS", b"SSH-2.0-x\r\n".to_vec(), Vec::new(), "not_tls"),
        ("half a hello", client_hello(Some("a.test"))[..40].to_vec(), alert(50), "client_hello_malformed"),
        (
            "a hello that is none",
            b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00".to_vec(),
            alert(50),
            "client_hello_malformed",
        ),
    ];
    for (what, bytes, said, reason) in rows {
        let mut wire = proxy.connect();
        wire.send(ask(&elsewhere.to_string()));
        let reply = wire.read_head();
        assert_eq!(reply.status, 200, "{what}");
        wire.send(&bytes);
        wire.finish();
        assert_eq!(wire.read_to_end(), (said, End::Fin), "{what}");
        proxy.record(|record| record["id"] == reply.id()).assert_has(&json!({
            "reason": reason, "status": 200, "upstream": null,
        }));
    }
    assert_eq!((allowed.seen().len(), evil.seen().len()), (0, 0));
}

#[test]
fn an_address_that_a_rule_names_is_decided_by_that_rule() {
    let origin = Origin::saying("SSH-2.0-first\r\n");
    let denied = SocketAddr::new(own_loopback().into(), 443);
    let text = by_sni(&[&format!("tcp://{}", origin.address())], "")
        .replace("    allow:", &format!("    deny: [{}/32]\n    allow:", denied.ip()));
    let proxy = Egressd::start(&text);
    // No hello is waited for.
    let mut wire = proxy.connect();
    wire.send(ask(&origin.address().to_string()));
    assert_eq!(wire.read_head().status, 200);
    assert_eq!(wire.read_exact(15), b"SSH-2.0-first\r\n");
    proxy.record(|record| record["event"] == "open").assert_has(&json!({"original": null}));
    proxy.refuses(ask(&denied.to_string()), 403, "host_denied");
    // Without the key it is refused before the 200, as ever.
    write(&proxy.file("egressd.yaml"), text.replace("    addresses_by_sni: true\n", ""));
    until("the reload", || {
        let mut wire = proxy.connect();
        wire.send(ask("192.0.2.1:443"));
        (wire.read_head().status == 403).then_some(())
    });
}

#[test]
fn a_tunnel_by_name_is_judged_again_by_its_name() {
    let (authority, allowed, _evil, elsewhere, proxy) = scene();
    let mut wire = proxy.connect();
    wire.send(ask(&elsewhere.to_string()));
    assert_eq!(wire.read_head().status, 200);
    let mut tls = authority.client("a.test", wire);
    tls.write_all(b"ping").expect("the tunnel stands");
    let file = proxy.file("egressd.yaml");
    let text = crate::support::read(&file);
    write(&file, text.replace(&format!("      - \"https://a.test:{}\"\n", allowed.port()), ""));
    proxy.record(|record| record["ending"] == "policy_revoked").assert_has(&json!({
        "target": format!("a.test:{}", allowed.port()), "reason": "host_not_allowed",
    }));
}

/// On a port where TLS is presumed, and on any other.
#[test]
fn report_mode_passes_to_the_address_what_names_nothing() {
    let mut origins = vec![Origin::echo()];
    // Below 1024: for root alone.
    if rustix::process::getuid().is_root() {
        origins.push(Origin::echo_at(SocketAddr::new(own_loopback().into(), 443)));
    }
    let text = by_sni(&["https://a.test"], "tunnel: {client_hello_timeout: 300ms}\n");
    let reporting = text.replace("    addresses_by_sni", "    mode: report\n    addresses_by_sni");
    let rows: [(Vec<u8>, &str); 5] = [
        (client_hello(None), "no_sni"),
        (b"SSH-2.0-x\r\n".to_vec(), "not_tls"),
        (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00".to_vec(), "client_hello_malformed"),
        // The other side speaks first.
        (Vec::new(), "client_hello_timeout"),
        (client_hello(Some("a.test"))[..40].to_vec(), "client_hello_timeout"),
    ];
    for origin in &origins {
        let proxy = Egressd::start(&reporting);
        let to = origin.address().to_string();
        for way in ["http", "socks5"] {
            for (bytes, reason) in &rows {
                let before = proxy.records().len();
                let mut wire = proxy.connect();
                match way {
                    "http" => {
                        wire.send(ask(&to));
                        assert_eq!(wire.read_head().status, 200, "{reason}");
                    }
                    _ => assert_eq!(socks::ask(&mut wire, &to), 0, "{reason}"),
                }
                wire.send(bytes);
                let opened = until(reason, || {
                    proxy.records().into_iter().skip(before).find(|record| record["event"] == "open")
                });
                opened.assert_has(&json!({
                    "decision": "would_deny", "reason": reason, "target": to, "upstream": to, "original": null,
                    "protocol": way, "status": 200, "mode": "report",
                }));
                wire.send("more");
                let echoed = [bytes.as_slice(), b"more"].concat();
                assert_eq!(wire.read_exact(echoed.len()), echoed, "{way}: {reason}");
            }
        }
        let metrics = proxy.metrics();
        let counted = |reason| {
            metrics.count("egressd_requests_total", &[("decision", "would_deny"), ("reason", reason)])
        };
        assert_eq!((counted("no_sni"), counted("client_hello_timeout")), (2, 4));
        // An address that nobody may reach is refused in every mode.
        let mut wire = proxy.connect();
        wire.send(ask("169.254.169.254:80"));
        assert_eq!(wire.read_head().status, 200);
        wire.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(wire.read_to_end(), (alert(ACCESS_DENIED), End::Fin));
        proxy
            .record(|record| record["reason"] == "address_prohibited")
            .assert_has(&json!({"target": "169.254.169.254:80", "upstream": null}));
        // Once it is enforced, what is open ends.
        let mut wire = proxy.connect();
        wire.send(ask(&to));
        assert_eq!(wire.read_head().status, 200);
        wire.send("ping");
        assert_eq!(wire.read_exact(4), b"ping");
        write(&proxy.file("egressd.yaml"), &text);
        proxy.record(|record| record["ending"] == "policy_revoked");
    }
}
