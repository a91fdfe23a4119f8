//! Adds up recorded requests: which clients reached which targets, for a terminal and as a page.
//!
//! Each request counts once, at the record with which it passed (`open` of a tunnel, `http`) or was refused. Its bytes come
//! with the record that ends it. Requests inside a tunnel are listed for themselves ([`Inside`]). So a tunnel that is still open at the end of the log has none yet; the summary says how
//! many such tunnels there are.
//!
//! Memory is bounded: only so many distinct names are kept, and all others are added up as one; the bars of the plots get
//! wider as the time span grows. Targets that were only denied are kept separately, so that a flood of them cannot displace
//! a target that was reached. Not here: how a log is read ([`logs`](super::logs)).

mod arguments;
mod cause;
mod count;
mod html;
mod inside;
mod matrix;
mod modes;
mod plot;
mod pushes;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod ticks;
mod why;

pub(crate) use arguments::Arguments;

use std::collections::BTreeMap;

use cause::cause;
use count::MOST;
pub use count::{Bin, Bins, CountedAs, Counter, Tally};
pub use inside::Inside;
pub use matrix::Matrix;
pub use modes::Modes;
pub use pushes::Pushes;
pub use why::Refusals;

use crate::commands::logs::{Entry, Stands, Text};
use crate::telemetry::record::Event;
use crate::words::outcome::{Decision, Reason};

/// A rule that was last used so long before the end of the log is told of, in seconds.
const UNUSED: i64 = 30 * 24 * 60 * 60;
/// The client of lines that name none.
const NOBODY: &str = "unknown";

/// Distinct policies and rules that are kept: only the operator names those.
const MOST_RULES: usize = 10_000;

/// Distinct targets of `doctor` that are kept.
const MOST_OF_DOCTOR: usize = 1_000;

/// Recorded requests, added up.
#[derive(Clone, Debug)]
pub struct Summary {
    /// All of them.
    pub all: Tally,
    /// Targets that a request reached.
    pub reached: Counter,
    /// Targets of what was denied or failed.
    pub refused: Counter,
    /// Why requests to a target were, or would be, refused.
    pub refusals: Refusals,
    /// What was let through, by client and target.
    pub matrix: Matrix,
    /// Which policies were in report mode.
    pub modes: Modes,
    /// Client addresses.
    pub clients: Counter,
    /// The identities that clients proved.
    pub identities: Counter,
    /// Policies that decided.
    pub policies: Counter,
    /// Rules that let something through, and `deny` rules that denied something, each with its policy.
    pub rules: Counter,
    /// Requests by the reason for which they were, or would be, refused.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Requests inside tunnels, which count nowhere else.
    pub inside: Inside,
    /// Who pushed what where; other tables count them too.
    pub pushes: Pushes,
    /// By time.
    pub bins: Bins,
    /// What `doctor` asked for and was refused, by target and client: it was to be refused. Nothing that passed is here, because any
    /// client may send its `User-Agent`.
    pub doctor: Counter,
    /// Tunnels that opened, and those that ended.
    pub opened: u64,
    ended: u64,
    /// Records that the log left out because their rate is limited.
    left_out: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Summary {
            all: Tally::default(),
            reached: Counter::new(MOST),
            refused: Counter::new(MOST),
            refusals: Refusals::default(),
            matrix: Matrix::default(),
            modes: Modes::default(),
            clients: Counter::new(MOST),
            identities: Counter::new(MOST),
            policies: Counter::new(MOST_RULES),
            rules: Counter::new(MOST_RULES),
            reasons: BTreeMap::new(),
            inside: Inside::default(),
            pushes: Pushes::default(),
            bins: Bins::default(),
            doctor: Counter::new(MOST_OF_DOCTOR),
            opened: 0,
            ended: 0,
            left_out: 0,
        }
    }
}

impl Summary {
    /// Nothing added yet.
    pub fn new() -> Self {
        Summary::default()
    }

    /// Adds what one line of a log says.
    pub fn add(&mut self, entry: &Entry<'_>) {
        let stands = entry.stands();
        self.pushes.add(entry);
        if stands == Stands::Inside {
            return self.inside.add(entry);
        }
        let counted_as = counted_as(entry);
        if stands == Stands::Refused && entry.by_doctor() {
            return self.add_of_doctor(entry, counted_as);
        }
        self.modes.add(entry, counted_as == Some(CountedAs::WouldDeny));
        let ends = matches!(entry.event, Some(Event::Close | Event::Http)) || stands == Stands::Withdrawn;
        match entry.event {
            Some(Event::Open) if entry.is_connect() => self.opened += 1,
            Some(Event::Close) => self.ended += 1,
            Some(Event::Deny) if stands == Stands::Withdrawn => self.ended += 1,
            _ => {}
        }
        // Squid writes one line per tunnel, with its bytes.
        let bytes = ends || (stands == Stands::Passed && entry.received.is_some());
        let (sent, received) = if bytes { (entry.sent, entry.received) } else { (None, None) };
        let one = Tally::of(
            counted_as.filter(|_| stands != Stands::Withdrawn),
            sent,
            received,
            entry.time,
            entry.brief,
        );
        if one.is_nothing() {
            return;
        }
        if entry.event == Some(Event::Open) && one.received > 0 {
            self.ended += 1;
        }
        self.all.add(&one);
        self.bins.add(&one);
        if let (Some(CountedAs::WouldDeny | CountedAs::Denied | CountedAs::Failed), Some(cause)) =
            (counted_as, cause(entry))
        {
            let reasons = self.reasons.entry(cause).or_default();
            // A log may contain any number.
            *reasons = reasons.saturating_add(1).saturating_add(entry.suppressed);
            self.left_out = self.left_out.saturating_add(entry.suppressed);
        }
        let client = entry.client_ip().map(|client| client.to_string());
        if let Some(target) = entry.asked() {
            let target = if entry.is_connect() { target.to_string() } else { format!("http://{target}") };
            let passed = stands == Stands::Passed || ends || self.reached.has(&target);
            let counter = if passed { &mut self.reached } else { &mut self.refused };
            counter.add(&target, &one);
            if matches!(counted_as, Some(CountedAs::WouldDeny | CountedAs::Denied | CountedAs::Failed)) {
                self.refusals.add(&target, entry, passed);
            }
            if passed {
                self.matrix.add(client.as_deref().unwrap_or(NOBODY), &target, &one);
            }
        }
        if let Some(client) = client {
            self.clients.add(&client, &one);
        }
        let named = |counter: &mut Counter, text: Option<Text<'_>>| {
            if let Some(text) = text {
                counter.add(&text.decoded(), &one);
            }
        };
        named(&mut self.identities, entry.identity);
        named(&mut self.policies, entry.policy);
        if let Some(name) = rule_name(entry, counted_as) {
            self.rules.add(&name, &one);
        }
    }

    fn add_of_doctor(&mut self, entry: &Entry<'_>, counted_as: Option<CountedAs>) {
        let target = entry.asked().map_or_else(|| NOBODY.to_owned(), |target| target.to_string());
        let client = entry.client_ip().map_or_else(|| NOBODY.to_owned(), |client| client.to_string());
        let one = Tally::of(counted_as, entry.sent, entry.received, entry.time, entry.brief);
        self.doctor.add(&format!("{target} from {client}"), &one);
    }

    /// Rules that were used, but not in the last 30 days of the log, with the time of their last use; the longest unused first.
    pub fn unused_rules(&self) -> Vec<(&str, i64)> {
        let Some((_, end)) = self.all.span else { return Vec::new() };
        let last = |tally: &Tally| tally.span.map_or(end, |(_, last)| last);
        let all = self.rules.top(usize::MAX, |tally| std::cmp::Reverse(last(tally)));
        let all = all.into_iter().map(|(name, tally)| (name, last(tally)));
        all.filter(|(_, last)| last.saturating_add(UNUSED) < end).collect()
    }

    /// Tunnels without an end in the logs: still open at the end of the logs, or cut off when the proxy was killed.
    pub fn without_end(&self) -> u64 {
        self.opened.saturating_sub(self.ended)
    }
}

/// The rule that let a request through, or denied it as a `deny` rule, with its policy in front: two policies may have the same
/// rule.
fn rule_name(entry: &Entry<'_>, counted_as: Option<CountedAs>) -> Option<String> {
    let rule = entry.rule?.decoded();
    let denies = entry.reason.is_some_and(|reason| reason.is(Reason::HostDenied.as_str()));
    if counted_as == Some(CountedAs::Denied) && !denies {
        return None;
    }
    let policy = entry.policy.map(|policy| format!("{}: ", policy.decoded())).unwrap_or_default();
    Some(format!("{policy}{}{rule}", if denies { "deny " } else { "" }))
}

fn counted_as(entry: &Entry<'_>) -> Option<CountedAs> {
    match (entry.stands(), entry.event) {
        (Stands::Passed, _) if entry.decided(Decision::WouldDeny) => Some(CountedAs::WouldDeny),
        (Stands::Passed, _) => Some(CountedAs::Passed),
        (Stands::Refused | Stands::Withdrawn, Some(Event::Deny)) => Some(CountedAs::Denied),
        (Stands::Refused, _) => Some(CountedAs::Failed),
        _ => None,
    }
}
