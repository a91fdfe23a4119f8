//! `egressd check`: prints everything that is wrong with a configuration, at once.

use std::path::Path;

use super::{CONFIGURATION_REFUSED, FAILED, FINE, say};
use crate::config;

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
        if self.strict && !loaded.warnings.is_empty() { FAILED } else { FINE }
    }
}
