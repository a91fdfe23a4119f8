//! `egressd check`: prints everything that is wrong with a configuration, at once.

mod pushes;

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, stderr};
use std::path::Path;

use jiff::Timestamp;

use super::{CONFIGURATION_REFUSED, FAILED, FINE, say};
use crate::config::{self, Loaded};
use crate::rules::Policy;
use crate::words::counted::counted;
use crate::words::small_sort::SmallCollect as _;

/// `check`.
#[derive(clap::Args, Debug)]
pub(super) struct Check {
    /// Exit with 1 if there are warnings.
    #[arg(long)]
    strict: bool,
}

impl Check {
    pub(super) fn run(&self, file: Option<&Path>) -> u8 {
        let loaded = match config::load(file) {
            Ok(loaded) => loaded,
            Err(findings) => {
                findings.iter().for_each(|finding| say(format_args!("{finding}\n")));
                return CONFIGURATION_REFUSED;
            }
        };
        loaded.warnings.iter().for_each(|finding| say(format_args!("{finding}\n")));
        // For a review, in CI too: stdout has nothing but findings.
        let now = Timestamp::now();
        loaded
            .config
            .policies
            .iter()
            .filter_map(|policy| pushes::line(policy, now))
            .for_each(|line| eprintln!("{line}"));
        // For a person alone: a script has the exit code, and stdout has nothing but findings.
        if stderr().is_terminal() {
            eprintln!("{}", checked(&loaded, file));
        }
        if self.strict && !loaded.warnings.is_empty() { FAILED } else { FINE }
    }
}

/// One line that says what was checked: `egressd.yaml: ok: 3 policies, 14 rules, 2 sets, 2 files`.
fn checked(loaded: &Loaded, file: Option<&Path>) -> String {
    let name = file.map_or_else(|| "the built-in default".to_owned(), |file| file.display().to_string());
    let warnings = match loaded.warnings.len() {
        0 => String::new(),
        number => format!(", with {}", counted(number, "warning", "warnings")),
    };
    let policies = &loaded.config.policies;
    let sets: BTreeSet<&str> = policies.iter().flat_map(Policy::sets).small_collect();
    let sets = match sets.len() {
        0 => String::new(),
        number => format!(", {}", counted(number, "set", "sets")),
    };
    let files = match loaded.config.files.len() {
        0 | 1 => String::new(),
        number => format!(", {}", counted(number, "file", "files")),
    };
    format!(
        "{name}: ok{warnings}: {}, {}{sets}{files}",
        counted(policies.iter().count(), "policy", "policies"),
        counted(policies.rules().count(), "rule", "rules")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_checked_is_counted() {
        let rows = [
            ("policies: [{name: p, allow: [a.example]}]", "c.yaml: ok: 1 policy, 1 rule"),
            (
                "policies: [{name: p, allow: [a.example, 'b.example:22'], deny: [c.example]}, {name: q, clients: \
                 {networks: [192.0.2.0/24]}}]",
                "c.yaml: ok, with 2 warnings: 2 policies, 3 rules",
            ),
            (
                "policies: [{name: p, allow_files: [list.txt], allow: [a.example]}]",
                "c.yaml: ok: 1 policy, 2 rules, 2 files",
            ),
            (
                "policies: [{name: p, clients: {networks: [10.0.0.0/8]}, allow: [{set: aws-sts, version: 2026-11, region: \
                 eu-west-1}, {set: aws-sts, version: 2026-11, region: eu-west-2}, {set: aws-codecommit, version: 2026-11, \
                 region: eu-west-1}], allow_files: [list.txt]}, {name: q, clients: {networks: [192.0.2.0/24]}, allow: [{set: \
                 aws-sts, version: 2026-11, region: eu-west-1}]}]",
                "c.yaml: ok: 2 policies, 5 rules, 2 sets, 2 files",
            ),
        ];
        for (text, want) in rows {
            let loaded = config::load_str("c.yaml", text, |_| Ok(b"listed.example\n".to_vec())).expect(text);
            assert_eq!(checked(&loaded, Some(Path::new("c.yaml"))), want, "{:?}", loaded.warnings);
        }
    }
}
