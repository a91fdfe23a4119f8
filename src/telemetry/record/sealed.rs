//! What sealing adds to a log in JSON: a record's place, and how the line of a seal begins. Not here: the rest of a seal
//! ([`crate::wire::seal`]).

use jiff::Timestamp;

use super::super::json::Object;
use super::super::plain::digits;
use crate::wire::seal::PLACE;

/// The most bytes that [`write_place`] adds to a line: a boot of 36, a number of 20, and what is around them.
pub(super) const PLACE_BYTES: usize = 96;

/// The members of a seal's line, in their order.
pub const SEAL_FIELDS: &[&str] =
    &["time", "event", "instance", crate::wire::seal::SEAL, crate::wire::seal::SIGNATURE];

/// Adds the last member to the line of a record: its place. False if the line is not that of an object.
pub(in crate::telemetry) fn write_place(boot: &str, seq: u64, line: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(open) = line.strip_suffix(b"}\n").filter(|open| open.len() > 1) else { return false };
    out.extend_from_slice(open);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(PLACE.as_bytes());
    out.extend_from_slice(b"\":{\"boot\":\"");
    out.extend_from_slice(boot.as_bytes());
    out.extend_from_slice(b"\",\"seq\":");
    digits(out, seq);
    out.extend_from_slice(b"}}\n");
    true
}

/// Appends the beginning of a seal's line, as [`super::Record::write_json`] writes these fields.
pub(in crate::telemetry) fn write_seal_head(time: Timestamp, instance: &str, out: &mut Vec<u8>) {
    let mut line = Object::open(out);
    line.plain("time", Some(time));
    line.word("event", Some("seal"));
    line.bytes("instance", Some(instance.as_bytes()), 256);
}
