//! The suite is complete, and SECURITY.md agrees with it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::suite::cases;
use crate::suite::catalogue::{PTR, ROWS};
use crate::suite::table;
use crate::support::read;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The numbers in the names of this suite's tests.
fn tested() -> BTreeSet<u8> {
    let files = std::fs::read_dir(root().join("tests/threats")).expect("the suite");
    let texts = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let number = |line: &str| line.strip_prefix("fn t")?.get(..2)?.parse().ok();
    texts.flat_map(|path| read(&path).lines().filter_map(number).collect::<Vec<u8>>()).collect()
}

#[test]
fn every_row_of_the_catalogue_has_a_test_by_its_number() {
    let rows: BTreeSet<u8> = (1..=85).chain(90..=95).chain([PTR]).collect();
    assert_eq!(ROWS.iter().map(|row| row.number).collect::<BTreeSet<u8>>(), rows);
    assert_eq!(ROWS.len(), rows.len(), "a row twice");
    assert_eq!(tested(), rows);
    for row in ROWS {
        assert_ne!(row.not_sent.is_empty(), cases::of_row(row.number).is_empty(), "row {}", row.number);
    }
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let cases = cases::all();
    let names: BTreeSet<(u8, &str)> = cases.iter().map(|case| (case.row, case.what.as_str())).collect();
    assert_eq!(names.len(), cases.len());
    for (_, name) in names {
        assert!(!name.contains(['\t', '\n']), "{name:?} does not fit a line of the table");
    }
}

#[test]
fn security_md_says_what_the_suite_shows() {
    let text = read(&root().join("SECURITY.md"));
    let table = table::placed(&text).expect("SECURITY.md has the table");
    let lines: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(lines.len(), ROWS.len());
    for (line, row) in lines.iter().zip(ROWS) {
        let begin = table::egressd(row);
        assert!(
            line.starts_with(&begin),
            "SECURITY.md is out of step: tests/threats/run --write\n  it says {line}\n  instead of {begin}"
        );
    }
    assert!(!table.contains("not measured"), "a case is new: tests/threats/run --write");
}
