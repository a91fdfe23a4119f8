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

type Parse = for<'l> fn(&'l str) -> Option<Entry<'l>>;

/// How lines of `ecs` and `ocsf` begin, as they are written.
const ECS: &str = "{\"@timestamp\"";
const OCSF: &str = "{\"class_uid\"";

/// A router may have put the members of a line in another order and others in front of them, so its beginning says only what to try
/// first. No line is read by two of these: `event` is a string in one, an object in another, and missing in the third.
fn object(line: &str) -> Option<Entry<'_>> {
    let order: [Parse; 3] = if line.starts_with(ECS) {
        [schemas::ecs, json::parse, schemas::ocsf]
    } else if line.starts_with(OCSF) {
        [schemas::ocsf, json::parse, schemas::ecs]
    } else {
        [json::parse, schemas::ecs, schemas::ocsf]
    };
    order.iter().find_map(|parse| parse(line))
}
