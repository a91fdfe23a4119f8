//! Access logs read back by the program: `suggest`, `summary`, `diff --log`; and a log whose format a reload changes.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::Signal;
use support::{Egressd, Origin, command, config, directory, read, run, until, write};

const LOG: &str = concat!(
    r#"{"time":"2026-03-01T12:00:00.000000Z","event":"open","client":"10.0.0.1:1","method":"CONNECT","target":"git.example:443","sni":"git.example","policy":"p","rule":"git.example","decision":"allow","reason":null,"sent":0,"received":0}"#,
    "\n",
    r#"{"time":"2026-03-01T12:06:00.000000Z","event":"close","client":"10.0.0.1:1","method":"CONNECT","target":"git.example:443","sni":"git.example","policy":"p","rule":"git.example","decision":"allow","sent":1048576,"received":2048}"#,
    "\n",
    r#"{"time":"2026-03-01T12:03:00.000000Z","event":"deny","client":"10.0.0.9:1","method":"CONNECT","target":"evil.example:443","policy":"p","decision":"deny","reason":"host_not_allowed","sent":null}"#,
    "\n",
);

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("named in ASCII")
}

#[test]
fn logs_without_a_record_are_refused() {
    let directory = directory();
    let log = directory.path().join("not-a.log");
    write(&log, "");
    for command in ["suggest", "summary"] {
        let (code, stdout, stderr) = said(&run(&[command, shown(&log)]));
        assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
        assert_eq!(stderr, format!("egressd: no records in {}: is it an access log?\n", shown(&log)));
    }
}

#[test]
fn files_packed_and_plain_and_stdin_are_one_log() {
    let directory = directory();
    let (plain, packed) = (directory.path().join("access.log"), directory.path().join("access.log.1.gz"));
    write(&plain, LOG);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(LOG.as_bytes()).expect("into memory");
    write(&packed, packer.finish().expect("into memory"));

    let mut child = command()
        .args(["suggest", shown(&plain), shown(&packed), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("egressd starts");
    let mut stdin = child.stdin.take().expect("was asked for");
    stdin.write_all(format!("{LOG}not a record\n").as_bytes()).expect("it reads");
    drop(stdin);
    let (code, stdout, stderr) = said(&child.wait_with_output().expect("it ends"));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with("# 6 recorded requests, "), "{stdout}");
    assert!(stdout.contains("      - \"git.example\" # 3 let through; 2026-"), "{stdout}");
    assert_eq!(stderr, "egressd: 1 line is not a record, and is skipped: -:4\n");

    // The suggestion is a configuration, and it decides as suggested.
    let suggested = directory.path().join("suggested.yaml");
    write(&suggested, &stdout);
    assert_eq!(run(&["check", "-c", shown(&suggested)]).status.code(), Some(0));
    for (client, host, code) in [
        ("10.0.0.1", "git.example", 0),
        ("10.0.0.9", "evil.example", 0),
        // What only the other one asked for.
        ("10.0.0.1", "evil.example", 1),
        ("10.0.0.9", "git.example", 1),
        ("10.0.0.1", "other.example", 1),
        ("10.0.0.2", "git.example", 1),
    ] {
        let explained = run(&["explain", host, "--client", client, "-c", shown(&suggested)]);
        assert_eq!(explained.status.code(), Some(code), "{client} {host}");
    }
    let (_, rounded, _) = said(&run(&["suggest", "--networks", shown(&plain)]));
    assert!(rounded.contains("clients: {networks: [\"10.0.0.0/24\"]}"), "{rounded}");

    let (code, stdout, _) = said(&run(&["suggest", "--without-denied", shown(&plain)]));
    assert!(code == Some(0) && !stdout.contains("evil"), "{stdout}");

    let (code, stdout, stderr) = said(&run(&["summary", shown(&packed), shown(&plain)]));
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(
        stdout.contains("requests    4: 2 let through by a rule, 0 by report mode, 2 denied, 0 failed\n"),
        "{stdout}"
    );
    assert!(stdout.contains("bytes       2.0 MiB sent, 4.0 KiB received\n"), "{stdout}");

    let diff = ["diff", shown(&suggested), shown(&suggested), "--log", shown(&packed)];
    let (code, stdout, stderr) = said(&run(&diff));
    assert!(code == Some(0) && stdout.contains("recorded requests: 2\n"), "{stdout}{stderr}");
}

#[test]
fn a_page_is_written_and_what_cannot_be_read_is_reported() {
    let directory = directory();
    let (log, page) = (directory.path().join("access.log"), directory.path().join("page.html"));
    write(&log, LOG);
    let (code, stdout, stderr) = said(&run(&["summary", shown(&log), "--html", shown(&page)]));
    assert_eq!((code, &*stdout, &*stderr), (Some(0), "", ""));
    assert!(read(&page).starts_with("<!doctype html>"));
    for (arguments, code, want) in [
        (vec!["suggest"], 2, "<LOG>..."),
        (
            vec!["suggest", "/nonexistent/access.log"],
            1,
            "egressd: cannot read the log /nonexistent/access.log: ",
        ),
        (vec!["summary", shown(directory.path())], 1, "egressd: cannot read the log "),
        (
            vec!["summary", shown(&log), "--html", "/nonexistent/page.html"],
            1,
            "egressd: cannot write /nonexistent/page.html: ",
        ),
    ] {
        let (got, _, stderr) = said(&run(&arguments));
        assert!(got == Some(code) && stderr.contains(want), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_reload_changes_the_format_from_the_next_record_on() {
    let origin = Origin::echo();
    let rules = format!("tcp://{}", origin.address());
    let text = |format: &str| {
        config(&[&rules]) + &format!("access_log: {{output: access.log, format: '{format}'}}\n")
    };
    let proxy = Egressd::start(&text("json"));
    let log = proxy.file("access.log");
    let tunnel = |wanted: usize| {
        let mut wire = proxy.tunnel(&origin.address().to_string());
        wire.send(b"ping");
        wire.read_exact(4);
        wire.finish();
        wire.read_to_end();
        let whole = || Some(read(&log)).filter(|text| text.lines().count() >= wanted);
        until("the tunnel's records", whole)
    };
    assert!(tunnel(2).lines().all(|line| line.starts_with("{\"time\":")));
    write(&proxy.file("egressd.yaml"), text("%Ss/%03>Hs %rm %ru %{policy}note"));
    proxy.signal(Signal::HUP);
    until("the reload", || proxy.stderr().contains("is in force; 0 tunnels").then_some(()));
    let all = tunnel(3);
    let last = all.lines().last().expect("just seen");
    assert_eq!(last, format!("TCP_TUNNEL/200 CONNECT {} test", origin.address()));
}

/// The same traffic, in the words of each format, is the same to every command.
#[test]
fn logs_in_other_schemas_are_read_as_json_is() {
    let origin = Origin::echo();
    let rules = format!("tcp://{}", origin.address());
    let told: Vec<(Vec<String>, Vec<String>, Vec<String>)> = ["json", "ecs", "ocsf"]
        .into_iter()
        .map(|format| {
            let text = config(&[&rules]) + &format!("access_log: {{output: access.log, format: {format}}}\n");
            let proxy = Egressd::start(&text);
            let log = proxy.file("access.log");
            let mut wire = proxy.tunnel(&origin.address().to_string());
            wire.send(b"ping");
            wire.read_exact(4);
            wire.finish();
            wire.read_to_end();
            let mut refused = proxy.connect();
            refused.send("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n");
            assert_eq!(refused.read_reply().status, 403);
            let mut plain = proxy.connect();
            plain.send("PROPFIND http://other.example/a HTTP/1.1\r\nHost: other.example\r\n\r\n");
            assert_eq!(plain.read_reply().status, 403);
            until("the records", || (read(&log).lines().count() == 4).then_some(()));
            let own = proxy.file("egressd.yaml");
            let runs = [
                vec!["suggest", shown(&log)],
                vec!["summary", shown(&log)],
                vec!["diff", shown(&own), shown(&own), "--log", shown(&log)],
            ];
            let directory = shown(proxy.directory()).to_owned();
            let [suggest, summary, diff] = runs.map(|arguments| {
                let (code, stdout, stderr) = said(&run(&arguments));
                assert_eq!((code, &*stderr), (Some(0), ""), "{arguments:?}");
                let lines = stdout.lines().map(|line| without_times(&line.replace(&directory, "")));
                lines.collect::<Vec<String>>()
            });
            // The rest of it is about minutes.
            let counts = |line: &String| line.starts_with("requests") || line.starts_with("bytes");
            let summary: Vec<String> = summary.into_iter().filter(counts).collect();
            (suggest, summary, diff)
        })
        .collect();
    let (suggest, summary, diff) = &told[0];
    assert!(suggest.len() > 5 && diff.len() > 1, "{suggest:?} {diff:?}");
    assert!(summary[0].starts_with("requests    3: 1 let through by a rule"), "{summary:?}");
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);
}

fn without_times(line: &str) -> String {
    let is_time = |word: &&str| word.starts_with("20") && word.contains('-');
    line.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")
}
