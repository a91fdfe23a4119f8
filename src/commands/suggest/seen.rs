//! What one rule would name, and what the log says about the requests of one client for it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::inside::Inside;
use super::kind::Kind;
use crate::commands::logs::Entry;
use crate::rules::{Scheme, address};
use crate::words::outcome::Reason;
use crate::words::target::{Host, Port};

/// Most non-public addresses of one target that are shown.
const ADDRESSES: usize = 8;

/// What one rule would name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Wanted {
    pub(super) scheme: Scheme,
    pub(super) host: Host,
    pub(super) port: Port,
    /// The text of the rule that let it pass names no scheme: it is `http` if plain requests were seen inside the tunnels.
    pub(super) unsure: bool,
}

impl Wanted {
    pub(super) fn new(scheme: Scheme, host: Host, port: Port) -> Self {
        Wanted { scheme, host, port, unsure: false }
    }
}

/// What the log says about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) passed: u64,
    pub(super) would_deny: u64,
    pub(super) denied: u64,
    /// Seconds since 1970.
    pub(super) first: Option<i64>,
    pub(super) last: Option<i64>,
    /// The addresses it resolved to that only `private` opens.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) more_addresses: bool,
    /// Why it was, or would be, denied: the last reason.
    pub(super) reason: Option<Reason>,
    /// A line of Squid is among them, which does not say what a tunnel carried.
    pub(super) brief: bool,
    /// The requests inside tunnels to it, if a rule inspects them.
    pub(super) inside: Option<Box<Inside>>,
}

impl Seen {
    /// Times and addresses of one line.
    pub(super) fn saw(&mut self, entry: &Entry<'_>, port: Port, private: &[IpNet]) {
        span(&mut self.first, &mut self.last, entry.time);
        self.brief |= entry.brief;
        // With another port, it is the address of a parent proxy.
        let dialled = entry.upstream_address().filter(|upstream| upstream.port() == port.get());
        let dialled = dialled.map(|upstream| upstream.ip());
        let dialled =
            dialled.filter(|ip| address::prohibited(*ip, &[]).is_some() && address::never(*ip).is_none());
        for ip in private.iter().map(IpNet::addr).chain(dialled) {
            keep(&mut self.addresses, &mut self.more_addresses, ADDRESSES, ip);
        }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        match (self.passed, self.would_deny, self.denied) {
            // The log has the requests and not the tunnel.
            (0, 0, 0) => self.inside.as_ref()?.kind(),
            (0, 0, _) => Some(Kind::Denied),
            (0, ..) => Some(Kind::WouldDeny),
            _ => Some(Kind::Passed),
        }
    }

    /// Whether tunnels to the target were inspected.
    pub(super) fn is_inspected(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| inside.is_inspected())
    }

    /// Adds what was seen elsewhere, but not the requests inside tunnels.
    pub(super) fn merge(&mut self, other: &Seen) {
        self.passed += other.passed;
        self.would_deny += other.would_deny;
        self.denied += other.denied;
        span(&mut self.first, &mut self.last, other.first);
        span(&mut self.first, &mut self.last, other.last);
        self.more_addresses |= other.more_addresses;
        self.brief |= other.brief;
        for address in &other.addresses {
            keep(&mut self.addresses, &mut self.more_addresses, ADDRESSES, *address);
        }
        self.reason = self.reason.or(other.reason);
    }
}

pub(super) fn span(first: &mut Option<i64>, last: &mut Option<i64>, time: Option<i64>) {
    let Some(time) = time else { return };
    *first = Some(first.map_or(time, |first| first.min(time)));
    *last = Some(last.map_or(time, |last| last.max(time)));
}

pub(super) fn keep(list: &mut Vec<IpAddr>, more: &mut bool, most: usize, address: IpAddr) {
    if list.contains(&address) {
        return;
    }
    if list.len() < most {
        list.push(address);
    } else {
        *more = true;
    }
}
