//! Makes the shortest exact allowlist that would have allowed the recorded requests.
//!
//! Exact: every rule names one host, one scheme and the ports that were seen, and every policy names the clients that asked for
//! all of its rules. A client may so reach what the log shows of that client, and not what it shows of another. A pattern is
//! never written. If one would match many names, a comment says so, with the lint's warnings about it. A request that failed
//! for a cause other than the rules (DNS, the path to the target, the ClientHello) is left out, and a comment says so. The
//! names in a log are chosen by clients, so the output separates what was let through, what only report mode let through, and
//! what was denied.
//!
//! What `doctor` asked for is left out. It is known by its `User-Agent`, which any client may send: such a client only hides its
//! own requests from the list.
//!
//! Memory is bounded: only so many distinct targets of clients of each kind are kept; the rest is counted and reported.
//! Not here: how a log is read ([`crate::commands::logs`]).

mod add_inside;
mod arguments;
mod askers;
mod git;
mod groups;
mod help;
mod inside;
#[cfg(test)]
mod inside_tests;
mod kind;
mod lines;
#[cfg(test)]
mod oracle_tests;
mod paths;
#[cfg(test)]
mod per_client_tests;
mod render;
mod seen;
#[cfg(test)]
mod spelling_tests;
mod tail;
#[cfg(test)]
mod tests;
mod wanted;
mod wide;
#[cfg(test)]
mod words_tests;
mod yaml;

pub(crate) use arguments::Suggest;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use self::askers::{Askers, Who};
pub use self::kind::Kind;
use self::kind::{Why, reason, why};
use self::seen::{Seen, Wanted, keep, span};
use self::wanted::{NoRule, wanted};
use crate::commands::logs::{Entry, Stands};
use crate::rules::Scheme;
use crate::rules::no_proxy::NoProxy;
use crate::words::outcome::Reason;
use crate::words::target::{Host, Method, PROBE, Port, Target};

/// Most distinct targets of clients that are kept of those let through; half as many of each other kind.
const MOST: usize = 100_000;
/// Most clients of one entry of `no_proxy` whose addresses are shown.
const CLIENTS: usize = 4;
/// Most examples of what was left out for one cause.
const EXAMPLES: usize = 3;
/// Most entries that are kept for the clients' `no_proxy`.
const ENTRIES: usize = 1_000;

/// Requests whose clients lack one entry of `no_proxy`.
#[derive(Clone, Debug)]
struct Missing {
    found: NoProxy,
    count: u64,
    clients: Vec<IpAddr>,
    more_clients: bool,
}

/// What was left out for one cause.
#[derive(Clone, Debug)]
struct LeftOut {
    why: Why,
    count: u64,
    examples: Vec<String>,
}

impl LeftOut {
    fn of(why: Why) -> Self {
        LeftOut { why, count: 0, examples: Vec::new() }
    }
}

/// Gathers requests.
#[derive(Debug, Default)]
pub struct Suggestion {
    askers: Askers,
    seen: HashMap<(Who, Wanted), Seen>,
    /// Distinct targets of clients, by the kind of their first request.
    kept: [usize; 3],
    /// Requests that there was no room for, by kind.
    not_kept: [u64; 3],
    /// Where plain requests were seen inside tunnels.
    plain: HashSet<(Who, Host, Port)>,
    /// Targets that no request can reach, by host and, if it is egressd itself, port.
    dead: HashMap<(Host, Option<Port>), Reason>,
    /// By the word for the cause.
    left_out: BTreeMap<&'static str, LeftOut>,
    /// By the entry that the clients' `no_proxy` lacks.
    missing: BTreeMap<String, Missing>,
    /// Requests that would need further entries.
    not_kept_missing: u64,
    /// For paths of requests inside tunnels, by kind.
    room: [usize; 3],
    requests: u64,
    /// Requests inside tunnels, and those of them that no entry is for, because there is no room or no such method.
    inside: u64,
    not_kept_inside: u64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Suggestion {
    /// Nothing added yet. `networks`: the clients of a /24 (IPv6: of a /64) are one.
    pub fn new(networks: bool) -> Self {
        let room = [inside::ROOM, inside::ROOM / 2, inside::ROOM / 2];
        Suggestion { askers: Askers::new(networks), room, ..Suggestion::default() }
    }

    /// Adds what one line of a log says.
    pub fn add(&mut self, entry: &Entry<'_>) {
        let stands = entry.stands();
        match stands {
            Stands::More => return,
            Stands::Inside if !entry.by_doctor() => return self.add_inside(entry),
            Stands::Inside | Stands::Passed | Stands::Refused | Stands::Withdrawn => {}
        }
        if matches!(stands, Stands::Passed | Stands::Refused) {
            self.requests += 1;
            span(&mut self.first, &mut self.last, entry.time);
        }
        let asked = entry.asked();
        let is_probe = |target: &Target| matches!(&target.host, Host::Name(name) if name.as_str() == PROBE);
        if entry.by_doctor() {
            return self.leave_out(Why::Doctor, asked.as_ref().filter(|target| !is_probe(target)));
        }
        let Some(target) = asked else {
            let why = why(entry).unwrap_or(Why::Failed(Reason::BadTarget.into()));
            self.leave_out(why, None);
            // Their targets are in no line.
            if let Some(left) = self.left_out.get_mut(why.as_str()) {
                left.count = left.count.saturating_add(entry.suppressed);
            }
            return;
        };
        self.note_dead(entry, &target);
        match wanted(entry, stands, &target) {
            Ok((kind, wanted, private)) => self.want(entry, kind, wanted, &private),
            Err(no_rule) => {
                if stands == Stands::Withdrawn {
                    self.take_back(entry, &target);
                }
                match no_rule {
                    NoRule::Left(why) => self.leave_out(why, Some(&target)),
                    NoRule::NoProxy(found) => self.miss(found, 1, entry.client_ip()),
                }
            }
        }
    }

    /// Remembers a target that no rule helps any client to reach.
    fn note_dead(&mut self, entry: &Entry<'_>, target: &Target) {
        let Some(reason) = reason(entry).filter(|_| !entry.guessed) else { return };
        let port = match reason {
            Reason::DnsNoSuchName | Reason::DnsNoAddress => None,
            Reason::Loop => Some(target.port),
            _ => return,
        };
        if self.dead.len() < MOST {
            self.dead.insert((target.host.clone(), port), reason);
        }
    }

    fn miss(&mut self, found: NoProxy, count: u64, client: Option<IpAddr>) {
        if self.missing.len() >= ENTRIES && !self.missing.contains_key(&found.entry) {
            self.not_kept_missing += count;
            return;
        }
        let none = Missing { found, count: 0, clients: Vec::new(), more_clients: false };
        let missing = self.missing.entry(none.found.entry.clone()).or_insert(none);
        missing.count += count;
        if let Some(client) = client {
            keep(&mut missing.clients, &mut missing.more_clients, CLIENTS, client);
        }
    }

    fn want(&mut self, entry: &Entry<'_>, kind: Kind, wanted: Wanted, private: &[IpNet]) {
        let port = wanted.port;
        let Some(seen) = self.place(entry, kind, wanted) else { return };
        match kind {
            Kind::Passed => seen.passed += 1,
            Kind::WouldDeny => seen.would_deny += 1,
            Kind::Denied => seen.denied += 1,
        }
        if kind != Kind::Passed {
            // Squid does not say why.
            seen.reason = reason(entry).filter(|_| !entry.guessed);
        }
        seen.saw(entry, port, private);
    }

    /// Where what the client of a line asks for is gathered; none if there is no room for more.
    fn place(&mut self, entry: &Entry<'_>, kind: Kind, wanted: Wanted) -> Option<&mut Seen> {
        let most = if kind == Kind::Passed { MOST } else { MOST / 2 };
        let index = kind as usize;
        let Some(key) = self.askers.note(entry, kind).map(|who| (who, wanted)) else {
            self.count_not_kept(kind);
            return None;
        };
        if !self.seen.contains_key(&key) {
            match self.kept.get_mut(index) {
                Some(kept) if *kept < most => *kept += 1,
                _ => {
                    self.count_not_kept(kind);
                    return None;
                }
            }
        }
        Some(self.seen.entry(key).or_default())
    }

    fn count_not_kept(&mut self, kind: Kind) {
        if let Some(count) = self.not_kept.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// A tunnel that had been counted as passed was refused after its first ClientHello.
    fn take_back(&mut self, entry: &Entry<'_>, target: &Target) {
        let Some(who) = self.askers.find(entry) else { return };
        for scheme in Scheme::ALL {
            for unsure in [false, true] {
                let wanted = Wanted { unsure, ..Wanted::new(scheme, target.host.clone(), target.port) };
                if let Some(seen) = self.seen.get_mut(&(who, wanted)).filter(|seen| seen.passed > 0) {
                    seen.passed -= 1;
                    return;
                }
            }
        }
    }

    fn leave_out(&mut self, why: Why, target: Option<&Target>) {
        self.leave_out_many(why, 1, target);
    }

    fn leave_out_many(&mut self, why: Why, count: u64, target: Option<&Target>) {
        let left = self.left_out.entry(why.as_str()).or_insert_with(|| LeftOut::of(why));
        left.count += count;
        if let Some(target) = target.filter(|_| left.examples.len() < EXAMPLES) {
            let shown = match target.method {
                Method::Connect => target.to_string(),
                Method::Http => format!("http://{target}"),
            };
            if !left.examples.contains(&shown) {
                left.examples.push(shown);
            }
        }
    }
}
