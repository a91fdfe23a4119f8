//! Which rules match the host of a request, and which of them is first.
//!
//! Any matching `deny` rule decides. Otherwise only the most specific of the matching `allow` rules decides:
//!
//! 1. first an exact name (an exact address); then a pattern with a `*` inside, more literal characters first; then the
//!    longer suffix (the longer prefix). `*.x` and `.x` are suffixes of the same length, and `.x` is a suffix for `x`
//!    itself too;
//! 2. then narrower ports; a missing port is as narrow as a written one;
//! 3. then a rule in the configuration before a rule in a file; then the order in which they were written.
//!
//! If several `deny` rules match, the same order says which one is reported. Before its first byte, a CONNECT can still
//! become `https` or `tcp`, so in `deny` both `https://` and `tcp://` mean every CONNECT. For a rule that allows both
//! schemes on one port, [`Scheme::presumed`] says which one is used.
//!
//! `http` rules carry a CONNECT too, but are asked for it only if no `https` or `tcp` rule allows it; then a `deny` of
//! `http://` counts, which does not count for a CONNECT otherwise.
//!
//! A rule that looks at each request (`inspect` of an `https` rule, `requests` or `headers` of an `http` rule) comes before
//! every rule that does not, whatever is more specific: where one matches host and port, no other rule lets the same bytes
//! through unseen. That holds after it expired too: then the request is denied.
//!
//! An address is compared by what it reaches: IPv4-mapped IPv6 as IPv4 for every rule, and for `deny` also every IPv4
//! address that a translator or tunnel may extract from it (NAT64, 6to4, Teredo …).

use std::net::IpAddr;

use jiff::Timestamp;

use super::address::embedded_v4;
use super::labels::Hit;
use super::names::suffixes;
use super::policy::Policy;
use super::rule::{Ports, Scheme};
use super::store::{Kind, NONE, Rule, RuleId};
use super::view::RuleView;
use crate::words::outcome::Reason;
use crate::words::target::{Host, Method, Name, Port, Target};

/// How far an `allow` rule that matches the host also matches the request.
enum Fit {
    Fits(Scheme),
    /// An `http` rule for a CONNECT: asked only if no other rule fits.
    Carries,
    OtherPort,
    /// The rule is for another method; `port_fits` says whether its port matches.
    OtherWay {
        port_fits: bool,
    },
}

/// Why the rule that comes nearest to a denied request does not allow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wrong {
    /// It is a `deny` rule.
    Denies,
    /// It has expired.
    Expired,
    /// It is for another method.
    OtherWay,
    /// It is for another port.
    OtherPort,
}

impl Wrong {
    pub(super) fn reason(self) -> Reason {
        match self {
            Wrong::Denies => Reason::HostDenied,
            Wrong::Expired => Reason::RuleExpired,
            Wrong::OtherWay => Reason::SchemeNotAllowed,
            Wrong::OtherPort => Reason::PortNotAllowed,
        }
    }
}

/// The first rule of each kind, in the order of precedence.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Found {
    pub(super) deny: Option<RuleId>,
    pub(super) allow: Option<(RuleId, Scheme)>,
    /// Would allow, but has expired.
    pub(super) expired: Option<RuleId>,
    /// The port matches, the method does not.
    pub(super) other_way: Option<RuleId>,
    /// The method matches, the port does not.
    pub(super) other_port: Option<RuleId>,
    /// Neither matches.
    pub(super) neither: Option<RuleId>,
    /// One of them or neither matches, and the rule has expired.
    pub(super) gone: Option<RuleId>,
    /// The `http` rules that match a CONNECT, until [`Found::settled`].
    carried: Carried,
    /// The rules that match and look at each request, until [`Found::settled`]; then the expired one that denies, with its
    /// scheme.
    looking: Looking,
}

/// The first rule that looks at each request, of each kind.
#[derive(Clone, Copy, Default, Debug)]
struct Looking {
    allow: Option<(RuleId, Scheme)>,
    /// An `http` rule for a CONNECT.
    carried: Option<RuleId>,
    expired: Option<(RuleId, Scheme)>,
    /// An `http` rule for a CONNECT.
    carried_expired: Option<RuleId>,
}

/// The first `http` rule of each kind for a CONNECT.
#[derive(Clone, Copy, Default, Debug)]
struct Carried {
    deny: Option<RuleId>,
    allow: Option<RuleId>,
    expired: Option<RuleId>,
}

impl Looking {
    fn expired(&self) -> Option<(RuleId, Scheme)> {
        self.expired.or(self.carried_expired.map(|rule| (rule, Scheme::Http)))
    }
}

impl Found {
    /// The rules of `self`, and those of `weaker` where `self` has none.
    fn before(self, weaker: Found) -> Found {
        Found {
            deny: self.deny.or(weaker.deny),
            allow: self.allow.or(weaker.allow),
            expired: self.expired.or(weaker.expired),
            other_way: self.other_way.or(weaker.other_way),
            other_port: self.other_port.or(weaker.other_port),
            neither: self.neither.or(weaker.neither),
            gone: self.gone.or(weaker.gone),
            carried: Carried {
                deny: self.carried.deny.or(weaker.carried.deny),
                allow: self.carried.allow.or(weaker.carried.allow),
                expired: self.carried.expired.or(weaker.carried.expired),
            },
            looking: Looking {
                allow: self.looking.allow.or(weaker.looking.allow),
                carried: self.looking.carried.or(weaker.looking.carried),
                expired: self.looking.expired.or(weaker.looking.expired),
                carried_expired: self.looking.carried_expired.or(weaker.looking.carried_expired),
            },
        }
    }

    /// Whether any rule matches the host, whatever its port, its method and its expiry.
    pub(super) fn names_host(&self) -> bool {
        // What looks is among `allow`, `expired` and `carried` too.
        let Found { deny, allow, expired, other_way, other_port, neither, gone, carried, looking: _ } = *self;
        let allow = allow.map(|(rule, _)| rule);
        let of_connect = [carried.deny, carried.allow, carried.expired];
        let all = [deny, allow, expired, other_way, other_port, neither, gone];
        all.iter().chain(&of_connect).any(Option::is_some)
    }

    /// The expired rule that looks at each request, where it denies because of that.
    pub(super) fn blinded(&self) -> Option<(RuleId, Scheme)> {
        self.looking.expired().filter(|_| self.allow.is_none())
    }

    /// Asks the `http` rules for a CONNECT that no other rule allows, and passes over the rules that do not look where one
    /// does.
    fn settled(self) -> Found {
        let Carried { deny, allow, expired } = self.carried;
        let mut found = self;
        let Looking { allow: looks, carried: looks_inside, .. } = self.looking;
        let looked = self.looking.expired();
        if looks.is_some() || looks_inside.is_some() || looked.is_some() {
            let inside = looks_inside.map(|rule| (rule, Scheme::Http));
            found.allow = looks.or(inside);
            found.expired = looked.map(|(rule, _)| rule);
            let is_inside = looks.is_none() && inside.is_some();
            found.deny = found.deny.or(deny.filter(|_| is_inside));
            return found;
        }
        if found.allow.is_none() {
            found.allow = allow.map(|rule| (rule, Scheme::Http));
            found.deny = found.deny.or(deny.filter(|_| allow.is_some()));
        }
        found.expired = found.expired.or(expired);
        found
    }

    /// The rule that explains a denial, and why it does not allow. `None`: allowed, or no rule matches the host.
    pub(super) fn denial(&self) -> Option<(Wrong, RuleId)> {
        if let Some(deny) = self.deny {
            return Some((Wrong::Denies, deny));
        }
        let expired = self.expired.map(|rule| (Wrong::Expired, rule));
        let other_way = self.other_way.map(|rule| (Wrong::OtherWay, rule));
        let other_port = self.other_port.map(|rule| (Wrong::OtherPort, rule));
        let neither = self.neither.map(|rule| (Wrong::OtherWay, rule));
        expired.or(other_way).or(other_port).or(neither)
    }
}

impl Policy {
    /// Every rule that matches a name, whatever its ports, its method and its expiry, as written: found as a decision finds them.
    pub fn rules_for(&self, name: &Name) -> impl Iterator<Item = RuleView<'_>> {
        let name = name.as_str();
        let mut found: Vec<RuleId> = Vec::new();
        let mut hits: Vec<Hit> = Vec::new();
        for (start, hash) in suffixes(name) {
            let suffix = &name[start..];
            let head = self.names.find(hash, |id| self.store.name(id) == suffix).unwrap_or(NONE);
            let fits = |rule: &Rule| match rule.kind() {
                Kind::Exact => start == 0,
                Kind::UnderOrSelf => true,
                Kind::Under => start > 0,
                Kind::Labels | Kind::Address => false,
            };
            found.extend(self.store.chain(head).filter(|(_, rule)| fits(rule)).map(|(id, _)| id));
            self.labels.find(name, start, hash, &self.store, &mut hits);
        }
        found.extend(hits.iter().map(|hit| hit.rule));
        found.sort_unstable();
        found.into_iter().map(|id| self.view(id))
    }

    /// Weighs every rule that matches the host and keeps the first of each kind.
    pub(super) fn search(&self, target: &Target, now: Timestamp) -> Found {
        let found = match &target.host {
            Host::Name(name) => self.search_name(name.as_str(), target, now),
            Host::Address(address) => self.search_address(*address, target, now),
        };
        found.settled()
    }

    fn search_name(&self, name: &str, target: &Target, now: Timestamp) -> Found {
        let mut found = Found::default();
        let mut hits: Vec<Hit> = Vec::new();
        let mut exact = Found::default();
        for (start, hash) in suffixes(name) {
            let suffix = &name[start..];
            if let Some(head) = self.names.find(hash, |id| self.store.name(id) == suffix) {
                let mut suffixes = Found::default();
                for (id, rule) in self.store.chain(head) {
                    match rule.kind() {
                        Kind::Exact if start == 0 => self.weigh(id, rule, target, now, &mut exact),
                        Kind::UnderOrSelf => self.weigh(id, rule, target, now, &mut suffixes),
                        Kind::Under if start > 0 => self.weigh(id, rule, target, now, &mut suffixes),
                        _ => {}
                    }
                }
                found = suffixes.before(found); // this suffix is longer than all before
            }
            if !self.labels.is_empty() {
                self.labels.find(name, start, hash, &self.store, &mut hits);
            }
        }
        if !hits.is_empty() {
            hits.sort_unstable();
            let mut patterns = Found::default();
            for hit in hits {
                self.weigh(hit.rule, self.store.rule(hit.rule), target, now, &mut patterns);
            }
            found = patterns.before(found);
        }
        exact.before(found)
    }

    fn search_address(&self, address: IpAddr, target: &Target, now: Timestamp) -> Found {
        let mut found = Found::default();
        for head in self.networks.holding(address.to_canonical()) {
            for (id, rule) in self.store.chain(head) {
                self.weigh(id, rule, target, now, &mut found);
            }
        }
        if found.deny.is_none() {
            found.deny = self.denied_address(address, target.method, target.port);
        }
        if found.carried.allow.is_some() && found.carried.deny.is_none() {
            found.carried.deny = self.denied_address(address, Method::Http, target.port);
        }
        found
    }

    /// The `deny` rule for an address, which was written or looked up, or for the IPv4 address inside it.
    pub(super) fn denied_address(&self, address: IpAddr, method: Method, port: Port) -> Option<RuleId> {
        if self.denied_networks == 0 {
            return None;
        }
        let address = address.to_canonical();
        let inside = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(embedded_v4(v6).map(IpAddr::V4)),
        };
        let reached = std::iter::once(address).chain(inside.into_iter().flatten());
        reached
            .flat_map(|address| self.networks.holding(address))
            .flat_map(|head| self.store.chain(head))
            .find(|(_, rule)| rule.is_deny() && denies(rule, method, port))
            .map(|(id, _)| id)
    }

    /// Records a rule that matches the host as the first of its kind, if there is none yet.
    fn weigh(&self, id: RuleId, rule: &Rule, target: &Target, now: Timestamp, found: &mut Found) {
        if rule.is_deny() {
            if denies(rule, target.method, target.port) {
                found.deny.get_or_insert(id);
            } else if target.method == Method::Connect && denies(rule, Method::Http, target.port) {
                found.carried.deny.get_or_insert(id);
            }
            return;
        }
        let fit = fit(rule, target.method, target.port);
        let expired = self.expires(rule).is_some_and(|moment| now >= moment);
        match fit {
            Fit::Fits(scheme) if self.looks(rule, scheme) => {
                let looking = &mut found.looking;
                let place = if expired { &mut looking.expired } else { &mut looking.allow };
                place.get_or_insert((id, scheme));
            }
            Fit::Carries if self.looks(rule, Scheme::Http) => match expired {
                true => {
                    found.looking.carried_expired.get_or_insert(id);
                }
                false => {
                    found.looking.carried.get_or_insert(id);
                }
            },
            Fit::Fits(_) | Fit::Carries | Fit::OtherPort | Fit::OtherWay { .. } => {}
        }
        let place = match fit {
            Fit::Fits(scheme) if !expired => {
                found.allow.get_or_insert((id, scheme));
                return;
            }
            Fit::Fits(_) => &mut found.expired,
            Fit::Carries if !expired => &mut found.carried.allow,
            Fit::Carries => &mut found.carried.expired,
            _ if expired => &mut found.gone,
            Fit::OtherPort => &mut found.other_port,
            Fit::OtherWay { port_fits: true } => &mut found.other_way,
            Fit::OtherWay { port_fits: false } => &mut found.neither,
        };
        place.get_or_insert(id);
    }
}

/// The ports on which an `allow` rule allows `scheme`.
pub(super) fn ports_for(rule: &Rule, scheme: Scheme) -> Option<Ports> {
    rule.ports().or_else(|| scheme.default_port().map(Ports::from))
}

fn fit(rule: &Rule, method: Method, port: Port) -> Fit {
    let fits = |scheme: &Scheme| ports_for(rule, *scheme).is_some_and(|ports| ports.contains(port));
    let schemes = rule.schemes();
    let presumed = Scheme::presumed(method, port);
    if schemes.contains(presumed) && fits(&presumed) {
        return Fit::Fits(presumed);
    }
    let mut ways = schemes.iter().filter(|scheme| scheme.method() == method).peekable();
    let no_way = ways.peek().is_none();
    if let Some(scheme) = ways.find(fits) {
        return Fit::Fits(scheme);
    }
    if method == Method::Connect && schemes.contains(Scheme::Http) && fits(&Scheme::Http) {
        return Fit::Carries;
    }
    match no_way {
        true => Fit::OtherWay { port_fits: schemes.iter().any(|scheme| fits(&scheme)) },
        false => Fit::OtherPort,
    }
}

/// Whether a `deny` rule that matches the host is for this method and this port.
fn denies(rule: &Rule, method: Method, port: Port) -> bool {
    rule.ports().is_none_or(|ports| ports.contains(port))
        && rule.schemes().iter().any(|scheme| scheme.method() == method)
}
