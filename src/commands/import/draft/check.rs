//! Has egressd's own reader check the draft. What it refuses is left out, one part after the other, and told.
//!
//! A rule that denies is never left out: if one is refused, the whole import fails.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::emit::{DraftPart, Emitted, LOOPBACK, emit};
use super::{Draft, DraftPolicy, Setting};
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};
use crate::config::{self, Finding, Severity};

/// At most so many parts are left out.
const LEFT_OUT: usize = 512;
/// The name under which the text is checked.
const OUTPUT: &str = "egressd.yaml";

/// The text of a draft, without what is refused. `read`: the files that the text names.
///
/// # Errors
/// One sentence: what is refused cannot be left out, which is a fault of the import.
pub(in crate::commands::import) fn check(
    mut draft: Draft,
    read: impl Fn(&Path) -> io::Result<Vec<u8>>,
    notes: &mut Notes,
) -> Result<String, String> {
    for _ in 0..LEFT_OUT {
        let emitted = emit(&draft);
        let seen = RefCell::new(HashSet::new());
        let read = |path: &Path| {
            let content = read(path)?;
            let again = draft.lists().any(|list| Path::new(list) == path)
                && !seen.borrow_mut().insert(path.to_owned());
            Ok(if again { beginning(content) } else { content })
        };
        let findings = match config::load_str(OUTPUT, &emitted.text, read) {
            Ok(loaded) => {
                advise(&loaded.warnings, &emitted, notes);
                if let Some(place) = draft.ports.as_ref().filter(|_| draft.listeners.is_empty()) {
                    let text = format!(
                        "no port of this configuration is carried over: egressd would listen on every address, so the listener is {LOOPBACK}, for clients on this machine alone; write the address that clients use"
                    );
                    notes.tell(place, NoteKind::Stricter, text);
                }
                return Ok(emitted.text);
            }
            Err(findings) => findings,
        };
        let Some(error) = findings.iter().find(|finding| finding.severity == Severity::Error) else { break };
        if leave_out(&mut draft, error, &emitted, notes).is_none() {
            return Err(format!("what came out is refused, which is a fault of the import: {error}"));
        }
    }
    Err("what came out is refused, which is a fault of the import".to_owned())
}

/// So many lines of a list are enough where the whole of it is checked already: one that each of many policies names would be
/// held as often.
const LINES: usize = 64;

/// The beginning of a list.
fn beginning(mut content: Vec<u8>) -> Vec<u8> {
    let ends = content.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    if let Some(end) = ends.map(|(at, _)| at + 1).nth(LINES - 1)
        && content.get(..end).is_some_and(|lines| {
            lines
                .split(|byte| *byte == b'\n')
                .any(|line| !line.trim_ascii_start().starts_with(b"#") && !line.trim_ascii().is_empty())
        })
    {
        content.truncate(end);
    }
    content
}

/// Removes the refused part, and tells it. None: it cannot be removed.
fn leave_out(draft: &mut Draft, error: &Finding, emitted: &Emitted, notes: &mut Notes) -> Option<()> {
    match part(draft, error, emitted)? {
        DraftPart::Setting(setting) => {
            // Policies may rest on every client being asked for a password.
            if setting == Setting::UsersFile {
                return None;
            }
            let value = draft.take(setting)?;
            let (kind, text) = match setting {
                Setting::LogFormat => (NoteKind::Differs, format!("the log is JSON: {}", error.text)),
                // The parent may have kept something back.
                Setting::UpstreamProxy => {
                    (NoteKind::Wider, format!("everything goes directly, without the parent: {}", error.text))
                }
                setting => {
                    let (section, key) = setting.key();
                    (NoteKind::Differs, format!("`{section}.{key}` keeps its default: {}", error.text))
                }
            };
            notes.tell(&value.place, kind, text);
        }
        DraftPart::DnsServers => {
            let (place, _) = draft.dns_servers.take()?;
            notes.tell(&place, NoteKind::Lost, format!("not carried over: {}", error.text));
        }
        DraftPart::Listener(number) => {
            draft.listeners.get(number)?;
            let listener = draft.listeners.remove(number);
            // Nobody comes by it.
            let is_for_another = |policy: &mut DraftPolicy| {
                let all = policy.listeners.len();
                policy.listeners.retain(|name| *name != listener.name);
                all == 0 || !policy.listeners.is_empty()
            };
            draft.policies.retain_mut(is_for_another);
            draft.held_back.retain_mut(is_for_another);
            let text = format!("this listener is left out: {}", error.text);
            notes.tell(&listener.place, NoteKind::Stricter, text);
        }
        DraftPart::Allow { policy, text } => {
            let policy = draft.policies.get_mut(policy)?;
            let number = policy.allow.iter().position(|rule| rule.text == text)?;
            let rule = policy.allow.remove(number);
            let text = format!("`{}` is not carried over: {}", rule.text, error.text);
            notes.tell(&rule.place, NoteKind::Stricter, text);
        }
    }
    Some(())
}

/// The part of the draft that is refused. A finding in a named file belongs to the part that names the file.
fn part(draft: &Draft, error: &Finding, emitted: &Emitted) -> Option<DraftPart> {
    if draft.get(Setting::UsersFile).is_some_and(|file| *file.text == *error.file) {
        return Some(DraftPart::Setting(Setting::UsersFile));
    }
    let of_listener = draft
        .listeners
        .iter()
        .position(|listener| listener.tls.as_ref().is_some_and(|tls| tls.names(&error.file)));
    match of_listener {
        Some(number) => Some(DraftPart::Listener(number)),
        None if &*error.file == OUTPUT => emitted.part_at(error.line).cloned(),
        None => None,
    }
}

/// The lint's advice on what was carried over, at the line that it comes from where there is one.
///
/// A rule for each port of one host gets the same advice; it is told once. A line of a file of which something is told already
/// gets none.
fn advise(warnings: &[Finding], emitted: &Emitted, notes: &mut Notes) {
    let mut told: HashSet<(SourceLine, &str)> = HashSet::new();
    for warning in warnings {
        // The readers tell the first in their own words, and mean the second.
        if warning.text.starts_with("`policies` is empty")
            || warning.text.ends_with("allows nothing: it denies every request")
        {
            continue;
        }
        let here = || SourceLine { file: warning.file.clone(), line: warning.line };
        // The reader decides what the text is called when it is written.
        let written = || SourceLine { file: "stdout".into(), line: warning.line };
        let place = match &*warning.file {
            OUTPUT => emitted.origin(warning.line).cloned().unwrap_or_else(written),
            _ if notes.tell_of(&here()) => continue,
            _ => here(),
        };
        if told.insert((place.clone(), about(&warning.text))) {
            notes.tell(&place, NoteKind::Advice, warning.text.clone());
        }
    }
}

/// The text of a warning without the rule at its beginning.
fn about(text: &str) -> &str {
    let after = text.strip_prefix('`').and_then(|rest| rest.split_once('`'));
    after.map_or(text, |(_, about)| about)
}
