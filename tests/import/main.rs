//! `egressd import squid`: what a Squid configuration becomes, word for word; and that this is never wider than Squid.

mod command;
mod deployment;
mod long_lists;
mod never_wider;
mod no_line_lost;
mod regexes;
mod timeouts;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use egressd::commands::import::squid::{self, Choices, Files};
use egressd::config;

const CASES: &str = "tests/import/cases";
/// Where `/etc/squid/…` of the cases is.
const ROOT: &str = "tests/import/root";

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(CASES).expect("the directory is in the repository");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf" || extension == "maps"))
        .collect();
    cases.sort();
    cases
}

/// Imports a case. Files that `NAME.conf` names are below `NAME.root`, else below [`ROOT`]; `NAME.maps` are ConfigMaps. The policies
/// of a case whose name begins with `report-` are asked for in report mode.
fn import(case: &Path) -> squid::Imported {
    let root = Some(case.with_extension("root")).filter(|root| root.exists()).unwrap_or_else(|| ROOT.into());
    let (files, main) = if case.extension().is_some_and(|extension| extension == "maps") {
        Files::in_config_maps(&std::fs::read_to_string(case).expect("readable")).expect("ConfigMaps")
    } else {
        (Files::on_disk(Some(root)), case.display().to_string())
    };
    let report = case.file_name().is_some_and(|name| name.to_string_lossy().starts_with("report-"));
    squid::squid(&files, &main, Choices { report, ..Choices::default() })
        .unwrap_or_else(|error| panic!("{}: {error}", case.display()))
}

/// `NAME.conf` must become `NAME.yaml`, with the messages in `NAME.told`. With UPDATE_EXPECTED=1 both files are written
/// instead: read the difference before you commit it.
#[test]
fn every_case_becomes_what_is_expected_and_reports_what_is_lost() {
    let cases = cases();
    assert!(cases.len() >= 25, "{} cases", cases.len());
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    for case in cases {
        let name = case.file_name().and_then(|name| name.to_str()).expect("named in ASCII");
        let imported = import(&case);
        let told: String = imported.notes.iter().map(|note| format!("{note}\n")).collect();
        let told = told.replace(&format!("{CASES}/"), "");
        for (extension, got) in [("yaml", imported.yaml.replace(&format!("{CASES}/"), "")), ("told", told)] {
            let expected = case.with_extension(extension);
            if update {
                std::fs::write(&expected, &got).expect("the tree is writable");
            }
            let want = std::fs::read_to_string(&expected).unwrap_or_default();
            if got != want {
                writeln!(wrong, "--- {name} should be {}\n{want}--- and is\n{got}", expected.display())
                    .expect("a String takes all");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What is printed is a configuration that the program accepts.
#[test]
fn what_is_printed_loads() {
    for case in cases() {
        let yaml = std::fs::read_to_string(case.with_extension("yaml")).expect("next to its case");
        // The directory of the cases is taken out of what is expected.
        let read = |path: &Path| {
            let content = std::fs::read(Path::new(CASES).join(path)).or_else(|_| std::fs::read(path))?;
            // A user with such a hash has to leave the file first, which is told.
            let kept = content.split_inclusive(|byte| *byte == b'\n');
            Ok(kept
                .filter(|line| !line.windows(6).any(|part| part == b"$apr1$"))
                .flatten()
                .copied()
                .collect())
        };
        if let Err(findings) = config::load_str("egressd.yaml", &yaml, read) {
            panic!("{}: {findings:#?}", case.display());
        }
    }
}

/// How many cases a property gets: `PROPTEST_CASES`, else what is usual for it.
fn property_cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}
