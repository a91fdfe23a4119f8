//! That a suggestion keeps clients and policies apart, by example, and offers no rule that could not work.

use super::tests::{line, passed, suggested, suggested_with};
use super::*;

#[test]
fn no_client_gets_what_only_another_asked_for() {
    let of = |policy: &str, identity: &str, client: &str, host: &str| {
        passed(1, client, host)
            .replace("\"event\"", &format!(r#""policy":"{policy}","identity":{identity},"event""#))
    };
    let log = [
        of("gitaly", "null", "10.0.0.1", "a.example"),
        of("gitaly", "null", "10.0.0.2", "a.example"),
        of("gitaly", "null", "10.0.0.3", "b.example"),
        of("ci", "null", "10.0.0.4", "a.example"),
        of("ci", r#""user:x""#, "10.0.0.1", "c.example"),
        of("ci", r#""user:y""#, "10.0.0.1", "c.example"),
        of("ci", r#""user:z""#, "10.0.0.9", "c.example"),
        of("ci", r#""not an identity""#, "10.0.0.9", "d.example"),
    ]
    .concat();
    let text = suggested(&log, true);
    for policy in [
        "  - name: gitaly\n    clients: {networks: [\"10.0.0.1/32\", \"10.0.0.2/32\"]}\n    allow:\n      # let through by a rule\n      - \"a.example\"",
        "  - name: gitaly-2\n    clients: {networks: [\"10.0.0.3/32\"]}\n    allow:\n      # let through by a rule\n      - \"b.example\"",
        "  - name: ci-3\n    clients: {networks: [\"10.0.0.4/32\"]}\n",
        "  - name: ci\n    clients: {networks: [\"10.0.0.1/32\"], identities: [\"user:x\", \"user:y\"]}\n",
        "  - name: ci-2\n    clients: {networks: [\"10.0.0.9/32\"], identities: [\"user:z\"]}\n",
    ] {
        assert!(text.contains(policy), "{policy}\n{text}");
    }
    assert!(
        text.contains("# no rule can be written for clients that the log calls \"not an identity\"\n"),
        "{text}"
    );
    assert!(!text.contains("d.example"), "{text}");
    let near = suggested_with(Suggestion::new(true), &log, true);
    assert!(near.contains("clients: {networks: [\"10.0.0.0/24\"]}"), "{near}");
}

/// A client that was under two policies keeps what it had under both.
#[test]
fn a_client_of_several_policies_gets_one() {
    let of = |policy: &str, host: &str| {
        passed(1, "10.0.0.1", host).replace("\"event\"", &format!(r#""policy":"{policy}","event""#))
    };
    let text = suggested(&(of("old", "a.example") + &of("new \u{202e}", "b.example")), true);
    assert_eq!(text.matches("- name: ").count(), 1, "{text}");
    assert!(text.contains("under several policies: \"new \\U0000202E\", \"old\"\n"), "{text}");
    assert!(text.contains("\"a.example\"") && text.contains("\"b.example\""), "{text}");
}

#[test]
fn what_the_log_does_not_say_a_client_of_is_left_out_where_it_names_clients() {
    let nobody = passed(1, "10.0.0.1", "b.example").replace("\"client\"", "\"nobody\"");
    let text = suggested(&(passed(1, "10.0.0.1", "a.example") + &nobody), true);
    assert!(!text.contains("b.example"), "{text}");
    assert!(
        text.contains("# 1 request is left out, because the log does not say which client sent them"),
        "{text}"
    );
}

/// The text of a rule may name no scheme; then a file's `schemes` may have been any.
#[test]
fn the_scheme_of_a_rule_without_one_is_never_wider_than_it_may_have_been() {
    let open = |target: &str, rule: &str| {
        let rest = format!(r#""event":"open","decision":"allow","rule":"{rule}","sni":null"#);
        line(1, "10.0.0.1", ("CONNECT", target), &rest)
    };
    let inside = line(
        1,
        "10.0.0.1",
        ("GET", "http://plain.example:8080/x"),
        r#""tunnel":"t","event":"request","decision":"allow","status":200"#,
    );
    let log = [
        open("8.8.8.8:443", "8.8.8.8"),
        open("8.8.4.4:8443", "8.8.4.4:8443"),
        open("8.8.4.4:22", "8.8.4.0/24:22"),
        open("a.example:80", "a.example"),
        open("plain.example:8080", ".example:8080"),
        inside,
        open("git.example:9418", ".example:9418"),
    ];
    for log in [log.concat(), log.iter().rev().cloned().collect()] {
        let text = suggested(&log, true);
        for rule in [
            "\"8.8.8.8\"",
            "\"https://8.8.4.4:8443\"",
            "\"tcp://8.8.4.4:22\"",
            "\"http://a.example\"",
            "\"http://plain.example:8080\"",
            "\"tcp://git.example:9418\"",
        ] {
            assert!(text.contains(&format!("- {rule} #")), "{rule}: {text}");
        }
        assert!(!text.contains("CAREFUL"), "{text}");
    }
}

#[test]
fn no_rule_is_offered_for_a_name_that_dns_does_not_know_or_for_egressd_itself_whoever_asks() {
    let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed""#;
    let error = |reason: &str| {
        format!(r#""event":"error","decision":"allow","rule":"*.example","reason":"{reason}""#)
    };
    let of = |client: &str, target: &str, rest: &str| line(1, client, ("CONNECT", target), rest);
    let log = [
        of("10.0.0.1", "gone.example:443", &error("dns_no_such_name")),
        of("10.0.0.2", "gone.example:443", deny),
        of("10.0.0.1", "empty.example:443", &error("dns_no_address")),
        of("10.0.0.2", "empty.example:8443", deny),
        of("10.0.0.1", "10.0.0.5:3128", &error("loop")),
        of("10.0.0.2", "10.0.0.5:3128", deny),
        of("10.0.0.2", "10.0.0.5:22", deny),
        of("10.0.0.1", "flaps.example:443", &error("dns_no_such_name")),
        of("10.0.0.2", "flaps.example:443", deny),
        passed(1, "10.0.0.3", "flaps.example"),
    ];
    let text = suggested(&log.concat(), true);
    let rules: Vec<&str> = text.lines().filter(|line| line.starts_with("      - ")).collect();
    assert_eq!(rules.len(), 3, "{text}");
    assert_eq!(rules.iter().filter(|rule| rule.contains("\"flaps.example\"")).count(), 2, "{text}");
    assert!(rules.iter().any(|rule| rule.contains("tcp://10.0.0.5:22")), "another port: {text}");
    for told in
        ["#   gone.example: 2x from 10.0.0.1", "#   10.0.0.5: 2x from 10.0.0.1", "#   2x dns_no_address: "]
    {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn what_doctor_requested_is_not_suggested() {
    let deny = r#""event":"deny","decision":"deny","reason":"host_not_allowed""#;
    let log =
        line(1, "10.0.0.1", ("CONNECT", &format!("{PROBE}:443")), deny) + &passed(2, "10.0.0.2", "a.example");
    let text = suggested(&log, true);
    assert!(!text.contains(PROBE) && text.contains("#   1x doctor: "), "{text}");
    assert!(!text.contains("10.0.0.1/32"), "{text}");
    // Nor its allowed target, unless another asked for it.
    let doctor =
        |line: String| line.replace("\"event\"", "\"user_agent\":\"egressd-doctor/0.1.0\",\"event\"");
    let closed = r#""event":"deny","decision":"deny","reason":"sni_mismatch","sent":300"#;
    let log = doctor(passed(1, "10.0.0.1", "a.example"))
        + &doctor(line(1, "10.0.0.1", ("CONNECT", "a.example:443"), closed))
        + &doctor(line(1, "10.0.0.1", ("CONNECT", "b.example:443"), deny));
    let text = suggested(&log, true);
    assert!(text.contains("allow: []") && text.contains("#   3x doctor: "), "{text}");
    let text = suggested(&(log + &passed(2, "10.0.0.1", "a.example")), true);
    assert!(text.contains("- \"a.example\" # 1 let through;") && !text.contains("- \"b.example"), "{text}");
}
