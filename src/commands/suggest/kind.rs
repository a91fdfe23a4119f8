//! How a request of a log ended, as far as a suggestion asks.

use crate::commands::logs::Entry;
use crate::telemetry::record::Cause;
use crate::words::outcome::Reason;

/// How the requests to a target ended so far. The target is of the first of these kinds that one of its requests has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A rule let it through.
    Passed,
    /// Only report mode let it through; enforce mode would not.
    WouldDeny,
    /// It was denied.
    Denied,
}

/// Why a request is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// It was refused or failed, and no rule would have helped.
    Failed(Cause),
    /// The `doctor` command sent it.
    Doctor,
    /// The log's reason is not one of egressd's: a log may contain any word.
    Other,
}

impl Why {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Why::Failed(cause) => cause.as_str(),
            Why::Doctor => "doctor",
            Why::Other => "other",
        }
    }
}

/// The reason of the log's line, if it is one of egressd's.
pub(super) fn reason(entry: &Entry<'_>) -> Option<Reason> {
    Reason::from_word(&entry.reason?.decoded())
}

/// Why it did not pass, according to the log.
pub(super) fn why(entry: &Entry<'_>) -> Option<Why> {
    if entry.guessed {
        return Some(Why::Other);
    }
    Some(Cause::from_word(&entry.reason?.decoded()).map_or(Why::Other, Why::Failed))
}
