//! Policies for those who come by one listener: `clients.listeners`.

use serde_json::json;

use crate::connect_to;
use crate::support::{Egressd, End, Origin, Wire, run, until, write};

/// Two listeners, and a third that no policy is for.
fn two(policies: &str) -> String {
    let listener = |name: &str| format!("  - {{name: {name}, address: 127.0.0.1:0}}\n");
    let listeners: String = ["builds", "people", "closed"].map(listener).concat();
    format!("listeners:\n{listeners}admin: {{address: 127.0.0.1:0}}\npolicies:\n{policies}")
}

fn policy(name: &str, clients: &str, to: &str) -> String {
    format!("  - {{name: {name}, clients: {{{clients}}}, private: [127.0.0.0/8], allow: [\"tcp://{to}\"]}}\n")
}

#[test]
fn the_same_client_is_judged_by_the_listener_that_it_comes_by() {
    let (one, other) = (Origin::echo(), Origin::echo());
    let policies = [
        policy("builds", "listeners: [builds]", &one.address().to_string()),
        policy("people", "listeners: [people], networks: [127.0.0.0/8]", &other.address().to_string()),
    ];
    let proxy = Egressd::start(&two(&policies.concat()));
    let rows = [
        ("builds", &one, Some("builds"), 200),
        ("builds", &other, Some("builds"), 403),
        ("people", &one, Some("people"), 403),
        ("people", &other, Some("people"), 200),
        ("closed", &one, None, 403),
        ("closed", &other, None, 403),
    ];
    for (listener, to, policy, status) in rows {
        let mut wire = Wire::connect(proxy.listener(listener));
        wire.send(connect_to(&to.address().to_string()));
        let reply = wire.read_head();
        assert_eq!(reply.status, status, "{listener} to {}", to.address());
        let reason = match (policy, status) {
            (_, 200) => json!(null),
            (Some(_), _) => json!("port_not_allowed"),
            (None, _) => json!("client_not_allowed"),
        };
        proxy.record(|record| record["id"] == reply.id()).assert_has(&json!({
            "listener": listener, "policy": policy, "reason": reason,
        }));
        let accepted = [("listener", listener), ("result", "accepted")];
        until("the connection to be counted by its listener", || {
            (proxy.metrics().count("egressd_connections_total", &accepted) > 0).then_some(())
        });
    }
}

#[test]
fn tunnels_of_a_listener_that_a_policy_no_longer_names_end() {
    let origin = Origin::echo();
    let to = origin.address().to_string();
    let proxy = Egressd::start(&two(&policy("both", "listeners: [builds, people]", &to)));
    let mut tunnels = ["builds", "people"].map(|listener| {
        let mut wire = Wire::connect(proxy.listener(listener));
        wire.send(connect_to(&to));
        assert_eq!(wire.read_head().status, 200);
        wire.send("x");
        assert_eq!(wire.read_exact(1), b"x");
        wire
    });
    write(&proxy.file("egressd.yaml"), two(&policy("both", "listeners: [people]", &to)));
    let closed = proxy.record(|record| record["event"] == "close");
    closed.assert_has(&json!({"listener": "builds", "ending": "policy_revoked"}));
    let [builds, people] = &mut tunnels;
    assert!(matches!(builds.read_to_end(), (bytes, End::Fin | End::Reset) if bytes.is_empty()));
    people.send("y");
    assert_eq!(people.read_exact(1), b"y", "the other one never notices");
}

#[test]
fn a_policy_that_names_a_listener_that_is_not_there_is_refused() {
    let directory = crate::support::directory();
    let check = |clients: &str| {
        let file = directory.path().join("egressd.yaml");
        write(&file, two(&policy("p", clients, "127.0.0.1:22")));
        let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).expect("text"))
    };
    let (code, told) = check("listeners: [build]");
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("error: no listener is called `build`: did you mean `builds`?"), "{told}");
    let (code, told) = check("listeners: [builds, internet]");
    assert_eq!(code, Some(78), "{told}");
    let want = "no listener is called `internet`: write one of `builds`, `people`, `closed`";
    assert!(told.contains(want), "{told}");
}

#[test]
fn explain_and_test_know_what_a_client_speaks() {
    let directory = crate::support::directory();
    let file = directory.path().join("egressd.yaml");
    let listeners = "listeners: [{name: a, address: \"127.0.0.1:1\"}, {name: b, address: \"127.0.0.1:2\", protocols: [socks5]}]\n";
    let policy = "policies: [{name: p, allow: [{to: \"http://a.example\", requests: [{paths: [/x]}]}, \"tcp://b.example:80\"]}]\n";
    write(&file, format!("{listeners}{policy}"));
    let config = file.to_str().expect("ASCII").to_owned();
    let explain = |words: &[&str]| {
        let output = run(&[&["explain", "--config", &config], words].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    };
    let (code, told) = explain(&["http://b.example/"]);
    assert_eq!(code, Some(1), "a plain request is no tunnel: {told}");
    let (code, told) = explain(&["http://b.example/", "--protocol", "socks5"]);
    assert!(
        code == Some(0) && told.contains("allowed: b.example:80") && told.contains("opaque tunnel"),
        "{told}"
    );
    let (code, told) = explain(&["http://a.example/y", "--protocol", "socks5"]);
    assert!(code == Some(1) && told.contains("request_not_allowed"), "inside the tunnel: {told}");
    let (code, told) = explain(&["b.example", "--protocol", "socks5", "--listener", "a"]);
    assert!(code == Some(2) && told.contains("the listener `a` does not speak socks5"), "{told}");
    let cases = directory.path().join("cases.yaml");
    let case = |rest: &str| format!("  - {{target: \"http://b.example\", {rest}}}\n");
    let all = [
        case("expect: deny"),
        case("protocol: socks5, expect: allow"),
        case("protocol: socks5, listener: a, expect: allow"),
    ];
    write(&cases, format!("cases:\n{}", all.concat()));
    let output = run(&["test", cases.to_str().expect("ASCII"), "--config", &config]);
    let told = String::from_utf8(output.stdout).expect("text");
    assert!(
        told.contains("1 of 3 cases failed") && told.contains("the listener `a` does not speak socks5"),
        "{told}"
    );
}

#[test]
fn explain_asks_for_the_listener_where_a_policy_does() {
    let directory = crate::support::directory();
    let file = directory.path().join("egressd.yaml");
    let policies =
        [policy("builds", "listeners: [builds]", "127.0.0.1:22"), policy("rest", "", "127.0.0.1:25")]
            .concat();
    write(&file, two(&policies));
    let file = file.to_str().expect("ASCII");
    let explain = |more: &[&str]| {
        let output = run(&[&["explain", "tcp://127.0.0.1:25", "--config", file], more].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, told, _) = explain(&[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("by the listener builds\n"), "{told}");
    assert!(told.contains("(the listener is assumed; --listener NAME sets another)"), "{told}");
    let (code, told, _) = explain(&["--listener", "people"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("policy   rest") && !told.contains("the listener is assumed"), "{told}");
    let (_, told, _) = explain(&["--listener", "closed", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["listener"], &told["listener_assumed"]), (&json!("closed"), &json!(false)));
    let (code, _, told) = explain(&["--listener", "nobody"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("no listener is called `nobody`: write one of `builds`, `people`, `closed`"),
        "{told}"
    );
}
