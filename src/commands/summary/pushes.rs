//! Who pushed what where, added up: by client, repository, account, and what happened to which ref.
//!
//! They are requests that other tables count too.

use super::count::{CountedAs, Counter, MOST, Tally};
use crate::commands::logs::{Entry, Text};
use crate::telemetry::record::Event;
use crate::words::git::Operation;
use crate::words::outcome::Decision;

/// Refs of one push that are listed one by one.
const REFS: usize = 20;

/// Pushes.
#[derive(Clone, Debug)]
pub struct Pushes {
    /// Those that reached the target.
    pub reached: Counter,
    /// Those that were denied or failed.
    pub refused: Counter,
}

impl Default for Pushes {
    fn default() -> Self {
        Pushes { reached: Counter::new(MOST), refused: Counter::new(MOST) }
    }
}

impl Pushes {
    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        let counted_as = match entry.event {
            Some(Event::Request | Event::Http) if entry.decided(Decision::WouldDeny) => CountedAs::WouldDeny,
            Some(Event::Request | Event::Http) => CountedAs::Passed,
            Some(Event::Deny) => CountedAs::Denied,
            Some(Event::Error) => CountedAs::Failed,
            _ => return,
        };
        let Some(git) = entry.git().filter(|git| git.operation == Some(Operation::Push)) else { return };
        // Git asks for the refs first. That is no push, unless it was refused.
        let refused = matches!(counted_as, CountedAs::Denied | CountedAs::Failed);
        if git.ref_count == 0 && !refused {
            return;
        }
        let one = Tally::of(Some(counted_as), entry.sent, entry.received, entry.time, entry.brief);
        let counter = if refused { &mut self.refused } else { &mut self.reached };
        let who = match (entry.client_ip(), entry.identity.map(Text::decoded)) {
            (Some(client), Some(identity)) => format!("{client} {identity}"),
            (Some(client), None) => client.to_string(),
            (None, identity) => identity.unwrap_or_default().into_owned(),
        };
        let target = entry.target.map(Text::decoded).unwrap_or_default();
        let host = target.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        let account = git.account.map(|account| format!(" by account {account}")).unwrap_or_default();
        let start = format!("{who} → {host}{}{account}", git.repository);
        let (some, rest) = git.refs.split_at(git.refs.len().min(REFS));
        // The bytes are those of the whole push: they count once.
        let mut left = one;
        for (name, change) in some {
            counter.add(&format!("{start}: {} {name}", change.as_str()), &left);
            (left.sent, left.received, left.sent_unknown) = (0, 0, 0);
        }
        let more = (rest.len() as u64).max(git.ref_count.saturating_sub(some.len() as u64));
        match (some.is_empty(), more) {
            (true, 0) => counter.add(&start, &left),
            (_, 0) => {}
            (_, _) => counter.add(&format!("{start}: more refs"), &left),
        }
    }
}
