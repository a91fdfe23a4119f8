//! `request_header_access`: which headers are removed from plain requests.

use super::super::lexer::Line;
use crate::commands::import::notes::{NoteKind, Notes};

/// Never sent on, in any configuration.
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

/// The headers to remove. Squid removes none by itself.
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
                    format!(
                        "{}: egressd removes a header from every plain request or from none",
                        line.shown()
                    ),
                );
            }
        } else if matches!(lower.as_str(), "all" | "other") {
            notes.tell(&line.place, NoteKind::Wider, format!("{}: egressd removes only headers that are named: list them in `http.remove_request_headers`", line.shown()));
        } else if NEVER_SENT.contains(&lower.as_str()) || lower.starts_with("x-forwarded-") {
            // It never leaves.
        } else if FRAMING.contains(&lower.as_str()) {
            notes.tell(
                &line.place,
                NoteKind::Lost,
                format!("`{name}` belongs to the request and cannot be removed"),
            );
        } else if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            notes.tell(&line.place, NoteKind::Lost, format!("{}: not a valid header name", line.shown()));
        } else {
            if !for_all {
                notes.tell(
                    &line.place,
                    NoteKind::Differs,
                    format!(
                        "`{name}` is now removed from every plain request, not only where `{}` holds",
                        conditions.join(" ")
                    ),
                );
            }
            removed.push(name.to_owned());
        }
    }
    removed
}
