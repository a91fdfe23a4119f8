//! What enforce mode would have refused of Git, and report mode let pass: on the status page, in the list of the tunnel's last requests,
//! in `suggest` and in `summary`.

use serde_json::{Value, json};

use crate::git::{OWN, PUSHES, RECEIVE, Scene, UPLOAD};
use crate::git_bodies::*;
use crate::reloads::reload;
use crate::support::{run, until, write};
use crate::world::World;

const OTHERS: &str = "mallory-at-999999999999";

fn api(scene: &Scene, path: &str) -> Value {
    serde_json::from_str(&scene.proxy.get(path).body).expect("JSON")
}

#[test]
fn what_report_mode_lets_pass_keeps_the_entry_that_enforce_mode_would_lack() {
    let world = World::new();
    let site = world.site();
    let enforced = World::config(site.port(), PUSHES);
    let proxy = world.start(&enforced.replace("  - name: test\n", "  - name: test\n    mode: report\n"));
    let scene = Scene { world, site, proxy };
    let push = |user: &str, name: &str| {
        scene.with_length(RECEIVE, &basic(user), &[&updates(&[name])[..], b"PACK"].concat())
    };
    let mut wire = scene.inside();
    let fields = format!("{}Git-Protocol: version=2\r\n", basic(OWN));
    let fetching = scene.with_length(UPLOAD, &fields, &fetch());
    let asks = [
        ("account_not_allowed", push(OTHERS, "refs/heads/main")),
        ("git_not_allowed", fetching),
        ("ref_not_allowed", push(OWN, "refs/heads/other")),
    ];
    for (_, request) in &asks {
        wire.send(request);
        assert_eq!(wire.read_reply().status, 200);
    }
    let entries = [
        ("account_not_allowed", "- {git: [push], repositories: [\"/own\"], refs: [\"refs/heads/main\"]"),
        (
            "git_not_allowed",
            "- {git: [fetch], repositories: [\"/own\"], aws: {accounts: [\"123456789012\"]}}",
        ),
        ("ref_not_allowed", "- {git: [push], repositories: [\"/own\"], refs: [\"refs/heads/other\"]"),
    ];
    // Of all three, among what was refused …
    let decisions = until("the three of them", || {
        let decisions = api(&scene, "/api/decisions?kind=would_deny");
        (decisions["total"] == 3).then_some(decisions)
    });
    let mut offered = Vec::new();
    for (reason, start) in entries {
        let groups = decisions["refused"].as_array().expect("a list");
        let group = groups.iter().find(|group| group["reason"] == reason).expect(reason);
        assert_eq!((&group["kind"], &group["allowed_now"]), (&json!("would_deny"), &json!(false)), "{group}");
        let line = group["allow"]["line"].as_str().unwrap_or_else(|| panic!("no entry: {group}"));
        assert!(line.starts_with(start), "{line}");
        let advice = group["advice"].as_str().expect("a text");
        assert!(advice.contains("entry 1 of `requests` of"), "{advice}");
        offered.push(line.to_owned());
    }
    // … and in the tunnel, which is still open; the last one first.
    let tunnel = until("the requests of the tunnel", || {
        let tunnels = api(&scene, "/api/tunnels");
        (tunnels["tunnels"][0]["requests"] == 3).then(|| tunnels["tunnels"][0].clone())
    });
    for (last, line) in tunnel["last_requests"].as_array().expect("a list").iter().zip(offered.iter().rev()) {
        assert_eq!(
            (&last["decision"], last["allow"]["line"].as_str()),
            (&json!("would_deny"), Some(&**line)),
            "{last}"
        );
    }
    drop(wire);
    scene.proxy.record(|record| record["event"] == "close");

    // The log says the same to those who read it.
    let directory = scene.world.directory();
    let (log, list) = (directory.path().join("access.log"), directory.path().join("list.yaml"));
    write(&log, scene.proxy.log());
    let log_name = log.to_str().expect("UTF-8");
    let text = String::from_utf8(run(&["suggest", "--without-denied", log_name]).stdout).expect("UTF-8");
    let would: Vec<&str> = text.lines().filter(|line| line.contains(" would be denied")).collect();
    for part in ["refs/heads/other", "999999999999", "fetch"] {
        assert!(would.iter().any(|line| line.contains(part)), "{part}: {text}");
    }
    write(&list, &text);
    let summary = String::from_utf8(run(&["summary", log_name]).stdout).expect("UTF-8");
    for line in [
        "inside      3 requests inside tunnels: 0 let through by a rule, 3 by report mode, 0 denied, 0 failed",
        "by account 999999999999: update refs/heads/main",
        "by account 123456789012: update refs/heads/other",
        "1  account_not_allowed",
        "1  git_not_allowed",
        "1  ref_not_allowed",
    ] {
        assert!(summary.contains(line), "{line}\n{summary}");
    }

    // The entries do what they say where the rules are enforced.
    let pasted = offered.iter().map(|line| format!("{}, ", line.strip_prefix("- ").expect("an item")));
    let pasted: String = pasted.collect();
    reload(&scene.proxy, &enforced.replacen("requests: [{", &format!("requests: [{pasted}{{"), 1));
    let mut wire = scene.inside();
    for (reason, request) in &asks {
        wire.send(request);
        let reply = wire.read_reply();
        assert!(reply.status == 200 && !reply.body.contains("egressd"), "{reason}: {reply:?}");
    }
}

#[test]
fn what_a_signature_covers_and_report_mode_lets_pass_says_why_it_would_not() {
    let scene = Scene::new(PUSHES);
    let report = World::config(scene.site.port(), crate::git::READS)
        .replace("  - name: test\n", "  - name: test\n    mode: report\n");
    let scene = Scene { proxy: scene.world.start(&report), ..scene };
    let mut wire = scene.inside();
    // Longer than its entry allows, once inflated.
    wire.send(scene.with_length(UPLOAD, "Content-Encoding: gzip\r\n", &zipped(&vec![b'0'; 100_000])));
    assert_eq!(wire.read_reply().status, 200);
    // It is counted when it has ended, which may be after its client has the answer.
    let group = until("the request", || {
        let group = api(&scene, "/api/decisions")["refused"][0].clone();
        group.is_object().then_some(group)
    });
    assert_eq!((&group["kind"], &group["reason"]), (&json!("would_deny"), &json!("git_not_allowed")));
    let advice = group["advice"].as_str().expect("a text");
    assert!(advice.contains("negotiation_limit"), "{advice}");
}
