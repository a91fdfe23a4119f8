//! All policies of one configuration, and what they answer together: which policy applies to a client, what it decides,
//! and whether an address may be dialled.

use std::net::IpAddr;

use jiff::Timestamp;

use super::address::{self, AddressDenial, Admitted};
use super::advice;
use super::decide::{Denial, Permit};
use super::policy::{Mode, Policy};
use super::view::RuleView;
use crate::words::client::Client;
use crate::words::outcome::Reason;
use crate::words::target::{Host, Method, Target};

/// All policies, in order. Immutable, and shared as an `Arc`.
#[derive(Debug, Default)]
pub struct Policies {
    policies: Vec<Policy>,
    /// Whether an entry of any rule has `git` or `aws`. Kept, because each request asks for it.
    recognises: bool,
}

impl Policies {
    /// The first policy that matches a client decides. The caller must make sure that their names are unique.
    pub fn new(policies: Vec<Policy>) -> Self {
        let options = policies.iter().flat_map(|policy| &policy.options);
        let mut requests = options.filter_map(|options| options.given.requests.as_ref());
        let recognises = requests.any(|requests| requests.asks_git() || requests.asks_aws());
        Policies { policies, recognises }
    }

    /// The only decision, used for serving, `explain`, `test`, `diff` and for deciding again on open tunnels. It has no
    /// side effects.
    ///
    /// # Errors
    /// [`Denial`]. A denial that report mode relaxes is a permit in report mode, with the decision `WouldDeny` and its
    /// reason.
    pub fn decide(&self, target: &Target, client: &Client, now: Timestamp) -> Result<Permit, Denial> {
        match self.of_client(client) {
            Some(policy) => policy.decide(target, now),
            None => Err(Denial {
                reason: Reason::ClientNotAllowed,
                policy: None,
                mode: Mode::Enforce,
                rule: None,
                decides: false,
                advice: advice::for_client(client, self.policies.iter()).into(),
                entry: None,
                refs: None,
            }),
        }
    }

    /// Whether the name in the ClientHello decides in the place of this target, an address that no rule names (`addresses_by_sni`): in
    /// which mode.
    pub fn judges_by_name(&self, target: &Target, client: &Client, now: Timestamp) -> Option<Mode> {
        let Host::Address(_) = target.host else { return None };
        let policy = self.of_client(client).filter(|policy| policy.addresses_by_sni())?;
        let reason = match policy.decide(target, now) {
            Ok(permit) => permit.reason,
            Err(denial) => Some(denial.reason),
        };
        (target.method == Method::Connect && reason == Some(Reason::HostNotAllowed)).then(|| policy.mode())
    }

    /// The policy that decides for a client.
    pub fn of_client(&self, client: &Client) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.fits(client))
    }

    /// Whether any policy can match a client at this address that came by this listener, with the right identity.
    pub fn may_match(&self, address: IpAddr, listener: &str) -> bool {
        let fits = |policy: &Policy| {
            policy.addresses.contains(address) && policy.clients.listener_fits(Some(listener))
        };
        self.policies.iter().any(fits)
    }

    /// Whether one address, which was looked up or is the target itself, may be dialled. The registries, the networks
    /// that the permit opens, and the policy's `deny` rules for addresses decide this, in every mode.
    ///
    /// # Errors
    /// [`AddressDenial`]; also if the permit's policy no longer exists.
    pub fn admit(&self, permit: &Permit, address: IpAddr) -> Result<Admitted, AddressDenial> {
        if let Some(why) = address::prohibited(address, &permit.private) {
            return Err(AddressDenial { address, why });
        }
        let mut known = false;
        for policy in self.policies.iter().filter(|policy| policy.name == permit.policy) {
            known = true;
            // `decide` has already judged a literal address; in report mode it may have passed although a rule denies
            // it.
            let decided = permit.literal == Some(address);
            // A CONNECT that an `http` rule carries is denied by what denies either.
            let carried = (permit.scheme.method() != permit.method).then_some(permit.scheme.method());
            let methods = std::iter::once(permit.method).chain(carried);
            let mut denials =
                methods.filter_map(|method| policy.denied_address(address, method, permit.port));
            if !decided && denials.next().is_some() {
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

    /// Whether any rule requires a verified certificate of the target.
    pub fn verify_certificates(&self) -> bool {
        let mut options = self.policies.iter().flat_map(|policy| &policy.options);
        options.any(|options| options.given.verify_certificate)
    }

    /// Whether any rule opens the TLS of tunnels.
    pub fn inspects(&self) -> bool {
        let mut options = self.policies.iter().flat_map(|policy| &policy.options);
        options.any(|options| options.given.inspect)
    }

    /// Whether any rule asks what a request is to Git or AWS: only then is there anything to read of one before it is decided.
    pub fn recognises(&self) -> bool {
        self.recognises
    }

    /// Whether any rule has a budget of uploads.
    pub fn has_budgets(&self) -> bool {
        let mut options = self.policies.iter().flat_map(|policy| &policy.options);
        options.any(|options| options.given.upload_budget.is_some())
    }

    /// The first moment after `now` at which a rule expires. Open tunnels must be judged again then.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let options = self.policies.iter().flat_map(|policy| &policy.options);
        options.filter_map(|options| options.given.expires).filter(|moment| *moment > now).min()
    }
}
