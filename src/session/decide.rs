//! The one loop of a decision: decide, register, and decide again if the rules changed meanwhile.
//!
//! Tunnels and exchanges both use it, so that no request is served without a decision, or with one that a reload or an
//! expiry has made obsolete. A decision has two stages: the target ([`Policies::decide`]), and for HTTP the request
//! ([`Policies::decide_request`]). Not here: what the rules say ([`crate::rules`]), and judging again what is open
//! already ([`crate::state::live::rejudge`]).
//!
//! [`Policies::decide`]: crate::rules::Policies::decide
//! [`Policies::decide_request`]: crate::rules::Policies::decide_request

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;

use crate::rules::{AddressDenial, Admitted, Denial, HttpRequest, Permit, Requests, no_proxy};
use crate::session::refuse::Refused;
use crate::session::request::Request;
use crate::state::live::Registration;
use crate::state::proof::Lost;
use crate::state::shared::{Shared, Snapshot};
use crate::words::outcome::{Class, Reason};
use crate::words::target::{Host, Target};

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'w> {
    pub(crate) target: &'w Target,
    /// None for a tunnel: its content is not known yet.
    pub(crate) http: Option<HttpRequest<'w>>,
}

/// What the rules allowed, and by which configuration.
pub(crate) struct Decided {
    pub(crate) permit: Permit,
    pub(crate) snapshot: Snapshot,
}

impl Decided {
    /// Whether `address` may be dialled.
    ///
    /// # Errors
    /// [`AddressDenial`].
    pub(crate) fn admit(&self, address: IpAddr) -> Result<Admitted, AddressDenial> {
        self.snapshot.config.policies.admit(&self.permit, address)
    }
}

/// Decides by the configuration in `snapshot`; the request remembers the configuration and the result.
///
/// # Errors
/// The refusal.
pub(crate) fn decide(
    wanted: Wanted<'_>,
    request: &mut Request<'_>,
    snapshot: Snapshot,
) -> Result<Decided, Refused> {
    request.judged_by(&snapshot.config);
    match ask(wanted, request, &snapshot) {
        Ok(permit) => {
            request.permitted(&permit);
            Ok(Decided { permit, snapshot })
        }
        Err(objection) => Err(objection.told(wanted.target, &snapshot, request)),
    }
}

/// What the rule for the target says about requests, if any rule asks what they are to Git or AWS: it tells what has to be read of one before
/// it is decided.
pub(crate) fn requests_of(
    target: &Target,
    request: &Request<'_>,
    snapshot: &Snapshot,
) -> Option<Arc<Requests>> {
    let policies = &snapshot.config.policies;
    if !policies.recognises() {
        return None;
    }
    policies.decide(target, request.client(), Timestamp::now()).ok()?.requests
}

/// Decides by the configuration in force now.
///
/// # Errors
/// The refusal.
pub(crate) fn decide_now(
    wanted: Wanted<'_>,
    request: &mut Request<'_>,
    shared: &Shared,
) -> Result<Decided, Refused> {
    decide(wanted, request, shared.snapshot())
}

/// Whether what was decided before would still be permitted by what is in force now, and how. The request goes on under the
/// permit that it has: its record, its limits and its metrics stay those of one rule.
///
/// # Errors
/// The refusal, which the request remembers.
pub(crate) fn confirm(
    wanted: Wanted<'_>,
    request: &mut Request<'_>,
    shared: &Shared,
) -> Result<Decided, Refused> {
    let snapshot = shared.snapshot();
    match ask(wanted, request, &snapshot) {
        Ok(permit) => Ok(Decided { permit, snapshot }),
        Err(objection) => {
            request.judged_by(&snapshot.config);
            Err(objection.told(wanted.target, &snapshot, request))
        }
    }
}

/// Why a request is not allowed.
enum Objection {
    /// Its listener no longer accepts what proved the client's identity. No mode relaxes this.
    Identity(Lost),
    Rules(Box<Denial>),
}

impl Objection {
    /// The refusal, which the request remembers.
    fn told(self, target: &Target, snapshot: &Snapshot, request: &mut Request<'_>) -> Refused {
        match self {
            Objection::Identity(lost) => lost.into(),
            Objection::Rules(denial) => {
                request.denied(&denial);
                refused(denial, target, snapshot, request.shared())
            }
        }
    }
}

impl From<Denial> for Objection {
    fn from(denial: Denial) -> Self {
        Objection::Rules(Box::new(denial))
    }
}

fn ask(wanted: Wanted<'_>, request: &Request<'_>, snapshot: &Snapshot) -> Result<Permit, Objection> {
    let now = Timestamp::now();
    // Before each decision, and so before each registration: a reload may have come after the identity was proven.
    request.proof().still_accepted(&snapshot.config, now).map_err(Objection::Identity)?;
    let policies = &snapshot.config.policies;
    let permit = policies.decide(wanted.target, request.client(), now)?;
    match &wanted.http {
        Some(http) => Ok(policies.decide_request(permit, wanted.target, http)?),
        None => Ok(permit),
    }
}

/// The refusal of what is not listed. The rules do not know egressd's own addresses: no rule is the answer for those.
fn refused(denial: Box<Denial>, target: &Target, snapshot: &Snapshot, shared: &Shared) -> Refused {
    let reason = denial.reason;
    let itself = match target.host {
        Host::Address(address) if reason.class() == Class::NotListed => {
            shared.own.holds(SocketAddr::new(address, target.port.get()))
        }
        _ => false,
    };
    let advice = if itself {
        no_proxy::itself(target).to_string()
    } else {
        denial.advice_with_rule(&snapshot.config.policies, target, Timestamp::now())
    };
    Refused { denial: Some(denial), ..Refused::new(reason, advice) }
}

/// Registers what was decided, by `enter`. If the policy changed, or a rule or an identity expired after the decision, the sweep may
/// have passed before it could see this entry: then everything is decided again, until nothing changes meanwhile. A
/// decision takes microseconds. `reached` returns the address that was already reached, if any: the newer policy has
/// to admit it too.
///
/// # Errors
/// The refusal by the newer policy.
pub(crate) fn register<Guard>(
    mut decided: Decided,
    wanted: Wanted<'_>,
    request: &mut Request<'_>,
    shared: &Shared,
    mut enter: impl FnMut(&Decided, &Request<'_>) -> Registration<Guard>,
    reached: impl Fn(&Guard) -> Option<IpAddr>,
) -> Result<(Decided, Guard), Refused> {
    loop {
        let outdated = match enter(&decided, request) {
            Registration::Current(guard) => return Ok((decided, guard)),
            Registration::JudgeAgain(outdated) => outdated,
        };
        let address = reached(&outdated);
        drop(outdated);
        decided = decide_now(wanted, request, shared)?;
        if address.is_some_and(|address| decided.admit(address).is_err()) {
            shared.metrics.addresses_refused(1);
            return Err(Reason::AddressProhibited.into());
        }
    }
}

/// The verdict on a request that was revoked before its first byte: nothing was opened, so the configuration in force
/// now refuses it. `revoked` is the reason of the revocation. It holds even if a newer reload would allow the request
/// again: that does not bring back what was cut.
pub(crate) fn refuse_revoked(
    wanted: Wanted<'_>,
    request: &mut Request<'_>,
    revoked: Option<Reason>,
    shared: &Shared,
) -> Refused {
    match decide_now(wanted, request, shared) {
        Err(refused) => refused,
        // Whatever is revoked is given its reason first, so that there always is one.
        Ok(_) => revoked.unwrap_or(Reason::HostNotAllowed).into(),
    }
}
