//! What `requests` of a rule lets through, by the table "What a rule says about requests" of docs/configuration.md.

#[path = "../fuzz/checks/path_rule.rs"]
#[allow(unreachable_pub, reason = "the fuzz target needs it so")]
mod path_rule;

use std::path::Path;

use egressd::config;
use egressd::rules::{Denial, HttpRequest, Permit, Policies, Upgrade};
use egressd::words::outcome::{Decision, Reason};
use egressd::words::target::Method;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{ask, client, now};

/// Policies of one rule, with an authority that may sign for every host, and a file of credentials for every other name.
fn policies(rest: &str) -> Policies {
    let inspection = "inspection: {certificate: authority.crt, key: authority.key}";
    let text = format!("{inspection}\npolicies: [{{name: p, {rest}}}]");
    let read = |path: &Path| {
        let file: &[u8] = match path.file_name().and_then(|name| name.to_str()) {
            Some("authority.crt") => include_bytes!("../lint/files/authority-free.crt"),
            Some("authority.key") => include_bytes!("../lint/files/authority.key"),
            _ => b"user:s3cret\n",
        };
        Ok(file.to_vec())
    };
    config::load_str("c.yaml", &text, read)
        .unwrap_or_else(|findings| panic!("{text}: {findings:?}"))
        .config
        .policies
}

/// `GET /path`, and `websocket GET /path` or `other GET /path` with an upgrade.
fn request(text: &str, inspected: bool) -> HttpRequest<'_> {
    let (upgrade, text) = match text.split_once(' ') {
        Some(("websocket", rest)) => (Upgrade::Websocket, rest),
        Some(("other", rest)) => (Upgrade::Other, rest),
        _ => (Upgrade::None, text),
    };
    let (method, path) = text.split_once(' ').unwrap_or_else(|| panic!("{text}"));
    HttpRequest { method, path, query: None, upgrade, inspected, recognised: None }
}

/// Both stages, as serving asks them.
fn decide(rest: &str, target: &str, text: &str) -> Result<Permit, Denial> {
    let policies = policies(rest);
    let target = ask(target);
    let permit = policies.decide(&target, &client(), now())?;
    let inspected = permit.inspect && target.method == Method::Connect;
    policies.decide_request(permit, &target, &request(text, inspected))
}

/// `entry 2`, `entry 2 websocket`, `any`, `would request_not_allowed`, `request_not_allowed`.
fn verdict(decided: &Result<Permit, Denial>) -> String {
    match decided {
        Ok(permit) if permit.decision == Decision::WouldDeny => {
            format!("would {}", permit.reason.map_or("?", Reason::as_str))
        }
        Ok(permit) => {
            let entry =
                permit.entry.as_ref().map_or("any".to_owned(), |entry| format!("entry {}", entry.number));
            let lends = permit.entry.as_ref().is_some_and(|entry| entry.credentials.is_some());
            let websocket = if permit.websocket { " websocket" } else { "" };
            format!("{entry}{websocket}{}", if lends { " with credentials" } else { "" })
        }
        Err(denial) => denial.reason.as_str().to_owned(),
    }
}

const RULE: &str = "allow: [{to: a.test, requests: [{methods: [GET, HEAD], paths: [/status, \"/v1/**\"]}, \
                    {methods: [POST], paths: [\"/v1/*/items\"], credentials_file: c}, {methods: [GET], paths: [/chat, /v1/c], \
                    upgrade: [websocket]}]}]";

#[test]
fn one_entry_must_fit_and_of_it_every_key_that_is_there() {
    let plain = "allow: [{to: 'http://a.test', requests: [{methods: [GET], paths: ['/v1/**']}]}]";
    let inside = "allow: [{to: 'http://a.test', requests: [{upgrade: [websocket]}]}]";
    let inspects = "allow: [{to: a.test, inspect: true}]";
    let report = format!("{RULE}, mode: report");
    let (connect, http) = ("CONNECT a.test:443", "GET a.test:80");
    let carried = "CONNECT a.test:80";
    let rows = [
        (RULE, connect, "GET /status", "entry 1"),
        (RULE, connect, "HEAD /v1/a", "entry 1"),
        (RULE, connect, "POST /v1/a/items", "entry 2 with credentials"),
        (RULE, connect, "GET /chat", "entry 3"),
        (RULE, connect, "websocket GET /chat", "entry 3 websocket"),
        // The first entry fits the request without its upgrade, and does not hide the one that allows it.
        (RULE, connect, "GET /v1/c", "entry 1"),
        (RULE, connect, "websocket GET /v1/c", "entry 3 websocket"),
        (RULE, connect, "websocket GET /status", "upgrade_not_allowed"),
        (RULE, connect, "other GET /chat", "upgrade_not_allowed"),
        (RULE, connect, "PUT /status", "request_not_allowed"),
        (RULE, connect, "get /status", "request_not_allowed"),
        (RULE, connect, "POST /status", "request_not_allowed"),
        (RULE, connect, "GET /", "request_not_allowed"),
        (RULE, connect, "GET /v1", "request_not_allowed"),
        // What programs read in several ways is of no form, whatever the entries say.
        (RULE, connect, "GET /v1/../status", "bad_target"),
        (RULE, connect, "GET /v1/%2e%2e/status", "bad_target"),
        (RULE, connect, "GET /v1//a", "bad_target"),
        (RULE, connect, "GET /v1/a%2Fb", "bad_target"),
        (RULE, connect, "GET /%73tatus", "bad_target"),
        (RULE, connect, "GET /v1/a;b", "bad_target"),
        (&report, connect, "GET /v1/a%2Fb", "bad_target"),
        (&report, connect, "PUT /status", "would request_not_allowed"),
        (&report, connect, "GET /status", "entry 1"),
        (inspects, connect, "PUT /x", "any"),
        (inspects, connect, "GET /a//b", "bad_target"),
        (inspects, connect, "websocket GET /x", "upgrade_not_allowed"),
        (plain, http, "GET /v1/a", "entry 1"),
        (plain, http, "GET /v2/a", "request_not_allowed"),
        (plain, http, "GET /v1/./a", "bad_target"),
        // Outside a tunnel the field is taken out.
        (plain, http, "websocket GET /v1/a", "entry 1"),
        (plain, carried, "GET /v1/a", "entry 1"),
        (plain, carried, "POST /v1/a", "request_not_allowed"),
        (plain, carried, "websocket GET /v1/a", "upgrade_not_allowed"),
        (inside, carried, "websocket GET /v1/a", "entry 1 websocket"),
        ("allow: ['http://a.test']", http, "GET /a//b", "any"),
        ("allow: ['http://a.test']", carried, "websocket GET /a", "upgrade_not_allowed"),
    ];
    let mut wrong = Vec::new();
    for (rest, target, text, want) in rows {
        let got = verdict(&decide(rest, target, text));
        if got != want {
            wrong.push(format!("{rest} {target} {text}: {got}, not {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The advice names the entry that came nearest, and the entry to write is pasted and asked again.
#[test]
fn a_refusal_says_what_came_nearest_and_the_entry_that_lets_it_pass() {
    let rows = [
        (
            "PUT /v1/x",
            "entry 1 of `requests` of `a.test` allows the path by GET, HEAD, not by PUT",
            Some("{methods: [PUT], paths: [\"/v1/x\"]}"),
        ),
        (
            "GET /v2/x",
            "entry 1 of `requests` of `a.test` allows GET of /status, /v1/**, not of this path",
            Some("{methods: [GET], paths: [\"/v2/x\"]}"),
        ),
        (
            "POST /v1/items",
            "entry 1 of `requests` of `a.test` allows the path by GET, HEAD, not by POST",
            Some("{methods: [POST], paths: [\"/v1/items\"]}"),
        ),
        (
            "POST /v2",
            "entry 2 of `requests` of `a.test` allows POST of /v1/*/items, not of this path",
            Some("{methods: [POST], paths: [\"/v2\"]}"),
        ),
        (
            "PUT /v2",
            "no entry of `requests` of `a.test` allows PUT, and none this path",
            Some("{methods: [PUT], paths: [\"/v2\"]}"),
        ),
        (
            "websocket GET /status",
            "entry 1 of `requests` of `a.test` allows the request, and no WebSocket",
            Some("{methods: [GET], paths: [\"/status\"], upgrade: [websocket]}"),
        ),
        (
            "other GET /status",
            "entry 1 of `requests` of `a.test` allows the request, but only a WebSocket can be asked for",
            None,
        ),
        (
            "GET /x*y",
            "entry 1 of `requests` of `a.test` allows GET of /status, /v1/**, not of this path",
            None,
        ),
    ];
    for (text, advice, entry) in rows {
        let denial = decide(RULE, "CONNECT a.test:443", text).expect_err(text);
        assert_eq!((&*denial.advice, denial.entry.as_deref()), (advice, entry), "{text}");
        assert_eq!(denial.decided_by().map(|rule| &*rule.text), Some("a.test"), "{text}");
        let told = denial.advice_with_rule(&policies(RULE), &ask("CONNECT a.test:443"), now());
        let Some(entry) = entry else {
            assert_eq!(told, advice);
            continue;
        };
        assert_eq!(told, format!("{advice}; to allow it, add `- {entry}` under `requests` of the rule"));
        let with = format!("allow: [{{to: a.test, requests: [{entry}]}}]");
        assert!(verdict(&decide(&with, "CONNECT a.test:443", text)).starts_with("entry 1"), "{entry}");
        let other = text.replace("/v", "/w").replace("/s", "/t");
        assert!(decide(&with, "CONNECT a.test:443", &other).is_err(), "{entry} {other}");
    }
}

/// The rules changed while a tunnel is open: what is in it is judged by what is in force.
#[test]
fn a_request_in_a_tunnel_of_another_kind_is_refused() {
    let rows = [
        ("allow: [a.test]", true, "any"),
        ("allow: [{to: a.test, inspect: true}]", true, "any"),
        ("allow: [a.test]", false, "not_tls"),
        ("allow: [{to: a.test, inspect: true}]", false, "not_tls"),
        ("allow: ['http://a.test:443']", false, "any"),
        ("allow: ['http://a.test:443']", true, "scheme_not_allowed"),
        ("allow: ['tcp://a.test:443']", true, "any"),
        ("allow: ['tcp://a.test:443']", false, "any"),
    ];
    for (rest, inspected, want) in rows {
        let policies = policies(rest);
        let target = ask("CONNECT a.test:443");
        let permit = policies.decide(&target, &client(), now()).expect(rest);
        let got = policies.decide_request(permit, &target, &request("GET /x", inspected));
        assert_eq!(verdict(&got), want, "{rest} {inspected}");
    }
}

/// What only report mode lets pass gets no credentials.
#[test]
fn credentials_are_lent_to_what_a_rule_allows() {
    let rule = "allow: [{to: a.test, expires: 2020-01-01, requests: [{credentials_file: c}]}]";
    let allowed = rule.replace("expires: 2020-01-01, ", "");
    let lends = |rest: &str| {
        let permit = decide(rest, "CONNECT a.test:443", "GET /x").expect(rest);
        assert_eq!(permit.entry.as_ref().map(|entry| entry.number), Some(1), "{rest}");
        permit.entry.is_some_and(|entry| entry.credentials.is_some())
    };
    assert!(lends(&allowed));
    assert!(lends(&format!("{allowed}, mode: report")));
    assert!(!lends(&format!("{rule}, mode: report")));
    assert!(!lends(&format!("{allowed}, deny: [a.test], mode: report")));
}

/// Parts of paths and patterns: what is special in either, and little else, so that patterns match.
fn path_like() -> impl Strategy<Value = String> {
    let part = select(vec![
        "/", "/", "/", "a", "b", "ab", "*", "*", "/**", "**", ".", "..", "%41", "%2f", "%2E", "%25",
        "%C3%A9", "%c3", "%A9", "%zz", ";", "\\", "//", "-", "%20", "?", "é", "v1", "items-",
    ]);
    proptest::collection::vec(part, 0..8).prop_map(|parts| format!("/{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// The fuzz target's check, with paths that are nearly right.
    #[test]
    fn paths_and_patterns_are_read_as_a_second_reading_does(
        path in path_like(), pattern in path_like(), other in path_like(),
    ) {
        path_rule::check(format!("{path}\n{pattern}\n{other}").as_bytes());
    }

    /// The same with paths that are made of the pattern: something, or nothing, in place of each star.
    #[test]
    fn what_is_made_of_a_pattern_matches_it_or_nearly(
        pattern in path_like(),
        stars in proptest::collection::vec(select(vec!["", "", "a", "b", "ab", "ba", "*", "a/b", "/"]), 8),
    ) {
        let mut stars = stars.iter();
        let path: String = pattern
            .chars()
            .map(|c| if c == '*' { (*stars.next().unwrap_or(&"a")).to_owned() } else { c.to_string() })
            .collect();
        path_rule::check(format!("{path}\n{pattern}").as_bytes());
    }
}
