//! Why a request of a log did not pass.

use crate::commands::logs::Entry;
use crate::telemetry::record::Cause;

/// As one of egressd's own words, so that their number is bounded whatever a log contains.
pub(super) fn cause(entry: &Entry<'_>) -> Option<&'static str> {
    if entry.guessed {
        return Some("unknown");
    }
    Some(Cause::from_word(&entry.reason?.decoded()).map_or("other", Cause::as_str))
}
