//! The command line: one file a subcommand. Diagnostics go to stderr, results to stdout.

mod check;
mod config;
mod diff;
mod doctor;
mod explain;
mod healthcheck;
mod import;
mod logs;
mod lookup;
mod run;
mod suggest;
mod summary;
mod test;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Config;

/// `0`: fine.
const FINE: u8 = 0;
/// `1`: failed, denied, not ready, or warnings under `--strict`.
const FAILED: u8 = 1;
/// `2`: what was asked cannot be read. clap's own, for wrong usage.
const WRONG_USAGE: u8 = 2;
/// `78` (`EX_CONFIG` of sysexits.h): the configuration is refused.
const CONFIGURATION_REFUSED: u8 = 78;

/// A forward proxy that lets out only what is listed.
#[derive(Parser)]
#[command(name = "egressd", version, about, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigFile,
}

const AFTER_HELP: &str = "Without a command egressd serves, as `egressd run` does. Without a configuration file it serves \
the embedded default: `egressd config default` prints it.\n\nExit codes: 0 fine, 1 failed, 2 wrong usage, 78 configuration refused.";

#[derive(clap::Args, Clone, Debug)]
struct ConfigFile {
    /// The configuration; left out: the embedded default.
    #[arg(short, long = "config", value_name = "FILE", env = "EGRESSD_CONFIG", global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until TERM.
    Run,
    /// Parse and validate the configuration, and print every finding as FILE:LINE:COLUMN: error|warning: text.
    Check(check::Check),
    /// Say how one request is decided, and by which policy, rule, file and line. Exit code 0 allowed, 1 denied.
    Explain(explain::Explain),
    /// Check expected verdicts, listed in a file, against the configuration. Exit code 0 if all hold, 1 if not.
    Test(test::Test),
    /// Say what an edit of the configuration changes, and which recorded requests it would decide otherwise.
    Diff(diff::Diff),
    /// From a client's place: whether a proxy lets out what it should, refuses the rest, and sees who asks.
    Doctor(doctor::Doctor),
    /// Translate another proxy's configuration, and say what is lost or different.
    Import(import::Import),
    /// Read access logs and print the shortest exact allowlist that would have let through what they record.
    Suggest(suggest::Suggest),
    /// Read access logs and print who went where: top targets, clients, denials by reason, bytes.
    Summary(summary::Summary),
    /// Print the embedded default configuration, or the JSON Schema of the file.
    Config(config::Show),
    /// Ask the running egressd whether it is ready: exit code 0 or 1. For images without a shell.
    Healthcheck,
    /// Print the completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Prints a result, and ends the program where it cannot be read: quietly for a reader that has left, as `head` does.
fn say(text: impl Display) {
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

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let file = arguments.config.config.as_deref();
    let code = match arguments.command.unwrap_or(Command::Run) {
        Command::Run => run::run(file),
        Command::Check(check) => check.run(file),
        Command::Explain(explain) => explain.run(file),
        Command::Test(test) => test.run(file),
        Command::Diff(diff) => diff.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Import(import) => import.run(),
        Command::Suggest(suggest) => suggest.run(),
        Command::Summary(summary) => summary.run(),
        Command::Config(show) => show.run(),
        Command::Healthcheck => healthcheck::run(file),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "egressd", &mut script);
            say(String::from_utf8_lossy(&script));
            FINE
        }
    };
    ExitCode::from(code)
}

/// The configuration, or its findings on stderr. Warnings are `check`'s to tell.
fn load(file: Option<&Path>) -> Option<Config> {
    match crate::config::load(file) {
        Ok(loaded) => Some(loaded.config),
        Err(findings) => {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
            None
        }
    }
}
