//! A person's text inside a message, made unable to break the line or to control a terminal.

/// The number of characters of the user's text that a message quotes.
const MAX_QUOTED: usize = 80;

/// The user's text inside a message: in backquotes, cut, and unable to break the line or to control a terminal.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("`{}…`", shown(text.get(..end).unwrap_or_default())),
        None => format!("`{}`", shown(text)),
    }
}

/// Escapes control characters and the marks that reorder text (Unicode TR 36 §2.1, "Trojan Source").
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let reorders = matches!(character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if character.is_control() || reorders {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_cannot_break_a_line_or_drive_a_terminal() {
        let rows = [
            ("plain", "`plain`"),
            ("a\nb", "`a\\nb`"),
            ("\u{1b}[31m", "`\\u{1b}[31m`"),
            ("\u{9b}x", "`\\u{9b}x`"),
            ("\u{202e}x", "`\\u{202e}x`"),
        ];
        for (text, want) in rows {
            assert_eq!(quoted(text), want);
        }
        assert_eq!(quoted(&"x".repeat(81)), format!("`{}…`", "x".repeat(80)));
    }
}
