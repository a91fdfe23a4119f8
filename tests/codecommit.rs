//! The two sides of docs/codecommit.md: the examples load, nothing is to be warned of, and they decide as their cases say; `explain`
//! and `check` tell it.

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
    for file in ["authority.crt", "authority.key"] {
        std::fs::copy(at.join("ca").join(file), at.join(file)).expect("made");
    }
    std::fs::write(at.join("push.cred"), "gitlab-mirror-at-456247553902:s3cret\n").expect("written");
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
    let rows: [Row<'_>; 9] = [
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
    // Where no rule is about Git nothing is said.
    let directory = example("mirror-one-account");
    std::fs::write(directory.path().join("c.yaml"), "policies: [{name: p, allow: [a.example]}]\n")
        .expect("written");
    let checked = egressd(directory.path(), &["check", "-c", "c.yaml"]);
    assert_eq!((text(&checked.stdout), text(&checked.stderr)), (String::new(), String::new()));
}
