//! The rules for one client: each a line, in the order in which they are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;

use super::inside;
use super::kind::Kind;
use super::seen::{Seen, Wanted};
use crate::rules::offer::{NO_TLS_SHOWN, needs_description, rule_text};
use crate::rules::{Ports, RuleOptions, Scheme};
use crate::words::small_sort::SmallSort as _;
use crate::words::target::{Host, Port};

/// The `description` of a `tcp` rule that needs one, if it is based on rules.
const NO_TLS_ASKED: &str =
    "a rule that asks for no TLS let it through: what its tunnels carry is not in the log";

/// One rule to write: a host, and adjacent ports that were seen with it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) wanted: Wanted,
    last_port: u16,
    pub(super) seen: Seen,
    /// For the requests inside its tunnels.
    pub(super) entries: Vec<inside::Seen>,
    /// Tunnels beside them that a `tcp` rule let through.
    pub(super) unopened: u64,
}

/// The rules for what one client asked for, sorted by kind and name; adjacent ports are joined. `denied`: for what was denied,
/// too. `is_plain`: whether plain requests were seen inside the tunnels to a target.
pub(super) fn lines<'s>(
    seen: impl Iterator<Item = (&'s Wanted, &'s Seen)>,
    denied: bool,
    is_plain: impl Fn(&Wanted) -> bool,
) -> Vec<Line> {
    let mut all: BTreeMap<(String, Port, &'static str), Line> = BTreeMap::new();
    for (wanted, seen) in seen {
        let Some(kind) = seen.kind() else { continue };
        let scheme = if wanted.unsure && is_plain(wanted) { Scheme::Http } else { wanted.scheme };
        let wanted = Wanted::new(scheme, wanted.host.clone(), wanted.port);
        let key = (wanted.host.to_string(), wanted.port, scheme.as_str());
        let line = Line {
            kind,
            last_port: wanted.port.get(),
            wanted,
            seen: seen.clone(),
            entries: Vec::new(),
            unopened: 0,
        };
        match all.get_mut(&key) {
            None => drop(all.insert(key, line)),
            Some(same) => same.join(line),
        }
    }
    let mut lines: Vec<Line> = all.into_values().collect();
    // A `tcp` rule also allows what an `https` rule does, and of two rules for one host and port only one would decide.
    let place =
        |line: &Line| (line.wanted.host.to_string(), line.wanted.port, line.wanted.scheme != Scheme::Tcp);
    lines.small_sort_by_cached_key(place);
    lines.dedup_by(|https, tcp| {
        let same = https.wanted.host == tcp.wanted.host && https.wanted.port == tcp.wanted.port;
        let both = same && tcp.wanted.scheme == Scheme::Tcp && https.wanted.scheme == Scheme::Https;
        if both {
            tcp.take_in(https);
        }
        both
    });
    lines.retain(|line| denied || line.kind != Kind::Denied);
    let place =
        |line: &Line| (line.kind, reversed(&line.wanted.host), line.wanted.scheme.as_str(), line.wanted.port);
    lines.small_sort_by_cached_key(place);
    lines.dedup_by(|next, row| {
        let (one, other) = (&row.wanted, &next.wanted);
        let same = one.scheme == other.scheme && one.host == other.host && row.kind == next.kind;
        let is_simple = |seen: &Seen| seen.addresses.is_empty() && !seen.is_inspected();
        let simple = is_simple(&row.seen) && is_simple(&next.seen);
        let joined = same && simple && row.last_port.checked_add(1) == Some(other.port.get());
        if joined {
            row.last_port = next.last_port;
            row.seen.merge(&next.seen);
        }
        joined
    });
    for line in &mut lines {
        line.entries = line.seen.inside.take().map_or_else(Vec::new, |inside| {
            let entries = inside.entries(denied);
            line.seen.inside = Some(inside);
            entries
        });
    }
    lines
}

impl Line {
    /// Adds the same rule, by another line of the log.
    fn join(&mut self, other: Line) {
        self.kind = self.kind.min(other.kind);
        self.seen.merge(&other.seen);
        if self.seen.inside.is_none() {
            self.seen.inside = other.seen.inside;
        }
    }

    /// A `tcp` rule takes in the `https` rule for the same host and port, or becomes it.
    fn take_in(&mut self, https: &mut Line) {
        // A client that sends something else through a tunnel that passes as TLS must not widen its rule, and beside a rule
        // that inspects none may pass a tunnel unopened.
        let stays_tls = self.kind == Kind::Denied && https.kind != Kind::Denied || https.seen.is_inspected();
        if https.seen.is_inspected() {
            self.unopened = self.seen.passed;
        }
        // Where no rule opened it, that is what is told of the line: it opens more than what passed as TLS.
        self.kind = if stays_tls { self.kind.min(https.kind) } else { self.kind };
        if stays_tls {
            self.wanted.scheme = Scheme::Https;
        }
        self.seen.merge(&https.seen);
        self.seen.inside = https.seen.inside.take();
    }

    /// The text of the rule; https at its own port is left out.
    pub(super) fn rule(&self) -> String {
        let Wanted { scheme, host, .. } = &self.wanted;
        let ports = self.ports();
        let text = rule_text(*scheme, host, ports);
        match text.strip_prefix("https://") {
            Some(host) if ports == Port::HTTPS.into() => host.to_owned(),
            _ => text,
        }
    }

    fn ports(&self) -> Ports {
        let low = self.wanted.port;
        Ports { low, high: Port::new(self.last_port).unwrap_or(low) }
    }

    /// The options of the rule besides `requests`.
    pub(super) fn options(&self) -> String {
        let Wanted { scheme, host, .. } = &self.wanted;
        let words = if self.kind == Kind::Passed { NO_TLS_ASKED } else { NO_TLS_SHOWN };
        let description = needs_description(*scheme, host, self.ports()).then(|| words.into());
        let private = self.seen.addresses.iter().map(|ip| IpNet::from(*ip)).collect();
        RuleOptions { description, private, ..RuleOptions::default() }.to_yaml()
    }

    /// Equal for lines that mean the same and have the same cause.
    pub(super) fn identity(&self) -> String {
        // Two clients may have been sent to the same addresses in another order.
        let mut private = self.seen.addresses.clone();
        private.small_sort();
        let mut text = format!("{:?} {} {private:?}", self.kind, self.rule());
        for inside::Seen { kind, entry, unknown, .. } in &self.entries {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{kind:?} {entry} {unknown:?}");
        }
        text
    }

    /// Adds the same line of another client.
    pub(super) fn merge(&mut self, other: &Line) {
        self.seen.merge(&other.seen);
        self.unopened += other.unopened;
        for (entry, other) in self.entries.iter_mut().zip(&other.entries) {
            entry.count += other.count;
        }
    }

    /// Why no rule can be written for a target whose tunnels were inspected, and of whose requests none is to pass.
    pub(super) fn without_entry(&self) -> Option<String> {
        let none = self.entries.is_empty() && self.seen.is_inspected();
        none.then(|| format!("{}: its tunnels were inspected, and no request inside passed", self.rule()))
    }
}

/// `com.example.www`: so the names of one domain are sorted together.
fn reversed(host: &Host) -> String {
    match host {
        Host::Name(name) => name.as_str().rsplit('.').collect::<Vec<_>>().join("."),
        Host::Address(_) => host.to_string(),
    }
}
