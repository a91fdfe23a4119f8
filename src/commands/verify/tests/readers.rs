//! Readers that are not ours: where `verify` finds nothing, none of them sees another record than was written.
//!
//! The readers are the most lenient ones there are, all in one ([`seen`]): whatever any of them could see in a line, this one sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::written::{Draw, WAYS, carried, is_seal, judged, kinds, write_boot};
use crate::commands::logs::{Entry, Reader};
use crate::telemetry::record::Schema;
use crate::wire::seal::key::SealKey;

/// What a reader asks of a record, by its name in lower case.
const ASKED: [&str; 7] = ["event", "target", "decision", "reason", "sni", "client", "status"];

/// What makes it take an object for a record.
const MARKS: [&str; 2] = ["event", "decision"];

type Seen = BTreeMap<String, Vec<Value>>;

/// Every object in a line that some reader takes for a record: what it says of each field, by every member that could be it.
fn seen(text: &str, all: &mut Vec<Seen>) {
    let text = match text.find(" F ").or(text.find(" P ")) {
        Some(at) if text.starts_with("20") => &text[at + 3..],
        _ => text,
    };
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    values.map_while(Result::ok).for_each(|value| seen_in(&value, all));
}

fn seen_in(value: &Value, all: &mut Vec<Seen>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| seen_in(item, all)),
        Value::String(text) => seen(text, all),
        Value::Object(members) => {
            let mut read = Seen::new();
            for (name, value) in members {
                let name = name.split('.').next().unwrap_or_default().to_lowercase();
                read.entry(name).or_default().push(value.clone());
            }
            if MARKS.iter().any(|mark| read.contains_key(*mark)) {
                read.retain(|name, _| ASKED.contains(&name.as_str()));
                all.push(read);
            }
            let inside = members.iter().filter(|(name, value)| {
                value.is_string() || ["log", "log_processed", "message", "MESSAGE"].contains(&name.as_str())
            });
            inside.for_each(|(_, value)| seen_in(value, all));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether this is what one of the lines says that were written.
fn was_written(read: &Seen, written: &[Value]) -> bool {
    let says = |line: &Value| {
        ASKED.iter().all(|name| {
            let none = vec![Value::Null];
            read.get(*name).unwrap_or(&none).iter().all(|value| *value == line[*name])
        })
    };
    written.iter().any(says)
}

/// A line of things that belong together, and of some that do not.
fn composed(lines: &[String], draw: &mut Draw, depth: usize) -> String {
    let record = draw.of(lines).clone();
    let other = |draw: &mut Draw| {
        let mut value: Value = serde_json::from_str(&record).expect("a record");
        let name = *draw.of(&["decision", "target", "sni", "event"]);
        value[name] = Value::from(*draw.of(&["open", "allow", "evil.example:443"]));
        if draw.below(2) == 0 {
            value.as_object_mut().expect("an object").remove("sealed");
        }
        value.to_string()
    };
    let part = match draw.below(8) {
        _ if depth > 0 && draw.below(2) == 0 => composed(lines, draw, depth - 1),
        0..=3 => record.clone(),
        4 | 5 => other(draw),
        6 => carried(&record, draw.below(WAYS)),
        _ => "a text".to_owned(),
    };
    let noise = |draw: &mut Draw| {
        let name = *draw.of(&[
            "stream",
            "time",
            "kubernetes",
            "log",
            "log_processed",
            "message",
            "MESSAGE",
            "msg",
            "Event",
            "DECISION",
            "decision",
            "event",
            "event.x",
            "sni.y",
            "target",
            "source",
            "_p",
        ]);
        let value = match draw.below(4) {
            0 => Value::from(*draw.of(&["stdout", "allow", "open", "text"])).to_string(),
            1 => "{\"name\":\"x\"}".to_owned(),
            2 => Value::from(part.as_str()).to_string(),
            _ if part.starts_with('{') && serde_json::from_str::<Value>(&part).is_ok() => part.clone(),
            _ => "1".to_owned(),
        };
        format!("\"{name}\":{value}")
    };
    match draw.below(7) {
        0 | 1 => part,
        2 => format!("{{{}}}", noise(draw)),
        3 => format!("{{{},{}}}", noise(draw), noise(draw)),
        4 if part.starts_with('{') && !part.starts_with("{}") => {
            part.replacen('{', &format!("{{{},", noise(draw)), 1)
        }
        5 => format!(
            "2026-03-01T12:00:00.1Z {} {} {part}",
            draw.of(&["stdout", "stderr"]),
            draw.of(&["F", "P"])
        ),
        _ => format!("{part}{}", draw.of(&["", " ", "{\"a\":1}"])),
    }
}

#[test]
fn where_nothing_is_found_no_reader_sees_another_record() {
    let key = Arc::new(SealKey::generate().expect("a key"));
    let mut draw = Draw(0xead);
    let boot = write_boot(&key, Schema::Json, 5, &mut draw);
    let written: Vec<Value> =
        boot.lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let records: Vec<String> = boot.lines.iter().filter(|line| !is_seal(line)).cloned().collect();
    let (mut whole, mut found) = (0, 0);
    for number in 0..1_500 {
        let mut lines = boot.lines.clone();
        let line = composed(&records, &mut draw, 2);
        let at = draw.below(lines.len());
        // Beside what is there, or instead of a record of which it may have all.
        if draw.below(2) == 0 {
            lines.insert(at, line.clone());
        } else if let Some(instead) = lines.iter().position(|other| line.contains(other.as_str())) {
            lines[instead] = line.clone();
        } else {
            lines.push(line.clone());
        }
        if !kinds(&judged(&key, &lines)).is_empty() {
            found += 1;
            continue;
        }
        whole += 1;
        let mut all = Vec::new();
        lines.iter().for_each(|line| seen(line, &mut all));
        let strange = all.iter().find(|read| !was_written(read, &written));
        assert!(strange.is_none(), "{number}: {strange:?} in {line}");
        // Nor does `summary`.
        let (mut reader, mut seen) = (Reader::new(), 0);
        let log = lines.join("\n");
        let each = |entry: &Entry<'_>| {
            let target = entry.target.map(|target| target.decoded().into_owned());
            assert!(
                written.iter().any(|line| line["target"].as_str() == target.as_deref()),
                "{number}: {target:?}"
            );
            seen += 1;
        };
        reader.read("a.log", log.as_bytes(), each).expect("in memory");
        assert!(seen >= records.len(), "{number}: {seen} records in {line}");
    }
    assert!(whole > 100 && found > 100, "{whole} and {found}");
}
