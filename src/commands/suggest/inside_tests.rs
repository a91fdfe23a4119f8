//! What is suggested for requests inside tunnels: by example, and that the result allows exactly them.

use std::net::SocketAddr;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::commands::logs::Reader;
use crate::config::{self, test_files};
use crate::rules::{HttpRequest, Policies, Upgrade};
use crate::words::client::Client;

fn inner(event: &str, method: &str, target: &str, rest: &str) -> String {
    format!(
        r#"{{"time":"2026-03-01T12:00:02.000000Z","client":"10.0.0.1:40000","tunnel":"t","event":"{event}","method":"{method}","target":"{target}",{rest}}}"#
    ) + "\n"
}

fn tunnel(host: &str, rule: &str, sni: &str) -> String {
    format!(
        r#"{{"time":"2026-03-01T12:00:01.000000Z","client":"10.0.0.1:40000","event":"open","method":"CONNECT","target":"{host}","decision":"allow","rule":"{rule}","sni":{sni}}}"#
    ) + "\n"
}

fn passed(method: &str, target: &str) -> String {
    inner("request", method, target, r#""decision":"allow","reason":null,"status":200"#)
}

const WOULD: &str = r#""decision":"would_deny","reason":"request_not_allowed","status":200"#;
const DENIED: &str = r#""decision":"deny","reason":"request_not_allowed","status":403"#;

fn suggested(log: &str, denied: bool) -> (String, Policies) {
    let (mut reader, mut suggestion) = (Reader::new(), Suggestion::new(false));
    reader.read("a.log", log.as_bytes(), |entry| suggestion.add(entry)).expect("it can be read");
    assert_eq!(reader.malformed().count, 0);
    let text = suggestion.to_yaml(denied);
    match config::load_str("suggested.yaml", &text, test_files::read) {
        Ok(loaded) => (text, loaded.config.policies),
        Err(findings) => panic!("{findings:?}\n{text}"),
    }
}

#[test]
fn a_target_whose_tunnels_were_inspected_gets_entries_for_its_requests() {
    let many: String = (0..12)
        .map(|number| passed("GET", &format!("https://git.example:443/group/{number}/info")))
        .collect();
    let log = [
        tunnel("git.example:443", "git.example", "\"git.example\""),
        many,
        passed("GET", "https://git.example:443/status"),
        inner("open", "POST", "https://git.example:443/status", r#""decision":"allow","reason":null"#),
        passed("POST", "https://git.example:443/status"),
        inner(
            "request",
            "GET",
            "https://git.example:443/live",
            r#""decision":"allow","reason":null,"status":101"#,
        ),
        inner("request", "PUT", "https://git.example:443/new", WOULD),
        inner("request", "GET", "https://git.example:443/chat", &WOULD.replace("request_n", "upgrade_n")),
        inner("deny", "DELETE", "https://git.example:443/group/1", DENIED),
        inner(
            "deny",
            "GET",
            "https://git.example:443/a//b",
            &DENIED.replace("request_not_allowed", "bad_target"),
        ),
        inner("deny", "GET", "/x%00", &DENIED.replace("request_not_allowed", "bad_target")),
        inner(
            "error",
            "GET",
            "https://git.example:443/slow",
            r#""decision":"allow","reason":"upstream_timeout""#,
        ),
        tunnel("only.example:8443", "https://only.example:8443", "\"only.example\""),
        inner("deny", "GET", "https://only.example:8443/", DENIED),
        // The line of its tunnel is in an earlier log.
        inner(
            "request",
            "GET",
            "https://late.example:443/",
            r#""decision":"allow","status":200,"upstream":"10.7.0.1:443""#,
        ),
        // Inside a tunnel that an http rule carries: the line of the tunnel says enough.
        tunnel("plain.example:80", "http://plain.example", "null"),
        passed("GET", "http://plain.example:80/x"),
        tunnel("both.example:443", "tcp://both.example:443", "null"),
        tunnel("both.example:443", "both.example", "\"both.example\""),
        passed("GET", "https://both.example:443/"),
    ]
    .concat();
    let want = r##"# 5 recorded requests, 2026-03-01T12:00:01Z to 2026-03-01T12:00:01Z; inside tunnels 24 requests. Exact names and exact clients only; read it before you use it.
inspection: {certificate: authority.crt, key: authority.key} # of `egressd ca new`: write the proxy's own files
policies:
  - name: suggested
    clients: {networks: ["10.0.0.1/32"]}
    allow:
      # let through by a rule
      - to: "both.example" # 2 let through; 2026-03-01T12:00:01Z to 2026-03-01T12:00:02Z; 1 by a tcp rule, unopened: what was in them is not listed
        requests:
          - {methods: [GET], paths: ["/"]} # 1 let through
      - to: "git.example" # 1 let through; 2026-03-01T12:00:01Z to 2026-03-01T12:00:02Z
        requests:
          - {methods: [GET], paths: ["/group/**"]} # 12 let through
          - {methods: [GET], paths: ["/live"], upgrade: [websocket]} # 1 let through
          - {methods: [GET, POST], paths: ["/status"]} # 2 let through
          # let through only by report mode: enforce mode would have denied it
          - {methods: [PUT], paths: ["/new"]} # 1 would be denied
          # DENIED so far. Any client of the proxy may have chosen these paths: keep a line only if you know why it was requested
          - {methods: [DELETE], paths: ["/group/1"]} # 1 denied
      - to: "late.example" # in tunnels without a line of their own; 2026-03-01T12:00:02Z
        private: ["10.7.0.1/32"]
        requests:
          - {methods: [GET], paths: ["/"]} # 1 let through
      - to: "https://only.example:8443" # 1 let through; 2026-03-01T12:00:01Z to 2026-03-01T12:00:02Z
        requests:
          # DENIED so far. Any client of the proxy may have chosen these paths: keep a line only if you know why it was requested
          - {methods: [GET], paths: ["/"]} # 1 denied
      - "http://plain.example" # 1 let through; 2026-03-01T12:00:01Z
# left out, because no rule for the target would have let it through:
#   2x bad_target: the request was malformed; git.example:443
#   1x upgrade_not_allowed: a rule allows the connection, but not this request on it: see the reason; git.example:443
#   1x upstream_timeout: it failed for a cause other than the rules; git.example:443
"##;
    assert_eq!(suggested(&log, true).0, want);
    let without = suggested(&log, false).0;
    assert!(!without.contains("DELETE") && !without.contains("- to: \"https://only"), "{without}");
    let told = "# no rule can be written for https://only.example:8443: its tunnels were inspected, and no request inside passed\n";
    assert!(without.contains(told), "{without}");
    // A rule that does not inspect is no answer to an inspected tunnel of which nothing can be written.
    for request in [
        inner(
            "deny",
            "GET",
            "https://git.example:443/a//b",
            &DENIED.replace("request_not_allowed", "bad_target"),
        ),
        inner("deny", "purge", "https://git.example:443/a", DENIED),
    ] {
        let log = tunnel("git.example:443", "git.example", "\"git.example\"") + &request;
        let text = suggested(&log, true).0;
        assert!(
            text.contains("allow: []") && text.contains("for git.example: its tunnels were inspected"),
            "{text}"
        );
    }
}

/// Host, kind, method, path and whether it became a WebSocket.
type Asked = (&'static str, Kind, &'static str, String, bool);

fn any_request() -> impl Strategy<Value = Asked> {
    let path = prop_oneof![
        4 => "(/(a|b|v1|repos)){1,4}/?",
        4 => "/v1/[a-z0-9]{1,3}(/x)?",
        1 => "(/[a-z*%\"'!~.-]{0,4}){1,20}",
        1 => Just("/".to_owned()),
    ];
    let kind = prop::sample::select(vec![Kind::Passed, Kind::WouldDeny, Kind::Denied]);
    let method =
        prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "M-SEARCH", "purge", "NULL", "TRUE", "NO"]);
    let host =
        prop::sample::select(vec!["a.example:443", "b.example:443", "b.example:8443", "x.a.example:443"]);
    (host, kind, method, path, any::<bool>()).prop_map(|(host, kind, method, path, websocket)| {
        (host, kind, method, path, websocket && method == "GET")
    })
}

fn decided(policies: &Policies, asked: (&str, &str, &str), websocket: bool) -> Result<(), String> {
    let (host, method, path) = asked;
    let target = Target::connect(host).expect(host);
    let client = Client::direct(SocketAddr::from(([10, 0, 0, 1], 1)));
    let denial = |denial: crate::rules::Denial| denial.advice.into();
    let permit = policies.decide(&target, &client, Timestamp::UNIX_EPOCH).map_err(denial)?;
    assert!(permit.inspect, "{asked:?}");
    let upgrade = if websocket { Upgrade::Websocket } else { Upgrade::None };
    let request = HttpRequest { method, path, query: None, upgrade, inspected: true, recognised: None };
    policies.decide_request(permit, &target, &request).map(|_| ()).map_err(denial)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// It loads, lets through what was seen, and nothing of another host, method or place.
    #[test]
    fn it_lets_through_what_was_seen_and_nothing_else(
        requests in proptest::collection::vec(any_request(), 1..80), with_tunnels in any::<bool>(),
    ) {
        let mut log = String::new();
        let mut asked: Vec<&Asked> = Vec::new();
        for request @ (host, kind, method, path, websocket) in &requests {
            if crate::rules::check_path(path).is_err() {
                continue;
            }
            if with_tunnels {
                let name = host.split(':').next().unwrap_or_default();
                log += &tunnel(host, &format!("https://{host}"), &format!("\"{name}\""));
            }
            let target = format!("https://{host}{}", path.replace('"', "\\\""));
            let rest = match kind {
                Kind::Passed => r#""decision":"allow","reason":null,"status":200"#,
                Kind::WouldDeny => WOULD,
                Kind::Denied => DENIED,
            };
            let rest = if *websocket { rest.replace("\"status\":200", "\"status\":101") } else { rest.to_owned() };
            log += &inner(if *kind == Kind::Denied { "deny" } else { "request" }, method, &target, &rest);
            asked.push(request);
        }
        if log.is_empty() {
            return Ok(());
        }
        let (text, policies) = suggested(&log, true);
        let (_, without) = suggested(&log, false);
        for (host, kind, method, path, websocket) in &asked {
            // A method in lower case can be allowed only with any other, which no denied request is worth.
            let is_offered = *kind != Kind::Denied || *method != "purge";
            let websocket = *websocket && *kind != Kind::Denied;
            if is_offered {
                let found = decided(&policies, (host, method, path), websocket);
                prop_assert!(found.is_ok(), "{host} {method} {path}: {found:?}\n{text}");
            }
            if *kind != Kind::Denied {
                let found = decided(&without, (host, method, path), websocket);
                prop_assert!(found.is_ok(), "{host} {method} {path}: {found:?}\n{text}");
            }
        }
        for host in ["c.example:443", "a.example:80", "a.example:8443", "example:443", "y.a.example:443"] {
            prop_assert!(policies.decide(&Target::connect(host).expect(host), &Client::direct(SocketAddr::from(([10, 0, 0, 1], 1))), Timestamp::UNIX_EPOCH).is_err(), "{host}\n{text}");
        }
        for host in ["a.example:443", "b.example:443", "b.example:8443", "x.a.example:443"] {
            let of_host = |wanted: &str| asked.iter().filter(|(at, ..)| *at == wanted).collect::<Vec<_>>();
            let any_method = of_host(host).iter().any(|(_, kind, method, ..)| *method == "purge" && *kind != Kind::Denied);
            if !any_method {
                for path in ["/", "/v1/a", "/a/b"] {
                    prop_assert!(decided(&policies, (host, "PATCH", path), false).is_err(), "{host} {path}\n{text}");
                }
            }
            // So few are never folded: exactly these.
            if of_host(host).len() <= 10 && of_host(host).iter().all(|(.., path, _)| path.matches('/').count() < 16 && !path.contains('*')) {
                for (_, _, _, path, _) in of_host(host) {
                    for method in ["GET", "HEAD", "POST", "PUT", "M-SEARCH"] {
                        let seen = of_host(host).iter().any(|(_, kind, m, p, _)| p == path && (*m == method || *m == "purge" && *kind != Kind::Denied));
                        prop_assert_eq!(decided(&policies, (host, method, path), false).is_ok(), seen, "{} {} {}\n{}", host, method, path, text);
                    }
                    let other = format!("{path}z");
                    let seen = of_host(host).iter().any(|(_, _, _, p, _)| *p == other);
                    prop_assert!(seen || decided(&policies, (host, "GET", &other), false).is_err(), "{host} {other}\n{text}");
                }
            }
        }
    }
}
