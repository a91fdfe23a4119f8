//! What a person sees for rules that are valid but unwise: every warning, word for word.

use std::path::{Path, PathBuf};

use egressd::config;

const DIRECTORY: &str = "tests/lint";

/// `NAME.yaml` must load with the warnings of `NAME.expected`. With UPDATE_EXPECTED=1 they are written instead: read the
/// difference before you commit it.
#[test]
fn every_warning_about_rules_is_reported_with_its_place() {
    let entries = std::fs::read_dir(DIRECTORY).expect("the directory is in the repository");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 11, "{} files", files.len());
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("named in ASCII");
        let read = |path: &Path| std::fs::read(Path::new(DIRECTORY).join(path));
        let content = std::fs::read(&path).expect("listed just now");
        let loaded = config::load_bytes(name, &content, read)
            .unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
        let got: String = loaded.warnings.iter().map(|finding| format!("{finding}\n")).collect();
        let expected = path.with_extension("expected");
        if update {
            std::fs::write(&expected, &got).expect("the tree is writable");
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != got {
            wrong += &format!("{name}:\n{got}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// An error hides no warning about anything else: each file above, with an error in another section, and with one in another policy.
#[test]
fn every_warning_is_told_beside_an_error_elsewhere() {
    let without_numbers = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    let mut seen = 0;
    for entry in std::fs::read_dir(DIRECTORY).expect("the directory is in the repository") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).expect("named in ASCII");
        let text = std::fs::read_to_string(&path).expect("listed just now");
        let want = std::fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        let read = |path: &Path| std::fs::read(Path::new(DIRECTORY).join(path));
        let told = |text: &str| {
            let findings = config::load_bytes(name, text.as_bytes(), read).expect_err("it has an error");
            findings.iter().map(ToString::to_string).collect::<Vec<String>>()
        };
        let elsewhere = told(&format!("{text}shutdown: {{delay: soon}}\n"));
        // Whether nothing inspects, nothing has a budget, and what reaches a transparent listener, is known only of a whole configuration.
        let whole = ["no rule inspects", "`upload_budget`", "transparent"];
        let known = |line: &&str| !whole.iter().any(|words| line.contains(words));
        for line in want.lines().filter(known) {
            assert!(elsewhere.iter().any(|told| told == line), "{name}: {line} is not in {elsewhere:#?}");
            seen += 1;
        }
        let Some((before, after)) = text.split_once("policies:\n  - ") else { continue };
        let broken = "policies:\n  - {name: broken, clients: {networks: [198.51.100.0/24]}, allow: [a..example]}\n  - ";
        let elsewhere = told(&format!("{before}{broken}{after}"));
        let elsewhere: Vec<String> = elsewhere.iter().map(|line| without_numbers(line)).collect();
        for line in want.lines().filter(known).map(without_numbers) {
            assert!(elsewhere.contains(&line), "{name}: {line} is not in {elsewhere:#?}");
        }
    }
    assert!(seen >= 100, "{seen} warnings");
}

/// A warning about one entry of `requests` is where that entry says it, and not at the rule: a rule may have a thousand entries.
#[test]
fn no_warning_about_an_entry_is_at_its_rule() {
    let mut seen = 0;
    for name in ["entries.yaml", "git.yaml"] {
        let content = std::fs::read_to_string(Path::new(DIRECTORY).join(name)).expect("a golden file");
        let read = |path: &Path| std::fs::read(Path::new(DIRECTORY).join(path));
        let loaded = config::load_bytes(name, content.as_bytes(), read).expect("it is valid");
        let about_entries = loaded
            .warnings
            .iter()
            .filter(|told| told.text.contains(": entry ") || told.text.contains(" of entry "));
        for told in about_entries {
            assert_eq!(&*told.file, name, "{told}");
            let line = content.lines().nth(told.line as usize - 1).expect("the line is there");
            let from: String = line.chars().skip(told.column as usize - 1).collect();
            let is_rule = ["to: ", "{to: ", "set: ", "file: ", "- to: "].iter().any(|key| {
                let before: String = line.chars().take(told.column as usize - 1).collect();
                before.trim_start().trim_start_matches("- ").ends_with(key) || from.starts_with(key)
            });
            assert!(!is_rule, "{told}: {line}");
            seen += 1;
        }
    }
    assert!(seen >= 25, "{seen} warnings about entries");
}
