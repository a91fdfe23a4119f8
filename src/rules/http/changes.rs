//! What a change of `requests` or `headers` means: whether more may pass than before.
//!
//! Not here: what an entry lets through beyond others ([`beyond`](mod@super::beyond)).

use super::beyond::{Beyond, beyond, treated_otherwise, treatment};
use super::edits::{HeaderEdits, SetField};
use super::requests::{Entry, Requests};
use crate::rules::shift::Shift;

/// The entries that are new and those that are gone, each with what that means.
pub(in crate::rules) fn request_changes(old: &Requests, new: &Requests) -> Vec<(Shift, String)> {
    let mut changes = Vec::new();
    let written =
        |requests: &Requests| -> Vec<String> { requests.entries().iter().map(ToString::to_string).collect() };
    let (old_texts, new_texts) = (written(old), written(new));
    let added = new.entries().iter().zip(&new_texts).filter(|(_, text)| !old_texts.contains(text));
    for (entry, text) in added {
        let shift = match beyond(entry, old) {
            Beyond::Nothing => lent(entry, old),
            Beyond::Something => Shift::Wider,
            Beyond::Perhaps => Shift::Unclear,
        };
        changes.push((shift, format!("+{text}")));
    }
    let gone = old.entries().iter().zip(&old_texts).filter(|(_, text)| !new_texts.contains(text));
    for (entry, text) in gone {
        let shift = match beyond(entry, new) {
            Beyond::Nothing => lent(entry, new),
            Beyond::Something => Shift::Narrower,
            Beyond::Perhaps => Shift::Unclear,
        };
        changes.push((shift, format!("-{text}")));
    }
    for (entry, text) in new.entries().iter().zip(&new_texts) {
        let same = old.entries().iter().zip(&old_texts).find(|(_, other)| *other == text);
        if same.is_some_and(|(other, _)| other != entry) {
            changes.push((Shift::Unclear, format!("{text}: the file has another content")));
        }
    }
    if changes.is_empty() {
        // The same entries in another order: it decides whose credentials are sent, and how requests to Git go out.
        let lends = new.entries().iter().any(|entry| entry.credentials.is_some());
        let first = new.entries().first().map(treatment);
        let alike = new.entries().iter().all(|entry| Some(treatment(entry)) == first);
        let shift = if lends || !alike { Shift::Unclear } else { Shift::Noted };
        changes.push((shift, "in another order".to_owned()));
    }
    changes
}

/// What an entry that lets no other request through does to those that pass: it may send other credentials with them, or let more
/// out with what is asked of Git.
fn lent(entry: &Entry, among: &Requests) -> Shift {
    let lend = |entry: &Entry| entry.credentials.is_some();
    let lends = lend(entry) || among.entries().iter().any(lend);
    if lends || treated_otherwise(entry, among) { Shift::Unclear } else { Shift::Noted }
}

/// The fields that are set or removed otherwise.
pub(in crate::rules) fn edit_changes(
    old: Option<&HeaderEdits>,
    new: Option<&HeaderEdits>,
) -> Vec<(Shift, String)> {
    let none = HeaderEdits::default();
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let mut changes = Vec::new();
    // A field that is removed no longer leaves.
    let removed = |edits: &HeaderEdits, others: &HeaderEdits, shift, sign| -> Vec<(Shift, String)> {
        let only = edits.remove.iter().filter(|name| !others.remove.contains(name));
        only.map(|name| (shift, format!("{sign}remove {name}"))).collect()
    };
    changes.append(&mut removed(new, old, Shift::Narrower, '+'));
    changes.append(&mut removed(old, new, Shift::Wider, '-'));
    for field in &new.set {
        match old.set.iter().find(|other| other.name == field.name) {
            None => changes.push((Shift::Unclear, format!("+set {}", told(field)))),
            Some(other) if other == field => {}
            Some(other) if other.shown() == field.shown() && other.file == field.file => {
                changes.push((Shift::Unclear, format!("set {}: the file has another content", told(field))));
            }
            Some(other) => {
                changes.push((Shift::Unclear, format!("set {} → {}", told(other), told(field))));
            }
        }
    }
    for field in &old.set {
        if !new.set.iter().any(|other| other.name == field.name) {
            changes.push((Shift::Unclear, format!("-set {}", told(field))));
        }
    }
    if changes.is_empty() {
        changes.push((Shift::Noted, "in another order".to_owned()));
    }
    changes
}

/// A field and its value, or the file that the value is in.
fn told(field: &SetField) -> String {
    let name = &field.name;
    match &field.file {
        Some(file) => format!("{name} from {file}"),
        None => format!("{name}: {}", field.shown()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::config::test_files::{self, INSPECTION};

    fn read(entries: &str, password: &'static str) -> Arc<Requests> {
        let text =
            format!("{INSPECTION}policies: [{{name: p, allow: [{{to: a.example, requests: [{entries}]}}]}}]");
        let loaded = config::load_str("c", &text, |path| match path.extension() {
            None => Ok(format!("user:{password}\n").into_bytes()),
            Some(_) => test_files::read(path),
        });
        let config = loaded.unwrap_or_else(|findings| panic!("{text}: {findings:?}")).config;
        let options = config.policies.rules().next().and_then(|rule| rule.options().cloned());
        options.and_then(|options| options.requests).expect("it has some")
    }

    #[test]
    fn an_entry_is_wider_where_it_lets_through_what_no_other_did() {
        use Shift::{Narrower, Noted, Unclear, Wider};
        let rows: &[(&str, &str, &[Shift])] = &[
            // What is added comes first, then what is gone.
            ("{methods: [GET]}", "{methods: [GET, PUT]}", &[Wider, Noted]),
            ("{methods: [GET, PUT]}", "{methods: [GET]}", &[Noted, Narrower]),
            ("{methods: [GET, PUT]}", "{methods: [PUT, GET]}", &[Noted, Noted]),
            ("{methods: [GET, PUT]}", "{methods: [GET]}, {methods: [PUT]}", &[Noted, Noted, Noted]),
            ("{methods: [GET]}", "{paths: [/a]}", &[Wider, Narrower]),
            ("{paths: ['/v1/**']}", "{paths: [/v1/a]}", &[Noted, Narrower]),
            ("{paths: ['/v1/**']}", "{paths: ['/v1/*/x', '/v1/']}", &[Noted, Narrower]),
            ("{paths: ['/v1/*']}", "{paths: ['/v1/**']}", &[Wider, Noted]),
            ("{paths: ['/v1/*']}", "{paths: ['/v1/a*b']}", &[Noted, Narrower]),
            ("{paths: ['/v1/a*b']}", "{paths: ['/v1/a*']}", &[Wider, Noted]),
            ("{paths: ['/v1/**']}", "{paths: [/v1]}", &[Wider, Narrower]),
            ("{paths: ['/*/b/**']}", "{paths: ['/a/b/**']}", &[Noted, Narrower]),
            // Every path begins with a slash.
            ("{paths: ['/**']}", "{methods: [GET]}", &[Noted, Narrower]),
            ("{methods: [GET]}", "{methods: [GET], paths: ['/**']}", &[Noted, Noted]),
            ("{paths: [/a]}", "{paths: [/a], upgrade: [websocket]}", &[Wider, Noted]),
            ("{paths: [/a], upgrade: [websocket]}", "{paths: [/a]}", &[Noted, Narrower]),
            // Together they may cover it: no single one does.
            ("{paths: ['/~*', '/*~']}", "{paths: ['/~*', '/*~', '/*a*']}", &[Unclear, Noted]),
            // Whose credentials are sent.
            ("{paths: [/a]}", "{paths: [/a], credentials_file: c}", &[Unclear, Unclear]),
            ("{paths: [/a]}, {credentials_file: c}", "{credentials_file: c}, {paths: [/a]}", &[Unclear]),
            ("{paths: [/a]}, {methods: [GET]}", "{methods: [GET]}, {paths: [/a]}", &[Noted]),
        ];
        let mut wrong = Vec::new();
        for (old, new, want) in rows {
            let told = request_changes(&read(old, "p"), &read(new, "p"));
            let shifts: Vec<Shift> = told.iter().map(|(shift, _)| *shift).collect();
            if shifts != *want {
                wrong.push(format!("{old} → {new}: {told:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let told = request_changes(
            &read("{credentials_file: c}", "s3cret"),
            &read("{credentials_file: c}", "other"),
        );
        assert_eq!(told, [(Unclear, "{credentials_file: \"c\"}: the file has another content".to_owned())]);
    }
}
