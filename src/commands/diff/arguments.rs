//! `egressd diff`: shows what an edit changes, and with logs, which recorded requests it would decide differently.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use jiff::Timestamp;

use crate::commands::diff::replay::{Found, MAX_KEPT, Replay, Turn};
use crate::commands::diff::rules::{Effect, compare};
use crate::commands::logs::files::open;
use crate::commands::{CONFIGURATION_REFUSED, FAILED, FINE, WRONG_USAGE, load};
use crate::config::Config;
use crate::words::counted::counted;
use crate::words::io_error::reason;

/// Most distinct requests that are printed of each kind.
const PRINTED: usize = 100;

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
}

impl Diff {
    pub(crate) fn run(mut self) -> u8 {
        let Some((old, new)) = self.files() else {
            eprintln!(
                "egressd: name two configurations: egressd diff [OPTIONS] <OLD> <NEW> [--log <LOG>...]"
            );
            return WRONG_USAGE;
        };
        let (Some(old), Some(new)) = (load(Some(&old)), load(Some(&new))) else {
            return CONFIGURATION_REFUSED;
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let found = match self.compare(&old, &new, &mut out) {
            Ok(found) => found,
            // The reader has closed the pipe, as `head` does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return FINE,
            Err(error) => {
                eprintln!("egressd: {error}");
                return FAILED;
            }
        };
        let newly_denied = found.is_some_and(|found| found.count(Turn::NewlyDenied).0 > 0);
        if self.strict && newly_denied { FAILED } else { FINE }
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

    fn compare(&self, old: &Config, new: &Config, out: &mut impl Write) -> io::Result<Option<Found>> {
        let mut counts = [0_usize; Effect::ALL.len()];
        let mut result = Ok(());
        compare(&old.policies, &new.policies, |change| {
            if let Some(count) = counts.get_mut(change.effect as usize) {
                *count += 1;
            }
            if result.is_ok() {
                result = writeln!(out, "{change}");
            }
        });
        result?;
        let counted = Effect::ALL.iter().zip(counts).filter(|(_, count)| *count > 0);
        let counted: Vec<String> =
            counted.map(|(effect, count)| format!("{count} {}", effect.as_str())).collect();
        let counted = if counted.is_empty() { "nothing".to_owned() } else { counted.join(", ") };
        writeln!(out, "policies and rules: {counted}")?;
        if self.log.is_empty() {
            out.flush()?;
            return Ok(None);
        }
        // Behind a parent proxy the recorded upstream is the parent.
        let upstreams = old.upstream_proxy.is_none() && new.upstream_proxy.is_none();
        let mut replay = Replay::new(&old.policies, &new.policies, Timestamp::now(), upstreams);
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
        Ok(Some(found))
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
