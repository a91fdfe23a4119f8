//! The two files of the deployment that egressd replaces, from disk and as ConfigMaps.

use std::path::Path;

use egressd::commands::import::squid::{self, Choices, Files, Imported, NoteKind};
use egressd::config;

const FILES: &str = "tests/import/deployment";

fn from_disk() -> Imported {
    let files = Files::on_disk(Some(format!("{FILES}/root").into()));
    squid::squid(&files, &format!("{FILES}/root/etc/squid/squid.conf"), Choices::default()).expect("imported")
}

fn from_config_maps() -> Imported {
    let yaml = std::fs::read_to_string(format!("{FILES}/configmaps.yaml")).expect("in the repository");
    let (files, main) = Files::in_config_maps(&yaml).expect("ConfigMaps");
    squid::squid(&files, &main, Choices::default()).expect("imported")
}

#[test]
fn both_ways_say_the_same() {
    let (disk, maps) = (from_disk(), from_config_maps());
    let bare = |imported: &Imported| imported.yaml.replace(&format!("{FILES}/root/etc/squid/"), "");
    assert_eq!(bare(&disk), maps.yaml);
    assert!(maps.yaml.contains("- file: whitelist "), "{}", maps.yaml);
    assert_eq!(disk.notes.len(), maps.notes.len());
}

#[test]
fn the_list_the_clients_and_the_removed_headers_are_imported() {
    let imported = from_disk();
    let config = config::load_str("egressd.yaml", &imported.yaml, |path: &Path| std::fs::read(path))
        .expect("loads")
        .config;
    let policy = config.policies.iter().next().expect("one policy");
    assert_eq!((&**policy.name(), policy.rule_count()), ("localnet", 2));
    assert_eq!(policy.clients().networks, ["192.168.0.0/16".parse().expect("a network")]);
    let headers: Vec<&str> = config.http.remove_request_headers.iter().map(|name| name.as_str()).collect();
    assert_eq!(headers, ["user-agent", "referer", "cache-control"]);
}

/// Each thing that a user of that Squid has to know, with its line.
#[test]
fn what_changes_is_reported() {
    let imported = from_disk();
    let told = |kind: NoteKind, needle: &str| {
        assert!(
            imported.notes.iter().any(|note| note.kind == kind && note.text.contains(needle)),
            "{needle}: {:#?}",
            imported.notes
        );
    };
    told(NoteKind::Differs, "PTR name");
    told(NoteKind::Differs, "the server name that it shows (SNI) must be the host");
    told(NoteKind::Differs, "must lead to public addresses");
    told(NoteKind::Stricter, "Squid also allowed a plain request to 443");
    told(NoteKind::Differs, "stays a file");
    told(NoteKind::Advice, "also matches resources of other AWS customers");
    told(NoteKind::Lost, "ignored here and below: cache, cache_mem");
    // A list that only the access log uses is not a loss.
    assert!(!imported.notes.iter().any(|note| note.text.contains("type `has`")), "{:#?}", imported.notes);
}

#[test]
fn report_mode_is_a_choice() {
    let files = Files::on_disk(Some(format!("{FILES}/root").into()));
    let main = format!("{FILES}/root/etc/squid/squid.conf");
    let imported =
        squid::squid(&files, &main, Choices { report: true, ..Choices::default() }).expect("imported");
    let config = config::load_str("egressd.yaml", &imported.yaml, |path: &Path| std::fs::read(path))
        .expect("loads")
        .config;
    assert!(config.policies.iter().all(|policy| policy.mode() == egressd::rules::Mode::Report));
    // Squid's log format cannot say what report mode let through, so `suggest` would take it for allowed.
    assert!(!imported.yaml.contains("format:"), "{}", imported.yaml);
    let format = imported.notes.iter().find(|note| note.text.contains("the log is JSON for now"));
    let format = format.unwrap_or_else(|| panic!("{:#?}", imported.notes));
    assert!(format.text.contains("`access_log.format: \""), "{format}");
    assert!(
        !imported.notes.iter().any(|note| note.text.contains("remove `format` until")),
        "{:#?}",
        imported.notes
    );
}
