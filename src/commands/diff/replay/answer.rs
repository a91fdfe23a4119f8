//! What one configuration says of a recorded request, and how two differ.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::rules::{Permit, Policies};
use crate::words::client::Client;
use crate::words::outcome::{Decision, Reason};
use crate::words::target::Target;

/// How a request is decided differently.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Turn {
    /// It passed, and would no longer pass.
    NewlyDenied,
    /// It was denied, and would pass.
    NewlyAllowed,
    /// It passes in both, but with other options, as another scheme, or only by report mode.
    Otherwise,
}

/// What one configuration says.
pub(super) enum Answer {
    Permit(Box<Permit>),
    Denial { reason: Reason, why: String },
}

impl Answer {
    /// `address`: what a CONNECT named where the name in its ClientHello decided, which is `target`.
    pub(super) fn of(
        policies: &Policies,
        (target, address): (&Target, Option<&Target>),
        from: &Client,
        now: Timestamp,
        upstream: Option<IpAddr>,
    ) -> Self {
        let address = address.filter(|address| policies.judges_by_name(address, from, now).is_none());
        let permit = match policies.decide(address.unwrap_or(target), from, now) {
            Ok(permit) => permit,
            Err(denial) => return Answer::Denial { reason: denial.reason, why: denial.advice.into() },
        };
        match upstream.map(|address| policies.admit(&permit, address)) {
            Some(Err(denial)) => Answer::Denial {
                reason: Reason::AddressProhibited,
                why: format!("{}: {}", denial.address, denial.why),
            },
            _ => Answer::Permit(Box::new(permit)),
        }
    }

    pub(super) fn turn(&self, new: &Answer) -> Option<Turn> {
        match (self, new) {
            (Answer::Permit(_), Answer::Denial { .. }) => Some(Turn::NewlyDenied),
            (Answer::Denial { .. }, Answer::Permit(_)) => Some(Turn::NewlyAllowed),
            (Answer::Denial { .. }, Answer::Denial { .. }) => None,
            (Answer::Permit(old), Answer::Permit(new)) => {
                let same = old.decision == new.decision
                    && old.scheme == new.scheme
                    && old.options().eq(new.options());
                (!same).then_some(Turn::Otherwise)
            }
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Denial { reason, why } => write!(f, "deny {reason}: {why}"),
            Answer::Permit(permit) => {
                write!(f, "{} as {} by policy {}", permit.decision.as_str(), permit.scheme, permit.policy)?;
                if let Some(rule) = permit.rule.as_ref().filter(|_| permit.decision == Decision::Allow) {
                    write!(f, ", `{}` ({})", rule.text, rule.source)?;
                }
                Ok(())
            }
        }
    }
}
