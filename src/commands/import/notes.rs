//! What is told about an import: `FILE:LINE: text`, each once.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::words::small_sort::SmallSort as _;

/// A line of the configuration that is read, or of a file that it names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct SourceLine {
    pub(super) file: Arc<str>,
    /// From 1.
    pub(super) line: u32,
}

/// What a note is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum NoteKind {
    /// Something that the other proxy kept back passes now. It is shown with a word in front.
    Wider,
    /// Something that the other proxy let through is refused now.
    Stricter,
    /// It is carried over, and means something else.
    Differs,
    /// It is not carried over, and every request is decided as before.
    Lost,
    /// Advice of egressd's lint on the result.
    Advice,
}

/// One note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// As it was named on the command line or in the configuration.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// What it is about.
    pub kind: NoteKind,
    /// One line.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.kind == NoteKind::Wider { "WIDER: " } else { "" };
        write!(f, "{}:{}: {word}{}", self.file, self.line, self.text)
    }
}

/// All notes of one import.
#[derive(Default, Debug)]
pub(super) struct Notes {
    /// In the order of their files' first mention.
    files: Vec<Arc<str>>,
    notes: Vec<Note>,
    told: HashSet<(SourceLine, String)>,
    /// The lines of which something is told, beside advice.
    places: HashSet<SourceLine>,
}

impl Notes {
    pub(super) fn tell(&mut self, place: &SourceLine, kind: NoteKind, text: impl Into<String>) {
        let text: String = text.into().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !self.told.insert((place.clone(), text.clone())) {
            return;
        }
        if kind != NoteKind::Advice {
            self.places.insert(place.clone());
        }
        if !self.files.contains(&place.file) {
            self.files.push(place.file.clone());
        }
        self.notes.push(Note { file: place.file.clone(), line: place.line, kind, text });
    }

    /// Whether something is told of this line already, beside advice.
    pub(super) fn tell_of(&self, place: &SourceLine) -> bool {
        self.places.contains(place)
    }

    /// By file, in the order of their mention, and line; of one line, in the order in which they were told.
    pub(super) fn finish(mut self) -> Vec<Note> {
        let files = self.files;
        let rank = |note: &Note| files.iter().position(|file| *file == note.file);
        self.notes.small_sort_by_key(|note| (rank(note), note.line));
        self.notes
    }
}
