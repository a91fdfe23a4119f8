//! Every directive that Debian's Squid documents is known to the import.

use std::collections::BTreeSet;

use egressd::commands::import::squid::{self, Choices, Files};

use crate::support::{directory, write};

/// Debian's own configuration, which documents every directive.
const DOCUMENTED: &str = "/etc/squid/squid.conf";
/// Read together with others, so that a line of them alone means nothing.
const STRUCTURE: [&str; 3] = ["acl", "include", "if"];

#[test]
fn every_directive_that_squid_documents_is_known() {
    let text = std::fs::read_to_string(DOCUMENTED).expect("squid is installed");
    let names: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#  TAG: ")?.split_whitespace().next())
        .filter(|name| !STRUCTURE.contains(name))
        .collect();
    assert!(names.len() > 300, "{} directives in {DOCUMENTED}", names.len());
    let unknown: Vec<&str> = names
        .into_iter()
        .filter(|name| {
            let directory = directory();
            let conf = directory.path().join("squid.conf");
            write(&conf, format!("http_access deny all\n{name} 10\n"));
            let imported =
                squid::squid(&Files::on_disk(None), &conf.display().to_string(), Choices::default());
            // A directive that is read may refuse the value.
            imported.is_ok_and(|imported| {
                imported.notes.iter().any(|note| note.to_string().contains("egressd has nothing like it"))
            })
        })
        .collect();
    assert_eq!(unknown, [""; 0]);
}
