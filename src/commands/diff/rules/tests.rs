use super::*;
use crate::config;

fn diff(old: &str, new: &str) -> Vec<String> {
    let load = |name: &str, text: &str| {
        config::load_str(name, text, |_| Ok(Vec::new()))
            .unwrap_or_else(|findings| panic!("{findings:?}"))
            .config
    };
    let (old, new) = (load("old", old), load("new", new));
    let mut told = Vec::new();
    compare(&old.policies, &new.policies, |change| told.push(change.to_string()));
    told
}

/// One policy with these rules under `allow`.
fn rules(old: &str, new: &str) -> Vec<String> {
    let policy = |rules: &str| format!("policies: [{{name: p, allow: [{rules}]}}]\n");
    diff(&policy(old), &policy(new))
}

#[test]
fn a_rule_is_the_same_in_any_spelling_and_place() {
    let rows = [
        ("a.example, b.example", "b.example, A.example."),
        ("a.example", "https://a.example:443"),
        ("http://a.example", "http://a.example:80"),
        ("a.example, a.example:8443", "a.example:8443, a.example"),
        ("{to: a.example}", "a.example"),
    ];
    for (old, new) in rows {
        assert_eq!(rules(old, new), Vec::<String>::new(), "{old} | {new}");
    }
}

#[test]
fn each_change_of_a_rule_says_which_way_it_goes() {
    let rows = [
        ("a.example", "a.example, b.example", "+ wider: p: added: allow `b.example` (new:1)"),
        ("a.example, b.example", "a.example", "- p: gone: allow `b.example` (old:1)"),
        (
            "a.example",
            "a.example:443-8443",
            "~ wider: p: widened: allow `a.example:443-8443` (new:1): ports 443 → 443-8443",
        ),
        ("a.example:443-8443", "a.example", "~ p: narrowed: allow `a.example` (new:1): ports 443-8443 → 443"),
        (
            "a.example",
            "a.example:8443",
            "~ wider: p: changed: allow `a.example:8443` (new:1): ports 443 → 8443",
        ),
        (
            "a.example",
            "{to: a.example, expires: 2099-01-01}",
            "~ p: narrowed: allow `a.example` (new:1): expires none → 2099-01-01T00:00:00Z",
        ),
        (
            "{to: a.example, expires: 2098-01-01}",
            "{to: a.example, expires: 2099-01-01}",
            "~ wider: p: widened: allow `a.example` (new:1): expires 2098-01-01T00:00:00Z → 2099-01-01T00:00:00Z",
        ),
        (
            "{to: a.example, upload_limit: 1KiB}",
            "a.example",
            "~ wider: p: widened: allow `a.example` (new:1): upload_limit 1KiB → none",
        ),
        (
            "a.example",
            "{to: a.example, private: [10.0.0.0/8]}",
            "~ wider: p: widened: allow `a.example` (new:1): private +10.0.0.0/8",
        ),
        (
            "{to: a.example, expires: 2099-01-01}",
            "{to: a.example, upload_limit: 1KiB}",
            "~ wider: p: changed: allow `a.example` (new:1): expires 2099-01-01T00:00:00Z → none; upload_limit none → 1KiB",
        ),
        ("a.example", "{to: a.example, owner: me}", "~ p: noted: allow `a.example` (new:1): owner none → me"),
        (
            "tcp://a.example:443",
            "a.example",
            "~ wider?: p: changed: allow `a.example` (new:1): scheme +https; scheme -tcp",
        ),
    ];
    for (old, new, want) in rows {
        assert_eq!(rules(old, new), [want], "{old} | {new}");
    }
}

/// The files are compared by what they list: the same network in `networks` and in a file is no change.
#[test]
fn what_files_list_is_compared() {
    let diff = |old: (&str, &str), new: (&str, &str)| {
        let load = |(clients, list): (&str, &str)| {
            let text = format!(
                "policies: [{{name: p, clients: {{{clients}}}, allow: [a.example], deny_files: [blocked]}}]"
            );
            let read = |path: &std::path::Path| match path.to_str() {
                Some("offices") => Ok(list.as_bytes().to_vec()),
                _ => Ok(format!("{}\n", if list.contains("192") { "x.example" } else { "y.example" })
                    .into_bytes()),
            };
            config::load_str("c.yaml", &text, read).unwrap_or_else(|findings| panic!("{findings:?}")).config
        };
        let (old, new) = (load(old), load(new));
        let mut told = Vec::new();
        compare(&old.policies, &new.policies, |change| told.push(change.to_string()));
        told
    };
    let files = "networks_files: [offices]";
    assert_eq!(diff((files, "10.0.0.0/8\n"), ("networks: [10.0.0.0/8]", "")), [""; 0]);
    assert_eq!(
        diff((files, "10.0.0.0/8\n"), (files, "# now\n10.0.0.0/9\n192.0.2.7\n")),
        [
            "~ wider: p: changed: the policy: clients.networks +10.0.0.0/9; clients.networks +192.0.2.7/32; clients.networks \
             -10.0.0.0/8",
            "+ p: added: deny `x.example` (blocked:1)",
            "- wider: p: gone: deny `y.example` (blocked:1)",
        ]
    );
}

#[test]
fn policies_are_compared_by_name_and_their_order_counts() {
    let old = "policies:\n  - {name: a, clients: {networks: [10.0.0.0/9]}, allow: [a.example], deny: [x.example]}\n  \
               - {name: b, clients: {networks: [10.128.0.0/9]}, allow: [b.example]}\n  - {name: c, allow: [c.example]}\n";
    let new = "policies:\n  - {name: b, clients: {networks: [10.128.0.0/9]}, mode: report, allow: [b.example]}\n  - \
               {name: a, clients: {networks: [10.0.0.0/10]}, private: [10.9.0.0/16], allow: [a.example]}\n  - {name: \
               d, allow: []}\n";
    assert_eq!(
        diff(old, new),
        [
            "- c: gone: the policy (enforce, 1 rule)",
            "- c: gone: allow `c.example` (old:4)",
            "~ wider: b: widened: the policy: mode enforce → report",
            "~ wider: a: changed: the policy: clients.networks +10.0.0.0/10; clients.networks -10.0.0.0/9; private \
             +10.9.0.0/16",
            "- wider: a: gone: deny `x.example` (old:2)",
            "+ d: added: the policy (enforce, 0 rules)",
            "~ policies: changed: their order (the first policy that matches a client decides): a, b → b, a",
        ]
    );
}

/// A policy with another name is the same policy: what is told is the name, and what else was edited.
#[test]
fn another_name_alone_opens_nothing() {
    let old = "policies:\n  - {name: a, clients: {networks: [10.0.0.0/9]}, allow: [a.example, b.example], deny: [x.example]}\n  \
               - {name: b, clients: {networks: [10.128.0.0/9]}, allow: [c.example]}\n";
    assert_eq!(
        diff(old, &old.replace("name: a", "name: gitaly")),
        ["~ gitaly: noted: the policy: name a → gitaly"]
    );
    assert_eq!(
        diff(old, &old.replace("name: a", "name: gitaly").replace("name: b", "name: ci")),
        ["~ gitaly: noted: the policy: name a → gitaly", "~ ci: noted: the policy: name b → ci"]
    );
    // What else is edited is told as in a policy that has its name still.
    let edited = old.replace("[a.example, b.example]", "[a.example, b.example, new.example]");
    assert_eq!(
        diff(old, &edited.replace("name: a", "name: gitaly")),
        [
            "~ gitaly: noted: the policy: name a → gitaly",
            "+ wider: gitaly: added: allow `new.example` (new:2)",
        ]
    );
    assert_eq!(
        diff(old, &old.replace("name: a", "name: gitaly").replace(", deny: [x.example]", "")),
        ["~ gitaly: noted: the policy: name a → gitaly", "- wider: a: gone: deny `x.example` (old:2)",]
    );
    // For other clients, or with other rules, it is another policy.
    for edited in
        [old.replace("10.0.0.0/9", "10.0.0.0/8"), old.replace("a.example, b.example", "y.example, z.example")]
    {
        let told = diff(old, &edited.replace("name: a", "name: gitaly"));
        assert!(told.iter().any(|line| line.starts_with("+ wider: gitaly: added: the policy")), "{told:#?}");
    }
    // Two that were alike have another order now, by whichever name.
    let alike = "policies:\n  - {name: a, clients: {networks: [10.0.0.0/8]}, allow: [a.example]}\n  \
                 - {name: b, clients: {networks: [10.0.0.0/9]}, allow: [b.example]}\n";
    let lines: Vec<&str> = alike.lines().collect();
    let swapped = format!("{}\n{}\n{}\n", lines[0], lines[2].replace("name: b", "name: c"), lines[1]);
    let told = diff(alike, &swapped);
    assert!(told.contains(&"~ c: noted: the policy: name b → c".to_owned()), "{told:#?}");
    assert!(
        told.iter().any(|line| line.starts_with("~ wider?: policies: changed: their order")
            && line.ends_with("a, c → c, a"))
    );
    // What was sent is counted under the policy's name.
    let budget = "policies: [{name: a, allow: [{to: a.example, upload_budget: 1MiB/1h}]}]\n";
    assert_eq!(
        diff(budget, &budget.replace("name: a", "name: b")),
        ["~ wider?: b: changed: the policy: name a → b, so each `upload_budget` begins anew"]
    );
}
