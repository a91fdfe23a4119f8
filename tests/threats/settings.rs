//! The rows about what is written in files: a list that is too wide, broken or missing allows nothing.

use std::fmt::Write as _;

use rustix::process::Signal;

use crate::suite::case::connect;
use crate::suite::hello;
use crate::suite::world::World;
use crate::support::{Egressd, directory, run, until, write};

/// `check` of a configuration with these rules: exit code and findings.
fn check(rules: &[&str]) -> (Option<i32>, String) {
    let mut text = String::from(
        "listeners: [{name: p, address: \"127.0.0.1:0\"}]\nadmin: {address: \"127.0.0.1:0\"}\n\
         policies:\n  - name: test\n    allow:\n",
    );
    for rule in rules {
        writeln!(text, "      - '{rule}'").expect("a String takes all");
    }
    check_in(&directory(), &text)
}

fn check_in(directory: &tempfile::TempDir, text: &str) -> (Option<i32>, String) {
    let file = directory.path().join("egressd.yaml");
    write(&file, text);
    let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn t22_rules_that_are_too_wide_are_refused() {
    for rule in [
        r"cnn\.com",
        "^.*$",
        "(a|b).example.com",
        "[a-z].example.com",
        "{a,b}.example.com",
        "!evil.test",
        "*",
        "*.*",
        "*.com",
        ".com",
        "*.co.uk",
        "*.*.com",
        "*-x.com",
        "*amazonaws.com",
        "*.amazonaws.*",
        "git-codecommit.*",
        "**.amazonaws.com",
        "https://*:443",
        "tcp://*:22",
        "amazonaws.com:*",
        "*.amazonaws.com/",
        "*.amazonaws.com evil.test",
    ] {
        let (code, told) = check(&["ok.example.com", rule]);
        assert_eq!(code, Some(78), "{rule}: {told}");
        assert!(told.contains("egressd.yaml:7:"), "{rule}: the place is not told: {told}");
    }
}

#[test]
fn t23_names_that_anybody_can_rent_get_a_warning_and_exact_hosts_exclude_them() {
    crate::check::holds(23);
    for (rule, told) in [
        ("*.amazonaws.com", "S3"),
        ("*.compute-1.amazonaws.com", "EC2"),
        ("*.s3.amazonaws.com", "S3"),
        ("*.execute-api.us-east-1.amazonaws.com", "API"),
        ("*.cloudfront.net", "CloudFront"),
    ] {
        let (code, findings) = check(&[rule]);
        assert_eq!(code, Some(0), "{rule}: {findings}");
        assert!(findings.contains("warning") && findings.contains(told), "{rule}: {findings}");
    }
    let world = World::on_loopback();
    let exact = format!("{}:{}", hello::OK, world.tls);
    let proxy = Egressd::start(&world.config_allowing(&[&exact]));
    for host in [
        "ec2-203-0-113-9.compute-1.amazonaws.com",
        "bucket.s3.amazonaws.com",
        "abc.execute-api.us-east-1.amazonaws.com",
        "git-codecommit.s3.amazonaws.com",
    ] {
        proxy.refuses(world.fill(&connect(host)), 403, "host_not_allowed");
    }
}

#[test]
fn t84_a_name_that_looks_like_another_is_told_with_its_a_label() {
    for (rule, told) in [
        (
            "\u{430}mazonaws.com",
            "is for xn--mazonaws-06g.com, which is shown as \u{430}mazonaws.com and looks like amazonaws.com",
        ),
        ("xn--mazonaws-06g.com", "its \u{430} is U+0430 (Cyrillic)"),
        ("*.\u{430}mazonaws.com", "looks like *.amazonaws.com"),
        ("git.\u{430}mazonaws.com:443", "looks like git.amazonaws.com"),
        ("g\u{131}thub.com", "looks like github.com"),
        ("\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}-shop.example", "has letters of Cyrillic and Latin"),
    ] {
        let (code, findings) = check(&["ok.example.com", rule]);
        assert_eq!(code, Some(0), "{rule}: {findings}");
        let line = findings.lines().find(|line| line.contains("egressd.yaml:7:"));
        assert!(
            line.is_some_and(|line| line.contains("warning") && line.contains(told)),
            "{rule}: {findings}"
        );
    }
    for rule in [
        "m\u{fc}nchen.example",
        "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.example",
        "\u{65e5}\u{672c}.example",
    ] {
        let (code, findings) = check(&["ok.example.com", rule]);
        assert_eq!((code, findings.as_str()), (Some(0), ""), "{rule}");
    }
    // In a list, too, and it allows nothing but itself.
    let (code, told) = check_list("ok.example.com\n\u{430}mazonaws.com\n".as_bytes());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("list.txt:2:1: warning:") && told.contains("looks like amazonaws.com"), "{told}");
    let (directory, before) = (directory(), "policies: [{name: p, allow: [git.example.com]}]\n");
    let after = "policies: [{name: p, allow: [git.example.com, \u{430}mazonaws.com]}]\n";
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        write(&path, text);
        path.to_str().expect("ASCII").to_owned()
    };
    let (old, new) = (file("old.yaml", before), file("new.yaml", after));
    let output = run(&["diff", "--fail-on", "wider", &old, &new]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let explained = run(&["explain", "amazonaws.com", "-c", &new]);
    assert_eq!(explained.status.code(), Some(1), "{explained:?}");
}

/// An egressd whose rules are in a file with these bytes.
fn with_list(world: &World, list: &[u8]) -> (tempfile::TempDir, String) {
    let directory = directory();
    write(&directory.path().join("list.txt"), list);
    let text = world.config_allowing(&[]).replace("    allow:\n", "    allow_files: [list.txt]\n");
    (directory, text)
}

fn check_list(list: &[u8]) -> (Option<i32>, String) {
    let world = World::on_loopback();
    let (directory, text) = with_list(&world, list);
    check_in(&directory, &text)
}

#[test]
fn t34_a_list_means_what_its_lines_say_or_is_refused() {
    for (what, line) in [
        ("two names on a line", &b"ok.example.com evil.test"[..]),
        ("a list on a line", b"ok.example.com,evil.test"),
        ("a bare CR", b"ok.example.com\revil.test"),
        ("a NUL", b"ok.example.com\0evil.test"),
        ("a vertical tab", b"ok.example.com\x0bevil.test"),
        ("a line separator", "ok.example.com\u{2028}evil.test".as_bytes()),
        ("a byte that is no UTF-8", b"ok.example.com\xff"),
        ("a comment that closes nothing", b"ok.example.com/*evil.test*/"),
        ("a key", b"allow: [evil.test]"),
        ("a regular expression", b"(^|\\.)evil\\.test$"),
        ("a bidirectional override", "\u{202e}ok.example.com".as_bytes()),
        ("a byte order mark amid the file", "\u{feff}evil.test".as_bytes()),
    ] {
        let list = [b"first.example.com\n", line, b"\n"].concat();
        let (code, told) = check_list(&list);
        assert_eq!(code, Some(78), "{what}: {told}");
        assert!(told.contains("list.txt:2:"), "{what}: the place is not told: {told}");
    }
    // A rule is one text: the content of a name can move neither its end nor a comment.
    let (code, told) = check(&["ok.example.com # evil.test"]);
    assert_eq!(code, Some(78), "{told}");

    // Text from other editors is read as what it says, and no line is added.
    let world = World::on_loopback();
    let (ok, tls) = (hello::OK, world.tls);
    for list in [
        format!("\u{feff}{ok}:{tls}\r\n# evil.test:{tls}\r\n").into_bytes(),
        format!("  {ok}:{tls}  # evil.test:{tls}").into_bytes(),
    ] {
        let (directory, text) = with_list(&world, &list);
        let proxy = Egressd::start_in(directory, &text);
        proxy.tunnel(&format!("{ok}:{tls}"));
        proxy.refuses(world.fill(&connect("{EVIL}")), 403, "host_not_allowed");
    }
}

#[test]
fn t35_an_empty_or_missing_list_lets_nothing_out() {
    for (list, told) in [(&b""[..], "empty"), (b"\n \n\t\n", "empty")] {
        let (code, findings) = check_list(list);
        assert_eq!(code, Some(78), "{list:?}: {findings}");
        assert!(findings.contains("list.txt") && findings.contains(told), "{list:?}: {findings}");
    }
    let world = World::on_loopback();
    let (directory, text) = with_list(&world, b"# to be written\n");
    let proxy = Egressd::start_in(directory, &text);
    proxy.says("list.txt:1:1: warning: the file contains only comments: it allows nothing");
    for host in ["{OK}", "{EVIL}", "localhost"] {
        proxy.refuses(world.fill(&connect(host)), 403, "host_not_allowed");
    }
    // Policies without rules, and no policies.
    for text in [
        world.config_allowing(&[]).replace("    allow:\n", "    allow: []\n"),
        world.config_allowing(&[]).replace("    allow:\n", ""),
    ] {
        Egressd::start(&text).refuses(world.fill(&connect("{OK}")), 403, "host_not_allowed");
    }
    // Removed while egressd runs: what was allowed stays allowed, and nothing else becomes allowed.
    let (directory, text) = with_list(&world, format!("{}:{}\n", hello::OK, world.tls).as_bytes());
    let proxy = Egressd::start_in(directory, &text);
    for change in [
        |file: &std::path::Path| std::fs::remove_file(file),
        |file: &std::path::Path| std::fs::write(file, ""),
    ] {
        change(&proxy.file("list.txt")).expect("it is ours");
        proxy.signal(Signal::HUP);
        until("the change to be refused", || {
            (proxy.metrics().count("egressd_config_last_reload_successful", &[]) == 0).then_some(())
        });
        proxy.tunnel(&format!("{}:{}", hello::OK, world.tls));
        proxy.refuses(world.fill(&connect("{EVIL}")), 403, "host_not_allowed");
    }
    // Missing at the start.
    let (directory, text) = with_list(&world, b"x");
    let file = directory.path().join("egressd.yaml");
    write(&file, text.replace("list.txt", "nowhere.txt"));
    let output = run(&["run", "--config", file.to_str().expect("ASCII")]);
    assert_eq!(output.status.code(), Some(78));
}
