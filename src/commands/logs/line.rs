//! Reads a line in either format.

use super::entry::Entry;
use super::{json, squid};

impl<'l> Entry<'l> {
    /// Reads one line without its end. None: it is not a record.
    pub fn parse(line: &'l [u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        match line.as_bytes().first()? {
            b'{' => json::parse(line),
            _ => squid::parse(line),
        }
    }
}
