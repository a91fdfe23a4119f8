//! Judges a live tunnel or exchange again: after a reload, and when a rule expires.
//!
//! It keeps the options it was opened with. What is judged again is whether it would be allowed now: by its listener, which
//! must still accept what proved the client's identity, by the rules, by the address it reached, and by what its first bytes showed. Not here: when that happens
//! ([`crate::operate::reload`]).

use jiff::Timestamp;

use crate::config::Config;
use crate::rules::{Ech, Mode, Scheme};
use crate::state::live::exchange::Exchange;
use crate::state::live::revoked::Revoked;
use crate::state::live::tunnel::Tunnel;
use crate::state::proof::Lost;
use crate::words::outcome::Reason;

/// Why something that is open would not be allowed now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Objection {
    /// Its listener no longer accepts what proved the client's identity.
    Identity(Lost),
    /// The rules, an address, or what its first bytes showed.
    Policy(Reason),
}

impl Objection {
    /// For the record.
    pub fn reason(&self) -> Reason {
        match self {
            Objection::Identity(lost) => lost.reason,
            Objection::Policy(reason) => *reason,
        }
    }
}

impl From<Lost> for Objection {
    fn from(lost: Lost) -> Self {
        Objection::Identity(lost)
    }
}

impl From<Reason> for Objection {
    fn from(reason: Reason) -> Self {
        Objection::Policy(reason)
    }
}

impl From<&Objection> for Revoked {
    fn from(objection: &Objection) -> Self {
        match objection {
            Objection::Identity(lost) => lost.into(),
            Objection::Policy(reason) => (*reason).into(),
        }
    }
}

/// Whether `config` would allow `tunnel` at `now`.
///
/// # Errors
/// Why not.
pub fn still_allowed(tunnel: &Tunnel, config: &Config, now: Timestamp) -> Result<(), Objection> {
    tunnel.facts.proof.still_accepted(config, now)?;
    judge_tunnel(tunnel, config, now).map_err(Objection::Policy)
}

fn judge_tunnel(tunnel: &Tunnel, config: &Config, now: Timestamp) -> Result<(), Reason> {
    let facts = &tunnel.facts;
    let permit = config.policies.decide(&facts.target, &facts.client, now).map_err(|denial| denial.reason)?;
    if let Some(address) = facts.judged_address() {
        config.policies.admit(&permit, address).map_err(|_| Reason::AddressProhibited)?;
    }
    // In report mode, too: an inspected tunnel is never opaque.
    if permit.inspect && !facts.inspected {
        return Err(Reason::RequestNotAllowed);
    }
    if permit.mode == Mode::Report {
        return Ok(());
    }
    match permit.scheme {
        Scheme::Tcp => Ok(()),
        // Its content is not TLS, or unknown, and now it would have to be TLS.
        Scheme::Https if facts.scheme != Scheme::Https => Err(Reason::NotTls),
        // Its content is TLS, or unknown, and now it would have to be plain requests.
        Scheme::Http if facts.scheme != Scheme::Http => Err(Reason::SchemeNotAllowed),
        // The one thing that only report mode allowed, if any. Without one its first bytes are right, or come later and
        // will be judged.
        Scheme::Https | Scheme::Http => match tunnel.objection() {
            Some(Reason::EchNotAllowed) if permit.ech == Ech::Allow => Ok(()),
            Some(reason) => Err(reason),
            None => Ok(()),
        },
    }
}

/// Whether `config` would allow `exchange` at `now`.
///
/// # Errors
/// Why not.
pub fn exchange_still_allowed(exchange: &Exchange, config: &Config, now: Timestamp) -> Result<(), Objection> {
    let facts = &exchange.facts;
    facts.proof.still_accepted(config, now)?;
    let policies = &config.policies;
    let permit = policies.decide(&facts.target, &facts.client, now).map_err(|denial| denial.reason)?;
    // What is required of the tunnel that it may be in is required here, too: that ends for the same reason.
    let judged = policies.decide_request(permit, &facts.target, &facts.asks.request());
    let permit = judged.map_err(|denial| denial.reason)?;
    let Some(address) = exchange.judged_address() else { return Ok(()) };
    config.policies.admit(&permit, address).map(drop).map_err(|_| Reason::AddressProhibited.into())
}

#[cfg(test)]
mod tests {
    use crate::config::test_files::{self, INSPECTION};
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::config;
    use crate::state::live::{Live, LiveTunnel, Registration, TunnelFacts};
    use crate::transport::cancel::Cancel;
    use crate::words::client::Client;
    use crate::words::target::Target;

    /// `git.example:443` from 10.0.0.1, which resolved to 198.18.0.9.
    fn tunnel(scheme: Scheme) -> LiveTunnel {
        tunnel_to("git.example:443", false, scheme)
    }

    fn tunnel_to(target: &str, by_parent: bool, scheme: Scheme) -> LiveTunnel {
        opened(target, by_parent, scheme, false)
    }

    fn opened(target: &str, by_parent: bool, scheme: Scheme, inspected: bool) -> LiveTunnel {
        let live = Live::new();
        let client = Client::direct("10.0.0.1:5".parse().expect("an address"));
        let facts = TunnelFacts {
            id: Uuid::nil(),
            client: Arc::new(client),
            proof: Arc::default(),
            target: Target::connect(target).expect("a target"),
            policy: "p".into(),
            rule: None,
            listener: "proxy".into(),
            upstream: "198.18.0.9:443".parse().expect("an address"),
            by_parent,
            scheme,
            inspected,
            started: Timestamp::UNIX_EPOCH,
        };
        match live.register(facts, Arc::default(), Cancel::new(), live.generation()) {
            Registration::Current(guard) => guard,
            Registration::JudgeAgain(_) => panic!("nothing moved"),
        }
    }

    fn policy(rest: &str) -> Config {
        let text = format!("policies: [{{name: p, private: [198.18.0.0/15], {rest}}}]");
        config::load_str("egressd.yaml", &text, |_| Err(std::io::ErrorKind::NotFound.into()))
            .expect(&text)
            .config
    }

    #[test]
    fn a_tunnel_lives_on_if_it_would_be_let_through_now() {
        use Reason::*;
        let (https, http, tcp) = (Scheme::Https, Scheme::Http, Scheme::Tcp);
        /// The policy now; how the tunnel was opened, and what report mode ignored; the verdict.
        type Row = (&'static str, Scheme, Option<Reason>, Result<(), Reason>);
        let rows: &[Row] = &[
            ("allow: [git.example]", https, None, Ok(())),
            ("allow: ['*.example.org', .git.example]", https, None, Ok(())),
            // The rules.
            ("allow: [other.example]", https, None, Err(HostNotAllowed)),
            ("allow: [git.example], deny: [git.example]", https, None, Err(HostDenied)),
            ("allow: ['git.example:8443']", https, None, Err(PortNotAllowed)),
            ("allow: ['http://git.example']", https, None, Err(SchemeNotAllowed)),
            // A tunnel of plain requests: only a rule that carries it, or any bytes, keeps it.
            ("allow: ['http://git.example:443']", http, None, Ok(())),
            ("allow: ['tcp://git.example:443']", http, None, Ok(())),
            ("allow: ['http://git.example:443', git.example]", http, None, Err(NotTls)),
            ("allow: [git.example]", http, None, Err(NotTls)),
            ("allow: [git.example], mode: report", http, None, Ok(())),
            ("allow: ['http://git.example:443'], deny: ['http://git.example']", http, None, Err(HostDenied)),
            ("allow: ['http://git.example:443'], deny: ['tcp://git.example']", http, None, Err(HostDenied)),
            ("allow: ['tcp://git.example:443'], deny: ['http://git.example']", http, None, Ok(())),
            ("allow: [{to: 'http://git.example:443', expires: 2029-12-31}]", http, None, Err(RuleExpired)),
            (
                "allow: ['http://git.example:443'], deny: ['http://198.18.0.0/16']",
                http,
                None,
                Err(AddressProhibited),
            ),
            (
                "allow: ['http://git.example:443'], deny: ['tcp://198.18.0.0/16']",
                http,
                None,
                Err(AddressProhibited),
            ),
            ("allow: ['tcp://git.example:443'], deny: ['http://198.18.0.0/16']", http, None, Ok(())),
            // What such a tunnel must not carry.
            ("allow: ['http://git.example:443']", https, None, Err(SchemeNotAllowed)),
            ("allow: ['http://git.example:443']", tcp, None, Err(SchemeNotAllowed)),
            ("allow: ['http://git.example:443'], mode: report", tcp, None, Ok(())),
            ("allow: ['http://git.example:443']", http, Some(UpgradeNotAllowed), Err(UpgradeNotAllowed)),
            ("allow: ['http://git.example:443'], mode: report", http, Some(UpgradeNotAllowed), Ok(())),
            ("allow: [{to: git.example, expires: 2030-01-01}]", https, None, Ok(())),
            ("allow: [{to: git.example, expires: 2029-12-31}]", https, None, Err(RuleExpired)),
            ("allow: [git.example], clients: {networks: [10.1.0.0/16]}", https, None, Err(ClientNotAllowed)),
            // The address, in report mode too.
            ("allow: [git.example], deny: [198.18.0.0/16]", https, None, Err(AddressProhibited)),
            ("allow: [git.example], deny: [198.19.0.0/16]", https, None, Ok(())),
            ("mode: report, deny: [198.18.0.0/16]", https, None, Err(AddressProhibited)),
            ("mode: report, allow: [other.example]", https, None, Ok(())),
            // What it showed.
            ("allow: [git.example]", https, Some(SniMismatch), Err(SniMismatch)),
            ("allow: [git.example]", https, Some(NotTls), Err(NotTls)),
            ("allow: [git.example], mode: report", https, Some(SniMismatch), Ok(())),
            ("allow: [git.example]", https, Some(EchNotAllowed), Ok(())),
            ("allow: [{to: git.example, ech: deny}]", https, Some(EchNotAllowed), Err(EchNotAllowed)),
            ("allow: ['tcp://git.example:443']", https, Some(SniMismatch), Ok(())),
            ("allow: ['tcp://git.example:443']", tcp, None, Ok(())),
            ("allow: [git.example]", tcp, None, Err(NotTls)),
            ("allow: [git.example], mode: report", tcp, None, Ok(())),
        ];
        let now = "2029-12-31T12:00:00Z".parse().expect("a moment");
        for (rest, scheme, objection, want) in rows {
            let tunnel = tunnel(*scheme);
            if let Some(reason) = objection {
                tunnel.object(*reason);
            }
            assert_eq!(
                still_allowed(tunnel.tunnel(), &policy(rest), now),
                want.map_err(Objection::Policy),
                "{rest} {scheme:?} {objection:?}"
            );
        }
    }

    /// Whether its TLS was opened; the policy now; the verdict.
    #[test]
    fn an_opaque_tunnel_ends_where_its_rule_inspects_now_and_an_inspected_one_stays_what_it_is() {
        use Reason::*;
        type Row = (&'static str, bool, Result<(), Reason>);
        let rows: &[Row] = &[
            ("allow: [{to: git.example, inspect: true}]", true, Ok(())),
            ("allow: [git.example]", true, Ok(())),
            ("allow: ['tcp://git.example:443']", true, Ok(())),
            ("allow: ['http://git.example:443']", true, Err(SchemeNotAllowed)),
            ("allow: [{to: git.example, inspect: true}]", false, Err(RequestNotAllowed)),
            ("allow: [{to: git.example, requests: [{methods: [GET]}]}]", false, Err(RequestNotAllowed)),
            // A wider rule that inspects comes first.
            ("allow: [git.example, {to: '.git.example', inspect: true}]", false, Err(RequestNotAllowed)),
            ("allow: [{to: git.example, inspect: true}], mode: report", false, Err(RequestNotAllowed)),
            ("allow: [{to: git.example, inspect: true, expires: 2029-12-31}]", true, Err(RuleExpired)),
            (
                "allow: [git.example, {to: .git.example, inspect: true, expires: 2029-12-31}]",
                true,
                Err(RuleExpired),
            ),
        ];
        let now = "2029-12-31T12:00:00Z".parse().expect("a moment");
        for (rest, inspected, want) in rows {
            let tunnel = opened("git.example:443", false, Scheme::Https, *inspected);
            let text = format!("{INSPECTION}policies: [{{name: p, private: [198.18.0.0/15], {rest}}}]");
            let config = match config::load_str("egressd.yaml", &text, test_files::read) {
                Ok(loaded) => loaded.config,
                Err(findings) => panic!("{text}: {findings:?}"),
            };
            assert_eq!(
                still_allowed(tunnel.tunnel(), &config, now),
                want.map_err(Objection::Policy),
                "{rest} {inspected}"
            );
        }
    }

    #[test]
    fn an_address_that_the_policy_no_longer_opens_is_prohibited() {
        let text = "policies: [{name: p, allow: [git.example]}]";
        let load = config::load_str("egressd.yaml", text, |_| Err(std::io::ErrorKind::NotFound.into()));
        let config = load.expect(text).config;
        let judged = still_allowed(tunnel(Scheme::Https).tunnel(), &config, Timestamp::UNIX_EPOCH);
        assert_eq!(judged, Err(Objection::Policy(Reason::AddressProhibited)));
    }

    /// The parent proxy is at 198.18.0.9, which no policy allows here.
    #[test]
    fn behind_a_parent_only_an_address_that_was_asked_for_is_judged() {
        let rows = [
            ("git.example:443", "allow: [git.example]", Ok(())),
            ("git.example:443", "allow: [git.example], deny: [198.18.0.0/15]", Ok(())),
            ("git.example:443", "allow: [other.example]", Err(Reason::HostNotAllowed)),
            ("52.1.2.3:443", "allow: [52.0.0.0/8]", Ok(())),
            ("52.1.2.3:443", "allow: [52.0.0.0/8], deny: [52.1.0.0/16]", Err(Reason::HostDenied)),
            ("10.1.2.3:443", "allow: [10.0.0.0/8], private: [10.0.0.0/8]", Ok(())),
            ("10.1.2.3:443", "allow: [10.0.0.0/8]", Err(Reason::AddressProhibited)),
        ];
        for (target, rest, want) in rows {
            let tunnel = tunnel_to(target, true, Scheme::Https);
            let text = format!("policies: [{{name: p, {rest}}}]");
            let load = config::load_str("egressd.yaml", &text, |_| Err(std::io::ErrorKind::NotFound.into()));
            let config = load.expect(&text).config;
            assert_eq!(
                still_allowed(tunnel.tunnel(), &config, Timestamp::UNIX_EPOCH),
                want.map_err(Objection::Policy),
                "{target} {rest}"
            );
        }
    }
}
