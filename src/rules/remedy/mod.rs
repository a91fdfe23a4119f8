//! What would allow a denied request: the narrowest rule, and where to write it; or why no rule is the answer.
//!
//! The rule is for exactly the requested host and port ([`crate::rules::offer`]), and is proposed only if a rule is the
//! answer: for a `deny` rule or an expired rule, its owner has to decide, and some targets belong into the client's
//! `no_proxy`. The policy in force decides, not the one that denied, so that the answer says if the list was fixed in
//! the meantime. Not here: the shortest list for a whole log ([`crate::commands::suggest`]).

mod recorded;
#[cfg(test)]
mod tests;
mod written;

use jiff::Timestamp;

pub use self::recorded::Recorded;
use self::written::{Written, written};
use crate::rules::advice::SEND_NAMES;
use crate::rules::http_request::judge;
use crate::rules::no_proxy::{self, no_proxy};
use crate::rules::offer::{Inside, NoOffer, Offer, entry, offer, to_open};
use crate::rules::options::{Ech, RuleOptions};
use crate::rules::rule::Scheme;
use crate::rules::{Denial, HttpRequest, MatchedRule, Permit, Policies, Policy, Upgrade};
use crate::words::outcome::{Class, Decision, Reason};
use crate::words::target::{Host, Method, Name, Target};

/// What to do about one denial.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Remedy {
    /// The policy in force allows it now.
    pub allowed_now: bool,
    /// What to write under `allow`; none if no rule is the answer.
    pub rule: Option<String>,
    /// The options that the rule needs, as in a YAML flow mapping: `private: ["10.1.2.3/32"]`.
    pub options: Option<String>,
    /// Whether the rule has to come first under `allow`: an equally specific rule decides now.
    pub first: bool,
    /// What to write under `requests` of this rule instead.
    pub entry: Option<NewEntry>,
    /// One line that a person can act on; none if the reason says enough.
    pub advice: Option<String>,
    /// What to consider before the rule is added: what `check` would warn of, and what the rule cannot check.
    pub warnings: Vec<String>,
}

/// An entry of `requests` that a rule lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewEntry {
    /// As in YAML, in one line.
    pub entry: Box<str>,
    /// The rule's text, and its file and line.
    pub rule: Option<MatchedRule>,
}

impl Remedy {
    fn told(advice: String) -> Self {
        Remedy { advice: Some(advice), ..Remedy::default() }
    }

    /// The line to paste into a YAML list.
    pub fn line(&self) -> Option<String> {
        if let Some(NewEntry { entry, .. }) = &self.entry {
            return Some(format!("- {entry}"));
        }
        let rule = self.rule.as_ref()?;
        Some(format!("- {}", entry(rule, self.options.as_deref().unwrap_or_default())))
    }
}

impl From<Written> for Remedy {
    fn from(Written { rule, options, warnings }: Written) -> Self {
        Remedy { rule: Some(rule), options, warnings, ..Remedy::default() }
    }
}

/// One denial, as it was recorded.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    /// The policy that decided.
    pub policy: Option<&'a str>,
    /// Why.
    pub reason: Reason,
    /// What the client asked for.
    pub target: &'a Target,
    /// What its tunnel carried, if it passed in report mode.
    pub inside: Inside,
    /// The request, if a rule allows the connection and not this request on it.
    pub request: Option<DeniedRequest<'a>>,
}

/// A request on a connection that a rule allows.
#[derive(Clone, Copy, Debug)]
pub struct DeniedRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, as it was sent.
    pub path: &'a str,
    /// Whether it came inside a tunnel.
    pub within: bool,
    /// The entry that was offered when it was refused, where what decides is not its method and its path.
    pub offered: Option<&'a str>,
}

impl Policies {
    /// What to do about a CONNECT to an address whose ClientHello named the host `sni`. No rule for the address is the
    /// answer: an `https` rule for it refuses such a hello, and a `tcp` rule looks at none. `None`: it is no such CONNECT.
    pub fn remedy_for_own_lookup(
        &self,
        policy: Option<&str>,
        target: &Target,
        sni: Option<&str>,
        now: Timestamp,
    ) -> Option<Remedy> {
        let (Method::Connect, Host::Address(_)) = (target.method, &target.host) else { return None };
        let name = Name::parse(sni?).ok()?;
        let by_name = Target { host: Host::Name(name.clone()), ..target.clone() };
        let policy = self.iter().find(|known| policy == Some(&**known.name()));
        let listed = policy
            .and_then(|policy| policy.decide(&by_name, now).ok())
            .is_some_and(|permit| permit.decision == Decision::Allow);
        let then = if listed { "a rule allows that name" } else { "the name needs a rule then" };
        let name = name.as_str();
        Some(Remedy::told(format!("the client looked the name up itself, {name}: {SEND_NAMES}; {then}")))
    }

    /// What would allow what was denied.
    pub fn remedy(&self, denied: Denied<'_>, now: Timestamp) -> Remedy {
        let remedy = self.by_class(denied, now);
        match never_opened(denied.target) {
            // Whatever the rules say, and however the request failed: neither a rule nor an entry would be used.
            Some(why) if remedy.line().is_some() => Remedy::told(why),
            _ => remedy,
        }
    }

    fn by_class(&self, denied: Denied<'_>, now: Timestamp) -> Remedy {
        let Denied { policy, reason, target, inside, request: _ } = denied;
        let Some(name) = policy else { return without_policy(reason) };
        let Some(policy) = self.iter().find(|policy| **policy.name() == *name) else {
            return Remedy::told(format!("there is no policy `{name}` any more"));
        };
        match reason.class() {
            Class::NotListed | Class::Expired | Class::Denied => by_rules(policy, reason, target, inside, now),
            Class::NoTls => {
                let mut remedy = in_place(policy, target, Inside::Other, now);
                if remedy.rule.is_some() {
                    let advice = "the traffic there is not TLS from its first byte; only a tcp rule allows that";
                    remedy.advice = Some(advice.to_owned());
                }
                remedy
            }
            Class::Address => match &target.host {
                Host::Address(_) => in_place(policy, target, inside, now),
                Host::Name(name) => Remedy::told(on_the_way(reason, target).unwrap_or_else(|| {
                    format!(
                        "stderr shows the address that {name} resolves to, with the request's id: if clients should \
                         reach it, add its network to `private` of the rule"
                    )
                })),
            },
            Class::Request => of_request(policy, denied, now),
            Class::ServerName => Remedy::told(match target.host {
                Host::Name(_) => {
                    "the ClientHello must name the host of the CONNECT: check the client; no rule can allow this"
                        .to_owned()
                }
                Host::Address(_) => format!("the client looked the name up itself: {SEND_NAMES}"),
            }),
            Class::Lookup | Class::Upstream => {
                Remedy { advice: on_the_way(reason, target), ..Remedy::default() }
            }
            Class::Connection
            | Class::Form
            | Class::Challenge
            | Class::Credentials
            | Class::Client
            | Class::Upload
            | Class::Hello
            | Class::Inspection
            | Class::Certificate
            | Class::TargetNotTls
            | Class::Rate
            | Class::ClientLimit
            | Class::Limit
            | Class::Connect
            | Class::Resources
            | Class::Service => Remedy::default(),
        }
    }
}

impl Denial {
    /// The advice with the entry to write under `allow`, if that is the answer: the one line of a reply.
    pub fn advice_with_rule(&self, policies: &Policies, target: &Target, now: Timestamp) -> String {
        let policy = policies.iter().find(|policy| self.policy.as_ref() == Some(policy.name()));
        let policy = policy.filter(|_| self.reason.class() == Class::NotListed);
        let offered = policy.and_then(|policy| {
            let listed = policy.search(target, now).names_host();
            offer(target, Inside::Unknown, listed, policy.private()).ok()
        });
        if let Some(entry) = &self.entry {
            if let Some(why) = never_opened(target) {
                return why;
            }
            return format!("{}; to allow it, add `- {entry}` under `requests` of the rule", self.advice);
        }
        let (Some(offer), Some(policy)) = (offered, policy) else { return self.advice.to_string() };
        // Most clients that send an address were given a name, and the rule that helps them is for that name.
        let when = match target.host {
            Host::Address(_) => "only if it is to reach the address itself",
            Host::Name(_) => "to allow it",
        };
        format!(
            "{}; {when}, write `{}` under `allow` of policy `{}`",
            self.advice,
            offer.to_yaml(),
            policy.name()
        )
    }
}

/// Why no rule opens the target, whichever it is.
fn never_opened(target: &Target) -> Option<String> {
    if let Some(found) = no_proxy(&target.host).filter(|found| found.why.is_certain()) {
        return Some(found.to_string());
    }
    let Host::Address(address) = target.host else { return None };
    let why = to_open(address.to_canonical(), &[]).err()?;
    Some(NoOffer::Closed(address, why).to_string())
}

/// The advice about a request that the rules allow and that failed on the way to its target, if the target tells more
/// than the reason.
pub fn on_the_way(reason: Reason, target: &Target) -> Option<String> {
    let advice = |entry: no_proxy::NoProxy| entry.to_string();
    match reason {
        Reason::DnsNoSuchName => no_proxy::unknown_to_dns(target).map(advice),
        Reason::DnsNoAddress | Reason::DnsFailed | Reason::DnsTimeout => no_proxy(&target.host).map(advice),
        Reason::AddressProhibited => match (no_proxy(&target.host), &target.host) {
            (Some(entry), _) if entry.why.is_certain() => Some(advice(entry)),
            (_, Host::Address(address)) => Some(match offer(target, Inside::Unknown, true, &[]) {
                Err(why) => why.to_string(),
                Ok(Offer { private, .. }) if private.is_empty() => format!("a `deny` rule matches {address}"),
                Ok(_) => format!("{address} is not public: only `private` of its rule opens it"),
            }),
            (_, Host::Name(_)) => None,
        },
        Reason::Loop => match target.host {
            Host::Address(_) => Some(no_proxy::itself(target).to_string()),
            Host::Name(_) => None,
        },
        _ => None,
    }
}

/// The remedy if no policy decided.
fn without_policy(reason: Reason) -> Remedy {
    match reason.class() {
        Class::Client => Remedy::told(
            "add the client's network to `clients.networks` of a policy, if it should have access".to_owned(),
        ),
        Class::Connection
        | Class::Form
        | Class::Challenge
        | Class::Credentials
        | Class::NotListed
        | Class::Expired
        | Class::Denied
        | Class::Request
        | Class::Upload
        | Class::Address
        | Class::NoTls
        | Class::ServerName
        | Class::Hello
        | Class::Inspection
        | Class::Certificate
        | Class::TargetNotTls
        | Class::Rate
        | Class::ClientLimit
        | Class::Limit
        | Class::Lookup
        | Class::Connect
        | Class::Upstream
        | Class::Resources
        | Class::Service => Remedy::default(),
    }
}

/// A rule allows the connection: what it lacks under `requests`.
fn of_request(policy: &Policy, denied: Denied<'_>, now: Timestamp) -> Remedy {
    let Denied { reason, target, request, .. } = denied;
    if request.is_none() && reason != Reason::UpgradeNotAllowed {
        // Its path was too long to be kept: whether it came inside a tunnel is not known either.
        return Remedy::default();
    }
    let (method, path, within) = match request {
        Some(DeniedRequest { method, path, within, .. }) => (method, path, within),
        // An upgrade is asked for inside a tunnel alone.
        None => ("GET", "/", true),
    };
    let target = if within { &Target { method: Method::Connect, ..target.clone() } } else { target };
    let Ok(permit) = policy.decide(target, now) else {
        return by_rules(policy, Reason::HostNotAllowed, target, Inside::Unknown, now);
    };
    if reason == Reason::UpgradeNotAllowed && permit.scheme == Scheme::Http && permit.requests.is_none() {
        // It may be any upgrade, and only a tcp rule carries all of them.
        let mut remedy = in_place(policy, target, Inside::Other, now);
        if remedy.rule.is_some() {
            let advice = "only a tcp rule carries every upgrade; for WebSockets alone, `requests: [{upgrade: [websocket]}]` \
                          of the http rule is narrower";
            remedy.advice = Some(advice.to_owned());
        }
        return remedy;
    }
    let upgrade = match reason {
        Reason::UpgradeNotAllowed => Upgrade::Websocket,
        _ => Upgrade::None,
    };
    let asked =
        HttpRequest { method, path, query: None, upgrade, inspected: permit.inspect, recognised: None };
    let unknown = [Reason::GitNotAllowed, Reason::RefNotAllowed, Reason::AccountNotAllowed].contains(&reason);
    match judge(&permit, target, &asked) {
        // What it asked of Git, and by whose credentials, is not in the record of a method and a path.
        _ if unknown => match request.and_then(|request| request.offered) {
            Some(offered) => as_offered(offered, &permit),
            None => Remedy::default(),
        },
        Ok(_) => Remedy { allowed_now: true, ..Remedy::default() },
        Err(objection) => {
            let rule = permit.rule;
            let entry = objection.entry.map(|entry| NewEntry { entry, rule });
            Remedy { entry, advice: Some(objection.advice), ..Remedy::default() }
        }
    }
}

/// The entry that was offered for a request of which no more is known now.
fn as_offered(offered: &str, permit: &Permit) -> Remedy {
    let mut entries = permit.requests.iter().flat_map(|requests| requests.entries());
    if permit.requests.is_none() || entries.any(|entry| entry.to_string() == offered) {
        return Remedy { allowed_now: true, ..Remedy::default() };
    }
    let entry = NewEntry { entry: offered.into(), rule: permit.rule.clone() };
    Remedy { entry: Some(entry), ..Remedy::default() }
}

fn by_rules(policy: &Policy, denied_for: Reason, target: &Target, inside: Inside, now: Timestamp) -> Remedy {
    let (reason, advice) = match policy.decide(target, now) {
        // The rules open the tunnel; what went through it was TLS.
        Ok(permit)
            if permit.scheme == Scheme::Http
                && permit.method == Method::Connect
                && denied_for == Reason::SchemeNotAllowed =>
        {
            let options = policy.search(target, now).allow.and_then(|(id, _)| policy.options_of(id));
            if options.is_some_and(|of| of.given.requests.is_some() || of.given.headers.is_some()) {
                // `check` refuses a rule beside it that looks at less.
                let told = "the tunnel carried TLS, and its http rule looks at each request: no rule beside it lets TLS pass";
                return Remedy::told(told.to_owned());
            }
            let advice = "the tunnel carried TLS, and its http rule allows plain requests".to_owned();
            return Remedy { advice: Some(advice), ..added(policy, target, Inside::Tls, now) };
        }
        Ok(permit) if permit.decision != Decision::WouldDeny => {
            return Remedy { allowed_now: true, ..Remedy::default() };
        }
        // Report mode permits it, but the same rule is missing.
        Ok(permit) => (permit.reason, None),
        Err(denial) => (Some(denial.reason), Some(denial.advice.into())),
    };
    let mut remedy = match reason.map(Reason::class) {
        Some(Class::Denied) => {
            Remedy::told("a `deny` rule matches it, and `deny` wins over every `allow`".to_owned())
        }
        Some(Class::Expired) => Remedy::told("renew `expires` of the rule, or remove that key".to_owned()),
        None
        | Some(
            Class::Connection
            | Class::Form
            | Class::Challenge
            | Class::Credentials
            | Class::Client
            | Class::NotListed
            | Class::Request
            | Class::Upload
            | Class::Address
            | Class::NoTls
            | Class::ServerName
            | Class::Hello
            | Class::Inspection
            | Class::Certificate
            | Class::TargetNotTls
            | Class::Rate
            | Class::ClientLimit
            | Class::Limit
            | Class::Lookup
            | Class::Connect
            | Class::Upstream
            | Class::Resources
            | Class::Service,
        ) => added(policy, target, inside, now),
    };
    remedy.advice = advice.or(remedy.advice);
    remedy
}

/// A rule beside those that there are: none of them allows the request.
fn added(policy: &Policy, target: &Target, inside: Inside, now: Timestamp) -> Remedy {
    let listed = policy.search(target, now).names_host();
    match offer(target, inside, listed, policy.private()) {
        Ok(offer) => written(&offer, RuleOptions::default()).into(),
        Err(why) => Remedy::told(why.to_string()),
    }
}

/// A rule in place of the one that allows the request and cannot serve it: it opens the address, or does not want TLS.
/// It keeps the other options.
fn in_place(policy: &Policy, target: &Target, inside: Inside, now: Timestamp) -> Remedy {
    let found = policy.search(target, now);
    let (None, Some((id, scheme))) = (found.deny, found.allow) else {
        return by_rules(policy, Reason::HostNotAllowed, target, inside, now);
    };
    let options = policy.options_of(id);
    let opened = options.map_or(policy.private(), |options| &options.private);
    let mut offer = match offer(target, inside, true, opened) {
        Ok(offer) => offer,
        Err(why) => return Remedy::told(why.to_string()),
    };
    if inside != Inside::Other {
        offer.scheme = scheme;
    }
    if offer.scheme == scheme && offer.private.is_empty() {
        return Remedy { allowed_now: true, ..Remedy::default() };
    }
    let mut given = options.map(|options| options.given.clone()).unwrap_or_default();
    let text = policy.view(id).text().to_owned();
    if offer.scheme == Scheme::Tcp && (given.inspect || given.requests.is_some() || given.headers.is_some()) {
        // Beside that rule, `check` refuses it, and in its place it would undo what its owner wants.
        return Remedy::told(format!(
            "`{text}` looks at each request, and a tcp rule looks at nothing: no rule can allow this there"
        ));
    }
    if offer.scheme != Scheme::Https {
        given.verify_certificate = false;
        given.ech = Ech::Allow;
    }
    let mut remedy = Remedy::from(written(&offer, given));
    remedy.warnings.push(format!("it decides in place of `{text}` for every request to {target}"));
    remedy.first = true;
    remedy
}
