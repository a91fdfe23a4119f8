//! Policies for clients that no listener can recognise: for an identity that no listener can prove, or an endpoint that
//! no listener can learn. Such a policy matches no client, which is safe but probably not meant, so it is a warning. Another
//! warning is about common names that more authorities can issue than meant.

use super::file::ClientsFile;
use super::finding::{Position, Report, nearest};
use super::keys::{items, value};
use super::policies::WrittenPolicies;
use super::settings::Listener;
use crate::rules::lint::{self, Entrance, Rival};
use crate::rules::{Policies, Policy};
use crate::transport::tls::ClientTrust;
use crate::words::quote::quoted;

/// Reports every listener that a policy names and that is not there. `names` has those that are there; None: one of them could not be
/// read.
pub(super) fn unknown_listeners(written: &[WrittenPolicies<'_>], names: Option<&[String]>) {
    let Some(names) = names else { return };
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    for file in written {
        let clients = items(file.list).filter_map(|(policy, _)| value(&policy.clients));
        for (listener, position) in clients.flat_map(|clients| items(&clients.listeners)) {
            if known.contains(&&*listener.0) {
                continue;
            }
            let help = match nearest(&listener.0, &known) {
                Some(meant) => format!("did you mean {}?", quoted(meant)),
                None => {
                    let some: Vec<String> = known.iter().take(5).map(|name| quoted(name)).collect();
                    let more = if known.len() > some.len() { ", …" } else { "" };
                    format!("write one of {}{more}", some.join(", "))
                }
            };
            file.report.error(position, format!("no listener is called {}: {help}", quoted(&listener.0)));
        }
    }
}

/// Warns of every identity and endpoint that none of the listeners can learn, and of policies that no client reaches for that
/// cause. `policies` is what `written` became; `places` says which became which. The listeners have no errors.
pub(super) fn lint(
    written: &[WrittenPolicies<'_>],
    (policies, places): (&Policies, &[(usize, bool)]),
    listeners: &[(Listener, Position)],
) {
    let entrances: Vec<Entrance> = listeners.iter().map(|(listener, _)| listener.entrance()).collect();
    let mut seen: Vec<Rival<'_>> = Vec::new();
    let typed: Vec<_> =
        written.iter().flat_map(|file| items(file.list).map(move |typed| (typed, &file.report))).collect();
    for (policy, (number, are_fine)) in policies.iter().zip(places) {
        let Some(((typed, position), report)) = typed.get(*number) else { continue };
        if !are_fine {
            continue;
        }
        let (name, clients) = (quoted(policy.name()), policy.clients());
        let may_come = lint::may_come(clients, &entrances);
        let then = if may_come { String::new() } else { format!(", so the policy {name} never decides") };
        let of_policy = |listener: &&Listener| {
            clients.listeners.is_empty() || clients.listeners.iter().any(|one| **one == *listener.name)
        };
        let none = if clients.listeners.is_empty() { "no listener" } else { "none of its `listeners`" };
        let supply = Supply {
            listeners: listeners.iter().map(|(listener, _)| listener).filter(of_policy).collect(),
            none,
        };
        let told = value(&typed.clients).is_some_and(|clients| supply.lint(clients, &then, report));
        if !may_come && !told {
            report.warning(
                *position,
                format!(
                    "the policy {name} never decides: {none} both proves one of its `identities` and has the \
                     `proxy_protocol` that tells its `vpc_endpoints`"
                ),
            );
        } else if may_come && let Some(why) = behind(&seen, policy, &entrances) {
            report.warning(
                *position,
                format!("the policy {name} never decides: {why}; move it up, or remove it"),
            );
        }
        seen.push(Rival::new(policy.name(), clients, policy.addresses().clone()));
    }
}

/// Why no client reaches a policy, if it is only the listeners that make it so: else it is told already.
fn behind(seen: &[Rival<'_>], policy: &Policy, entrances: &[Entrance]) -> Option<String> {
    let why = |entrances| lint::unreachable(seen, policy.clients(), policy.addresses(), entrances);
    match why(&[]) {
        None => why(entrances),
        Some(_) => None,
    }
}

/// The listeners that clients of one policy may come by.
struct Supply<'a> {
    listeners: Vec<&'a Listener>,
    /// How it is said that none of them does something.
    none: &'static str,
}

impl Supply<'_> {
    /// `then`: what follows from all of them, which is said once. Returns whether there is an identity or endpoint that no client
    /// can have.
    fn lint(&self, clients: &ClientsFile, then: &str, report: &Report<'_>) -> bool {
        let mut told: Vec<(Position, String)> = Vec::new();
        for (identity, position) in items(&clients.identities) {
            let why = match identity.0.strip_prefix("user:") {
                Some(user) => self.no_such_user(user),
                None => self.no_certificates(),
            };
            if let Some(why) = why {
                told.push((
                    position,
                    format!("no client can have the identity {}: {why}", quoted(&identity.0)),
                ));
            } else if identity.0.starts_with("cn:")
                && let Some(listener) = self.with_sub_authorities()
            {
                report.warning(
                    position,
                    format!(
                        "any sub-authority of the `client_ca` of the listener {} can issue {}: name constraints do not bind \
                         common names. Write a `spiffe:` or `dns:` identity instead, or use a CA certificate with `pathlen:0`, \
                         which has no sub-authorities",
                        quoted(&listener.name),
                        quoted(&identity.0)
                    ),
                );
            }
        }
        if !self.listeners().any(|listener| listener.proxy_protocol.is_some()) {
            for (endpoint, position) in items(&clients.vpc_endpoints) {
                let endpoint = quoted(&endpoint.0);
                told.push((
                    position,
                    format!(
                        "no client can come through {endpoint}: a load balancer sends the endpoint in its PROXY v2 \
                         header, and {} has `proxy_protocol`",
                        self.none
                    ),
                ));
            }
        }
        if let Some((_, last)) = told.last_mut() {
            last.push_str(then);
        }
        let any = !told.is_empty();
        for (position, text) in told {
            report.warning(position, text);
        }
        any
    }

    fn no_certificates(&self) -> Option<String> {
        let verifies =
            |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.server.verifies_clients());
        let known = self.listeners().any(verifies);
        (!known).then(|| format!("{} asks for client certificates (`tls` with `client_ca`)", self.none))
    }

    /// A listener that accepts the certificates of sub-authorities.
    fn with_sub_authorities(&self) -> Option<&Listener> {
        self.listeners().find(|listener| {
            let trust = listener.tls.as_ref().and_then(|tls| tls.server.clients());
            trust.is_some_and(ClientTrust::has_sub_authorities)
        })
    }

    fn no_such_user(&self, user: &str) -> Option<String> {
        let mut files = self.listeners().filter_map(|listener| listener.basic_auth.as_ref()).peekable();
        if files.peek().is_none() {
            return Some(format!("{} asks for passwords (`basic_auth`)", self.none));
        }
        let known = files.any(|basic_auth| basic_auth.users.has(user));
        (!known).then(|| "no users file has this user".to_owned())
    }

    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().copied()
    }
}
