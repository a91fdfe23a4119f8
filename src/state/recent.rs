//! What was recently refused or failed, grouped by target and reason, for the status page.
//!
//! A person who hears "it does not work" wants to know which request and why. The log has each request; this has the
//! few kinds there were. It is bounded, whatever clients send: [`GROUPS`] groups, each with values of bounded length.
//! If a new kind comes and there is no room, the client with the most groups loses its rarest one: a client that asks
//! for a thousand invented names pushes out its own entries, and not those of others. Allowed requests are never
//! stored here. Not here: the numbers by rule and reason since the start ([`crate::telemetry::metrics`]), and what to
//! do about a refusal ([`crate::rules::Remedy`]).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::telemetry::record::{Cause, without_secrets};
use crate::wire::auth_scheme::AuthScheme;
use crate::words::aws::Account;
use crate::words::git::Operation;
use crate::words::outcome::Decision;
use crate::words::target::Target;

/// Kinds of refusals that are distinguished. Some 100 KiB if all are used.
pub const GROUPS: usize = 256;
/// A kind that did not come again for this long is forgotten.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
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
    /// The identity that the client proved.
    pub identity: Option<&'a str>,
    /// The server name in the ClientHello.
    pub sni: Option<&'a str>,
    /// The scheme of credentials that were refused.
    pub auth_scheme: Option<AuthScheme>,
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

#[derive(Debug, Default)]
struct Table {
    hasher: RandomState,
    /// Of the group at the same index.
    hashes: Vec<u64>,
    groups: Vec<Group>,
}

impl Recent {
    /// Counts one refusal.
    pub fn note(&self, refusal: &Refusal<'_>) {
        // Plain values: a panic elsewhere leaves them correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(refusal);
    }

    /// All groups, the most recent first.
    pub fn groups(&self, now: Timestamp) -> Vec<Group> {
        let mut groups = {
            let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            table.forget(now);
            table.groups.clone()
        };
        groups.sort_by_key(|group| std::cmp::Reverse(group.last));
        groups
    }
}

impl Table {
    fn note(&mut self, refusal: &Refusal<'_>) {
        let asked = match refusal.asked {
            Asking::Target(target) => AskedFor::Target(target.clone()),
            Asking::Malformed(bytes) => AskedFor::Malformed(printable(&without_secrets(bytes))),
            Asking::Nothing => AskedFor::Nothing,
        };
        let request = refusal.request.filter(|asks| asks.path.len() <= LONGEST);
        let hash = self.hasher.hash_one((
            refusal.policy,
            refusal.decision.map(Decision::as_str),
            refusal.cause,
            &asked,
            request,
        ));
        let same = |group: &Group| {
            group.policy.as_ref() == refusal.policy
                && group.decision == refusal.decision
                && group.cause == refusal.cause
                && group.asked == asked
                && group.asks() == request
        };
        let mut candidates = self.hashes.iter().zip(&mut self.groups).filter(|(known, _)| **known == hash);
        if let Some((_, group)) = candidates.find(|(_, group)| same(group)) {
            return group.add(refusal);
        }
        self.make_room(refusal.at);
        self.hashes.push(hash);
        self.groups.push(Group::of(refusal, asked, request));
    }

    fn forget(&mut self, now: Timestamp) {
        let mut index = 0;
        while let Some(group) = self.groups.get(index) {
            if now.duration_since(group.last) > REMEMBERED {
                self.remove(index);
            } else {
                index += 1;
            }
        }
    }

    fn make_room(&mut self, now: Timestamp) {
        if self.groups.len() < GROUPS {
            return;
        }
        self.forget(now);
        if self.groups.len() < GROUPS {
            return;
        }
        let mut owned: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for group in &self.groups {
            *owned.entry(group.owner()).or_default() += 1;
        }
        let most = owned.into_iter().max_by_key(|(_, count)| *count).map(|(owner, _)| owner);
        let of_most = self.groups.iter().enumerate().filter(|(_, group)| Some(group.owner()) == most);
        let rarest = of_most.min_by_key(|(_, group)| (group.count, group.last)).map(|(index, _)| index);
        if let Some(index) = rarest {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        self.hashes.swap_remove(index);
        self.groups.swap_remove(index);
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

    /// The client that caused the group.
    fn owner(&self) -> Option<IpAddr> {
        self.clients.first().copied()
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::words::outcome::Reason;

    fn client(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn ask(recent: &Recent, second: i64, target: &str, from: u8, reason: Reason) {
        let target = Target::connect(target).expect(target);
        recent.note(&Refusal {
            at: Timestamp::from_second(second).expect("a moment"),
            id: Uuid::now_v7(),
            listener: &Arc::from("proxy"),
            policy: Some(&Arc::from("p")),
            rule: None,
            decision: Some(Decision::Deny),
            cause: reason.into(),
            asked: Asking::Target(&target),
            request: None,
            recognised: None,
            told: None,
            client: Some(client(from)),
            identity: None,
            sni: None,
            auth_scheme: None,
        });
    }

    fn groups(recent: &Recent, second: i64) -> Vec<(String, u64)> {
        let groups = recent.groups(Timestamp::from_second(second).expect("a moment"));
        groups.into_iter().map(|group| (group.asked.to_string(), group.count)).collect()
    }

    #[test]
    fn what_has_target_and_reason_in_common_is_one_group() {
        let recent = Recent::default();
        ask(&recent, 1, "a.test:443", 1, Reason::HostNotAllowed);
        ask(&recent, 2, "b.test:443", 1, Reason::HostNotAllowed);
        ask(&recent, 3, "a.test:443", 2, Reason::HostNotAllowed);
        ask(&recent, 4, "a.test:443", 2, Reason::HostDenied);
        let now = Timestamp::from_second(5).expect("a moment");
        let found = recent.groups(now);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].cause, Reason::HostDenied.into(), "the last one first");
        assert_eq!((found[1].asked.to_string(), found[1].count), ("a.test:443".to_owned(), 2));
        assert_eq!(found[1].clients, [client(1), client(2)]);
        assert_eq!(found[1].client, Some(client(2)), "the last one's");
        assert_eq!((found[1].first.as_second(), found[1].last.as_second()), (1, 3));
    }

    #[test]
    fn a_push_is_not_hidden_behind_a_clone_nor_an_account_behind_another() {
        let recent = Recent::default();
        let target = Target::connect("a.test:443").expect("a target");
        let own = Account::new("111111111111");
        let rows = [
            (Operation::Fetch, own),
            (Operation::Push, own),
            (Operation::Push, Account::new("222222222222")),
            (Operation::Push, own),
        ];
        for (operation, account) in rows {
            let path = "/a/info/refs";
            let asks = Asks { method: "GET", path, within: true, operation: Some(operation), account };
            let refusal = Refusal {
                at: Timestamp::UNIX_EPOCH,
                id: Uuid::nil(),
                listener: &Arc::from("proxy"),
                policy: None,
                rule: None,
                decision: Some(Decision::Deny),
                cause: Reason::GitNotAllowed.into(),
                asked: Asking::Target(&target),
                request: Some(asks),
                recognised: None,
                told: None,
                client: Some(client(1)),
                identity: None,
                sni: None,
                auth_scheme: None,
            };
            recent.note(&refusal);
        }
        let counts: Vec<u64> = recent.groups(Timestamp::UNIX_EPOCH).iter().map(|group| group.count).collect();
        assert_eq!(counts, [1, 2, 1]);
    }

    #[test]
    fn a_client_that_makes_up_names_pushes_out_its_own() {
        let recent = Recent::default();
        ask(&recent, 1, "wanted.test:443", 1, Reason::HostNotAllowed);
        for number in 0..5_000 {
            ask(&recent, 2, &format!("n{number}.test:443"), 9, Reason::HostNotAllowed);
        }
        ask(&recent, 3, "later.test:443", 2, Reason::HostNotAllowed);
        let found = groups(&recent, 4);
        assert_eq!(found.len(), GROUPS);
        assert!(found.contains(&("wanted.test:443".to_owned(), 1)));
        assert!(found.contains(&("later.test:443".to_owned(), 1)));
    }

    #[test]
    fn what_a_client_writes_is_kept_short_and_printable() {
        let recent = Recent::default();
        let long = "x".repeat(100_000);
        let evil = [b"\"><script>\x1b[2J\xe2\x80\xae\r\n".as_slice(), long.as_bytes()].concat();
        recent.note(&Refusal {
            at: Timestamp::UNIX_EPOCH,
            id: Uuid::nil(),
            listener: &Arc::from("proxy"),
            policy: None,
            rule: None,
            decision: Some(Decision::Deny),
            cause: Reason::BadTarget.into(),
            asked: Asking::Malformed(&evil),
            request: None,
            recognised: None,
            told: None,
            client: None,
            identity: Some(&long),
            sni: Some(&"é".repeat(1_000)),
            auth_scheme: None,
        });
        let group = recent.groups(Timestamp::UNIX_EPOCH).remove(0);
        let AskedFor::Malformed(text) = &group.asked else { panic!("{:?}", group.asked) };
        assert!(text.starts_with(r#"\"><script>\x1b[2J\xe2\x80\xae\r\nxxx"#), "{text}");
        assert!(text.len() < LONGEST + 8 && text.ends_with('…'), "{text}");
        for value in [&group.identity, &group.sni] {
            assert!(value.as_ref().is_some_and(|value| value.len() < LONGEST + 8), "{value:?}");
        }
    }

    #[test]
    fn of_many_clients_some_are_named_and_a_day_is_remembered() {
        let recent = Recent::default();
        for last in 0..20 {
            ask(&recent, 100, "a.test:443", last, Reason::HostNotAllowed);
        }
        let now = |second| Timestamp::from_second(second).expect("a moment");
        let group = recent.groups(now(101)).remove(0);
        assert_eq!((group.clients.len(), group.more_clients, group.count), (CLIENTS, true, 20));
        assert_eq!(recent.groups(now(100 + 86_400)).len(), 1);
        assert_eq!(recent.groups(now(101 + 86_400)).len(), 0);
    }
}
