//! `egressd test`: checks expected verdicts, kept next to the allowlist, in the CI of a merge request.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::commands::{CONFIGURATION_REFUSED, FAILED, FINE, WRONG_USAGE, load, say, test};
use crate::words::counted::counted;
use crate::words::io_error::reason;

/// `test`.
#[derive(clap::Args, Debug)]
pub(crate) struct Test {
    /// YAML file with a list `cases`; each case has a `target`, and what to `expect`: allow, deny or would_deny.
    cases: PathBuf,
}

impl Test {
    pub(crate) fn run(&self, file: Option<&Path>) -> u8 {
        let name = self.cases.display().to_string();
        let content = match std::fs::read(&self.cases) {
            Ok(content) => content,
            Err(error) => {
                eprintln!("egressd: cannot read {}: {}", name.escape_debug(), reason(&error));
                return WRONG_USAGE;
            }
        };
        let cases = match test::load(&name, &content) {
            Ok(cases) => cases,
            Err(findings) => {
                findings.iter().for_each(|finding| eprintln!("{finding}"));
                return WRONG_USAGE;
            }
        };
        let Some(config) = load(file) else { return CONFIGURATION_REFUSED };
        let failures = test::run(&config.policies, &config.listeners, &cases, Timestamp::now());
        for failure in &failures {
            let position = failure.case.position;
            say(format_args!(
                "{}:{}:{}: failed: {failure}\n",
                name.escape_debug(),
                position.line,
                position.column
            ));
        }
        let all = counted(cases.len(), "case", "cases");
        match failures.len() {
            0 => say(format_args!("{all} passed\n")),
            failed => say(format_args!("{failed} of {all} failed\n")),
        }
        if failures.is_empty() { FINE } else { FAILED }
    }
}
