//! What a witness wrote down: of each boot, how far it was sealed. A log that is whole by itself may lack a boot, or be that of
//! another day.

use std::collections::BTreeSet;

use serde_json::Value;

use super::book::Book;
use super::finding::{Finding, Kind};
use crate::wire::seal::Hash;
use crate::words::small_sort::SmallCollect as _;

/// What one boot had sealed at some time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The boot.
    pub boot: String,
    /// The last record that was sealed, if one was.
    pub seq: Option<u64>,
    /// The hash of the last seal, if the witness wrote it down.
    pub hash: Option<Hash>,
}

/// What `text` says: answers of `/api/status`, one or many; or samples of Prometheus, `egressd_log_boot_info` and
/// `egressd_log_sealed_seq` as a scrape has them, or values with a label `boot`.
///
/// # Errors
/// A sentence.
pub fn expected(text: &str) -> Result<Vec<Expected>, String> {
    let mut found = Vec::new();
    if text.trim_start().starts_with(['{', '[']) && !is_sample(text.trim_start()) {
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let value =
                value.map_err(|error| format!("is neither JSON nor samples of Prometheus: {error}"))?;
            of_value(&value, &mut found)?;
        }
    } else {
        of_samples(text, &mut found);
    }
    if found.is_empty() {
        return Err(
            "names no boot: write answers of /api/status into it, or the series egressd_log_boot_info and \
                    egressd_log_sealed_seq"
                .to_owned(),
        );
    }
    Ok(found)
}

/// `{boot="…"} 41`, as queries of Prometheus print a sample without a name.
fn is_sample(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains("boot=\""))
}

/// Every object with a `boot`, wherever it stands. What cannot be read is an error: without it, less would be asked of the log.
fn of_value(value: &Value, found: &mut Vec<Expected>) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| of_value(item, found)),
        Value::Object(members) => {
            let Some(Value::String(boot)) = members.get("boot") else {
                return members.values().try_for_each(|member| of_value(member, found));
            };
            let given = |name: &str| members.get(name).filter(|value| !value.is_null());
            let wrong = |name: &str, value: &Value| {
                format!("says {name} {value} of the boot {}, which is none", boot.escape_debug())
            };
            let seq = match given("seq") {
                Some(value) => Some(whole(value).ok_or_else(|| wrong("seq", value))?),
                None => None,
            };
            let hash = match given("hash") {
                Some(value) => {
                    Some(value.as_str().and_then(Hash::parse).ok_or_else(|| wrong("hash", value))?)
                }
                None => None,
            };
            found.push(Expected { boot: boot.clone(), seq, hash });
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A number of a record, whatever spelling of it JSON allows: far below 2^53.
fn whole(value: &Value) -> Option<u64> {
    let of_double = |value: &f64| value.fract() == 0.0 && (0.0..9e15).contains(value);
    value.as_u64().or_else(|| value.as_f64().filter(of_double).map(|value| value as u64))
}

fn of_samples(text: &str, found: &mut Vec<Expected>) {
    // A scrape has the boot and the number in two series.
    let (mut boots, mut number) = (Vec::new(), None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        // The value may have a time after it, or an `@` and a time; `=>` is what promtool writes between.
        let (series, rest) = match line.split_once('}') {
            Some((series, rest)) => (series, rest),
            None => line.split_once(' ').unwrap_or((line, "")),
        };
        let value =
            rest.split_whitespace().find(|word| *word != "=>").and_then(|word| word.parse::<f64>().ok());
        // Numbers of records, which are whole and far below 2^53.
        let value = value.filter(|value| *value >= 0.0).map(|value| value as u64);
        let boot =
            series.split_once("boot=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(boot, _)| boot);
        match boot {
            Some(boot) if series.starts_with("egressd_log_boot_info") => boots.push(boot.to_owned()),
            // Of a query, a sample may have no name.
            Some(boot) if series.starts_with("egressd_log_sealed_seq") || series.starts_with('{') => {
                found.push(Expected { boot: boot.to_owned(), seq: value, hash: None });
            }
            Some(_) => {}
            None if series.starts_with("egressd_log_sealed_seq") => number = value,
            None => {}
        }
    }
    let seq = number.filter(|_| boots.len() == 1);
    found.extend(boots.into_iter().map(|boot| Expected { boot, seq, hash: None }));
}

impl Book {
    /// Adds what the witness saw and the logs lack, and the boots that it did not see.
    pub(super) fn hold_against(&mut self, expected: &[Expected], file: &str) {
        let mut add = |kind, boot: &str, records, at, text: String| {
            self.findings.add(Finding { kind, boot: Some(boot.into()), records, at, text });
        };
        for Expected { boot, seq, hash } in expected {
            let wanted = seq.map_or(0, |seq| seq.saturating_add(1));
            let Some(there) = self.boots.get(boot.as_str()).filter(|there| !there.seals.is_empty()) else {
                let range = wanted.checked_sub(1).map(|last| (0, last));
                add(
                    Kind::Gap,
                    boot,
                    range,
                    None,
                    format!("no seal of this boot is here; by {file} it sealed {wanted} records"),
                );
                continue;
            };
            let last = there.seals.values().next_back();
            let end = last.map_or(0, super::boot::Proved::end);
            if end < wanted {
                let text =
                    format!("the log ends before record {}; by {file} {wanted} records were sealed", end);
                add(Kind::Gap, boot, Some((end, wanted - 1)), last.map(|last| last.at), text);
            } else if let Some(hash) = hash
                && let Some(other) = there.seals.values().find(|seal| seal.end() == wanted)
                && !there.seals.values().any(|seal| seal.hash == *hash)
            {
                let text = format!(
                    "the seal after record {} has another hash than {file} says",
                    wanted.saturating_sub(1)
                );
                add(Kind::Altered, boot, None, Some(other.at), text);
            }
        }
        let named: BTreeSet<&str> = expected.iter().map(|expected| expected.boot.as_str()).small_collect();
        for (boot, there) in self.boots.iter().filter(|(boot, _)| !named.contains(&***boot)) {
            // One without a seal was told of.
            let Some(first) = there.seals.values().next() else { continue };
            let last = there.seals.values().next_back().map_or(0, super::boot::Proved::end);
            let range = last.checked_sub(1).map(|last| (0, last));
            let text = format!(
                "{file} does not name this boot: it is of another time, or shorter than what a witness sees"
            );
            self.findings.add(Finding {
                kind: Kind::Inserted,
                boot: Some(boot.clone()),
                records: range,
                at: Some(first.at),
                text,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(String, Option<u64>)> {
        expected(text).expect("boots").into_iter().map(|expected| (expected.boot, expected.seq)).collect()
    }

    #[test]
    fn every_form_in_which_a_witness_may_write_it_down() {
        let status = r#"{"version":"1","access_log":{"queued":0,"seal":{"boot":"b-1","number":3,"seq":41,"hash":"RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="}}}"#;
        let one = expected(status).expect("a boot");
        assert_eq!((one[0].boot.as_str(), one[0].seq), ("b-1", Some(41)));
        assert!(one[0].hash.is_some());
        assert_eq!(told(&format!("{status}\n{status}\n")).len(), 2);
        assert_eq!(told(&format!("[{status}]")), [("b-1".to_owned(), Some(41))]);
        assert_eq!(told(r#"{"boot":"b","seq":null}"#), [("b".to_owned(), None)]);
        for seq in ["41", "41.0", "4.1e1", "410E-1"] {
            assert_eq!(
                told(&format!(r#"{{"boot":"b","seq":{seq}}}"#)),
                [("b".to_owned(), Some(41))],
                "{seq}"
            );
        }
        let scrape = "# HELP x y\negressd_log_boot_info{boot=\"b-2\",key=\"ab\"} 1\negressd_log_sealed_seq 1.2e+01\nup 1\n";
        assert_eq!(told(scrape), [("b-2".to_owned(), Some(12))]);
        let both =
            "egressd_log_boot_info{boot=\"b-2\",key=\"ab\"} 1\negressd_log_sealed_seq{boot=\"b-2\"} 12\n";
        assert_eq!(told(both), [("b-2".to_owned(), Some(12)), ("b-2".to_owned(), None)]);
        assert_eq!(told("egressd_log_boot_info{boot=\"b-2\"} 1\n"), [("b-2".to_owned(), None)]);
        let query = "{boot=\"b-3\", instance=\"a\"} => 7 @[1772366400]\n{boot=\"b-4\"} 8\n";
        assert_eq!(told(query), [("b-3".to_owned(), Some(7)), ("b-4".to_owned(), Some(8))]);
        assert_eq!(told(&format!("other{{boot=\"b-9\"}} 3\n{scrape}")), [("b-2".to_owned(), Some(12))]);
        for (text, want) in [
            ("", "names no boot"),
            ("{}", "names no boot"),
            ("up 1", "names no boot"),
            ("{\"a\":", "neither JSON"),
            (r#"{"boot":"b","seq":"41"}"#, "says seq \"41\" of the boot b, which is none"),
            (r#"{"boot":"b","seq":4.5}"#, "says seq 4.5"),
            (r#"{"boot":"b","seq":-1}"#, "says seq -1"),
            (r#"{"boot":"b","seq":1,"hash":"AA=="}"#, "says hash"),
        ] {
            let error = expected(text).expect_err(want);
            assert!(error.contains(want), "{error}");
        }
    }
}
