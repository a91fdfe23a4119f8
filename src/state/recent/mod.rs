//! What was recently refused or failed, grouped by target and reason, for the status page.
//!
//! A person who hears "it does not work" wants to know which request and why. The log has each request; this has the
//! few kinds there were. It is bounded, whatever clients send: [`BYTES`] for all, each value of bounded length, and a
//! share for each client ([`super::by_client`]). Allowed requests are never stored here ([`super::allowed`]). Not here:
//! the numbers by rule and reason since the start ([`crate::telemetry::metrics`]), and what to do about a refusal
//! ([`crate::rules::Remedy`]).

#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::by_client::{ByClient, Rank, Remembered};
use crate::telemetry::record::{Cause, without_secrets};
use crate::wire::auth_scheme::AuthScheme;
use crate::words::aws::Account;
use crate::words::git::Operation;
use crate::words::outcome::Decision;
use crate::words::small_sort::SmallSort as _;
use crate::words::target::{Host, Target};

/// Bytes of all kinds: some 6,000 usual ones, or 1,500 whose every text is as long as it may be.
pub const BYTES: usize = 4 * 1024 * 1024;
/// A kind that did not come again for this long is forgotten.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// How often kinds that are too old are looked for.
const LOOK: SignedDuration = SignedDuration::from_secs(60);
/// The longest method that is kept: `UPDATEREDIRECTREF` is the longest in the registry of IANA.
const METHOD: usize = 32;
/// Different clients that are listed in one group; there may be more.
const CLIENTS: usize = 16;
/// Bytes kept of a text that a client wrote and that has no bound of its own.
const LONGEST: usize = 256;
/// Of what the client was told: it quotes the rule, and a ref or an account.
const TOLD: usize = 1024;

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AskedFor {
    /// A canonical target.
    Target(Target),
    /// Not a valid target, in printable ASCII.
    Malformed(Box<str>),
    /// Nothing: the connection was closed before any request, or the head was unreadable.
    Nothing,
}

impl fmt::Display for AskedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskedFor::Target(target) => target.fmt(f),
            AskedFor::Malformed(text) => f.write_str(text),
            AskedFor::Nothing => f.write_str("-"),
        }
    }
}

/// One refusal, on its way into its group.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// When.
    pub at: Timestamp,
    /// The record's id in the log; nil if there may be none.
    pub id: Uuid,
    /// Where it was accepted.
    pub listener: &'a Arc<str>,
    /// The policy that decided.
    pub policy: Option<&'a Arc<str>>,
    /// The text of the rule that decided.
    pub rule: Option<&'a str>,
    /// The verdict; none if it failed before the rules were applied.
    pub decision: Option<Decision>,
    /// Why.
    pub cause: Cause,
    /// What was asked for.
    pub asked: Asking<'a>,
    /// Method and path of a request, if a rule allows the connection and not the request.
    pub request: Option<Asks<'a>>,
    /// What was recognised in it, of Git and AWS, in a few words.
    pub recognised: Option<&'a str>,
    /// What the client was told, where that says more than the request does, and the entry that would have let it pass.
    pub told: Option<(&'a str, Option<&'a str>)>,
    /// The client, as far as it is known.
    pub client: Option<IpAddr>,
    /// The address that stands for it where clients are counted: whose share it takes.
    pub account: Option<IpAddr>,
    /// The identity that the client proved.
    pub identity: Option<&'a str>,
    /// The server name in the ClientHello.
    pub sni: Option<&'a str>,
    /// The scheme of credentials that were refused.
    pub auth_scheme: Option<AuthScheme>,
    /// The client said that it asked to be refused, as `doctor` does.
    pub expected: bool,
}

/// A request on a connection that a rule allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Asks<'a> {
    /// Its method: a token.
    pub method: &'a str,
    /// Its path, as it was sent.
    pub path: &'a str,
    /// Whether it came inside a tunnel.
    pub within: bool,
    /// What it does with a repository: a push is not hidden behind a clone.
    pub operation: Option<Operation>,
    /// By whose AWS account.
    pub account: Option<Account>,
}

/// [`AskedFor`], borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Asking<'a> {
    /// A canonical target.
    Target(&'a Target),
    /// As it was sent.
    Malformed(&'a [u8]),
    /// Nothing.
    Nothing,
}

/// Refusals that have policy, reason and target in common.
#[derive(Clone, Debug)]
pub struct Group {
    /// Where it was accepted.
    pub listener: Arc<str>,
    /// The policy that decided.
    pub policy: Option<Arc<str>>,
    /// The text of the rule that decided.
    pub rule: Option<Box<str>>,
    /// The verdict.
    pub decision: Option<Decision>,
    /// Why.
    pub cause: Cause,
    /// What was asked for.
    pub asked: AskedFor,
    /// Method, path and whether it came inside a tunnel, if a rule allows the connection and not this request. Longer paths
    /// are in one group, without it.
    pub request: Option<(Box<str>, Box<str>, bool)>,
    /// What such a request does with a repository, and by whose AWS account.
    pub does: (Option<Operation>, Option<Account>),
    /// What was recognised in the last one.
    pub recognised: Option<Box<str>>,
    /// What the last one's client was told, and the entry that would have let it pass, if it is not too long to be kept.
    pub told: Option<(Box<str>, Option<Box<str>>)>,
    /// Its clients said that they asked to be refused. Any client can say so, and these are in no group with others.
    pub expected: bool,
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// The id of the last one's record in the log.
    pub id: Uuid,
    /// The last one's client.
    pub client: Option<IpAddr>,
    /// The first clients, each once.
    pub clients: Vec<IpAddr>,
    /// Whether there were other clients, too.
    pub more_clients: bool,
    /// The identity that the last client proved.
    pub identity: Option<Box<str>>,
    /// The server name in the last ClientHello.
    pub sni: Option<Box<str>>,
    /// The scheme that the last client tried.
    pub auth_scheme: Option<AuthScheme>,
}

/// The groups. One for the whole program.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Table>);

#[derive(Debug)]
struct Table {
    hasher: RandomState,
    groups: ByClient<Group>,
    /// When old groups were last looked for.
    looked: Timestamp,
}

impl Default for Table {
    fn default() -> Self {
        Table { hasher: RandomState::new(), groups: ByClient::new(BYTES), looked: Timestamp::MIN }
    }
}

impl Recent {
    /// Counts one refusal.
    pub fn note(&self, refusal: &Refusal<'_>) {
        // Plain values: a panic elsewhere leaves them correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(refusal);
    }

    /// How many groups there are.
    pub fn kinds(&self, now: Timestamp) -> usize {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget_sometimes(now);
        table.groups.len()
    }

    /// All groups, each with a number of its own, the most recent first.
    pub fn groups(&self, now: Timestamp) -> Vec<(u64, Arc<Group>)> {
        let mut groups = {
            let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            table.forget_sometimes(now);
            table.groups.snapshot()
        };
        let oldest = oldest(now);
        groups.retain(|(_, group)| group.last >= oldest);
        groups.small_sort_by_key(|(number, group)| (std::cmp::Reverse(group.last), *number));
        groups
    }
}

/// What came last before this moment is forgotten.
fn oldest(now: Timestamp) -> Timestamp {
    now.saturating_sub(REMEMBERED).unwrap_or(Timestamp::MIN)
}

impl Table {
    fn note(&mut self, refusal: &Refusal<'_>) {
        let asked = match refusal.asked {
            Asking::Target(target) => AskedFor::Target(target.clone()),
            Asking::Malformed(bytes) => AskedFor::Malformed(printable(&without_secrets(bytes))),
            Asking::Nothing => AskedFor::Nothing,
        };
        let is_short = |asks: &Asks<'_>| asks.path.len() <= LONGEST && asks.method.len() <= METHOD;
        let request = refusal.request.filter(is_short);
        let hash = self.hasher.hash_one((
            refusal.policy,
            refusal.decision.map(Decision::as_str),
            refusal.cause,
            &asked,
            request,
            refusal.expected,
        ));
        let same = |group: &Group| {
            group.policy.as_ref() == refusal.policy
                && group.decision == refusal.decision
                && group.cause == refusal.cause
                && group.asked == asked
                && group.asks() == request
                && group.expected == refusal.expected
        };
        if self.groups.get(hash).is_some_and(same) {
            return self.groups.change(hash, |group| group.add(refusal));
        }
        let group = Group::of(refusal, asked, request);
        if self.groups.is_full_for(&group) {
            self.forget_sometimes(refusal.at);
        }
        self.groups.insert(hash, refusal.account.or(refusal.client), group);
    }

    /// It looks at every group, with the lock held.
    fn forget_sometimes(&mut self, now: Timestamp) {
        if now.duration_since(self.looked) > LOOK {
            self.looked = now;
            self.groups.forget_before(oldest(now));
        }
    }
}

impl Remembered for Group {
    fn rank(&self) -> Rank {
        (self.count, self.last)
    }

    fn bytes(&self) -> usize {
        let texts = [&self.rule, &self.recognised, &self.identity, &self.sni].into_iter().flatten();
        let told = self.told.as_ref();
        let told = told.map_or(0, |(told, entry)| told.len() + entry.as_ref().map_or(0, |entry| entry.len()));
        let asked = match &self.asked {
            // Shared with nothing that lives as long.
            AskedFor::Target(Target { host: Host::Name(name), .. }) => name.as_str().len() + 16,
            AskedFor::Target(Target { host: Host::Address(_), .. }) | AskedFor::Nothing => 0,
            AskedFor::Malformed(text) => text.len(),
        };
        let request = self.request.as_ref().map_or(0, |(method, path, _)| method.len() + path.len());
        size_of::<Self>()
            + texts.map(|text| text.len()).sum::<usize>()
            + told
            + asked
            + request
            + self.clients.capacity() * size_of::<IpAddr>()
    }
}

impl Group {
    fn of(refusal: &Refusal<'_>, asked: AskedFor, request: Option<Asks<'_>>) -> Self {
        let mut group = Group {
            listener: Arc::clone(refusal.listener),
            policy: refusal.policy.cloned(),
            rule: None,
            decision: refusal.decision,
            cause: refusal.cause,
            asked,
            request: request.map(|asks| (asks.method.into(), asks.path.into(), asks.within)),
            does: request.map_or((None, None), |asks| (asks.operation, asks.account)),
            recognised: None,
            told: None,
            expected: refusal.expected,
            count: 0,
            first: refusal.at,
            last: refusal.at,
            id: refusal.id,
            client: None,
            clients: Vec::new(),
            more_clients: false,
            identity: None,
            sni: None,
            auth_scheme: None,
        };
        group.add(refusal);
        group
    }

    /// The request, if it is known.
    pub fn asks(&self) -> Option<Asks<'_>> {
        let (operation, account) = self.does;
        let (method, path, within) = self.request.as_ref()?;
        Some(Asks { method, path, within: *within, operation, account })
    }

    fn add(&mut self, refusal: &Refusal<'_>) {
        self.count = self.count.saturating_add(1);
        self.last = self.last.max(refusal.at);
        self.id = refusal.id;
        self.client = refusal.client;
        self.rule = refusal.rule.map(cut);
        self.identity = refusal.identity.map(cut);
        self.recognised = refusal.recognised.map(cut);
        let whole = |entry: Option<&str>| entry.filter(|entry| entry.len() <= TOLD).map(Box::from);
        self.told = refusal.told.map(|(told, entry)| (cut_at(told, TOLD), whole(entry)));
        self.sni = refusal.sni.map(cut);
        self.auth_scheme = refusal.auth_scheme;
        let Some(client) = refusal.client else { return };
        if self.clients.contains(&client) {
        } else if self.clients.len() < CLIENTS {
            self.clients.push(client);
        } else {
            self.more_clients = true;
        }
    }
}

/// An untrusted client's bytes in printable ASCII, cut.
fn printable(bytes: &[u8]) -> Box<str> {
    let some = bytes.get(..LONGEST).unwrap_or(bytes);
    cut(&some.escape_ascii().to_string())
}

/// At most [`LONGEST`] bytes, and a mark where there were more.
fn cut(text: &str) -> Box<str> {
    cut_at(text, LONGEST)
}

fn cut_at(text: &str, longest: usize) -> Box<str> {
    if text.len() <= longest {
        return text.into();
    }
    let end = (0..=longest).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}…", text.get(..end).unwrap_or_default()).into()
}
