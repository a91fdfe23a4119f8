//! The command itself: what it writes where, and its exit codes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const DEPLOYMENT: &str = "tests/import/deployment";

fn import(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_egressd"))
        .args(["import", "squid"])
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("egressd starts");
    child.stdin.take().expect("asked for").write_all(stdin).expect("it reads, or has its fill");
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn config_maps_come_by_stdin() {
    let maps = std::fs::read(format!("{DEPLOYMENT}/configmaps.yaml")).expect("in the repository");
    let ran = import(&["-"], &maps);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).contains("- file: whitelist "), "{}", text(&ran.stdout));
    for line in text(&ran.stderr).lines() {
        let (place, told) = line.split_once(": ").expect("FILE:LINE: text");
        let (file, number) = place.rsplit_once(':').expect("FILE:LINE");
        assert!(["squid.conf", "whitelist", "stdout"].contains(&file), "{line}");
        assert!(number.parse::<u32>().is_ok_and(|number| number > 0) && !told.is_empty(), "{line}");
    }
}

#[test]
fn a_copy_of_the_files_is_read_below_its_root() {
    let root = format!("{DEPLOYMENT}/root");
    let below = import(&["/etc/squid/squid.conf", "--root", &root, "--report"], b"");
    let beside = import(&[&format!("{root}/etc/squid/squid.conf"), "--root", &root, "--report"], b"");
    for ran in [&below, &beside] {
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
        let yaml = text(&ran.stdout);
        assert!(
            yaml.contains("mode: report") && yaml.contains(&format!("file: {root}/etc/squid/whitelist")),
            "{yaml}"
        );
    }
}

#[test]
fn nothing_to_read_is_reported() {
    for (arguments, stdin, words) in [
        (vec!["/nowhere/squid.conf"], "", "cannot read /nowhere/squid.conf"),
        (vec!["/dev/null"], "", "/dev/null has no Squid directive"),
        (vec!["config/egressd.yaml"], "", "config/egressd.yaml has no directive of Squid's"),
        (vec!["-"], "kind: Secret\n", "kubectl get cm NAME"),
        (vec!["-"], "{", "is not YAML"),
    ] {
        let ran = import(&arguments, stdin.as_bytes());
        assert_eq!(ran.status.code(), Some(1), "{arguments:?}");
        assert!(text(&ran.stderr).contains(words), "{}", text(&ran.stderr));
        assert!(ran.stdout.is_empty());
    }
}

/// Squid does not start without an included file. So a missing file had some content, and it may have denied something.
#[test]
fn an_incomplete_configuration_is_refused_unless_skip_missing_is_set() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("squid.conf");
    let conf = "acl x dstdomain x.example\ninclude /etc/squid/conf.d/*.conf\nhttp_access allow x\n";
    std::fs::write(&file, conf).expect("writable");
    let (file, root) = (file.display().to_string(), directory.path().display().to_string());
    let ran = import(&[&file, "--root", &root], b"");
    let told = text(&ran.stderr);
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(1), &b""[..]), "{told}");
    assert!(told.contains(&format!("{file}:2: no file matches `/etc/squid/conf.d/*.conf`")), "{told}");

    let ran = import(&[&file, "--root", &root, "--skip-missing"], b"");
    let told = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{told}");
    assert!(text(&ran.stdout).contains("x.example"));
    assert!(told.contains(&format!("{file}:2: WIDER: no file matches")), "{told}");

    let denies = directory.path().join("etc/squid/conf.d");
    std::fs::create_dir_all(&denies).expect("made");
    std::fs::write(denies.join("a.conf"), "http_access deny x\n").expect("writable");
    let ran = import(&[&file, "--root", &root], b"");
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    assert!(!text(&ran.stdout).contains("x.example"), "{}", text(&ran.stdout));
}

#[test]
fn report_mode_starts_with_a_log_format_that_can_show_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("squid.conf");
    let conf = "acl x dstdomain x.example\nhttp_access allow x\naccess_log stdio:/var/log/a.log squid\n";
    std::fs::write(&file, conf).expect("writable");
    let file = file.display().to_string();
    let kept = import(&[&file], b"");
    assert!(text(&kept.stdout).contains("format: squid"), "{}", text(&kept.stdout));
    assert!(!text(&kept.stderr).contains("JSON"), "{}", text(&kept.stderr));
    let ran = import(&[&file, "--report"], b"");
    let yaml = text(&ran.stdout);
    assert!(yaml.contains("mode: report") && !yaml.contains("format:"), "{yaml}");
    // Two programs must not write one file.
    assert!(yaml.contains("output: stdout"), "{yaml}");
    assert!(text(&ran.stderr).contains(&format!("{file}:3: `/var/log/a.log` is the log that Squid writes")));
    let told = text(&ran.stderr);
    assert!(told.contains(&format!("{file}:3: the log is JSON for now")), "{told}");
    assert!(told.contains("write `access_log.format: squid`"), "{told}");
}
