//! What is wrong with a configuration, and where: `FILE:LINE:COLUMN: error: text`.
//!
//! Each reader of a named file reports its findings here and continues, so that a person sees all errors at once. Not
//! here: what the errors are. Each reader writes its own text, and says what to write instead.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::words::counted::counted;
use crate::words::quote::shown;
use crate::words::small_sort::SmallSort as _;

/// The number of findings that one load keeps; the rest are only counted. A million broken lines must not become a
/// million strings.
const MAX_FINDINGS: usize = 1_000;

/// A position in a file. Both numbers begin at 1; columns count characters, as editors do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// The first character of a file: for errors about the whole file.
    pub const START: Position = Position { line: 1, column: 1 };
    /// Behind the last one.
    pub(super) const END: Position = Position { line: u32::MAX, column: u32::MAX };

    /// The same line, `characters` further to the right.
    pub fn right(self, characters: usize) -> Position {
        let characters = u32::try_from(characters).unwrap_or(u32::MAX);
        Position { line: self.line, column: self.column.saturating_add(characters) }
    }
}

/// A position in a file that is named.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// As findings show it.
    pub(super) file: Arc<str>,
    pub(super) position: Position,
}

/// Whether the configuration can be used despite a finding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// It cannot be used: at start egressd exits with 78, on reload the old configuration stays.
    Error,
    /// It can be used, but is probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One thing that is wrong, in a named file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// The file's name as given on the command line or in the configuration. Contains no control characters.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong and what to write instead: one line, no control characters.
    pub text: String,
}

impl Finding {
    /// An error about a file, for callers that do not read it. Characters that could break a line are escaped.
    pub fn error(file: &Path, position: Position, text: &str) -> Self {
        let file = shown(&file.display().to_string()).into();
        let Position { line, column } = position;
        Finding { file, line, column, severity: Severity::Error, text: shown(text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}: {}", self.file, self.line, self.column, self.severity, self.text)
    }
}

/// Gathers the findings of one load, over all of its files.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: RefCell<Vec<Finding>>,
    dropped: Cell<usize>,
    errors: Cell<usize>,
    /// Keys that are missing because they are spelled otherwise: the file, the mapping that lacks the key, and the key.
    misspelled: RefCell<BTreeSet<(Arc<str>, Position, String)>>,
}

impl Findings {
    /// The report for one file.
    pub(super) fn of(&self, file: &str) -> Report<'_> {
        Report { findings: self, file: shown(file).into() }
    }

    /// Whether the configuration must be refused.
    pub(super) fn has_errors(&self) -> bool {
        self.errors.get() > 0
    }

    fn add(&self, finding: Finding) {
        if finding.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        let mut kept = self.kept.borrow_mut();
        if kept.len() < MAX_FINDINGS {
            kept.push(finding);
        } else {
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    /// Sorted by file, line and column. If some were dropped, the last one says how many.
    pub(super) fn finish(self) -> Vec<Finding> {
        let (dropped, errors) = (self.dropped.get(), self.errors.get());
        let mut kept = self.kept.into_inner();
        kept.small_sort();
        kept.dedup();
        if dropped > 0
            && let Some(last) = kept.last()
        {
            let severity = if errors > 0 { Severity::Error } else { Severity::Warning };
            let text = format!("{} not shown", counted(dropped, "more finding is", "more findings are"));
            kept.push(Finding { severity, text, ..last.clone() });
        }
        kept
    }
}

/// Collects the findings of one file.
#[derive(Clone, Debug)]
pub(super) struct Report<'a> {
    findings: &'a Findings,
    file: Arc<str>,
}

impl<'a> Report<'a> {
    /// The report for another file of the same load.
    pub(super) fn of(&self, file: &str) -> Report<'a> {
        self.findings.of(file)
    }

    /// Whether an error in any file makes the configuration unusable.
    pub(super) fn has_errors(&self) -> bool {
        self.findings.has_errors()
    }

    /// The number of errors so far, in all files.
    pub(super) fn errors(&self) -> usize {
        self.findings.errors.get()
    }

    /// Whether an error of this file is at `from` or behind it, and before `until`. Where not all errors were kept, it may be.
    pub(super) fn has_error_within(&self, from: Position, until: Position) -> bool {
        let is_within = |finding: &Finding| {
            let position = Position { line: finding.line, column: finding.column };
            finding.severity == Severity::Error
                && finding.file == self.file
                && (from..until).contains(&position)
        };
        self.has_errors()
            && (self.findings.dropped.get() > 0 || self.findings.kept.borrow().iter().any(is_within))
    }

    /// The file's name as findings and rules show it.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The place of a position in the file.
    pub(super) fn place(&self, position: Position) -> Place {
        Place { file: Arc::clone(&self.file), position }
    }

    /// Reports an error, which makes the configuration unusable.
    pub(super) fn error(&self, position: Position, text: impl Into<String>) {
        self.add(position, Severity::Error, text.into());
    }

    /// Reports something that is probably not meant.
    pub(super) fn warning(&self, position: Position, text: impl Into<String>) {
        self.add(position, Severity::Warning, text.into());
    }

    /// Notes that the mapping at `around` has an unknown key that means `key`.
    pub(super) fn misspelled(&self, around: Position, key: &str) {
        let mut all = self.findings.misspelled.borrow_mut();
        if all.len() < MAX_FINDINGS {
            all.insert((Arc::clone(&self.file), around, key.to_owned()));
        }
    }

    /// Whether the mapping at `around` has an unknown key that means `key`: then it is already reported.
    pub(super) fn is_misspelled(&self, around: Position, key: &str) -> bool {
        self.findings.misspelled.borrow().contains(&(Arc::clone(&self.file), around, key.to_owned()))
    }

    fn add(&self, position: Position, severity: Severity, text: String) {
        // A library's message could contain a character of the user's text that would break the line.
        let text = if text.contains(char::is_control) { shown(&text) } else { text };
        let file = Arc::clone(&self.file);
        self.findings.add(Finding { file, line: position.line, column: position.column, severity, text });
    }
}

/// The candidate that `word` probably means: at most a third of its letters differ.
pub(crate) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .iter()
        .map(|candidate| (distance(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (above, l) in left.chars().enumerate() {
        let mut diagonal = above;
        let mut before = above + 1;
        for (cell, r) in row.iter_mut().skip(1).zip(right.chars()) {
            let changed = diagonal + usize::from(l != r);
            diagonal = *cell;
            before = changed.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_in_the_order_of_file_line_and_column() {
        let findings = Findings::default();
        let (b, a) = (findings.of("b.yaml"), findings.of("a.yaml"));
        b.error(Position { line: 2, column: 1 }, "three");
        b.warning(Position { line: 1, column: 9 }, "two");
        a.error(Position { line: 10, column: 1 }, "one");
        assert!(findings.has_errors());
        let told: Vec<String> = findings.finish().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["a.yaml:10:1: error: one", "b.yaml:1:9: warning: two", "b.yaml:2:1: error: three"]);
    }

    #[test]
    fn a_flood_of_findings_is_counted_not_kept() {
        let findings = Findings::default();
        let report = findings.of("f");
        for line in 1..=5_000 {
            report.error(Position { line, column: 1 }, "bad");
        }
        let told = findings.finish();
        assert_eq!(told.len(), MAX_FINDINGS + 1);
        assert_eq!(told[MAX_FINDINGS].to_string(), "f:1000:1: error: 4000 more findings are not shown");
    }

    #[test]
    fn a_slip_of_the_finger_finds_the_word_that_was_meant() {
        let words = ["networks", "address", "idle_timeout", "tls"];
        let rows = [
            ("network", Some("networks")),
            ("adress", Some("address")),
            ("Address", Some("address")),
            ("idletimeout", Some("idle_timeout")),
            ("tsl", None),
            ("completely", None),
        ];
        for (word, want) in rows {
            assert_eq!(nearest(word, &words), want, "{word}");
        }
    }
}
