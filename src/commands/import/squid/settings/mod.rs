//! Everything that is not about who may reach what: listeners, timeouts, names, headers, the parent, the log.

mod directives;
mod dns;
mod exceptions;
mod headers;
mod limits;
mod listeners;
mod log;
mod parent;
mod passwords;
mod port_options;
mod reader;

use super::acl::Acls;
use super::doors::Door;
use super::files::Files;
use super::lexer::Line;
use crate::commands::import::draft::{Draft, Setting, SettingValue};
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};

/// Reads every directive but `acl` and `http_access`. Returns the users of the password file, and the ports that become listeners.
pub(super) fn read(
    lines: &[Line],
    acls: &Acls,
    files: &Files,
    draft: &mut Draft,
    notes: &mut Notes,
) -> (Vec<String>, Vec<Door>) {
    log::read(lines, draft, notes);
    let (listeners, doors) = listeners::read(lines, acls, files, notes).into_iter().unzip();
    draft.listeners = listeners;
    draft.ports = listeners::ports(lines).next().map(|line| line.place.clone());
    draft.removed_headers = Some(headers::read(lines, notes));
    let users = directives::read(lines, files, draft, notes);
    exceptions::read(lines, acls, draft, notes);
    (users, doors)
}

pub(super) use self::exceptions::all_but as all_but_some_direct;
pub(super) use self::passwords::without as without_lines;

/// Whether Squid has a directive of this name.
pub(super) fn is_known(name: &str) -> bool {
    directives::is_known(name)
}

/// Whether the directive is told together with others that change nothing.
pub(super) fn is_ignored(name: &str) -> bool {
    directives::is_ignored(name)
}

/// Changes what depends on the policies. `connections`: the least of `maxconn`, and where it is used.
pub(super) fn fit_to_policies(draft: &mut Draft, connections: Option<&(u64, SourceLine)>, notes: &mut Notes) {
    if !draft.allows_plain_http() {
        draft.removed_headers = None;
    }
    if let Some((most, place)) = connections {
        let least = draft.get(Setting::TunnelsPerClient).and_then(|value| value.text.parse::<u64>().ok());
        if least.is_none_or(|least| *most < least) {
            let value = SettingValue { place: place.clone(), text: most.to_string() };
            draft.set(Setting::TunnelsPerClient, Some(value));
        }
    }
    if let Some(parent) = draft.get(Setting::UpstreamProxy).filter(|_| draft.denies_networks()) {
        notes.tell(
            &parent.place,
            NoteKind::Wider,
            "Squid looked names up and denied by their addresses (`dst`): through the parent, a name with such an address passes",
        );
    }
    log::no_format_in_report_mode(draft, notes);
}
