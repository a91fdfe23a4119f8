//! A reviewer's afternoon: twenty edits of one configuration. `check --strict` and `diff --fail-on wider` together stop the ten that
//! are dangerous, and none of the others.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const BEFORE: &str = "\
listeners:
  - name: proxy
    address: 10.0.0.5:3128
admin: {address: 10.0.0.5:9180, networks: [10.0.0.0/16]}
policies:
  - name: gitaly
    clients: {networks: [10.0.1.0/24]}
    allow:
      - to: git-codecommit.eu-central-1.amazonaws.com
        name: codecommit
        owner: platform@example.com
        upload_limit: 5GiB
      - packages.example.org
      - wheels.example.org
      - to: git.corp.example
        private: [10.20.30.0/24]
    deny: [telemetry.example.org]
  - name: ci
    clients: {networks: [10.0.2.0/24]}
    allow:
      - to: mirror.example.net
        upload_limit: 1MiB
      - ports.example.net:8443-8445
limits: {tunnels: 9000}
access_log: {output: stdout}
";

/// What must stop an edit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopped {
    ByCheck,
    ByDiff,
    ByBoth,
    Not,
}

struct Edit {
    what: &'static str,
    from: &'static str,
    to: &'static str,
    stopped: Stopped,
    /// What the reviewer is told.
    told: &'static str,
}

const fn edit(
    what: &'static str,
    (from, to): (&'static str, &'static str),
    stopped: Stopped,
    told: &'static str,
) -> Edit {
    Edit { what, from, to, stopped, told }
}

const EDITS: [Edit; 20] = [
    edit(
        "the status page is for everybody",
        ("networks: [10.0.0.0/16]}", "networks: [0.0.0.0/0]}"),
        Stopped::ByBoth,
        "wider: admin.networks: ",
    ),
    edit(
        "all traffic goes by way of another proxy",
        ("limits:", "upstream_proxy: {url: \"https://proxy.example.net:3128\"}\nlimits:"),
        Stopped::ByBoth,
        "wider: upstream_proxy: added: url https://proxy.example.net:3128",
    ),
    edit(
        "a listed name may lead to every internal host",
        ("private: [10.20.30.0/24]", "private: [10.0.0.0/9, 10.128.0.0/9]"),
        Stopped::ByBoth,
        "10.0.0.0/8 is a whole private range",
    ),
    edit(
        "a full disk leaves no record",
        ("{output: stdout}", "{output: stdout, on_failure: continue}"),
        Stopped::ByBoth,
        "without a record",
    ),
    edit(
        "a host of everybody's buckets",
        ("- wheels.example.org", "- wheels.example.org\n      - s3.eu-central-1.amazonaws.com"),
        Stopped::ByBoth,
        "is where everybody's buckets are (S3)",
    ),
    // Cyrillic ie.
    edit(
        "a name that looks like the one before",
        ("- wheels.example.org", "- wh\u{435}els.example.org"),
        Stopped::ByBoth,
        "looks like wheels.example.org",
    ),
    edit(
        "report mode for everybody",
        ("clients: {networks: [10.0.1.0/24]}", "clients: {networks: [0.0.0.0/0]}\n    mode: report"),
        Stopped::ByBoth,
        "this is an open proxy",
    ),
    edit(
        "a variable that nobody fills in",
        ("owner: platform@example.com", "owner: ${TEAM}@example.com"),
        Stopped::ByCheck,
        "`${TEAM}` is taken literally",
    ),
    edit(
        "a name that was denied",
        ("    deny: [telemetry.example.org]\n", ""),
        Stopped::ByDiff,
        "wider: gitaly: gone: deny",
    ),
    edit(
        "a limit that is gone",
        ("      - to: mirror.example.net\n        upload_limit: 1MiB\n", "      - mirror.example.net\n"),
        Stopped::ByDiff,
        "upload_limit 1MiB → none",
    ),
    edit("a comment", ("policies:", "# Who may go where.\npolicies:"), Stopped::Not, ""),
    edit(
        "another owner",
        ("owner: platform@example.com", "owner: git@example.com\n        ticket: SEC-7"),
        Stopped::Not,
        "",
    ),
    edit("a rule that is gone", ("      - wheels.example.org\n", ""), Stopped::Not, ""),
    edit(
        "one more name that is denied",
        ("[telemetry.example.org]", "[telemetry.example.org, evil.example]"),
        Stopped::Not,
        "",
    ),
    edit("a lower limit", ("upload_limit: 5GiB", "upload_limit: 1GiB"), Stopped::Not, ""),
    edit("a smaller network", ("private: [10.20.30.0/24]", "private: [10.20.30.0/26]"), Stopped::Not, ""),
    edit("fewer clients", ("networks: [10.0.2.0/24]", "networks: [10.0.2.0/25]"), Stopped::Not, ""),
    edit(
        "fewer ports, and fewer tunnels",
        ("8443-8445\nlimits: {tunnels: 9000}", "8443\nlimits: {tunnels: 8000}"),
        Stopped::Not,
        "",
    ),
    edit("a rule in a file of its own", ("      - packages.example.org\n", ""), Stopped::Not, ""),
    edit(
        "what is left out, written out",
        (
            "access_log: {output: stdout}",
            "access_log: {output: stdout, on_failure: deny, format: json}\nlog: {level: debug}\nshutdown: {grace_period: 90s}",
        ),
        Stopped::Not,
        "",
    ),
];

fn egressd(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressd"));
    command.args(arguments).current_dir(directory).env_remove("EGRESSD_CONFIG");
    command.output().expect("the program runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn check_and_diff_stop_what_is_dangerous_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("a file");
    write("before.yaml", BEFORE);
    write("npm.txt", "packages.example.org\n");
    let before = egressd(&["check", "--strict", "-c", "before.yaml"], directory.path());
    assert_eq!(before.status.code(), Some(0), "{}", text(&before));
    let mut wrong = Vec::new();
    for Edit { what, from, to, stopped, told } in EDITS {
        assert_eq!(BEFORE.matches(from).count(), 1, "{what}");
        let mut after = BEFORE.replace(from, to);
        if what == "a rule in a file of its own" {
            after = after.replace("    deny: [tele", "    allow_files: [npm.txt]\n    deny: [tele");
        }
        write("after.yaml", &after);
        let check = egressd(&["check", "--strict", "-c", "after.yaml"], directory.path());
        let diff = egressd(&["diff", "--fail-on", "wider", "before.yaml", "after.yaml"], directory.path());
        let got = match (check.status.code(), diff.status.code()) {
            (Some(1), Some(0)) => Stopped::ByCheck,
            (Some(0), Some(1)) => Stopped::ByDiff,
            (Some(1), Some(1)) => Stopped::ByBoth,
            (Some(0), Some(0)) => Stopped::Not,
            other => panic!("{what}: {other:?}: {}{}", text(&check), text(&diff)),
        };
        let said = text(&check) + &text(&diff);
        if got != stopped || !said.contains(told) {
            wrong.push(format!("{what}: {got:?}, not {stopped:?}:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let dangerous = EDITS.iter().filter(|edit| edit.stopped != Stopped::Not).count();
    assert_eq!((dangerous, EDITS.len()), (10, 20));
}

/// What a job of CI shows of a failure.
#[test]
fn diff_says_on_stderr_which_change_it_fails_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("a file");
    write("old.yaml", "policies: [{name: p, allow: [a.example]}]\n");
    write(
        "new.yaml",
        "policies: [{name: p, allow: [a.example, b.example]}]\nadmin: {networks: [192.0.2.0/24]}\n",
    );
    let of = |arguments: &[&str]| egressd(arguments, directory.path());
    let failed = of(&["diff", "--fail-on", "wider", "old.yaml", "new.yaml"]);
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&failed.stderr),
        "egressd: 2 changes let or may let more out or in:\n\
         ~ wider: admin.networks: changed: +192.0.2.0/24; -127.0.0.0/8; -10.0.0.0/8; -172.16.0.0/12; -192.168.0.0/16; \
         -100.64.0.0/10; -::1/128; -fc00::/7\n\
         + wider: p: added: allow `b.example` (new.yaml:1)\n"
    );
    let shown = of(&["diff", "old.yaml", "new.yaml"]);
    assert_eq!((shown.status.code(), shown.stderr.as_slice()), (Some(0), &b""[..]));
    let stdout = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(stdout.ends_with("policies and rules: 1 added\nother keys: 1 changed\nwider: 2\n"), "{stdout}");
    let back = of(&["diff", "--fail-on", "wider", "old.yaml", "old.yaml"]);
    assert_eq!(back.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&back.stdout),
        "policies and rules: nothing\nother keys: nothing\nwider: nothing\n"
    );
    assert_eq!(of(&["diff", "--fail-on", "narrower", "old.yaml", "new.yaml"]).status.code(), Some(2));
}
