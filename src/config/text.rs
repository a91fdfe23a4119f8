//! The bytes of a file as text: UTF-8 without NUL, or an error with the position of the first wrong byte.

use super::finding::{Position, Report};

/// The content as text. A byte-order mark at the very start, as Windows editors write it, is removed.
pub(super) fn text<'c>(content: &'c [u8], report: &Report<'_>) -> Option<&'c str> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let position = position_of(content, error.valid_up_to());
            let hint = if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
                "this is UTF-16: save the file as UTF-8"
            } else {
                "this byte is not UTF-8: save the file as UTF-8"
            };
            report.error(position, hint);
            return None;
        }
    };
    if let Some(offset) = text.find('\0') {
        report.error(
            position_of(content, offset),
            "the file contains a NUL byte: remove it, and save the file as UTF-8 text",
        );
        return None;
    }
    Some(text)
}

/// All bytes before `offset` must be UTF-8.
fn position_of(content: &[u8], offset: usize) -> Position {
    let before = content.get(..offset).unwrap_or(content);
    let line = before.iter().filter(|byte| **byte == b'\n').count();
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count();
    Position { line: u32::try_from(line).unwrap_or(u32::MAX).saturating_add(1), column: 1 }.right(column)
}
