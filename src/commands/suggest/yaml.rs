//! Text of a log as a value of YAML.

use std::fmt::Write as _;

/// As it is where YAML reads it so, else in double quotes. Characters that are not seen, or that turn the direction of the line,
/// are written as their codes: a log may contain any text.
pub(super) fn value(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(word)
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// In double quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ if character.is_alphanumeric() => out.push(character),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "\\U{:08X}", character as u32)),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config;

    #[test]
    fn a_word_stays_as_it_is_and_what_yaml_reads_otherwise_is_quoted() {
        for (text, want) in [
            ("gitaly", "gitaly"),
            ("ci-2", "ci-2"),
            ("no", "\"no\""),
            ("2", "\"2\""),
            ("a: b", "\"a: b\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("名前", "\"名前\""),
            ("a\u{202e}b\n", "\"a\\U0000202Eb\\U0000000A\""),
        ] {
            assert_eq!(value(text), want);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_configuration_has_it_whole(text in "\\PC{1,40}") {
            prop_assume!(!text.trim().is_empty());
            let yaml = format!("policies:\n  - name: {}\n    allow: [a.example]\n", value(&text));
            let loaded = config::load_str("s.yaml", &yaml, |_| Ok(Vec::new()));
            let loaded = loaded.map_err(|findings| TestCaseError::fail(format!("{findings:?}\n{yaml}")))?;
            let names: Vec<String> = loaded.config.policies.iter().map(|policy| policy.name().to_string()).collect();
            prop_assert_eq!(names, [text]);
        }
    }
}
