//! The two sides of docs/codecommit.md: the examples load, nothing is to be warned of, and they decide as their cases say; `explain`
//! and `check` tell it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const HOST: &str = "git-codecommit.ap-northeast-1.amazonaws.com";

fn egressd(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_egressd"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("it is built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory with the example, its cases, an authority that may sign for CodeCommit alone, and the mirror's password.
fn example(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    std::fs::create_dir(at.join("cases")).expect("made");
    for file in [format!("{name}.yaml"), format!("cases/{name}.yaml")] {
        std::fs::copy(Path::new("config/examples").join(&file), at.join(&file)).expect("shipped");
    }
    let made = egressd(at, &["ca", "new", "--permit", HOST, "--out", "ca"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    std::fs::write(at.join("push.cred"), "gitlab-mirror-at-456247553902:s3cret\n").expect("written");
    std::fs::set_permissions(at.join("push.cred"), Permissions::from_mode(0o600)).expect("changed");
    directory
}

#[test]
fn the_examples_are_without_warnings_and_decide_as_their_cases_say() {
    for (name, cases) in [("isolated-side-pull-only", 7), ("mirror-one-account", 7)] {
        let directory = example(name);
        let config = format!("{name}.yaml");
        let checked = egressd(directory.path(), &["check", "--strict", "-c", &config]);
        assert_eq!(text(&checked.stdout), "", "{name}");
        assert!(checked.status.success(), "{name}: {}", text(&checked.stderr));
        let tested = egressd(directory.path(), &["test", &format!("cases/{name}.yaml"), "-c", &config]);
        assert_eq!(
            text(&tested.stdout),
            format!("{cases} cases passed\n"),
            "{name}: {}",
            text(&tested.stderr)
        );
    }
}

/// A password that every user may read is warned of, as a key is.
#[test]
fn a_password_that_every_user_may_read_gets_a_warning() {
    let directory = example("mirror-one-account");
    let file = directory.path().join("push.cred");
    for (mode, told) in [(0o640, false), (0o440, false), (0o644, true), (0o606, true)] {
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("changed");
        let checked = egressd(directory.path(), &["check", "--strict", "-c", "mirror-one-account.yaml"]);
        let said = text(&checked.stdout) + &text(&checked.stderr);
        let want = format!("may read the password that is sent (mode {mode:03o})");
        assert_eq!(said.contains(&want), told, "{mode:o}: {said}");
        assert_eq!(checked.status.success(), !told, "{mode:o}: {said}");
    }
}

/// Each case that is turned round fails: the cases are decided, and not passed over.
#[test]
fn a_case_that_expects_the_opposite_fails() {
    let directory = example("isolated-side-pull-only");
    let path = directory.path().join("cases/isolated-side-pull-only.yaml");
    let cases = std::fs::read_to_string(&path).expect("copied");
    let turned: Vec<String> = cases
        .lines()
        .filter(|line| !line.contains("  reason:") && !line.contains("  rule:"))
        .map(|line| {
            let line = line.split(", reason:").next().map_or(String::new(), |start| {
                if line.contains(", reason:") { format!("{start}}}") } else { line.to_owned() }
            });
            if line.contains("expect: allow") {
                line.replace("expect: allow", "expect: deny")
            } else {
                line.replace("expect: deny", "expect: allow")
            }
        })
        .collect();
    std::fs::write(&path, turned.join("\n")).expect("written");
    let tested = egressd(
        directory.path(),
        &["test", "cases/isolated-side-pull-only.yaml", "-c", "isolated-side-pull-only.yaml"],
    );
    assert_eq!(
        text(&tested.stdout).matches("failed: ").count(),
        7,
        "{}{}",
        text(&tested.stdout),
        text(&tested.stderr)
    );
}

#[test]
fn a_password_of_another_account_is_refused_at_start() {
    let directory = example("mirror-one-account");
    std::fs::write(directory.path().join("push.cred"), "gitlab-mirror-at-999999999999:s3cret\n")
        .expect("written");
    let checked = egressd(directory.path(), &["check", "-c", "mirror-one-account.yaml"]);
    let told = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(78), "{told}");
    assert!(told.contains("of push.cred: the credentials are of account 999999999999"), "{told}");
    assert!(!told.contains("s3cret"), "{told}");
}

/// What is asked is what git's client would send, and the answer says what to write.
#[test]
fn explain_tells_who_may_push_what_where() {
    let directory = example("isolated-side-pull-only");
    let ask = |arguments: &[&str]| {
        let all = [&["explain", "-c", "isolated-side-pull-only.yaml"], arguments].concat();
        let told = egressd(directory.path(), &all);
        (told.status.code(), text(&told.stdout) + &text(&told.stderr))
    };
    let repository = format!("https://{HOST}/v1/repos/infra");
    let own = ["--aws-account", "456247553902"];
    type Row<'a> = (&'a [&'a str], i32, &'a str);
    let push = ["--git", "push", "--ref", "refs/heads/main", "--ref", "refs/tags/v1"];
    let rows: [Row<'_>; 11] = [
        (
            &[&repository, "--git", "fetch", own[0], own[1]],
            0,
            "request  POST /v1/repos/infra/git-upload-pack: entry 1",
        ),
        (
            &[&repository, "--git", "list", own[0], own[1]],
            0,
            "request  GET /v1/repos/infra/info/refs: entry 1",
        ),
        (
            &[&[&*repository][..], &push, &own].concat(),
            1,
            "git_not_allowed\n  why      entry 1 of `requests` of `git-codecommit.ap-northeast-1.amazonaws.com`: push is not allowed for `/v1/repos/infra`: write `push` under `git`; to allow it, add `- {git: [push], repositories: [\"/v1/repos/infra\"], refs: [\"refs/heads/main\", \"refs/tags/v1\"],",
        ),
        // Which refs is not known: no entry is offered that lets any through.
        (
            &[&repository, "--git", "push", own[0], own[1]],
            1,
            "push is not allowed for `/v1/repos/infra`: write `push` under `git`, and the refs under `refs`\n",
        ),
        (
            &[&format!("https://{HOST}/elsewhere"), "--git", "list", own[0], own[1]],
            1,
            "this is a path that is none of CodeCommit: /v1/repos/NAME",
        ),
        (&[&repository, "--git", "fetch", "--aws-account", "999999999999"], 1, "account_not_allowed"),
        (
            &[&repository, "--git", "fetch"],
            1,
            "anyone could have sent it; --aws-account N says whose credentials it has",
        ),
        (&[HOST, "--git", "fetch"], 2, "write the repository as the path, as in https://HOST/v1/repos/NAME"),
        (&[&repository, "--git", "fetch", "--ref", "refs/heads/a"], 2, "--ref is about pushes"),
        (
            &[&repository, "--git", "push", "--ref", "main"],
            2,
            "no ref has a name that does not begin with `refs/`",
        ),
        (&[&repository, "--aws-account", "1"], 2, "write twelve digits"),
    ];
    for (arguments, code, want) in rows {
        let (got, told) = ask(arguments);
        assert!(got == Some(code) && told.contains(want), "{arguments:?}: {got:?} {told}");
    }
    // What a browser or curl asks is judged with its query: git's discovery.
    let discovery = format!("{repository}/info/refs?service=git-receive-pack");
    let (code, told) = ask(&[&discovery, own[0], own[1]]);
    assert!(code == Some(1) && told.contains("push is not allowed"), "{told}");
    let (code, told) = ask(&[&discovery.replace("receive", "upload"), own[0], own[1], "--json"]);
    assert_eq!(code, Some(0), "{told}");
    let json: serde_json::Value = serde_json::from_str(&told).expect("an object");
    assert_eq!((&json["entry"], &json["decision"]), (&1.into(), &"allow".into()), "{told}");
}

#[test]
fn a_push_without_a_ref_is_said_to_be_judged_by_none() {
    let directory = example("mirror-one-account");
    let url = format!("https://{HOST}/v1/repos/infra");
    let ask = |arguments: &[&str]| {
        let all = [&["explain", "-c", "mirror-one-account.yaml", &url, "--git", "push"], arguments].concat();
        let told = egressd(directory.path(), &all);
        (told.status.code(), text(&told.stdout) + &text(&told.stderr))
    };
    for (arguments, is_told) in
        [(&[][..], true), (&["--ref", "refs/heads/main"], false), (&["--ref", "refs/notes/x"], false)]
    {
        let (code, told) = ask(arguments);
        let passes = arguments != ["--ref", "refs/notes/x"];
        assert_eq!(code, Some(i32::from(!passes)), "{told}");
        assert_eq!(told.contains("  not judged: no ref: "), is_told, "{told}");
    }
    let json: serde_json::Value = serde_json::from_str(&ask(&["--json"]).1).expect("an object");
    assert!(json["not_judged"].as_str().is_some_and(|text| text.starts_with("no ref")), "{json}");
}

#[test]
fn check_tells_for_each_policy_who_may_push_where() {
    let rows = [
        (
            "isolated-side-pull-only",
            "policy isolated: by its rules about Git, nobody may push; fetch from git-codecommit.ap-northeast-1.amazonaws.com /v1/repos/* by account 456247553902",
        ),
        (
            "mirror-one-account",
            "policy gitaly: by its rules about Git, clients of 10.20.0.0/16 may push to git-codecommit.ap-northeast-1.amazonaws.com /v1/repos/infra /v1/repos/app-* (refs/heads/** refs/tags/**: create, update, delete; by account 456247553902, with push.cred)",
        ),
    ];
    for (name, want) in rows {
        let directory = example(name);
        let checked = egressd(directory.path(), &["check", "-c", &format!("{name}.yaml")]);
        let told = text(&checked.stderr);
        assert!(told.lines().any(|line| line == want), "{told}\n{want}");
    }
    // Where another entry lets git's requests pass, nobody is said to be kept from pushing.
    let directory = example("mirror-one-account");
    for (git, past, want) in [
        ("fetch", "methods: [GET, POST], paths: ['/v1/repos/**']", Some("; fetch from HOST /v1/repos/*")),
        ("list", "methods: [GET, POST], paths: ['/other/**']", Some("")),
        ("list", "methods: [POST]", Some("")),
        ("list", "methods: [GET]", None),
        ("list", "paths: [/v1/repos/a/status]", None),
    ] {
        let rule = format!(
            "inspection: {{certificate: ca/authority.crt, key: ca/authority.key}}\npolicies:\n  - name: p\n    clients: {{networks: [10.0.0.0/8]}}\n    allow: [{{to: {HOST}, requests: [{{git: [{git}], repositories: ['/v1/repos/*']}}, {{{past}}}]}}]\n"
        );
        std::fs::write(directory.path().join("c.yaml"), rule).expect("written");
        let told = text(&egressd(directory.path(), &["check", "-c", "c.yaml"]).stderr);
        let want = match want {
            Some(fetch) => format!(
                "none allows a push{}; but git's requests, pushes too, may pass unseen by entry 2 of {HOST}\n",
                fetch.replace("HOST", HOST)
            ),
            None => "nobody may push\n".to_owned(),
        };
        assert!(told.ends_with(&want), "{told}\n{want}");
    }
    // Where no rule is about Git nothing is said.
    let directory = example("mirror-one-account");
    std::fs::write(directory.path().join("c.yaml"), "policies: [{name: p, allow: [a.example]}]\n")
        .expect("written");
    let checked = egressd(directory.path(), &["check", "-c", "c.yaml"]);
    assert_eq!((text(&checked.stdout), text(&checked.stderr)), (String::new(), String::new()));
}

/// The record of a request inside a tunnel, as docs/log.md has it.
fn record(event: &str, verdict: &str, client: &str, git: &str, account: &str) -> String {
    let path = if git.contains("\"push\"") { "git-receive-pack" } else { "git-upload-pack" };
    format!(
        r#"{{"time":"2026-03-01T12:00:02.000000Z","event":"{event}","client":"{client}:40000","identity":null,"tunnel":"t","method":"POST","target":"https://{HOST}:443/v1/repos/infra/{path}","policy":"isolated","rule":"pull",{verdict},"sent":100,"received":2048,"git":{git},"aws":{{"account":"{account}","access_key":null,"service":"codecommit","region":"ap-northeast-1"}}}}"#
    ) + "\n"
}

fn log() -> String {
    let allow = r#""decision":"allow","reason":null,"status":200"#;
    let deny = |reason: &str| format!(r#""decision":"deny","reason":"{reason}","status":200"#);
    let fetch = |repository: &str| {
        format!(
            r#"{{"operation":"fetch","repository":"{repository}","wants":1,"haves":2,"negotiated":200,"ref_count":0,"refs":[]}}"#
        )
    };
    let push = |refs: &[(&str, &str)]| {
        let each: Vec<String> = refs
            .iter()
            .map(|(name, change)| format!(r#"{{"name":"{name}","change":"{change}","old":null,"new":null}}"#))
            .collect();
        format!(
            r#"{{"operation":"push","repository":"/v1/repos/infra","wants":null,"haves":null,"negotiated":null,"ref_count":{},"refs":[{}]}}"#,
            refs.len(),
            each.join(",")
        )
    };
    let (own, foreign) = ("456247553902", "999999999999");
    [
        record("request", allow, "10.40.0.7", &fetch("/v1/repos/infra"), own),
        record("request", allow, "10.40.0.8", &fetch("/v1/repos/app"), own),
        record(
            "request",
            allow,
            "10.20.0.7",
            &push(&[("refs/heads/main", "update"), ("refs/tags/v1", "create")]),
            own,
        ),
        record("request", allow, "10.20.0.7", &push(&[("refs/heads/main", "update")]), own),
        // Git's first request is no push yet.
        record("request", allow, "10.20.0.7", &push(&[]), own),
        record(
            "deny",
            &deny("account_not_allowed"),
            "10.40.0.7",
            &push(&[("refs/heads/out", "create")]),
            foreign,
        ),
    ]
    .concat()
}

#[test]
fn summary_tells_who_pushed_what_where() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("access.log"), log()).expect("written");
    let told = egressd(directory.path(), &["summary", "access.log"]);
    let told = text(&told.stdout);
    let want = format!(
        "
  requests   refused       sent   received  refs pushed: who, where, what
         2         0      200 B    4.0 KiB  10.20.0.7 → {HOST}:443/v1/repos/infra by account 456247553902: update refs/heads/main
         1         0        0 B        0 B  10.20.0.7 → {HOST}:443/v1/repos/infra by account 456247553902: create refs/tags/v1

  requests   refused       sent   received  pushes refused: who, where, what
         1         1      100 B    2.0 KiB  10.40.0.7 → {HOST}:443/v1/repos/infra by account 999999999999: create refs/heads/out
"
    );
    assert!(told.ends_with(&want), "{told}\n{want}");
    let page = egressd(directory.path(), &["summary", "access.log", "--html", "page.html"]);
    assert!(page.status.success(), "{}", text(&page.stderr));
    let page = std::fs::read_to_string(directory.path().join("page.html")).expect("written");
    assert!(
        page.contains("Refs pushed") && page.contains("account 999999999999: create refs/heads/out"),
        "{page}"
    );
}

/// The entries are those of what was seen, and allow it again: what was denied only if asked for.
#[test]
fn suggest_writes_entries_of_what_was_asked_of_git() {
    let directory = example("mirror-one-account");
    std::fs::write(directory.path().join("access.log"), log()).expect("written");
    let suggested = egressd(directory.path(), &["suggest", "access.log"]);
    let told = text(&suggested.stdout);
    for want in [
        "- {git: [fetch], repositories: [\"/v1/repos/app\"], aws: {accounts: [\"456247553902\"]}} # 1 let through",
        "- {git: [fetch], repositories: [\"/v1/repos/infra\"], aws: {accounts: [\"456247553902\"]}} # 1 let through",
        "- {git: [push], repositories: [\"/v1/repos/infra\"], refs: [\"refs/heads/main\", \"refs/tags/v1\"], aws: {accounts: [\"456247553902\"]}} # 3 let through",
    ] {
        assert!(told.contains(want), "{want}\n{told}");
    }
    let denied = told.find("999999999999").expect("what was denied");
    assert!(told.find("# DENIED so far").is_some_and(|title| title < denied), "{told}");
    let passed = text(&egressd(directory.path(), &["suggest", "--without-denied", "access.log"]).stdout);
    assert!(!passed.contains("999999999999") && !passed.contains("git-receive-pack"), "{passed}");
    let here = passed.replace("authority.", "ca/authority.");
    std::fs::write(directory.path().join("suggested.yaml"), here).expect("written");
    let ask = |client: &str, arguments: &[&str]| {
        let repository = format!("https://{HOST}/v1/repos/infra");
        let all = [&["explain", "-c", "suggested.yaml", "--client", client, &repository], arguments].concat();
        let told = egressd(directory.path(), &all);
        (told.status.code(), text(&told.stdout) + &text(&told.stderr))
    };
    let own = ["--aws-account", "456247553902"];
    let push = ["--git", "push", "--ref", "refs/heads/main", "--ref", "refs/tags/v1"];
    let (code, told) = ask("10.20.0.7", &[&push[..], &own].concat());
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = ask("10.40.0.7", &["--git", "fetch", own[0], own[1]]);
    assert_eq!(code, Some(0), "{told}");
    for (client, other) in [
        ("10.20.0.7", vec!["--git", "push", "--ref", "refs/heads/out", own[0], own[1]]),
        ("10.40.0.7", vec!["--git", "fetch", "--aws-account", "999999999999"]),
        (
            "10.20.0.7",
            vec!["--git", "push", "--ref", "refs/heads/main", "--ref-change", "delete", own[0], own[1]],
        ),
        // What only the other client asked for.
        ("10.40.0.7", vec!["--git", "push", "--ref", "refs/heads/main", own[0], own[1]]),
        ("10.20.0.7", vec!["--git", "fetch", own[0], own[1]]),
    ] {
        let (code, told) = ask(client, &other);
        assert_eq!(code, Some(1), "{client} {other:?}: {told}");
    }
}

/// What git sends around a pull, and around a push that is refused: egressd asks for credentials, the refs are listed, the push is
/// refused. And pushes of which the log has not all refs.
fn log_of_a_refused_push() -> String {
    let allow = r#""decision":"allow","reason":null,"status":200,"upstream":"52.94.0.1:443""#;
    let asks = r#""decision":"allow","reason":null,"status":401,"upstream":null"#;
    let deny = r#""decision":"deny","reason":"git_not_allowed","status":200,"upstream":null"#;
    let of = |operation: &str, repository: &str, count: u32, refs: &str| {
        format!(
            r#"{{"operation":"{operation}","repository":"/v1/repos/{repository}","ref_count":{count},"refs":[{refs}]}}"#
        )
    };
    let main = r#"{"name":"refs/heads/main","change":"update"}"#;
    let own = "456247553902";
    let without =
        |line: String| line.split_once(r#","aws":"#).expect("aws").0.to_owned() + ",\"aws\":null}\n";
    [
        without(record("request", asks, "10.40.0.7", &of("list", "infra", 0, ""), own)),
        record("request", allow, "10.40.0.7", &of("list", "infra", 0, ""), own),
        record("request", allow, "10.40.0.7", &of("fetch", "infra", 0, ""), own),
        without(record("request", asks, "10.40.0.7", &of("push", "infra", 0, ""), own)),
        record("request", allow, "10.40.0.7", &of("push", "infra", 0, ""), own),
        record("deny", deny, "10.40.0.7", &of("push", "infra", 1, main), own),
        without(record("request", asks, "10.40.0.7", &of("push", "other", 0, ""), own)),
        record("request", allow, "10.40.0.7", &of("push", "cut", 40, main), own),
        record("request", allow, "10.40.0.7", &of("push", "bare", 40, ""), own),
    ]
    .concat()
}

#[test]
fn what_git_asks_around_a_refused_push_lets_no_push_through() {
    let directory = example("mirror-one-account");
    let at = directory.path();
    std::fs::write(at.join("access.log"), log_of_a_refused_push()).expect("written");
    let told = text(&egressd(at, &["suggest", "--without-denied", "access.log"]).stdout);
    let aws = "aws: {accounts: [\"456247553902\"]}}";
    for want in [
        format!("- {{git: [fetch], repositories: [\"/v1/repos/infra\"], {aws} # 3 let through\n"),
        format!(
            "- {{git: [list], repositories: [\"/v1/repos/bare\"], {aws} # 1 let through; the log lacks refs of pushes: "
        ),
        format!(
            "- {{git: [push], repositories: [\"/v1/repos/cut\"], refs: [\"refs/heads/main\"], {aws} # 1 let through; the log lacks refs"
        ),
    ] {
        assert!(told.contains(&want), "{want}\n{told}");
    }
    assert!(!told.contains("/v1/repos/other"), "{told}");
    std::fs::write(at.join("suggested.yaml"), told.replace("authority.", "ca/authority.")).expect("written");
    for (repository, asked, code) in [
        ("infra", &["--git", "fetch"][..], 0),
        ("infra", &["--git", "push", "--ref", "refs/heads/main"], 1),
        ("infra", &["--git", "push"], 1),
        ("bare", &["--git", "push", "--ref", "refs/heads/main"], 1),
        ("cut", &["--git", "push", "--ref", "refs/heads/main"], 0),
        ("cut", &["--git", "push", "--ref", "refs/heads/other"], 1),
        ("other", &["--git", "list"], 1),
    ] {
        let url = format!("https://{HOST}/v1/repos/{repository}");
        let all =
            [&["explain", "-c", "suggested.yaml", &url], asked, &["--aws-account", "456247553902"]].concat();
        let told = egressd(at, &all);
        assert_eq!(told.status.code(), Some(code), "{all:?}: {}", text(&told.stdout));
    }
    // A summary counts what passed once; nor does `diff` take for allowed what it cannot know.
    let told = text(&egressd(at, &["summary", "access.log"]).stdout);
    assert!(
        told.contains("6 requests inside tunnels: 5 let through by a rule, 0 by report mode, 1 denied"),
        "{told}"
    );
    let rule = |entry: &str| {
        format!(
            "inspection: {{certificate: ca/authority.crt, key: ca/authority.key}}\npolicies:\n  - name: p\n    clients: {{networks: [10.0.0.0/8]}}\n    allow: [{{to: {HOST}, requests: [{entry}]}}]\n"
        )
    };
    let aws = "aws: {accounts: ['456247553902']}";
    std::fs::write(at.join("old.yaml"), rule(&format!("{{git: [fetch], {aws}}}"))).expect("written");
    std::fs::write(at.join("new.yaml"), rule(&format!("{{git: [push], refs: [refs/heads/main], {aws}}}")))
        .expect("written");
    let told = text(&egressd(at, &["diff", "old.yaml", "new.yaml", "--log", "access.log"]).stdout);
    assert!(told.contains("requests inside tunnels: 7; 2 more are skipped: "), "{told}");
}

/// With logs, `diff` judges what was asked inside tunnels by both files.
#[test]
fn diff_tells_which_recorded_pushes_an_edit_refuses() {
    let directory = example("mirror-one-account");
    let at = directory.path();
    let rule = |entries: &str| {
        format!(
            "inspection: {{certificate: ca/authority.crt, key: ca/authority.key}}\npolicies:\n  - name: p\n    clients: {{networks: [10.0.0.0/8]}}\n    allow:\n      - to: {HOST}\n        requests: [{entries}]\n"
        )
    };
    let push = "{git: [push], refs: ['refs/heads/**', 'refs/tags/**'], aws: {accounts: ['456247553902']}}";
    let fetch = "{git: [fetch], aws: {accounts: ['456247553902']}}";
    std::fs::write(at.join("old.yaml"), rule(&format!("{push}, {fetch}"))).expect("written");
    std::fs::write(at.join("access.log"), log()).expect("written");
    let diff = |entries: &str| {
        std::fs::write(at.join("new.yaml"), rule(entries)).expect("written");
        let told = egressd(at, &["diff", "old.yaml", "new.yaml", "--strict", "--log", "access.log"]);
        (told.status.code(), text(&told.stdout))
    };
    let (code, told) = diff(&format!("{fetch}, {}", push.replace(", 'refs/tags/**'", "")));
    assert_eq!(code, Some(1), "{told}");
    for want in [
        "requests inside tunnels: 6\\n",
        "newly denied: 1 (1 distinct)",
        "git-codecommit.ap-northeast-1.amazonaws.com:443 inside: POST /v1/repos/infra/git-receive-pack",
        "create of `refs/tags/v1` is not allowed",
        "newly allowed: 0",
    ] {
        assert!(told.contains(&want.replace("\\n", "\n")), "{want}\n{told}");
    }
    let wider = push.replace("['456247553902']", "['456247553902', '999999999999']");
    let (_, told) = diff(&format!("{fetch}, {wider}"));
    assert!(told.contains("newly allowed: 1 (1 distinct)") && told.contains("newly denied: 0"), "{told}");
    let (_, told) = diff(&format!("{fetch}, {push}"));
    assert!(told.contains("newly allowed: 0") && told.contains("newly denied: 0"), "{told}");
}
