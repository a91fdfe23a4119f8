//! Shows the verdict: a line for each finding and one for the whole, or all of it as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::book::Book;
use super::boot::Proved;
use super::finding::At;
use crate::words::counted::counted;
use crate::words::small_sort::{SmallCollect as _, SmallSort as _};

/// Findings that are shown as text; JSON has more.
const SHOWN: usize = 200;

#[derive(Serialize)]
struct Verdict<'b> {
    verdict: &'static str,
    /// Whether `--expect`, or both `--from` and `--to`, tell that no boot is missing.
    boots_known: bool,
    records: u64,
    seals: u64,
    /// Lines that are neither.
    others: u64,
    /// Lines that are there once more, as they are.
    repeats: u64,
    counts: serde_json::Map<String, serde_json::Value>,
    findings: Vec<Told<'b>>,
    boots: Vec<BootTold<'b>>,
}

#[derive(Serialize)]
struct Told<'b> {
    kind: &'static str,
    boot: Option<&'b str>,
    first: Option<u64>,
    last: Option<u64>,
    log: Option<&'b str>,
    line: Option<u64>,
    text: &'b str,
}

#[derive(Serialize)]
struct BootTold<'b> {
    boot: &'b str,
    instance: Option<&'b str>,
    /// Records that are there, and that the seals which are there have.
    records: u64,
    sealed: u64,
    seals: usize,
    r#final: bool,
}

impl Book {
    /// The verdict, as one word or some.
    fn verdict(&self, boots_known: bool) -> &'static str {
        match (self.findings.total(), boots_known) {
            (0, true) => "whole",
            (0, false) => "whole as far as present",
            _ => "not whole",
        }
    }

    fn repeats(&self) -> u64 {
        self.boots.values().map(|boot| boot.repeats).sum()
    }

    /// All of it as one JSON object.
    pub(super) fn to_json(&self, logs: &[String], boots_known: bool) -> String {
        let mut boots: Vec<BootTold<'_>> = self
            .boots
            .iter()
            .map(|(name, boot)| BootTold {
                boot: name,
                instance: boot.instance.as_deref(),
                records: boot.records,
                sealed: boot.seals.values().map(|seal| seal.hashes.len() as u64).sum(),
                seals: boot.seals.len(),
                r#final: boot.seals.values().next_back().is_some_and(|seal: &Proved| seal.is_final),
            })
            .collect();
        boots.small_sort_by_key(|boot| boot.boot);
        let findings = self.findings.kept().iter().map(|finding| Told {
            kind: finding.kind.as_str(),
            boot: finding.boot.as_deref(),
            first: finding.records.map(|(first, _)| first),
            last: finding.records.map(|(_, last)| last),
            log: finding.at.and_then(|at| logs.get(at.log)).map(String::as_str),
            line: finding.at.map(|at| at.line),
            text: &finding.text,
        });
        let verdict = Verdict {
            verdict: self.verdict(boots_known),
            boots_known,
            records: self.lines.records,
            seals: self.lines.seals,
            others: self.lines.others,
            repeats: self.repeats(),
            counts: self
                .findings
                .counts()
                .map(|(kind, count)| (kind.as_str().to_owned(), count.into()))
                .small_collect(),
            findings: findings.collect(),
            boots,
        };
        // Names and numbers: nothing that JSON cannot say.
        serde_json::to_string_pretty(&verdict).unwrap_or_default() + "\n"
    }

    /// Lines for people.
    pub(super) fn to_text(&self, logs: &[String], boots_known: bool) -> String {
        let mut text = String::new();
        let place = |at: At| {
            let log = logs.get(at.log).map_or("-", String::as_str);
            format!("{}:{}", log.escape_debug(), at.line)
        };
        // Writing into a String cannot fail.
        for finding in self.findings.kept().iter().take(SHOWN) {
            if let Some(at) = finding.at {
                let _ = write!(text, "{}: ", place(at));
            }
            let _ = write!(text, "{}: ", finding.kind.as_str());
            if let Some(boot) = &finding.boot {
                let _ = write!(text, "boot {}: ", boot.escape_debug());
            }
            let _ = writeln!(text, "{}", finding.text);
        }
        if let Some(more @ 1..) = self.findings.total().checked_sub(SHOWN as u64) {
            let _ = writeln!(text, "… and {more} more; `--json` shows up to 10,000");
        }
        let _ = write!(
            text,
            "{}: {} of {}, by {}",
            self.verdict(boots_known),
            counted(self.lines.records, "record", "records"),
            counted(self.boots.len(), "boot", "boots"),
            counted(self.lines.seals, "seal", "seals")
        );
        let counts: Vec<String> = self
            .findings
            .counts()
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{count} {}", kind.as_str()))
            .collect();
        if !counts.is_empty() {
            let _ = write!(text, ": {}", counts.join(", "));
        }
        text.push('\n');
        text
    }

    /// What is no fault of the log, and may still be worth knowing.
    pub(super) fn notices(&self, logs: &[String]) -> Vec<String> {
        let mut notices = Vec::new();
        let place = |at: &At| {
            let log = logs.get(at.log).map_or("-", String::as_str);
            format!("{}:{}", log.escape_debug(), at.line)
        };
        let repeats = self.repeats();
        if repeats > 0 {
            notices.push(format!("{repeats} lines are there once more, exactly as they are"));
        }
        if self.lines.others > 0 {
            let first: Vec<String> = self.lines.first_others.iter().map(&place).collect();
            let more = if self.lines.others > first.len() as u64 { ", …" } else { "" };
            notices.push(format!(
                "{} lines are neither records nor seals: {}{more}",
                self.lines.others,
                first.join(", ")
            ));
        }
        for (key, at) in self.lines.successors.iter().filter(|(key, _)| !self.trusts(key)) {
            notices.push(format!(
                "{}: the key {} follows, which no --key names: a key is not trusted because another one names it",
                place(at),
                key.escape_debug()
            ));
        }
        notices
    }
}
