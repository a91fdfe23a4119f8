//! What every listener asks of a client before its request is decided: a certificate, a password.
//!
//! An identity stands for its proof: `user:NAME` for a password, any other for a certificate. Not here: whether a password or
//! a certificate would be right.

use crate::config::Listener;
use crate::words::client::{Client, Protocol};
use crate::words::outcome::Reason;
use crate::words::quote::quoted;

/// Why no listener would decide a request of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unproven {
    /// As in the client's record.
    pub reason: Reason,
    /// One line, up to what to write instead.
    pub why: String,
    /// An identity that lacks, as an example.
    pub lacks: &'static str,
}

/// Why each of the listeners that the client may have come by, speaking this protocol, would refuse one that has proven these identities and no others: what the
/// first one says. `None`: one of them would not.
pub fn unproven(listeners: &[Listener], client: &Client, protocol: Option<Protocol>) -> Option<Unproven> {
    let mut first = None;
    let by = |listener: &&Listener| {
        client.listener.as_ref().is_none_or(|name| *name == listener.name)
            && protocol.is_none_or(|protocol| listener.protocols.has(protocol))
    };
    for listener in listeners.iter().filter(by) {
        let why = unproven_at(listener, client)?;
        first = first.or(Some(why));
    }
    first
}

/// That one of the listeners, or the one of this name, speaks a protocol.
///
/// # Errors
/// None does: one line.
pub fn spoken_by(protocol: Protocol, name: Option<&str>, listeners: &[Listener]) -> Result<(), String> {
    let asked = |listener: &&Listener| name.is_none_or(|name| *listener.name == *name);
    match listeners.iter().filter(asked).any(|listener| listener.protocols.has(protocol)) {
        true => Ok(()),
        false => {
            let who = name
                .map_or("no listener".to_owned(), |name| format!("the listener {} does not", quoted(name)));
            let speaks = if name.is_some() { "speak" } else { "speaks" };
            let word = protocol.as_str();
            let write = match protocol {
                Protocol::Http | Protocol::Socks5 => "`protocols: [http, socks5]`",
                Protocol::Transparent => "`mode: transparent`",
            };
            Err(format!("{who} {speaks} {word}: write {write} there"))
        }
    }
}

/// Whether a client that comes by the listener of this name does not know of the proxy. `protocol`: what it speaks, if that is said.
pub fn is_transparent(protocol: Option<Protocol>, name: Option<&str>, listeners: &[Listener]) -> bool {
    let by_name = |listener: &&Listener| name == Some(&*listener.name);
    match protocol {
        Some(protocol) => protocol == Protocol::Transparent,
        None => listeners.iter().find(by_name).is_some_and(|listener| listener.protocols.transparent),
    }
}

fn unproven_at(listener: &Listener, client: &Client) -> Option<Unproven> {
    let name = &listener.name;
    let users = || client.identities.iter().filter_map(|identity| identity.strip_prefix("user:"));
    let has_certificate = client.identities.iter().any(|identity| !identity.starts_with("user:"));
    let verifies = listener.tls.as_ref().is_some_and(|tls| tls.server.verifies_clients());
    if verifies && !has_certificate {
        return Some(Unproven {
            reason: Reason::ClientCertificateInvalid,
            why: format!("the listener `{name}` asks for a client certificate first"),
            lacks: "dns:NAME",
        });
    }
    let passwords = &listener.basic_auth.as_ref()?.users;
    match users().next() {
        None => Some(Unproven {
            reason: Reason::AuthRequired,
            why: format!("the listener `{name}` asks for a password first"),
            lacks: "user:NAME",
        }),
        Some(_) if users().any(|user| passwords.has(user)) => None,
        Some(user) => Some(Unproven {
            reason: Reason::AuthFailed,
            why: format!("the users file of the listener `{name}` has no user {}", user.escape_debug()),
            lacks: "user:NAME",
        }),
    }
}
