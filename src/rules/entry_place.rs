//! What of an entry of `requests` a warning is about, so that the code that read the file can say where it is written.
//!
//! Not here: lines and columns, which only [`crate::config`] knows.

/// A key of an entry, or of its `aws`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKey {
    /// `methods`.
    Methods,
    /// `paths`.
    Paths,
    /// `git`.
    Git,
    /// `repositories`.
    Repositories,
    /// `refs`.
    Refs,
    /// `ref_changes`.
    RefChanges,
    /// `aws`.
    Aws,
    /// `accounts` of `aws`.
    Accounts,
    /// `services` of `aws`.
    Services,
}

/// What of an entry is meant. A key that is missing stands for where it would be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryPlace {
    /// All of it.
    Whole,
    /// The value of a key.
    Key(EntryKey),
    /// One item of a list, from 0.
    Item(EntryKey, usize),
}
