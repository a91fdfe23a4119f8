//! Names with several addresses under `dst`, which Squid matches by any of them.

use egressd::commands::import::squid::{self as import, Choices, Files, NoteKind};

use super::{Arena, Request, SECOND, SQUID};
use crate::support::{directory, write};

/// As DNS tells them.
const HOSTS: &[(&str, &str)] = &[
    ("good.example.com", "52.1.1.1,2600::1"),
    ("bad.example.com", "52.9.1.1"),
    ("half.example.com", "52.1.1.2,2600:9::2"),
    ("half.example.org", "52.9.1.2,2600::2"),
];

/// egressd dials what is left of the addresses, and that passes what Squid denied: it must be told at the line.
#[test]
fn a_name_of_which_one_address_is_denied_passes_by_the_other_and_that_is_told_as_wider() {
    let home = directory();
    let path = home.path();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let at = path.display();
    let conf = format!(
        "acl bad dst 52.9.0.0/16 2600:9::/32\nacl names dstdomain .example.com .example.org\nhttp_access deny bad\n\
         http_access allow names\nhttp_access deny all\nhttp_port {SQUID} name=people\nhttp_port {SECOND}\ndns_nameservers 127.0.0.1\n\
         pid_filename {at}/pid\ncache_log {at}/cache.log\naccess_log none\npinger_enable off\nnetdb_filename none\n\
         shutdown_lifetime 0 seconds\nvisible_hostname squid.test\ndebug_options ALL,1 28,3\n"
    );
    let file = path.join("squid.conf");
    write(&file, conf);
    let imported = import::squid(&Files::on_disk(None), &file.display().to_string(), Choices::default())
        .expect("imported");
    let requests: Vec<Request> = HOSTS
        .iter()
        .map(|(name, _)| Request {
            client: "127.0.0.1",
            method: "GET",
            target: format!("http://{name}/"),
            door: 0,
            literal: false,
        })
        .collect();
    let mut arena = Arena::new(HOSTS);
    let by_squid: Vec<bool> = arena
        .squid(path, 0, &requests)
        .expect("Squid takes it")
        .iter()
        .map(|verdict| verdict.passes)
        .collect();
    assert_eq!(by_squid, [true, false, false, false]);
    let by_us = arena.egressd(&imported.yaml, &requests);
    assert_eq!(by_us, [true, false, true, true]);
    let wider: Vec<u32> =
        imported.notes.iter().filter(|note| note.kind == NoteKind::Wider).map(|note| note.line).collect();
    assert_eq!(wider, [3], "{:?}", imported.notes);
}
