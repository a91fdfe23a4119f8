//! All policies of one configuration, and the questions that they answer together: which policy is for a client, what it
//! decides, and whether an address may be dialled.

use std::net::IpAddr;

use jiff::Timestamp;

use super::address::{self, AddressDenial, Admitted};
use super::advice;
use super::decide::{Denial, Permit};
use super::policy::{Mode, Policy};
use super::view::RuleView;
use crate::words::client::Client;
use crate::words::outcome::Reason;
use crate::words::target::Target;

/// All policies, in order. Immutable, and shared as an `Arc`.
#[derive(Debug, Default)]
pub struct Policies {
    policies: Vec<Policy>,
}

impl Policies {
    /// The first policy that is for a client decides. Their names are the caller's to keep apart.
    pub fn new(policies: Vec<Policy>) -> Self {
        Policies { policies }
    }

    /// The one decision, for serving, `explain`, `test`, `diff` and deciding again on open tunnels. Does nothing but decide.
    ///
    /// # Errors
    /// [`Denial`]. In report mode what report mode relaxes is a permit with the decision `WouldDeny` and its reason.
    pub fn decide(&self, target: &Target, client: &Client, now: Timestamp) -> Result<Permit, Denial> {
        match self.policies.iter().find(|policy| policy.clients.fits(client)) {
            Some(policy) => policy.decide(target, now),
            None => Err(Denial {
                reason: Reason::ClientNotAllowed,
                policy: None,
                mode: Mode::Enforce,
                rule: None,
                advice: advice::for_client(client, self.policies.iter()),
            }),
        }
    }

    /// Whether one address, looked up or written as the target, may be dialled: by the registries, by what the permit
    /// opens, and by the `deny` rules for addresses of its policy. In every mode.
    ///
    /// # Errors
    /// [`AddressDenial`]; also if the permit's policy is gone since.
    pub fn admit(&self, permit: &Permit, address: IpAddr) -> Result<Admitted, AddressDenial> {
        if let Some(why) = address::prohibited(address, &permit.private) {
            return Err(AddressDenial { address, why });
        }
        let mut known = false;
        for policy in self.policies.iter().filter(|policy| policy.name == permit.policy) {
            known = true;
            // `decide` has looked at a literal address already; in report mode it was let through although denied.
            let decided = permit.literal == Some(address);
            if !decided && policy.denied_address(address, permit.scheme.method(), permit.port).is_some() {
                return Err(AddressDenial { address, why: "denied by rule" });
            }
        }
        if !known {
            return Err(AddressDenial { address, why: "the policy that allowed it is gone" });
        }
        Ok(Admitted::new(address))
    }

    /// Every policy, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter()
    }

    /// Every rule of every policy, as written.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'_>> {
        self.policies.iter().flat_map(Policy::rules)
    }

    /// Whether any rule wants the target's certificate verified.
    pub fn verify_certificates(&self) -> bool {
        let mut options = self.policies.iter().flat_map(|policy| &policy.options);
        options.any(|options| options.given.verify_certificate)
    }

    /// The first moment after `now` at which a rule expires: open tunnels are to be judged again then.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let options = self.policies.iter().flat_map(|policy| &policy.options);
        options.filter_map(|options| options.given.expires).filter(|moment| *moment > now).min()
    }
}
