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
                    "egressd.yaml:1:40: warning: every user of this machine may read the authority's key (mode {mode:03o})"
                );
                assert!(warnings.len() == 1 && warnings[0].contains(&want), "{mode:o}: {warnings:?}");
            }
        }
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
