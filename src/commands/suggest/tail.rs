//! What stands below the policies: what was left out and why, and what the clients' `no_proxy` lacks.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::kind::{Kind, Why};
use super::seen::Wanted;
use super::{Missing, Suggestion};
use crate::rules::no_proxy::{NoProxy, Why as NoProxyWhy, itself, unknown_to_dns};
use crate::telemetry::record::Cause;
use crate::words::counted::counted;
use crate::words::outcome::{Class, Reason};
use crate::words::small_sort::SmallSort as _;
use crate::words::target::{Host, Target};

impl Suggestion {
    /// Takes away what was denied and no rule would help to reach, by what is known of its target from other requests: DNS does
    /// not know the name, or it is egressd itself.
    pub(super) fn take_dead_out(&mut self) {
        if self.dead.is_empty() {
            return;
        }
        let reached = |seen: &super::Seen| seen.kind() != Some(Kind::Denied);
        let reached: HashSet<(Host, u16)> = self
            .seen
            .iter()
            .filter(|(_, seen)| reached(seen))
            .map(|((_, wanted), _)| (wanted.host.clone(), wanted.port.get()))
            .collect();
        let hosts: HashSet<&Host> = reached.iter().map(|(host, _)| host).collect();
        let mut taken: Vec<(Wanted, u64, Reason)> = Vec::new();
        self.seen.retain(|(_, wanted), seen| {
            let Wanted { host, port, .. } = wanted;
            let unknown = self.dead.get(&(host.clone(), None)).filter(|_| !hosts.contains(host));
            let own = self.dead.get(&(host.clone(), Some(*port)));
            let own = own.filter(|_| !reached.contains(&(host.clone(), port.get())));
            match unknown.or(own) {
                Some(reason) if seen.kind() == Some(Kind::Denied) => {
                    taken.push((wanted.clone(), seen.denied, *reason));
                    false
                }
                _ => true,
            }
        });
        for (wanted, count, reason) in taken {
            let target = Target { method: wanted.scheme.method(), host: wanted.host, port: wanted.port };
            let found = match reason {
                Reason::Loop => Some(itself(&target)),
                Reason::DnsNoSuchName => unknown_to_dns(&target),
                _ => None,
            };
            match found {
                Some(found) => self.miss(found, count, None),
                None => self.leave_out_many(Why::Failed(reason.into()), count, Some(&target)),
            }
        }
    }

    /// What no rule is for: the entries that the clients' `no_proxy` lacks.
    pub(super) fn no_proxy(&self, out: &mut String) {
        let reached: HashSet<&Host> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.passed > 0)
            .map(|((_, wanted), _)| &wanted.host)
            .collect();
        // A name that DNS did not know for a while and that was reached otherwise is not a matter of `no_proxy`.
        let is_reached = |found: &NoProxy| found.why == NoProxyWhy::Unknown && reached.contains(found.host());
        let mut missing: Vec<&Missing> =
            self.missing.values().filter(|missing| !is_reached(&missing.found)).collect();
        if missing.is_empty() {
            return;
        }
        missing.small_sort_by(|one, other| {
            (one.found.why, &one.found.entry).cmp(&(other.found.why, &other.found.entry))
        });
        out.push_str("# for the clients' no_proxy: no rule is the answer to these requests\n");
        for Missing { found, count, clients, more_clients } in &missing {
            let more = if *more_clients { ", …" } else { "" };
            let who: Vec<String> = clients.iter().map(ToString::to_string).collect();
            let from = if who.is_empty() { String::new() } else { format!(" from {}{more}", who.join(", ")) };
            let _ = writeln!(out, "#   {}: {count}x{from}: {found}", found.entry);
        }
        let certain = missing.iter().filter(|missing| missing.found.why != NoProxyWhy::Unknown);
        let entries: Vec<&str> = certain.map(|missing| &*missing.found.entry).collect();
        if !entries.is_empty() {
            let _ = writeln!(out, "#   no_proxy={}", entries.join(","));
        }
        if self.not_kept_missing > 0 {
            let _ = writeln!(
                out,
                "#   INCOMPLETE: {} would need other entries",
                counted(self.not_kept_missing, "request", "requests")
            );
        }
    }

    /// What was left out, by cause.
    pub(super) fn left_out(&self, out: &mut String) {
        if !self.left_out.is_empty() {
            out.push_str("# left out, because no rule for the target would have let it through:\n");
        }
        for (cause, left) in &self.left_out {
            let _ = write!(out, "#   {}x {cause}: {}", left.count, hint(left.why));
            if !left.examples.is_empty() {
                let _ = write!(out, "; {}", left.examples.join(", "));
            }
            out.push('\n');
        }
        if self.not_kept_inside > 0 {
            let _ = writeln!(
                out,
                "# INCOMPLETE: {} inside tunnels that no entry was written for",
                counted(self.not_kept_inside, "denied request", "denied requests")
            );
        }
        let beyond: u64 = self.not_kept.iter().sum();
        if beyond > 0 {
            let [passed, would_deny, denied] = self.not_kept;
            let _ = writeln!(
                out,
                "# INCOMPLETE: the log has more clients or more distinct targets of them than are kept; of the requests beyond, {passed} were \
                 let through, {would_deny} would be denied, {denied} were denied"
            );
        }
    }
}

/// What to do about requests that no rule would have let through.
fn hint(why: Why) -> &'static str {
    let reason = match why {
        Why::Doctor => {
            return "`egressd doctor` asked for it, or a client that sends its User-Agent: nothing that only it asked for is listed";
        }
        Why::Failed(Cause::ClientGone) => return "the client left before the decision",
        Why::Other => return OTHER_CAUSE,
        Why::Failed(Cause::Refused(reason)) => reason,
    };
    match reason {
        Reason::HeadTimeout => return "the request's head did not come in time (limits.head_timeout)",
        Reason::HeadTooLarge => return "the request's head was too large (limits.head_bytes)",
        Reason::HostMismatch => return "a request inside the tunnel named another host: check the client",
        Reason::MethodNotAllowed => return "the proxy does not support this method",
        _ => {}
    }
    match reason.class() {
        Class::Denied => "a `deny` rule names it, and `deny` wins over `allow`",
        Class::Expired => "an expired rule names it: renew its `expires`, or remove that key",
        Class::Request => "a rule allows the connection, but not this request on it: see the reason",
        Class::Client => "no policy matches the client: see `clients`",
        Class::Address => {
            "the name resolves to an address that is not public: `private` allows such networks in a rule"
        }
        Class::ServerName => {
            "the ClientHello did not name the host that was requested: check the client first; if it requests an address, \
             it looked the name up itself and has to send the name (docs/clients.md)"
        }
        Class::NoTls | Class::Hello => {
            "the tunnel did not contain TLS for the host that was requested: check the client first"
        }
        Class::Challenge | Class::Credentials => "the client did not prove its identity",
        Class::Upload => "a rule allows it, but the client sent more than the rule allows",
        Class::Inspection => "a rule allows it, but the client cannot be inspected: see the reason",
        Class::Certificate => "a rule allows it, but the target's certificate was refused",
        Class::TargetNotTls => "a rule allows it, but the target did not answer in TLS",
        Class::Rate | Class::ClientLimit | Class::Limit => "a limit was reached: see `limits`",
        Class::Form => "the request was malformed",
        Class::Connection
        | Class::NotListed
        | Class::Lookup
        | Class::Connect
        | Class::Upstream
        | Class::Resources
        | Class::Service => OTHER_CAUSE,
    }
}

const OTHER_CAUSE: &str = "it failed for a cause other than the rules";
