//! Requests inside tunnels, added up: by method, target and the first segment of the path.
//!
//! They are no further requests to the proxy, and their bytes are part of their tunnel's. So they have tables of their own,
//! and count in no other.

use std::collections::BTreeMap;

use super::cause::cause;
use super::count::{CountedAs, Counter, MOST, Tally};
use crate::commands::logs::{Entry, Text};
use crate::telemetry::record::Event;
use crate::words::outcome::Decision;

/// Requests inside tunnels.
#[derive(Clone, Debug)]
pub struct Inside {
    /// All of them.
    pub all: Tally,
    /// Those that reached the target.
    pub reached: Counter,
    /// Those that were denied or failed, without those of a name that reached it too.
    pub refused: Counter,
    /// Requests by the reason for which they were, or would be, refused.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Default for Inside {
    fn default() -> Self {
        Inside {
            all: Tally::default(),
            reached: Counter::new(MOST),
            refused: Counter::new(MOST),
            reasons: BTreeMap::new(),
        }
    }
}

impl Inside {
    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        let counted_as = match entry.event {
            // The request that follows counts.
            _ if entry.asks_for_credentials() => {
                return self.all.add(&Tally::of(None, entry.sent, entry.received, entry.time, entry.brief));
            }
            Some(Event::Request) if entry.decided(Decision::WouldDeny) => CountedAs::WouldDeny,
            Some(Event::Request) => CountedAs::Passed,
            Some(Event::Deny) => CountedAs::Denied,
            _ => CountedAs::Failed,
        };
        let one = Tally::of(Some(counted_as), entry.sent, entry.received, entry.time, entry.brief);
        self.all.add(&one);
        if let (CountedAs::WouldDeny | CountedAs::Denied | CountedAs::Failed, Some(cause)) =
            (counted_as, cause(entry))
        {
            let reasons = self.reasons.entry(cause).or_default();
            // A log may contain any number.
            *reasons = reasons.saturating_add(1).saturating_add(entry.suppressed);
        }
        if let Some(name) = name(entry) {
            let passed = matches!(counted_as, CountedAs::Passed | CountedAs::WouldDeny);
            let counter =
                if passed || self.reached.has(&name) { &mut self.reached } else { &mut self.refused };
            counter.add(&name, &one);
        }
    }
}

/// `GET https://git.example:443/group/**`.
fn name(entry: &Entry<'_>) -> Option<String> {
    let (target, path, tls) = entry.asked_inside()?;
    let method = entry.method.map(Text::decoded).unwrap_or_default();
    let scheme = if tls { "https" } else { "http" };
    let path = path.strip_prefix('/').unwrap_or(&path);
    Some(match path.split_once('/') {
        Some((first, _)) => format!("{method} {scheme}://{target}/{first}/**"),
        None => format!("{method} {scheme}://{target}/{path}"),
    })
}
