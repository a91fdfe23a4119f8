//! The authority for inspection: what is asked of the disk, and what a configuration has of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use egressd::config;
use egressd::words::target::Name;

const TEXT: &str = "inspection: {certificate: ca.crt, key: ca.key}\n\
                    policies: [{name: p, allow: [{to: git.example.com, inspect: true}]}]\n";

fn write(directory: &Path, text: &str, mode: u32) {
    let files = Path::new("tests/lint/files");
    fs::write(directory.join("egressd.yaml"), text).expect("written");
    fs::copy(files.join("authority.crt"), directory.join("ca.crt")).expect("copied");
    fs::copy(files.join("authority.key"), directory.join("ca.key")).expect("copied");
    fs::set_permissions(directory.join("ca.key"), fs::Permissions::from_mode(mode)).expect("changed");
}

#[test]
fn a_key_that_every_user_may_read_gets_a_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    for (mode, told) in [(0o600, false), (0o640, false), (0o440, false), (0o644, true), (0o666, true)] {
        write(directory.path(), TEXT, mode);
        let loaded = config::load(Some(&directory.path().join("egressd.yaml")))
            .unwrap_or_else(|findings| panic!("{findings:?}"));
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        match told {
            false => assert!(warnings.is_empty(), "{mode:o}: {warnings:?}"),
            true => {
                let want = format!(
                    "egressd.yaml:1:40: warning: every user of this machine may read the authority's key, and with it sign what clients accept (mode {mode:03o})"
                );
                assert!(warnings.len() == 1 && warnings[0].contains(&want), "{mode:o}: {warnings:?}");
            }
        }
    }
}

/// Each kind of secret that a configuration names, under a name that says which it is.
#[test]
fn every_secret_that_every_user_may_read_gets_a_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "\
listeners:
  - address: 127.0.0.1:3128
    tls: {certificate: proxy.crt, key: tls.secret}
    basic_auth: {users_file: users.secret}
upstream_proxy: {url: \"https://proxy.corp:3128\", credentials_file: parent.secret}
inspection: {certificate: ca.crt, key: ca.secret}
access_log: {seal: {key: seal.secret}}
policies:
  - name: p
    allow:
      - {to: git.example.com, requests: [{credentials_file: sent.secret}]}
      - {to: a.git.example.com, headers: {set_files: {X-Token: field.secret}}}
";
    let files = Path::new("tests/lint/files");
    let copy = |from: &str, to: &str| fs::copy(files.join(from), directory.path().join(to)).expect("copied");
    for (from, to) in [
        ("proxy.crt", "proxy.crt"),
        ("proxy.key", "tls.secret"),
        ("authority-free.crt", "ca.crt"),
        ("authority.key", "ca.secret"),
        ("seal.key", "seal.secret"),
    ] {
        copy(from, to);
    }
    let hash = "gitaly:$2y$10$TIKKMvFgyl8LJCFk0GiSSu3PdaXrU8mN0Wk3gRqEa7HbOYtRXL1lK\n";
    for (name, content) in [
        ("users.secret", hash),
        ("parent.secret", "user:one\n"),
        ("sent.secret", "user:two\n"),
        ("field.secret", "t\n"),
    ] {
        fs::write(directory.path().join(name), content).expect("written");
    }
    fs::write(directory.path().join("egressd.yaml"), text).expect("written");
    // The directory has all secrets: a new key for one is added here.
    let names: Vec<String> =
        text.split([' ', ',', '}']).filter(|word| word.ends_with(".secret")).map(str::to_owned).collect();
    assert_eq!(names.len(), 7);
    let told = |open: &str| -> Vec<(u32, u32)> {
        for name in &names {
            let mode = if name == open { 0o604 } else { 0o640 };
            let path = directory.path().join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
        }
        let loaded = config::load(Some(&directory.path().join("egressd.yaml")))
            .unwrap_or_else(|findings| panic!("{findings:?}"));
        let about =
            |finding: &&config::Finding| finding.text.starts_with("every user of this machine may read ");
        loaded.warnings.iter().filter(about).map(|finding| (finding.line, finding.column)).collect()
    };
    assert_eq!(told(""), []);
    for name in &names {
        let (line, column) = text
            .lines()
            .zip(1_u32..)
            .find_map(|(line, number)| Some((number, u32::try_from(line.find(name.as_str())?).ok()? + 1)))
            .expect("it is there");
        assert_eq!(told(name), [(line, column)], "{name}");
    }
}

#[test]
fn a_configuration_has_its_authority_and_watches_its_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let load = |text: &str| {
        write(directory.path(), text, 0o600);
        config::load(Some(&directory.path().join("egressd.yaml")))
            .unwrap_or_else(|findings| panic!("{findings:?}"))
            .config
    };
    let config = load(TEXT);
    let minter = &config.inspection.as_ref().expect("there").minter;
    assert_eq!(minter.lifetime(), Duration::from_secs(86_400));
    assert_eq!(minter.may_mint(&Name::parse("git.example.com").expect("a name")), Ok(()));
    assert!(minter.may_mint(&Name::parse("example.com").expect("a name")).is_err());
    assert_eq!(minter.authority().expires().to_string(), "2990-01-01T00:00:00Z");
    let watched: Vec<_> = config.files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(watched, ["egressd.yaml", "ca.crt", "ca.key"]);

    let shorter = load(&TEXT.replace("ca.key}", "ca.key, leaf_lifetime: 90m}"));
    assert_eq!(shorter.inspection.expect("there").minter.lifetime(), Duration::from_secs(5_400));
    let without = load("policies: [{name: p, allow: [git.example.com]}]\n");
    assert!(without.inspection.is_none());
}
