//! The rules: who may ask for what, and which rule says so. Pure: no sockets, no clock, no files.
//!
//! ```text
//! text → RuleText (rule, pattern) → PolicyBuilder → Policy → Policies → decide → Permit → admit → Admitted
//! ```
//!
//! What is allowed is listed; everything else is denied, and so is everything of a policy without rules. Which rule
//! decides is told in `decide`; how a host is written in `pattern`. A policy holds a million rules in 32 bytes each
//! and their texts (`store`), and finds the few that name a host by hash (`names`), by binary search (`networks`) or,
//! for at most a thousand patterns, by `globset` (`labels`). Not here: the registries of special addresses (`address`
//! has them), and warnings about rules that are legal and unwise (`lint`).

pub mod address;
mod advice;
mod builder;
mod clients;
mod decide;
mod label_pattern;
mod labels;
pub mod lint;
mod names;
mod networks;
pub mod pattern;
mod public_suffix;
mod remedy;
mod request;
pub mod rule;
mod store;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

pub use self::address::{AddressDenial, Admitted};
pub use self::builder::{BuildError, FileId, MAX_PATTERNS, MAX_RULES, OptionsId, Origin, PolicyBuilder};
pub use self::clients::ClientMatch;
pub use self::decide::{Denial, MatchedRule, Permit, RuleSource};
pub use self::pattern::{HostPattern, LabelPattern, PatternError, PatternErrorKind};
pub use self::remedy::Remedy;
pub use self::request::HttpRequest;
pub use self::rule::{Ports, RuleError, RuleErrorKind, RuleOptions, RuleText, Scheme, Schemes, UploadBudget};
pub use self::view::RuleView;

use self::labels::Labels;
use self::names::NameTable;
use self::networks::Networks;
use self::store::{Rule, RuleId, Store};
use crate::words::client::Client;
use crate::words::outcome::Reason;
use crate::words::target::Target;

/// What becomes of a request that the rules deny.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Mode {
    /// It is denied.
    #[default]
    Enforce,
    /// It is let through, logged and counted, where only the rules or the ClientHello are against it.
    Report,
}

impl Mode {
    /// The word in configuration and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Report => "report",
        }
    }
}

/// A file that rules come from.
#[derive(Debug)]
struct File {
    path: Arc<str>,
    label: Arc<str>,
}

/// Options as given, with what a permit takes from them.
#[derive(Debug)]
struct Options {
    given: RuleOptions,
    name: Option<Arc<str>>,
    /// The rule's own and its policy's.
    private: Box<[IpNet]>,
}

/// One policy: for whom it is, and its rules.
#[derive(Debug)]
pub struct Policy {
    name: Arc<str>,
    mode: Mode,
    clients: ClientMatch,
    private: Box<[IpNet]>,
    files: Vec<File>,
    options: Vec<Options>,
    store: Store,
    names: NameTable,
    labels: Labels,
    networks: Networks,
    allows: usize,
    /// `deny` rules for addresses and networks, which looked-up addresses meet too.
    denied_networks: usize,
}

impl Policy {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whom it is for.
    pub fn clients(&self) -> &ClientMatch {
        &self.clients
    }

    /// Networks that are not public and that every rule may reach.
    pub fn private(&self) -> &[IpNet] {
        &self.private
    }

    /// The allow files that it takes rules from, as they were named.
    pub fn allow_files(&self) -> impl Iterator<Item = &str> {
        // The first is the configuration itself.
        self.files.iter().skip(1).map(|file| &*file.path)
    }

    /// How many rules it has, `allow` and `deny`.
    pub fn rule_count(&self) -> usize {
        self.store.len()
    }

    fn options_of(&self, rule: RuleId) -> Option<&Options> {
        self.options.get(self.store.rule(rule).options as usize)
    }

    fn expires(&self, rule: &Rule) -> Option<Timestamp> {
        self.options.get(rule.options as usize)?.given.expires
    }
}

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

    /// The one decision, for serving, `explain`, `test`, `diff` and judging open tunnels again. Does nothing but decide.
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
            // A literal address was judged by `decide`; in report mode it was let through although denied.
            let judged = permit.literal == Some(address);
            if !judged && policy.denied_address(address, permit.scheme.method(), permit.port).is_some() {
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
