//! The race between deciding and registering: a request that the old policy allowed is still looking up its host while the
//! new policy comes into force and the sweep over the open tunnels runs.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::names::HeldNames;
use crate::support::{Egressd, End, Origin, Wire, client_hello, config, until};
use crate::{configure, ping, reloaded, short};

/// A request that the configuration in force allowed, and that waits for the name server.
struct Waiting {
    names: HeldNames,
    proxy: Egressd,
    request: Wire,
}

impl Waiting {
    /// A request for `slow.test` at the origin's port.
    fn by(rule: &str, origin: &Origin) -> Self {
        let names = HeldNames::start();
        let proxy = Egressd::start(&format!("{}{}", config(&[rule]), names.setting()));
        let authority = format!("slow.test:{}", origin.port());
        let mut request = proxy.connect();
        request.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        names.wait_asked();
        Waiting { names, proxy, request }
    }

    /// Puts this configuration in force, then lets the name server answer: the hash of the new configuration.
    fn overtaken_by(&self, text: &str) -> String {
        let hash =
            reloaded(&self.proxy, || configure(&self.proxy, &format!("{text}{}", self.names.setting())));
        self.names.release();
        hash
    }
}

#[test]
fn a_request_that_only_the_old_policy_allowed_is_refused_by_the_new_one() {
    let origin = Origin::echo();
    let port = origin.port();
    let rule = format!("tcp://slow.test:{port}");
    let allow = config(&[&rule]);
    let rows = [
        (config(&["https://other.test"]), "host_not_allowed", json!(null)),
        (config(&[&format!("tcp://slow.test:{}", port ^ 1)]), "port_not_allowed", json!(null)),
        (
            allow.replace("    private:", "    deny: [slow.test]\n    private:"),
            "host_denied",
            json!("slow.test"),
        ),
        (
            allow.replace("    private:", "    clients: {networks: [10.0.0.0/8]}\n    private:"),
            "client_not_allowed",
            json!(null),
        ),
        (allow.replace("127.0.0.0/8", "10.0.0.0/8"), "address_prohibited", json!(rule)),
    ];
    for (text, reason, decided_by) in rows {
        let waiting = Waiting::by(&rule, &origin);
        let hash = waiting.overtaken_by(&text);
        let Waiting { proxy, request, .. } = waiting;
        let refused = proxy.refused(request, 403, reason);
        refused.record.assert_has(&json!({"config": short(&hash), "rule": decided_by, "decision": "deny"}));
        let metrics = proxy.metrics();
        assert_eq!(metrics.count("egressd_tunnels_active", &[]), 0);
        let addresses = u64::from(reason == "address_prohibited");
        assert_eq!(metrics.count("egressd_addresses_refused_total", &[]), addresses, "{reason}");
    }
    assert!(origin.seen().iter().all(|seen| seen.bytes.is_empty()));
}

#[test]
fn a_request_that_both_policies_allow_belongs_to_the_new_one() {
    let origin = Origin::echo();
    let rule = |name: &str, limit: &str| {
        format!("{{to: \"tcp://slow.test:{}\", name: {name}, upload_limit: {limit}}}", origin.port())
    };
    let waiting = Waiting::by(&rule("old", "1MiB"), &origin);
    let hash = waiting.overtaken_by(&config(&[&rule("new", "4B")]));
    let Waiting { proxy, mut request, .. } = waiting;
    assert_eq!(request.read_head().status, 200);
    request.send("ping and more than the new rule allows");
    let _ = request.read_to_end();
    proxy.record(|record| record["ending"] == "upload_limit").assert_has(&json!({"sent": 4}));
    proxy
        .record(|record| record["event"] == "open")
        .assert_has(&json!({"config": short(&hash), "decision": "allow"}));
    let verdicts = proxy.metrics();
    assert_eq!(verdicts.count("egressd_requests_total", &[("rule", "new"), ("decision", "allow")]), 1);
    assert_eq!(verdicts.count("egressd_requests_total", &[]), 1);
}

#[test]
fn a_tunnel_that_was_opaque_in_the_old_policy_is_inspected_by_the_new_one() {
    let origin = Origin::echo();
    let waiting = Waiting::by(&format!("tcp://slow.test:{}", origin.port()), &origin);
    let hash = waiting.overtaken_by(&config(&[&format!("https://slow.test:{}", origin.port())]));
    let Waiting { proxy, mut request, .. } = waiting;
    assert_eq!(request.read_head().status, 200);
    request.send("SSH-2.0-x\r\n");
    assert!(request.read_to_end().0.is_empty());
    proxy
        .record(|record| record["event"] == "deny")
        .assert_has(&json!({"reason": "not_tls", "status": 200, "config": short(&hash)}));
    assert!(origin.wait_ended(0).bytes.is_empty());
}

#[test]
fn a_tunnel_that_was_opaque_in_the_old_policy_carries_plain_requests_in_the_new_one() {
    let origin = Origin::echo();
    let waiting = Waiting::by(&format!("tcp://slow.test:{}", origin.port()), &origin);
    let hash = waiting.overtaken_by(&config(&[&format!("http://slow.test:{}", origin.port())]));
    let Waiting { proxy, mut request, .. } = waiting;
    assert_eq!(request.read_head().status, 200);
    request.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    let refused = proxy.refused(request, 421, "host_mismatch");
    refused.record.assert_has(&json!({"config": short(&hash)}));
    // The connection was for a tunnel's bytes; another one was made.
    until("both connections", || (origin.seen().len() == 2).then_some(()));
    assert!(origin.seen().iter().all(|seen| seen.bytes.is_empty()));
}

#[test]
fn a_tunnel_of_plain_requests_in_the_old_policy_is_opaque_in_the_new_one() {
    let origin = Origin::echo();
    let waiting = Waiting::by(&format!("http://slow.test:{}", origin.port()), &origin);
    waiting.overtaken_by(&config(&[&format!("tcp://slow.test:{}", origin.port())]));
    let Waiting { mut request, .. } = waiting;
    assert_eq!(request.read_head().status, 200);
    ping(&mut request);
}

/// The client takes its time with its hello, which says what is asked for: by then another configuration is in force.
#[test]
fn a_name_that_was_denied_while_its_hello_came_is_neither_looked_up_nor_dialled() {
    let origin = Origin::echo();
    let listed = format!("https://slow.test:{}", origin.port());
    let at = format!("127.0.0.9:{}", origin.port());
    let by_name = config(&[&listed]).replace("    private:", "    addresses_by_sni: true\n    private:");
    assert!(by_name.contains("addresses_by_sni"), "`config` looks otherwise now");
    let deny = |host: &str| by_name.replace("    private:", &format!("    deny: [\"{host}\"]\n    private:"));
    let rows = [
        // The name is denied, is no longer listed, or no longer decides.
        (deny("slow.test"), "host_denied", json!(format!("slow.test:{}", origin.port()))),
        (
            by_name.replace(&listed, "other.test"),
            "host_not_allowed",
            json!(format!("slow.test:{}", origin.port())),
        ),
        (by_name.replace("addresses_by_sni: true", "addresses_by_sni: false"), "host_not_allowed", json!(at)),
        (deny("127.0.0.9"), "host_denied", json!(at)),
    ];
    for (text, reason, target) in rows {
        let names = HeldNames::start();
        let with = |text: &str| format!("{text}{}", names.setting());
        let proxy = Egressd::start(&with(&by_name));
        let mut request = proxy.connect();
        request.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
        assert_eq!(request.read_head().status, 200, "{reason}");
        let hello = client_hello(Some("slow.test"));
        let (half, rest) = hello.split_at(hello.len() / 2);
        request.send(half);
        let hash = reloaded(&proxy, || configure(&proxy, &with(&text)));
        request.send(rest);
        assert_eq!(request.read_to_end(), (vec![21, 3, 3, 0, 2, 2, 49], End::Fin), "{reason}");
        proxy.record(|record| record["event"] == "deny").assert_has(
            &json!({"reason": reason, "target": target, "config": short(&hash), "upstream": null}),
        );
        assert_eq!(names.asked(), 0, "{reason}: the name was looked up");
        assert!(origin.seen().is_empty(), "{reason}");
    }
}

#[test]
fn a_request_allowed_before_its_rule_expired_is_refused_after() {
    let origin = Origin::echo();
    let moment = Timestamp::now() + SignedDuration::from_secs(2);
    let to = format!("tcp://slow.test:{}", origin.port());
    // If the machine is so slow that the rule expires first, the request is refused at once, and no question comes.
    let names = HeldNames::start();
    let rule = format!("{{to: \"{to}\", expires: {moment:.0}}}");
    let proxy = Egressd::start(&format!("{}{}", config(&[&rule]), names.setting()));
    let authority = format!("slow.test:{}", origin.port());
    let mut request = proxy.connect();
    request.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    until("the rule to expire", || (Timestamp::now() > moment).then_some(()));
    names.release();
    let refused = proxy.refused(request, 403, "rule_expired");
    refused.record.assert_has(&json!({"rule": to, "decision": "deny"}));
    assert!(origin.seen().iter().all(|seen| seen.bytes.is_empty()));
}
