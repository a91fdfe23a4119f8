//! Whether a rule would have helped a request, by the reason for which it was refused.

use crate::words::outcome::{Class, Reason};
use crate::words::target::{Host, Target};

/// What would have helped a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Help {
    /// An `allow` rule.
    Rule,
    /// Not a rule: it needs something else, with or without an `allow` rule.
    NoRule,
    /// The reason says nothing about the rules: it came before them, or after.
    Unknown,
}

pub(super) fn help(reason: Reason, target: &Target) -> Help {
    match reason.class() {
        Class::NotListed | Class::NoTls => Help::Rule,
        // `private` of a rule for an address that was written as the target.
        Class::Address if matches!(target.host, Host::Address(_)) => Help::Rule,
        // For an expired rule, as for a `deny` rule, its owner has to decide.
        Class::Denied | Class::Expired | Class::Request | Class::ServerName | Class::Hello => Help::NoRule,
        Class::Connection
        | Class::Form
        | Class::Challenge
        | Class::Credentials
        | Class::Client
        | Class::Upload
        | Class::Address
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
        | Class::Service => Help::Unknown,
    }
}
