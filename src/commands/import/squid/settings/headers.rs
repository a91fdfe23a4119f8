//! `request_header_access`: which fields are taken out of plain requests.

use super::super::lexer::Line;
use crate::commands::import::notes::{NoteKind, Notes};

/// Never sent on, whatever is configured.
const NEVER_SENT: [&str; 8] = [
    "via",
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "proxy-authorization",
    "proxy-connection",
    "connection",
    "keep-alive",
];
/// Without these it would be another request.
const FRAMING: [&str; 4] = ["host", "content-length", "transfer-encoding", "expect"];

/// The fields to take out. Squid takes out none by itself.
pub(super) fn read(lines: &[Line], notes: &mut Notes) -> Vec<String> {
    let mut removed: Vec<String> = Vec::new();
    let mut kept: Vec<String> = Vec::new();
    for line in
        lines.iter().filter(|line| matches!(line.name.as_str(), "request_header_access" | "header_access"))
    {
        let (Some(name), Some(action)) = (line.word(0), line.word(1)) else { continue };
        let conditions: Vec<&str> = line.from(2).collect();
        let for_all = conditions == ["all"];
        let lower = name.to_ascii_lowercase();
        if kept.contains(&lower) || removed.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            continue; // The first line decides.
        }
        if action == "allow" {
            if for_all {
                kept.push(lower);
            } else {
                notes.tell(
                    &line.place,
                    NoteKind::Lost,
                    format!("{}: a field is taken out of every request or of none", line.shown()),
                );
            }
        } else if matches!(lower.as_str(), "all" | "other") {
            notes.tell(&line.place, NoteKind::Wider, format!("{}: egressd takes out the fields that are named; write them into `http.remove_request_headers`", line.shown()));
        } else if NEVER_SENT.contains(&lower.as_str()) || lower.starts_with("x-forwarded-") {
            // It never leaves.
        } else if FRAMING.contains(&lower.as_str()) {
            notes.tell(
                &line.place,
                NoteKind::Lost,
                format!("`{name}` belongs to the request and cannot be taken out"),
            );
        } else if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            notes.tell(&line.place, NoteKind::Lost, format!("{}: this is no field's name", line.shown()));
        } else {
            if !for_all {
                notes.tell(
                    &line.place,
                    NoteKind::Differs,
                    format!(
                        "`{name}` is taken out of every plain request now, not only where `{}` holds",
                        conditions.join(" ")
                    ),
                );
            }
            removed.push(name.to_owned());
        }
    }
    removed
}
