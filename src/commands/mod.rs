//! The command line: one file or folder per command. Results go to stdout, diagnostics to stderr.

mod ca;
mod check;
mod config;
mod credentials;
pub mod diff;
pub mod doctor;
mod env;
pub mod explain;
mod healthcheck;
pub mod import;
pub mod logs;
mod lookup;
mod new_files;
mod results;
mod run;
mod seal;
mod sets;
pub mod suggest;
pub mod summary;
pub mod test;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use results::{CONFIGURATION_REFUSED, FAILED, FINE, WRONG_USAGE, load, say};

/// A forward proxy that allows only listed targets, verifies them, and records every request.
#[derive(Parser)]
#[command(name = "egressd", version, about, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    // Only this option reads the environment: at a command's own option, the variable would win over a file that is
    // named before the command.
    /// Configuration file. Default: the built-in configuration.
    #[arg(short, long, value_name = "FILE", env = "EGRESSD_CONFIG")]
    config: Option<PathBuf>,
}

const AFTER_HELP: &str = "Without a command, egressd serves, as `egressd run` does. Without a configuration file, it uses the \
built-in configuration, which `egressd config default` prints.\n\nExit codes: 0 success, 1 failure, 2 wrong command line, \
78 invalid configuration.";

/// The option of the commands that read the configuration.
#[derive(clap::Args, Debug)]
struct ConfigFile {
    /// Configuration file. Default: the file that EGRESSD_CONFIG names, otherwise the built-in configuration.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A command that reads the configuration.
#[derive(clap::Args, Debug)]
struct Configured<C: clap::Args> {
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    file: ConfigFile,
}

impl<C: clap::Args> Configured<C> {
    /// The command, and the file: from the command's own option, otherwise from the option before it or the environment.
    fn with(self, before: Option<PathBuf>) -> (C, Option<PathBuf>) {
        (self.command, self.file.config.or(before))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Serve until TERM or INT.
    Run(ConfigFile),
    /// Parse and validate the configuration, and print every finding as FILE:LINE:COLUMN: error|warning: text.
    Check(Configured<check::Check>),
    /// Show how one request is decided, and by which policy, rule, file and line. Exit code 0 if allowed, 1 if denied.
    Explain(Configured<explain::Explain>),
    /// Check the expected verdicts in a file against the configuration. Exit code 0 if all hold, 1 if not.
    Test(Configured<test::Test>),
    /// Show what an edit of the configuration changes, and which recorded requests it would decide differently.
    Diff(diff::Diff),
    /// Test a proxy from a client: an allowed target, a denial, that a wrong SNI is refused, and which client address the proxy saw.
    Doctor(doctor::Doctor),
    /// Print the settings with which each kind of client uses the proxy: the variables, no_proxy, and the root of inspection.
    Env(Configured<env::Env>),
    /// Translate another proxy's configuration, and list what is lost or different.
    Import(import::Import),
    /// Make an authority for inspection, which can sign for the permitted hosts alone.
    Ca(ca::Ca),
    /// Read access logs and print the shortest exact allowlist that would have allowed the requests in them.
    Suggest(suggest::Suggest),
    /// Read access logs and print which clients reached which targets, with bytes and denials by reason.
    Summary(summary::Arguments),
    /// Make a pair of keys for sealing the access log.
    Seal(seal::Seal),
    /// Check sealed access logs against their seals: what is missing, altered, inserted, unproven or cut. Exit code 0 if whole, 1 if not.
    Verify(verify::Verify),
    /// List the rule sets that are shipped, or show one: its hosts, where they come from, and what to write.
    Sets(sets::Sets),
    /// Print the built-in configuration, or the JSON Schema of the file.
    Config(config::Show),
    /// Ask the running egressd whether it is ready: exit code 0 or 1. For images without a shell.
    Healthcheck(ConfigFile),
    /// Print the completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The command line as it is declared: what the man pages are made of.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| with_hint(error).exit());
    let before = arguments.config;
    let code = match arguments.command.unwrap_or(Command::Run(ConfigFile { config: None })) {
        Command::Run(file) => run::run(file.config.or(before).as_deref()),
        Command::Check(check) => {
            let (check, file) = check.with(before);
            check.run(file.as_deref())
        }
        Command::Explain(explain) => {
            let (explain, file) = explain.with(before);
            explain.run(file.as_deref())
        }
        Command::Test(test) => {
            let (test, file) = test.with(before);
            test.run(file.as_deref())
        }
        Command::Diff(diff) => diff.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Env(env) => {
            let (env, file) = env.with(before);
            env.run(file.as_deref())
        }
        Command::Import(import) => import.run(),
        Command::Ca(ca) => ca.run(),
        Command::Suggest(suggest) => suggest.run(),
        Command::Summary(summary) => summary.run(),
        Command::Seal(seal) => seal.run(),
        Command::Verify(verify) => verify.run(),
        Command::Sets(sets) => sets.run(),
        Command::Config(show) => show.run(),
        Command::Healthcheck(file) => healthcheck::run(file.config.or(before).as_deref()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "egressd", &mut script);
            say(String::from_utf8_lossy(&script));
            FINE
        }
    };
    ExitCode::from(code)
}

/// The error, with the option to write if a file stands where only `-c` names one: `egressd check my.yaml`.
fn with_hint(mut error: clap::Error) -> clap::Error {
    let kind = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        _ => return error,
    };
    let Some(ContextValue::String(word)) = error.get(kind) else { return error };
    // `diff` and others name files without an option.
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let command = usage.split_whitespace().nth(2).and_then(|name| {
        let all = Arguments::command();
        all.find_subcommand(name).map(|command| command.get_arguments().any(|arg| arg.get_id() == "config"))
    });
    if command == Some(false)
        || word.starts_with('-')
        || !(word.ends_with(".yaml") || word.ends_with(".yml") || word.contains('/'))
    {
        return error;
    }
    let hint = format!("to name the configuration, write `-c {word}`");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    error
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parsed(words: &[&str]) -> Arguments {
        let words = ["egressd"].iter().chain(words);
        Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_option_for_the_configuration_is_shown_by_the_commands_that_read_it() {
        let mut all = Arguments::command();
        all.build();
        let reads = |command: &&clap::Command| command.get_arguments().any(|arg| arg.get_id() == "config");
        let reading: Vec<&str> = all.get_subcommands().filter(reads).map(clap::Command::get_name).collect();
        assert_eq!(reading, ["run", "check", "explain", "test", "env", "healthcheck"]);
        assert!(Arguments::try_parse_from(["egressd", "summary", "-c", "file", "log"]).is_err());
    }

    #[test]
    fn a_file_without_its_option_gets_a_hint() {
        for (words, hint) in [
            (&["check", "my.yaml"][..], "write `-c my.yaml`"),
            (&["run", "conf/my"], "write `-c conf/my`"),
            (&["explain", "a.com", "my.yml"], "write `-c my.yml`"),
            (&["my.yaml"], "write `-c my.yaml`"),
        ] {
            let error = Arguments::try_parse_from(["egressd"].iter().chain(words)).err().expect("refused");
            assert_eq!(error.exit_code(), i32::from(WRONG_USAGE), "{words:?}");
            let text = with_hint(error).to_string();
            assert!(text.contains(hint), "{text}");
        }
        for words in [&["check", "--strct"][..], &["chekc"], &["diff", "a", "b", "c.yaml"]] {
            let error = Arguments::try_parse_from(["egressd"].iter().chain(words)).err().expect("refused");
            assert!(!with_hint(error).to_string().contains("write `-c"), "{words:?}");
        }
    }

    #[test]
    fn the_configuration_may_be_named_before_or_after_a_command() {
        for (words, want) in [
            (&["-c", "a", "check"][..], "a"),
            (&["check", "-c", "b"], "b"),
            (&["check", "--config", "b", "--strict"], "b"),
            (&["-c", "a", "check", "-c", "b"], "b"),
        ] {
            let arguments = parsed(words);
            let Some(Command::Check(check)) = arguments.command else { panic!("{words:?}") };
            let (_, file) = check.with(arguments.config);
            assert_eq!(file.as_deref(), Some(Path::new(want)), "{words:?}");
        }
        for words in [&["-c", "a"][..], &["-c", "a", "run"], &["run", "-c", "a"]] {
            let Arguments { command, config } = parsed(words);
            let own = match command {
                Some(Command::Run(own)) => own.config,
                other => {
                    assert!(other.is_none(), "{words:?}");
                    None
                }
            };
            assert_eq!(own.or(config).as_deref(), Some(Path::new("a")), "{words:?}");
        }
    }
}
