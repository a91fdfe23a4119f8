//! What report mode lets pass is sent without what egressd keeps; and interim answers are changed as final ones are.

use serde_json::json;

use crate::support::{Egressd, Record, write};
use crate::world::{HOST, Site, World, get};

/// An egressd whose one policy is in report mode, with more keys for it, and a rule that inspects `site` with `options`.
fn reporting(world: &World, site: &Site, policy: &str, options: &str) -> Egressd {
    let directory = world.directory();
    write(&directory.path().join("token"), "Bearer kept-here\n");
    write(&directory.path().join("push.cred"), "Aladdin:open sesame\n");
    let keys = format!("  - name: test\n    mode: report\n{policy}");
    Egressd::start_in(directory, &World::config(site.port(), options).replace("  - name: test\n", &keys))
}

/// The record of the request for `path`.
fn told(proxy: &Egressd, site: &Site, path: &str) -> Record {
    let target = format!("https://{HOST}:{}{path}", site.port());
    proxy.record(|record| record["event"] == "request" && record["target"] == target.as_str())
}

const LENDING: &str = ", headers: {set: {X-Tenant: ours}, set_files: {X-Token: token}, remove: [X-Gone]}";

#[test]
fn report_mode_sends_no_secret_with_what_it_only_lets_pass() {
    let world = World::new();
    let entry = format!(", requests: [{{methods: [GET], paths: [/a]}}]{LENDING}");
    let expired = format!(", expires: 2020-01-01{LENDING}");
    let rows = [
        ("", entry.as_str(), "request_not_allowed"),
        ("    deny: [a.test]\n", LENDING, "host_denied"),
        ("", expired.as_str(), "rule_expired"),
    ];
    for (policy, options, reason) in rows {
        let site = world.site();
        let proxy = reporting(&world, &site, policy, options);
        let mut wire = world.inside(&proxy, site.port());
        let fields = "X-Token: theirs\r\nx_token: theirs\r\nX-Tenant: theirs\r\nX-Gone: 1\r\n\r\n";
        wire.send(get(site.port(), "/no").replace("\r\n\r\n", &format!("\r\n{fields}")));
        assert_eq!(wire.read_reply().status, 200, "{reason}");
        let got = site.got().pop().expect("one");
        assert_eq!((got.field("x-token"), got.field("x_token")), (None, None), "{reason}: {}", got.head);
        assert_eq!((got.field("x-tenant"), got.field("x-gone")), (Some("ours"), None), "{reason}");
        told(&proxy, &site, "/no").assert_has(&json!({"decision": "would_deny", "reason": reason}));
        // What the rule allows gets it.
        if reason == "request_not_allowed" {
            wire.send(get(site.port(), "/a"));
            assert_eq!(wire.read_reply().status, 200);
            assert_eq!(site.got().pop().expect("one").field("x-token"), Some("Bearer kept-here"));
        }
    }
}

#[test]
fn an_interim_answer_is_changed_as_a_final_one_is() {
    let world = World::new();
    let site = Site::start(world.targets.issue(&[HOST]).server_config(), |_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nAlt-Svc: h3=\":443\"\r\nSet-Cookie: a=b\r\nWWW-Authenticate: Basic\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let directory = world.directory();
    write(&directory.path().join("push.cred"), "Aladdin:open sesame\n");
    let options = ", requests: [{methods: [GET], credentials_file: push.cred}]";
    let proxy = Egressd::start_in(directory, &World::config(site.port(), options));
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/"));
    let interim = wire.read_head();
    assert_eq!((interim.status, interim.header("link")), (103, Some("</a>")));
    for gone in ["alt-svc", "set-cookie", "www-authenticate"] {
        assert_eq!(interim.header(gone), None, "{gone}");
    }
    assert_eq!(wire.read_reply().status, 200);
}

#[test]
fn report_mode_records_what_enforce_mode_would_not_send_and_goes_on_changing_it() {
    let world = World::new();
    let site = world.site();
    let entries = "requests: [{methods: [POST], credentials_file: push.cred}, {methods: [GET]}]";
    let options = format!(", {entries}, headers: {{set: {{X-Tenant: ours}}, set_files: {{X-Token: token}}}}");
    let proxy = reporting(&world, &site, "", &options);
    let lfs = "/r.git/info/lfs/objects/batch";
    let bare = "Authorization: AWS4-x\r\nX-Forwarded-For: 10.0.0.1\r\nX-Tenant: theirs\r\n\r\n";
    let listed = "Authorization: AWS4-HMAC-SHA256 SignedHeaders=host;x-forwarded-for;x-tenant\r\n\
                  X-Forwarded-For: 10.0.0.1\r\nX-Tenant: theirs\r\n\r\n";
    let rows = [
        ("POST", lfs, "Content-Length: 0\r\n\r\n", "ours"),
        ("GET", "/body", "Content-Length: 1\r\n\r\na", "ours"),
        ("GET", "/bare", bare, "ours"),
        ("GET", "/listed", listed, "theirs"),
    ];
    for (method, path, rest, tenant) in rows {
        let mut wire = world.inside(&proxy, site.port());
        wire.send(format!("{method} {path} HTTP/1.1\r\nHost: {HOST}:{}\r\n{rest}", site.port()));
        assert_eq!(wire.read_reply().status, 200, "{path}");
        let got = site.got().pop().expect("one");
        assert!(!got.head.contains("Basic") && !got.head.contains("kept-here"), "{}", got.head);
        assert_eq!((got.field("x-tenant"), got.field("x-forwarded-for")), (Some(tenant), None), "{path}");
        told(&proxy, &site, path)
            .assert_has(&json!({"decision": "would_deny", "reason": "request_not_allowed"}));
    }
}
