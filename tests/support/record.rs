//! One line of the access log.

use std::ops::Index;

use egressd::telemetry::record::{Event, FIELDS};
use serde_json::Value;

const LONGEST_LINE: usize = 16 * 1024;

/// A record, well-formed by construction: `record["reason"] == "host_denied"`.
#[derive(Clone, PartialEq, Debug)]
pub struct Record(Value);

impl Record {
    /// Parses a line of the log, and panics if the contract does not allow it.
    pub fn parse(line: &str) -> Self {
        assert!(line.len() < LONGEST_LINE, "a line of {} bytes", line.len());
        assert!(!line.chars().any(char::is_control), "a control character in {line:?}");
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON: {e}: {line}"));
        // A field without a value is `null`, not missing; and there are no fields other than the table's.
        for field in FIELDS {
            assert!(value.get(field.name).is_some(), "{} is missing in {line}", field.name);
        }
        assert_eq!(
            value.as_object().map(serde_json::Map::len),
            Some(FIELDS.len()),
            "a field too many in {line}"
        );
        let record = Record(value);
        let known = Event::ALL.iter().any(|event| event.as_str() == record.text("event"));
        assert!(known, "unknown event in {line}");
        // 2026-01-31T23:59:59.123456Z
        let time = record.text("time").as_bytes();
        assert!(
            time.len() == 27 && time[10] == b'T' && time[19] == b'.' && time[26] == b'Z',
            "time in {line}"
        );
        let id = record.text("id").as_bytes();
        assert!(id.len() == 36 && id[14] == b'7', "id is no UUIDv7 in {line}");
        record
    }

    /// A field that holds text.
    pub fn text(&self, field: &str) -> &str {
        self[field].as_str().unwrap_or_else(|| panic!("{field} is not a text in {}", self.0))
    }

    /// A field that holds a whole number.
    pub fn number(&self, field: &str) -> u64 {
        self[field].as_u64().unwrap_or_else(|| panic!("{field} is not a whole number in {}", self.0))
    }

    /// Asserts the fields that `want` names; `null` in `want` means that the field must be `null`.
    pub fn assert_has(&self, want: &Value) {
        for (field, value) in want.as_object().expect("an object of fields") {
            assert_eq!(&self[field.as_str()], value, "{field} of {}", self.0);
        }
    }
}

impl Index<&str> for Record {
    type Output = Value;

    fn index(&self, field: &str) -> &Value {
        self.0.get(field).unwrap_or_else(|| panic!("no field {field} in {}", self.0))
    }
}
