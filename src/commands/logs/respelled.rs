//! Lines in another spelling, for tests: whatever JSON allows, and whatever the text is the same.

use std::fmt::Write as _;

use serde_json::Value;

/// The line with its members in another order, and other spellings of names, texts and numbers, with space between; `seed` says
/// which.
pub(in crate::commands) fn respelled(line: &str, seed: u64) -> String {
    let value: Value = serde_json::from_str(line.trim()).expect("JSON");
    let mut out = String::new();
    // The generator has no other state that it does not leave.
    let mut choice = Choice(seed | 1 << 63);
    write(&value, &mut choice, &mut out);
    out
}

/// A number that is as good as random.
struct Choice(u64);

impl Choice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most.max(1)
    }
}

fn write(value: &Value, choice: &mut Choice, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
        Value::Number(number) => out.push_str(&spelled(&number.to_string(), choice)),
        Value::String(text) => quoted(text, choice, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                space(choice, out);
                write(item, choice, out);
                space(choice, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut left: Vec<(&String, &Value)> = members.iter().collect();
            out.push('{');
            while !left.is_empty() {
                let (name, member) = left.swap_remove(choice.below(left.len()));
                space(choice, out);
                quoted(name, choice, out);
                space(choice, out);
                out.push(':');
                space(choice, out);
                write(member, choice, out);
                space(choice, out);
                out.push_str(if left.is_empty() { "" } else { "," });
            }
            out.push('}');
        }
    }
}

fn space(choice: &mut Choice, out: &mut String) {
    out.push_str(["", "", "", " ", "\t", "  "][choice.below(6)]);
}

fn quoted(text: &str, choice: &mut Choice, out: &mut String) {
    // Most words as they are: so that one is that is compared, and another is not.
    let often = [1, 4, 40][choice.below(3)];
    out.push('"');
    for character in text.chars() {
        let short = match character {
            '"' | '\\' | '/' => Some(character),
            '\u{8}' => Some('b'),
            '\t' => Some('t'),
            '\n' => Some('n'),
            '\u{c}' => Some('f'),
            '\r' => Some('r'),
            _ => None,
        };
        let must = character < ' ' || matches!(character, '"' | '\\');
        match short {
            _ if !must && choice.below(often) > 0 => out.push(character),
            Some(short) if choice.below(2) == 0 => out.extend(['\\', short]),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing into a String cannot fail.
                    let _ = match choice.below(2) {
                        0 => write!(out, "\\u{unit:04x}"),
                        _ => write!(out, "\\u{unit:04X}"),
                    };
                }
            }
        }
    }
    out.push('"');
}

/// The same decimal number.
fn spelled(text: &str, choice: &mut Choice) -> String {
    let (sign, plain) = text.strip_prefix('-').map_or(("", text), |plain| ("-", plain));
    if plain.contains(['e', 'E']) {
        return text.replacen('e', "E", 1);
    }
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let digits = [whole, fraction].concat();
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let (length, places) = (digits.len() as i64, fraction.len() as i64);
    let spelled = match choice.below(6) {
        0 => format!("{whole}.{fraction}000"),
        1 => format!("{digits}e-{places}"),
        // No number of JSON begins with two zeros.
        2 if digits != "0" => format!("{digits}00E{}", -places - 2),
        3 => format!("0.{digits}e{:+}", length - places),
        4 if length > 1 => format!("{}.{}e{}", &digits[..1], &digits[1..], length - places - 1),
        _ => plain.to_owned(),
    };
    sign.to_owned() + &spelled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is another spelling of the same: what serde_json reads, and the numbers of it exactly.
        #[test]
        fn it_says_the_same(number in any::<u64>(), shift in 24..64u32, text in any::<String>(), seed in any::<u64>()) {
            let number = number >> shift;
            let line = serde_json::json!({"number": number, "text": text, "list": [1, 1234.5, 0, null, true]}).to_string();
            let again: Value = serde_json::from_str(&respelled(&line, seed)).expect("JSON");
            prop_assert_eq!(&again["text"], &text);
            prop_assert_eq!(again["number"].as_f64(), Some(number as f64));
            prop_assert_eq!(again["list"][1].as_f64(), Some(1234.5));
        }
    }

    #[test]
    fn every_spelling_of_a_number_comes_about() {
        let all: std::collections::BTreeSet<String> =
            (0..200).map(|seed| spelled("200", &mut Choice(seed * 7919 + 1))).collect();
        assert_eq!(
            all.iter().map(String::as_str).collect::<Vec<_>>(),
            ["0.200e+3", "2.00e2", "200", "200.000", "20000E-2", "200e-0"]
        );
    }
}
