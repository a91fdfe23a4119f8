//! Makes the shortest exact allowlist that would have allowed the recorded requests.
//!
//! Exact: every rule names one host, one scheme and the ports that were seen. A pattern is never written. If one would match
//! many names, a comment says so, with the lint's warnings about it. A request that failed for a cause other than the rules
//! (DNS, the path to the target, the ClientHello) is left out, and a comment says so. The names in a log are chosen by
//! clients, so the output separates what was let through, what only report mode let through, and what was denied.
//!
//! Memory is bounded: only so many distinct targets of each kind are kept; the rest is counted and reported.
//! Not here: how a log is read ([`crate::commands::logs`]).

mod add_inside;
mod arguments;
mod clients;
mod git;
mod help;
mod inside;
#[cfg(test)]
mod inside_tests;
mod kind;
mod paths;
mod render;
#[cfg(test)]
mod tests;
mod wide;

pub(crate) use arguments::Suggest;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use self::clients::Clients;
use self::help::{Help, help};
pub use self::kind::Kind;
use self::kind::{Why, reason, why};
use crate::commands::logs::{Entry, Stands, Text};
use crate::rules::no_proxy::{NoProxy, Why as NoProxyWhy, itself, no_proxy, unknown_to_dns};
use crate::rules::offer::{Inside, NoOffer, Offer, offer};
use crate::rules::{Scheme, address};
use crate::telemetry::record::Event;
use crate::words::outcome::{Class, Decision, Reason};
use crate::words::target::{Host, Method, PROBE, Port, Target};

/// Most distinct targets that are kept of those let through; half as many of each other kind.
const MOST: usize = 50_000;
/// Most clients of one target whose addresses are shown.
const CLIENTS: usize = 4;
/// Most non-public addresses of one target that are shown.
const ADDRESSES: usize = 8;
/// Most examples of what was left out for one cause.
const EXAMPLES: usize = 3;
/// Most entries that are kept for the clients' `no_proxy`.
const ENTRIES: usize = 1_000;

/// What one rule would name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Wanted {
    scheme: Scheme,
    host: Host,
    port: Port,
}

/// What the log says about it.
#[derive(Clone, Debug, Default)]
struct Seen {
    passed: u64,
    would_deny: u64,
    denied: u64,
    /// Seconds since 1970.
    first: Option<i64>,
    last: Option<i64>,
    clients: Vec<IpAddr>,
    more_clients: bool,
    /// The addresses it resolved to that only `private` opens.
    addresses: Vec<IpAddr>,
    more_addresses: bool,
    /// Why it was, or would be, denied: the last reason.
    reason: Option<Reason>,
    /// The requests inside tunnels to it, if a rule inspects them.
    inside: inside::Inside,
}

/// Why no rule is written for a request.
#[derive(Clone, PartialEq, Eq, Debug)]
enum NoRule {
    /// It is left out.
    Left(Why),
    /// The client should have reached the target without a proxy.
    NoProxy(NoProxy),
}

impl From<Why> for NoRule {
    fn from(why: Why) -> Self {
        NoRule::Left(why)
    }
}

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
    seen: HashMap<Wanted, Seen>,
    /// Distinct targets, by the kind of their first request.
    kept: [usize; 3],
    /// Requests to targets that there was no room for, by kind.
    not_kept: [u64; 3],
    /// By the word for the cause.
    left_out: BTreeMap<&'static str, LeftOut>,
    /// By the entry that the clients' `no_proxy` lacks.
    missing: BTreeMap<String, Missing>,
    /// Requests that would need further entries.
    not_kept_missing: u64,
    /// The clients, by kind.
    clients: [Clients; 3],
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
    /// Nothing added yet.
    pub fn new() -> Self {
        Suggestion { room: [inside::ROOM, inside::ROOM / 2, inside::ROOM / 2], ..Suggestion::default() }
    }

    /// Adds what one line of a log says.
    pub fn add(&mut self, entry: &Entry<'_>) {
        let stands = entry.stands();
        match stands {
            Stands::More => return,
            Stands::Inside => return self.add_inside(entry),
            Stands::Passed | Stands::Refused | Stands::Withdrawn => {}
        }
        if stands != Stands::Withdrawn {
            self.requests += 1;
            span(&mut self.first, &mut self.last, entry.time);
        }
        let Some(target) = entry.asked() else {
            let why = why(entry).unwrap_or(Why::Failed(Reason::BadTarget.into()));
            self.leave_out(why, None);
            // Their targets are in no line.
            if let Some(left) = self.left_out.get_mut(why.as_str()) {
                left.count = left.count.saturating_add(entry.suppressed);
            }
            return;
        };
        if matches!(&target.host, Host::Name(name) if name.as_str() == PROBE) {
            self.leave_out(Why::Doctor, None);
            return;
        }
        match wanted(entry, stands, &target) {
            Ok((kind, wanted, private)) => self.want(entry, kind, wanted, private),
            Err(no_rule) => {
                if stands == Stands::Withdrawn {
                    self.take_back(&target);
                }
                match no_rule {
                    NoRule::Left(why) => self.leave_out(why, Some(&target)),
                    NoRule::NoProxy(found) => self.miss(entry, found),
                }
            }
        }
    }

    fn miss(&mut self, entry: &Entry<'_>, found: NoProxy) {
        if self.missing.len() >= ENTRIES && !self.missing.contains_key(&found.entry) {
            self.not_kept_missing += 1;
            return;
        }
        let none = Missing { found, count: 0, clients: Vec::new(), more_clients: false };
        let missing = self.missing.entry(none.found.entry.clone()).or_insert(none);
        missing.count += 1;
        if let Some(client) = entry.client_ip() {
            keep(&mut missing.clients, &mut missing.more_clients, CLIENTS, client);
        }
    }

    fn want(&mut self, entry: &Entry<'_>, kind: Kind, wanted: Wanted, private: Vec<IpNet>) {
        let port = wanted.port;
        let Some(seen) = self.place(kind, wanted) else { return };
        match kind {
            Kind::Passed => seen.passed += 1,
            Kind::WouldDeny => seen.would_deny += 1,
            Kind::Denied => seen.denied += 1,
        }
        if kind != Kind::Passed {
            // Squid does not say why.
            seen.reason = reason(entry).filter(|_| !entry.guessed);
        }
        seen.saw(entry, port, &private);
        self.saw_client(entry, kind);
    }

    /// Where the target is gathered; none if there is no room for another one.
    fn place(&mut self, kind: Kind, wanted: Wanted) -> Option<&mut Seen> {
        let most = if kind == Kind::Passed { MOST } else { MOST / 2 };
        if !self.seen.contains_key(&wanted) {
            match self.kept.get_mut(kind as usize) {
                Some(kept) if *kept < most => *kept += 1,
                _ => {
                    if let Some(count) = self.not_kept.get_mut(kind as usize) {
                        *count += 1;
                    }
                    return None;
                }
            }
        }
        Some(self.seen.entry(wanted).or_default())
    }

    fn saw_client(&mut self, entry: &Entry<'_>, kind: Kind) {
        if let (Some(client), Some(clients)) = (entry.client_ip(), self.clients.get_mut(kind as usize)) {
            clients.add(client);
        }
    }

    /// A tunnel that had been counted as passed was refused after its first ClientHello.
    fn take_back(&mut self, target: &Target) {
        for scheme in Scheme::ALL {
            let wanted = Wanted { scheme, host: target.host.clone(), port: target.port };
            if let Some(seen) = self.seen.get_mut(&wanted).filter(|seen| seen.passed > 0) {
                seen.passed -= 1;
                return;
            }
        }
    }

    fn leave_out(&mut self, why: Why, target: Option<&Target>) {
        let left = self.left_out.entry(why.as_str()).or_insert_with(|| LeftOut::of(why));
        left.count += 1;
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

/// The rule that a request needed, or why no rule would have helped.
fn wanted(entry: &Entry<'_>, stands: Stands, target: &Target) -> Result<(Kind, Wanted, Vec<IpNet>), NoRule> {
    let reason = reason(entry);
    let kind = match (stands, entry.event) {
        (Stands::Passed, _) if entry.decided(Decision::WouldDeny) => Kind::WouldDeny,
        (Stands::Passed, _) => Kind::Passed,
        (Stands::Refused, Some(Event::Deny)) => Kind::Denied,
        _ => return Err(failed(entry, reason, target)),
    };
    let helps = match (kind, reason.map(|reason| help(reason, target))) {
        (Kind::Passed, _) => true,
        (Kind::WouldDeny, help) => help != Some(Help::NoRule),
        (Kind::Denied, help) => help == Some(Help::Rule),
    };
    if !helps {
        return Err(failed(entry, reason, target));
    }
    let rule_scheme = rule_scheme(entry, target);
    if let (Kind::Passed, Some(scheme)) = (kind, rule_scheme)
        && no_proxy(&target.host).is_none_or(|found| !matches!(found.why, NoProxyWhy::Endpoint(_)))
    {
        // A rule of the operator opened it, whatever it is.
        let private = match &target.host {
            Host::Address(address) if address::prohibited(*address, &[]).is_some() => {
                let needed = offer(target, Inside::Unknown, true, &[]).map(|offer| offer.private);
                needed.unwrap_or_else(|_| vec![IpNet::from(*address)])
            }
            _ => Vec::new(),
        };
        return Ok((kind, Wanted { scheme, host: target.host.clone(), port: target.port }, private));
    }
    if let (Method::Connect, Host::Address(_), Some(_)) = (target.method, &target.host, entry.sni) {
        // The client looked the name up itself: it has to send the name, and no rule for the address is the answer.
        return Err(Why::Failed(Reason::SniMismatch.into()).into());
    }
    let no_tls = reason.is_some_and(|reason| reason.class() == Class::NoTls);
    let inside = match kind {
        _ if no_tls => Some(Inside::Other),
        // The rule that allows it says what it wanted: only its address was refused.
        Kind::Denied => match written_scheme(entry) {
            Some(Scheme::Https) if reason == Some(Reason::AddressProhibited) => Some(Inside::Tls),
            Some(Scheme::Tcp) if reason == Some(Reason::AddressProhibited) => Some(Inside::Other),
            _ => Some(Inside::Unknown),
        },
        Kind::Passed | Kind::WouldDeny => {
            let sni = entry.sni.map(Text::decoded);
            match (kind, sni) {
                (Kind::Passed, None) => Some(Inside::Unknown),
                (_, sni) => Inside::in_report_mode(target, sni.as_deref()),
            }
        }
    };
    let Some(inside) = inside else { return Err(Why::Failed(Reason::SniMismatch.into()).into()) };
    let listed = kind == Kind::Passed || reason.is_some_and(|reason| reason != Reason::HostNotAllowed);
    match offer(target, inside, listed, &[]) {
        Ok(Offer { scheme, host, port, private, .. }) => Ok((kind, Wanted { scheme, host, port }, private)),
        Err(NoOffer::NoProxy(found)) => Err(NoRule::NoProxy(found)),
        Err(NoOffer::Closed(..)) => Err(Why::Failed(Reason::AddressProhibited.into()).into()),
        Err(NoOffer::Unwritable(_)) => Err(Why::Other.into()),
    }
}

/// Why no rule would have helped a request that failed.
fn failed(entry: &Entry<'_>, reason: Option<Reason>, target: &Target) -> NoRule {
    let found = match reason {
        Some(Reason::DnsNoSuchName) => unknown_to_dns(target),
        Some(Reason::Loop) => Some(itself(target)),
        Some(reason) => match reason.class() {
            Class::Lookup => no_proxy(&target.host),
            Class::Address => no_proxy(&target.host).filter(|found| found.why.is_certain()),
            _ => None,
        },
        None => None,
    };
    found.map_or_else(|| why(entry).unwrap_or(Why::Other).into(), NoRule::NoProxy)
}

/// The scheme of the rule that decided. A rule whose text names none may be of any: a tunnel to a name by `https` has
/// shown a server name.
fn rule_scheme(entry: &Entry<'_>, target: &Target) -> Option<Scheme> {
    entry.rule?;
    Some(match (target.method, written_scheme(entry)) {
        (Method::Http, _) => Scheme::Http,
        (Method::Connect, Some(scheme)) => scheme,
        (Method::Connect, None) if entry.sni.is_some() => Scheme::Https,
        (Method::Connect, None) => Scheme::Tcp,
    })
}

/// The scheme that the rule's text names.
fn written_scheme(entry: &Entry<'_>) -> Option<Scheme> {
    let rule = entry.rule?.decoded();
    rule.split_once("://").and_then(|(scheme, _)| Scheme::parse(scheme))
}

fn span(first: &mut Option<i64>, last: &mut Option<i64>, time: Option<i64>) {
    let Some(time) = time else { return };
    *first = Some(first.map_or(time, |first| first.min(time)));
    *last = Some(last.map_or(time, |last| last.max(time)));
}

fn keep(list: &mut Vec<IpAddr>, more: &mut bool, most: usize, address: IpAddr) {
    if list.contains(&address) {
        return;
    }
    if list.len() < most {
        list.push(address);
    } else {
        *more = true;
    }
}

impl Seen {
    /// Times, client and addresses of one line.
    fn saw(&mut self, entry: &Entry<'_>, port: Port, private: &[IpNet]) {
        span(&mut self.first, &mut self.last, entry.time);
        if let Some(client) = entry.client_ip() {
            keep(&mut self.clients, &mut self.more_clients, CLIENTS, client);
        }
        // With another port, it is the address of a parent proxy.
        let dialled = entry.upstream_address().filter(|upstream| upstream.port() == port.get());
        let dialled = dialled.map(|upstream| upstream.ip());
        let dialled =
            dialled.filter(|ip| address::prohibited(*ip, &[]).is_some() && address::never(*ip).is_none());
        for ip in private.iter().map(IpNet::addr).chain(dialled) {
            keep(&mut self.addresses, &mut self.more_addresses, ADDRESSES, ip);
        }
    }

    fn kind(&self) -> Option<Kind> {
        match (self.passed, self.would_deny, self.denied) {
            // The log has the requests and not the tunnel.
            (0, 0, 0) => self.inside.kind(),
            (0, 0, _) => Some(Kind::Denied),
            (0, ..) => Some(Kind::WouldDeny),
            _ => Some(Kind::Passed),
        }
    }

    fn merge(&mut self, other: &Seen) {
        self.passed += other.passed;
        self.would_deny += other.would_deny;
        self.denied += other.denied;
        span(&mut self.first, &mut self.last, other.first);
        span(&mut self.first, &mut self.last, other.last);
        self.more_clients |= other.more_clients;
        self.more_addresses |= other.more_addresses;
        for client in &other.clients {
            keep(&mut self.clients, &mut self.more_clients, CLIENTS, *client);
        }
        for address in &other.addresses {
            keep(&mut self.addresses, &mut self.more_addresses, ADDRESSES, *address);
        }
        self.reason = self.reason.or(other.reason);
    }
}
