//! Decides recorded requests by both configurations, and finds those that would now be decided differently.
//!
//! [`logs`](crate::commands::logs) reads the logs. Requests on which both agree are only counted. Of the others, at most
//! [`MAX_KEPT`] distinct ones are kept, so memory is bounded however long the log is. Both decide as of one moment, the
//! caller's, so that only the edit makes a difference. A request counts where it begins (`open`, `http`) or was refused
//! (`deny`, `error`).
//!
//! What a log does not contain cannot be replayed: it has only the first identity, no VPC endpoint, no listener if it is in Squid's
//! format, and only the addresses that were dialled.

mod answer;
mod inside;

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;

use self::answer::Answer;
pub use self::answer::Turn;
use self::inside::Inner;
use crate::commands::explain::client;
use crate::commands::logs::{Entry, Malformed, Reader, Stands, Text};
use crate::rules::Policies;
use crate::words::client::Client;
use crate::words::small_sort::SmallSort as _;
use crate::words::target::{Host, Method, Target};
use jiff::Timestamp;

/// Distinct requests that are kept, of those decided differently.
pub const MAX_KEPT: usize = 10_000;

/// One distinct request that is decided differently.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// How.
    pub turn: Turn,
    /// The client's address.
    pub client: IpAddr,
    /// The identity that was logged.
    pub identity: Option<Box<str>>,
    /// The listener that it came by, where a policy asks for it.
    pub listener: Option<Arc<str>>,
    /// The target of the request.
    pub target: Target,
    /// Of a request inside a tunnel: its method and path.
    pub inside: Option<Box<str>>,
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
    /// Requests inside tunnels that both decided.
    pub inside: u64,
    /// Requests inside tunnels whose records do not say what the rules ask for.
    pub unknown_inside: u64,
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
        let place = |request: &Request| {
            (request.client, request.target.to_string(), request.inside.clone(), request.identity.clone())
        };
        of_turn.small_sort_by_cached_key(|(request, seen)| (std::cmp::Reverse(seen.count), place(request)));
        of_turn
    }
}

/// Two configurations, and what they have decided so far.
pub struct Replay<'p> {
    old: &'p Policies,
    new: &'p Policies,
    now: Timestamp,
    is_direct: &'p dyn Fn(&Host) -> bool,
    /// Whether a policy asks for the listener.
    by_listener: bool,
    reader: Reader,
    found: Found,
}

impl<'p> Replay<'p> {
    /// `is_direct`: whether the recorded `upstream` of a target is its own address, and is judged too. Behind a parent proxy,
    /// it is the parent's.
    pub fn new(
        old: &'p Policies,
        new: &'p Policies,
        now: Timestamp,
        is_direct: &'p dyn Fn(&Host) -> bool,
    ) -> Self {
        let by_listener = old.iter().chain(new.iter()).any(|policy| !policy.clients().listeners.is_empty());
        Replay { old, new, now, is_direct, by_listener, reader: Reader::new(), found: Found::default() }
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
        if entry.stands() == Stands::Inside {
            return self.inside(entry);
        }
        if !matches!(entry.stands(), Stands::Passed | Stands::Refused) {
            return;
        }
        let (Some(address), Some(target)) = (entry.client_ip(), entry.asked()) else {
            self.found.unjudged += 1;
            return;
        };
        self.found.requests += 1;
        let (from, identity) = self.client(address, entry);
        let is_direct = (self.is_direct)(&target.host);
        let upstream = entry.upstream_address().filter(|_| is_direct).map(|address| address.ip());
        let address = entry.named_address();
        let asked = (&target, address.as_ref());
        let old = Answer::of(self.old, asked, &from, self.now, upstream);
        let new = Answer::of(self.new, asked, &from, self.now, upstream);
        let Some(turn) = old.turn(&new) else { return };
        let (client, listener) = (from.address.ip(), from.listener);
        let request = Request { turn, client, identity, listener, target, inside: None };
        self.keep(request, &old, &new);
    }

    /// One inside a tunnel, of which both let the connection through: else the tunnel's own line tells.
    fn inside(&mut self, entry: &Entry<'_>) {
        let (Some(address), Some(inner)) = (entry.client_ip(), Inner::of(entry)) else {
            self.found.unjudged += 1;
            return;
        };
        let (from, identity) = self.client(address, entry);
        match inner.turn((self.old, self.new), &from, self.now) {
            Err(()) => self.found.unknown_inside += 1,
            Ok(None) => self.found.inside += 1,
            Ok(Some((turn, old, new))) => {
                self.found.inside += 1;
                let (target, shown) = inner.shown();
                let (client, listener, inside) = (from.address.ip(), from.listener, Some(shown));
                let request = Request { turn, client, identity, listener, target, inside };
                self.keep(request, &old, &new);
            }
        }
    }

    /// The client of a record, and its identity.
    fn client(&self, address: IpAddr, entry: &Entry<'_>) -> (Client, Option<Box<str>>) {
        let identity: Option<Box<str>> = entry.identity.map(Text::decoded).map(Box::from);
        let from = client(address, identity.iter().cloned().collect(), None);
        let listener = entry.listener.filter(|_| self.by_listener).map(|text| Arc::from(&*text.decoded()));
        (Client { listener, ..from }, identity)
    }

    fn keep(&mut self, request: Request, old: &Answer, new: &Answer) {
        let turn = request.turn;
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

/// The shown form of a request: `CONNECT host:port`, `http://host:port`.
impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.client)?;
        if let Some(identity) = &self.identity {
            write!(f, "{} ", identity.escape_debug())?;
        }
        if let Some(listener) = &self.listener {
            write!(f, "by {} ", listener.escape_debug())?;
        }
        if let Some(inside) = &self.inside {
            return write!(f, "{} inside: {}", self.target, inside.escape_debug());
        }
        match self.target.method {
            Method::Connect => write!(f, "{}", self.target),
            Method::Http => write!(f, "http://{}", self.target),
        }
    }
}

#[cfg(test)]
mod tests;
