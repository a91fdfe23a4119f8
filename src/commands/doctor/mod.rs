//! `egressd doctor`: tests from a client whether a proxy works as it should. One line per check.
//!
//! It requests a listed target, an unlisted one, and the listed one again with another server name in the TLS handshake.
//! Then it finds out which client address the proxy saw. Each failing line says the likely cause and what to do. It works
//! with any proxy, Squid too, and reports what that proxy lets pass. On a GitLab host it also reads what GitLab's parts were given
//! ([`mod@gitlab`]), and it can let the installed clients ask ([`mod@clients`]). Not here: what a rule would say without a request
//! ([`explain`](super::explain)).

mod admin;
mod arguments;
mod clients;
mod finding;
mod gitlab;
mod proxy;
mod reply;
mod socks5;
mod timed;

pub(crate) use arguments::Doctor;

use std::net::IpAddr;

pub use self::admin::Admin;
use self::finding::finding;
pub use self::finding::{Finding, FindingState};
use self::proxy::{Attempt, Inside, Reply};
pub use self::proxy::{Proxy, ProxyError};
pub use self::timed::STEP;
use crate::words::outcome::{Class, Reason};
use crate::words::target::{Host, PROBE, Target};

/// The name of the first check: whether the proxy answers.
const REACH: &str = "reach";

/// What to test.
#[derive(Debug)]
pub struct Visit {
    /// The proxy.
    pub via: Proxy,
    /// A target that is listed.
    pub allowed: Target,
    /// A target that is not listed.
    pub denied: Target,
    /// The admin listener, which knows the address that the proxy saw.
    pub admin: Option<Admin>,
    /// Our address as the proxy should see it. None: the one that we connect from.
    pub client: Option<IpAddr>,
}

/// Runs the checks one by one, and passes each finding to `tell` as soon as it is known. True: nothing is wrong.
pub fn visit(visit: &Visit, mut tell: impl FnMut(&Finding)) -> bool {
    let mut all_fine = true;
    let mut told = |finding: Finding| {
        all_fine &= finding.state != FindingState::Wrong;
        tell(&finding);
        finding.state
    };
    let reached = reach(&visit.via);
    if told(reached) == FindingState::Fine {
        told(allowed(visit));
        let (finding, id) = denied(visit);
        told(finding);
        told(mismatch(visit));
        told(address(visit, id.as_deref()));
    }
    all_fine
}

fn reach(via: &Proxy) -> Finding {
    match via.connect() {
        Ok(stream) => {
            let ends = match stream.ends {
                Some((local, peer)) => format!("from {local} to {peer}"),
                None => format!("from the user {}", rustix::process::getuid().as_raw()),
            };
            finding(REACH, FindingState::Fine, format!("{via} accepts connections, {ends}"))
        }
        Err(error) => finding(REACH, FindingState::Wrong, format!("{via}: {error}")),
    }
}

/// An unexpected reply to CONNECT, and what it means.
fn refused(reply: &Reply) -> String {
    let (status, reason) = (reply.status, reply.reason());
    let reason_text = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    // By the status alone if the reason is unknown here: another version of egressd may have others.
    let do_this = match (status, reason.and_then(class)) {
        (_, Some(Class::Client)) => {
            "no policy matches this client: see the `address` line; if a load balancer hides its clients, set `proxy_protocol` on the listener; otherwise add the client's network to `clients`"
        }
        (407, _) => {
            "the proxy requires a password: write one line USER:PASSWORD into a file, and use --credentials-file FILE"
        }
        (403, Some(Class::Address)) => {
            "the name resolves to an address that is not public: for a VPC endpoint, add `private` to its rule"
        }
        (403, _) => {
            "the target is not on the list: `egressd explain TARGET`, with the proxy's configuration, shows which rule came closest"
        }
        (502 | 504, Some(Class::Lookup)) => {
            "the proxy cannot look the name up: check its name servers, and whether its pod may reach them (port 53)"
        }
        (502..=504, _) => {
            "the proxy cannot reach the target: check its route, its NAT gateway, its security group"
        }
        (429, _) => "this client is over a limit: see `limits` in the proxy's configuration",
        // A listener with TLS answers plain HTTP in clear.
        (400, Some(Class::Connection)) => "this listener speaks TLS: use --via https://",
        (400 | 405, _) => "this is not a proxy, or it does not support CONNECT",
        _ => "look for the record in the proxy's log",
    };
    let where_else = if reply.brief { " (SOCKS5 says no more: the proxy's log has the reason)" } else { "" };
    format!("answered {}{reason_text}: {do_this}{where_else}", reply.said)
}

fn class(word: &str) -> Option<Class> {
    Reason::from_word(word).map(Reason::class)
}

fn allowed(visit: &Visit) -> Finding {
    let target = &visit.allowed;
    let wrong = |text: String| finding("allowed", FindingState::Wrong, format!("CONNECT {target}: {text}"));
    match visit.via.open(target) {
        Err(error) => wrong(error.to_string()),
        Ok(Attempt::Refused(reply)) => wrong(refused(&reply)),
        Ok(Attempt::Tunnel(tunnel)) => {
            let opened = tunnel.reply.clone();
            let id = opened.id().map(|id| format!(", X-Request-Id {id}")).unwrap_or_default();
            match tunnel.shake(&target.host.to_string()) {
                Inside::ServerHello => finding(
                    "allowed",
                    FindingState::Fine,
                    format!("CONNECT {target}: {}, and the target answers in TLS{id}", opened.said),
                ),
                Inside::Alert(number) => wrong(format!(
                    "200, then the TLS alert {number}: the target does not serve this name, or the rule's `verify_certificate` refuses its certificate{id}"
                )),
                Inside::Closed => wrong(format!(
                    "200, then the connection was closed before TLS: the proxy reaches the target too late or not at all{id}"
                )),
                Inside::NotTls => {
                    wrong(format!("200, then bytes that are not TLS: check the target's port{id}"))
                }
                Inside::Silent => wrong(format!("200, then nothing for {} s{id}", STEP.as_secs())),
            }
        }
    }
}

fn denied(visit: &Visit) -> (Finding, Option<String>) {
    let target = &visit.denied;
    let wrong = |text: String| finding("denied", FindingState::Wrong, format!("CONNECT {target}: {text}"));
    match visit.via.open_refused(target) {
        Err(error) => (wrong(error.to_string()), None),
        Ok(Attempt::Refused(reply)) if reply.status == 403 => {
            let reason = reply.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let text = if reply.reason().and_then(class) == Some(Class::Client) {
                return (wrong(refused(&reply)), reply.id().map(str::to_owned));
            } else {
                format!("CONNECT {target}: {}{reason}, as it should be", reply.said)
            };
            (finding("denied", FindingState::Fine, text), reply.id().map(str::to_owned))
        }
        Ok(Attempt::Refused(reply)) => {
            // Only what came after the decision may mean that it is listed.
            let listed = match reply.status {
                502..=504 => "; or --denied names a listed host: name one that is not listed",
                _ => "",
            };
            let text = format!("403 was expected, but the proxy {}{listed}", refused(&reply));
            (wrong(text), reply.id().map(str::to_owned))
        }
        Ok(Attempt::Tunnel(tunnel)) => {
            let mode = if tunnel.reply.id().is_some() || tunnel.reply.brief {
                "its policy is in `mode: report`, or the list is wider than expected"
            } else {
                "the proxy is not egressd, and lets out what is not listed"
            };
            (
                wrong(format!(
                    "200, but this should be refused: {mode}; or --denied names a listed host: name one that is not listed"
                )),
                None,
            )
        }
    }
}

fn mismatch(visit: &Visit) -> Finding {
    let target = &visit.allowed;
    let other = &visit.denied.host;
    let asked = format!("CONNECT {target} with {other} in the TLS handshake");
    let open = |text: &str| finding("sni", FindingState::Open, format!("{asked}: {text}"));
    let Host::Name(other) = other else {
        return open("--denied is an address: use a name to test this");
    };
    let tunnel = match visit.via.open(target) {
        Ok(Attempt::Tunnel(tunnel)) => tunnel,
        Ok(Attempt::Refused(_)) | Err(_) => return open("there was no tunnel: see the `allowed` line"),
    };
    let brief = tunnel.reply.brief;
    let egressd = tunnel.reply.id().is_some();
    // SOCKS5 has no id: what the admin listener counts shows whose alert it is.
    let counted = || visit.admin.as_ref().filter(|_| brief)?.mismatches(target).ok();
    let before = counted();
    let inside = tunnel.shake(other.as_str());
    let egressd = egressd || before.zip(counted()).is_some_and(|(before, after)| after > before);
    match (inside, egressd) {
        (Inside::ServerHello, _) if brief => finding(
            "sni",
            FindingState::Wrong,
            format!(
                "{asked}: a server answered, so a client that may open a tunnel to a listed host can talk to another host behind it: the rule is `tcp://`, the policy is in `mode: report`, or the proxy is not egressd"
            ),
        ),
        (Inside::ServerHello, true) => finding(
            "sni",
            FindingState::Wrong,
            format!(
                "{asked}: a server answered, so a client that may open a tunnel to a listed host can talk to another host behind it: the rule is `tcp://`, or the policy is in `mode: report`"
            ),
        ),
        (Inside::ServerHello, false) => finding(
            "sni",
            FindingState::Wrong,
            format!(
                "{asked}: a server answered, so this proxy lets an SNI mismatch pass: it does not inspect tunnels (it is not egressd; Squid does not inspect them either), and a client that may open a tunnel to a listed host can talk to another host behind it"
            ),
        ),
        (Inside::Alert(112), true) => finding(
            "sni",
            FindingState::Fine,
            format!("{asked}: refused with the TLS alert unrecognized_name, as it should be"),
        ),
        (Inside::Alert(number), _) if brief => open(&format!(
            "TLS alert {number}, perhaps from the target: with --admin, doctor sees whether egressd counts it as `sni_mismatch`; its log says so too"
        )),
        (Inside::Alert(number), _) => open(&format!(
            "TLS alert {number}, perhaps from the target: only alert 112 from a proxy that sends X-Request-Id shows that egressd checked the server name"
        )),
        (Inside::Closed, _) => open("the proxy or the target closed the connection without a TLS alert"),
        (Inside::NotTls | Inside::Silent, _) => open("there was no answer in TLS"),
    }
}

fn address(visit: &Visit, id: Option<&str>) -> Finding {
    let Some(admin) = &visit.admin else {
        let ours = visit
            .client
            .map(|ip| ip.to_string())
            .or_else(|| visit.via.connect().ok().map(|stream| stream.local().to_string()));
        let ours = ours.map(|ip| format!(": it should be {ip}")).unwrap_or_default();
        return finding(
            "address",
            FindingState::Open,
            match id {
                Some(id) => format!(
                    "the proxy's log has a record with id {id}, whose `client` is the address that the proxy saw{ours}; with --admin http://PROXY:9180, doctor compares the two"
                ),
                None => format!("the proxy's log shows the client address that the proxy saw{ours}"),
            },
        );
    };
    // Always the same name, so that visits do not fill the status page's list of refusals. The id identifies our request.
    let Ok(own) = Target::connect(&format!("{PROBE}:443")) else {
        return finding("address", FindingState::Open, "there is no target to request");
    };
    let (reply, local) = match visit.via.open_refused(&own) {
        Ok(Attempt::Refused(reply)) => (reply.clone(), reply.local),
        Ok(Attempt::Tunnel(_)) => {
            return finding(
                "address",
                FindingState::Open,
                format!("CONNECT {own} was not refused, so the admin listener has no refusal to look up"),
            );
        }
        Err(error) => return finding("address", FindingState::Open, format!("CONNECT {own}: {error}")),
    };
    let want = visit.client.unwrap_or(local);
    let seen = match (reply.id(), reply.brief) {
        (Some(id), _) => admin.client_of(id),
        (None, true) => admin.client_of_probe(),
        (None, false) => {
            return finding(
                "address",
                FindingState::Open,
                "the proxy sends no X-Request-Id: it is not egressd",
            );
        }
    };
    let id = reply.id().unwrap_or(PROBE);
    match seen {
        Err(error) => finding("address", FindingState::Open, format!("{admin}: {error}")),
        Ok(None) => finding(
            "address",
            FindingState::Open,
            format!(
                "{admin} has no refusal {id}: behind a load balancer, another replica may have it; ask each replica, or look in the log"
            ),
        ),
        Ok(Some(seen)) if seen == want => finding(
            "address",
            FindingState::Fine,
            format!("the proxy saw the client at {seen}, as it should be"),
        ),
        Ok(Some(seen)) => finding(
            "address",
            FindingState::Wrong,
            format!(
                "the proxy saw {seen} instead of {want}: either a load balancer between hides its clients, so that `clients` matches the balancer (NLB: set `preserve_client_ip`, or `proxy_protocol_v2` and the listener's `proxy_protocol`); or there is a NAT between, then use --client {seen}"
            ),
        ),
    }
}
