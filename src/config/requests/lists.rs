//! What the lists of an entry have in common: none is empty, and nothing is in one twice.

use super::super::finding::{Position, Report};
use super::super::typed::At;
use crate::words::quote::quoted;

/// Reports what is already in the list.
pub(super) fn once(
    seen: &mut Vec<Box<str>>,
    text: Box<str>,
    key: &str,
    position: Position,
    report: &Report<'_>,
) {
    if seen.contains(&text) {
        report.error(position, format!("{} is twice in `{key}`: remove one of them", quoted(&text)));
    }
    seen.push(text);
}

/// Reports an empty list.
pub(super) fn not_empty<T>(at: &At<Vec<T>>, key: &str, example: &str, report: &Report<'_>) {
    if at.value.as_ref().is_some_and(Vec::is_empty) {
        report.error(
            at.position,
            format!("`{key}` is empty and fits no request: write at least one, such as [{example}], or remove the key"),
        );
    }
}
