//! Every way to tamper with a log, each named for what it is.
//!
//! `cargo test` tries 500 tamperings; `tests/long/seal_tampering` sets `EGRESSD_TEST_TAMPERINGS` and tries more.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::expect::Expected;
use super::super::*;
use super::written::{Draw, Written, carry, judged, kinds, mixed, within, write_boot};
use crate::telemetry::record::Schema;
use crate::wire::seal::key::SealKey;

/// An edit of a record that is another record for every reader.
fn edited(line: &str, draw: &mut Draw) -> String {
    let mut value: Value = serde_json::from_str(line).expect("a record");
    let members = value.as_object_mut().expect("an object");
    // Not where the place is.
    let own = |name: &String| !["sealed", "egressd", "unmapped"].contains(&name.as_str());
    let names: Vec<String> = members.keys().filter(|name| own(name)).cloned().collect();
    let name = draw.of(&names).clone();
    let member = &mut members[&name];
    let other = match member {
        Value::Null => json!("x"),
        Value::String(text) => json!(format!("{text}.")),
        Value::Number(number) => json!(number.as_f64().expect("a double") / 2.0 - 7.5),
        _ => Value::Null,
    };
    if draw.below(4) == 0 {
        members.remove(&name);
    } else {
        *member = other;
    }
    value.to_string()
}

/// The record with another place.
fn elsewhere(line: &str, boot: Option<&str>, seq: u64) -> String {
    let mut value: Value = serde_json::from_str(line).expect("a record");
    let place = &mut within(&mut value)["sealed"];
    place["seq"] = json!(seq);
    if let Some(boot) = boot {
        place["boot"] = json!(boot);
    }
    value.to_string()
}

/// Ways to tamper with a log.
const WAYS: usize = 26;

/// What a tampering must be called, and what else may be said of it.
type Named = (&'static str, Vec<Kind>, Vec<Kind>);

/// Tampers with the lines of one boot in the `how`th way. `other` is a boot that is not in the log.
fn tamper(how: usize, boot: &Written, lines: &mut Vec<String>, other: &Written, draw: &mut Draw) -> Named {
    use Kind::{Altered, Cut, Gap, Inserted, Unproven};
    let (seals, records) = (boot.of(true), boot.of(false));
    let record = *draw.of(&records);
    let middle = seals[draw.below(seals.len() - 1)];
    let last = *seals.last().expect("the last seal");
    let seq = || record as u64;
    match how {
        0 => {
            lines.truncate(middle + 1);
            ("cut at a seal", vec![Cut], vec![])
        }
        1 => {
            let at = draw.below(lines.len());
            let line = lines[at].clone();
            lines.truncate(at);
            lines.push(line[..draw.below(line.len())].to_owned());
            ("truncated", if at == 0 { vec![] } else { vec![Cut] }, vec![Inserted])
        }
        2 => {
            lines.remove(record);
            ("a line dropped", vec![Gap], vec![])
        }
        3 => {
            let from = draw.below(records.len());
            let to = (from + 1 + draw.below(100)).min(records.len());
            for at in records[from..to].iter().rev() {
                lines.remove(*at);
            }
            ("lines dropped", vec![Gap], vec![])
        }
        4 => {
            lines[record] = edited(&lines[record], draw);
            ("a line edited", vec![Altered], vec![])
        }
        5 => {
            let copy = edited(&lines[record], draw);
            lines.insert(draw.below(lines.len()), copy);
            ("an edited copy beside the line", vec![Inserted], vec![])
        }
        6 => {
            let stray = draw.of(&other.of(false)).to_owned();
            lines.insert(draw.below(lines.len()), other.lines[stray].clone());
            ("a line of another boot", vec![Inserted], vec![])
        }
        7 => {
            let stray = draw.of(&other.of(false)).to_owned();
            let line =
                elsewhere(&other.lines[stray], Some(&boot.last.boot), draw.below(records.len()) as u64);
            lines.insert(draw.below(lines.len()), line);
            ("a line of another boot under this one's name", vec![Inserted], vec![])
        }
        8 => {
            lines[record] = elsewhere(&lines[record], None, seq() + 1_000);
            ("a line that claims a place behind the end", vec![Gap, Inserted], vec![])
        }
        9 => {
            let mut value: Value = serde_json::from_str(&lines[record]).expect("a record");
            within(&mut value).as_object_mut().expect("an object").remove("sealed");
            lines[record] = value.to_string();
            ("a line without its place", vec![Gap, Inserted], vec![])
        }
        10 => {
            lines.remove(middle);
            ("a seal dropped", vec![Unproven], vec![])
        }
        11 => {
            lines.remove(last);
            ("the last seal dropped", vec![Cut], vec![])
        }
        12 => {
            // Any byte of what is signed, or of the signature, that stays JSON.
            let all = [
                ("\"number\":", "\"number\":1"),
                ("\"lost\":0", "\"lost\":1"),
                ("\"egressd-7f9c", "\"fgressd-7f9c"),
                ("\"2", "\"3"),
                ("\"count\":", "\"count\":1"),
                ("\"signature\":\"", "\"signature\":\"AAAA"),
                ("\"final\":", "\"finally\":"),
            ];
            let (from, to) = *draw.of(&all);
            let forged = lines[middle].replacen(from, to, 1);
            assert_ne!(forged, lines[middle]);
            lines[middle] = forged;
            ("a seal edited", vec![Altered], vec![Unproven])
        }
        13 => {
            let forged = lines[middle].replacen("\"lost\":0", "\"lost\":9", 1);
            lines.insert(draw.below(lines.len()), forged);
            ("an edited copy beside the seal", vec![Inserted], vec![])
        }
        14 => {
            lines[record].insert_str(1, "\"event\":\"open\",");
            ("a member twice", vec![Altered], vec![])
        }
        15 => {
            lines.insert(draw.below(lines.len()), format!(
                "1772366400.123 12 10.0.0.1 TCP_TUNNEL/200 {} CONNECT evil.example:443 - HIER_DIRECT/192.0.2.1 -",
                draw.below(9999)
            ));
            ("a line in another format", vec![Inserted], vec![])
        }
        16 => {
            let (a, b) = (*draw.of(&records), record);
            let (place_a, place_b) = (place(&lines[a]), place(&lines[b]));
            lines[a] = elsewhere(&lines[a], None, place_b);
            lines[b] = elsewhere(&lines[b], None, place_a);
            ("two records that change places", if a == b { vec![] } else { vec![Altered] }, vec![])
        }
        17..=21 => lenient(how, record, middle, lines, draw),
        22 => {
            let stray = format!("2026-03-01T12:00:00.1Z stderr F {}", fake(&lines[record], draw));
            lines.insert(draw.below(lines.len()), stray);
            ("a record on the other stream", vec![Inserted], vec![])
        }
        23 => {
            let stray = format!("2026-03-01T12:00:00.1Z stdout P {}", fake(&lines[record], draw));
            lines.insert(draw.below(lines.len()), stray);
            ("a record as a piece of a line", vec![Inserted], vec![])
        }
        24 => {
            let fake = fake(&lines[record], draw);
            let strays = [
                format!("{{\"level\":\"info\"}}{fake}"),
                format!("[{{\"level\":\"info\"}},{fake}]"),
                format!("{{\"msg\":{}}}", Value::from(fake.as_str())),
                fake.replacen('{', "{\"status\":\"200\",\"x\":NaN,", 1),
                fake.replacen('{', "{\"duration_ms\":{},\"EVENT\":\"open\",\"event\":7,", 1),
                fake.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(70_000)), 1),
            ];
            lines.insert(draw.below(lines.len()), draw.of(&strays).clone());
            ("what only other readers take for a record", vec![Inserted], vec![])
        }
        _ => {
            // The attacker's own boot, with the attacker's own key.
            lines.extend(
                other
                    .lines
                    .iter()
                    .map(|line| line.replace(&*other.last.boot, "00000000-0000-7000-8000-000000000000")),
            );
            ("a boot under a key or a name of its own", vec![Inserted], vec![Altered, Unproven])
        }
    }
}

/// What stands beside a record, or a seal, so that readers take the line for something else.
fn lenient(how: usize, record: usize, seal: usize, lines: &mut [String], draw: &mut Draw) -> Named {
    use Kind::{Altered, Unproven};
    let beside = |line: &str, members: &str| line.replacen('{', &format!("{{{members},"), 1);
    let around = |line: &str, members: &str| {
        let text = Value::from(line);
        [
            format!("{{\"log\":{text},{members},\"stream\":\"stdout\"}}"),
            format!("{{{members},\"log\":{text}}}"),
            format!("{{\"MESSAGE\":{text},{members}}}"),
            format!("{{\"log_processed\":{line},{members}}}"),
            format!("{{\"message\":{},\"a\":1}}", Value::from(format!("{{\"log\":{text},{members}}}"))),
        ]
    };
    let said = *draw.of(&[
        "\"Decision\":\"allow\"",
        "\"DECISION\":\"allow\"",
        "\"deci\u{17f}ion\":\"allow\"",
        "\"SNI\":\"evil.example\"",
        "\"event.action\":\"open\"",
        "\"egressd.decision\":\"allow\"",
        "\"Sealed\":{\"boot\":\"b\",\"seq\":1}",
        "\"source.ip\":\"192.0.2.66\"",
        "\"Class_UID\":4001",
    ]);
    match how {
        17 => {
            lines[record] = beside(&lines[record], said);
            ("a name in another case beside the record's", vec![Altered], vec![])
        }
        18 => {
            lines[record] = draw.of(&around(&lines[record], said)).clone();
            ("members beside a wrapped record", vec![Altered], vec![])
        }
        19 => {
            // The whole record beside one that was edited.
            let other = edited(&lines[record], draw);
            let wrappings = [
                beside(&other, &format!("\"log\":{}", Value::from(lines[record].as_str()))),
                beside(&lines[record], &format!("\"log\":{}", Value::from(other.as_str()))),
                format!("{{\"log_processed\":{other},\"log\":{}}}", Value::from(lines[record].as_str())),
                format!("{{\"log\":{},\"message\":{other}}}", Value::from(lines[record].as_str())),
                format!(
                    "{{\"log\":{},\"msg\":{}}}",
                    Value::from(lines[record].as_str()),
                    Value::from(fake(&other, draw))
                ),
            ];
            lines[record] = draw.of(&wrappings).clone();
            ("a record and another one on a line", vec![Altered], vec![])
        }
        20 => {
            lines[seal] = draw.of(&around(&lines[seal], said)).clone();
            ("members beside a wrapped seal", vec![Altered], vec![Unproven])
        }
        _ => {
            lines[seal] = beside(&lines[seal], said);
            ("a name in another case beside the seal's", vec![Altered], vec![Unproven])
        }
    }
}

/// A record that the log never had, without a place.
fn fake(line: &str, draw: &mut Draw) -> String {
    let mut value: Value = serde_json::from_str(line).expect("a record");
    within(&mut value).as_object_mut().expect("an object").remove("sealed");
    let mut text = value.to_string();
    if draw.below(2) == 0 {
        text = text.replace("\"event", "\"\\u0065vent");
    }
    text
}

fn place(line: &str) -> u64 {
    let mut line: Value = serde_json::from_str(line).expect("a record");
    within(&mut line)["sealed"]["seq"].as_u64().expect("a number")
}

#[test]
fn each_tampering_is_named_whatever_carried_the_log() {
    let count = std::env::var("EGRESSD_TEST_TAMPERINGS").map_or(500, |text| text.parse().expect("a number"));
    let key = Arc::new(SealKey::generate().expect("a key"));
    let mut draw = Draw(0x5ea1);
    // Of each schema, so that each is tampered with, beside the others.
    let of_schemas = Schema::ALL.map(|schema| {
        let boots: Vec<Written> =
            [131, 9, 40].map(|records| write_boot(&key, schema, records, &mut draw)).into();
        let other = write_boot(&key, schema, 40, &mut draw);
        let stranger = Arc::new(SealKey::generate().expect("a key"));
        (boots, other, write_boot(&stranger, schema, 20, &mut draw))
    });
    let mut seen: BTreeSet<(&str, usize)> = BTreeSet::new();
    for number in 0..count {
        let turn = number / WAYS;
        let boots: Vec<&Written> = (0..3).map(|which| &of_schemas[(turn + which) % 3].0[which]).collect();
        let witness: Vec<Expected> = boots.iter().map(|boot| boot.witness()).collect();
        let mut lines: Vec<Vec<String>> = boots.iter().map(|boot| boot.lines.clone()).collect();
        let which = draw.below(3);
        let schema = (turn + which) % 3;
        let (_, other, stranger) = &of_schemas[schema];
        let how = number % WAYS;
        let by = if how == WAYS - 1 && draw.below(2) == 0 { stranger } else { other };
        let (name, must, may) = tamper(how, boots[which], &mut lines[which], by, &mut draw);
        let mut all = mixed(&lines, &mut draw);
        // What is torn off would be found by its neighbours, not by its place: the order is only changed where lines are whole.
        carry(&mut all, &mut draw);
        let mut book = judged(&key, &all);
        let got = kinds(&book);
        let (must, may): (BTreeSet<Kind>, BTreeSet<Kind>) =
            (must.into_iter().collect(), may.into_iter().collect());
        assert!(
            must.is_subset(&got) && got.is_subset(&must.union(&may).copied().collect()),
            "{number}: {name}: {got:?}, not {must:?}: {:?}",
            book.findings.kept()
        );
        // A witness saw all of it, and says no less.
        book.hold_against(&witness, "witness");
        assert!(must.is_subset(&kinds(&book)), "{number}: {name}");
        seen.insert((name, schema));
    }
    // By chance, each way in each schema.
    assert!(count < 500 || seen.len() > WAYS * 2, "{seen:?}");
}
