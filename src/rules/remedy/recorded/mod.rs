//! What to do about a refusal or a failure that is remembered, with all that its record tells: the server name that the
//! tunnel showed, and whether report mode had let it pass.
//!
//! What failed behind report mode still lacks its rule, and that rule is offered if it could work: not for a name that
//! DNS did not answer for, nor for one whose addresses are closed, nor for egressd itself.

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::rules::offer::Inside;
use crate::rules::{Denied, DeniedRequest, Policies, Remedy};
use crate::words::outcome::{Class, Reason};
use crate::words::target::Target;

/// One refusal or failure, as it was recorded.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// The policy that decided.
    pub policy: Option<&'a str>,
    /// Why.
    pub reason: Reason,
    /// Report mode let it pass, and the rules would not.
    pub would_deny: bool,
    /// What the client asked for.
    pub target: &'a Target,
    /// The server name that the tunnel showed.
    pub sni: Option<&'a str>,
    /// The request, if a rule allows the connection and not this request on it.
    pub request: Option<DeniedRequest<'a>>,
}

impl Policies {
    /// What to do about what was recorded.
    pub fn remedy_of_record(&self, recorded: Recorded<'_>, now: Timestamp) -> Remedy {
        let Recorded { policy, reason, would_deny, target, sni, request } = recorded;
        if let Some(own) = self.remedy_for_own_lookup(policy, target, sni, now) {
            return own;
        }
        let (reason, inside) = match Inside::in_report_mode(target, sni) {
            _ if !would_deny => (reason, Inside::Unknown),
            _ if !reason.relaxed_by_report() => (behind_report_mode(reason), Inside::Unknown),
            Some(inside) => (reason, inside),
            None => (Reason::SniMismatch, Inside::Unknown),
        };
        self.remedy(Denied { policy, reason, target, inside, request }, now)
    }
}

/// The reason to look at if a request that report mode let pass failed for `reason`: that the rules lack it, or that no
/// rule would have helped.
fn behind_report_mode(reason: Reason) -> Reason {
    match reason.class() {
        Class::Lookup | Class::Address => reason,
        Class::Upstream if reason == Reason::Loop => reason,
        Class::Connection
        | Class::Form
        | Class::Challenge
        | Class::Credentials
        | Class::Client
        | Class::NotListed
        | Class::Expired
        | Class::Denied
        | Class::Request
        | Class::Upload
        | Class::NoTls
        | Class::ServerName
        | Class::Hello
        | Class::Inspection
        | Class::Certificate
        | Class::TargetNotTls
        | Class::Rate
        | Class::ClientLimit
        | Class::Limit
        | Class::Connect
        | Class::Upstream
        | Class::Resources
        | Class::Service => Reason::HostNotAllowed,
    }
}
