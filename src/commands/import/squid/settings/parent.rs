//! The parent proxy.

use super::super::lexer::Line;
use super::reader::Reader;
use crate::commands::import::draft::Setting;
use crate::commands::import::notes::{NoteKind, Notes};

/// `cache_peer`: the first parent is the one.
pub(super) fn peer(reader: &mut Reader<'_>, line: &Line) {
    let (Some(host), Some(kind), Some(port)) = (line.word(0), line.word(1), line.word(2)) else { return };
    let has = |option: &str| line.words.iter().skip(4).any(|word| word.text == option);
    if kind != "parent" || has("originserver") {
        return reader.tell(
            line,
            NoteKind::Lost,
            format!("{}: only a parent proxy is carried over", line.shown()),
        );
    }
    if reader.draft.get(Setting::UpstreamProxy).is_some() {
        return reader.tell(
            line,
            NoteKind::Lost,
            format!(
                "{}: egressd uses one parent, the first; put a load balancer in front of several",
                line.shown()
            ),
        );
    }
    let tls = line.words.iter().skip(4).any(|word| matches!(word.text.as_str(), "ssl" | "tls"));
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    let scheme = if tls { "https" } else { "http" };
    reader.set(line, Setting::UpstreamProxy, Some(format!("{scheme}://{host}:{port}")));
    reader.tell(line, NoteKind::Differs, "everything goes through the parent, which then looks names up: egressd cannot check the addresses that they lead to");
    if !reader.always_parent {
        reader.tell(line, NoteKind::Differs, "without `never_direct allow all` Squid connected directly where it could, tunnels included: remove `upstream_proxy` if that is wanted");
    }
    if line.words.iter().any(|word| word.text.starts_with("login=")) {
        reader.tell(line, NoteKind::Differs, "the parent's password is not carried over: write USER:PASSWORD into a file, and its path under `upstream_proxy.credentials_file`");
    }
}

/// Whether everything goes through a parent, or nowhere.
pub(super) fn always(lines: &[Line]) -> bool {
    lines.iter().any(|line| {
        line.name == "never_direct" && line.word(0) == Some("allow") && line.word(1) == Some("all")
    })
}

/// `cache_peer_access`, `cache_peer_domain`, where they are no exceptions. `several`: there are other parents.
pub(super) fn access(line: &Line, several: bool, notes: &mut Notes) {
    let keeps_back = line.name == "cache_peer_access" && several && !line.allows_all(1);
    let (kind, what) = match keeps_back {
        // What another parent took goes to this one.
        true => (NoteKind::Wider, "what any of the parents may take goes through the first"),
        false => (NoteKind::Lost, "everything else goes through the one parent"),
    };
    notes.tell(&line.place, kind, format!("{}: {what}", line.shown()));
}
