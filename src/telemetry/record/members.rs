//! Which members of a line are a record's, where routers put their own beside them.
//!
//! Log routers add members to a line, which is no harm to what was written. But a name that a record has, or could have, is another
//! matter: a reader takes it for the record's, and some readers do so whatever the case of its letters, and with `a.b` for the
//! member `b` of `a`. So such a name is always counted as the record's own.

use super::fields::FIELDS;
use crate::wire::seal::{PLACE, SEAL, SIGNATURE};

/// Where ECS and OCSF have room for what they do not know.
pub(super) const ECS_ROOM: &str = "egressd";
pub(super) const OCSF_ROOM: &str = "unmapped";

/// Of a line of ECS.
const ECS_NAMES: &[&str] = &[
    "@timestamp",
    "ecs",
    "event",
    "source",
    "client",
    "destination",
    "network",
    "user",
    "http",
    "url",
    "tls",
    "rule",
    "user_agent",
    "observer",
    ECS_ROOM,
];

/// Of a line of OCSF.
const OCSF_NAMES: &[&str] = &[
    "class_uid",
    "category_uid",
    "activity_id",
    "activity_name",
    "type_uid",
    "severity_id",
    "status_id",
    "action_id",
    "disposition_id",
    "time",
    "duration",
    "metadata",
    "status_code",
    "status_detail",
    "src_endpoint",
    "dst_endpoint",
    "proxy_endpoint",
    "connection_info",
    "actor",
    "http_request",
    "proxy_http_request",
    "http_response",
    "policy",
    "firewall_rule",
    "traffic",
    OCSF_ROOM,
];

/// Names that routers and other programs use as well, and that make no record of what has nothing else of one.
const COMMON: &[&str] = &[
    "time",
    "@timestamp",
    "ecs",
    "id",
    "target",
    "signature",
    "metadata",
    "actor",
    "duration",
    "client",
    "network",
];

/// The format of a line that is a JSON object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schema {
    /// egressd's own fields.
    Json,
    /// Elastic Common Schema.
    Ecs,
    /// Open Cybersecurity Schema Framework.
    Ocsf,
}

impl Schema {
    /// Every one of them.
    pub const ALL: [Schema; 3] = [Schema::Json, Schema::Ecs, Schema::Ocsf];

    /// Members whose objects may have what belongs to seals.
    pub const GROUPS: [&str; 2] = [ECS_ROOM, OCSF_ROOM];

    /// The member whose object has what belongs to seals; none: the line itself has it.
    pub fn group(self) -> Option<&'static str> {
        match self {
            Schema::Json => None,
            Schema::Ecs => Some(ECS_ROOM),
            Schema::Ocsf => Some(OCSF_ROOM),
        }
    }

    /// The schema of a line that has it there.
    pub fn of_group(group: Option<&str>) -> Self {
        Schema::ALL.into_iter().find(|schema| schema.group() == group).unwrap_or(Schema::Json)
    }

    /// Where a seal has its time, and the host name of its replica: JSON pointers (RFC 6901).
    pub fn of_seal(self) -> [&'static str; 2] {
        match self {
            Schema::Json => ["/time", "/instance"],
            Schema::Ecs => ["/@timestamp", "/observer/hostname"],
            Schema::Ocsf => ["/metadata/original_time", "/unmapped/instance"],
        }
    }

    /// Whether a line of this schema may have a member of this name.
    pub fn has(self, name: &[u8]) -> bool {
        let name = first(name);
        match self {
            Schema::Json => is_field(name) || is_mark(name),
            Schema::Ecs => ECS_NAMES.iter().any(|known| same(name, known)),
            Schema::Ocsf => OCSF_NAMES.iter().any(|known| same(name, known)),
        }
    }

    /// Whether this member of a line around a record is one that a reader could take for the record's: its time is another matter,
    /// which runtimes and routers write too.
    pub fn is_claimed_by(self, name: &[u8], value: &[u8]) -> bool {
        let common = ["time", "@timestamp", "ecs"].iter().any(|common| same(first(name), common));
        let is_own = match self {
            Schema::Json => self.has(name),
            Schema::Ecs | Schema::Ocsf => self.has(name) && (is_object(value) || first(name) != name),
        };
        !common && (is_own || tells(name, value))
    }
}

/// Whether this member makes a reader take the object that has it for a record, in whatever schema.
pub fn tells(name: &[u8], value: &[u8]) -> bool {
    let own = first(name);
    if COMMON.iter().any(|common| same(own, common)) {
        return false;
    }
    // What the schemas call a group is often the name of a text elsewhere: `source` of a container's stream.
    let is_group = is_object(value) || own != name;
    is_field(own)
        || is_mark(own)
        || OCSF_NAMES.iter().any(|known| same(own, known) && (is_group || known.contains('_')))
        || (is_group && ECS_NAMES.iter().any(|known| same(own, known)))
}

fn is_object(value: &[u8]) -> bool {
    value.trim_ascii_start().starts_with(b"{")
}

fn is_field(name: &[u8]) -> bool {
    FIELDS.iter().any(|field| same(name, field.name))
}

fn is_mark(name: &[u8]) -> bool {
    [PLACE, SEAL, SIGNATURE].iter().any(|mark| same(name, mark))
}

/// Elasticsearch takes `a.b` for the member `b` of `a`.
fn first(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b'.').next().unwrap_or_default()
}

/// Whether these are the same letters, as readers compare them that take no account of case: Go's `encoding/json`, Athena. `known`
/// is in lower case.
fn same(name: &[u8], known: &str) -> bool {
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(known.as_bytes());
    }
    let name = String::from_utf8_lossy(name);
    // The long s and the sign for kelvin have letters of ASCII in the other case.
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).eq(known.chars())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::super::test_records::{AS_ECS, AS_JSON, AS_OCSF, Written, any_record};
    use super::*;

    const WRITTEN: [(Schema, Written); 3] =
        [(Schema::Json, AS_JSON), (Schema::Ecs, AS_ECS), (Schema::Ocsf, AS_OCSF)];

    fn members(line: &[u8]) -> Map<String, Value> {
        serde_json::from_slice(line).expect("an object")
    }

    #[test]
    fn a_name_is_a_records_whatever_its_case_and_what_follows_a_dot() {
        for (name, in_json, in_ecs, in_ocsf) in [
            ("decision", true, false, false),
            ("Decision", true, false, false),
            ("DECI\u{17f}ION", true, false, false),
            ("de\u{212a}ision", false, false, false),
            ("ris\u{212a}", false, false, false),
            ("event.action", true, true, false),
            ("Egressd.decision", false, true, false),
            ("unmapped", false, false, true),
            ("sealed", true, false, false),
            ("kubernetes", false, false, false),
            ("decisions", false, false, false),
            ("", false, false, false),
        ] {
            let has = Schema::ALL.map(|schema| schema.has(name.as_bytes()));
            assert_eq!(has, [in_json, in_ecs, in_ocsf], "{name}");
        }
    }

    /// What runtimes, routers and other programs write is no part of a record; what a record has is.
    #[test]
    fn what_routers_write_tells_nothing_and_what_a_record_has_does() {
        for (name, value) in [
            ("time", "\"2026-03-01T12:00:00Z\""),
            ("@timestamp", "\"2026-03-01T12:00:00Z\""),
            ("date", "1772366400.1"),
            ("stream", "\"stdout\""),
            ("_p", "\"F\""),
            ("source", "\"stdout\""),
            ("kubernetes", "{\"host\":\"h\"}"),
            ("ecs", "{\"version\":\"8.0.0\"}"),
            ("log", "{\"offset\":1}"),
            ("host", "{\"name\":\"h\"}"),
            ("MESSAGE", "\"text\""),
            ("__CURSOR", "\"s=1\""),
            ("level", "\"INFO\""),
            ("target", "\"egressd::operate\""),
        ] {
            assert!(!tells(name.as_bytes(), value.as_bytes()), "{name}");
            let claims = |schema: &Schema| schema.is_claimed_by(name.as_bytes(), value.as_bytes());
            assert!(!Schema::ALL.iter().any(claims) || name == "target", "{name}");
        }
        for (name, value) in [
            ("event", "\"open\""),
            ("Event", "\"open\""),
            ("decision", "null"),
            ("sealed", "{}"),
            ("source", " {}"),
            ("source.ip", "\"192.0.2.1\""),
            ("class_uid", "4001"),
            ("egressd", "{\"decision\":\"allow\"}"),
        ] {
            assert!(tells(name.as_bytes(), value.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_record_has_no_other_members_than_those_of_its_schema(made in any_record()) {
            for (schema, write) in WRITTEN {
                let mut line = Vec::new();
                made.with(|record| write(record, &mut line));
                for (name, value) in members(&line) {
                    prop_assert!(schema.has(name.as_bytes()), "{schema:?} {name}");
                    let value = value.to_string();
                    prop_assert!(schema.is_claimed_by(name.as_bytes(), value.as_bytes()) || ["time", "@timestamp", "ecs"].contains(&name.as_str()) || schema == Schema::Ocsf && !value.starts_with('{'), "{schema:?} {name}");
                }
                prop_assert!(members(&line).iter().any(|(name, value)| tells(name.as_bytes(), value.to_string().as_bytes())));
            }
        }
    }

    #[test]
    fn no_name_is_listed_that_no_record_has() {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        let mut seen: [BTreeSet<String>; 3] = Default::default();
        for _ in 0..500 {
            let made = any_record().new_tree(&mut runner).expect("a record").current();
            for ((_, write), seen) in WRITTEN.iter().zip(&mut seen) {
                let mut line = Vec::new();
                made.with(|record| write(record, &mut line));
                seen.extend(members(&line).into_iter().map(|(name, _)| name));
            }
        }
        let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(seen[1], listed(ECS_NAMES));
        assert_eq!(seen[2], listed(OCSF_NAMES));
    }
}
