//! From lines of JSON to the messages of OTLP.
//!
//! A record becomes a log record whose attributes are the members of its JSON line, so that nothing is left out and nothing has
//! another name here. What has no value is left out. Characters that a terminal obeys, or that are not seen, are written as escapes:
//! what shows log records shows text as it is.

use std::borrow::Cow;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1;
use prost::Message;
use serde_json::Value;

use super::environment::Environment;
use crate::telemetry::record::{Event, Record};
use crate::words::outcome::Decision;

/// What made the records: their scope.
const SCOPE: &str = "egressd.access_log";

/// Who sends: attributes of every batch.
#[derive(Clone, PartialEq, Debug)]
pub struct Resource(v1::Resource);

impl Resource {
    /// `instance` is this replica's host name. The environment may name the service, and add attributes.
    pub fn new(environment: &Environment, instance: &str) -> Self {
        let mut attributes = environment.resource();
        let own = [
            ("service.name", "egressd"),
            ("service.instance.id", instance),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ];
        for (name, value) in own {
            attributes.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let attributes = attributes.into_iter().map(|(name, value)| attribute(name, text(value))).collect();
        Resource(v1::Resource { attributes, ..v1::Resource::default() })
    }
}

/// One record on its way.
#[derive(Debug)]
pub(super) struct Line {
    /// Since 1970.
    pub(super) nanos: u64,
    pub(super) severity: SeverityNumber,
    pub(super) event: &'static str,
    pub(super) json: Box<[u8]>,
}

impl Line {
    pub(super) fn new(record: &Record<'_>, json: &[u8]) -> Self {
        Line {
            nanos: u64::try_from(record.time.as_nanosecond()).unwrap_or(0),
            severity: severity(record),
            event: record.event.as_str(),
            json: json.into(),
        }
    }
}

/// By the decision; what failed without one is an error too.
fn severity(record: &Record<'_>) -> SeverityNumber {
    match (record.event, record.decision) {
        (Event::Error, _) | (_, Some(Decision::Deny)) => SeverityNumber::Error,
        (_, Some(Decision::WouldDeny)) => SeverityNumber::Warn,
        (Event::Deny, None) => SeverityNumber::Error,
        (_, Some(Decision::Allow) | None) => SeverityNumber::Info,
    }
}

/// The body of a request with these lines.
pub(super) fn encode(lines: &[Line], resource: &Resource, gzip: bool) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_logs = ScopeLogs {
        scope: Some(scope),
        log_records: lines.iter().map(log_record).collect(),
        schema_url: String::new(),
    };
    let resource_logs = ResourceLogs {
        resource: Some(resource.0.clone()),
        scope_logs: vec![scope_logs],
        schema_url: String::new(),
    };
    let bytes = ExportLogsServiceRequest { resource_logs: vec![resource_logs] }.encode_to_vec();
    if !gzip {
        return bytes;
    }
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    // Into memory, which does not fail.
    match packer.write_all(&bytes).and_then(|()| packer.finish()) {
        Ok(packed) => packed,
        Err(error) => unreachable!("packing into memory failed: {error}"),
    }
}

fn log_record(line: &Line) -> LogRecord {
    // Our own line, so it is JSON.
    let members = match serde_json::from_slice(&line.json) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let word = match line.severity {
        SeverityNumber::Error => "ERROR",
        SeverityNumber::Warn => "WARN",
        _ => "INFO",
    };
    LogRecord {
        time_unix_nano: line.nanos,
        observed_time_unix_nano: line.nanos,
        severity_number: line.severity.into(),
        severity_text: word.to_owned(),
        body: Some(AnyValue { value: Some(text(said(&members))) }),
        attributes: key_values(members),
        event_name: format!("egressd.{}", line.event),
        ..LogRecord::default()
    }
}

/// For a reader who sees the body alone: `deny CONNECT a.example:443 host_not_allowed`.
fn said(members: &serde_json::Map<String, Value>) -> String {
    let words = ["event", "method", "target", "reason"].into_iter();
    words.filter_map(|name| members.get(name)?.as_str()).collect::<Vec<_>>().join(" ")
}

fn key_values(members: serde_json::Map<String, Value>) -> Vec<KeyValue> {
    members.into_iter().filter_map(|(name, value)| Some(attribute(name, any_value(value)?))).collect()
}

fn attribute(key: String, value: Any) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(value: String) -> Any {
    Any::StringValue(match shown(&value) {
        Cow::Borrowed(_) => value,
        Cow::Owned(shown) => shown,
    })
}

fn any_value(value: Value) -> Option<Any> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Any::BoolValue(value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Any::IntValue(number),
            None => Any::DoubleValue(number.as_f64()?),
        },
        Value::String(value) => text(value),
        Value::Array(values) => Any::ArrayValue(ArrayValue {
            values: values.into_iter().map(|value| AnyValue { value: any_value(value) }).collect(),
        }),
        Value::Object(members) => Any::KvlistValue(KeyValueList { values: key_values(members) }),
    })
}

/// The text with escapes for characters that are obeyed or not seen: controls, and what changes the direction or the place of others.
fn shown(text: &str) -> Cow<'_, str> {
    let is_obeyed = |character: char| {
        character.is_control()
            || matches!(character,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_obeyed(character) {
            true => shown.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::record::FIELDS;
    use crate::telemetry::record::test_records::any_record;

    fn environment() -> Environment {
        [("OTEL_RESOURCE_ATTRIBUTES".to_owned(), "deployment.environment=test".to_owned())]
            .into_iter()
            .collect()
    }

    /// What JSON the value was.
    fn back(value: &Any) -> Value {
        match value {
            Any::BoolValue(value) => (*value).into(),
            Any::IntValue(value) => (*value).into(),
            Any::DoubleValue(value) => (*value).into(),
            Any::StringValue(value) => value.clone().into(),
            Any::ArrayValue(ArrayValue { values }) => {
                values.iter().map(|value| value.value.as_ref().map_or(Value::Null, back)).collect()
            }
            Any::KvlistValue(KeyValueList { values }) => members(values),
            other => panic!("{other:?}"),
        }
    }

    fn members(values: &[KeyValue]) -> Value {
        let members = values.iter().map(|each| {
            let value = each.value.as_ref().and_then(|value| value.value.as_ref()).expect("a value");
            (each.key.clone(), back(value))
        });
        Value::Object(members.collect())
    }

    /// Without what is null, and with texts as they are shown.
    fn sparse(value: Value) -> Value {
        match value {
            Value::Object(members) => Value::Object(
                members
                    .into_iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(name, value)| (name, sparse(value)))
                    .collect(),
            ),
            Value::Array(values) => values.into_iter().map(sparse).collect(),
            Value::String(text) => shown(&text).into(),
            value => value,
        }
    }

    proptest! {
        /// The whole record, by the names and with the values of its JSON line.
        #[test]
        fn the_attributes_are_the_record(made in any_record()) {
            let mut json = Vec::new();
            let line = made.with(|record| {
                record.write_json(&mut json);
                Line::new(record, &json)
            });
            let resource = Resource::new(&environment(), "pod-1");
            let bytes = encode(&[line], &resource, false);
            let request = ExportLogsServiceRequest::decode(bytes.as_slice()).expect("a request");
            let logs = &request.resource_logs[0];
            let of_resource = members(&logs.resource.as_ref().expect("a resource").attributes);
            prop_assert_eq!(&of_resource["service.name"], "egressd");
            prop_assert_eq!(&of_resource["service.instance.id"], "pod-1");
            prop_assert_eq!(&of_resource["service.version"], env!("CARGO_PKG_VERSION"));
            prop_assert_eq!(&of_resource["deployment.environment"], "test");
            let record = &logs.scope_logs[0].log_records[0];
            let want: Value = serde_json::from_slice(&json).expect("JSON");
            prop_assert!(want.as_object().expect("an object").keys().all(|name| FIELDS.iter().any(|field| field.name == name)));
            prop_assert_eq!(members(&record.attributes), sparse(want.clone()));
            let time: jiff::Timestamp = want["time"].as_str().expect("a time").parse().expect("a time");
            prop_assert_eq!(i128::from(record.time_unix_nano), time.as_nanosecond());
            let severity = match (want["event"].as_str(), want["decision"].as_str()) {
                (Some("error"), _) | (_, Some("deny")) | (Some("deny"), None) => 17,
                (_, Some("would_deny")) => 13,
                _ => 9,
            };
            prop_assert_eq!(record.severity_number, severity);
            prop_assert!(record.trace_id.is_empty() && record.span_id.is_empty());
        }

        #[test]
        fn t68_nothing_that_a_terminal_obeys_is_in_a_text(value in any::<String>()) {
            let shown = shown(&value);
            let is_obeyed = |character: char| {
                character.is_control() || ('\u{202a}'..='\u{202e}').contains(&character)
            };
            prop_assert!(!shown.contains(is_obeyed));
        }
    }

    #[test]
    fn packed_is_the_same() {
        let json = br#"{"event":"open"}"#;
        let line =
            || Line { nanos: 1, severity: SeverityNumber::Info, event: "open", json: json.as_slice().into() };
        let resource = Resource::new(&environment(), "pod-1");
        let packed = encode(&[line()], &resource, true);
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut plain)
            .expect("gzip");
        assert_eq!(plain, encode(&[line()], &resource, false));
    }
}
