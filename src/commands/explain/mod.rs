//! Explains the decision on one request to a person: which policy, which rule, in which line, and if the request is
//! refused, which rule came closest.
//!
//! Nothing is decided here: the server calls the same [`Policies::decide`] and [`Policies::admit`]. One more thing is known
//! without a connection, from the scheme of the target: what the tunnel will carry, and that its rule does not let it flow.
//! Not here: name look-ups (the caller provides them), and what only a connection can show (DNS, the dial, the SNI).

mod arguments;
mod asked;
mod door;
mod recognised;

pub use self::door::{Unproven, is_transparent, spoken_by, unproven};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::Listener;
use crate::outbound::dial::OwnAddresses;
use crate::outbound::resolve::LookupError;
use crate::rules::no_proxy::itself;
use crate::rules::{
    MatchedRule, Mode, OptionValue, Permit, Policies, Policy, RuleOptions, RuleView, Scheme, UploadBudget,
    on_the_way,
};
use crate::session::refuse::reply;
use crate::words::client::Client;
use crate::words::outcome::{Class, Decision, Reason};
use crate::words::quote::quoted;
use crate::words::target::{Host, Method, Name, Target};

/// The client that is assumed if none is given: the first address of the first policy's networks, and that policy's
/// name.
pub fn assumed_client(policies: &Policies) -> (IpAddr, Option<Arc<str>>) {
    let first = policies.iter().next();
    let network = first.and_then(|policy| policy.clients().networks.first());
    let address = network.and_then(|network| network.hosts().next());
    (address.unwrap_or(Ipv4Addr::LOCALHOST.into()), first.map(|policy| Arc::clone(policy.name())))
}

/// The listener that a client is assumed to come by if none is given: the first that the first policy names, else the first of all.
/// `None`: no policy asks.
pub fn assumed_listener(policies: &Policies, listeners: &[Listener]) -> Option<Arc<str>> {
    policies.iter().find(|policy| !policy.clients().listeners.is_empty())?;
    let named = policies.iter().next().and_then(|policy| policy.clients().listeners.first());
    let listener = listeners.iter().find(|listener| named.is_none_or(|name| **name == *listener.name));
    listener.map(|listener| Arc::clone(&listener.name))
}

/// The listener of this name.
///
/// # Errors
/// There is none: one line.
pub fn listener_named(name: &str, listeners: &[Listener]) -> Result<Arc<str>, String> {
    match listeners.iter().find(|listener| *listener.name == *name) {
        Some(listener) => Ok(Arc::clone(&listener.name)),
        None => {
            let names: Vec<String> = listeners.iter().map(|listener| quoted(&listener.name)).collect();
            Err(format!("no listener is called {}: write one of {}", quoted(name), names.join(", ")))
        }
    }
}

/// A client at `address` that has proven `identities`.
pub fn client(address: IpAddr, identities: Vec<Box<str>>, vpc_endpoint: Option<Box<str>>) -> Client {
    Client { identities, vpc_endpoint, ..Client::direct(SocketAddr::new(address, 0)) }
}

/// How a name is looked up: its addresses, or why there is none.
pub type Lookup<'a> = &'a mut dyn FnMut(&Name) -> Result<Vec<IpAddr>, LookupError>;

/// One address that the target resolves to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressVerdict {
    /// From the look-up, or as the target names it.
    pub address: IpAddr,
    /// Why it may not be dialled; `None`: it may.
    pub prohibited: Option<&'static str>,
}

/// A decision with everything that a person needs to understand it.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// The target of the request.
    pub target: Target,
    /// The address that its connection was meant for, if that was asked.
    pub original: Option<SocketAddr>,
    /// The client that sends it.
    pub client: Client,
    /// The verdict.
    pub decision: Decision,
    /// The reason of a denial, also of one that report mode lets pass.
    pub reason: Option<Reason>,
    /// The policy that decided; `None` if no policy matches the client.
    pub policy: Option<Arc<str>>,
    /// Its mode.
    pub mode: Option<Mode>,
    /// The rule that decided.
    pub rule: Option<MatchedRule>,
    /// The rule that came closest, if none decided.
    pub nearest: Option<MatchedRule>,
    /// One line about a denial that a person can act on.
    pub advice: Option<String>,
    /// The request on the connection, if it was judged: method and path.
    pub request: Option<(Box<str>, Box<str>)>,
    /// What was asked and not judged, if anything.
    pub not_judged: Option<&'static str>,
    /// The permit of the rules, if they gave one.
    pub permit: Option<Permit>,
    /// The addresses that were judged: a literal address always, the addresses of a name if it was looked up.
    pub addresses: Vec<AddressVerdict>,
}

impl Explanation {
    /// Whether the request would go through, in report mode too.
    pub fn passes(&self) -> bool {
        self.decision != Decision::Deny
    }
}

/// Decides one request. With `lookup` a name is looked up, and its addresses are judged too.
pub fn explain(
    policies: &Policies,
    asked: &AskedTarget,
    client: &Client,
    now: Timestamp,
    lookup: Option<Lookup<'_>>,
) -> Explanation {
    let mut told = Explanation {
        target: asked.target.clone(),
        original: asked.original,
        client: client.clone(),
        decision: Decision::Deny,
        reason: None,
        policy: None,
        mode: None,
        rule: None,
        nearest: None,
        advice: None,
        request: None,
        not_judged: None,
        permit: None,
        addresses: Vec::new(),
    };
    let mut permit = match policies.decide(&asked.target, client, now) {
        Ok(permit) => permit,
        Err(denial) => {
            told.rule = denial.decided_by().cloned();
            told.nearest = denial.rule.filter(|_| told.rule.is_none());
            told.reason = Some(denial.reason);
            told.mode = denial.policy.as_ref().map(|_| denial.mode);
            told.policy = denial.policy;
            told.advice = Some(denial.advice.into());
            return told;
        }
    };
    told.decision = permit.decision;
    told.reason = permit.reason;
    told.policy = Some(Arc::clone(&permit.policy));
    told.mode = Some(permit.mode);
    told.rule.clone_from(&permit.rule);
    match (asked.scheme, permit.scheme) {
        (Some(Scheme::Tcp), Scheme::Https) => told.deny_unless_report(Reason::NotTls, || {
            format!("the tunnel must carry TLS for {}, and a tcp:// target has no TLS", asked.target.host)
        }),
        (Some(scheme @ (Scheme::Https | Scheme::Tcp)), Scheme::Http) => {
            told.deny_unless_report(Reason::SchemeNotAllowed, || {
                format!("the tunnel must carry plain HTTP requests: write `{scheme}://{}`", asked.target)
            });
        }
        _ => {}
    }
    if let Some(request) = asked.request(&permit).filter(|_| told.passes()) {
        let request = request.get();
        told.request = Some((request.method.into(), request.path.into()));
        match policies.decide_request(permit.clone(), &asked.target, &request) {
            Ok(judged) => {
                (told.decision, told.reason) = (judged.decision, judged.reason);
                permit = judged;
            }
            Err(denial) => {
                let mut advice = denial.advice_with_rule(policies, &asked.target, now);
                if denial.reason == Reason::AccountNotAllowed && asked.account.is_none() {
                    advice.push_str("; --aws-account N says whose credentials it has");
                }
                told.deny(denial.reason, advice);
            }
        }
    }
    told.not_judged = asked.not_judged(&permit, told.request.is_some()).filter(|_| told.passes());
    told.check_addresses(policies, &permit, lookup);
    told.permit = Some(permit);
    told
}

impl Explanation {
    /// A denial that report mode relaxes.
    fn deny_unless_report(&mut self, reason: Reason, advice: impl FnOnce() -> String) {
        if self.decision == Decision::Allow {
            self.decision = match self.mode {
                Some(Mode::Report) if reason.relaxed_by_report() => Decision::WouldDeny,
                _ => Decision::Deny,
            };
            self.reason = Some(reason);
            self.advice = Some(advice());
        }
    }

    /// A denial in every mode.
    fn deny(&mut self, reason: Reason, advice: String) {
        self.decision = Decision::Deny;
        self.reason = Some(reason);
        self.advice = Some(advice);
    }

    fn check_addresses(&mut self, policies: &Policies, permit: &Permit, lookup: Option<Lookup<'_>>) {
        let addresses = match (&self.target.host, lookup) {
            (Host::Address(address), _) => vec![*address],
            (Host::Name(name), Some(lookup)) if self.passes() => match lookup(name) {
                Ok(addresses) => addresses,
                Err(error) => {
                    let advice = on_the_way(error.reason, &self.target);
                    let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
                    return self.deny(error.reason, format!("{}{advice}", error.detail));
                }
            },
            (Host::Name(_), _) => return,
        };
        let verdict = |address: IpAddr| AddressVerdict {
            address,
            prohibited: policies.admit(permit, address).err().map(|denial| denial.why),
        };
        self.addresses = addresses.into_iter().map(verdict).collect();
        if !self.passes() {
            return;
        }
        let whys = self.addresses.iter().filter_map(|verdict| Some((verdict.address, verdict.prohibited?)));
        let whys: Vec<String> = whys.map(|(address, why)| format!("{address} ({why})")).collect();
        if self.addresses.is_empty() {
            self.deny(Reason::DnsNoAddress, "the name has no address".to_owned());
        } else if whys.len() == self.addresses.len() {
            let advice = on_the_way(Reason::AddressProhibited, &self.target)
                .unwrap_or_else(|| format!("none of its addresses may be dialled: {}", whys.join(", ")));
            self.deny(Reason::AddressProhibited, advice);
        }
    }

    /// The proxy asks for a proof first, and decides nothing without it. `how` writes the identity that lacks.
    pub fn with_unproven(&mut self, unproven: Option<Unproven>, how: impl FnOnce(&str) -> String) {
        let Some(Unproven { reason, why, lacks }) = unproven else { return };
        (self.policy, self.mode, self.rule, self.nearest, self.permit) = (None, None, None, None, None);
        self.addresses.clear();
        self.deny(reason, format!("{why}: {}", how(lacks)));
    }

    /// Names an identity where one lacks: the client itself is not told which would do.
    fn name_identity(&mut self, policies: &Policies) {
        if self.reason != Some(Reason::ClientNotAllowed) || !self.client.identities.is_empty() {
            return;
        }
        let address = self.client.address.ip();
        let near = policies
            .iter()
            .map(Policy::clients)
            .find(|clients| clients.networks.iter().any(|network| network.contains(&address)));
        if let (Some(identity), Some(advice)) =
            (near.and_then(|clients| clients.identities.first()), &mut self.advice)
        {
            advice.push_str(&format!(" (--identity {})", identity.escape_debug()));
        }
    }

    /// Takes into account where egressd itself listens, as far as the configuration tells.
    pub fn with_own(&mut self, own: &OwnAddresses) {
        let holds = |address: &IpAddr| own.holds(SocketAddr::new(*address, self.target.port.get()));
        let literal = match &self.target.host {
            Host::Address(address) => Some(*address),
            Host::Name(_) => None,
        };
        if self.reason.map(Reason::class) == Some(Class::NotListed) && literal.as_ref().is_some_and(holds) {
            self.advice = Some(itself(&self.target).to_string());
        }
        let ours = self.addresses.iter().any(|verdict| holds(&verdict.address));
        let others =
            self.addresses.iter().any(|verdict| verdict.prohibited.is_none() && !holds(&verdict.address));
        let by_address = matches!(self.reason, None | Some(Reason::AddressProhibited)) || self.passes();
        if by_address && ours && !others {
            let advice = on_the_way(Reason::Loop, &self.target);
            self.deny(Reason::Loop, advice.unwrap_or_else(|| reply::advice(Reason::Loop).to_owned()));
        }
    }

    /// The rule that decided or came closest, with its options. Searches all rules: meant for one explanation, not for
    /// many.
    pub fn rule_in<'p>(&self, policies: &'p Policies) -> Option<RuleView<'p>> {
        let rule = self.rule.as_ref().or(self.nearest.as_ref())?;
        let mut rules = policies.iter().find(|policy| self.policy.as_ref() == Some(policy.name()))?.rules();
        rules.find(|view| {
            *view.text() == *rule.text && view.file() == &*rule.source.file && view.line() == rule.source.line
        })
    }

    /// The number of the entry of `requests` that lets the request through.
    fn entry(&self) -> Option<usize> {
        self.permit.as_ref()?.entry.as_ref().map(|entry| entry.number)
    }

    /// One JSON object; its members are named as in the access log.
    pub fn to_json(&self) -> Value {
        let option = |(key, value): (&str, OptionValue<'_>)| {
            let told = match value {
                OptionValue::Budget(Some(UploadBudget { bytes, window })) => {
                    json!({ "bytes": bytes, "window_seconds": window.as_secs() })
                }
                value => value.to_json(),
            };
            (key.to_owned(), told)
        };
        let options = self.permit.as_ref().map(|permit| permit.options().map(option).collect::<Value>());
        let addresses = self.addresses.iter().map(|verdict| {
            json!({
                "address": verdict.address.to_string(),
                "admitted": verdict.prohibited.is_none(),
                "why": verdict.prohibited,
            })
        });
        let text = |rule: &Option<MatchedRule>| rule.as_ref().map(|rule| rule.text.to_string());
        let source = |rule: &Option<MatchedRule>| rule.as_ref().map(|rule| rule.source.to_string());
        json!({
            "target": shown_target(&self.target),
            "original": self.original.map(|original| original.to_string()),
            "client": self.client.address.ip().to_string(),
            "identities": self.client.identities,
            "vpc_endpoint": self.client.vpc_endpoint,
            "listener": self.client.listener.as_deref(),
            "decision": self.decision.as_str(),
            "reason": self.reason.map(Reason::as_str),
            "status": if self.passes() { Some(200) } else { self.reason.and_then(reply::status) },
            "policy": self.policy.as_deref(),
            "mode": self.mode.map(Mode::as_str),
            "rule": text(&self.rule),
            "rule_source": source(&self.rule),
            "nearest_rule": text(&self.nearest),
            "nearest_rule_source": source(&self.nearest),
            "scheme": self.permit.as_ref().map(|permit| permit.scheme.as_str()),
            "options": options,
            "request": self.request.as_ref().map(|(method, path)| json!({ "method": method, "path": path })),
            "entry": self.entry(),
            "not_judged": self.not_judged,
            "advice": self.advice,
            "addresses": addresses.collect::<Vec<_>>(),
        })
    }
}

/// The notes that people wrote on a rule, and when it expires: key and text.
pub fn notes(rule: &RuleView<'_>) -> Vec<(&'static str, String)> {
    let entries = rule.options().into_iter().flat_map(RuleOptions::entries);
    let notes = entries.filter(|(_, value)| matches!(value, OptionValue::Note(_) | OptionValue::Until(_)));
    notes.filter(|(_, value)| value.is_given()).map(|(key, value)| (key, value.to_string())).collect()
}

/// The target as the log writes it.
fn shown_target(target: &Target) -> String {
    match target.method {
        Method::Connect => target.to_string(),
        Method::Http => format!("http://{target}"),
    }
}

/// A few lines for a person, the verdict first.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.decision {
            Decision::Allow => "allowed",
            Decision::WouldDeny => "allowed only by report mode (would_deny)",
            Decision::Deny => "denied",
        };
        write!(f, "{word}: {}", shown_target(&self.target))?;
        if let Some(reason) = self.reason {
            write!(f, ": {reason}")?;
        }
        writeln!(f)?;
        if let Some(advice) = &self.advice {
            writeln!(f, "  why      {advice}")?;
        }
        match (&self.policy, self.mode) {
            (Some(policy), Some(mode)) => writeln!(f, "  policy   {policy} ({})", mode.as_str())?,
            _ => writeln!(f, "  policy   none")?,
        }
        for (word, rule) in [("rule", &self.rule), ("nearest", &self.nearest)] {
            if let Some(rule) = rule {
                writeln!(f, "  {word:<8} `{}` ({})", rule.text, rule.source)?;
            }
        }
        if let Some(permit) = self.permit.as_ref().filter(|_| self.passes()) {
            let scheme = match (permit.scheme, &self.target.host) {
                (Scheme::Https, Host::Address(_)) => {
                    "https: a TLS tunnel with no server name (SNI), because an address is none".to_owned()
                }
                (Scheme::Https, Host::Name(_)) if permit.inspect => {
                    format!(
                        "https: a TLS tunnel to {}, opened by egressd, each request judged",
                        self.target.host
                    )
                }
                (Scheme::Https, Host::Name(_)) => {
                    format!("https: a TLS tunnel whose SNI must be {}", self.target.host)
                }
                (Scheme::Http, _) if permit.method == Method::Connect => format!(
                    "http: a tunnel of plain HTTP requests to {0}, each of them judged; to ask about TLS, write https://{0}",
                    self.target
                ),
                (Scheme::Http, _) => "http: a plain HTTP request".to_owned(),
                (Scheme::Tcp, _) => "tcp: an opaque tunnel, content not inspected".to_owned(),
            };
            writeln!(f, "  scheme   {scheme}")?;
            if let Some((method, path)) = &self.request {
                let by = match self.entry() {
                    Some(number) => format!("entry {number} of `requests`"),
                    None => "any request".to_owned(),
                };
                writeln!(f, "  request  {method} {}: {by}", path.escape_debug())?;
            } else if permit.inspect || permit.requests.is_some() {
                writeln!(f, "  request  each one is judged: write https://HOST/PATH, and --method")?;
            }
            if let Some(what) = self.not_judged {
                writeln!(f, "  not judged: {what}")?;
            }
            let options = options(permit);
            if !options.is_empty() {
                writeln!(f, "  options  {options}")?;
            }
        }
        for verdict in &self.addresses {
            let word = match verdict.prohibited {
                None => "may be dialled".to_owned(),
                Some(why) => format!("may not be dialled: {why}"),
            };
            writeln!(f, "  address  {} {word}", verdict.address)?;
        }
        if let Some(original) = self.original {
            let decides =
                if self.target.host.name().is_some() { "the name decides" } else { "the address decides" };
            writeln!(f, "  original {original}: {decides}")?;
        }
        write!(f, "  client   {}", self.client.address.ip())?;
        for identity in &self.client.identities {
            write!(f, " {}", identity.escape_debug())?;
        }
        if let Some(endpoint) = &self.client.vpc_endpoint {
            write!(f, " {}", endpoint.escape_debug())?;
        }
        if let Some(listener) = &self.client.listener {
            write!(f, " by the listener {}", listener.escape_debug())?;
        }
        writeln!(f)
    }
}

fn options(permit: &Permit) -> String {
    let given = permit.options().filter(|(_, value)| value.is_given());
    let told = given.map(|(key, value)| match value {
        OptionValue::Demand(_) => key.to_owned(),
        value => format!("{key} {value}"),
    });
    told.collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests;

pub(crate) use arguments::Explain;
pub use asked::{AskedError, AskedTarget};
pub use recognised::AskedGit;
pub(in crate::commands) use recognised::recognised;
