//! Reads a line in any format.

use super::entry::Entry;
use super::{json, schemas, squid};

impl<'l> Entry<'l> {
    /// Reads one line without its end. None: it is not a record.
    pub fn parse(line: &'l [u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        match line.as_bytes().first()? {
            b'{' => object(line),
            _ => squid::parse(line),
        }
    }
}

/// How lines of `ecs` and `ocsf` begin, as they are written.
const ECS: &str = "{\"@timestamp\"";
const OCSF: &str = "{\"class_uid\"";

/// A router may have put the members of a line in another order, so its beginning says only what to try first.
fn object(line: &str) -> Option<Entry<'_>> {
    if line.starts_with(ECS) {
        return schemas::ecs(line);
    }
    if line.starts_with(OCSF) {
        return schemas::ocsf(line);
    }
    json::parse(line).or_else(|| schemas::ecs(line)).or_else(|| schemas::ocsf(line))
}
