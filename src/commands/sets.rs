//! `egressd sets`: the rule sets that are shipped, with their hosts and where these come from.

use std::ffi::OsStr;
use std::fmt::Write as _;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};

use super::{FINE, WRONG_USAGE, say};
use crate::config::sets::{self, RuleSet};
use crate::words::counted::counted;
use crate::words::quote::quoted;

/// `sets`.
#[derive(clap::Args, Debug)]
pub(super) struct Sets {
    /// The set to show. Left out: all are listed.
    #[arg(value_parser = SetName, hide_possible_values = true)]
    name: Option<String>,
    /// Its version. Left out: the newest.
    version: Option<String>,
}

/// Any text, of which shells complete the names that there are: an unknown one is answered with what was probably meant.
#[derive(Clone)]
struct SetName;

impl TypedValueParser for SetName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(sets::names().into_iter().map(PossibleValue::new)))
    }
}

impl Sets {
    pub(super) fn run(&self) -> u8 {
        let Some(name) = &self.name else {
            say(listed());
            return FINE;
        };
        // `NAME@VERSION`, as findings and the log name it.
        let (name, with_it) = match name.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (&**name, None),
        };
        let versions = sets::versions(name);
        let Some(newest) = versions.last().copied() else {
            eprintln!("egressd: there is no rule set {}; {}", quoted(name), sets::did_you_mean(name));
            return WRONG_USAGE;
        };
        let wanted = self.version.as_deref().or(with_it).unwrap_or(newest);
        match sets::find(name, wanted) {
            Some(set) => {
                say(shown(&set, &versions));
                FINE
            }
            None => {
                eprintln!(
                    "egressd: the set {name} has no version {}: write {}",
                    quoted(wanted),
                    versions.join(" or ")
                );
                WRONG_USAGE
            }
        }
    }
}

/// A line for each set, with its newest version.
fn listed() -> String {
    let mut rows: Vec<[String; 5]> = Vec::new();
    for name in sets::names() {
        let versions = sets::versions(name);
        let newest = versions.last().and_then(|version| sets::find(name, version));
        let Some(RuleSet { title, date, rules, .. }) = newest else { continue };
        let hosts = counted(rules.len(), "rule", "rules");
        rows.push([name.to_owned(), versions.join(" "), date.to_owned(), hosts, title.to_owned()]);
    }
    let mut text = String::new();
    let head = ["SET", "VERSIONS", "DATE", "OPENS", "WHAT"].map(str::to_owned);
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
            cells.map(String::len).max().unwrap_or_default()
        })
        .collect();
    for row in [&head].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text += "\n`egressd sets NAME` shows the rules of one, the vendor's pages that name the hosts, and what to write.\n";
    text
}

/// One version: its rules with their lines and pages, what to know, and the entry to paste.
fn shown(set: &RuleSet, versions: &[&str]) -> String {
    let mut text = format!("{}: {}\n", set.id(), set.title);
    let _ = writeln!(text, "of {}; versions: {}\n", set.date, versions.join(" "));
    let width = set.rules.iter().map(|rule| rule.rule.len()).max().unwrap_or_default();
    for rule in &set.rules {
        let bucket = if rule.storage { "  (a bucket at a storage service)" } else { "" };
        let _ = writeln!(text, "  {:>3}  {:width$}  {}{bucket}", rule.line, rule.rule, rule.page);
    }
    text.push('\n');
    for note in &set.notes {
        let _ = writeln!(text, "{note}");
    }
    if !set.notes.is_empty() {
        text.push('\n');
    }
    text += "Under `allow` of a policy:\n\n";
    for line in set.entry() {
        let _ = writeln!(text, "      {line}");
    }
    text += "\nOptions of a rule may stand beside it, and are those of each line.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_listed_with_its_versions_and_its_date() {
        let text = listed();
        assert_eq!(text.lines().count(), 1 + sets::names().len() + 2, "{text}");
        for name in sets::names() {
            let line = text.lines().find(|line| line.split(' ').next() == Some(name));
            let line = line.unwrap_or_else(|| panic!("{name} in\n{text}"));
            for version in sets::versions(name) {
                let set = sets::find(name, version).expect("shipped");
                assert!(
                    line.contains(version) && line.contains(set.date) && line.ends_with(set.title),
                    "{line}"
                );
            }
        }
        assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    }

    #[test]
    fn a_set_is_shown_with_each_rule_its_page_and_an_entry() {
        for name in sets::names() {
            for version in sets::versions(name) {
                let set = sets::find(name, version).expect("shipped");
                let text = shown(&set, &sets::versions(name));
                for rule in &set.rules {
                    let line = text
                        .lines()
                        .find(|line| line.trim_start().starts_with(&format!("{}  {}", rule.line, rule.rule)));
                    assert!(line.is_some_and(|line| line.contains(rule.page)), "{} in\n{text}", rule.rule);
                    assert_eq!(
                        line.is_some_and(|line| line.ends_with("(a bucket at a storage service)")),
                        rule.storage
                    );
                }
                assert!(set.entry().iter().all(|line| text.contains(line)), "{text}");
            }
        }
    }

    #[test]
    fn a_version_that_is_not_there_is_wrong_usage() {
        let sets = |name: &str, version: &str| Sets {
            name: Some(name.to_owned()),
            version: Some(version.to_owned()),
        };
        assert_eq!(sets("npm", "1999-01").run(), WRONG_USAGE);
        assert_eq!(sets("npm", sets::versions("npm")[0]).run(), FINE);
        assert_eq!(sets("dockerhub", "2026-11").run(), WRONG_USAGE);
        let one = |name: &str| Sets { name: Some(name.to_owned()), version: None };
        assert_eq!(one("npm@2026-11").run(), FINE, "as the log names it");
        assert_eq!(one("npm@1999-01").run(), WRONG_USAGE);
    }
}
