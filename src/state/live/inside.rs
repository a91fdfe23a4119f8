//! The last requests inside a tunnel, for the status page. Each has a record of its own in the log, which has all of them.
//!
//! A tunnel keeps [`LAST`] of them, of a path [`LONGEST`] bytes, and an entry that was offered if it has no more than [`ENTRY`]:
//! together 3.5 KiB at most of the 40 that an inspected tunnel costs, and nothing for a tunnel without requests.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use http::Method;
use jiff::Timestamp;

use crate::telemetry::record::Cause;
use crate::words::outcome::Decision;

/// Requests that a tunnel keeps.
const LAST: usize = 4;
/// Bytes kept of a path, and of a method.
const LONGEST: usize = 128;
/// Bytes of an entry that is kept. A part of one would be of no use.
const ENTRY: usize = 512;

/// One request inside a tunnel that ended, however it did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InsideRequest {
    /// When it ended.
    pub at: Timestamp,
    /// Its method; none if its head could not be read.
    pub method: Option<Method>,
    /// Its path without the query, cut; none if its head could not be read.
    pub path: Option<Box<str>>,
    /// Whether the path is whole.
    pub is_whole: bool,
    /// The status that the client saw.
    pub status: Option<u16>,
    /// The verdict.
    pub decision: Option<Decision>,
    /// Why it was, or would be, refused, or failed.
    pub cause: Option<Cause>,
    /// The entry of `requests` that would let it pass, where that depends on more than its method and its path.
    pub offered: Option<Box<str>>,
}

impl InsideRequest {
    /// It ended at `at`. What the client chose is cut.
    pub fn ended(
        at: Timestamp,
        (method, path): (Option<&Method>, Option<&str>),
        status: Option<u16>,
        decision: Option<Decision>,
        cause: Option<Cause>,
        offered: Option<&str>,
    ) -> Self {
        let some = path.map(|path| path.get(..LONGEST).unwrap_or(path));
        InsideRequest {
            at,
            method: method.filter(|method| method.as_str().len() <= LONGEST).cloned(),
            path: some.map(Box::from),
            is_whole: some == path,
            status,
            decision,
            cause,
            offered: offered.filter(|entry| entry.len() <= ENTRY).map(Box::from),
        }
    }
}

/// The requests inside one tunnel.
#[derive(Default, Debug)]
pub(super) struct Inside(OnceLock<Box<Mutex<Kept>>>);

#[derive(Default, Debug)]
struct Kept {
    count: u64,
    last: VecDeque<InsideRequest>,
}

impl Inside {
    pub(super) fn note(&self, request: InsideRequest) {
        // Plain values: a panic elsewhere leaves them correct.
        let mut kept = self.0.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        if kept.last.len() >= LAST {
            kept.last.pop_front();
        }
        kept.last.push_back(request);
    }

    /// How many there were, and the last ones, the last one first.
    pub(super) fn seen(&self) -> (u64, Vec<InsideRequest>) {
        let Some(kept) = self.0.get() else { return (0, Vec::new()) };
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.count, kept.last.iter().rev().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_kept_of_so_many_bytes() {
        let inside = Inside::default();
        assert_eq!(inside.seen(), (0, Vec::new()));
        for number in 0..10 {
            let path = format!("/{number}{}", "x".repeat(number * 50));
            inside.note(InsideRequest::ended(
                Timestamp::now(),
                (Some(&Method::GET), Some(&path)),
                Some(200),
                None,
                None,
                None,
            ));
        }
        let (count, last) = inside.seen();
        let kept: Vec<_> =
            last.iter().map(|one| (one.path.as_ref().map(|path| path.len()), one.is_whole)).collect();
        assert_eq!((count, kept), (10, vec![(Some(LONGEST), false); LAST]));
        assert!(
            last[0].path.as_ref().is_some_and(|path| path.starts_with("/9")),
            "the last one first: {last:?}"
        );
        inside.note(InsideRequest::ended(
            Timestamp::now(),
            (None, Some("/é")),
            None,
            None,
            None,
            Some(&"e".repeat(ENTRY)),
        ));
        let last = inside.seen().1.swap_remove(0);
        assert_eq!((last.path.as_deref(), last.offered.map(|entry| entry.len())), (Some("/é"), Some(ENTRY)));
        inside.note(InsideRequest::ended(
            Timestamp::now(),
            (None, None),
            None,
            None,
            None,
            Some(&"e".repeat(ENTRY + 1)),
        ));
        assert_eq!(inside.seen().1[0].offered, None, "not a part of one");
    }
}
