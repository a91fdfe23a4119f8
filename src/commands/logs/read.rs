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
        let (is_stderr, line) = wrapped::of_stream(line);
        // A diagnostic is no line of the log, and is never taken for one of Squid.
        let is_read = (line.starts_with(b"{") || !is_stderr) && self.is_read(line, 0, visit);
        if !is_read && !is_stderr && !wrapped::is_stderr(line) {
            self.tell(name, number);
        }
    }

    /// Whether the line is a record or a seal, or has one in it.
    fn is_read<V: FnMut(&Entry<'_>)>(&mut self, line: &[u8], depth: usize, visit: &mut V) -> bool {
        // Whoever reads Docker's lines reads what is inside.
        let is_docker = wrapped::is_docker(line);
        if !is_docker && self.is_one(line, visit) {
            return true;
        }
        if depth < wrapped::DEEPEST {
            for line in wrapped::inside(line) {
                if self.is_read(&line, depth + 1, visit) {
                    return true;
                }
            }
        }
        is_docker && self.is_one(line, visit)
    }

    fn is_one<V: FnMut(&Entry<'_>)>(&mut self, line: &[u8], visit: &mut V) -> bool {
        let Some(entry) = Entry::parse(line) else { return is_seal(line) };
        self.lines += 1;
        visit(&entry);
        true
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
