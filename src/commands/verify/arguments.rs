//! `egressd verify`: the command line.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::book::Book;
use super::expect::expected;
use super::finding::At;
use super::range::Range;
use crate::commands::logs::files::for_each;
use crate::commands::logs::{End, lines};
use crate::commands::{FAILED, FINE, WRONG_USAGE, say};
use crate::wire::seal::key::PublicKey;
use crate::words::io_error::reason;

/// `verify`.
#[derive(clap::Args, Debug)]
pub(crate) struct Verify {
    /// Sealed access logs, of any number of replicas, in any order, plain or packed with gzip, also as a container runtime or a
    /// log router keeps them; `-` is stdin.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// A public key whose seals are trusted, as `egressd seal new` made it. May be given several times.
    #[arg(long, value_name = "PUB", required = true)]
    key: Vec<PathBuf>,
    /// What a witness wrote down: answers of /api/status, or the series `egressd_log_boot_info` and `egressd_log_sealed_seq`.
    /// Each boot in it must be in the logs, at least as far, and no other one.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Judge what was recorded since this time only, such as 2026-03-01 or 2026-03-01T12:00:00Z, and say from when on no boot
    /// was there.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Judge what was recorded until this time only, and say until when no boot was there.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let day = text.parse::<Date>().and_then(|day| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)));
    day.map_err(|_| "write a day, such as 2026-03-01, or a time, such as 2026-03-01T12:00:00Z".to_owned())
}

impl Verify {
    pub(crate) fn run(self) -> u8 {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            eprintln!("egressd: --from {from} is not before --to {to}");
            return WRONG_USAGE;
        }
        match self.verify() {
            Ok(code) => code,
            Err(error) => {
                eprintln!("egressd: {error}");
                FAILED
            }
        }
    }

    fn verify(&self) -> Result<u8, String> {
        let mut keys = Vec::new();
        for file in &self.key {
            let content = read(file)?;
            keys.extend(
                PublicKey::from_pem(&content).map_err(|why| format!("the file {} {why}", file.display()))?,
            );
        }
        let witness = match &self.expect {
            Some(file) => {
                let content = String::from_utf8_lossy(&read(file)?).into_owned();
                let told = expected(&content).map_err(|why| format!("the file {} {why}", file.display()))?;
                Some((told, file.display().to_string()))
            }
            None => None,
        };
        let seconds = |time: Timestamp| time.as_second();
        let range = Range { from: self.from.map(seconds), to: self.to.map(seconds) };
        let mut book = Book::new(keys, range);
        let mut names: Vec<String> = Vec::new();
        let mut broken_off = Vec::new();
        for_each(&self.logs, |name, input| {
            let log = names.len();
            names.push(name.to_owned());
            let end = lines(input, |line, text| book.line(At { log, line }, text))?;
            if end == End::BrokenOff {
                broken_off.push(name.to_owned());
            }
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        for name in broken_off {
            eprintln!("egressd: {} is packed, and its end is missing", name.escape_debug());
        }
        if book.is_empty() {
            return Err(format!(
                "no sealed records in {}: is it an access log with `seal`?",
                names.join(", ")
            ));
        }
        book.judge();
        if let Some((told, file)) = &witness {
            book.hold_against(told, file);
        }
        if self.from.is_some() || self.to.is_some() {
            book.cover();
        }
        let boots_known = witness.is_some() || (self.from.is_some() && self.to.is_some());
        for notice in book.notices(&names) {
            eprintln!("egressd: {notice}");
        }
        say(match self.json {
            true => book.to_json(&names, boots_known),
            false => book.to_text(&names, boots_known),
        });
        Ok(if book.findings.total() == 0 { FINE } else { FAILED })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("cannot read {}: {}", file.display(), reason(&error)))
}
