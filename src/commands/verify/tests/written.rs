//! Sealed logs, and what routers do to them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::expect::{Expected, expected};
use super::super::*;
use crate::commands::logs::lines;
use crate::config::Seal;
use crate::telemetry::access_log::{
    AccessLog, Ecs, Finished, Format, Json, LastSeal, Ocsf, OnLogFailure, Options, Sealing, file,
};
use crate::telemetry::record::{Event, LoggedTarget, Raw, Record, Schema, new_id};
use crate::wire::seal::key::SealKey;
use crate::words::outcome::Decision;
use crate::words::target::Target;

/// What this start of the program wrote, and the last thing that a witness saw of it.
pub(super) struct Written {
    pub(super) lines: Vec<String>,
    pub(super) last: LastSeal,
}

impl Written {
    pub(super) fn witness(&self) -> Expected {
        let text = json!({
            "boot": &*self.last.boot, "seq": self.last.records.checked_sub(1), "hash": self.last.hash.to_string()
        });
        expected(&text.to_string()).expect("a boot").remove(0)
    }

    /// The numbers of the lines that are seals, or records.
    pub(super) fn of(&self, seals: bool) -> Vec<usize> {
        let of = |line: &String| is_seal(line) == seals;
        (0..self.lines.len()).filter(|at| self.lines.get(*at).is_some_and(of)).collect()
    }
}

/// Whether a line that the log wrote is a seal.
pub(super) fn is_seal(line: &str) -> bool {
    line.contains("\"seal\":{")
}

/// Where a line has its place: the object that it is in.
pub(super) fn within(line: &mut Value) -> &mut Value {
    let group = Schema::ALL.iter().filter_map(|schema| schema.group()).find(|group| line[*group].is_object());
    match group {
        Some(group) => &mut line[group],
        None => line,
    }
}

/// A number that is as good as random, and the same in every run.
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most.max(1)
    }

    pub(super) fn of<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }
}

pub(super) fn write_boot(key: &Arc<SealKey>, schema: Schema, records: usize, draw: &mut Draw) -> Written {
    let format: Box<dyn Format> = match schema {
        Schema::Json => Box::new(Json),
        Schema::Ecs => Box::new(Ecs),
        Schema::Ocsf => Box::new(Ocsf),
    };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let seal = Seal { key: Arc::clone(key), every: Duration::from_secs(3600) };
    let options = Options {
        sealing: Some(Sealing { seal, instance: "egressd-7f9c5d6b8-x2x7p".into() }),
        ..Options::new(1000, OnLogFailure::Deny)
    };
    let (log, writer) = AccessLog::start(file(&path).expect("opened"), format, options).expect("started");
    for number in 0..records {
        let target = Target::connect(&format!("host{number}.example:443")).expect("a target");
        let agent = *draw.of(&["git/2.47.3", "\u{9b}[31m\"é\\\u{1f600}/", "", "a\tb\u{0}c\u{7f}"]);
        let record = Record {
            target: Some(LoggedTarget::Connect(&target)),
            method: Some(Raw(b"CONNECT")),
            user_agent: Some(Raw(agent.as_bytes())),
            decision: Some(Decision::Allow),
            instance: Some("egressd-7f9c5d6b8-x2x7p"),
            sent: Some(draw.below(1 << 30) as u64),
            received: Some(u64::MAX - draw.below(1 << 30) as u64),
            duration: Some(Duration::from_micros(draw.below(4000) as u64)),
            ..Record::new(*draw.of(&[Event::Open, Event::Close]), Timestamp::now(), new_id(), "proxy")
        };
        log.reserve().expect("room").write(&record);
    }
    assert_eq!(writer.finish(Duration::from_secs(60)), Finished::Flushed);
    let text = std::fs::read_to_string(&path).expect("readable");
    let last = (*log.last_seal().expect("the last one")).clone();
    Written { lines: text.lines().map(str::to_owned).collect(), last }
}

pub(super) fn book<'l>(key: &SealKey, range: Range, all: impl IntoIterator<Item = &'l String>) -> Book {
    let mut book = Book::new(vec![key.public().clone()], range);
    let mut log = Vec::new();
    all.into_iter().for_each(|text| log.extend_from_slice(format!("{}\n", text.trim()).as_bytes()));
    lines(log.as_slice(), |line, text| book.line(At { log: 0, line }, text)).expect("in memory");
    book
}

pub(super) fn judged<'l>(key: &SealKey, lines: impl IntoIterator<Item = &'l String>) -> Book {
    let mut book = book(key, Range::default(), lines);
    book.judge();
    book
}

pub(super) fn kinds(book: &Book) -> BTreeSet<Kind> {
    book.findings.counts().filter(|(_, count)| *count > 0).map(|(kind, _)| kind).collect()
}

/// Ways in which a router may write a line.
pub(super) const WAYS: usize = 11;

/// One line as a router may write it: nothing that is signed is another thing.
pub(super) fn carried(line: &str, how: usize) -> String {
    let value = || serde_json::from_str::<Value>(line).expect("a record");
    let quoted = || Value::from(format!("{line}\n")).to_string();
    match how {
        0 => line.to_owned(),
        1 => format!("2026-03-01T12:00:00.123456789Z stdout F {line}"),
        2 => format!("{{\"log\":{},\"stream\":\"stdout\",\"time\":\"2026-03-01T12:00:00.1Z\"}}", quoted()),
        3 => {
            format!("{{\"date\":1772366400.123,\"kubernetes\":{{\"pod_name\":\"p\"}},\"log\":{}}}", quoted())
        }
        // One wrapping around another.
        6 => format!("{{\"date\":1772366400.123,\"log\":{}}}", Value::from(carried(line, 1))),
        7 => format!("{{\"__CURSOR\":\"s=1\",\"MESSAGE\":{}}}", Value::from(carried(line, 2))),
        // Filebeat, and FireLens.
        8 => format!(
            "{{\"@timestamp\":\"2026-03-01T12:00:01Z\",\"ecs\":{{\"version\":\"8.0.0\"}},\"log\":{{\"offset\":7}},\"message\":{}}}",
            quoted()
        ),
        9 => format!("{{\"container_name\":\"e\",\"source\":\"stdout\",\"log\":{}}}", quoted()),
        // Parsed, with members of the router's beside egressd's.
        4 => {
            let mut value = value();
            let members = value.as_object_mut().expect("an object");
            members.insert("kubernetes".to_owned(), json!({ "pod_name": "p", "labels": [1, 2.5] }));
            members.insert("_p".to_owned(), json!("F"));
            members.insert("stream".to_owned(), json!("stdout"));
            // Fluent Bit's `Keep_Log`.
            members.insert("log".to_owned(), json!(format!("{line}\n")));
            value.to_string()
        }
        5 => {
            let mut text = String::new();
            respelled(&value(), &mut text);
            text
        }
        _ => format!("{{\"date\":1,\"log_processed\":{},\"log\":{}}}", value(), quoted()),
    }
}

/// Members the other way round, numbers with an exponent, space, and escapes that nothing needs.
pub(super) fn respelled(value: &Value, out: &mut String) {
    use std::fmt::Write as _;
    let quoted = |text: &str, out: &mut String| {
        out.push('"');
        text.encode_utf16().for_each(|unit| {
            let _ = write!(out, "\\u{unit:04X}");
        });
        out.push('"');
    };
    match value {
        Value::Object(members) => {
            out.push('{');
            for (at, (name, member)) in members.iter().rev().enumerate() {
                out.push_str(if at > 0 { " , " } else { " " });
                quoted(name, out);
                out.push_str("\t: ");
                respelled(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { " , " } else { " " });
                respelled(item, out);
            }
            out.push(']');
        }
        Value::Number(number) => {
            let _ = write!(out, "{:e}", number.as_f64().expect("a double"));
        }
        Value::String(text) => quoted(text, out),
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
    }
}

/// Swaps lines with neighbours, and carries each as some router does.
pub(super) fn carry(lines: &mut [String], draw: &mut Draw) {
    let all_alike = draw.below(WAYS + 1);
    for line in lines.iter_mut() {
        // Some were edited into something else than JSON.
        if serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object()) {
            let how = if all_alike < WAYS { all_alike } else { draw.below(WAYS) };
            // A router that parses a line takes one of two members of a name, and then there is one.
            let how = if line.starts_with("{\"event\":\"open\",\"") {
                [0, 1, 2, 3, 6, 7, 8, 9][how % 8]
            } else {
                how
            };
            *line = carried(line, how);
        }
    }
    for _ in 0..draw.below(lines.len()) {
        let at = draw.below(lines.len().saturating_sub(40));
        let by = draw.below(40).min(lines.len() - 1 - at);
        lines.swap(at, at + by);
    }
}

/// The logs of three starts of two replicas, mixed as a collector would.
pub(super) fn mixed(boots: &[Vec<String>], draw: &mut Draw) -> Vec<String> {
    let mut left: Vec<_> = boots.iter().map(|lines| lines.iter().peekable()).collect();
    let mut all = Vec::new();
    while left.iter_mut().any(|lines| lines.peek().is_some()) {
        let which = draw.below(left.len());
        for _ in 0..=draw.below(30) {
            all.extend(left[which].next().cloned());
        }
    }
    all
}
