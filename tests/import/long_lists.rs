//! Lists that are too long to be written into egressd.yaml, for many clients.

use std::fmt::Write as _;
use std::path::Path;

use egressd::commands::import::squid::{self, Choices, Files, Imported, NoteKind};
use egressd::config;

const NAMES: usize = 3_000;
const CLIENTS: usize = 20;

/// A list for each of many clients, each of which has a list of its own too.
fn import(directory: &Path, more: &str) -> Imported {
    let mut list: String = (0..NAMES).fold(String::new(), |mut list, number| {
        writeln!(list, ".host{number}.example{}.com", number % 97).expect("a String takes all");
        list
    });
    list += more;
    std::fs::write(directory.join("list"), list).expect("writable");
    let mut conf = format!(
        "acl Safe_ports port 80 21 443 70 210 1025-65535\nacl SSL_ports port 443\nacl list dstdomain \"{}\"\n",
        directory.join("list").display()
    );
    let mut rules = "http_access deny !Safe_ports\nhttp_access deny CONNECT !SSL_ports\n".to_owned();
    for client in 0..CLIENTS {
        writeln!(
            conf,
            "acl c{client} src 10.{client}.0.0/16\nacl own{client} dstdomain .own{client}.example.org"
        )
        .and_then(|()| {
            writeln!(rules, "http_access allow c{client} own{client}\nhttp_access allow c{client} list")
        })
        .expect("a String takes all");
    }
    let main = directory.join("squid.conf");
    std::fs::write(&main, conf + &rules + "http_access deny all\n").expect("writable");
    squid::squid(&Files::on_disk(None), &main.display().to_string(), Choices::default()).expect("imported")
}

fn lines(imported: &Imported, what: &str) -> usize {
    imported.yaml.lines().filter(|line| line.contains(what)).count()
}

#[test]
fn a_long_list_with_an_address_stays_a_file_for_every_client() {
    let directory = tempfile::tempdir().expect("a directory");
    let imported = import(directory.path(), "52.0.113.7\n[2600::7]\n");
    assert_eq!(lines(&imported, "- file: "), CLIENTS, "{}", imported.yaml);
    assert!(imported.yaml.lines().count() < 30 * CLIENTS, "{}", imported.yaml.lines().count());
    assert!(!imported.yaml.contains("52.0.113.7"), "the file says so");
    assert!(imported.notes.len() < 200, "{}", imported.notes.len());
    let config = config::load_str("egressd.yaml", &imported.yaml, |path: &Path| std::fs::read(path));
    let config = config.expect("it loads").config;
    assert!(config.policies.iter().all(|policy| policy.rule_count() > NAMES));
}

/// Of a long list, the lines that egressd refuses have to leave the file first, which is told of each; and those that match nothing
/// in Squid are denied.
#[test]
fn lines_that_must_leave_a_long_list_are_told_and_nothing_else_keeps_the_result_from_loading() {
    let directory = tempfile::tempdir().expect("a directory");
    let imported = import(
        directory.path(),
        "one.example two.example\n\"quoted.example\"\n.dead.example.net.\n*.star.example\n",
    );
    assert_eq!(lines(&imported, "- file: "), CLIENTS);
    assert_eq!(lines(&imported, "- .dead.example.net"), CLIENTS);
    assert_eq!(lines(&imported, "- \"*.star.example\""), CLIENTS);
    let list = directory.path().join("list");
    let shown = list.display().to_string();
    let leaving = |needle: &str| -> Vec<usize> {
        let notes = imported.notes.iter().filter(|note| *note.file == shown && note.text.contains(needle));
        notes.map(|note| usize::try_from(note.line).expect("a line number")).collect()
    };
    assert_eq!(leaving("take it out of the file before egressd reads it"), [NAMES + 1, NAMES + 2]);
    assert_eq!(leaving("which is denied beside the file"), [NAMES + 3, NAMES + 4]);
    let load = || config::load_str("egressd.yaml", &imported.yaml, |path: &Path| std::fs::read(path));
    let findings = load().expect_err("it refuses them");
    assert!(
        findings.iter().any(|finding| *finding.file == shown && finding.line as usize == NAMES + 1),
        "{findings:?}"
    );
    let text = std::fs::read_to_string(&list).expect("readable");
    let kept =
        text.lines().enumerate().filter(|(at, _)| ![NAMES, NAMES + 1].contains(at)).map(|(_, line)| line);
    std::fs::write(&list, kept.collect::<Vec<_>>().join("\n")).expect("writable");
    load().expect("what was told is all");
}

/// A list in another language is no list of rules: nothing of it is carried over.
#[test]
fn a_long_list_of_which_much_is_read_otherwise_is_left_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let odd: String = (0..600).map(|number| format!("http://www{number}.example.net/\n")).collect();
    let imported = import(directory.path(), &odd);
    assert_eq!(lines(&imported, "- file: "), 0);
    assert_eq!(lines(&imported, "host1."), 0, "{}", imported.yaml);
    let told: Vec<String> = imported
        .notes
        .iter()
        .filter(|note| {
            note.kind == NoteKind::Stricter
                && note.text.contains("is left out: egressd reads 600 of its lines")
        })
        .map(ToString::to_string)
        .collect();
    assert!(told.len() == 1 && told[0].contains(&format!("from line {} on", NAMES + 1)), "{told:?}");
    assert!(imported.notes.len() < 200, "{}", imported.notes.len());
}
