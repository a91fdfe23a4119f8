//! `egressd test`: expected verdicts beside the allowlist, for a merge request's CI.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{CONFIGURATION_REFUSED, FAILED, FINE, WRONG_USAGE, load};
use crate::cases;

/// `test`.
#[derive(clap::Args, Debug)]
pub(super) struct Test {
    /// YAML: a list `cases`, each with a `target` and what to `expect`: allow, deny or would_deny.
    cases: PathBuf,
}

impl Test {
    pub(super) fn run(&self, file: Option<&Path>) -> u8 {
        let name = self.cases.display().to_string();
        let content = match std::fs::read(&self.cases) {
            Ok(content) => content,
            Err(error) => {
                eprintln!("egressd: cannot read {}: {error}", name.escape_debug());
                return WRONG_USAGE;
            }
        };
        let cases = match cases::load(&name, &content) {
            Ok(cases) => cases,
            Err(findings) => {
                findings.iter().for_each(|finding| eprintln!("{finding}"));
                return WRONG_USAGE;
            }
        };
        let Some(config) = load(file) else { return CONFIGURATION_REFUSED };
        let failures = cases::run(&config.policies, &cases, Timestamp::now());
        for failure in &failures {
            let place = failure.case.place;
            println!("{}:{}:{}: failed: {failure}", name.escape_debug(), place.line, place.column);
        }
        let plural = if cases.len() == 1 { "" } else { "s" };
        match failures.len() {
            0 => println!("{} case{plural} passed", cases.len()),
            failed => println!("{failed} of {} case{plural} failed", cases.len()),
        }
        if failures.is_empty() { FINE } else { FAILED }
    }
}
