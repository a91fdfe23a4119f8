//! The suggested rules leave no question that the log has answered: `check --strict` asks of none of them what it is for.

use proptest::prelude::*;

use super::tests::{line, suggested};
use super::*;
use crate::config;

const OPAQUE: &str = r#""event":"open","decision":"allow","rule":"tcp://*.example:1-65535","sni":null"#;
const NOT_TLS: &str = r#""event":"deny","decision":"deny","reason":"not_tls","rule":"HOST:PORT""#;
const REPORTED: &str =
    r#""event":"open","decision":"would_deny","mode":"report","reason":"host_not_allowed","sni":null"#;
/// How tunnels end for which a `tcp` rule may be written, and others to the same hosts.
const ENDS: &[&str] = &[
    OPAQUE,
    NOT_TLS,
    REPORTED,
    r#""event":"open","decision":"allow","rule":"tcp://HOST:PORT","sni":null,"upstream":"10.7.0.1:PORT""#,
    // A line of a file with `schemes: [tcp]`.
    r#""event":"open","decision":"allow","rule":"HOST:PORT","sni":null"#,
    r#""event":"open","decision":"allow","rule":"HOST:PORT","sni":"HOST""#,
    r#""event":"deny","decision":"deny","reason":"client_hello_timeout","rule":"HOST:PORT""#,
    r#""event":"open","decision":"would_deny","mode":"report","reason":"not_tls","rule":"HOST:PORT","sni":null"#,
    r#""event":"open","decision":"would_deny","mode":"report","reason":"host_not_allowed","sni":"HOST""#,
    r#""event":"deny","decision":"deny","reason":"host_not_allowed""#,
];
/// Hosts under which others have theirs, or everybody's buckets are: no words excuse a tunnel to one.
const SHARED: &[&str] = &["d111111abcdef8.cloudfront.net", "s3.eu-west-1.amazonaws.com"];

fn tunnel(client: &str, host: &str, port: u16, end: &str) -> String {
    let end = end.replace("HOST", host).replace("PORT", &port.to_string());
    line(1, client, ("CONNECT", &format!("{host}:{port}")), &end)
}

#[test]
fn a_tcp_rule_where_tls_is_usual_says_what_was_seen() {
    let of = |host, port, end| tunnel("10.0.0.1", host, port, end);
    let log = of("asked.example", 443, OPAQUE)
        + &of("range.example", 992, OPAQUE)
        + &of("range.example", 993, OPAQUE)
        + &of("wide.example", 8442, OPAQUE)
        + &of("wide.example", 8443, OPAQUE)
        + &of("ssh.example", 443, OPAQUE)
        + &of("refused.example", 8443, NOT_TLS)
        + &of("reported.example", 443, REPORTED)
        + &of("52.94.0.9", 443, OPAQUE);
    let text = suggested(&log, true);
    let (asked, shown) = (
        "a rule that asks for no TLS let it through: what its tunnels carry is not in the log",
        "tunnels to it were seen that showed no TLS for its name",
    );
    for (rule, words) in [
        ("tcp://asked.example:443", Some(asked)),
        ("tcp://range.example:992-993", Some(asked)),
        ("tcp://wide.example:8442-8443", None),
        ("tcp://ssh.example:443", None),
        ("tcp://refused.example:8443", Some(shown)),
        ("tcp://reported.example:443", Some(shown)),
        ("tcp://52.94.0.9:443", None),
    ] {
        let want = match words {
            Some(words) => format!("- {{to: \"{rule}\", description: \"{words}\"}} #"),
            None => format!("- \"{rule}\" #"),
        };
        assert!(text.contains(&want), "{want}\n{text}");
    }
    assert!(opaque(&text).is_empty(), "{text}");
}

/// What `check` says of `tcp` rules on ports of TLS, and whether no words of a rule could help.
fn opaque(text: &str) -> Vec<(String, bool)> {
    let loaded = config::load_str("s.yaml", text, |_| Ok(Vec::new())).expect("checked");
    let policies = loaded.config.policies;
    let warnings = loaded.warnings.into_iter();
    let warnings = warnings.filter(|finding| finding.text.contains("looks at nothing that passes"));
    let of_rule = |finding: config::Finding| {
        let rule = policies.rules().find(|rule| rule.line() == finding.line).expect("its rule");
        let host = rule.canonical_host();
        let has_tls = rule
            .policy()
            .rules()
            .any(|other| other.canonical_host() == host && other.schemes().contains(Scheme::Https));
        (finding.text, has_tls || SHARED.contains(&host))
    };
    warnings.map(of_rule).collect()
}

proptest! {
    #[test]
    fn whatever_was_seen_check_asks_for_no_words_about_what_is_suggested(
        // Fewer than the warnings of one kind that are told one by one.
        seen in prop::collection::vec(
            (
                prop::sample::select(vec!["10.0.0.1", "10.0.0.2"]),
                prop_oneof![
                    6 => prop::sample::select(vec!["a.example", "b.example", "ssh.example", "52.94.0.9"]),
                    1 => prop::sample::select(SHARED),
                ],
                prop::sample::select(vec![22_u16, 80, 443, 465, 992, 993, 994, 5671, 8442, 8443, 9999]),
                prop::sample::select(ENDS),
            ),
            1..16,
        ),
        denied in any::<bool>(),
    ) {
        let log: String =
            seen.iter().map(|(client, host, port, end)| tunnel(client, host, *port, end)).collect();
        let text = suggested(&log, denied);
        for (warning, is_beyond_words) in opaque(&text) {
            prop_assert!(is_beyond_words && !warning.contains("`description`"), "{warning}\n{text}");
        }
    }
}
