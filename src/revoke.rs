//! Judging a live tunnel again: after a reload, and when a rule expires.
//!
//! A tunnel keeps the options it was opened with; what is judged again is whether it would be let through now: by the
//! rules, by the address it reached, and by what its ClientHello showed. Not here: when that is done (`reload`).

use jiff::Timestamp;

use crate::config::Config;
use crate::live::Tunnel;
use crate::outcome::Reason;
use crate::policy::{Mode, Scheme};
use crate::target::Host;

/// Whether `tunnel` would be let through by `config` at `now`.
///
/// # Errors
/// The reason why not.
pub fn judge(tunnel: &Tunnel, config: &Config, now: Timestamp) -> Result<(), Reason> {
    let facts = &tunnel.facts;
    let permit = config.policies.decide(&facts.target, &facts.client, now).map_err(|denial| denial.reason)?;
    let reached = match (facts.by_parent, &facts.target.host) {
        (false, _) => Some(facts.upstream.ip()),
        // Where the parent went is not known, unless the client had said it.
        (true, Host::Address(address)) => Some(*address),
        (true, Host::Name(_)) => None,
    };
    if let Some(address) = reached {
        config.policies.admit(&permit, address).map_err(|_| Reason::AddressProhibited)?;
    }
    if permit.scheme != Scheme::Https || permit.mode == Mode::Report {
        return Ok(());
    }
    if facts.scheme != Scheme::Https {
        // Opened by a `tcp` rule: nothing is known of what is inside, and now it would have to be TLS.
        return Err(Reason::NotTls);
    }
    match (tunnel.sni(), &facts.target.host) {
        // In report mode a tunnel may have been let through with another name than it asked for.
        (Some(sni), Host::Name(name)) if sni != name.as_str() => Err(Reason::SniMismatch),
        _ => Ok(()),
    }
}
