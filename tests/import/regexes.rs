//! Regular expressions of `dstdom_regex` as people write them, asked of `grep -E` and of the configuration that is imported: nothing
//! passes that grep does not find, and where nothing is said of it, the two agree on every name.
//!
//! grep and Squid match with the same library.

use std::io::Write as _;
use std::process::{Command, Stdio};

use egressd::commands::import::squid::{self, Choices, Files, NoteKind};
use egressd::config;
use egressd::words::client::Client;
use egressd::words::target::Target;
use proptest::prelude::*;
use proptest::sample::select;

/// What stands before the name.
const BEFORE: &[&str] = &[
    "",
    "^",
    r"\.",
    r"(^|\.)",
    r"(\.|^)",
    "[.]",
    r"^(.*\.)?",
    r"^(.+\.)?",
    r"^(.*\.|)",
    r"^(.*[.])?",
    r"^([^.]+\.)*",
    r"^([^.]+\.)+",
    r"^([a-z0-9_-]+\.)*",
    r"^([a-z0-9-]+\.)*",
    r"^([A-Za-z0-9_-]+\.)+",
    r"^.*\.",
    r"^.+\.",
    r".*\.",
    "^.*",
    ".*",
    r"^(www\.)?",
    r"^(www|api)\.",
    r"^(www\.|api\.)?",
    r"^w{3}\.",
    r"^[^.]+\.",
    r"^[a-z]+\.",
    r"^(.*\.)?(www|api)\.",
];
const NAMES: &[&str] = &[
    r"example\.com",
    "example.com",
    r"example[.]com",
    r"EXAMPLE\.com",
    r"example\.(com|org)",
    r"(example|sample)\.com",
    r"b\.example\.com",
    r"(a|b)\.example\.(com|org)",
    r"exa?mple\.com",
    r"[es]xample\.com",
    "com",
];
/// What stands behind it.
const AFTER: &[&str] = &["$", "$", "$", "", r"\.?$", "(:[0-9]+)?$", ".*", ".*$", r"(\.|$)"];

const LABELS: &[&str] = &[
    "www",
    "api",
    "a",
    "b",
    "example",
    "sample",
    "evilexample",
    "com",
    "org",
    "test",
    "comb",
    "x_y",
    "1",
    "wwww",
    "exmple",
    "xxample",
    "www-example",
    "acom",
];

fn names() -> impl Strategy<Value = Vec<String>> {
    let near = prop::sample::select(vec!["example.com", "example.org", "sample.com", "b.example.com", "com"]);
    let labels = proptest::collection::vec(select(LABELS), 0..4);
    let name = (labels, near, proptest::collection::vec(select(LABELS), 0..2), any::<bool>()).prop_map(
        |(before, near, after, near_too)| {
            let near = if near_too { vec![near] } else { Vec::new() };
            let labels: Vec<&str> = before.into_iter().chain(near).chain(after).collect();
            labels.join(".")
        },
    );
    proptest::collection::vec(name, 60)
}

/// Which of these lines the pattern fits.
fn grep(pattern: &str, folded: bool, lines: &[String]) -> Vec<bool> {
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").arg(if folded { "-niE" } else { "-nE" }).arg("-e").arg(pattern);
    let mut grep = grep.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("grep is there");
    let mut to = grep.stdin.take().expect("piped");
    to.write_all(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())
        .expect("it reads");
    drop(to);
    let output = grep.wait_with_output().expect("it ends");
    assert!(output.status.code().is_some_and(|code| code < 2), "grep takes {pattern}");
    let mut found = vec![false; lines.len()];
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let number: usize = line.split(':').next().and_then(|number| number.parse().ok()).expect("a number");
        found[number - 1] = true;
    }
    found
}

/// Whether these names pass, and what was said of that fewer do.
fn imported(rules: &str, pattern: &str, folded: bool, names: &[String]) -> (Vec<bool>, Vec<String>) {
    let option = if folded { "-i " } else { "" };
    let text = format!("acl r dstdom_regex -n {option}{pattern}\n{rules}\nhttp_access deny all\n");
    let maps = serde_json::json!({"kind": "ConfigMap", "data": {"squid.conf": text}});
    let (files, main) = Files::in_config_maps(&maps.to_string()).expect("ConfigMaps");
    let imported = squid::squid(&files, &main, Choices::default()).expect("imported");
    let config =
        config::load_str("egressd.yaml", &imported.yaml, |path| std::fs::read(path)).expect("loads").config;
    let passes = |name: &String| {
        let target = Target::connect(&format!("{name}:443")).expect("a target");
        let client = Client::direct(([10, 0, 0, 1], 4711).into());
        config.policies.decide(&target, &client, jiff::Timestamp::now()).is_ok()
    };
    let told = imported.notes.iter().filter(|note| matches!(note.kind, NoteKind::Stricter | NoteKind::Lost));
    (names.iter().map(passes).collect(), told.map(|note| note.text.clone()).collect())
}

fn is_name(name: &str) -> bool {
    Target::connect(&format!("{name}:443")).is_ok_and(|target| target.host.to_string() == *name)
        && name.parse::<std::net::IpAddr>().is_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::property_cases(60)))]

    #[test]
    fn a_regex_lets_through_what_grep_finds_or_less_and_says_so(
        before in select(BEFORE),
        name in select(NAMES),
        after in select(AFTER),
        folded in any::<bool>(),
        names in names(),
    ) {
        let pattern = format!("{before}{name}{after}");
        let names: Vec<String> = names.into_iter().filter(|name| is_name(name)).collect();
        let found = grep(&pattern, folded, &names);
        let (passes, told) = imported("http_access allow r", &pattern, folded, &names);
        for ((name, found), passes) in names.iter().zip(&found).zip(&passes) {
            prop_assert!(*found || !passes, "wider: {name} by {pattern}");
            prop_assert!(!told.is_empty() || found == passes, "{name} by {pattern}: not told");
        }
        // The example of what it finds beyond the names in it is one.
        let examples: Vec<String> = told
            .iter()
            .filter_map(|text| Some(text.split_once("such as `")?.1.split_once('`')?.0.to_owned()))
            .collect();
        prop_assert!(!grep(&pattern, folded, &examples).contains(&false), "{examples:?} by {pattern}");
        // The other way round: what it finds is denied.
        let deny = "acl some dstdomain -n .example.com .sample.com .b.example.org www.example.org\nhttp_access deny r\nhttp_access allow some";
        let (passes, told) = imported(deny, &pattern, folded, &names);
        for ((name, found), passes) in names.iter().zip(&found).zip(&passes) {
            let under = |suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            let some = ["example.com", "sample.com", "b.example.org"].into_iter().any(under) || name == "www.example.org";
            prop_assert!(!(*found && *passes), "wider: {name} passes a deny by {pattern}");
            prop_assert!(!told.is_empty() || *passes == (some && !found), "{name} by a deny by {pattern}: not told");
        }
    }
}

/// What fits nothing but names that rules can say becomes those rules, and there is nothing to tell.
#[test]
fn a_regex_that_a_narrower_pattern_would_do_is_exact() {
    let rows: &[(&str, &[&str])] = &[
        (r"^www\.example\.com$", &["www.example.com"]),
        (r"\.example\.com$", &["*.example.com"]),
        (r"(^|\.)example\.com$", &[".example.com"]),
        (r"(\.|^)example\.com$", &[".example.com"]),
        (r"^(.*\.)?example\.com$", &[".example.com"]),
        (r"^(.+\.)?example\.com$", &[".example.com"]),
        (r"^(.*\.|)example\.com$", &[".example.com"]),
        (r"^([^.]+\.)*example\.com$", &[".example.com"]),
        (r"^([a-z0-9_-]+\.)*example\.com$", &[".example.com"]),
        (r"^([^.]+\.)+example\.com$", &["*.example.com"]),
        (r"^.*\.example\.com$", &["*.example.com"]),
        (r".+\.example\.com$", &["*.example.com"]),
        (r"(^|\.)example\.com\.?$", &[".example.com"]),
        (r"(^|\.)example\.com(:[0-9]+)?$", &[".example.com"]),
        (r"(^|[.])example[.]com$", &[".example.com"]),
        (r"(^|\.)(example|sample)\.com$", &[".example.com", ".sample.com"]),
        (r"^(www\.)?example\.com$", &["example.com", "www.example.com"]),
        (r"^(www|api)\.example\.com$", &["api.example.com", "www.example.com"]),
        (r"^(www\.|api\.)?example\.com$", &["api.example.com", "example.com", "www.example.com"]),
        (r"^w{3}\.example\.(com|org)$", &["www.example.com", "www.example.org"]),
        (r"^(.*\.)?(www|api)\.example\.com$", &[".api.example.com", ".www.example.com"]),
    ];
    for (pattern, want) in rows {
        let text = format!(
            "acl r dstdom_regex -n {pattern}\nacl tls port 443\nacl CONNECT method CONNECT\nhttp_access allow CONNECT tls r\nhttp_access deny all\n"
        );
        let maps = serde_json::json!({"kind": "ConfigMap", "data": {"squid.conf": text}});
        let (files, main) = Files::in_config_maps(&maps.to_string()).expect("ConfigMaps");
        let imported = squid::squid(&files, &main, Choices::default()).expect("imported");
        let rules: Vec<&str> = imported
            .yaml
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("- "))
            .filter(|rule| !rule.starts_with("name:"))
            .map(|rule| rule.trim_matches('"'))
            .collect();
        assert_eq!(rules, *want, "{pattern}\n{}", imported.yaml);
        let told: Vec<String> = imported
            .notes
            .iter()
            .filter(|note| !matches!(note.kind, NoteKind::Differs | NoteKind::Advice))
            .map(ToString::to_string)
            .collect();
        assert!(told.is_empty(), "{pattern}: {told:?}");
    }
}
