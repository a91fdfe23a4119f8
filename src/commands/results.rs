//! How every command ends: the exit codes, what goes to stdout, and the findings of a configuration on stderr.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process;

use crate::config::Config;

/// `0`: fine.
pub(crate) const FINE: u8 = 0;
/// `1`: failed, denied, not ready, a log or a Squid configuration that cannot be read, or warnings under `--strict`.
pub(crate) const FAILED: u8 = 1;
/// `2`: the command line is wrong, or `test` cannot read its cases, or `doctor` or `env` a file. clap uses it too, for wrong usage.
pub(crate) const WRONG_USAGE: u8 = 2;
/// `78` (`EX_CONFIG` of sysexits.h): the configuration is refused.
pub(crate) const CONFIGURATION_REFUSED: u8 = 78;

/// Prints a result. If it cannot be written, ends the program: quietly if the reader has closed the pipe, as `head` does.
pub(crate) fn say(text: impl Display) {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(FINE.into()),
        Err(error) => {
            eprintln!("egressd: cannot write to stdout: {error}");
            process::exit(FAILED.into())
        }
    }
}

/// Loads the configuration, or prints its findings to stderr. Warnings of a valid one are printed only by `check`.
pub(crate) fn load(file: Option<&Path>) -> Option<Config> {
    match crate::config::load(file) {
        Ok(loaded) => Some(loaded.config),
        Err(findings) => {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
            None
        }
    }
}
