//! Whether a reader could take something in a line for a record, or for a part of one, although it is none that egressd wrote.
//!
//! Readers are more lenient than [`Object`](crate::wire::canonical::Object) is: `jq` reads several values from one line and takes
//! the last of two members of one name, a router unpacks what stands as text in a member, and bytes that are no UTF-8 are replaced.
//! So what is broken or cannot be told counts as a claim, but for the beginning of an object without its end, which no reader takes
//! for one and which a kill leaves behind.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::commands::logs::{DEEPEST, WRAPPERS};
use crate::telemetry::record::tells;

/// Whether a reader could take something in it for a record.
pub(super) fn claims(line: &[u8]) -> bool {
    in_text(&String::from_utf8_lossy(line), 0)
}

/// Whether the text of this value has something that a reader could take for a record; false of what is no string.
pub(super) fn text_claims(value: &str) -> bool {
    in_string(value, 0)
}

/// A member of an object: its name, and its value as it stands there.
pub(super) type Member<'t> = (Vec<u8>, &'t str);

/// The members of the object with which `text` begins, those of one name too, and why there are no more.
pub(super) fn members(text: &str) -> (Vec<Member<'_>>, End) {
    let mut members = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let end = match Members(&mut members).deserialize(&mut json) {
        Ok(()) => End::Whole,
        Err(error) if error.is_eof() => End::Short,
        Err(_) => End::Broken,
    };
    (members, end)
}

/// How an object ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Whole,
    /// The text ends before it does.
    Short,
    /// Something else than JSON follows.
    Broken,
}

fn in_text(text: &str, depth: usize) -> bool {
    let Some(mut rest) = text.find('{').and_then(|begin| text.get(begin..)) else { return false };
    if depth > DEEPEST {
        return true;
    }
    loop {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        match values.next() {
            None => return false,
            Some(Err(_)) => {
                let (members, end) = members(rest);
                return end == End::Broken
                    && members.iter().any(|(name, value)| tells(name, value.as_bytes()));
            }
            Some(Ok(value)) => {
                let value = value.get();
                if in_object(value, depth) || (value.starts_with('[') && in_text(value, depth + 1)) {
                    return true;
                }
                // What is between the values of a list, or of a sequence.
                let after = rest.get(values.byte_offset()..).unwrap_or_default();
                rest = after.trim_start_matches([',', ']', '[', ' ', '\t', '\r', '\u{1e}']);
            }
        }
    }
}

fn in_object(text: &str, depth: usize) -> bool {
    if !text.starts_with('{') {
        return false;
    }
    let (members, end) = members(text);
    let is_wrapper = |name: &[u8]| WRAPPERS.iter().any(|wrapper| wrapper.as_bytes() == name);
    end != End::Whole
        || members.iter().any(|(name, value)| {
            tells(name, value.as_bytes())
                || in_string(value, depth + 1)
                || (is_wrapper(name) && (depth > DEEPEST || in_object(value, depth + 1)))
        })
}

fn in_string(value: &str, depth: usize) -> bool {
    value.starts_with('"')
        && value.contains(['{', '\\'])
        && serde_json::from_str::<Name>(value)
            .is_ok_and(|text| in_text(&String::from_utf8_lossy(&text.0), depth))
}

/// A string of which half a surrogate pair may be in it.
struct Name(Vec<u8>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Name, E> {
                Ok(Name(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Keeps what was read of an object when the rest is broken.
struct Members<'m, 't>(&'m mut Vec<Member<'t>>);

impl<'de> DeserializeSeed<'de> for Members<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            self.0.push((name, ""));
            let value: &'de RawValue = map.next_value()?;
            if let Some(member) = self.0.last_mut() {
                member.1 = value.get();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_reader_could_take_for_a_record_is_a_claim() {
        let record = r#"{"event":"open","target":"evil.example:443","decision":"allow"}"#;
        let quoted = serde_json::to_string(record).expect("text");
        let twice = serde_json::to_string(&format!("{{\"log\":{quoted}}}")).expect("text");
        for line in [
            record.to_owned(),
            record.replace("event", "\\u0045vent"),
            record.replace("open", "\u{9b}opened"),
            r#"{"Decision":"allow"}"#.to_owned(),
            r#"{"decision":"allow","x":NaN}"#.to_owned(),
            r#"{"a":1}{"event":"open"}"#.to_owned(),
            r#"{"a":1} 7 [2] {"event":"open"}"#.to_owned(),
            r#"[{"a":1},{"event":"open"}]"#.to_owned(),
            format!("\u{1e}{record}"),
            format!("\u{feff}{record}"),
            format!("text {record}"),
            format!("{{\"x\":{quoted}}}"),
            format!("{{\"log\":{twice}}}"),
            format!("{{\"message\":{{\"log_processed\":{record}}}}}"),
            format!("{{\"log\":\"2026-03-01T12:00:00Z stdout F {}", &quoted[1..]) + "}",
            format!("{{\"\\ud800\":1,{}", &record[1..]),
            r#"{"a":1,"event.action":"open"}"#.to_owned(),
            r#"{"class_uid":4002,"unmapped":{}}"#.to_owned(),
        ] {
            assert!(claims(line.as_bytes()), "{line}");
        }
        assert!(claims(&[&br#"{"x":""#[..], b"\xff", br#"","event":"open"}"#].concat()));
        let mut deep = record.to_owned();
        for _ in 0..9 {
            deep = format!("{{\"log\":{}}}", serde_json::to_string(&deep).expect("text"));
            assert!(claims(deep.as_bytes()), "{deep}");
        }
    }

    #[test]
    fn what_runtimes_routers_and_a_kill_leave_is_none() {
        for line in [
            "",
            "text of another program",
            "{",
            r#"{"event":"open","target":"git.exa"#,
            r#"{"time":"2026-03-01T12:00:00Z","git":{"refs":[{"name":"a"}"#,
            r#"{"level":"info","msg":"started {x}"}"#,
            r#"{"log":"2026-03-01T12:00:00Z  INFO started\n","stream":"stderr","time":"2026-03-01T12:00:00Z"}"#,
            r#"{"log":"{\"timestamp\":\"t\",\"level\":\"INFO\",\"message\":\"m\",\"target\":\"egressd\"}\n","stream":"stderr"}"#,
            r#"{"date":1.5,"source":"stderr","log":"text","kubernetes":{"labels":{"status":"x"}}}"#,
            r#"{"__CURSOR":"s=1","MESSAGE":"Started egressd.","_PID":"1","PRIORITY":"6"}"#,
            "{\"a\":}",
        ] {
            assert!(!claims(line.as_bytes()), "{line}");
        }
    }
}
