//! Lines of other schemas, held to their field tables (`tests/testdata/schemas`), and to what the JSON line says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::test_records::{AS_ECS, AS_JSON, AS_OCSF, Written, any_record};
use super::*;

const ECS_TABLE: &str = include_str!("../../../tests/testdata/schemas/ecs-9.4.0.txt");
const OCSF_TABLE: &str = include_str!("../../../tests/testdata/schemas/ocsf-1.8.0.txt");

fn line(record: &Record<'_>, write: Written) -> String {
    let mut out = Vec::new();
    write(record, &mut out);
    assert!(out.len() < LINE_BOUND, "{}", out.len());
    let line = String::from_utf8(out).expect("ASCII");
    let body = line.strip_suffix('\n').expect("a line");
    assert!(body.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{body}");
    body.to_owned()
}

fn object(record: &Record<'_>, write: Written) -> Value {
    let text = line(record, write);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The value at `a.b.c`; null where there is none.
fn at(value: &Value, path: &str) -> Value {
    path.split('.').fold(value, |value, name| &value[name]).clone()
}

// --- the table of ECS

#[derive(Debug)]
struct EcsField<'t> {
    kind: &'t str,
    is_list: bool,
    /// The only values, each with the types that belong to it.
    values: BTreeMap<&'t str, Vec<&'t str>>,
}

fn ecs_fields() -> (BTreeSet<&'static str>, BTreeMap<&'static str, EcsField<'static>>) {
    let (mut sets, mut fields) = (BTreeSet::new(), BTreeMap::new());
    for row in ECS_TABLE.lines().filter(|row| !row.starts_with('#')) {
        if let Some(names) = row.strip_prefix("sets ") {
            sets.extend(names.split(' '));
            continue;
        }
        let (field, values) = row.split_once(" : ").unwrap_or((row, ""));
        let words: Vec<&str> = field.split(' ').collect();
        let values = values.split(' ').filter(|value| !value.is_empty()).map(|value| {
            let (value, types) = value.split_once('=').unwrap_or((value, ""));
            (value, types.split(',').collect())
        });
        let is_list = words.get(2) == Some(&"[]");
        fields.insert(words[0], EcsField { kind: words[1], is_list, values: values.collect() });
    }
    (sets, fields)
}

fn check_ecs(line: &Value) {
    let (sets, fields) = ecs_fields();
    assert!(!sets.contains("egressd") && sets.contains("event") && fields.len() > 300);
    let mut leaves = Vec::new();
    collect(line, String::new(), &mut leaves);
    for (path, value) in leaves {
        // Everything of our own is under a name that no set has.
        if path.starts_with("egressd.") {
            continue;
        }
        let field = fields.get(path.as_str()).unwrap_or_else(|| panic!("{path} is no field of ECS: {line}"));
        let values = match value {
            Value::Array(values) if field.is_list => values.as_slice(),
            Value::Array(_) => panic!("{path} is a list"),
            value => {
                assert!(!field.is_list, "{path} is no list");
                std::slice::from_ref(value)
            }
        };
        for value in values {
            let fits = match field.kind {
                "keyword" | "wildcard" | "match_only_text" | "constant_keyword" => value.is_string(),
                "ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
                "long" => value.is_i64(),
                "date" => value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
                other => panic!("{path} has the type {other}, of which egressd writes nothing"),
            };
            assert!(fits, "{path} is no {}: {value}", field.kind);
            let known = field.values.is_empty() || field.values.contains_key(value.as_str().unwrap_or(""));
            assert!(known, "{path} cannot be {value}");
        }
    }
    let categories: Vec<String> = serde_json::from_value(line["event"]["category"].clone()).expect("texts");
    for kind in line["event"]["type"].as_array().expect("a list") {
        let kind = kind.as_str().expect("text");
        let expected = categories
            .iter()
            .any(|category| fields["event.category"].values[category.as_str()].contains(&kind));
        assert!(expected, "{kind} is not expected of {categories:?}");
    }
    for required in ["@timestamp", "ecs.version"] {
        assert!(at(line, required).is_string(), "{required} is required");
    }
    assert!(
        ECS_TABLE.contains(&format!("Schema {ECS_VERSION},")),
        "the table is of the version that lines name"
    );
    assert_eq!(at(line, "ecs.version"), ECS_VERSION);
}

fn collect<'v>(value: &'v Value, path: String, leaves: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(value, path, leaves);
            }
        }
        value => leaves.push((path, value)),
    }
}

// --- the table of OCSF

#[derive(Debug)]
struct Attribute<'t> {
    kind: &'t str,
    required: bool,
    is_list: bool,
    profiles: Vec<&'t str>,
    values: Vec<&'t str>,
}

#[derive(Default, Debug)]
struct Kind<'t> {
    one_of: Vec<&'t str>,
    attributes: BTreeMap<&'t str, Attribute<'t>>,
}

#[derive(Default)]
struct Ocsf {
    /// What each type is in JSON.
    types: BTreeMap<&'static str, (&'static str, Option<&'static str>)>,
    classes: BTreeMap<u64, Kind<'static>>,
    objects: BTreeMap<&'static str, Kind<'static>>,
}

fn ocsf_table() -> Ocsf {
    let mut table = Ocsf::default();
    let mut last: Option<&mut Kind<'static>> = None;
    for row in OCSF_TABLE.lines().filter(|row| !row.starts_with('#')) {
        let (head, values) = row.split_once(" :").unwrap_or((row, ""));
        let values: Vec<&str> = values.split_whitespace().collect();
        let words: Vec<&str> = head.split_whitespace().collect();
        let is_attribute = row.starts_with(' ');
        match words.as_slice() {
            [name, kind, requirement, rest @ ..] if is_attribute => {
                let attribute = Attribute {
                    kind,
                    required: *requirement == "required",
                    is_list: rest.contains(&"[]"),
                    profiles: rest.iter().filter_map(|word| word.strip_prefix('@')).collect(),
                    values,
                };
                last.as_mut().expect("a class or an object").attributes.insert(*name, attribute);
            }
            ["version", version] => {
                assert_eq!(*version, OCSF_VERSION, "the table is of the version that lines name")
            }
            ["type", name, base] => drop(table.types.insert(*name, (*base, None))),
            ["type", name, base, range] => drop(table.types.insert(*name, (*base, Some(*range)))),
            ["class", number, _] => {
                let kind = table.classes.entry(number.parse().expect("a number")).or_default();
                kind.one_of = values;
                last = Some(kind);
            }
            ["object", name] => {
                let kind = table.objects.entry(*name).or_default();
                kind.one_of = values;
                last = Some(kind);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(table.classes.len() == 3 && table.objects.len() > 10 && table.types.len() > 20);
    table
}

impl Ocsf {
    fn check(&self, line: &Value) {
        let class = &self.classes[&line["class_uid"].as_u64().expect("a number")];
        let profiles: Option<Vec<String>> =
            serde_json::from_value(line["metadata"]["profiles"].clone()).expect("texts");
        let profiles = profiles.unwrap_or_default();
        self.members(line.as_object().expect("an object"), class, &profiles, "");
    }

    fn members(&self, members: &Map<String, Value>, kind: &Kind<'_>, profiles: &[String], path: &str) {
        let claimed = |attribute: &Attribute<'_>| {
            attribute.profiles.is_empty()
                || attribute.profiles.iter().any(|profile| profiles.iter().any(|claimed| claimed == profile))
        };
        for (name, value) in members {
            let path = format!("{path}.{name}");
            let attribute =
                kind.attributes.get(name.as_str()).unwrap_or_else(|| panic!("{path} is no attribute"));
            assert!(
                claimed(attribute),
                "{path} is of the profiles {:?}, which the event does not name",
                attribute.profiles
            );
            match value {
                Value::Array(values) if attribute.is_list => {
                    values.iter().for_each(|value| self.value(value, attribute, profiles, &path));
                }
                value => {
                    assert!(!attribute.is_list, "{path} is no list");
                    self.value(value, attribute, profiles, &path);
                }
            }
        }
        for (name, attribute) in &kind.attributes {
            assert!(
                !attribute.required || !claimed(attribute) || members.contains_key(*name),
                "{path}.{name} is required"
            );
        }
        let has_one = kind.one_of.is_empty() || kind.one_of.iter().any(|name| members.contains_key(*name));
        assert!(has_one, "{path} has none of {:?}", kind.one_of);
    }

    fn value(&self, value: &Value, attribute: &Attribute<'_>, profiles: &[String], path: &str) {
        if let Some(kind) = self.objects.get(attribute.kind) {
            let members = value.as_object().unwrap_or_else(|| panic!("{path} is no object"));
            // `object` is any: it is where a source's own values go.
            if attribute.kind != "object" {
                self.members(members, kind, profiles, path);
            }
            return;
        }
        let (base, range) =
            self.types.get(attribute.kind).unwrap_or_else(|| panic!("{path} is not expected"));
        let fits = match (attribute.kind, *base) {
            ("ip_t", _) => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
            (_, "string_t") => value.is_string(),
            (_, "integer_t") => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            (_, "long_t") => value.is_i64(),
            (_, "boolean_t") => value.is_boolean(),
            other => panic!("{path} has the type {other:?}, of which egressd writes nothing"),
        };
        assert!(fits, "{path} is no {}: {value}", attribute.kind);
        if let Some((least, most)) = range.and_then(|range| range.split_once("..")) {
            let (least, most): (i64, i64) =
                (least.parse().expect("a number"), most.parse().expect("a number"));
            assert!(value.as_i64().is_some_and(|number| (least..=most).contains(&number)), "{path}: {value}");
        }
        let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let known = attribute.values.is_empty() || attribute.values.contains(&word.as_str());
        assert!(known, "{path} cannot be {value}");
    }
}

// --- what a line says

/// The field's value in a line of a schema, as the JSON line has it.
fn found(line: &Value, field: &str, path: &str) -> Value {
    let path = match line["class_uid"].as_u64() {
        Some(4002) => path.replace("REQUEST", "http_request"),
        _ => path.replace("REQUEST", "proxy_http_request"),
    };
    if let Some((ip, port)) = path.split_once(' ') {
        let (ip, port) = (at(line, ip), at(line, port));
        // The port alone is the target's.
        let Some(ip) = ip.as_str() else { return Value::Null };
        let address = SocketAddr::new(ip.parse().expect("an address"), port.as_u64().expect("a port") as u16);
        return address.to_string().into();
    }
    let value = at(line, &path);
    match field {
        "duration_ms" if path == "event.duration" => match value.as_u64() {
            Some(nanos) => (nanos as f64 / 1e6).into(),
            None => Value::Null,
        },
        "status" if value.is_string() => {
            value.as_str().expect("text").parse::<u64>().expect("a number").into()
        }
        "method" if value.is_null() => at(line, "unmapped.method"),
        // What has no value is left out there.
        "git" | "aws" if value.is_object() => {
            let mut value = value;
            for name in [
                "operation",
                "wants",
                "haves",
                "negotiated",
                "push_options",
                "push_option_bytes",
                "account",
                "access_key",
                "region",
            ] {
                let belongs = (field == "aws") == matches!(name, "account" | "access_key" | "region");
                if belongs && value[name].is_null() {
                    value[name] = Value::Null;
                }
            }
            for change in value.get_mut("refs").and_then(Value::as_array_mut).into_iter().flatten() {
                for name in ["old", "new"] {
                    if change[name].is_null() {
                        change[name] = Value::Null;
                    }
                }
            }
            value
        }
        _ => value,
    }
}

/// The line with its place in a sealed log.
fn placed(line: &str) -> Value {
    let mut out = Vec::new();
    assert!(write_place(
        "01a20ade-5dd9-7286-9fcc-ba599bb2d527",
        17,
        format!("{line}\n").as_bytes(),
        &mut out
    ));
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {line}"))
}

proptest! {
    #[test]
    fn every_record_is_a_document_of_ecs(made in any_record()) {
        let text = made.with(|record| line(record, AS_ECS));
        check_ecs(&serde_json::from_str(&text).expect("JSON"));
        let placed = placed(&text);
        check_ecs(&placed);
        prop_assert_eq!(&placed["egressd"]["sealed"]["seq"], 17);
    }

    #[test]
    fn every_record_is_an_event_of_ocsf(made in any_record()) {
        let text = made.with(|record| line(record, AS_OCSF));
        ocsf_table().check(&serde_json::from_str(&text).expect("JSON"));
        let placed = placed(&text);
        ocsf_table().check(&placed);
        prop_assert_eq!(&placed["unmapped"]["sealed"]["seq"], 17);
    }

    #[test]
    fn no_field_is_lost_or_changed(made in any_record()) {
        let json = made.with(|record| object(record, AS_JSON));
        let lines = [
            (ECS, made.with(|record| object(record, AS_ECS))),
            (OCSF, made.with(|record| object(record, AS_OCSF))),
        ];
        for (places, line) in lines {
            for (field, path) in places {
                let (want, got) = (&json[*field], found(&line, field, path));
                let same = match (want.as_f64(), got.as_f64()) {
                    (Some(want), Some(got)) => (want - got).abs() <= want.abs() * 1e-12,
                    _ => *want == got,
                };
                prop_assert!(same, "{field} is {want}, and {path} is {got}: {line}");
            }
        }
    }
}

/// A seal too is a document of its schema, with what a record has where readers look for it.
#[test]
fn every_seal_is_a_document_of_its_schema() {
    use crate::wire::canonical::Object;
    use crate::wire::seal::key::SealKey;
    use crate::wire::seal::{Hash, Last, MOST, Seal};
    let key = SealKey::generate().expect("a key");
    let hashes = vec![Hash::of(b"a record"); MOST];
    let time: jiff::Timestamp = "2026-03-01T12:00:00.5Z".parse().expect("a time");
    let seal = |schema: Schema, instance: &str| -> Value {
        let mut out = Vec::new();
        let open = write_seal_head(schema, time, instance, &mut out);
        let boot = "01a20ade-5dd9-7286-9fcc-ba599bb2d527";
        let (number, first) = (u64::MAX >> 11, u64::MAX >> 11);
        let seal = Seal {
            boot,
            number,
            first,
            hashes: &hashes,
            lost: first,
            previous: Some(Hash::of(b"")),
            last: Last::No,
        };
        seal.write(&mut out, 0, open, &key, &mut Object::new()).expect("an object");
        assert!(out.len() < LINE_BOUND && out.is_ascii() && out.ends_with(b"}\n"), "{}", out.len());
        serde_json::from_slice(&out).expect("JSON")
    };
    let long = "\u{9b}".repeat(1000);
    for instance in ["here", &long] {
        check_ecs(&seal(Schema::Ecs, instance));
        ocsf_table().check(&seal(Schema::Ocsf, instance));
    }
    for (schema, event) in
        [(Schema::Json, "/event"), (Schema::Ecs, "/event/action"), (Schema::Ocsf, "/metadata/event_code")]
    {
        let line = seal(schema, "here");
        let group = schema.group().map_or(String::new(), |group| format!("/{group}"));
        assert!(line.pointer(&format!("{group}/signature")).is_some_and(Value::is_string), "{line}");
        assert_eq!(line.pointer(&format!("{group}/seal/count")), Some(&MOST.into()));
        assert_eq!(line.pointer(event), Some(&"seal".into()));
        let [at, instance] = schema.of_seal();
        assert_eq!(line.pointer(at), Some(&"2026-03-01T12:00:00.500000Z".into()));
        assert_eq!(line.pointer(instance), Some(&"here".into()));
    }
}

#[test]
fn every_field_has_a_place_in_every_schema() {
    let fields: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    for places in [ECS, OCSF] {
        let told: Vec<&str> = places.iter().map(|(field, _)| *field).collect();
        assert_eq!(told, fields);
        let paths: BTreeSet<&str> = places.iter().map(|(_, path)| *path).collect();
        assert_eq!(paths.len(), places.len(), "two fields are in one place");
    }
}

/// The checks would find a mistake: each row breaks one line in one way.
#[test]
fn what_is_no_event_of_a_schema_is_found() {
    let target = crate::words::target::Target::connect("git.example:443").expect("a target");
    let address: SocketAddr = "192.0.2.1:50000".parse().expect("an address");
    let record = Record {
        client: Some(crate::words::client::ClientAddr::new(address)),
        method: Some("CONNECT".into()),
        target: Some(LoggedTarget::Connect(&target)),
        sent: Some(1),
        ..Record::new(Event::Close, jiff::Timestamp::UNIX_EPOCH, Uuid::nil(), "proxy")
    };
    let ecs: &[(&str, Value)] = &[
        ("/source/bytes", "1".into()),
        ("/source/ip", "192.0.2.1:50000".into()),
        ("/event/category", "network".into()),
        ("/event/outcome", "maybe".into()),
        ("/event/type", serde_json::json!(["group"])),
        ("/network", serde_json::json!({"direktion": "outbound"})),
        ("/@timestamp", Value::Null),
    ];
    let whole = object(&record, AS_ECS);
    check_ecs(&whole);
    for (pointer, value) in ecs {
        let mut broken = whole.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
        assert!(std::panic::catch_unwind(|| check_ecs(&broken)).is_err(), "{pointer}");
    }
    let ocsf: &[(&str, Value)] = &[
        ("/activity_id", 55.into()),
        ("/src_endpoint/port", 65_536.into()),
        ("/src_endpoint/ip", "here".into()),
        ("/metadata/product", serde_json::json!({"version": "1"})),
        ("/metadata/version", Value::Null),
        ("/metadata/profiles", serde_json::json!(["host"])),
        ("/traffic", serde_json::json!({"bytes_up": 1})),
        ("/time", "now".into()),
    ];
    let whole = object(&record, AS_OCSF);
    ocsf_table().check(&whole);
    for (pointer, value) in ocsf {
        let mut broken = whole.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
        assert!(std::panic::catch_unwind(|| ocsf_table().check(&broken)).is_err(), "{pointer}");
    }
}
