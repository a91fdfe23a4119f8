//! Makes the shortest exact allowlist that would have allowed the recorded requests.
//!
//! Exact: every rule names one host, one scheme and the ports that were seen. A pattern is never written. If one would match
//! many names, a comment says so, with the lint's warnings about it. A request that failed for a cause other than the rules
//! (DNS, the path to the target, the ClientHello) is left out, and a comment says so. The names in a log are chosen by
//! clients, so the output separates what was let through, what only report mode let through, and what was denied.
//!
//! Memory is bounded: only so many distinct targets of each kind are kept; the rest is counted and reported.
//! Not here: how a log is read ([`crate::commands::logs`]).

mod arguments;
mod clients;
mod render;
#[cfg(test)]
mod tests;
mod wide;

pub(crate) use arguments::Suggest;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use self::clients::Clients;
use crate::commands::logs::{Entry, Stands, Text};
use crate::rules::{Scheme, address};
use crate::telemetry::record::{Cause, Event};
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

/// How the requests to a target ended so far. The target is of the first of these kinds that one of its requests has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A rule let it through.
    Passed,
    /// Only report mode let it through; enforce mode would not.
    WouldDeny,
    /// It was denied.
    Denied,
}

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
}

/// Why a request is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It was refused or failed, and no rule would have helped.
    Failed(Cause),
    /// The `doctor` command sent it.
    Doctor,
    /// The log's reason is not one of egressd's: a log may contain any word.
    Other,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Why::Failed(cause) => cause.as_str(),
            Why::Doctor => "doctor",
            Why::Other => "other",
        }
    }
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
    /// The clients, by kind.
    clients: [Clients; 3],
    requests: u64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Suggestion {
    /// Nothing added yet.
    pub fn new() -> Self {
        Suggestion::default()
    }

    /// Adds what one line of a log says.
    pub fn add(&mut self, entry: &Entry<'_>) {
        let stands = entry.stands();
        if stands == Stands::More {
            return;
        }
        if stands != Stands::Withdrawn {
            self.requests += 1;
            span(&mut self.first, &mut self.last, entry.time);
        }
        let Some(target) = entry.asked() else {
            self.leave_out(why(entry).unwrap_or(Why::Failed(Reason::BadTarget.into())), None);
            return;
        };
        if matches!(&target.host, Host::Name(name) if name.as_str() == PROBE) {
            self.leave_out(Why::Doctor, None);
            return;
        }
        match wanted(entry, stands, &target) {
            Ok((kind, wanted)) => self.want(entry, kind, wanted),
            Err(why) => {
                if stands == Stands::Withdrawn {
                    self.take_back(&target);
                }
                self.leave_out(why, Some(&target));
            }
        }
    }

    fn want(&mut self, entry: &Entry<'_>, kind: Kind, wanted: Wanted) {
        let most = if kind == Kind::Passed { MOST } else { MOST / 2 };
        let index = kind as usize;
        if !self.seen.contains_key(&wanted) {
            match self.kept.get_mut(index) {
                Some(kept) if *kept < most => *kept += 1,
                _ => {
                    if let Some(count) = self.not_kept.get_mut(index) {
                        *count += 1;
                    }
                    return;
                }
            }
        }
        let dialled = entry.upstream_address().filter(|upstream| upstream.port() == wanted.port.get());
        let written = match wanted.host {
            Host::Address(address) => Some(address),
            Host::Name(_) => None,
        };
        let seen = self.seen.entry(wanted).or_default();
        match kind {
            Kind::Passed => seen.passed += 1,
            Kind::WouldDeny => seen.would_deny += 1,
            Kind::Denied => seen.denied += 1,
        }
        if kind != Kind::Passed {
            seen.reason = reason(entry);
        }
        span(&mut seen.first, &mut seen.last, entry.time);
        if let Some(client) = entry.client_ip() {
            keep(&mut seen.clients, &mut seen.more_clients, CLIENTS, client);
            if let Some(clients) = self.clients.get_mut(index) {
                clients.add(client);
            }
        }
        // With another port, it is the address of a parent proxy.
        let private = dialled.map(|upstream| upstream.ip()).or(written);
        let private =
            private.filter(|ip| address::prohibited(*ip, &[]).is_some() && address::never(*ip).is_none());
        if let Some(ip) = private {
            keep(&mut seen.addresses, &mut seen.more_addresses, ADDRESSES, ip);
        }
    }

    /// A tunnel that had been counted as passed was refused after its first ClientHello.
    fn take_back(&mut self, target: &Target) {
        for scheme in [Scheme::Https, Scheme::Tcp] {
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
fn wanted(entry: &Entry<'_>, stands: Stands, target: &Target) -> Result<(Kind, Wanted), Why> {
    let kind = match (stands, entry.event) {
        (Stands::Passed, _) if entry.decided(Decision::WouldDeny) => Kind::WouldDeny,
        (Stands::Passed, _) => Kind::Passed,
        (Stands::Refused, Some(Event::Deny)) => Kind::Denied,
        _ => return Err(why(entry).unwrap_or(Why::Other)),
    };
    let help = reason(entry).map(help);
    let helps = match kind {
        Kind::Passed => true,
        Kind::WouldDeny => help != Some(Help::NoRule),
        Kind::Denied => help == Some(Help::Rule),
    };
    if !helps {
        return Err(why(entry).unwrap_or(Why::Other));
    }
    if let Host::Address(address) = target.host
        && address::never(address).is_some()
    {
        // The address of a cloud's credentials: no rule opens it.
        return Err(Why::Failed(Reason::AddressProhibited.into()));
    }
    let scheme = match (target.method, &target.host) {
        (Method::Http, _) => Scheme::Http,
        // No ClientHello names an address.
        (Method::Connect, Host::Address(_)) => Scheme::Tcp,
        (Method::Connect, Host::Name(name)) => match (entry.sni.map(Text::decoded), rule_scheme(entry)) {
            (Some(sni), _) if !sni.trim_end_matches('.').eq_ignore_ascii_case(name.as_str()) => {
                return Err(Why::Failed(Reason::SniMismatch.into()));
            }
            (Some(_), _) => Scheme::Https,
            (None, Some(scheme)) if kind == Kind::Passed => scheme,
            // Report mode looked for a ClientHello and found none.
            (None, _) if kind == Kind::WouldDeny => Scheme::Tcp,
            // The proxy treats a CONNECT that no rule matches in the same way.
            (None, _) if target.port == Port::HTTPS => Scheme::Https,
            (None, _) => Scheme::Tcp,
        },
    };
    Ok((kind, Wanted { scheme, host: target.host.clone(), port: target.port }))
}

/// The scheme of the rule that let a tunnel through.
fn rule_scheme(entry: &Entry<'_>) -> Option<Scheme> {
    let rule = entry.rule?.decoded();
    Some(if rule.starts_with("tcp://") { Scheme::Tcp } else { Scheme::Https })
}

fn reason(entry: &Entry<'_>) -> Option<Reason> {
    Reason::from_word(entry.reason?.raw())
}

/// Why it did not pass, according to the log.
fn why(entry: &Entry<'_>) -> Option<Why> {
    Some(Cause::from_word(entry.reason?.raw()).map_or(Why::Other, Why::Failed))
}

/// What would have helped a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Help {
    /// An `allow` rule.
    Rule,
    /// Not a rule: it needs something else, with or without an `allow` rule.
    NoRule,
    /// The reason says nothing about the rules: it came before them, or after.
    Unknown,
}

fn help(reason: Reason) -> Help {
    match reason.class() {
        Class::NotListed | Class::Expired => Help::Rule,
        Class::Denied | Class::NoTls | Class::ServerName | Class::Hello => Help::NoRule,
        Class::Connection
        | Class::Form
        | Class::Challenge
        | Class::Credentials
        | Class::Client
        | Class::Upload
        | Class::Address
        | Class::Certificate
        | Class::TargetNotTls
        | Class::Rate
        | Class::ClientLimit
        | Class::Limit
        | Class::Lookup
        | Class::Connect
        | Class::Upstream
        | Class::Resources
        | Class::Service => Help::Unknown,
    }
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
    fn kind(&self) -> Option<Kind> {
        match (self.passed, self.would_deny, self.denied) {
            (0, 0, 0) => None,
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
