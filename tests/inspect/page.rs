//! What the status page's JSON tells of requests inside inspected tunnels.

use serde_json::{Value, json};

use crate::support::{Egressd, until, write};
use crate::world::{HOST, World, get};

fn api(proxy: &Egressd, path: &str) -> Value {
    let reply = proxy.get(path);
    assert!(!reply.body.contains("secret"), "no query is shown: {}", reply.body);
    serde_json::from_str(&reply.body).expect("JSON")
}

#[test]
fn an_open_tunnel_shows_its_last_requests_and_what_would_let_a_refused_one_pass() {
    let world = World::new();
    let site = world.site();
    let port = site.port();
    let rule = r#", requests: [{methods: [GET], paths: ["/ok"]}]"#;
    let enforced = World::config(port, rule);
    let text = enforced.replace("    private:", "    mode: report\n    private:");
    let proxy = world.start(&text);
    let mut wire = world.inside(&proxy, port);
    for path in ["/ok", "/1", "/2", "/3", "/4?secret=1", &format!("/{}", "x".repeat(1_000))] {
        wire.send(get(port, path));
        assert_eq!(wire.read_reply().status, 200);
    }
    let tunnel = until("the last request", || {
        let answer = api(&proxy, "/api/tunnels");
        let tunnel = &answer["tunnels"][0];
        (tunnel["requests"] == 6).then(|| tunnel.clone())
    });
    assert_eq!(tunnel["inspected"], true);
    let last = tunnel["last_requests"].as_array().expect("a list");
    assert_eq!(last.len(), 4, "only so many are kept: {tunnel}");
    let long = last[0]["path"].as_str().expect("a path");
    assert!(long.ends_with("x…") && long.len() < 140 && last[0]["allow"].is_null(), "{long}");
    let would = json!({
        "at": last[1]["at"], "method": "GET", "path": "/4", "status": 200, "decision": "would_deny",
        "reason": "request_not_allowed",
        "allow": {"line": r#"- {methods: [GET], paths: ["/4"]}"#, "place": last[1]["allow"]["place"]},
    });
    assert_eq!(last[1], would);
    let place = last[1]["allow"]["place"].as_str().expect("a place");
    assert!(
        place.starts_with(&format!("under `requests` of `https://{HOST}:{port}` ("))
            && place.ends_with("egressd.yaml:8)"),
        "{place}"
    );

    // The entry does what it says, also where the rules are enforced.
    let entry = r#"{methods: [GET], paths: ["/4"]}"#;
    let before = api(&proxy, "/api/status")["config"]["sha256"].clone();
    write(&proxy.file("egressd.yaml"), enforced.replace("\"/ok\"]}", &format!("\"/ok\"]}}, {entry}")));
    until("the new rules", || (api(&proxy, "/api/status")["config"]["sha256"] != before).then_some(()));
    wire.send(get(port, "/4"));
    assert_eq!(wire.read_reply().status, 200);
    let last = until("the request", || {
        let answer = api(&proxy, "/api/tunnels");
        (answer["tunnels"][0]["requests"] == 7).then(|| answer["tunnels"][0]["last_requests"][0].clone())
    });
    assert_eq!(
        (&last["decision"], &last["reason"], &last["allow"]),
        (&json!("allow"), &Value::Null, &Value::Null)
    );

    // What is refused ends its tunnel, and stands among what was refused.
    wire.send(get(port, "/5"));
    assert_eq!(wire.read_reply().status, 403);
    let answer = until("the refusal", || {
        let answer = api(&proxy, "/api/decisions");
        let groups = answer["refused"].as_array().expect("a list");
        groups.iter().find(|group| group["kind"] == "deny").cloned()
    });
    assert_eq!((&answer["request"], &answer["reason"]), (&json!("GET /5"), &json!("request_not_allowed")));
    assert_eq!(answer["allow"]["line"], r#"- {methods: [GET], paths: ["/5"]}"#);
}
