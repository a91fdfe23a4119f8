//! What is suggested for what was seen: by example, and that the result allows exactly that.

use std::net::SocketAddr;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::commands::logs::Reader;
use crate::config;
use crate::rules::offer::Inside;
use crate::rules::{Denied, RuleText};
use crate::words::client::Client;

pub(super) fn line(second: u32, client: &str, ask: (&str, &str), rest: &str) -> String {
    let (method, target) = ask;
    format!(
        r#"{{"time":"2026-03-01T12:00:{second:02}.000000Z","client":"{client}:40000","method":"{method}","target":"{target}",{rest}}}"#
    ) + "\n"
}

pub(super) const PASSED: &str = r#""event":"open","decision":"allow","rule":"*.example","sni":"SNI""#;

pub(super) fn suggested(log: &str, denied: bool) -> String {
    suggested_with(Suggestion::new(false), log, denied)
}

pub(super) fn suggested_with(mut suggestion: Suggestion, log: &str, denied: bool) -> String {
    let mut reader = Reader::new();
    reader.read("a.log", log.as_bytes(), |entry| suggestion.add(entry)).expect("it can be read");
    assert_eq!(reader.malformed().count, 0);
    let text = suggestion.to_yaml(denied);
    if let Err(findings) = config::load_str("suggested.yaml", &text, |_| Ok(Vec::new())) {
        panic!("{findings:?}\n{text}");
    }
    text
}

pub(super) fn passed(second: u32, client: &str, host: &str) -> String {
    line(second, client, ("CONNECT", &format!("{host}:443")), &PASSED.replace("SNI", host))
}

#[test]
fn what_was_let_through_by_a_rule_or_by_report_mode_and_what_was_denied_are_separate() {
    let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed","sent":null"#;
    let would = r#""event":"open","decision":"would_deny","reason":"host_not_allowed","sni":"new.example""#;
    let tcp = r#""event":"open","decision":"allow","rule":"tcp://git.example:22","sni":null"#;
    let private =
        r#""event":"open","decision":"allow","rule":"a.example","sni":"a.example","upstream":"10.7.0.1:443""#;
    let http = r#""event":"http","decision":"allow","rule":"http://mirror.example","sent":1"#;
    let failed = r#""event":"error","decision":"allow","reason":"dns_timeout""#;
    let log = [
        passed(3, "10.0.0.1", "git.example"),
        passed(1, "10.0.0.2", "git.example"),
        line(9, "10.0.0.1", ("CONNECT", "git.example:443"), r#""event":"close","decision":"allow""#),
        line(2, "10.0.0.1", ("CONNECT", "git.example:22"), tcp),
        line(2, "10.0.0.1", ("CONNECT", "git.example:23"), &tcp.replace(":22", ":23")),
        line(2, "10.0.0.1", ("CONNECT", "a.example:443"), private),
        line(2, "10.0.0.1", ("GET", "http://mirror.example:80/x"), http),
        line(4, "10.0.0.3", ("CONNECT", "new.example:443"), would),
        line(5, "10.0.0.9", ("CONNECT", "evil.example:443"), deny),
        line(5, "10.0.0.9", ("CONNECT", "52.94.0.9:443"), deny),
        line(6, "10.0.0.9", ("CONNECT", "x.example:443"), failed),
        line(6, "10.0.0.9", ("CONNECT", "y.example:443"), &would.replace("host_not_allowed", "sni_mismatch")),
        line(6, "10.0.0.9", ("CONNECT", "z.example:443"), &deny.replace("host_not_allowed", "host_denied")),
        line(6, "10.0.0.9", ("CONNECT", "/nothing"), &deny.replace("host_not_allowed", "bad_target")),
        line(6, "10.0.0.9", ("GET", ""), &deny.replace("host_not_allowed", "head_timeout")),
    ]
    .concat();
    let want = r#"# 14 recorded requests, 2026-03-01T12:00:01Z to 2026-03-01T12:00:06Z. Exact names and exact clients only; read it before you use it.
policies:
  - name: suggested
    clients: {networks: ["10.0.0.1/32"]}
    allow:
      # let through by a rule
      - {to: "a.example", private: ["10.7.0.1/32"]} # 1 let through; 2026-03-01T12:00:02Z
      - "git.example" # 1 let through; 2026-03-01T12:00:03Z
      - "tcp://git.example:22-23" # 2 let through; 2026-03-01T12:00:02Z
      - "http://mirror.example" # 1 let through; 2026-03-01T12:00:02Z
  - name: suggested-2
    clients: {networks: ["10.0.0.2/32"]}
    allow:
      # let through by a rule
      - "git.example" # 1 let through; 2026-03-01T12:00:01Z
  - name: suggested-3
    clients: {networks: ["10.0.0.3/32"]}
    allow:
      # let through only by report mode: enforce mode would have denied it
      - "new.example" # 1 would be denied (host_not_allowed); 2026-03-01T12:00:04Z
  - name: suggested-4
    clients: {networks: ["10.0.0.9/32"]}
    allow:
      # DENIED so far. Any client of the proxy may have chosen these names: keep a line only if you know why it was requested
      # CAREFUL: the next rule opens an opaque tunnel to an address. Most clients that send one were given a name: make them send the name (docs/clients.md), and write that. Keep it only if the address itself is meant
      - "tcp://52.94.0.9:443" # 1 denied (host_not_allowed); 2026-03-01T12:00:05Z
      - "evil.example" # 1 denied (host_not_allowed); 2026-03-01T12:00:05Z
# left out, because no rule for the target would have let it through:
#   1x bad_target: the request was malformed
#   1x dns_timeout: it failed for a cause other than the rules; x.example:443
#   1x head_timeout: the request's head did not come in time (limits.head_timeout)
#   1x host_denied: a `deny` rule names it, and `deny` wins over `allow`; z.example:443
#   1x sni_mismatch: the ClientHello did not name the host that was requested: check the client first; if it requests an address, it looked the name up itself and has to send the name (docs/clients.md); y.example:443
"#;
    assert_eq!(suggested(&log, true), want);
    let without = suggested(&log, false);
    assert!(!without.contains("evil") && without.contains("# 2 denied targets are left out\n"), "{without}");
}

#[test]
fn a_tunnel_refused_after_its_first_hello_did_not_pass() {
    let log = passed(1, "10.0.0.1", "a.example")
        + &line(
            1,
            "10.0.0.1",
            ("CONNECT", "a.example:443"),
            r#""event":"deny","decision":"deny","reason":"upstream_not_tls","sent":300"#,
        );
    let text = suggested(&log, true);
    assert!(
        text.contains("    allow: []\n")
            && text.contains("1x upstream_not_tls: a rule allows it, but the target did not answer in TLS"),
        "{text}"
    );
    assert!(text.starts_with("# 1 recorded request,"), "{text}");
}

#[test]
fn a_pattern_over_many_names_is_mentioned_and_never_written() {
    let names = (0..5).map(|n| format!("bucket{n}.s3.amazonaws.com"));
    let own = (0..4).map(|n| format!("host{n}.corp.example"));
    let log: String = names.chain(own).map(|name| passed(1, "10.0.0.1", &name)).collect();
    let text = suggested(&log, true);
    assert!(text.contains("# 5 names match `*.s3.amazonaws.com`, which is too wide: "), "{text}");
    assert!(text.contains("# 4 names match `*.corp.example`: one rule instead of 4"), "{text}");
    assert!(!text.contains("- \"*"), "{text}");
}

#[test]
fn addresses_that_are_not_public_are_opened() {
    let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed""#;
    let closed = r#""event":"deny","decision":"deny","reason":"address_prohibited","rule":"10.0.0.0/8""#;
    let log = line(1, "10.0.0.1", ("CONNECT", "10.0.0.5:22"), deny)
        + &line(1, "10.0.0.1", ("CONNECT", "10.0.0.6:22"), closed)
        + &line(1, "10.0.0.1", ("CONNECT", "[2002:a01:203::]:22"), deny);
    let text = suggested(&log, true);
    for rule in [
        "- {to: \"tcp://10.0.0.5:22\", private: [\"10.0.0.5/32\"]}",
        "- {to: \"tcp://10.0.0.6:22\", private: [\"10.0.0.6/32\"]}",
        "- {to: \"tcp://[2002:a01:203::]:22\", private: [\"2002:a01:203::/128\", \"10.1.2.3/32\"]}",
    ] {
        assert!(text.contains(rule), "{rule}: {text}");
    }
}

#[test]
fn what_clients_should_reach_without_a_proxy_is_a_section_with_the_entries() {
    let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed""#;
    let would = r#""event":"open","decision":"would_deny","reason":"host_not_allowed","sni":null"#;
    let closed = r#""event":"deny","decision":"deny","reason":"address_prohibited","rule":"localhost""#;
    let unknown = r#""event":"error","decision":"allow","reason":"dns_no_such_name","rule":"*.corp.example""#;
    let itself = r#""event":"error","decision":"allow","reason":"loop","rule":"tcp://10.0.0.5:3128""#;
    let of = |target, rest| line(1, "10.0.0.1", ("CONNECT", target), rest);
    let log = [
        of("169.254.169.254:80", deny),
        line(1, "10.0.0.2", ("GET", "http://169.254.169.254:80/x"), deny),
        of("[fd00:ec2::254]:80", deny),
        of("127.0.0.1:15000", deny),
        of("localhost:22", closed),
        of("kubernetes.default.svc:443", deny),
        of("other.default.svc:443", would),
        of("gitlab:443", deny),
        of("new.corp.example:443", unknown),
        of("flaps.corp.example:443", unknown),
        passed(1, "10.0.0.1", "flaps.corp.example"),
        of("10.0.0.5:3128", itself),
    ]
    .concat();
    let text = suggested(&log, true);
    assert_eq!(text.matches("\n      - ").count(), 1, "{text}");
    let (_, section) = text.split_once("# for the clients' no_proxy").expect(&text);
    let want = [
        "#   169.254.169.254: 2x from 10.0.0.1, 10.0.0.2: 169.254.169.254 is a credential endpoint",
        "#   fd00:ec2::254: 1x from 10.0.0.1: [fd00:ec2::254] is a credential endpoint",
        "#   127.0.0.1: 1x",
        "#   localhost: 1x",
        "#   10.0.0.5: 1x from 10.0.0.1: 10.0.0.5 is where egressd itself listens",
        "#   .svc: 2x",
        "#   gitlab: 1x",
        "#   new.corp.example: 1x from 10.0.0.1: DNS says that new.corp.example does not exist",
        "#   no_proxy=fd00:ec2::254,169.254.169.254,127.0.0.1,localhost,10.0.0.5,.svc,gitlab",
    ];
    for line in want {
        assert!(section.lines().any(|told| told.starts_with(line)), "{line}\n{text}");
    }
    assert!(!section.contains("flaps"), "it was reached: {text}");
    assert!(suggested(&log, false).contains("no_proxy="), "it is no rule, so it is never left out");
}

#[test]
fn what_a_rule_of_the_operator_let_through_stays_a_rule() {
    let passes = |rule: &str| format!(r#""event":"open","decision":"allow","rule":"{rule}","sni":null"#);
    let log = line(1, "10.0.0.1", ("CONNECT", "127.0.0.1:5432"), &passes("tcp://127.0.0.1:5432"))
        + &line(1, "10.0.0.1", ("CONNECT", "db:5432"), &passes("tcp://db:5432"))
        + &line(1, "10.0.0.1", ("CONNECT", "8.8.8.8:443"), &passes("https://8.8.8.8"));
    let text = suggested(&log, true);
    for rule in
        ["{to: \"tcp://127.0.0.1:5432\", private: [\"127.0.0.1/32\"]}", "\"tcp://db:5432\"", "\"8.8.8.8\""]
    {
        assert!(text.contains(&format!("- {rule} #")), "{rule}: {text}");
    }
    assert!(!text.contains("no_proxy"), "{text}");
}

/// The one rule of a text, as scheme, host, port and what it opens; none if there is no rule.
fn the_rule(text: &str) -> Option<(Scheme, String, String, Vec<IpNet>)> {
    let policies = config::load_str("s.yaml", text, |_| Ok(Vec::new())).expect(text).config.policies;
    let rule = policies.rules().next()?;
    let parsed = RuleText::parse(rule.text()).expect("checked");
    let scheme = parsed.scheme.unwrap_or(Scheme::Https);
    let port = parsed
        .ports
        .map_or_else(|| scheme.default_port().expect("one").to_string(), |ports| ports.to_string());
    let private = rule.options().map(|options| options.private.clone()).unwrap_or_default();
    Some((scheme, parsed.host.to_string(), port, private))
}

#[test]
fn the_status_page_offers_the_same_rule() {
    let hosts = [
        "a.example",
        "gitlab",
        "a.svc",
        "a.b.svc.cluster.local",
        "printer.local",
        "localhost",
        "vm.ec2.internal",
        "metadata.google.internal",
        "8.8.8.8",
        "10.1.2.3",
        "[fd00::5]",
        "[2606:4700::1]",
        "[2002:a01:203::]",
        "[::ffff:10.1.2.3]",
        "169.254.170.2",
        "[fd00:ec2::23]",
        "127.0.0.1",
        "[::1]",
        "0.0.0.0",
        "224.0.0.1",
    ];
    let policies = "policies: [{name: p, allow: [listed.example]}]";
    let policies =
        config::load_str("s.yaml", policies, |_| Ok(Vec::new())).expect("it loads").config.policies;
    let (mut rules, mut none) = (0, 0);
    for host in hosts {
        for port in [22, 25, 80, 443, 873, 3306, 5432, 6379, 8080, 8443, 9999] {
            for (method, asked, target) in [
                ("CONNECT", format!("{host}:{port}"), Target::connect(&format!("{host}:{port}"))),
                ("GET", format!("http://{host}:{port}/x"), Target::http(&format!("{host}:{port}"))),
            ] {
                let target = target.expect(host);
                let reason = Reason::HostNotAllowed;
                let denied = Denied {
                    policy: Some("p"),
                    reason,
                    target: &target,
                    inside: Inside::Unknown,
                    request: None,
                };
                let line = policies.remedy(denied, Timestamp::UNIX_EPOCH).line();
                let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed""#;
                let text = suggested(&line_of(method, &asked, deny), true);
                let page = line.and_then(|line| {
                    the_rule(&format!("policies:\n  - name: p\n    allow:\n      {line}\n"))
                });
                assert_eq!(page, the_rule(&text), "{method} {asked}: {text}");
                *(if page.is_some() { &mut rules } else { &mut none }) += 1;
            }
        }
    }
    assert!(rules > 100 && none > 100, "{rules} {none}");
}

fn line_of(method: &str, asked: &str, rest: &str) -> String {
    line(1, "10.0.0.1", (method, asked), rest)
}

#[test]
fn the_scheme_of_a_denied_tunnel_is_that_of_its_port_or_of_what_it_carried() {
    let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed""#;
    let not_tls = r#""event":"deny","decision":"deny","reason":"not_tls","rule":"b.example:8443""#;
    let of = |target, rest| line(1, "10.0.0.1", ("CONNECT", target), rest);
    let log = of("a.example:80", deny)
        + &of("a.example:873", deny)
        + &of("a.example:8443", deny)
        + &of("b.example:8443", not_tls)
        + &of("c.example:443", &not_tls.replace("b.example:8443", "c.example"))
        + &passed(1, "10.0.0.1", "c.example");
    let text = suggested(&log, true);
    for rule in ["http://a.example", "tcp://a.example:873", "https://a.example:8443", "c.example"] {
        assert!(text.contains(&format!("- \"{rule}\" #")), "{rule}: {text}");
    }
    assert!(text.contains("- {to: \"tcp://b.example:8443\", description: \"tunnels to it"), "{text}");
    assert!(
        !text.contains("tcp://c.example"),
        "a client that sends something else does not widen it: {text}"
    );
}

#[test]
fn only_the_clients_in_the_log_are_allowed() {
    let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed""#;
    let log = passed(1, "203.0.113.7", "a.example")
        + &passed(1, "10.0.0.1", "a.example")
        + &line(2, "192.0.2.9", ("CONNECT", "b.example:443"), deny);
    let text = suggested(&log, false);
    assert!(text.contains("clients: {networks: [\"10.0.0.1/32\", \"203.0.113.7/32\"]}"), "{text}");
    assert!(suggested(&log, true).contains("\"192.0.2.9/32\""));
    let nobody = log.replace("\"client\":\"", "\"nobody\":\"");
    assert_ne!(nobody, log);
    let text = suggested(&nobody, true);
    assert!(!text.contains("clients: {") && text.contains("the log names no client"), "{text}");
}

#[test]
fn an_opaque_tunnel_is_warned_of_if_no_rule_let_it_through() {
    let would = r#""event":"open","decision":"would_deny","reason":"host_not_allowed","sni":null"#;
    let passes = r#""event":"open","decision":"allow","rule":"tcp://git.example:22","sni":null"#;
    let log = line(1, "10.0.0.1", ("CONNECT", "new.example:443"), would)
        + &line(1, "10.0.0.1", ("CONNECT", "git.example:22"), passes);
    let text = suggested(&log, true);
    let before = |rule: &str| {
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.contains(rule)).expect(rule);
        lines[at - 1].contains("CAREFUL")
    };
    assert!(before("- {to: \"tcp://new.example:443\""), "{text}");
    assert!(!before("- \"tcp://git.example:22\""), "{text}");
}

#[test]
fn what_is_kept_is_bounded_and_a_flood_of_denials_displaces_nothing() {
    let mut suggestion = Suggestion::new(false);
    let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed""#;
    for number in 0..MOST {
        let text = line(1, "10.0.0.9", ("CONNECT", &format!("n{number}.evil.example:443")), deny);
        suggestion.add(&Entry::parse(text.trim().as_bytes()).expect("a record"));
    }
    let text = passed(2, "10.0.0.1", "good.example");
    suggestion.add(&Entry::parse(text.trim().as_bytes()).expect("a record"));
    assert_eq!(suggestion.seen.len(), MOST / 2 + 1);
    let text = suggestion.to_yaml(false);
    assert!(text.contains("- \"good.example\""));
    assert!(text.contains("# INCOMPLETE: the log has more clients or more distinct targets of them than are kept; of the requests beyond, 0 were let through, 0 would be denied, 50000 were denied"));
}

#[test]
fn no_rule_for_an_address_is_the_answer_where_the_client_showed_the_name() {
    let would = r#""event":"open","decision":"would_deny","reason":"host_not_allowed","sni":"git.example""#;
    let mismatch =
        r#""event":"deny","decision":"deny","reason":"sni_mismatch","sni":"git.example","sent":null"#;
    let silent = would.replace("\"git.example\"", "null");
    let log = [
        line(1, "10.0.0.1", ("CONNECT", "203.0.113.7:443"), would),
        line(1, "10.0.0.1", ("CONNECT", "203.0.113.8:443"), mismatch),
        line(1, "10.0.0.1", ("CONNECT", "203.0.113.9:443"), &silent),
    ]
    .concat();
    let text = suggested(&log, true);
    let rules: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("- {to")).collect();
    assert!(matches!(rules[..], [rule] if rule.contains("tcp://203.0.113.9:443")), "{text}");
    assert!(text.contains("2x sni_mismatch") && text.contains("it looked the name up itself"), "{text}");
}

#[test]
fn no_value_of_a_log_gets_out_of_its_comment() {
    let hostile = [
        r#""event":"deny","decision":"deny","reason":"x\n- evil.example""#,
        r#""event":"deny","decision":"deny","reason":"host_not_allowed","rule":"a\nb""#,
        r#""event":"open","decision":"would_deny","reason":"host_not_allowed","sni":"a\nallow: x""#,
    ];
    let log: String = hostile
        .iter()
        .flat_map(|rest| {
            ["a.example:443", r"a\n- b:443", r"a\u000a- b:443", "# x:1"]
                .map(|target| line(1, "10.0.0.1", ("CONNECT", target), rest))
        })
        .collect();
    let text = suggested(&log, true);
    let rules: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("- \"")).collect();
    assert_eq!(rules.len(), 1, "{text}");
    assert!(rules.iter().all(|rule| rule.starts_with("      - \"a.example\" # ")), "{text}");
}

/// A request: what was asked, and how it ended.
fn any_request() -> impl Strategy<Value = (Kind, &'static str, String, u16, u8)> {
    let host = prop_oneof![
        prop::sample::select(vec![
            "a.example",
            "b.example",
            "a.b.example",
            "x.s3.amazonaws.com",
            "com.example",
            "null.example"
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,3}(-[a-z0-9]{1,3})?\\.(example|test\\.example|co\\.uk)",
        Just("203.0.113.9".to_owned()),
        Just("[2606:2800::1]".to_owned()),
    ];
    let kind = prop::sample::select(vec![Kind::Passed, Kind::WouldDeny, Kind::Denied]);
    // `carried`: a tunnel that an http rule carries.
    let method = prop::sample::select(vec!["https", "tcp", "http", "carried"]);
    (kind, method, host, prop::sample::select(vec![80_u16, 443, 8080, 8443, 8444]), 1..5_u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `check` accepts it, and it allows what was seen, and nothing else.
    #[test]
    fn it_allows_what_was_seen_and_nothing_else(requests in proptest::collection::vec(any_request(), 0..30)) {
        let mut log = String::new();
        for (kind, scheme, host, port, client) in &requests {
            let is_name = host.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
            // A tunnel to an address has no server name.
            let scheme = if *scheme == "https" && !is_name { "tcp" } else { scheme };
            let by = if scheme == "carried" { "http" } else { scheme };
            let sni = if scheme == "https" { format!("\"{host}\"") } else { "null".to_owned() };
            let (method, target) = match scheme {
                "http" => ("GET", format!("http://{host}:{port}/x")),
                _ => ("CONNECT", format!("{host}:{port}")),
            };
            let event = match (kind, scheme) {
                (Kind::Denied, _) => "deny",
                (_, "http") => "http",
                _ => "open",
            };
            let decision = match kind {
                Kind::Passed => r#""allow","reason":null"#,
                Kind::WouldDeny => r#""would_deny","reason":"host_not_allowed""#,
                Kind::Denied => r#""deny","reason":"host_not_allowed""#,
            };
            let rule = if *kind == Kind::Passed { format!("\"{by}://{host}:{port}\"") } else { "null".to_owned() };
            let rest = format!(r#""event":"{event}","decision":{decision},"rule":{rule},"sni":{sni},"sent":null"#);
            log += &line(1, &format!("10.0.0.{client}"), (method, &target), &rest);
        }
        let text = suggested(&log, true);
        let policies = config::load_str("s.yaml", &text, |_| Ok(Vec::new())).expect("checked").config.policies;
        let now = Timestamp::UNIX_EPOCH;
        let client = |last: u8| Client::direct(SocketAddr::from(([10, 0, 0, last], 1)));
        let other_client = Client::direct(SocketAddr::from(([10, 0, 1, 1], 1)));
        let target = |scheme: &str, host: &str, port: u16| match scheme {
            "http" => Target::http(&format!("{host}:{port}")),
            _ => Target::connect(&format!("{host}:{port}")),
        }.expect("a target");
        for (_, scheme, host, port, last) in &requests {
            let decision = policies.decide(&target(scheme, host, *port), &client(*last), now);
            prop_assert!(decision.is_ok(), "{scheme} {host}:{port} {:?}\n{text}", decision.err());
            prop_assert!(policies.decide(&target(scheme, host, *port), &other_client, now).is_err(), "{text}");
        }
        let client = client(requests.first().map_or(1, |(.., last)| *last));
        for (host, port) in [("other.example", 443), ("example", 443), ("y.s3.amazonaws.com", 443), ("a.example", 81), ("203.0.113.8", 443)] {
            for scheme in ["https", "http"] {
                prop_assert!(policies.decide(&target(scheme, host, port), &client, now).is_err(), "{text}");
            }
        }
        for (_, scheme, host, port, _) in &requests {
            // The same host, requested in the way that was not seen.
            let other = if *scheme == "http" { "https" } else { "http" };
            let seen = requests.iter().any(|(_, s, h, p, _)| (*s == "http") == (other == "http") && h == host && p == port);
            match policies.decide(&target(other, host, *port), &client, now) {
                _ if seen => {}
                Err(_) => {}
                // An http rule carries plain requests inside a tunnel too, and is what a tunnel of them needs.
                Ok(permit) => prop_assert!(permit.scheme == Scheme::Http, "{other} {host}:{port}\n{text}"),
            }
        }
    }
}
