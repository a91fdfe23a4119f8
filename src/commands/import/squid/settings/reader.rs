//! What the readers of single directives are handed: what they fill, and where they tell what is lost.

use super::super::files::Files;
use super::super::lexer::Line;
use crate::commands::import::draft::{Draft, Setting, SettingValue};
use crate::commands::import::notes::{NoteKind, Notes};

/// Directives are read one by one into this.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) files: &'a Files,
    /// `never_direct allow all`: everything goes through a parent, or nowhere.
    pub(super) always_parent: bool,
    pub(super) draft: &'a mut Draft,
    /// The users of the password file.
    pub(super) users: Vec<String>,
    pub(super) notes: &'a mut Notes,
}

impl Reader<'_> {
    /// Tells something of a line.
    pub(super) fn tell(&mut self, line: &Line, kind: NoteKind, text: impl Into<String>) {
        self.notes.tell(&line.place, kind, text);
    }

    /// Sets what a line says; nothing, where it says nothing that egressd could take.
    pub(super) fn set(&mut self, line: &Line, setting: Setting, text: Option<String>) {
        let value = text.map(|text| SettingValue { place: line.place.clone(), text });
        self.draft.set(setting, value);
    }
}
