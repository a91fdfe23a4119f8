//! What a policy decides on one request: a permit, or a denial with its reason and advice.
//!
//! A `deny` rule that matches denies. Otherwise only the most specific `allow` rule that matches decides, and permits;
//! [`search`](super::search) finds it. In report mode, a request that only the rules are against is permitted, and the
//! permit says so.
//!
//! Not here: the advice about a denial ([`advice`]), and whether an address may be dialled
//! ([`Policies::admit`](super::Policies::admit)).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use super::advice;
use super::git::GitRule;
use super::http::{HeaderEdits, MatchedEntry, Requests};
use super::options::{Ech, OptionValue, RuleOptions};
use super::policy::{Mode, Policy};
use super::rule::Scheme;
use super::search::Wrong;
use super::store::RuleId;
use super::view::MatchedRule;
use crate::words::git::RefChange;
use crate::words::outcome::{Decision, Reason};
use crate::words::target::{Host, Method, Port, Target};
use crate::words::units::UploadBudget;

/// The permission for one request. It owns its values, so it keeps no policy alive. Only [`crate::rules`] makes one.
#[derive(Clone, PartialEq, Debug)]
pub struct Permit {
    /// The policy that decided.
    pub policy: Arc<str>,
    /// Its mode.
    pub mode: Mode,
    /// `Allow`, or `WouldDeny` in report mode.
    pub decision: Decision,
    /// For `WouldDeny`: why enforce mode would deny.
    pub reason: Option<Reason>,
    /// For `WouldDeny` because of what the rule says about requests: what enforce mode would answer.
    pub objected: Option<Box<Objected>>,
    /// The rule that decided. For `WouldDeny`, the `deny` rule or the expired rule, if that is the reason.
    pub rule: Option<MatchedRule>,
    /// What the request must be once its content is seen. `Http` for a CONNECT: plain requests inside of it.
    pub scheme: Scheme,
    /// How the client asked.
    pub method: Method,
    /// The target's port.
    pub port: Port,
    /// Non-public addresses that may be reached, from the rule or its policy.
    pub private: Arc<[IpNet]>,
    /// Maximum of bytes from client to target.
    pub upload_limit: Option<u64>,
    /// The same for each client and rule over a sliding window.
    pub upload_budget: Option<UploadBudget>,
    /// Whether the target must show a certificate that is valid for the host.
    pub verify_certificate: bool,
    /// Whether a ClientHello with encrypted_client_hello passes.
    pub ech: Ech,
    /// Whether egressd opens the TLS of the tunnel, and each request in it is judged. Only of a CONNECT by an `https` rule.
    pub inspect: bool,
    /// What the rule says about requests; `None`: any may pass.
    pub requests: Option<Arc<Requests>>,
    /// The fields that the rule changes in each request.
    pub headers: Option<Arc<HeaderEdits>>,
    /// The entry of `requests` that lets the request through, once that is decided ([`Policies::decide_request`]).
    ///
    /// [`Policies::decide_request`]: super::Policies::decide_request
    pub entry: Option<MatchedEntry>,
    /// Whether the connection may become the WebSocket that the request asks for.
    pub websocket: bool,
    /// The address, if the target is written as one: it was already compared with `deny`, and report mode may have let
    /// it pass.
    pub(super) literal: Option<IpAddr>,
}

impl Permit {
    /// The options that apply to the request, in the form of [`RuleOptions::entries`].
    pub fn options(&self) -> impl Iterator<Item = (&'static str, OptionValue<'_>)> {
        // Each field by name: a new field must be shown below, or be listed here as not an option.
        let Permit {
            policy: _,
            mode: _,
            decision: _,
            reason: _,
            objected: _,
            rule: _,
            scheme: _,
            method: _,
            port: _,
            entry: _,
            websocket: _,
            literal: _,
            inspect,
            requests,
            headers,
            upload_limit,
            upload_budget,
            verify_certificate,
            ech,
            private,
        } = self;
        [
            ("upload_limit", OptionValue::AtMost(*upload_limit)),
            ("upload_budget", OptionValue::Budget(*upload_budget)),
            ("verify_certificate", OptionValue::Demand(*verify_certificate)),
            ("inspect", OptionValue::Demand(*inspect)),
            ("requests", OptionValue::Asks(requests.as_deref())),
            ("headers", OptionValue::Edits(headers.as_deref())),
            ("ech", OptionValue::Refuses(*ech == Ech::Deny)),
            ("private", OptionValue::Opens(private)),
        ]
        .into_iter()
    }
}

/// What the client of a request would be told that report mode lets pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Objected {
    /// One line that a person can act on.
    pub advice: Box<str>,
    /// The entry of `requests` that would let it pass.
    pub entry: Option<Box<str>>,
}

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// The policy that decided; `None` if none is for the client.
    pub policy: Option<Arc<str>>,
    /// Its mode.
    pub mode: Mode,
    /// The `deny` rule, the expired rule, or the rule that came nearest; see [`Denial::decided_by`].
    pub rule: Option<MatchedRule>,
    /// Whether that rule decided. A rule that only came near did not.
    pub(super) decides: bool,
    /// One line that a person can act on: which rule came nearest, and why it did not match.
    pub advice: Box<str>,
    /// If a rule allows the connection and not this request on it: the entry of its `requests` that would.
    pub entry: Option<Box<str>>,
    /// What the entry that came nearest says about Git, if a push is refused for its refs alone: see [`Denial::blames`].
    pub(super) refs: Option<Arc<GitRule>>,
}

impl Denial {
    /// Whether a push is refused because of this change. If it is not refused for its refs, every one is to blame.
    pub fn blames(&self, change: &RefChange) -> bool {
        self.refs.as_ref().is_none_or(|rule| rule.may_change(change).is_err())
    }

    /// Of a push, for its refs alone.
    #[cfg(test)]
    pub(crate) fn of_refs(refs: Arc<GitRule>) -> Self {
        Denial {
            reason: Reason::RefNotAllowed,
            policy: None,
            mode: Mode::Enforce,
            rule: None,
            decides: true,
            advice: "".into(),
            entry: None,
            refs: Some(refs),
        }
    }

    /// Of how many changes [`Denial::blames`] may be asked in one go: it takes as long as comparing them did.
    pub fn blames_in_a_step(&self) -> usize {
        self.refs.as_ref().map_or(usize::MAX, |rule| rule.changes_in_a_step())
    }

    /// The rule that decided, for the log and metrics. A rule that only came near decided nothing.
    pub fn decided_by(&self) -> Option<&MatchedRule> {
        self.rule.as_ref().filter(|_| self.decides)
    }
}

impl Policy {
    pub(super) fn decide(&self, target: &Target, now: Timestamp) -> Result<Permit, Denial> {
        let found = self.search(target, now);
        let literal = match target.host {
            Host::Address(address) => Some(address),
            Host::Name(_) => None,
        };
        let allow = found.allow.filter(|_| found.deny.is_none());
        if let Some((rule, scheme)) = allow {
            let permit = self.permit(Some(rule), scheme, target, literal);
            return Ok(Permit { rule: Some(self.matched(rule)), ..permit });
        }
        let wrong = found.denial();
        let reason = wrong.map_or(Reason::HostNotAllowed, |(wrong, _)| wrong.reason());
        let decided = wrong.and_then(|(wrong, rule)| match wrong {
            Wrong::Denies | Wrong::Expired => Some(rule),
            Wrong::OtherWay | Wrong::OtherPort => None,
        });
        if self.mode == Mode::Report && reason.relaxed_by_report() {
            // Without `deny`, this rule would decide, so the traffic gets its options and scheme. So it does of an expired
            // rule that looks at each request: it never passes unseen where such a rule matches.
            let (allow, scheme) = match found.allow.or(found.blinded()) {
                Some((rule, scheme)) => (Some(rule), scheme),
                None => (None, Scheme::presumed(target.method, target.port)),
            };
            let permit = self.permit(allow, scheme, target, literal);
            return Ok(Permit {
                decision: Decision::WouldDeny,
                reason: Some(reason),
                rule: decided.map(|rule| self.matched(rule)),
                ..permit
            });
        }
        let (nearest, advice) = advice::of(self, target, wrong, &found);
        Err(Denial {
            reason,
            policy: Some(Arc::clone(&self.name)),
            mode: self.mode,
            rule: nearest.map(|rule| self.matched(rule)),
            decides: decided.is_some(),
            advice: advice.into(),
            entry: None,
            refs: None,
        })
    }

    fn permit(
        &self,
        rule: Option<RuleId>,
        scheme: Scheme,
        target: &Target,
        literal: Option<IpAddr>,
    ) -> Permit {
        let options = rule.and_then(|rule| self.options_of(rule));
        let none = RuleOptions::default();
        // Each option by name: for a new one, this code must say whether the permit contains it. The others are notes,
        // or are no longer needed once a permit is made.
        let RuleOptions {
            name: _,
            owner: _,
            ticket: _,
            description: _,
            expires: _,
            private: _, // below, together with the policy's
            upload_limit,
            upload_budget,
            verify_certificate,
            inspect,
            requests,
            headers,
            ech,
        } = options.map_or(&none, |options| &options.given);
        Permit {
            policy: Arc::clone(&self.name),
            mode: self.mode,
            decision: Decision::Allow,
            reason: None,
            objected: None,
            rule: None,
            scheme,
            method: target.method,
            port: target.port,
            private: options.map_or(&self.private, |options| &options.private).clone(),
            upload_limit: *upload_limit,
            upload_budget: *upload_budget,
            verify_certificate: *verify_certificate,
            ech: *ech,
            inspect: *inspect && scheme == Scheme::Https,
            requests: requests.clone(),
            headers: headers.clone(),
            entry: None,
            websocket: false,
            literal,
        }
    }
}
