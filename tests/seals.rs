//! Sealed access logs of the running program, and `egressd verify` on them: what a kill, a rotation, another key and a reader
//! that stands still leave behind.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;
use support::{Egressd, Origin, config, directory, read, run, until, write};
use tempfile::TempDir;

/// A directory with keys and a log, which outlives the egressd that writes it.
struct Kept {
    directory: TempDir,
    origin: Origin,
}

impl Kept {
    fn new() -> Self {
        let kept = Kept { directory: directory(), origin: Origin::echo() };
        for keys in ["old", "new"] {
            let made = run(&["seal", "new", "--out", kept.path(keys).to_str().expect("ASCII")]);
            assert_eq!(made.status.code(), Some(0), "{made:?}");
        }
        fs::copy(kept.path("old/seal.key"), kept.path("seal.key")).expect("copied");
        kept
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, every: &str) -> Egressd {
        Egressd::start(&self.text("json", every))
    }

    fn text(&self, format: &str, every: &str) -> String {
        let shown = |name: &str| self.path(name).display().to_string();
        config(&[&format!("tcp://{}", self.origin.address())])
            + &format!(
                "access_log: {{output: \"{}\", format: {format}, seal: {{key: \"{}\", every: {every}}}}}\n",
                shown("access.log"),
                shown("seal.key")
            )
    }

    /// Tunnels one after the other: two records each.
    fn tunnels(&self, proxy: &Egressd, count: usize) {
        for _ in 0..count {
            let mut wire = proxy.tunnel(&self.origin.address().to_string());
            wire.send(b"ping");
            wire.read_exact(4);
            wire.finish();
            wire.read_to_end();
        }
    }

    /// Waits until so many records are sealed.
    fn sealed(proxy: &Egressd, records: u64) -> Value {
        until("the records to be sealed", || {
            let status: Value = serde_json::from_str(&proxy.get("/api/status").body).expect("JSON");
            let seal = status["access_log"]["seal"].clone();
            (seal["seq"].as_u64().is_some_and(|seq| seq + 1 >= records)).then_some(seal)
        })
    }

    fn verify(&self, logs: &[&str], more: &[&str]) -> Verified {
        let logs: Vec<String> = logs.iter().map(|log| self.path(log).display().to_string()).collect();
        let mut arguments = vec!["verify"];
        arguments.extend(logs.iter().map(String::as_str));
        arguments.extend(more);
        Verified::of(&run(&arguments))
    }
}

#[derive(Debug)]
struct Verified {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Verified {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Verified { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The kinds of findings, in the order of the lines.
    fn kinds(&self) -> Vec<&str> {
        let known = ["gap", "altered", "inserted", "unproven", "cut"];
        self.stdout.lines().filter_map(|line| line.split(": ").find(|word| known.contains(word))).collect()
    }
}

fn key(kept: &Kept, which: &str) -> String {
    kept.path(&format!("{which}/seal.pub")).display().to_string()
}

#[test]
fn a_log_from_start_to_drain_is_whole_and_a_witness_agrees() {
    let kept = Kept::new();
    let proxy = kept.start("1s");
    kept.tunnels(&proxy, 70);
    let seal = Kept::sealed(&proxy, 140);
    // Two witnesses: the status, and a scrape.
    write(&kept.path("status.json"), proxy.get("/api/status").body);
    write(&kept.path("scrape.txt"), proxy.get("/metrics").body);
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.label_values("egressd_log_boot_info", "boot"),
        [seal["boot"].as_str().expect("a boot")]
    );
    assert!(metrics.count("egressd_log_sealed_seq", &[]) >= 139);
    assert_eq!(proxy.stop().code, 0);

    let key = key(&kept, "old");
    let verified = kept.verify(&["access.log"], &["--key", &key]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(
        verified.stdout.starts_with("whole as far as present: 140 records of 1 boot, by "),
        "{verified:?}"
    );
    assert_eq!(verified.stderr, "");
    for witness in ["status.json", "scrape.txt"] {
        let witness = kept.path(witness).display().to_string();
        let verified = kept.verify(&["access.log"], &["--key", &key, "--expect", &witness]);
        assert!(
            verified.code == Some(0) && verified.stdout.starts_with("whole: 140 records"),
            "{verified:?}"
        );
    }
    let verified = kept.verify(&["access.log"], &["--key", &key, "--json"]);
    let told: Value = serde_json::from_str(&verified.stdout).expect("JSON");
    assert_eq!(
        (&told["verdict"], &told["boots"][0]["final"]),
        (&"whole as far as present".into(), &true.into())
    );

    // What was written is what the other commands read, and a seal is no record.
    let log = kept.path("access.log").display().to_string();
    for command in ["summary", "suggest"] {
        let output = run(&[command, &log]);
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && stderr.is_empty() && stdout.contains("70"), "{stdout}{stderr}");
    }

    // Another boot, of which a witness saw nothing that is here; and one line less.
    let lines: Vec<String> = read(&kept.path("access.log")).lines().map(str::to_owned).collect();
    let first = lines.iter().position(|line| line.contains("\"event\":\"open\"")).expect("a record");
    let without = lines.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, line)| line.as_str());
    write(&kept.path("less.log"), without.collect::<Vec<_>>().join("\n"));
    let verified = kept.verify(&["less.log"], &["--key", &key]);
    assert_eq!((verified.code, verified.kinds()), (Some(1), vec!["gap"]), "{verified:?}");
    assert!(
        verified.stdout.contains("record 0 is missing: this seal has its hash\nnot whole: 139 records"),
        "{verified:?}"
    );
}

#[test]
fn a_kill_is_told_as_a_cut_and_as_nothing_else() {
    let kept = Kept::new();
    let proxy = kept.start("1s");
    kept.tunnels(&proxy, 30);
    Kept::sealed(&proxy, 60);
    kept.tunnels(&proxy, 5);
    proxy.signal(Signal::KILL);
    let ended = proxy.wait();
    assert_eq!(ended.code, -9);
    // A second start appends to the same file and ends as it should.
    let proxy = kept.start("1s");
    kept.tunnels(&proxy, 5);
    assert_eq!(proxy.stop().code, 0);
    let verified = kept.verify(&["access.log"], &["--key", &key(&kept, "old")]);
    assert_eq!((verified.code, verified.kinds()), (Some(1), vec!["cut"]), "{verified:?}");
}

#[test]
fn a_reload_takes_another_key_which_the_old_one_names() {
    let kept = Kept::new();
    let proxy = kept.start("1s");
    kept.tunnels(&proxy, 3);
    fs::copy(kept.path("new/seal.key"), kept.path("seal.key.tmp")).expect("copied");
    fs::rename(kept.path("seal.key.tmp"), kept.path("seal.key")).expect("renamed");
    let before = Kept::sealed(&proxy, 6)["key"].clone();
    proxy.signal(Signal::HUP);
    until("the seals of the new key", || {
        kept.tunnels(&proxy, 1);
        let status: Value = serde_json::from_str(&proxy.get("/api/status").body).expect("JSON");
        (status["access_log"]["seal"]["key"] != before).then_some(())
    });
    assert_eq!(proxy.stop().code, 0);
    let (old, new) = (key(&kept, "old"), key(&kept, "new"));
    let both = kept.verify(&["access.log"], &["--key", &old, "--key", &new]);
    assert_eq!((both.code, &*both.stderr), (Some(0), ""), "{both:?}");
    let verified = kept.verify(&["access.log"], &["--key", &old]);
    assert_eq!(verified.code, Some(1));
    assert!(verified.kinds().contains(&"unproven"), "{verified:?}");
    assert!(verified.stderr.contains(" follows, which no --key names"), "{verified:?}");
    // Whether it is sealed is fixed.
    let proxy = kept.start("1s");
    let text = read(&proxy.file("egressd.yaml"));
    let (without, _) = text.split_once(", seal:").expect("it is there");
    write(&proxy.file("egressd.yaml"), format!("{without}}}\n"));
    proxy.signal(Signal::HUP);
    proxy.says("`access_log.seal` was removed, which needs a restart");
}

/// Every format of JSON is sealed, and a reload to another one breaks nothing: a boot may have all of them.
#[test]
fn each_schema_is_sealed_and_a_reload_may_change_it() {
    let kept = Kept::new();
    let proxy = Egressd::start(&kept.text("ecs", "1s"));
    let mut records = 0;
    for (format, begins) in [("ecs", "{\"@timestamp\""), ("ocsf", "{\"class_uid\""), ("json", "{\"time\"")] {
        write(&proxy.file("egressd.yaml"), kept.text(format, "1s"));
        proxy.signal(Signal::HUP);
        until("records in the new format", || {
            kept.tunnels(&proxy, 1);
            records += 2;
            let log = read(&kept.path("access.log"));
            log.lines().next_back().is_some_and(|line| line.starts_with(begins)).then_some(())
        });
        kept.tunnels(&proxy, 4);
        records += 8;
        Kept::sealed(&proxy, records);
    }
    assert_eq!(proxy.stop().code, 0);
    let log = read(&kept.path("access.log"));
    for (begins, seal) in [
        ("{\"@timestamp\"", "\"egressd\":{\"seal\":{"),
        ("{\"class_uid\"", "\"unmapped\":{\"instance\":"),
        ("{\"time\"", ",\"seal\":{"),
    ] {
        assert!(log.lines().any(|line| line.starts_with(begins) && line.contains(seal)), "{seal}\n{log}");
    }
    let key = key(&kept, "old");
    let verified = kept.verify(&["access.log"], &["--key", &key]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.contains(&format!(" {records} records of 1 boot")), "{verified:?}");
    let shown = kept.path("access.log").display().to_string();
    let summary = run(&["summary", &shown]);
    let told = String::from_utf8_lossy(&summary.stdout).into_owned();
    assert!(told.contains(&format!("{}: {} let through", records / 2, records / 2)), "{told}");
    assert_eq!(String::from_utf8_lossy(&summary.stderr), "", "a seal is no record and no junk");
    // A line that was edited in each of them.
    for part in ["\"outcome\":\"success\"", "\"action_id\":1", "\"decision\":\"allow\",\"reason\""] {
        let other = log.replacen(
            part,
            &part.replace("success", "failure").replace(":1", ":2").replace("allow", "deny"),
            1,
        );
        assert_ne!(other, log, "{part}");
        write(&kept.path("edited.log"), other);
        let verified = kept.verify(&["edited.log"], &["--key", &key]);
        assert_eq!((verified.code, verified.kinds()), (Some(1), vec!["altered"]), "{part}: {verified:?}");
    }
}

/// What a reader like jq or a log router would take for a record is one: a verdict that leaves it out would be another log's.
#[test]
fn what_another_reader_would_take_for_a_record_is_told_of() {
    let kept = Kept::new();
    let proxy = kept.start("1s");
    kept.tunnels(&proxy, 4);
    assert_eq!(proxy.stop().code, 0);
    let key = key(&kept, "old");
    let log = read(&kept.path("access.log"));
    let record = log.lines().nth(1).expect("a record").to_owned();
    let fake =
        "{\"event\":\"open\",\"decision\":\"allow\",\"target\":\"evil.example:443\",\"status\":\"200\"}";
    let with = |line: &str| format!("{log}{line}\n");
    let instead = |line: &str| log.replacen(&record, line, 1);
    let text = Value::from(record.as_str());
    for (other, want) in [
        (with("a line of another program"), vec![]),
        (with("2026-03-01T12:00:00.1Z stderr F started"), vec![]),
        (with("{\"level\":\"info\",\"message\":\"of another program\"}"), vec![]),
        (with(&record[..record.len() - 9]), vec![]),
        (
            instead(&format!("{{\"log\":{text},\"stream\":\"stdout\",\"time\":\"2026-03-01T12:00:00.1Z\"}}")),
            vec![],
        ),
        (with(fake), vec!["inserted"]),
        (with(&format!("2026-03-01T12:00:00.1Z stderr F {fake}")), vec!["inserted"]),
        (with(&format!("2026-03-01T12:00:00.1Z stdout P {fake}")), vec!["inserted"]),
        (with(&format!("{{\"a\":1}}{fake}")), vec!["inserted"]),
        (with(&format!("{{\"a\":\"{}\",{}", "a".repeat(1 << 16), &fake[1..])), vec!["inserted"]),
        (instead(&format!("{{\"log\":{text},{}", &fake[1..])), vec!["altered"]),
        (instead(&record.replacen('{', "{\"Decision\":\"deny\",", 1)), vec!["altered"]),
    ] {
        write(&kept.path("other.log"), &other);
        let verified = kept.verify(&["other.log"], &["--key", &key]);
        let code = if want.is_empty() { 0 } else { 1 };
        assert_eq!((verified.code, verified.kinds()), (Some(code), want), "{other}\n{verified:?}");
    }
}

#[test]
fn a_rotated_log_is_whole_over_its_files_in_any_order_and_packed() {
    use std::io::Write as _;
    let kept = Kept::new();
    let proxy = kept.start("1h");
    let mut names = Vec::new();
    for rotation in 0..3 {
        kept.tunnels(&proxy, 20);
        let name = format!("access.log.{rotation}");
        fs::rename(kept.path("access.log"), kept.path(&name)).expect("renamed");
        proxy.signal(Signal::HUP);
        until("the next file", || kept.path("access.log").exists().then_some(()));
        names.push(name);
    }
    kept.tunnels(&proxy, 20);
    assert_eq!(proxy.stop().code, 0);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(read(&kept.path("access.log.1")).as_bytes()).expect("into memory");
    write(&kept.path("access.log.1"), packer.finish().expect("into memory"));
    let key = key(&kept, "old");
    let verified =
        kept.verify(&["access.log", "access.log.2", "access.log.0", "access.log.1"], &["--key", &key]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.contains(" 160 records of 1 boot"), "{verified:?}");
    let verified = kept.verify(&["access.log", "access.log.2", "access.log.0"], &["--key", &key]);
    assert_eq!(verified.code, Some(1));
    assert!(verified.kinds().iter().all(|kind| ["gap", "unproven"].contains(kind)), "{verified:?}");
}

#[test]
fn a_reader_that_stands_still_loses_nothing() {
    let kept = Kept::new();
    let log = kept.path("access.log");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &log,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("made");
    // A reader that stands still, and goes on: more than a pipe holds waits meanwhile.
    let reader = std::thread::spawn({
        let (log, copy) = (log.clone(), kept.path("copy.log"));
        move || {
            let mut from = fs::File::open(log).expect("opened");
            let mut to = fs::File::create(copy).expect("made");
            std::thread::park();
            std::io::copy(&mut from, &mut to).expect("copied");
        }
    });
    // A pipe without a reader would be refused at start: the two wait for each other in `open`.
    let writer = fs::OpenOptions::new().write(true).open(&log).expect("opened");
    let proxy = kept.start("1s");
    drop(writer);
    kept.tunnels(&proxy, 60);
    reader.thread().unpark();
    Kept::sealed(&proxy, 120);
    assert_eq!(proxy.stop().code, 0);
    reader.join().expect("it read");
    let verified = kept.verify(&["copy.log"], &["--key", &key(&kept, "old")]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.contains(" 120 records of 1 boot"), "{verified:?}");
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    let kept = Kept::new();
    write(&kept.path("plain.log"), "{\"event\":\"open\"}\n");
    write(&kept.path("none.log"), "nothing\n");
    let (public, secret) = (key(&kept, "old"), kept.path("old/seal.key").display().to_string());
    for (log, more, code, want) in [
        ("none.log", vec!["--key", &*public], 1, "no sealed records in "),
        ("plain.log", vec!["--key", &*secret], 1, "holds a private key, which belongs to egressd alone"),
        ("plain.log", vec![], 2, "--key <PUB>"),
        ("plain.log", vec!["--key", &*public, "--from", "soon"], 2, "write a day, such as 2026-03-01"),
        (
            "plain.log",
            vec!["--key", &*public, "--from", "2026-03-02", "--to", "2026-03-01"],
            2,
            "is not before --to",
        ),
        ("plain.log", vec!["--key", &*public, "--expect", &*public], 1, "names no boot"),
        ("missing.log", vec!["--key", &*public], 1, "cannot read the log "),
    ] {
        let verified = kept.verify(&[log], &more);
        assert!(
            verified.code == Some(code) && verified.stderr.contains(want),
            "{log} {more:?}: {verified:?}"
        );
    }
    let verified = kept.verify(&["plain.log"], &["--key", &public]);
    assert_eq!((verified.code, verified.kinds()), (Some(1), vec!["inserted"]), "{verified:?}");
    let again = run(&["seal", "new", "--out", shown(&kept.path("old"))]);
    assert_eq!(again.status.code(), Some(1));
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("ASCII")
}
