//! Decides recorded requests by both configurations, and finds those that would now be decided differently.
//!
//! [`logs`](crate::commands::logs) reads the logs. Requests on which both agree are only counted. Of the others, at most
//! [`MAX_KEPT`] distinct ones are kept, so memory is bounded however long the log is. Both decide as of one moment, the
//! caller's, so that only the edit makes a difference. A request counts where it begins (`open`, `http`) or was refused
//! (`deny`, `error`).
//!
//! What a log does not contain cannot be replayed: it has only the first identity, no VPC endpoint, and only the addresses
//! that were dialled.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::IpAddr;

use crate::commands::explain::client;
use crate::commands::logs::{Entry, Malformed, Reader, Stands, Text};
use crate::rules::{Permit, Policies};
use crate::words::client::Client;
use crate::words::outcome::{Decision, Reason};
use crate::words::target::{Method, Target};
use jiff::Timestamp;

/// Distinct requests that are kept, of those decided differently.
pub const MAX_KEPT: usize = 10_000;

/// How a request is decided differently.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Turn {
    /// It passed, and would no longer pass.
    NewlyDenied,
    /// It was denied, and would pass.
    NewlyAllowed,
    /// It passes in both, but with other options, as another scheme, or only by report mode.
    Otherwise,
}

/// One distinct request that is decided differently.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// How.
    pub turn: Turn,
    /// The client's address.
    pub client: IpAddr,
    /// The identity that was logged.
    pub identity: Option<Box<str>>,
    /// The target of the request.
    pub target: Target,
}

/// How often it was recorded, and what the configurations say about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Recorded requests.
    pub count: u64,
    /// What the old one says.
    pub old: String,
    /// What the new one says.
    pub new: String,
}

/// What a replay found.
#[derive(Debug, Default)]
pub struct Found {
    /// Requests that both decided.
    pub requests: u64,
    /// Lines that are not records.
    pub malformed: Malformed,
    /// Packed logs whose end is missing.
    pub broken_off: Vec<String>,
    /// Requests without a valid client or target, which cannot be judged: they were refused for their form.
    pub unjudged: u64,
    /// Those decided differently.
    pub otherwise: HashMap<Request, Seen>,
    /// Recorded requests that are decided differently and are not among the distinct ones kept, by turn.
    pub not_kept: [u64; 3],
}

impl Found {
    /// Recorded requests of a turn: all of them, and the distinct ones kept.
    pub fn count(&self, turn: Turn) -> (u64, usize) {
        let of_turn = self.otherwise.iter().filter(|(request, _)| request.turn == turn);
        let (count, distinct) =
            of_turn.fold((0, 0), |(count, distinct), (_, seen)| (count + seen.count, distinct + 1));
        (count + self.not_kept.get(turn as usize).copied().unwrap_or_default(), distinct)
    }

    /// The distinct requests of a turn, the most frequent first.
    pub fn of(&self, turn: Turn) -> Vec<(&Request, &Seen)> {
        let mut of_turn: Vec<_> = self.otherwise.iter().filter(|(request, _)| request.turn == turn).collect();
        let place =
            |request: &Request| (request.client, request.target.to_string(), request.identity.clone());
        of_turn.sort_by_cached_key(|(request, seen)| (std::cmp::Reverse(seen.count), place(request)));
        of_turn
    }
}

/// Two configurations, and what they have decided so far.
#[derive(Debug)]
pub struct Replay<'p> {
    old: &'p Policies,
    new: &'p Policies,
    now: Timestamp,
    upstreams: bool,
    reader: Reader,
    found: Found,
}

impl<'p> Replay<'p> {
    /// `upstreams`: whether the recorded `upstream` is the target's own address, and is judged too. Behind a parent proxy,
    /// it is the parent's.
    pub fn new(old: &'p Policies, new: &'p Policies, now: Timestamp, upstreams: bool) -> Self {
        Replay { old, new, now, upstreams, reader: Reader::new(), found: Found::default() }
    }

    /// Reads one log to its end; `name` is its name in messages.
    ///
    /// # Errors
    /// The input fails. A line that is not a record is counted, and is not an error.
    pub fn read(&mut self, name: &str, input: impl Read) -> io::Result<()> {
        let mut reader = std::mem::take(&mut self.reader);
        let done = reader.read(name, input, |entry| self.record(entry));
        self.reader = reader;
        done
    }

    /// What was found in all logs read.
    pub fn finish(self) -> Found {
        let (malformed, broken_off) = (self.reader.malformed().clone(), self.reader.broken_off().to_vec());
        Found { malformed, broken_off, ..self.found }
    }

    fn record(&mut self, entry: &Entry<'_>) {
        if !matches!(entry.stands(), Stands::Passed | Stands::Refused) {
            return;
        }
        let (Some(address), Some(target)) = (entry.client_ip(), entry.asked()) else {
            self.found.unjudged += 1;
            return;
        };
        self.found.requests += 1;
        let identity: Option<Box<str>> = entry.identity.map(Text::decoded).map(Box::from);
        let from = client(address, identity.iter().cloned().collect(), None);
        let upstream = entry.upstream_address().filter(|_| self.upstreams).map(|address| address.ip());
        let old = Answer::of(self.old, &target, &from, self.now, upstream);
        let new = Answer::of(self.new, &target, &from, self.now, upstream);
        let Some(turn) = old.turn(&new) else { return };
        let request = Request { turn, client: from.address.ip(), identity, target };
        let kept = self.found.otherwise.len();
        if let Some(seen) = self.found.otherwise.get_mut(&request) {
            seen.count += 1;
        } else if kept < MAX_KEPT {
            let seen = Seen { count: 1, old: old.to_string(), new: new.to_string() };
            self.found.otherwise.insert(request, seen);
        } else if let Some(count) = self.found.not_kept.get_mut(turn as usize) {
            *count += 1;
        }
    }
}

/// What one configuration says.
enum Answer {
    Permit(Box<Permit>),
    Denial { reason: Reason, why: String },
}

impl Answer {
    fn of(
        policies: &Policies,
        target: &Target,
        from: &Client,
        now: Timestamp,
        upstream: Option<IpAddr>,
    ) -> Self {
        let permit = match policies.decide(target, from, now) {
            Ok(permit) => permit,
            Err(denial) => return Answer::Denial { reason: denial.reason, why: denial.advice.into() },
        };
        match upstream.map(|address| policies.admit(&permit, address)) {
            Some(Err(denial)) => Answer::Denial {
                reason: Reason::AddressProhibited,
                why: format!("{}: {}", denial.address, denial.why),
            },
            _ => Answer::Permit(Box::new(permit)),
        }
    }

    fn turn(&self, new: &Answer) -> Option<Turn> {
        match (self, new) {
            (Answer::Permit(_), Answer::Denial { .. }) => Some(Turn::NewlyDenied),
            (Answer::Denial { .. }, Answer::Permit(_)) => Some(Turn::NewlyAllowed),
            (Answer::Denial { .. }, Answer::Denial { .. }) => None,
            (Answer::Permit(old), Answer::Permit(new)) => {
                let same = old.decision == new.decision
                    && old.scheme == new.scheme
                    && old.options().eq(new.options());
                (!same).then_some(Turn::Otherwise)
            }
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Denial { reason, why } => write!(f, "deny {reason}: {why}"),
            Answer::Permit(permit) => {
                write!(f, "{} as {} by policy {}", permit.decision.as_str(), permit.scheme, permit.policy)?;
                if let Some(rule) = permit.rule.as_ref().filter(|_| permit.decision == Decision::Allow) {
                    write!(f, ", `{}` ({})", rule.text, rule.source)?;
                }
                Ok(())
            }
        }
    }
}

/// The shown form of a request: `CONNECT host:port`, `http://host:port`.
impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.client)?;
        if let Some(identity) = &self.identity {
            write!(f, "{} ", identity.escape_debug())?;
        }
        match self.target.method {
            Method::Connect => write!(f, "{}", self.target),
            Method::Http => write!(f, "http://{}", self.target),
        }
    }
}

#[cfg(test)]
mod tests;
