//! Files whose lines are written into egressd.yaml as they are now: an edit of one changes nothing there, which is told.

use std::collections::{BTreeSet, HashSet};

use super::super::access::Access;
use super::super::acl::{Acl, AclTest};
use super::super::files::Files;
use super::lists::{HostLists, Stay};
use crate::commands::import::notes::{NoteKind, Notes};

/// What policies do with the files of hosts, by number.
pub(super) struct Uses<'u> {
    pub(super) allowing: &'u HashSet<usize>,
    pub(super) denying: &'u HashSet<usize>,
    /// Files that deny, whose lines are written into a policy.
    pub(super) written: &'u HashSet<usize>,
}

/// Tells of every file that decides something and stays no file. `clients`: the files of networks that stay.
pub(super) fn tell(
    access: &Access<'_>,
    files: &Files,
    lists: &HostLists,
    clients: &BTreeSet<&str>,
    uses: &Uses<'_>,
    notes: &mut Notes,
) {
    for (name, acl) in access.used() {
        if acl.partly {
            continue; // A rule that uses it fails closed, and says so.
        }
        for (place, path) in &acl.files {
            let list = lists.lists.iter().position(|list| list.source == *path);
            let denies = match (list, &acl.test) {
                (Some(number), AclTest::Host(_)) if !acl.kind.ends_with("_regex") => {
                    let stays = lists.lists.get(number).is_some_and(|list| list.stay == Stay::File);
                    if uses.written.contains(&number) {
                        true
                    } else if !stays || uses.allowing.contains(&number) || uses.denying.contains(&number) {
                        continue;
                    } else {
                        keeps_back(access, name)
                    }
                }
                (_, AclTest::Client(_)) if clients.contains(path.as_str()) => continue,
                _ => keeps_back(access, name),
            };
            let empty = files.read(path).is_ok_and(|content| content.iter().all(u8::is_ascii_whitespace));
            let path = files.written(path);
            let (kind, text) = match (denies, list.is_some_and(|number| uses.denying.contains(&number))) {
                _ if empty => (
                    NoteKind::Differs,
                    format!(
                        "`{path}` is empty, so nothing of egressd.yaml is about it, and later lines of it change nothing: write a comment into it, and import again"
                    ),
                ),
                (true, false) => (
                    NoteKind::Wider,
                    format!(
                        "the lines of `{path}` are written into egressd.yaml as they are now, and later lines of it keep nobody and nothing back: {}",
                        again(acl)
                    ),
                ),
                (true, true) => (
                    NoteKind::Wider,
                    format!(
                        "`{path}` stays a file for some clients; for others its lines are written into egressd.yaml as they are now, and later lines of it deny nothing to them: {}",
                        again(acl)
                    ),
                ),
                (false, _) => (
                    NoteKind::Differs,
                    format!(
                        "the lines of `{path}` are written into egressd.yaml as they are now, and an edit of the file changes nothing: {}",
                        again(acl)
                    ),
                ),
            };
            notes.tell(place, kind, text);
        }
    }
}

fn again(acl: &Acl) -> &'static str {
    match &acl.test {
        AclTest::Client(_) => {
            "import again after an edit, or write networks alone into the file, one per line"
        }
        _ => "import again after an edit",
    }
}

/// Whether a longer list lets out less: a line denies by it, or allows by its opposite.
fn keeps_back(access: &Access<'_>, name: &str) -> bool {
    access.rules.iter().any(|rule| {
        access.literals_of(rule).into_iter().any(|(negated, acl)| acl == name && rule.allow == negated)
    })
}
