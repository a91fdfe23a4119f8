//! Splits bytes into lines: in blocks, from files, pipes and gzip, whatever the lines contain.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;
use memchr::memchr;

use super::entry::Entry;

/// Longest line that is read: four times the longest that the log writes.
pub(super) const MAX_LINE: usize = 64 << 10;
/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;
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
        mut input: impl Read,
        visit: impl FnMut(&Entry<'_>),
    ) -> io::Result<()> {
        let mut start = [0; 2];
        let mut got = 0;
        while let Some(room) = start.get_mut(got..).filter(|room| !room.is_empty()) {
            match input.read(room) {
                Ok(0) => break,
                Ok(read) => got += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let begin = start.get(..got).unwrap_or_default().to_vec();
        let packed = begin == *b"\x1f\x8b";
        let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(begin).chain(input);
        if !packed {
            return self.read_lines(name, whole, visit);
        }
        match self.read_lines(name, MultiGzDecoder::new(whole), visit) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.broken_off.push(name.to_owned());
                Ok(())
            }
            done => done,
        }
    }

    fn read_lines(
        &mut self,
        name: &str,
        input: impl Read,
        mut visit: impl FnMut(&Entry<'_>),
    ) -> io::Result<()> {
        let mut input = BufReader::with_capacity(BLOCK, input);
        // The beginning of a line whose end is in the next block.
        let mut begun: Vec<u8> = Vec::new();
        let mut too_long = false;
        let mut number = 0_u64;
        loop {
            let block = match input.fill_buf() {
                Ok(block) => block,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if block.is_empty() {
                break;
            }
            let mut rest = block;
            while let Some(end) = memchr(b'\n', rest) {
                let (piece, after) = rest.split_at(end);
                rest = after.get(1..).unwrap_or_default();
                number += 1;
                if begun.is_empty() && !too_long {
                    self.line(name, number, piece, &mut visit);
                    continue;
                }
                if too_long || begun.len() + piece.len() > MAX_LINE {
                    self.tell(name, number);
                } else {
                    begun.extend_from_slice(piece);
                    self.line(name, number, &begun, &mut visit);
                }
                begun.clear();
                too_long = false;
            }
            if begun.len() + rest.len() > MAX_LINE {
                too_long = true;
                begun.clear();
            } else if !too_long {
                begun.extend_from_slice(rest);
            }
            let used = block.len();
            input.consume(used);
        }
        // A log that is still being written, or was cut, may end within a line.
        if too_long {
            self.tell(name, number + 1);
        } else {
            self.line(name, number + 1, &begun, &mut visit);
        }
        Ok(())
    }

    fn line(&mut self, name: &str, number: u64, line: &[u8], visit: &mut impl FnMut(&Entry<'_>)) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        match Entry::parse(line).filter(|_| line.len() <= MAX_LINE) {
            Some(entry) => {
                self.lines += 1;
                visit(&entry);
            }
            None => self.tell(name, number),
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
