//! `egressd diff`: shows what an edit changes, and with logs, which recorded requests it would decide differently.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::commands::diff::replay::{Found, MAX_KEPT, Replay, Turn};
use crate::commands::diff::{Change, Effect, Opens, Part, rules, settings};
use crate::commands::logs::files::open;
use crate::commands::{CONFIGURATION_REFUSED, FAILED, FINE, WRONG_USAGE};
use crate::config::{self, Config, Loaded};
use crate::rules::HostSet;
use crate::words::counted::counted;
use crate::words::io_error::reason;
use crate::words::target::Host;

/// Most distinct requests that are printed of each kind.
const PRINTED: usize = 100;
/// Most changes that are repeated as the reason for the exit code.
const REPEATED: usize = 20;

/// clap would show the two files as optional.
const HELP: &str = "{about-with-newline}
{usage-heading} {usage}

Arguments:
  <OLD>  The configuration before the edit
  <NEW>  The configuration after the edit

Options:
{options}{after-help}";

/// `diff`.
// `--log` takes every word after it, also the two files if they come last: see `files`.
#[derive(clap::Args, Debug)]
#[command(override_usage = "egressd diff [OPTIONS] <OLD> <NEW> [--log <LOG>...]", help_template = HELP)]
pub(crate) struct Diff {
    /// The configuration before the edit.
    old: Option<PathBuf>,
    /// The configuration after the edit.
    new: Option<PathBuf>,
    /// Access logs, in JSON or in Squid's format, whose requests both configurations decide; `-` is stdin.
    #[arg(long, value_name = "LOG", num_args = 1..)]
    log: Vec<PathBuf>,
    /// Exit with 1 if a recorded request would newly be denied.
    #[arg(long)]
    strict: bool,
    /// Exit with 1 if a change lets more out or in, or may do so.
    #[arg(long, value_name = "KIND")]
    fail_on: Option<FailOn>,
}

/// Changes that make the command fail.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum FailOn {
    /// The lines marked `wider` and `wider?`.
    Wider,
}

/// What was found.
struct Told {
    /// The first lines that are marked as wider, and how many there are.
    wider: (Vec<String>, usize),
    requests: Option<Found>,
}

impl Diff {
    pub(crate) fn run(mut self) -> u8 {
        let Some((old, new)) = self.files() else {
            eprintln!(
                "egressd: name two configurations: egressd diff [OPTIONS] <OLD> <NEW> [--log <LOG>...]"
            );
            return WRONG_USAGE;
        };
        let (Some(old), Some(new)) = (load(&old), load(&new)) else {
            return CONFIGURATION_REFUSED;
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let Told { wider: (wider, count), requests } = match self.compare(&old, &new, &mut out) {
            Ok(told) => told,
            // The reader has closed the pipe, as `head` does. Nobody knows then what was found.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return if self.fail_on.is_some() || self.strict { FAILED } else { FINE };
            }
            Err(error) => {
                eprintln!("egressd: {error}");
                return FAILED;
            }
        };
        let newly_denied = requests.is_some_and(|found| found.count(Turn::NewlyDenied).0 > 0);
        let fails_on_wider = self.fail_on == Some(FailOn::Wider) && count > 0;
        if fails_on_wider {
            eprintln!(
                "egressd: {}:",
                counted(
                    count,
                    "change lets or may let more out or in",
                    "changes let or may let more out or in"
                )
            );
            wider.iter().for_each(|line| eprintln!("{line}"));
            if count > wider.len() {
                eprintln!("and {} more", count - wider.len());
            }
        }
        if fails_on_wider || (self.strict && newly_denied) { FAILED } else { FINE }
    }

    /// The two files. If `--log` has taken them as logs, they are the last of the logs.
    fn files(&mut self) -> Option<(PathBuf, PathBuf)> {
        let (old, new) = match (self.old.take(), self.new.take()) {
            (Some(old), Some(new)) => return Some((old, new)),
            (Some(old), None) => (Some(old), self.log.pop()?),
            (None, _) => {
                let new = self.log.pop()?;
                (self.log.pop(), new)
            }
        };
        // At least one log must remain for `--log`.
        old.filter(|_| !self.log.is_empty()).map(|old| (old, new))
    }

    fn compare(&self, old: &Loaded, new: &Loaded, out: &mut impl Write) -> io::Result<Told> {
        let mut changes = Changes::default();
        let mut result = Ok(());
        let mut tell = |change: Change| {
            let line = changes.count(&change);
            if result.is_ok() {
                result = writeln!(out, "{line}");
            }
        };
        settings::compare(old, new, &mut tell);
        let (old, new) = (&old.config, &new.config);
        rules::compare(&old.policies, &new.policies, &mut tell);
        result?;
        writeln!(out, "policies and rules: {}", changes.told(Part::Rules))?;
        writeln!(out, "other keys: {}", changes.told(Part::Settings))?;
        writeln!(out, "wider: {}", changes.told_wider())?;
        let wider =
            (changes.wider, changes.of_each[Opens::Yes as usize] + changes.of_each[Opens::Perhaps as usize]);
        if self.log.is_empty() {
            out.flush()?;
            return Ok(Told { wider, requests: None });
        }
        // Behind a parent proxy the recorded upstream is the parent, save of the targets that it is not asked for.
        let parents = [old, new].into_iter().filter_map(|config| config.upstream_proxy.as_ref());
        let spared: Vec<&HostSet> = parents.map(|parent| &*parent.except).collect();
        let is_direct = |host: &Host| spared.iter().all(|except| except.contains(host));
        let mut replay = Replay::new(&old.policies, &new.policies, Timestamp::now(), &is_direct);
        for log in &self.log {
            let (name, input, _) = open(log)?;
            let done = replay.read(&name, input);
            done.map_err(|error| {
                io::Error::other(format!("cannot read the log {name}: {}", reason(&error)))
            })?;
        }
        let found = replay.finish();
        print_requests(&found, old, new, out)?;
        out.flush()?;
        Ok(Told { wider, requests: Some(found) })
    }
}

/// Loads a configuration, or prints its findings to stderr.
fn load(file: &Path) -> Option<Loaded> {
    let print = |findings: Vec<config::Finding>| findings.iter().for_each(|finding| eprintln!("{finding}"));
    config::load(Some(file)).map_err(print).ok()
}

/// The changes, counted.
#[derive(Default)]
struct Changes {
    /// Of each part and effect.
    counts: [[usize; Effect::ALL.len()]; 2],
    /// Of each kind of [`Opens`].
    of_each: [usize; 3],
    /// The first lines that are marked as wider.
    wider: Vec<String>,
}

impl Changes {
    /// Counts a change, and returns its line.
    fn count(&mut self, change: &Change) -> String {
        let line = change.to_string();
        self.counts[change.part as usize][change.effect as usize] += 1;
        self.of_each[change.opens as usize] += 1;
        if change.opens != Opens::No && self.wider.len() < REPEATED {
            self.wider.push(line.clone());
        }
        line
    }

    fn told(&self, part: Part) -> String {
        let counted = Effect::ALL.iter().zip(self.counts[part as usize]).filter(|(_, count)| *count > 0);
        let counted: Vec<String> =
            counted.map(|(effect, count)| format!("{count} {}", effect.as_str())).collect();
        if counted.is_empty() { "nothing".to_owned() } else { counted.join(", ") }
    }

    fn told_wider(&self) -> String {
        match (self.of_each[Opens::Yes as usize], self.of_each[Opens::Perhaps as usize]) {
            (0, 0) => "nothing".to_owned(),
            (0, perhaps) => format!("perhaps {perhaps}"),
            (certain, 0) => certain.to_string(),
            (certain, perhaps) => format!("{certain}, and perhaps {perhaps} more"),
        }
    }
}

fn print_requests(found: &Found, old: &Config, new: &Config, out: &mut impl Write) -> io::Result<()> {
    write!(out, "recorded requests: {}", found.requests)?;
    if found.unjudged > 0 {
        write!(out, "; {} more are skipped: they have no valid client or target", found.unjudged)?;
    }
    writeln!(out)?;
    if found.inside > 0 || found.unknown_inside > 0 {
        write!(out, "requests inside tunnels: {}", found.inside)?;
        if found.unknown_inside > 0 {
            let more = found.unknown_inside;
            write!(
                out,
                "; {more} more are skipped: their records do not say what was asked of Git, or by whose account"
            )?;
        }
        writeln!(out)?;
    }
    if found.malformed.count > 0 {
        writeln!(out, "note: {}", found.malformed)?;
    }
    for name in &found.broken_off {
        writeln!(out, "note: {} is packed, and its end is missing", name.escape_debug())?;
    }
    let turns = [
        (Turn::NewlyDenied, "newly denied"),
        (Turn::NewlyAllowed, "newly allowed"),
        (Turn::Otherwise, "allowed in another way"),
    ];
    for (turn, word) in turns {
        let (count, distinct) = found.count(turn);
        writeln!(out, "{word}: {count} ({distinct} distinct)")?;
        for (request, seen) in found.of(turn).into_iter().take(PRINTED) {
            writeln!(out, "  {}x {request}", seen.count)?;
            writeln!(out, "      old: {}", seen.old)?;
            writeln!(out, "      new: {}", seen.new)?;
        }
        if distinct > PRINTED {
            let more = counted(distinct - PRINTED, "more distinct request", "more distinct requests");
            writeln!(out, "  and {more}")?;
        }
    }
    if found.not_kept.iter().any(|count| *count > 0) {
        writeln!(
            out,
            "note: of the requests that are decided differently, only the first {MAX_KEPT} distinct ones are kept; the counts are complete"
        )?;
    }
    let policies = || old.policies.iter().chain(new.policies.iter());
    if policies().any(|policy| !policy.clients().identities.is_empty()) {
        writeln!(
            out,
            "note: a log has only the first identity of a client; a policy for another identity does not match here"
        )?;
    }
    if policies().any(|policy| !policy.clients().vpc_endpoints.is_empty()) {
        writeln!(out, "note: a log has no VPC endpoints; a policy for VPC endpoints does not match here")?;
    }
    if policies().any(|policy| !policy.clients().listeners.is_empty()) {
        writeln!(
            out,
            "note: a log in Squid's formats has no listeners; a policy for listeners does not match its lines"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        diff: Diff,
    }

    #[test]
    fn logs_may_be_named_before_or_after_the_files() {
        let one = &["a.log"][..];
        for (words, logs) in [
            (&["old", "new"][..], &[][..]),
            (&["old", "new", "--log", "a.log"], one),
            (&["--log", "a.log", "old", "new"], one),
            (&["--log", "a.log", "--strict", "old", "new"], one),
            (&["--log", "a.log", "--log", "b.log", "old", "new"], &["a.log", "b.log"]),
            (&["--log", "a.log", "b.log", "old", "new"], &["a.log", "b.log"]),
            (&["old", "--log", "a.log", "new"], one),
            (&["old", "--log=a.log", "new"], one),
        ] {
            let words: Vec<&str> = ["diff"].iter().chain(words).copied().collect();
            let mut diff = Alone::try_parse_from(&words).unwrap_or_else(|error| panic!("{error}")).diff;
            assert_eq!(diff.files(), Some(("old".into(), "new".into())), "{words:?}");
            assert_eq!(diff.log, logs.iter().map(PathBuf::from).collect::<Vec<_>>(), "{words:?}");
        }
    }

    #[test]
    fn without_both_files_nothing_is_compared() {
        for words in [&[][..], &["old"], &["old", "--log", "a.log"], &["--log", "a.log", "new"]] {
            let words: Vec<&str> = ["diff"].iter().chain(words).copied().collect();
            let diff = Alone::try_parse_from(&words).unwrap_or_else(|error| panic!("{error}")).diff;
            assert_eq!(diff.run(), WRONG_USAGE, "{words:?}");
        }
    }
}
