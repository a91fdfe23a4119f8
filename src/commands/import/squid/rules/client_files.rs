//! Networks of clients in files of their own, which stay files under `networks_files`.
//!
//! A file stays if egressd reads its lines as Squid does, and if a client that is added to it later gets what those in it get now.
//! Not here: files of hosts ([`super::lists`]).

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::super::access::Access;
use super::super::acl::AclTest;
use super::super::classes::ClientClass;
use super::super::files::Files;
use super::super::list_lines;
use super::super::truth::Truth;
use crate::commands::import::draft::ListFile;
use crate::commands::import::notes::{NoteKind, Notes};
use crate::config;
use crate::rules::AddressSet;
use crate::words::small_sort::{SmallCollect as _, SmallSort as _};

/// A file of networks that could stay.
#[derive(Debug)]
pub(super) struct ClientFile {
    pub(super) file: ListFile,
    /// As Squid's configuration names it.
    pub(super) source: String,
    pub(super) networks: Vec<IpNet>,
    /// The lists that it is in, by their keys.
    pub(super) acls: BTreeSet<String>,
}

/// The files that rules know clients by, each line of which is a network of egressd's too.
pub(super) fn of(access: &Access<'_>, files: &Files) -> Vec<ClientFile> {
    let mut found: BTreeMap<&str, ClientFile> = BTreeMap::new();
    for (name, acl) in access.used() {
        let AclTest::Client(listed) = &acl.test else { continue };
        let known = AddressSet::of(&listed.certain());
        for (place, path) in &acl.files {
            if acl.partly || path.contains(char::is_control) {
                continue;
            }
            if let Some(file) = found.get_mut(path.as_str()) {
                file.acls.insert(name.to_owned());
                continue;
            }
            let Ok(content) = files.read(path) else { continue };
            let Some(networks) = networks(&content) else { continue };
            if !known.covers(&AddressSet::of(&networks)) {
                continue;
            }
            let empty = content.iter().all(u8::is_ascii_whitespace);
            let file = ListFile { place: place.clone(), path: files.written(path), empty };
            let acls = [name.to_owned()].into_iter().small_collect();
            found.insert(path, ClientFile { file, source: path.clone(), networks, acls });
        }
    }
    found.into_values().filter(|file| !file.file.empty).collect()
}

/// The networks of a file, if egressd reads each of its lines as Squid does.
fn networks(content: &[u8]) -> Option<Vec<IpNet>> {
    let text = std::str::from_utf8(content).ok().filter(|text| !text.contains('\0'))?;
    let mut networks: Vec<IpNet> = Vec::new();
    for line in text.split('\n') {
        let own = line.split_once('#').map_or(line, |(entry, _)| entry).trim_matches([' ', '\t', '\r']);
        match list_lines::value(line) {
            Some(value) if value == own => networks.push(config::network_line(own).ok()?),
            None if own.is_empty() => {}
            _ => return None,
        }
    }
    // What these are to Squid differs from one version to the next, as does which of two that overlap counts.
    let mut sorted = networks.clone();
    sorted.small_sort();
    let overlap = sorted.windows(2).any(|pair| matches!(pair, [one, two] if one.contains(two)));
    (!overlap && networks.iter().all(|network| network.prefix_len() > 0)).then_some(networks)
}

impl ClientFile {
    /// A client that is in the lists of this file, and else is like those of `class`.
    pub(super) fn fresh(&self, class: &ClientClass) -> ClientClass {
        let mut class = class.clone();
        for name in &self.acls {
            class.lists.insert(name.clone(), Truth::Yes);
        }
        class
    }

    /// Tells that it stays a file.
    pub(super) fn tell(&self, notes: &mut Notes) {
        let ListFile { place, path, .. } = &self.file;
        let text = format!(
            "`{path}` stays a file, with the networks of clients; to move it, copy it beside egressd.yaml and write its base name"
        );
        notes.tell(place, NoteKind::Differs, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_networks_stays_if_both_read_it_alike() {
        let rows: &[(&str, Option<&[&str]>)] = &[
            ("# none\n", Some(&[])),
            (
                "10.0.0.0/8 # corp\r\n192.0.2.7\n2001:db8::/32\n\n2001:db9::1\n",
                Some(&["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "2001:db9::1/128"]),
            ),
            ("10.0.0.0/8#corp\n", None),
            ("10.0.0.1/8\n", None),
            ("10.0.0.0/255.0.0.0\n", None),
            ("10.0.0.1-10.0.0.9\n", None),
            ("10.0.0.1 10.0.0.2\n", None),
            ("proxy.example\n", None),
            ("all\n", None),
            ("0.0.0.0/0\n", None),
            ("::/0\n", None),
            ("10.0.0.0/8\n10.1.0.0/16\n", None),
            ("10.1.0.0/16\n10.0.0.0/8\n", None),
            ("\u{feff}10.0.0.0/8\n", None),
        ];
        for (content, want) in rows {
            let got = networks(content.as_bytes());
            let got: Option<Vec<String>> = got.map(|got| got.iter().map(ToString::to_string).collect());
            let got: Option<Vec<&str>> = got.as_ref().map(|got| got.iter().map(String::as_str).collect());
            assert_eq!(got.as_deref(), *want, "{content:?}");
        }
    }
}
