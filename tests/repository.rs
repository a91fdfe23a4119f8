//! What the files of the repository say of each other is one and the same: versions, what programs need, and what the alerts are about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use egressd::words::outcome::Reason;
use serde_json::Value;

fn read(file: impl AsRef<std::path::Path>) -> String {
    std::fs::read_to_string(file.as_ref()).expect("the file is in the repository")
}

/// `tests/run` promises that all other steps stay on loopback.
#[test]
fn every_long_program_that_downloads_says_so() {
    let entries = std::fs::read_dir("tests/long").expect("in the repository");
    let programs = entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file());
    let mut downloading = 0;
    for program in programs {
        let text = read(&program);
        let by = [
            "bin/pip\"",
            "tests/clients/",
            "npm-cli.js",
            "apt-get",
            "cargo install --locked",
            "import tools",
            "from tools import",
            "SQUID_OPENSSL_DEB",
            "mmdebstrap --",
        ];
        let downloads = by.iter().any(|by| text.contains(by));
        let says = text.lines().any(|line| line.starts_with("# downloads: "));
        assert_eq!(downloads, says, "{}", program.display());
        downloading += usize::from(says);
    }
    assert!(downloading > 0);
}

/// A host of a public registry is written only where it is data: in the rule sets with their tests and page, in lock files and in
/// `deny.toml`. Anything else would make a build or a test reach for it.
#[test]
fn hosts_of_registries_stand_in_rule_sets_alone() {
    let names = [
        "crates",
        "docker-hub",
        "ghcr",
        "maven-central",
        "npm",
        "pypi",
        "quay",
        "rubygems",
        "go-modules",
        "alpine",
    ];
    let mut hosts: Vec<String> = Vec::new();
    for name in names {
        for version in egressd::config::sets::versions(name) {
            let set = egressd::config::sets::find(name, version).expect("it can be read");
            let host = |rule: &str| rule.rsplit('/').next().unwrap_or(rule).to_owned();
            hosts.extend(set.rules.iter().map(|rule| host(rule.rule)));
        }
    }
    assert!(hosts.len() > 20);
    // A name that is also a word of other names and of sentences is no sign of one.
    hosts.retain(|host| host.matches('.').count() > 1);
    let mut folders = vec![std::path::PathBuf::from(".")];
    let (mut found, mut read) = (Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("readable").path())
        {
            let shown = path.display().to_string();
            let shown = shown.trim_start_matches("./");
            let is_data =
                ["src/config/sets", "docs/sets.md", "deny.toml"].contains(&shown) || shown.ends_with("lock");
            if is_data || ["target", ".git"].contains(&shown) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                read += 1;
                found.extend(
                    hosts.iter().filter(|host| text.contains(*host)).map(|host| format!("{shown}: {host}")),
                );
            }
        }
    }
    assert!(read > 500, "{read} files");
    assert_eq!(found, [""; 0]);
}

/// What follows `before` in a file, up to the end of the line, without quotes.
fn said(file: &str, before: &str) -> String {
    let text = read(file);
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(before));
    line.unwrap_or_else(|| panic!("{file} has no line that begins with {before}"))
        .trim_matches('"')
        .to_owned()
}

#[test]
fn one_release_of_rust_is_named_everywhere() {
    let release = said("Cargo.toml", "rust-version = ");
    assert_eq!(said("rust-toolchain.toml", "channel = "), format!("{release}.0"));
    let image = format!("rust:{release}-bookworm");
    assert_eq!(said("docker/Dockerfile", "FROM --platform=$BUILDPLATFORM "), format!("{image} AS builder"));
    assert_eq!(said(".gitlab-ci.yml", "image: "), image);
    assert_eq!(said(".github/workflows/ci.yml", "image: "), image);
    assert!(read("README.md").contains(&format!("Rust toolchain ({release} or newer)")));
}

#[test]
fn one_version_of_egressd_is_named_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(said("docker/Dockerfile", "ARG VERSION="), version);
    assert_eq!(said("k8s/base/kustomization.yaml", "newTag: "), version);
    assert_eq!(said("k8s/chart/Chart.yaml", "version: "), version);
    assert_eq!(said("k8s/chart/Chart.yaml", "appVersion: "), version);
    for lock in ["Cargo.lock", "tests/fuzz/Cargo.lock"] {
        assert!(read(lock).contains(&format!("name = \"egressd\"\nversion = \"{version}\"")), "{lock}");
    }
}

/// Both call the same scripts, so that a change passes on one exactly if it passes on the other.
#[test]
fn both_kinds_of_ci_run_the_same_scripts() {
    let scripts = |file: &str| -> Vec<String> {
        let text = read(file);
        let lines =
            text.lines().map(|line| line.trim_start().trim_start_matches("- ").trim_start_matches("run: "));
        lines
            .filter(|line| line.starts_with(".ci/run") || line.starts_with("tests/"))
            .map(str::to_owned)
            .collect()
    };
    let github = scripts(".github/workflows/ci.yml");
    assert_eq!(github, [".ci/run", ".ci/run --long", "tests/long/deny"]);
    assert_eq!(scripts(".gitlab-ci.yml"), github);
}

/// A tag of an action can be moved to other code; a commit cannot.
#[test]
fn both_kinds_of_ci_make_a_release_by_its_script_and_actions_are_named_by_their_commit() {
    let workflow = read(".github/workflows/release.yml");
    for ci in [&*workflow, &read(".gitlab-ci.yml")] {
        assert!(ci.contains("docker/release --key "), "{ci}");
    }
    assert!(workflow.contains(&format!("image: rust:{}-bookworm", said("Cargo.toml", "rust-version = "))));
    let mut actions = 0;
    for text in [workflow, read(".github/workflows/ci.yml")] {
        for action in
            text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("uses: "))
        {
            let commit = action.split_once('@').and_then(|(_, rest)| rest.split_once(" # v"));
            let (commit, _) = commit.unwrap_or_else(|| panic!("{action}: no commit with a version after it"));
            assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{action}");
            actions += 1;
        }
    }
    assert!(actions >= 7, "{actions}");
}

/// The files in `directory` and below whose name ends so.
fn files(directory: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the directory is in the repository") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, end, found);
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
}

/// As a reader runs it who has nothing but the repository, and certificates and passwords of his own.
#[test]
fn every_configuration_that_is_shipped_passes_check_where_it_lies() {
    let mut shipped = Vec::new();
    for directory in ["config", "docker", "k8s"] {
        files(Path::new(directory), ".yaml", &mut shipped);
    }
    shipped.retain(|file| read(file).lines().any(|line| line == "policies:"));
    assert!(shipped.len() >= 12, "{shipped:?}");
    let own =
        rcgen::generate_simple_self_signed(["egressd.example.internal".to_owned()]).expect("a certificate");
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    for file in shipped {
        let copy = tempfile::tempdir().expect("a directory");
        let beside = std::fs::read_dir(file.parent().expect("a directory")).expect("in the repository");
        for path in beside.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file()) {
            let to = copy.path().join(path.file_name().expect("a name"));
            std::fs::copy(&path, &to).expect("copied, and not as a link");
        }
        for (name, content) in [
            ("tls/tls.crt", &*certificate),
            ("tls/tls.key", &key),
            ("tls/ca.crt", &certificate),
            ("ca/authority.crt", include_str!("lint/files/authority-free.crt")),
            ("ca/authority.key", include_str!("lint/files/authority.key")),
            ("push.cred", "gitlab-mirror-at-456247553902:s3cret\n"),
            ("store/valkey.cred", "egressd:s3cret\n"),
            ("store/ca.crt", &certificate),
        ] {
            let path = copy.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        let copied = copy.path().join(file.file_name().expect("a name"));
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_egressd"));
        let ran = check.arg("check").arg("-c").arg(&copied).output().expect("it runs");
        let said = String::from_utf8_lossy(&[ran.stderr, ran.stdout].concat()).into_owned();
        assert_eq!(ran.status.code(), Some(0), "{}:\n{said}", file.display());
    }
}

/// The first column and the last of the rows of the table with this header.
fn table(page: &str, header: &str) -> Vec<(String, String)> {
    let text = read(page);
    let rows = text.lines().skip_while(|line| !line.starts_with(header)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|row| {
        let mut cells = row.trim_matches('|').split('|');
        (cells.next().unwrap_or_default().to_owned(), cells.next_back().unwrap_or_default().to_owned())
    });
    rows.collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The expressions of the PrometheusRule with the names of their alerts, and their annotations.
fn alerts() -> Vec<(String, String, Value)> {
    let rule: Value =
        serde_saphyr::from_str(&read("k8s/components/monitoring/prometheusrule.yaml")).expect("YAML");
    let groups = rule["spec"]["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules").clone());
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    rules.map(|rule| (text(&rule["alert"]), text(&rule["expr"]), rule["annotations"].clone())).collect()
}

/// The person who gets an alert follows its link.
#[test]
fn each_alert_leads_to_its_section_of_the_runbook() {
    let alerts = alerts();
    assert!(alerts.len() >= 19, "{} alerts", alerts.len());
    let places: BTreeSet<String> = alerts
        .iter()
        .map(|(name, _, annotations)| {
            let url =
                annotations["runbook_url"].as_str().unwrap_or_else(|| panic!("{name} has no runbook_url"));
            let (place, anchor) = url.split_once('#').unwrap_or_else(|| panic!("{url} has no anchor"));
            let page = place.find("docs/").map(|begin| &place[begin..]).expect("a page of docs/");
            let heading = format!("\n## {name}\n");
            assert!(url.starts_with("https://") && read(page).contains(&heading), "{url}");
            // As GitHub and GitLab make it of the heading.
            assert_eq!(anchor, name.to_lowercase(), "{url}");
            place.to_owned()
        })
        .collect();
    assert_eq!(places.len(), 1, "one address, which one command replaces: {places:?}");
}

/// The words in a query that are names of metrics: those with the prefix of egressd or of its process.
fn metrics_in(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("egressd_") || word.starts_with("process_")).collect()
}

/// A query of a metric that is not there is no error: it is an alert that never fires, and an empty panel.
#[test]
fn every_metric_in_an_alert_in_a_panel_and_in_the_runbook_is_one() {
    let rows = table("docs/metrics.md", "| metric |");
    let told: BTreeSet<&str> = rows
        .iter()
        .flat_map(|(first, last)| quoted(first).chain(quoted(last)))
        .filter(|word| word.starts_with("egressd_") || (word.starts_with("process_") && !word.ends_with('*')))
        .collect();
    let is_told = |name: &str| {
        let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
        told.contains(name) || of_histogram.is_some_and(|name| told.contains(name))
    };
    let dashboard = read("k8s/components/monitoring/dashboard.json");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let mut texts = vec![("docs/runbook.md".to_owned(), read("docs/runbook.md"))];
    texts.extend(alerts().into_iter().map(|(name, expr, _)| (name, expr)));
    texts.extend(
        dashboard["panels"]
            .as_array()
            .expect("panels")
            .iter()
            .chain(dashboard["annotations"]["list"].as_array().expect("annotations"))
            .flat_map(|panel| {
                let targets = panel["targets"].as_array().cloned().unwrap_or_default();
                targets
                    .into_iter()
                    .chain([panel.clone()])
                    .filter_map(|target| target["expr"].as_str().map(str::to_owned))
            })
            .map(|expr| ("the dashboard".to_owned(), expr)),
    );
    let mut found = 0;
    for (place, text) in &texts {
        for name in metrics_in(text) {
            assert!(is_told(name), "{place}: {name} is not in docs/metrics.md");
            found += 1;
        }
    }
    assert!(found > 40, "{found} names");
}

/// The section says what to do on each reason that the alert counts.
#[test]
fn the_runbook_explains_every_reason_of_the_alert_for_errors() {
    let alerts = alerts();
    let (_, expr, _) = alerts.iter().find(|(name, ..)| name == "EgressdErrors").expect("the alert");
    let patterns: Vec<&str> =
        expr.split("reason=~\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect();
    assert_eq!(BTreeSet::from_iter(&patterns).len(), 1, "the same reasons over both times");
    let counted = |reason: &str| {
        patterns[0].split('|').any(|pattern| match pattern.strip_suffix(".*") {
            Some(begin) => reason.starts_with(begin),
            None => reason == pattern,
        })
    };
    let rows = table("docs/runbook.md", "| reason | check |");
    let told: BTreeSet<&str> = rows.iter().flat_map(|(first, _)| quoted(first)).collect();
    let due: BTreeSet<&str> =
        Reason::ALL.iter().map(|reason| reason.as_str()).filter(|reason| counted(reason)).collect();
    assert_eq!(told, due);
}
