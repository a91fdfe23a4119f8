//! What sealing adds to the line of a record, in any schema: its place in the log. It stands where the schema leaves room for what it
//! does not know ([`super::Schema::group`]). Not here: the lines of seals ([`super::seal_head`]).

use super::super::plain::digits;
use crate::wire::seal::PLACE;

/// The most bytes that [`write_place`] adds to a line: a boot of 36, a number of 20, and what is around them.
pub(super) const PLACE_BYTES: usize = 96;

/// How a line in egressd's own fields begins.
const JSON: &[u8] = b"{\"time\":";

/// Adds a record's place to its line. False if the line is not one of a record.
pub(in crate::telemetry) fn write_place(boot: &str, seq: u64, line: &[u8], out: &mut Vec<u8>) -> bool {
    // Of other schemas, the last member is the group that has room. A reload may have changed the schema since the line was made.
    let end: &[u8] = if line.starts_with(JSON) { b"}\n" } else { b"}}\n" };
    let Some(open) = line.strip_suffix(end).filter(|open| open.len() > 1) else { return false };
    out.extend_from_slice(open);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(PLACE.as_bytes());
    out.extend_from_slice(b"\":{\"boot\":\"");
    out.extend_from_slice(boot.as_bytes());
    out.extend_from_slice(b"\",\"seq\":");
    digits(out, seq);
    out.push(b'}');
    out.extend_from_slice(end);
    true
}
