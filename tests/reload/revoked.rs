//! Open tunnels are judged again: those that are no longer allowed end, the others are not affected.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{Authority, Egressd, End, Origin, Record, Wire, client_hello, config, until, write};
use crate::{configure, is_allowed, ping, reloaded, rule, short, tunnels_to};

/// Waits for the tunnel's last record.
fn close_of(proxy: &Egressd, upstream: &Origin) -> Record {
    proxy.record(|record| record["event"] == "close" && record["upstream"] == upstream.address().to_string())
}

/// Asserts that the other side has ended the tunnel, in any way.
fn assert_ended(tunnel: &mut Wire) {
    let (bytes, _) = tunnel.read_to_end();
    assert!(bytes.is_empty(), "{bytes:?}");
}

/// A line in a deny file ends the tunnels that it names, and a line taken out of a file of networks those of its clients.
#[test]
fn an_edit_of_a_deny_file_or_a_file_of_networks_ends_what_it_no_longer_allows() {
    let (kept, gone) = (Origin::echo(), Origin::echo());
    let directory = crate::support::directory();
    let (blocked, offices) = (directory.path().join("blocked"), directory.path().join("offices"));
    write(&blocked, "# none\n");
    write(&offices, "127.0.0.1 # here\n");
    let text = tunnels_to(&[&kept, &gone]).replace(
        "    allow:",
        "    clients: {networks_files: [offices]}\n    deny_files: [blocked]\n    allow:",
    );
    let proxy = Egressd::start_in(directory, &text);
    let (mut stays, mut ends) =
        (proxy.tunnel(&kept.address().to_string()), proxy.tunnel(&gone.address().to_string()));
    reloaded(&proxy, || write(&blocked, format!("# none\n{}\n", rule(&gone))));
    assert_ended(&mut ends);
    close_of(&proxy, &gone).assert_has(&json!({"ending": "policy_revoked", "reason": "host_denied"}));
    ping(&mut stays);
    assert!(is_allowed(&proxy, &kept) && !is_allowed(&proxy, &gone));
    let denied = proxy.record(|record| record["event"] == "deny");
    let source = denied["rule_source"].as_str().expect("a text");
    assert!(source.ends_with("blocked:2"), "{source}");

    reloaded(&proxy, || write(&offices, "192.0.2.0/24\n"));
    assert_ended(&mut stays);
    let revoked = |record: &Record| record["event"] == "close" && record["ending"] == "policy_revoked";
    let upstream = kept.address().to_string();
    let close = proxy.record(|record| revoked(record) && record["upstream"] == upstream);
    close.assert_has(&json!({"reason": "client_not_allowed"}));
    assert!(!is_allowed(&proxy, &kept));
    reloaded(&proxy, || write(&offices, "192.0.2.0/24\n127.0.0.0/8\n"));
    assert!(is_allowed(&proxy, &kept) && !is_allowed(&proxy, &gone));
}

#[test]
fn a_tunnel_no_longer_allowed_ends_and_the_others_move_bytes_all_the_while() {
    let (kept, gone) = (Origin::echo(), Origin::echo());
    let proxy = Egressd::start(&tunnels_to(&[&kept, &gone]));
    let mut revoked = proxy.tunnel(&gone.address().to_string());
    ping(&mut revoked);
    let mut others: Vec<Wire> = (0..8).map(|_| proxy.tunnel(&kept.address().to_string())).collect();
    let done = AtomicBool::new(false);
    let pings: u64 = thread::scope(|scope| {
        let moving: Vec<_> = others
            .iter_mut()
            .map(|tunnel| {
                scope.spawn(|| {
                    let mut pings = 0;
                    while !done.load(Ordering::SeqCst) {
                        ping(tunnel);
                        pings += 1;
                    }
                    pings
                })
            })
            .collect();
        reloaded(&proxy, || configure(&proxy, &tunnels_to(&[&kept])));
        assert_ended(&mut revoked);
        done.store(true, Ordering::SeqCst);
        moving.into_iter().map(|moving| moving.join().expect("it moves")).sum()
    });
    let close = close_of(&proxy, &gone);
    close.assert_has(&json!({
        "ending": "policy_revoked", "reason": "port_not_allowed", "decision": "allow", "rule": rule(&gone),
        "sent": 4, "received": 4,
    }));
    gone.wait_ended(0);
    let metrics = proxy.metrics();
    assert_eq!(metrics.count("egressd_tunnels_total", &[("ending", "policy_revoked")]), 1);
    assert_eq!(metrics.count("egressd_tunnels_active", &[]), 8);
    // None of the others was affected: their clients end them, with all their bytes.
    for tunnel in &mut others {
        ping(tunnel);
        tunnel.finish();
        assert_eq!(tunnel.read_to_end(), (Vec::new(), End::Fin));
    }
    let records = proxy.stop().records;
    let closed: Vec<&Record> =
        records.iter().filter(|r| r["event"] == "close" && r["rule"] == rule(&kept)).collect();
    assert_eq!(closed.len(), 8);
    assert!(closed.iter().all(|r| r["ending"] == "client_closed" && r["reason"] == json!(null)));
    assert_eq!(closed.iter().map(|r| r.number("received")).sum::<u64>(), 4 * (pings + 8));
}

#[test]
fn a_tunnel_to_an_address_no_longer_allowed_ends() {
    let origin = Origin::echo();
    let allow = format!("tcp://git.test:{}", origin.port());
    let base = format!("{}dns: {{hosts: {{git.test: [127.0.0.1]}}}}\n", config(&[&allow]));
    let private = "    private: [127.0.0.0/8]\n";
    for changed in [
        base.replace(private, "    private: [127.0.0.2/32]\n"),
        base.replace(private, &format!("{private}    deny: [127.0.0.0/30]\n")),
    ] {
        assert_ne!(changed, base);
        let proxy = Egressd::start(&base);
        let mut tunnel = proxy.tunnel(&format!("git.test:{}", origin.port()));
        ping(&mut tunnel);
        reloaded(&proxy, || configure(&proxy, &changed));
        assert_ended(&mut tunnel);
        close_of(&proxy, &origin)
            .assert_has(&json!({"ending": "policy_revoked", "reason": "address_prohibited", "rule": allow}));
    }
}

#[test]
fn a_rule_expires_at_its_moment_without_a_reload() {
    let (forever, until_then) = (Origin::echo(), Origin::echo());
    let proxy = Egressd::start(&tunnels_to(&[&forever, &until_then]));
    let mut kept = proxy.tunnel(&forever.address().to_string());
    let mut tunnel = proxy.tunnel(&until_then.address().to_string());
    ping(&mut tunnel);
    let moment = Timestamp::now() + SignedDuration::from_secs(2);
    let expiring = format!("{{to: \"{}\", expires: {moment:.0}}}", rule(&until_then));
    let hash = reloaded(&proxy, || configure(&proxy, &config(&[&rule(&forever), &expiring])));
    let expires =
        proxy.metrics().sum("egressd_rule_expires_timestamp_seconds", &[("rule", &rule(&until_then))]);
    assert!((expires - moment.as_second() as f64).abs() < 1.5, "{expires} is not {moment}");

    assert_ended(&mut tunnel);
    close_of(&proxy, &until_then).assert_has(&json!({"ending": "policy_revoked", "reason": "rule_expired"}));
    let authority = until_then.address();
    let denied = proxy.refuses(
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
        403,
        "rule_expired",
    );
    denied.record.assert_has(&json!({"rule": rule(&until_then), "config": short(&hash)}));
    ping(&mut kept);
    assert_eq!(crate::in_force(&proxy), hash);
}

#[test]
fn an_opaque_tunnel_ends_when_its_host_must_speak_tls() {
    let origin = Origin::echo();
    let port = origin.port();
    let proxy = Egressd::start(&config(&[&format!("tcp://127.0.0.1:{port}")]));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    ping(&mut tunnel);
    reloaded(&proxy, || configure(&proxy, &config(&[&format!("https://127.0.0.1:{port}")])));
    assert_ended(&mut tunnel);
    close_of(&proxy, &origin).assert_has(&json!({"ending": "policy_revoked", "reason": "not_tls"}));
}

#[test]
fn what_only_report_mode_let_pass_ends_with_it_and_what_was_allowed_stays() {
    let authority = Authority::new();
    let (tls, echo) = (Origin::tls_echo(&authority.issue(&["right.test", "wrong.test"])), Origin::echo());
    let rules = [format!("https://right.test:{}", tls.port()), format!("https://right.test:{}", echo.port())];
    let enforcing = format!(
        "{}dns: {{hosts: {{right.test: [127.0.0.1]}}}}\n",
        config(&rules.each_ref().map(String::as_str))
    );
    let reporting = enforcing.replace("    private:", "    mode: report\n    private:");
    let proxy = Egressd::start(&reporting);
    let mut right = authority.client("right.test", proxy.tunnel(&format!("right.test:{}", tls.port())));
    let mut exchange = || {
        right.write_all(b"ping").expect("sent");
        let mut back = [0; 4];
        right.read_exact(&mut back).expect("echoed");
        assert_eq!(&back, b"ping");
    };
    exchange();
    // Another name than the requested one, and no TLS at all: both pass in report mode.
    let hello = client_hello(Some("wrong.test"));
    let mut mismatch = proxy.tunnel(&format!("right.test:{}", echo.port()));
    mismatch.send(&hello);
    assert_eq!(mismatch.read_exact(hello.len()), hello);
    let mut clear = proxy.tunnel(&format!("right.test:{}", echo.port()));
    clear.send("SSH-2.0-x\r\n");
    assert_eq!(clear.read_exact(11), b"SSH-2.0-x\r\n");

    reloaded(&proxy, || configure(&proxy, &enforcing));
    assert_ended(&mut mismatch);
    assert_ended(&mut clear);
    for reason in ["sni_mismatch", "not_tls"] {
        let close = proxy.record(|record| record["event"] == "close" && record["reason"] == reason);
        close.assert_has(&json!({"ending": "policy_revoked", "decision": "would_deny", "mode": "report"}));
    }
    exchange();
    assert_eq!(proxy.metrics().count("egressd_tunnels_active", &[]), 1);
}

#[test]
fn a_tunnel_revoked_before_its_hello_is_a_refusal_by_the_new_policy() {
    let origin = Origin::echo();
    let port = origin.port();
    let allow = format!("https://127.0.0.1:{port}");
    let proxy = Egressd::start(&config(&[&allow]));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    let denying = config(&[&allow]).replace("    private:", "    deny: [127.0.0.1]\n    private:");
    let hash = reloaded(&proxy, || configure(&proxy, &denying));
    assert_eq!(tunnel.read_to_end(), (vec![21, 3, 3, 0, 2, 2, 49], End::Fin), "access_denied");
    proxy.record(|record| record["event"] == "deny").assert_has(&json!({
        "status": 200, "reason": "host_denied", "decision": "deny", "rule": "127.0.0.1", "config": short(&hash),
    }));
    let verdicts = [("rule", "127.0.0.1"), ("decision", "deny"), ("reason", "host_denied")];
    until("the one verdict", || {
        (proxy.metrics().count("egressd_requests_total", &verdicts) == 1).then_some(())
    });
    assert_eq!(proxy.metrics().count("egressd_requests_total", &[]), 1);
}

#[test]
fn a_tunnel_revoked_while_its_target_has_not_answered_the_hello_is_closed_for_that_reason() {
    let origin = Origin::silent();
    let port = origin.port();
    let proxy = Egressd::start(&config(&[&format!("https://127.0.0.1:{port}")]));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send(client_hello(None));
    proxy.record(|record| record["event"] == "open");
    reloaded(&proxy, || configure(&proxy, &config(&[&format!("https://127.0.0.1:{}", port ^ 1)])));
    assert_ended(&mut tunnel);
    close_of(&proxy, &origin).assert_has(
        &json!({"ending": "policy_revoked", "reason": "port_not_allowed", "decision": "allow", "received": 0}),
    );
}

/// A client that sends a hello with this name to `right.test` at the origin's port.
fn hello_of(name: &str, proxy: &Egressd, origin: &Origin) -> Wire {
    let mut tunnel = proxy.tunnel(&format!("right.test:{}", origin.port()));
    tunnel.send(client_hello(Some(name)));
    tunnel
}

#[test]
fn the_name_of_a_hello_is_listed_whether_allowed_or_let_pass_by_report_mode() {
    let origin = Origin::silent();
    let rule = format!("https://right.test:{}", origin.port());
    let text = format!("{}dns: {{hosts: {{right.test: [127.0.0.1]}}}}\n", config(&[&rule]));
    for (text, name) in [
        (text.clone(), "right.test"),
        (text.replace("    private:", "    mode: report\n    private:"), "wrong.test"),
    ] {
        let proxy = Egressd::start(&text);
        let _tunnel = hello_of(name, &proxy, &origin);
        until("the name to be listed", || {
            let listed: serde_json::Value = serde_json::from_str(&proxy.get("/api/tunnels").body).ok()?;
            (listed["tunnels"][0]["sni"] == name).then_some(())
        });
    }
}

#[test]
fn report_mode_reports_the_verdict_of_the_rules_before_that_of_the_hello() {
    let origin = Origin::silent();
    let rule = format!("https://right.test:{}", origin.port());
    let text = format!("{}dns: {{hosts: {{right.test: [127.0.0.1]}}}}\n", config(&[&rule]))
        .replace("    private:", "    mode: report\n    deny: [right.test]\n    private:");
    let proxy = Egressd::start(&text);
    let mut tunnel = hello_of("wrong.test", &proxy, &origin);
    tunnel.finish();
    close_of(&proxy, &origin)
        .assert_has(&json!({"decision": "would_deny", "reason": "host_denied", "sni": "wrong.test"}));
}
