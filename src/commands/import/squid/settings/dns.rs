//! How names are looked up.

use std::net::{IpAddr, SocketAddr};

use super::super::lexer::Line;
use super::reader::Reader;
use crate::commands::import::notes::NoteKind;
use crate::words::io_error::reason;
use crate::words::target::Name;

/// `dns_nameservers`, of which there may be several lines.
pub(super) fn nameservers(reader: &mut Reader<'_>, line: &Line) {
    let servers: Vec<String> = line.words.iter().filter_map(|word| server(&word.text)).collect();
    if servers.is_empty() {
        return reader.tell(line, NoteKind::Lost, format!("{}: no name server address found", line.shown()));
    }
    let all = reader.draft.dns_servers.get_or_insert_with(|| (line.place.clone(), Vec::new()));
    all.1.extend(servers);
}

fn server(word: &str) -> Option<String> {
    let address = word.parse::<IpAddr>().map(|ip| ip.to_string());
    address.ok().or_else(|| word.parse::<SocketAddr>().ok().map(|address| address.to_string()))
}

/// `hosts_file`.
pub(super) fn hosts_file(reader: &mut Reader<'_>, line: &Line) {
    let Some(path) = line.word(0) else { return };
    if path == "/etc/hosts" {
        return; // egressd reads it too.
    }
    if path == "none" {
        return reader.tell(line, NoteKind::Differs, "egressd reads /etc/hosts");
    }
    let content = match reader.files.read(path) {
        Ok(content) => content,
        Err(error) => {
            return reader.tell(
                line,
                NoteKind::Lost,
                format!(
                    "cannot read `{}`: {}; its names are not carried over",
                    reader.files.written(path),
                    reason(&error)
                ),
            );
        }
    };
    let text = format!(
        "the names of `{}` are written into egressd.yaml as they are now: import again after an edit",
        reader.files.written(path)
    );
    reader.tell(line, NoteKind::Differs, text);
    for entry in String::from_utf8_lossy(&content).lines() {
        let entry = entry.split_once('#').map_or(entry, |(entry, _)| entry);
        let mut words = entry.split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words.filter_map(|name| Name::parse(name).ok()) {
            reader.draft.dns_hosts.entry(name.to_string()).or_default().push(address);
        }
    }
}
