//! Reads the records of logs, and keeps what else is in them.

use std::io::{self, Read};

use super::entry::Entry;
use super::json::is_seal;
use super::lines::{End, lines};
use super::wrapped;

/// How many lines that are not records are kept with their numbers.
const TOLD: usize = 5;

/// Lines that are not records.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Malformed {
    /// How many.
    pub count: u64,
    /// Log and number of the first ones, from 1.
    pub first: Vec<(String, u64)>,
}

/// Reads any number of logs, one after the other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reader {
    malformed: Malformed,
    lines: u64,
    broken_off: Vec<String>,
}

impl Reader {
    /// Nothing read yet.
    pub fn new() -> Self {
        Reader::default()
    }

    /// Reads one log to its end and passes each record to `visit`. A log packed with gzip is unpacked; if its end is
    /// missing, what could be unpacked counts, and [`Reader::broken_off`] names the log.
    ///
    /// # Errors
    /// Errors of the input.
    pub fn read(
        &mut self,
        name: &str,
        input: impl Read,
        mut visit: impl FnMut(&Entry<'_>),
    ) -> io::Result<()> {
        let end = lines(input, |number, line| match line {
            Some(line) => self.line(name, number, line, &mut visit),
            None => self.tell(name, number),
        })?;
        if end == End::BrokenOff {
            self.broken_off.push(name.to_owned());
        }
        Ok(())
    }

    fn line(&mut self, name: &str, number: u64, line: &[u8], visit: &mut impl FnMut(&Entry<'_>)) {
        // What another program wrote to the container's other stream is no line of the log.
        let Some(line) = wrapped::of_stream(line) else { return };
        let inside = if wrapped::is_docker(line) { wrapped::inside(line) } else { None };
        let line = inside.as_deref().unwrap_or(line);
        if let Some(entry) = Entry::parse(line) {
            self.lines += 1;
            visit(&entry);
        } else if !is_seal(line) {
            let inside = wrapped::inside(line);
            match inside.as_deref().map(|line| (Entry::parse(line), line)) {
                Some((Some(entry), _)) => {
                    self.lines += 1;
                    visit(&entry);
                }
                Some((None, line)) if is_seal(line) => {}
                _ => self.tell(name, number),
            }
        }
    }

    fn tell(&mut self, name: &str, number: u64) {
        self.malformed.count += 1;
        if self.malformed.first.len() < TOLD {
            self.malformed.first.push((name.to_owned(), number));
        }
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.lines
    }

    /// Lines that are not records.
    pub fn malformed(&self) -> &Malformed {
        &self.malformed
    }

    /// Packed logs whose end is missing.
    pub fn broken_off(&self) -> &[String] {
        &self.broken_off
    }
}

impl std::fmt::Display for Malformed {
    /// `3 lines are not records, and are skipped: access.log:17, access.log:18, …`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word =
            if self.count == 1 { "line is not a record, and is" } else { "lines are not records, and are" };
        let first: Vec<String> =
            self.first.iter().map(|(name, line)| format!("{}:{line}", name.escape_debug())).collect();
        let more = if self.count > self.first.len() as u64 { ", …" } else { "" };
        write!(f, "{} {word} skipped: {}{more}", self.count, first.join(", "))
    }
}
