//! What a person who writes a configuration sees: every error of every broken file, word for word. Also: the files that
//! ship load.

mod doubts;
mod edits;
mod every_key;
mod include;
mod inspection;
mod meaning;
mod schema;

use egressd::config::{self, Finding};
use proptest::prelude::*;
use std::io;
use std::path::{Path, PathBuf};

const BROKEN: &str = "tests/config/broken";

/// Loads `name` from the directory of broken files, as a user inside that directory would.
fn load(name: &str) -> Result<config::Loaded, Vec<Finding>> {
    let read = |path: &Path| std::fs::read(Path::new(BROKEN).join(path));
    let content = std::fs::read(Path::new(BROKEN).join(name)).expect("listed just now");
    config::load_bytes(name, &content, read)
}

fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory is in the repository");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// `NAME.yaml` must be refused with the lines of `NAME.expected`. With UPDATE_EXPECTED=1 they are written instead: read
/// the difference before you commit it.
#[test]
fn every_broken_file_reports_all_its_errors_with_their_places() {
    let files = yaml_files(BROKEN);
    assert!(files.len() >= 40, "{} files", files.len());
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("named in ASCII");
        let findings = match load(name) {
            Err(findings) => findings,
            Ok(_) => panic!("{name} loads"),
        };
        let got: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        let expected = path.with_extension("expected");
        if update {
            std::fs::write(&expected, &got).expect("the tree is writable");
        }
        let want = std::fs::read_to_string(&expected).unwrap_or_default();
        if got != want {
            wrong += &difference(name, &want, &got);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The lines that only one of the two has.
fn difference(name: &str, want: &str, got: &str) -> String {
    let gone = want
        .lines()
        .filter(|line| !got.lines().any(|other| other == *line))
        .map(|line| format!("- {line}\n"));
    let new = got
        .lines()
        .filter(|line| !want.lines().any(|other| other == *line))
        .map(|line| format!("+ {line}\n"));
    let lines: String = gone.chain(new).collect();
    format!("{name}: {}\n{lines}", if lines.is_empty() { "same lines, other order" } else { "" })
}

#[test]
fn the_embedded_default_loads_and_warns_of_its_one_wide_rule() {
    let loaded = config::load(None).expect("the default loads");
    assert!(loaded.config.files.is_empty(), "it names none");
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("default:44:9: warning: `*.amazonaws.com` also matches "), "{told:?}");
    assert!(told[0].contains("`git-codecommit.*.amazonaws.com`"), "it says what to write instead: {told:?}");
}

#[test]
fn every_example_loads_and_warns_only_of_what_it_shows_on_purpose() {
    let examples = yaml_files("config/examples");
    assert!(examples.len() >= 4);
    for path in examples {
        // Those with an authority are held by tests/codecommit, which makes one.
        if std::fs::read_to_string(&path).expect("readable").contains("\ninspection:") {
            continue;
        }
        let loaded =
            config::load(Some(&path)).unwrap_or_else(|findings| panic!("{}: {findings:?}", path.display()));
        let told = loaded.warnings.iter().map(ToString::to_string);
        // An example stays as it is; its sets grow old.
        let told: Vec<String> = told.filter(|told| !told.contains("more than a year old")).collect();
        let on_purpose: &[&str] = match path.file_name().and_then(|name| name.to_str()) {
            // A Squid list used as it is, plain HTTP included.
            Some("plain-http-mirror.yaml") => &[
                "config/examples/plain-http-mirror.txt:2:1: warning: `.example.com` covers many hosts and allows plain HTTP",
            ],
            Some("report-mode.yaml") => &[
                "config/examples/report-mode.yaml:20:11: warning: policy `everyone-else` is in report mode: ",
                "config/examples/report-mode.yaml:27:15: warning: with `on_failure: continue` traffic goes out without a record",
            ],
            _ => &[],
        };
        assert_eq!(told.len(), on_purpose.len(), "{told:?}");
        assert!(told.iter().zip(on_purpose).all(|(told, want)| told.starts_with(want)), "{told:?}");
    }
}

#[test]
fn a_named_configuration_that_is_missing_is_refused() {
    let findings = config::load(Some(Path::new("no/such.yaml"))).expect_err("there is none");
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["no/such.yaml:1:1: error: cannot read the file: there is no such file"]);
}

/// Pieces of YAML, which combine into something valid more often than random bytes do.
fn yaml_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("policies:\n  - ".to_owned()),
        Just("allow: [".to_owned()),
        Just("allow_files: [f, {file: f, schemes: [http]}]".to_owned()),
        Just("deny_files: [f]".to_owned()),
        Just("clients: {networks_files: [f]}".to_owned()),
        Just("name: p\n    ".to_owned()),
        Just("to: ".to_owned()),
        Just("listeners: [{address: ".to_owned()),
        Just("dns: {hosts: {".to_owned()),
        Just("tunnel: {idle_timeout: ".to_owned()),
        "[\\[\\]{}:,&*!|>'\"%@#~\\-? \n\t]{1,4}",
        "[a-z0-9.*/:]{1,12}",
        "\\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn no_bytes_make_loading_panic(
        content in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), yaml_like()],
        allow_file in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), yaml_like()],
    ) {
        let read = |path: &Path| match path.to_str() {
            Some("f") => Ok(allow_file.clone()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let (loaded, findings) = match config::load_bytes("c.yaml", &content, read) {
            Ok(loaded) => (true, loaded.warnings),
            Err(findings) => (false, findings),
        };
        let refused = findings.iter().any(|finding| finding.severity == config::Severity::Error);
        prop_assert_eq!(loaded, !refused, "refused with an error, or not at all");
        for finding in &findings {
            prop_assert!(!finding.to_string().contains(char::is_control), "{finding:?}");
            prop_assert!(finding.line >= 1 && finding.column >= 1);
        }
    }
}
