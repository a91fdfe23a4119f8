//! A reload of the rules: tunnels keep the options that they were opened with, save what is said about requests.

use std::io::Write;

use serde_json::json;

use crate::support::{Egressd, config, until, write};
use crate::world::{HOST, Site, World, get};

/// Puts another configuration into force, and waits until it is.
pub(crate) fn reload(proxy: &Egressd, text: &str) {
    let in_force = || proxy.metrics().label_values("egressd_config_info", "sha256").concat();
    let before = in_force();
    write(&proxy.file("egressd.yaml"), text);
    until("another configuration to be in force", || (in_force() != before).then_some(()));
}

#[test]
fn an_opaque_tunnel_ends_where_its_rule_inspects_now() {
    let world = World::new();
    let site = world.site();
    let opaque = config(&[&format!("https://{HOST}:{}", site.port())]) + &World::rest();
    let inspects = World::config(site.port(), "");
    for mode in ["enforce", "report"] {
        let of_mode =
            |text: &str| text.replace("  - name: test\n", &format!("  - name: test\n    mode: {mode}\n"));
        let proxy = world.start(&of_mode(&opaque));
        let tunnel = proxy.tunnel(&format!("{HOST}:{}", site.port()));
        let mut stream = world.targets.client(HOST, tunnel);
        stream.write_all(get(site.port(), "/").as_bytes()).expect("it flows");
        stream.flush().expect("it flows");
        until("the request to arrive", || (!site.got().is_empty()).then_some(()));
        reload(&proxy, &of_mode(&inspects));
        let close = proxy.record(|record| record["event"] == "close");
        close.assert_has(&json!({"ending": "policy_revoked", "reason": "request_not_allowed"}));
    }
}

#[test]
fn an_inspected_tunnel_stays_inspected_and_its_requests_are_judged_by_what_is_in_force() {
    let world = World::new();
    let site = world.site();
    let with = |options: &str| World::config(site.port(), options);
    let proxy = world.start(&with(", requests: [{paths: [/a]}]"));
    let mut wire = world.inside(&proxy, site.port());
    let mut other = world.inside(&proxy, site.port());
    let asks = |wire: &mut crate::support::Wire<crate::support::TlsStream>, path: &str| {
        wire.send(get(site.port(), path));
        wire.read_reply().status
    };
    assert_eq!((asks(&mut wire, "/a"), asks(&mut other, "/a")), (200, 200));
    reload(&proxy, &with(", requests: [{paths: [/b]}]"));
    assert_eq!(asks(&mut wire, "/b"), 200);
    other.send(get(site.port(), "/a"));
    proxy.refused(other, 403, "request_not_allowed");
    // No rule inspects any more: the tunnel goes on as it is, and nothing is said about its requests.
    let opaque = config(&[&format!("https://{HOST}:{}", site.port())]) + &World::rest();
    reload(&proxy, &opaque);
    assert_eq!(asks(&mut wire, "/c"), 200);
    assert_eq!(site.got().pop().map(|got| got.head.starts_with("GET /c ")), Some(true));
    // A tunnel for plain requests is another kind.
    let plain = config(&[&format!("http://{HOST}:{}", site.port())]) + &World::rest();
    reload(&proxy, &plain);
    proxy
        .record(|record| record["event"] == "close" && record["reason"] == "scheme_not_allowed")
        .assert_has(&json!({"ending": "policy_revoked"}));
}

#[test]
fn a_request_under_way_ends_where_its_entry_is_gone() {
    let world = World::new();
    let site = Site::serving(world.targets.issue(&[HOST]).server_config(), |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")?;
        stream.flush()?;
        Ok(true)
    });
    let with = |options: &str| World::config(site.port(), options);
    let proxy = world.start(&with(", requests: [{methods: [GET]}]"));
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/"));
    assert_eq!(wire.read_head().status, 200);
    assert_eq!(wire.read_exact(4), b"half");
    reload(&proxy, &with(", requests: [{methods: [POST]}]"));
    let ended = |event: &'static str| proxy.record(move |record| record["event"] == event);
    ended("request").assert_has(&json!({"ending": "policy_revoked", "reason": "request_not_allowed"}));
    ended("close");
}

#[test]
fn a_file_of_credentials_that_is_edited_is_read_again() {
    let world = World::new();
    let site = world.site();
    let directory = world.directory();
    let file = directory.path().join("push.cred");
    write(&file, "user:first\n");
    let text = World::config(site.port(), ", requests: [{credentials_file: push.cred}]");
    let proxy = Egressd::start_in(directory, &text);
    let mut wire = world.inside(&proxy, site.port());
    let mut sent = || {
        wire.send(get(site.port(), "/"));
        assert_eq!(wire.read_reply().status, 200);
        site.got().pop().and_then(|got| got.field("authorization").map(str::to_owned)).expect("it is sent")
    };
    assert_eq!(sent(), "Basic dXNlcjpmaXJzdA==");
    write(&file, "user:second\n");
    until("the reload", || (sent() == "Basic dXNlcjpzZWNvbmQ=").then_some(()));
}
